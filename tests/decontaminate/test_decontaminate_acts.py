"""What is removed, and what the report says."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_finding_items import DISGUISES, ITEMS, QUESTIONS, batch_of, prose

from curate.decontaminate.act import cut, decide
from curate.decontaminate.index import Options, build_index
from curate.decontaminate.match import MATCHES, scan
from curate.decontaminate.tally import item_table, summarize, wilson


def test_documents_are_dropped_with_the_item_that_they_hold() -> None:
    index = build_index(ITEMS)
    batch = batch_of(["clean text", "Before. " + QUESTIONS[1] + " After."])
    verdicts = decide(batch, scan(batch, index), "document")
    assert verdicts.kept == [True, False]
    detail = json.loads(verdicts.details[1] or "")
    assert (detail["benchmark"], detail["item"], detail["matches"]) == ("sums", "m1", 1)
    assert decide(batch, scan(batch, index), "record").kept == [True, True]


def test_spans_are_cut_to_the_end_of_their_sentence() -> None:
    index = build_index(ITEMS)
    before, after = prose(random.Random(1), 60), prose(random.Random(2), 60)
    batch = batch_of([f"{before} {QUESTIONS[1]} {after}", QUESTIONS[1]])
    verdicts = decide(batch, scan(batch, index), "span")
    assert verdicts.texts == [f"{before}\n\n{after}", None]
    assert verdicts.changed == [True, True]


def test_siblings_remove_nothing() -> None:
    row = dict.fromkeys(MATCHES.names) | {
        "doc_id": "d0",
        "benchmark": "b",
        "item_id": "i",
        "item": 0,
        "variant": "template_sibling",
        "counted": False,
    }
    row |= {"channels": ["question"], "channel": "question", "doc_excerpt": "", "item_excerpt": ""}
    row |= dict.fromkeys(("score", "threshold", "information"), 0.5) | dict.fromkeys(("doc_start", "doc_end", "item_start", "item_end"), 0)
    assert decide(batch_of(["text"]), pa.Table.from_pylist([row], MATCHES), "document").kept == [True]


@given(st.text(alphabet="ab .\n", max_size=80), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 20)), max_size=4), st.integers(0, 30))
def test_a_cut_removes_at_least_its_spans_and_adds_nothing(text: str, raw: list[tuple[int, int]], margin: int) -> None:
    spans = [(min(a, len(text)), min(a + n, len(text))) for a, n in raw]
    gone = {i for a, b in spans for i in range(a, b)}
    left = cut(text, spans, margin)
    kept = [c for i, c in enumerate(text) if i not in gone and not c.isspace()]
    got = [c for c in left if not c.isspace()]
    assert len(got) <= len(kept)
    remaining = iter(kept)
    assert all(c in remaining for c in got)  # a subsequence
    if margin == 0:
        assert got == kept


def test_the_report_counts_items_and_says_what_could_not_be_found() -> None:
    index = build_index(ITEMS)
    matches = scan(batch_of([DISGUISES["verbatim"], DISGUISES["numbers_changed"], "nothing"]), index)
    summary = summarize(matches, index, 3)
    sums, quiz, empty = (summary["benchmarks"][name] for name in ("sums", "quiz", "empty"))
    assert (sums["items"], sums["scannable"], sums["contaminated"], sums["documents"]) == (2, 2, 1, 2)
    assert sums["variants"] == {"numbers_changed": 1, "verbatim": 1}
    assert sums["domains"] == [("x.org", 2)]
    assert quiz["unscannable"] == {"too_short": 1}
    assert (empty["items"], empty["rate"], empty["interval"]) == (0, None, (0.0, 1.0))
    assert "nothing was looked for" in empty["note"]
    assert summary["contaminated_documents"] == 2
    assert "paraphrase" in summary["meaning"]
    assert "1 of 5 items could not be looked for" in summary["meaning"]
    json.dumps(summary)


def test_every_item_is_listed_once_with_a_reason_if_it_cannot_be_found() -> None:
    index = build_index(ITEMS, Options(min_information=500.0, min_whole_information=500.0))
    items = item_table(MATCHES.empty_table(), index).to_pylist()
    assert [row["item_id"] for row in items] == ["m0", "m1", "q0", "q1", "c0"]
    assert not any(row["indexed"] for row in items)
    assert {row["reason"] for row in items} <= {"too_short", "too_common", "only_template_text"}
    assert summarize(MATCHES.empty_table(), index)["meaning"].startswith("Nothing could have been found")


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(0, 100, 0.0, 0.0370), (50, 100, 0.4038, 0.5962), (100, 100, 0.9630, 1.0), (0, 0, 0.0, 1.0)]
)
def test_wilson_intervals(hits: int, total: int, low: float, high: float) -> None:
    assert wilson(hits, total) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
