"""The engine: what runs is accounted for, what hurts is quarantined, what is done is not done again."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus

from curate.corpus import Corpus, verify, write_json
from curate.engine import Context, Inline, Local, TaskError, Work, complete, make_plan, shard_work
from curate.errors import BudgetError, InputError, LedgerError
from curate.ledger import Ledger, check_budget
from curate.specs.workflow import Budget
from curate.tasks import Plan
from curate.worker import serve

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


def test_a_document_for_which_a_function_calls_sys_exit_is_quarantined(tmp_path: Path, context: Context) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["x", "sys.exit", "y"])]})
    manifest = complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    assert (manifest.ledger.kept, manifest.ledger.errored) == (2, 1)
    (error,) = pq.read_table(tmp_path / "out/errors/a.parquet")["error"].to_pylist()
    assert error.startswith("SystemExit: this document is not what I want (task_functions.py:")


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


def test_a_damaged_region_is_held_against_the_budget_for_what_its_bytes_hold_elsewhere() -> None:
    ledger = Ledger(entered=1002, kept=1000, errored=2, damaged=2, damaged_bytes=300_000, input_bytes=1_300_000)
    ledger.check("web/01-ingest")
    with pytest.raises(BudgetError, match=r"about 300 of 1,300 documents failed; the spec allows 13; 2 damaged regions \(23.1 % of the input\)"):
        check_budget(ledger, Budget(), "web/01-ingest", "errors")
    check_budget(ledger, Budget(max_share=0.25), "web/01-ingest", "errors")
    small = Ledger(entered=1001, kept=1000, errored=1, damaged=1, damaged_bytes=9000, input_bytes=1_000_000)
    check_budget(small, Budget(), "web/01-ingest", "errors")
    nothing = Ledger(entered=1, errored=1, damaged=1, damaged_bytes=9000, input_bytes=9000)
    with pytest.raises(BudgetError, match="no document could be read; 1 damaged region") as caught:
        check_budget(nothing, Budget(max_documents=1000), "web/01-ingest", "errors")
    assert "mend these files" in caught.value.hint
    assert "max_documents" not in caught.value.hint  # which does not help here
    check_budget(nothing, Budget(max_share=1.0), "web/01-ingest", "errors")


def test_over_the_error_budget_the_stage_fails_and_a_larger_budget_goes_on_from_there(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", "raise", "raise"])]})
    strict = Context(Inline(), budget=Budget(max_share=0.0, max_documents=1))
    with pytest.raises(BudgetError, match=r"2 of 3 documents failed; the spec allows 1; most often: \w+Error: "):
        complete(plan_of(corpus, tmp_path / "out"), strict, source="web", code={})
    assert not (tmp_path / "out/manifest.json").exists()
    before = (tmp_path / "out/receipts/a.json").stat().st_mtime_ns
    complete(plan_of(corpus, tmp_path / "out"), Context(Inline(), budget=Budget(max_documents=2)), source="web", code={})
    assert (tmp_path / "out/receipts/a.json").stat().st_mtime_ns == before


def failing(corpus: Corpus, folder: Path) -> Plan:
    """Return a plan for `folder` that fails while there is a file `broken` beside it."""
    return plan_of(corpus, folder, function="fails_while")


def test_over_the_error_budget_a_mended_cause_is_tried_again_and_what_did_not_fail_is_not(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", "needs it"])], "b": [documents(["two"], file="b")]})
    complete(failing(corpus, tmp_path / "whole"), Context(Inline()), source="web", code={})
    (tmp_path / "broken").touch()
    strict = Context(Inline(), budget=Budget(max_share=0.0, max_documents=0))
    for _ in range(2):
        with pytest.raises(BudgetError):
            complete(failing(corpus, tmp_path / "out"), strict, source="web", code={})
    before = (tmp_path / "out/receipts/b.json").stat().st_mtime_ns
    (tmp_path / "broken").unlink()
    manifest = complete(failing(corpus, tmp_path / "out"), strict, source="web", code={})
    assert (manifest.ledger.kept, manifest.ledger.errored) == (3, 0)
    assert (tmp_path / "out/receipts/b.json").stat().st_mtime_ns == before
    shards = {name: data for name, data in files_of(tmp_path / "out").items() if name != "manifest.json"}
    assert shards == {name: data for name, data in files_of(tmp_path / "whole").items() if name != "manifest.json"}  # no list of errors is left
    assert verify(tmp_path / "out") == []


def test_failed_documents_of_a_complete_stage_are_tried_again_on_demand(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", "needs it"])], "b": [documents(["two"], file="b")]})
    (tmp_path / "broken").touch()
    plan = failing(corpus, tmp_path / "out")
    assert complete(plan, Context(Inline()), source="web", code={}).ledger.errored == 1
    whole = files_of(tmp_path / "out")
    assert complete(plan, Context(Inline(), retry_failed=True), source="web", code={}).ledger.errored == 1
    assert files_of(tmp_path / "out") == whole
    before = (tmp_path / "out/receipts/b.json").stat().st_mtime_ns
    (tmp_path / "broken").unlink()
    assert complete(plan, Context(Inline()), source="web", code={}).ledger.errored == 1  # a second run does nothing
    assert complete(plan, Context(Inline(), retry_failed=True), source="web", code={}).ledger.errored == 0
    assert not (tmp_path / "out/errors").exists()
    assert (tmp_path / "out/receipts/b.json").stat().st_mtime_ns == before


def test_a_budget_that_was_lowered_tries_again_what_failed_before_it_stops_the_run(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", "needs it"])]})
    (tmp_path / "broken").touch()
    plan = failing(corpus, tmp_path / "out")
    complete(plan, Context(Inline()), source="web", code={})
    strict = Context(Inline(), budget=Budget(max_share=0.0, max_documents=0))
    with pytest.raises(BudgetError):
        complete(plan, strict, source="web", code={})
    (tmp_path / "broken").unlink()
    assert complete(plan, strict, source="web", code={}).ledger.kept == 2


def test_an_interrupted_stage_keeps_its_first_shards_however_bad_they_are(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", "raise"])], "b": [documents(["two"] * 98, file="b")]})
    context = Context(Inline(), budget=Budget(max_share=0.01, max_documents=0))
    complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    for name in ("manifest.json", "receipts/b.json"):
        (tmp_path / "out" / name).unlink()
    before = (tmp_path / "out/receipts/a.json").stat().st_mtime_ns
    assert complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={}).ledger.errored == 1
    assert (tmp_path / "out/receipts/a.json").stat().st_mtime_ns == before


def test_a_worker_reads_a_plan_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = [Work(name, [name], [name], seen=[(10, 20)]) for name in "ab"]
    plan = make_plan("ingest", "f:g", tmp_path, {}, {}, work)
    write_json(tmp_path / "plan.json", plan)

    def requests() -> Iterator[bytes]:
        for k, task in enumerate(plan.tasks):
            yield msgspec.json.encode({"plan": str(tmp_path / "plan.json"), "key": task.key, "seen": task.seen, "task": k, "suspects": {}})
            (tmp_path / "plan.json").unlink(missing_ok=True)

    monkeypatch.setattr("curate.tasks.run_task", Mock())
    answers = io.BytesIO()
    serve(requests(), answers, Mock())
    assert answers.getvalue() == b'{"ok":true}\n' * 2


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


def test_killers_in_different_batches_are_all_found(tmp_path: Path, context: Context) -> None:
    texts = [f"t{i}" for i in range(2100)]
    texts[5] = texts[1500] = "die"
    corpus = write_corpus(tmp_path / "in", {"a": [documents(texts)]})
    manifest = complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    assert (manifest.ledger.kept, manifest.ledger.errored) == (2098, 2)


@pytest.mark.parametrize(
    ("function", "options"), [("dies_while_reading", {"how": "map"}), ("dies_while_reading", {"how": "each"}), ("dies_while_writing", {})]
)
def test_a_death_while_reading_or_writing_is_blamed_on_no_document(tmp_path: Path, context: Context, function: str, options: dict[str, str]) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents([f"t{i}" for i in range(1100)])]})
    with pytest.raises(TaskError, match=r"died 4 times; .* while reading or writing after record \d"):
        complete(plan_of(corpus, tmp_path / "out", function=function, **options), context, source="web", code={})


@pytest.mark.parametrize(("times", "errored"), [(2, 0), (3, 1)])
def test_a_document_answers_for_a_kill_from_outside_only_at_the_third(tmp_path: Path, context: Context, times: int, errored: int) -> None:
    (tmp_path / "log").touch()
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", "slow", "two"])]})
    plan = plan_of(corpus, tmp_path / "out", function="killed_from_outside", log=str(tmp_path / "log"), times=times)
    manifest = complete(plan, context, source="web", code={})
    assert (manifest.ledger.kept, manifest.ledger.errored) == (3 - errored, errored)


def test_a_slow_reader_that_gives_signs_of_life_is_not_stopped(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.engine.HANG_SECONDS", 0.5)
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])]})
    assert complete(plan_of(corpus, tmp_path / "out", function="reads_slowly"), context, source="web", code={}).ledger.kept == 1


def test_a_worker_that_dies_at_once_is_shown_with_its_last_words(tmp_path: Path, context: Context) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])]})
    with pytest.raises(TaskError) as caught:
        complete(plan_of(corpus, tmp_path / "out", function="say_and_die"), context, source="web", code={})
    assert caught.value.hint == "out of luck"


def test_a_worker_does_not_import_from_the_folder_that_it_runs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('not the real one')\n")
    monkeypatch.chdir(tmp_path)
    engine = Local(1, tmp_path / "logs")
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])]})
    assert complete(plan_of(corpus, tmp_path / "out"), Context(engine), source="web", code={}).ledger.kept == 1
    engine.close()


@pytest.mark.parametrize("name", ["a.parquet", "dropped/a.parquet"])
@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_file_of_another_size_is_made_again(tmp_path: Path, name: str, has_manifest: bool) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one", ""])]})
    complete(plan_of(corpus, tmp_path / "out"), Context(Inline()), source="web", code={})
    whole = files_of(tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(b"")
    if not has_manifest:
        (tmp_path / "out/manifest.json").unlink()
    complete(plan_of(corpus, tmp_path / "out"), Context(Inline()), source="web", code={})
    assert files_of(tmp_path / "out") == whole


def test_a_full_disk_is_reported_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    draw = random.Random(0)
    write_corpus(tmp_path / "in", {"a": [documents([draw.randbytes(1000).hex() for _ in range(1500)])]})
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(FUNCTIONS.parent)!r})
from test_engine import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
corpus = Corpus.open({str(tmp_path / "in")!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    complete(plan_of(corpus, Path({str(tmp_path / "out")!r})), Context(Inline()), source="web", code={{}})
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "too large" in done.stdout, done.stderr
    assert f"{tmp_path}/out, task a" in done.stdout
    assert list((tmp_path / "out").rglob("*.tmp")) == []


@pytest.mark.parametrize("theirs", ["us.parquet", "eu/eu.parquet", "manifest.json"])
def test_a_stage_does_not_take_files_for_its_own_that_no_run_wrote(theirs: str, tmp_path: Path, context: Context) -> None:
    """What a stage does not list, it removes: so it must not begin in a folder that somebody else filled."""
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])]})
    file = tmp_path / "out" / theirs
    file.parent.mkdir(parents=True)
    file.write_text("a corpus of somebody")
    with pytest.raises(InputError, match="no run wrote it"):
        complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    assert file.read_text() == "a corpus of somebody"
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is in the way"):
        complete(plan_of(corpus, tmp_path / "file"), context, source="web", code={})


def test_a_link_to_an_empty_folder_stays(tmp_path: Path, context: Context) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])]})
    for name in ("elsewhere", "out/empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "out/errors").symlink_to("../elsewhere")
    complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    assert (tmp_path / "out/errors").is_symlink() and not (tmp_path / "out/empty").exists()


def test_a_stage_does_not_take_another_stage_s_files_for_its_own(tmp_path: Path, context: Context) -> None:
    """What another stage lists, this one does not: it would remove a whole corpus."""
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["one"])]})
    complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    whole = files_of(tmp_path / "out")
    for stage, source in (("report", "web"), ("shout", "books")):
        plan = make_plan(stage, f"{FUNCTIONS}:shout_shard", tmp_path / "out", {"x": 1}, {}, shard_work(corpus))
        with pytest.raises(InputError, match=rf"out: is in the way: it holds what .* '{stage} of {source}' is to be written"):
            complete(plan, context, source=source, code={})
    (tmp_path / "out/manifest.json").unlink()  # it was not finished
    with pytest.raises(InputError, match="is in the way: it holds what the stage 'shout' wrote"):
        complete(make_plan("report", f"{FUNCTIONS}:shout_shard", tmp_path / "out", {}, {}, []), context, source="web", code={})
    complete(plan_of(corpus, tmp_path / "out"), context, source="web", code={})
    assert files_of(tmp_path / "out") == whole
