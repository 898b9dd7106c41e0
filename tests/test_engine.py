"""The engine: what runs is accounted for, what hurts is quarantined, what is done is not done again."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus

from curate.corpus import Corpus, verify
from curate.engine import Context, Inline, Local, TaskError, complete, make_plan, shard_work
from curate.errors import BudgetError, LedgerError
from curate.specs.workflow import Budget
from curate.tasks import Plan

FUNCTIONS = Path(__file__).parent / "task_functions.py"


def plan_of(corpus: Corpus, folder: Path, function: str = "shout_shard", **options: object) -> Plan:
    return make_plan("shout", f"{FUNCTIONS}:{function}", folder, dict(options), {}, shard_work(corpus))


def files_of(folder: Path) -> dict[str, bytes]:
    kept = {".parquet"}
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.suffix in kept or p.name == "manifest.json"}


def test_kept_dropped_and_errored_documents_add_up(tmp_path: Path, context: Context) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", "", "raise", "two"])], "b": [documents(["three"], file="b")]})
    manifest = complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    assert (manifest.ledger.entered, manifest.ledger.kept, manifest.ledger.dropped, manifest.ledger.errored) == (5, 3, {"empty": 1}, 1)
    assert pq.read_table(tmp_path / "out/a.parquet")["text"].to_pylist() == ["ONE", "TWO"]
    error = pq.read_table(tmp_path / "out/errors/a.parquet").to_pylist()[0]
    assert error["offset"] == 2
    assert error["error"].startswith("ValueError: this document raises (task_functions.py:")
    assert verify(tmp_path / "out") == []


@pytest.mark.parametrize(("bad", "how"), [("die", "SIGSEGV"), ("exit", "exit code 7")])
def test_a_document_that_kills_its_process_is_found_and_quarantined(tmp_path: Path, context: Context, bad: str, how: str) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["x"] * 1030 + [bad] + ["y"] * 40 + [bad])], "b": [documents(["z"], file="b")]})
    manifest = complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    assert (manifest.ledger.entered, manifest.ledger.kept, manifest.ledger.errored) == (1073, 1071, 2)
    errors = pq.read_table(tmp_path / "out/errors/a.parquet").to_pylist()
    assert [e["offset"] for e in errors] == [1030, 1071]
    assert all(how in e["error"] for e in errors)


def test_quarantine_does_not_change_how_the_other_rows_are_stored(tmp_path: Path, context: Context) -> None:
    texts = [f"text {i}" for i in range(3000)]
    clean = write_corpus(tmp_path / "clean", {"a": [documents(texts)]})
    complete(plan_of(clean, tmp_path / "one"), context, source="web", code={})
    hurt = write_corpus(tmp_path / "hurt", {"a": [documents([*texts, "raise"])]})
    complete(plan_of(hurt, tmp_path / "two"), context, source="web", code={})
    assert (tmp_path / "one/a.parquet").read_bytes() == (tmp_path / "two/a.parquet").read_bytes()


def test_the_output_does_not_depend_on_the_engine_or_the_number_of_workers(tmp_path: Path) -> None:
    shards = {f"s{i}": [documents([f"{i} {j}" for j in range(50)] + ["", "raise"], file=f"f{i}")] for i in range(5)}
    corpus = write_corpus(tmp_path / "in", shards)
    seen = []
    for n in (0, 1, 3):
        engine = Local(n, tmp_path / "logs") if n else Inline()
        complete(plan_of(corpus, tmp_path / f"out{n}"), Context(engine), source="web", code={})
        engine.close()
        seen.append(files_of(tmp_path / f"out{n}"))
    assert seen[0] == seen[1] == seen[2]


def test_a_second_run_does_nothing_and_a_changed_option_runs_again(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])]})
    context = Context(Inline())
    complete(plan_of(corpus, tmp_path / "out", x=1), context, source="web", code={})
    before = (tmp_path / "out/receipts/a.json").stat().st_mtime_ns
    complete(plan_of(corpus, tmp_path / "out", x=1), context, source="web", code={})
    assert (tmp_path / "out/receipts/a.json").stat().st_mtime_ns == before
    complete(plan_of(corpus, tmp_path / "out", x=2), context, source="web", code={})
    assert (tmp_path / "out/receipts/a.json").stat().st_mtime_ns != before


def test_a_missing_or_truncated_shard_is_made_again(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])], "b": [documents(["two"], file="b")]})
    context = Context(Inline())
    complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    whole = files_of(tmp_path / "out")
    (tmp_path / "out/a.parquet").unlink()
    complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    assert files_of(tmp_path / "out") == whole


def test_shards_of_removed_inputs_disappear(tmp_path: Path) -> None:
    context = Context(Inline())
    shards = {"a": [documents(["one", ""])], "b": [documents(["two", "", "raise"], file="b")]}
    complete(plan_of(write_corpus(tmp_path / "in", shards), tmp_path / "out"), context, source="web", code={})
    del shards["b"]
    complete(plan_of(write_corpus(tmp_path / "in2", shards), tmp_path / "out"), context, source="web", code={})
    assert sorted(files_of(tmp_path / "out")) == ["a.parquet", "dropped/a.parquet", "manifest.json"]
    assert verify(tmp_path / "out") == []


def test_a_stage_that_loses_a_document_fails(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", "two"])]})
    with pytest.raises(LedgerError, match=r"2 documents entered .* but 1 came out"):
        complete(plan_of(corpus, tmp_path / "out", function="lose_shard"), Context(Inline()), source="web", code={})
    assert not (tmp_path / "out/manifest.json").exists()


def test_over_the_error_budget_the_stage_fails_and_a_larger_budget_goes_on_from_there(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", "raise", "raise"])]})
    strict = Context(Inline(), budget=Budget(max_share=0.0, max_documents=1))
    with pytest.raises(BudgetError, match=r"2 of 3 documents failed; the spec allows 1"):
        complete(plan_of(corpus, tmp_path / "out"), strict, source="web", code={})
    assert not (tmp_path / "out/manifest.json").exists()
    before = (tmp_path / "out/receipts/a.json").stat().st_mtime_ns
    complete(plan_of(corpus, tmp_path / "out"), Context(Inline(), budget=Budget(max_documents=2)), source="web", code={})
    assert (tmp_path / "out/receipts/a.json").stat().st_mtime_ns == before


def test_a_task_that_always_dies_is_reported_with_its_log(tmp_path: Path, context: Context) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])]})
    with pytest.raises(TaskError, match=r"died 4 times; the last time it was killed its process \(SIGKILL\)"):
        complete(plan_of(corpus, tmp_path / "out", function="always_dies"), context, source="web", code={})


def test_a_task_that_raises_is_reported_with_its_reason(tmp_path: Path, context: Context) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])]})
    with pytest.raises(TaskError, match="RuntimeError: the disk is on fire"):
        complete(plan_of(corpus, tmp_path / "out", function="always_raises"), context, source="web", code={})
    assert list((tmp_path / "out").rglob("*.tmp")) == []


def test_a_moved_project_is_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    corpus = write_corpus(tmp_path / "here/in", {"a": [documents(["one"])]})
    complete(plan_of(corpus, tmp_path / "here/out", model=str(corpus.folder)), Context(Inline()), source="web", code={})
    (tmp_path / "here").rename(tmp_path / "there")
    moved = plan_of(Corpus.open(tmp_path / "there/in"), tmp_path / "there/out", model=str(tmp_path / "there/in"))
    before = (tmp_path / "there/out/receipts/a.json").stat().st_mtime_ns
    complete(moved, Context(Inline()), source="web", code={})
    assert (tmp_path / "there/out/receipts/a.json").stat().st_mtime_ns == before
