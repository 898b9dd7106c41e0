"""Benchmark files: the common formats, and every way in which a line can be wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from curate.decontaminate.items import Item, read_benchmarks
from curate.errors import InputError, SpecError
from curate.specs.benchmarks import Benchmark, choose, inferred, load_benchmarks


def read_one(tmp_path: Path, row: dict[str, Any], **spec: Any) -> Item:
    (tmp_path / "b.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    items = read_benchmarks({"b": msgspec.convert({"file": "b.jsonl", **spec}, Benchmark)}, tmp_path)
    assert items.bad == []
    return items.items[0]


FORMATS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"question": "How many?", "answer": "2+2=<<2+2=4>>4\n#### 4"}, {"question": "How many?", "answer": " 4", "solution": "2+2=<<2+2=4>>4\n"}),
    ({"problem": "Find x.", "solution": "It is one."}, {"question": "Find x.", "solution": "It is one."}),
    ({"question": "Which?", "choices": ["a1", "b1"], "answer": 1}, {"question": "Which?", "choices": "a1\nb1", "answer": "b1"}),
    (
        {"question": "Which?", "choices": {"text": ["a1", "b1"], "label": ["A", "B"]}, "answerKey": "A"},
        {"question": "Which?", "choices": "a1\nb1", "answer": "a1"},
    ),
    (
        {"ctx": "She opens", "endings": ["the door", "a book"], "label": "1"},
        {"question": "She opens", "choices": "the door\na book", "answer": "a book"},
    ),
    ({"goal": "Open it", "sol1": "pull", "sol2": "push", "label": 0}, {"question": "Open it", "choices": "pull\npush", "answer": "pull"}),
    ({"text": "Write f.", "code": "def f(): 1", "test_list": ["x"]}, {"question": "Write f.", "code": "def f(): 1"}),
    ({"query": "Question: Which?", "choices": ["A. p", "B. q"], "gold": 0}, {"question": "Which?", "choices": "p\nq", "answer": "p"}),
    ({"context": "Question: Who?\nAnswer:", "answer": "He", "aliases": ["x"]}, {"question": "Who?", "answer": "He"}),
    ({"context": "A long story about", "continuation": "life"}, {"question": "A long story about", "answer": "life"}),
    ({"doc_id": 7, "doc": {"question": "Which?", "answer": "this"}, "resps": [["x"]]}, {"question": "Which?", "answer": "this"}),
    ({"question": "Who?", "context": "A passage.", "answers": {"text": ["he"]}}, {"question": "Who?", "passage": "A passage.", "choices": "he"}),
    ({"question": "T?", "best_answer": "yes", "mc1_targets": {"choices": ["yes", "no"]}}, {"question": "T?", "choices": "yes\nno", "answer": "yes"}),
]


@pytest.mark.parametrize(("row", "channels"), FORMATS)
def test_common_formats_are_recognized(tmp_path: Path, row: dict[str, Any], channels: dict[str, str]) -> None:
    assert read_one(tmp_path, row).channels == channels


def test_human_eval_has_its_prose_and_its_code(tmp_path: Path) -> None:
    prompt = 'def f(x):\n    """ Return x twice.\n    >>> f(1)\n    2\n    """\n'
    item = read_one(tmp_path, {"task_id": "HumanEval/0", "prompt": prompt, "canonical_solution": "    return x * 2\n", "test": "assert 1"})
    assert item.id == "HumanEval/0"
    assert item.channels["question"].strip() == "Return x twice."
    assert item.channels["code"] == prompt + "    return x * 2\n"


def test_named_fields_win(tmp_path: Path) -> None:
    row = {"question": "not this", "inner": {"q": "this"}, "number": 5}
    item = read_one(tmp_path, row, fields={"question": "inner.q", "id": "number"})
    assert (item.id, item.channels) == ("5", {"question": "this"})


def test_bad_lines_are_named_and_duplicate_ids_kept_apart(tmp_path: Path) -> None:
    lines = [b'{"id": 1, "question": "one"}', b"{broken", b"[1]", b'{"id": 1, "question": "two"}', b"", b'{"other": 1}', b'{"question": "\xff"}']
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines)))
    items = read_benchmarks({"b": Benchmark(file="*.gz")}, tmp_path)
    assert [(item.id, item.place) for item in items.items] == [("1", "b.jsonl.gz:1"), ("1#2", "b.jsonl.gz:4")]
    assert items.renamed == [("b", "1", "b.jsonl.gz:4")]
    assert [bad.place for bad in items.bad] == ["b.jsonl.gz:2", "b.jsonl.gz:3", "b.jsonl.gz:6", "b.jsonl.gz:7"]
    assert [bad.reason.split(" ")[0:2] for bad in items.bad] == [["is", "not"], ["is", "not"], ["has", "no"], ["is", "not"]]


def test_an_empty_benchmark_is_kept_beside_others_and_refused_alone(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl").write_text('{"question": "one"}\n')
    both = read_benchmarks({"empty": Benchmark(file="empty.jsonl"), "b": Benchmark(file="b.jsonl")}, tmp_path)
    assert both.sizes == {"empty": 0, "b": 1}
    with pytest.raises(InputError, match="no benchmark item"):
        read_benchmarks({"empty": Benchmark(file="empty.jsonl")}, tmp_path)


def test_missing_and_truncated_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_benchmarks({"b": Benchmark(file="none.jsonl")}, tmp_path)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"question": "one"}\n' * 500)[:-12])
    with pytest.raises(InputError, match="cannot be read to its end"):
        read_benchmarks({"b": Benchmark(file="b.jsonl.gz")}, tmp_path)


def test_the_spec_names_the_nearest_key_and_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.yaml"
    path.write_text("gsm8k:\n  file: a.jsonl\n  field: {question: q}\n")
    with pytest.raises(SpecError, match="did you mean 'fields'"):
        load_benchmarks(path)
    path.write_text("gsm8k:\n  file: a.jsonl\n")
    with pytest.raises(SpecError, match="did you mean 'gsm8k'"):
        choose(load_benchmarks(path), ["gsm8"], "against")


def test_files_name_their_benchmarks() -> None:
    assert list(inferred(["x/gsm8k_test.jsonl.gz", "y/my exam.jsonl"])) == ["gsm8k_test", "my_exam"]
    with pytest.raises(SpecError, match="two benchmark files"):
        inferred(["a/b.jsonl", "c/b.jsonl"])
