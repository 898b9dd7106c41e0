"""Benchmark files of every kind, rows of every common benchmark as they are published, and data sets of the hub without a network."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.decontaminate.formats import channels_of
from curate.decontaminate.hub import chosen, declared
from curate.decontaminate.index import build_index
from curate.decontaminate.items import Items, read_benchmarks
from curate.decontaminate.match import MATCHES
from curate.decontaminate.tally import item_table
from curate.errors import InputError, MissingExtra, SpecError
from curate.specs.benchmarks import Benchmark, Fields, load_benchmarks

# A row as each benchmark is published, and what must be found in it.
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "gsm8k": (
        {"question": "How many eggs?", "answer": "She has 3 + 4 = <<3+4=7>>7.\n#### 7"},
        {"question": "How many eggs?", "solution": "She has 3 + 4 = <<3+4=7>>7.\n", "answer": " 7"},
    ),
    "math": (
        {"problem": "What is $x$?", "level": "Level 2", "type": "Algebra", "solution": "It is $\\boxed{3}$."},
        {"question": "What is $x$?", "solution": "It is $\\boxed{3}$."},
    ),
    "mmlu, list": (
        {"question": "Which?", "subject": "anatomy", "choices": ["p", "q", "r", "s"], "answer": 2},
        {"question": "Which?", "choices": "p\nq\nr\ns", "answer": "r"},
    ),
    "mmlu, letters": (
        {"question": "Which?", "A": "p", "B": "q", "C": "r", "D": "s", "answer": "C"},
        {"question": "Which?", "choices": "p\nq\nr\ns", "answer": "r"},
    ),
    "mmlu_pro": (
        {"question_id": 70, "question": "Which?", "options": [*"abcdefghij"], "answer": "I", "answer_index": 8, "cot_content": "Think."},
        {"question": "Which?", "choices": "\n".join("abcdefghij"), "answer": "i", "solution": "Think."},
    ),
    "human_eval": (
        {
            "task_id": "HumanEval/0",
            "prompt": 'def f(x):\n    """Twice x."""\n',
            "canonical_solution": "    return 2 * x\n",
            "test": "assert f(1) == 2",
        },
        {"question": "Twice x.", "code": 'def f(x):\n    """Twice x."""\n    return 2 * x\n'},
    ),
    "mbpp": (
        {"task_id": 11, "text": "Write a function.", "code": "def f(): pass", "test_list": ["assert f()"], "challenge_test_list": []},
        {"question": "Write a function.", "code": "def f(): pass"},
    ),
    "mbpp, sanitized": (
        {"source_file": "a.ipynb", "task_id": 2, "prompt": "Write a function.", "code": "def f(): pass", "test_imports": []},
        {"question": "Write a function.", "code": "def f(): pass"},
    ),
    "arc": (
        {"id": "M1", "question": "Which?", "choices": {"text": ["p", "q"], "label": ["A", "B"]}, "answerKey": "B"},
        {"question": "Which?", "choices": "p\nq", "answer": "q"},
    ),
    "arc, labels are numbers": (
        {"id": "M1", "question": "Which?", "choices": {"text": ["p", "q"], "label": ["1", "2"]}, "answerKey": "1"},
        {"question": "Which?", "choices": "p\nq", "answer": "p"},
    ),
    "arc, its own files": (
        {"id": "M1", "question": {"stem": "Which?", "choices": [{"text": "p", "label": "A"}, {"text": "q", "label": "B"}]}, "answerKey": "B"},
        {"question": "Which?", "choices": "p\nq", "answer": "q"},
    ),
    "hellaswag": (
        {"ind": 4, "activity_label": "Doors", "ctx_a": "She opens", "ctx_b": "", "ctx": "She opens", "endings": ["a door", "a box"], "label": "1"},
        {"question": "She opens", "choices": "a door\na box", "answer": "a box"},
    ),
    "piqa": (
        {"goal": "Open it", "sol1": "pull", "sol2": "push", "label": 1},
        {"question": "Open it", "choices": "pull\npush", "answer": "push"},
    ),
    "winogrande": (
        {"sentence": "The _ is big.", "option1": "dog", "option2": "cat", "answer": "2"},
        {"question": "The _ is big.", "choices": "dog\ncat", "answer": "cat"},
    ),
    "truthfulqa, generation": (
        {"type": "x", "question": "True?", "best_answer": "Yes", "correct_answers": ["Yes"], "incorrect_answers": ["No"]},
        {"question": "True?", "answer": "Yes"},
    ),
    "truthfulqa, multiple choice": (
        {"question": "True?", "mc1_targets": {"choices": ["No", "Yes"], "labels": [0, 1]}, "mc2_targets": {"choices": ["No"], "labels": [0]}},
        {"question": "True?", "choices": "No\nYes", "answer": "Yes"},
    ),
    "truthfulqa, its own files": (
        {"question": "True?", "mc1_targets": {"No": 0, "Yes": 1}},
        {"question": "True?", "choices": "No\nYes", "answer": "Yes"},
    ),
    "llm-foundry, multiple choice": (
        {"query": "Question: Which?\n", "choices": ["p", "q"], "gold": 1},
        {"question": "Which?\n", "choices": "p\nq", "answer": "q"},
    ),
    "llm-foundry, generation": (
        {"context": "Question: Who?\nAnswer:", "answer": "Ada", "aliases": ["Ada", "Ada L."]},
        {"question": "Who?", "answer": "Ada"},
    ),
    "llm-foundry, chain of thought": (
        {"context": "How many?", "answer": "7", "chain_of_thought": "3 + 4 = 7"},
        {"question": "How many?", "answer": "7", "solution": "3 + 4 = 7"},
    ),
    "llm-foundry, language modeling": ({"context": "Once upon a", "continuation": "time"}, {"question": "Once upon a", "answer": "time"}),
    "lm-evaluation-harness, sample": (
        {
            "doc_id": 3,
            "doc": {"question": "How many?", "answer": "7"},
            "target": "7",
            "arguments": [["Q: …", {}]],
            "resps": [["8"]],
            "exact_match": 0.0,
        },
        {"question": "How many?", "answer": "7"},
    ),
    "squad": (
        {"id": "5", "title": "T", "context": "A passage.", "question": "Who?", "answers": {"text": ["Ada"], "answer_start": [2]}},
        {"question": "Who?", "passage": "A passage.", "choices": "Ada"},
    ),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_rows_are_recognized_as_they_are(name: str) -> None:
    row, channels = PUBLISHED[name]
    assert channels_of(row, Fields())[1] == channels


def items_of(root: Path, **spec: Any) -> Items:
    return read_benchmarks({"b": msgspec.convert(spec, Benchmark)}, root)


ROWS = [{"id": "a", "question": "Which is first?", "choices": ["p", "q"]}, {"id": "b", "question": "Which is second?", "choices": ["r", "s"]}]


def test_every_kind_of_file_holds_the_same_items(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    table = "id,Question,choices\n" + "".join(
        f'{row["id"]},{row["question"]},"{json.dumps(row["choices"]).replace(chr(34), chr(34) * 2)}"\n' for row in ROWS
    )
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "lines.json").write_bytes(lines)
    (tmp_path / "list.json").write_text(json.dumps(ROWS))
    (tmp_path / "data.json").write_text(json.dumps({"version": 1, "data": ROWS}))
    (tmp_path / "viewer.json").write_text(json.dumps({"rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)]}))
    (tmp_path / "a.csv").write_text(table)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(table.encode()))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "lines.json", "list.json", "data.json", "viewer.json", "a.csv", "a.csv.gz", "a.parquet"):
        items = items_of(tmp_path, file=name)
        assert items.bad == []
        assert [(i.id, i.channels, i.choices, i.position) for i in items.items] == [
            (row["id"], {"question": row["question"], "choices": "\n".join(row["choices"])}, row["choices"], n) for n, row in enumerate(ROWS)
        ], name


def test_a_json_file_that_is_one_item_keeps_its_question(tmp_path: Path) -> None:
    choices = [{"text": "in two", "label": "A"}, {"text": "in three", "label": "B"}]
    (tmp_path / "own.json").write_text(json.dumps({"id": "7", "question": "How is a fraction halved?", "choices": choices, "answerKey": "A"}))
    (tmp_path / "named.json").write_text(json.dumps({"id": "8", "stem": "How is a fraction halved?", "choices": choices, "right": "A"}))
    for spec in ({"file": "own.json"}, {"file": "named.json", "fields": {"question": "stem", "answer": "right"}}):
        (item,) = items_of(tmp_path, **spec).items
        assert item.channels == {"question": "How is a fraction halved?", "choices": "in two\nin three", "answer": "in two"}


@pytest.mark.parametrize(
    "around",
    [
        {"code": 200, "message": "ok", "data": ...}, {"prompt": "Answer the question.", "examples": ...}, {"input": "exam.pdf", "output": ...},
        {"context": "A passage.", "qas": ...}, {"article": "A passage.", "questions": ...}, {"solution": "by hand", "question": ...},
    ],
)  # fmt: skip
def test_an_object_around_items_is_no_item_whatever_its_other_keys_are(tmp_path: Path, around: dict[str, Any]) -> None:
    rows = [{"question": f"How is the fraction {n} halved?", "answer": "by two"} for n in range(20)]
    (tmp_path / "around.json").write_text(json.dumps({key: rows if value is ... else value for key, value in around.items()}))
    assert len(items_of(tmp_path, file="around.json").items) == 20


@pytest.mark.parametrize("key", ["choices", "Options", "endings", "answers", "targets", "tests", "messages", "offered"])
def test_a_list_of_choices_or_answers_makes_an_item(tmp_path: Path, key: str) -> None:
    row = {"question": "How is a fraction halved?", key: [{"text": "by two"}, {"text": "by three"}]}
    (tmp_path / "own.json").write_text(json.dumps(row))
    fields = {"fields": {"choices": "offered"}} if key == "offered" else {}
    (item,) = items_of(tmp_path, file="own.json", **fields).items
    assert item.channels["question"] == "How is a fraction halved?"


def test_an_item_whose_fields_are_named_keeps_them_beside_a_list_of_any_name(tmp_path: Path) -> None:
    row = {"prompt": "Write a function that adds.", "cases": [{"input": "1 2", "output": "3"}], "canonical_solution": "def add(a, b): return a + b"}
    (tmp_path / "own.json").write_text(json.dumps(row))
    (item,) = items_of(tmp_path, file="own.json", fields={"question": "prompt", "code": "canonical_solution"}).items
    assert item.channels["question"] == "Write a function that adds."


def test_the_original_mmlu_files_have_no_header(tmp_path: Path) -> None:
    (tmp_path / "anatomy_test.csv").write_text('"Which, then?",p,q,r,s,D\nWhat?,a,b,c,d,A\n')
    items = items_of(tmp_path, file="*.csv").items
    assert [(i.channels["question"], i.channels["answer"]) for i in items] == [("Which, then?", "s"), ("What?", "a")]


def test_a_bad_row_of_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,question\n1,Which?\n2,What?,more\n3,Who?\n")
    items = items_of(tmp_path, file="a.csv")
    assert [item.id for item in items.items] == ["1", "3"]
    assert [(bad.place, bad.reason) for bad in items.bad] == [("a.csv:3", "has 3 cells, the first line 2")]
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="cannot be read to its end"):
        items_of(tmp_path, file="a.parquet")


def test_ids_that_stand_twice_never_meet_another_id(tmp_path: Path) -> None:
    names = ["x", "x#2", "x", "x", "x#2"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": name, "question": f"Which {i}?"}) + "\n" for i, name in enumerate(names)))
    items = items_of(tmp_path, file="a.jsonl")
    assert len({item.id for item in items.items}) == 5
    assert len(items.renamed) == 3


def test_items_know_their_place_in_the_harness(tmp_path: Path) -> None:
    rows = [{"question": f"Which {i}?", "subject": "anatomy" if i % 2 else "physics"} for i in range(4)]
    (tmp_path / "a.jsonl").write_text("{broken\n" + "".join(json.dumps(row) + "\n" for row in rows))
    assert [(i.task, i.position) for i in items_of(tmp_path, file="a.jsonl", task="mmlu_{subject}").items] == [
        ("mmlu_physics", 0),
        ("mmlu_anatomy", 0),
        ("mmlu_physics", 1),
        ("mmlu_anatomy", 1),
    ]
    assert [(i.task, i.position) for i in items_of(tmp_path, file="a.jsonl").items] == [("b", 1), ("b", 2), ("b", 3), ("b", 4)]
    (tmp_path / "samples_b.jsonl").write_text("".join(json.dumps({"doc_id": n, "doc": {"question": f"Which {n}?"}}) + "\n" for n in (7, 3)))
    assert [i.position for i in items_of(tmp_path, file="samples_b.jsonl").items] == [7, 3]


def test_an_item_of_three_words_is_unscannable_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "question": "Who goes there?"}\n')
    table = item_table(MATCHES.empty_table(), build_index(items_of(tmp_path, file="a.jsonl"))).to_pylist()
    assert [(row["indexed"], row["reason"]) for row in table] == [(False, "too_short")]


def test_a_project_whose_name_looks_like_a_pattern_has_benchmarks_of_its_own(tmp_path: Path) -> None:
    for folder in ("crawl1", "crawl[12]"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_text(json.dumps({"question": f"Which {folder}?"}) + "\n")
    assert [item.channels["question"] for item in items_of(tmp_path / "crawl[12]", file="*.jsonl").items] == ["Which crawl[12]?"]


def test_a_benchmark_has_a_file_or_a_hub_id(tmp_path: Path) -> None:
    for text in ("b: {description: nothing}", "b: {file: a.jsonl, hub: openai/gsm8k}"):
        (tmp_path / "benchmarks.yaml").write_text(text)
        with pytest.raises(SpecError, match="either file or hub"):
            load_benchmarks(tmp_path / "benchmarks.yaml")


# ── the hub, without a network ────────────────────────────────────────────────────────────────────────────────────


def dataset(folder: Path, *files: str) -> Path:
    for i, name in enumerate(files):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{"question": f"Which is {name}?", "answer": str(i)}]), path)
    return folder


def test_a_folder_laid_out_like_a_data_set(tmp_path: Path) -> None:
    dataset(tmp_path / "sets/gsm", "main/test-00000-of-00001.parquet", "main/train-00000-of-00001.parquet", "socratic/test-00000-of-00001.parquet")
    items = items_of(tmp_path, hub="sets/gsm", config="main")
    assert [item.channels["question"] for item in items.items] == ["Which is main/test-00000-of-00001.parquet?"]
    assert items.items[0].place == "sets/gsm/main/test-00000-of-00001.parquet:1"
    with pytest.raises(SpecError, match="several configurations") as error:
        items_of(tmp_path, hub="sets/gsm")
    assert "main, socratic" in error.value.hint
    with pytest.raises(SpecError, match="no configuration 'mian'"):
        items_of(tmp_path, hub="sets/gsm", config="mian")
    with pytest.raises(SpecError, match="no file of the split 'validation'"):
        items_of(tmp_path, hub="sets/gsm", split="validation")


def test_the_readme_of_a_data_set_decides_where_it_speaks(tmp_path: Path) -> None:
    dataset(tmp_path / "d", "odd/first.parquet", "odd/second.parquet", "test.parquet")
    readme = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: odd/sec*\n---\n# D\n"
    (tmp_path / "d/README.md").write_text(readme)
    assert declared(readme) == {"default": {"test": ["odd/sec*"]}}
    assert [item.channels["question"] for item in items_of(tmp_path, hub="d").items] == ["Which is odd/second.parquet?"]
    with pytest.raises(SpecError, match="no split 'dev'"):
        items_of(tmp_path, hub="d", split="dev")


@pytest.mark.parametrize(
    ("files", "config", "expected"),
    [
        (["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"], None, ["data/test-00000-of-00001.parquet"]),
        (["main/test/0000.parquet", "main/train/0000.parquet"], "main", ["main/test/0000.parquet"]),
        (["test.jsonl", "train.jsonl", "test.py"], None, ["test.jsonl"]),
        (["anatomy_test.csv", "physics_test.csv"], "anatomy", ["anatomy_test.csv"]),
        (["test-00000-of-00002.parquet", "test-00001-of-00002.parquet"], "default", ["test-00000-of-00002.parquet", "test-00001-of-00002.parquet"]),
    ],
)
def test_common_layouts(files: list[str], config: str | None, expected: list[str]) -> None:
    assert chosen(sorted(files), {}, Benchmark(hub="x", config=config), "x") == sorted(expected)


def test_the_local_cache_of_the_hub_serves_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub/datasets--somebody--sums"
    dataset(cached / "snapshots" / commit, "main/test-00000-of-00001.parquet")
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(items_of(tmp_path, hub="somebody/sums", config="main").items) == 1
    with pytest.raises(InputError, match="not in the local cache"):
        items_of(tmp_path, hub="somebody/else")


def test_without_the_package_the_hint_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra) as error:
        items_of(tmp_path, hub="somebody/sums")
    assert "pip install" in error.value.hint
