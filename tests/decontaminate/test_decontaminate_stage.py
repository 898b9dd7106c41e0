"""The step as a workflow runs it: real worker processes, two sources, and what a rerun does."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus
from test_finding_items import DISGUISES, QUESTIONS, SOLUTION, prose

from curate.corpus import Corpus, Manifest
from curate.decontaminate import stage
from curate.engine import Context, Inline, Local
from curate.errors import InputError, SpecError
from curate.project import Fingerprints
from curate.specs.workflow import Decontaminate
from curate.workflow import Arguments

ROWS: list[dict[str, Any]] = [
    {"id": "m0", "question": QUESTIONS[0], "solution": SOLUTION, "answer": "385"},
    {"id": "m1", "question": QUESTIONS[1], "answer": "62"},
    {"id": "short", "question": "What is it?"},
]


def project_at(root: Path) -> Any:
    (root / "workflows").mkdir(exist_ok=True)
    (root / "workflows/benchmarks.yaml").write_text("sums: {file: sums.jsonl, canaries: [canary-5d41402abc]}\nempty: {file: empty.jsonl}\n")
    (root / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "{broken\n")
    (root / "empty.jsonl").write_text("")
    return SimpleNamespace(root=root, beside=root / "workflows", seed=0, fingerprints=Fingerprints(root / ".fingerprints.json"))


def sources(root: Path) -> dict[str, Corpus]:
    rng = random.Random(0)
    clean = [prose(rng, 120) for _ in range(40)]
    leaks = [f"{prose(rng, 60)}\n\n{text}\n\n{prose(rng, 60)}" for text in DISGUISES.values()]
    web = {"a": [documents([*clean[:20], *leaks[:5]], file="a")], "b": [documents([*leaks[5:], *clean[20:], "canary-5d41402abc"], file="b")]}
    docs = {"a": [documents(clean[:7], "docs")], "none": [documents([], "docs")]}
    return {"web": write_corpus(root / "web/01-ingest", web), "docs": write_corpus(root / "docs/01-ingest", docs, "docs")}


def run(root: Path, options: Decontaminate, context: Context) -> tuple[dict[str, Manifest], list[str]]:
    root.mkdir(exist_ok=True)
    said: list[str] = []
    corpora = sources(root) if not (root / "web").exists() else {s: Corpus.open(root / s / "01-ingest") for s in ("web", "docs")}
    targets = {source: root / source / "02-decontaminate" for source in corpora}
    scratch = root / "together/02-decontaminate"
    return stage.decontaminate(options, Arguments(corpora, targets, scratch, project_at(root), context, said.append)), said


def written(root: Path) -> dict[str, bytes]:
    folders = [root / "web/02-decontaminate", root / "docs/02-decontaminate", root / "together"]
    return {
        str(p.relative_to(root)): p.read_bytes()
        for f in folders
        for p in sorted(f.rglob("*"))
        if p.is_file() and p.suffix in (".parquet", ".npz", ".json", ".npy") and p.name != "plan.json" and p.parent.name != "receipts"
    }


OPTIONS = Decontaminate(against=["sums", "empty"])


def test_leaks_are_dropped_and_reported(tmp_path: Path, context: Context) -> None:
    manifests, said = run(tmp_path, OPTIONS, context)
    ledger = manifests["web"].ledger
    assert (ledger.entered, ledger.kept, ledger.dropped) == (50, 40, {"benchmark_contamination": 10})
    assert manifests["docs"].ledger.kept == 7
    assert said == ["decontaminate: sums: 1 of 2 items in 10 documents (1 unscannable); empty: 0 of 0 items in 0 documents"]
    folder = tmp_path / "together/02-decontaminate"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["documents"] == 57
    assert [bad["place"] for bad in summary["bad_lines"]] == ["sums.jsonl:4"]
    assert json.loads((folder / "clean_ids/sums.json").read_text()) == {
        "clean": ["m1"],
        "contaminated": ["m0"],
        "proposed": [],
        "unscannable": ["short"],
    }
    matches = pq.read_table(folder / "matches.parquet").to_pylist()
    assert {m["variant"] for m in matches} == {*DISGUISES, "canary"}
    assert pq.read_table(folder / "items.parquet").num_rows == 3
    dropped = pq.read_table(tmp_path / "web/02-decontaminate/dropped/a.parquet").to_pylist()
    assert json.loads(dropped[0]["detail"])["item"] == "m0"


def test_bytes_do_not_depend_on_workers(tmp_path: Path) -> None:
    seen = []
    for n in (0, 2):
        engine: Any = Local(n, tmp_path / "logs") if n else Inline()
        run(tmp_path / str(n), OPTIONS, Context(engine))
        engine.close()
        seen.append(written(tmp_path / str(n)))
    assert seen[0] == seen[1]
    assert len(seen[0]) > 10


def test_a_rerun_does_nothing_and_another_action_only_scans(tmp_path: Path) -> None:
    context = Context(Inline())
    run(tmp_path, OPTIONS, context)

    def receipts() -> dict[str, int]:
        return {
            p.relative_to(tmp_path).parts[0] + "/" + p.parent.parent.name: p.stat().st_mtime_ns for p in sorted(tmp_path.rglob("receipts/*.json"))
        }

    before = receipts()
    run(tmp_path, OPTIONS, context)
    assert receipts() == before
    manifests, _ = run(tmp_path, Decontaminate(against=["sums", "empty"], action="span"), context)
    assert manifests["web"].ledger.kept == 49  # the page that was nothing but a canary has too little left
    assert {name for name, when in receipts().items() if before[name] != when} == {
        "web/02-decontaminate",
        "docs/02-decontaminate",
        "together/02-decontaminate",
    }
    left = [t for b in Corpus.open(tmp_path / "web/02-decontaminate").batches("a") for t in b.column("text").to_pylist()]
    assert not any("lanterns" in text and "bishop of the island" in text for text in left)
    run(tmp_path, Decontaminate(against=["sums", "empty"], action="record", threshold=1.0), context)
    matches = pq.read_table(tmp_path / "together/02-decontaminate/matches.parquet").to_pylist()
    assert {m["variant"] for m in matches} == {"question_only", "verbatim", "numbers_changed", "solution_only", "canary"}
    assert {m["threshold"] for m in matches} == {1.0}


def test_what_is_wrong_fails_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="did you mean 'span'"):
        run(tmp_path, Decontaminate(against=["sums"], action="spam"), Context(Inline()))
    with pytest.raises(SpecError, match="did you mean 'sums'"):
        run(tmp_path, Decontaminate(against=["sum"]), Context(Inline()))
    with pytest.raises(InputError, match="no benchmark item"):
        run(tmp_path, Decontaminate(against=["empty"]), Context(Inline()))
