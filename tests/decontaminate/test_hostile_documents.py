"""Documents that are made, or happen, to be costly: time and memory grow with their length and no faster."""

from __future__ import annotations

import time
import tracemalloc

import pyarrow as pa
import pytest

from curate.decontaminate.index import Index, build_index
from curate.decontaminate.items import Item, Items
from curate.decontaminate.match import scan

QUESTION = (
    "Marta sells 14 copper lanterns at the harbor every morning. She keeps 3 of them for the bishop. How many lanterns does Marta sell in 5 days?"
)
CODE = "def total(values, window):\n    result = [0] * len(values)\n    for i, v in enumerate(values):\n        result[i] = result[i - 1] + v * window\n    return result\n"
HOSTILE = {
    "one word": "lantern ",
    "one letter": "x",
    "control characters": "".join(map(chr, range(1, 32))),
    "the item": QUESTION + " ",
    "the item's words": "Marta lanterns copper harbor morning bishop sell days ",
    "its template": "How many lanterns does she sell? How many of them does she keep? ",
    "its code": CODE,
    "brackets": "()[]{}",
    "open tags": "<",
    "entities": "&amp",
    "numbers": "1 2 3 ",
    "quotes": "'\"",
    "invisible": "\u200b\u0301",
}


@pytest.fixture(scope="module")
def index() -> Index:
    items = [
        Item("sums", "m", "f:1", {"question": QUESTION}),
        Item("code", "c", "g:1", {"code": CODE}),
        Item("sums", "t", "f:2", {"question": "Who goes there?"}),
    ]
    return build_index(Items(items=items, sizes={"sums": 2, "code": 1}))


def batch_of(text: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"id": ["a", "b"], "text": [text, f"before\n\n{QUESTION}\n\nbehind"]})


def seconds(index: Index, text: str) -> float:
    batch, least = batch_of(text), 1e9
    for _ in range(2):
        start = time.process_time()
        assert any(m["doc_id"] == "b" and m["item_id"] == "m" for m in scan(batch, index).to_pylist())
        least = min(least, time.process_time() - start)
    return least


@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_with_the_length(index: Index, name: str) -> None:
    part = HOSTILE[name]
    once = 60_000 // len(part)
    short, long = seconds(index, part * once), seconds(index, part * once * 8)
    assert long < 24 * short + 0.1


@pytest.mark.parametrize("name", ["one word", "the item's words", "brackets"])
def test_memory_does_not_grow_with_a_document_on_one_line(index: Index, name: str) -> None:
    peaks = []
    for size in (4_000_000, 12_000_000):
        batch = batch_of(HOSTILE[name] * (size // len(HOSTILE[name])))
        tracemalloc.start()
        scan(batch, index)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 4_000_000


def test_an_item_of_three_words_is_never_matched(index: Index) -> None:
    assert "t" not in [m["item_id"] for m in scan(batch_of("Who goes there?"), index).to_pylist()]
    assert "t" not in [m["item_id"] for m in scan(batch_of("Who goes there? " * 1000), index).to_pylist()]
