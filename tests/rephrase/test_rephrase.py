"""Rephrasing a batch, and the step of a workflow, against a real HTTP server."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from chat_server import Reply, Request, completion, error, serving
from conftest import documents, write_corpus

from curate.corpus import Corpus, verify
from curate.documents import SCHEMA, child_id
from curate.endpoints import Endpoint, endpoint
from curate.engine import Context, Inline
from curate.errors import BudgetError, CurateError, SpecError
from curate.project import Fingerprints
from curate.rephrase.client import Client
from curate.rephrase.rephrase import Rephrased, chosen, rephrase, styles_for
from curate.rephrase.stage import rephrase as rephrase_step
from curate.specs.workflow import Budget, Gates, Ingest, Rephrase, Step, Workflow
from curate.workflow import Arguments, Project, Run

WORDS = ("harbor", "timber", "captain", "anchor", "lantern", "voyage", "merchant", "island", "compass", "current", "storm", "bridge", "canal")


def text(seed: int, sentences: int = 12) -> str:
    rng = random.Random(seed)
    return " ".join(f"The {' '.join(rng.choices(WORDS, k=7))} of {1000 + seed}." for _ in range(sentences))


def rewritten(source: str) -> str:
    """Another text of the same words, as an obedient model would write."""
    return ". ".join(" ".join(["Here", *sentence.split()[:0:-1]]) for sentence in source.split(". "))


def good(request: Request) -> Reply:
    return completion(f"Sure! Here is the rewritten text:\n\n{rewritten(request.text)}")


def options(**changes: Any) -> Rephrase:
    return Rephrase(**{"model": "m", "share": 1.0, "concurrency": 4, "timeout_seconds": 5.0, "attempts": 2} | changes)


def run(address: str, texts: list[str], seed: int = 0, **changes: Any) -> Rephrased:
    spec = options(**changes)
    num = len(texts)
    batch = documents(texts, claimed_license=["cc-by"] * num, claimed_language=["en"] * num, url=[f"http://x/{i}" for i in range(num)])
    with Client(Endpoint(address), spec, seed) as client:
        return rephrase(batch, spec, client, seed)


def test_documents_carry_their_lineage() -> None:
    with serving(good) as server:
        made = run(server.address, [text(1), text(2)])
    assert made.documents.schema.equals(SCHEMA)
    assert not made.rejected
    assert not made.errors
    parents = documents([text(1), text(2)]).column("id").to_pylist()
    for row, parent, k in zip(made.documents.to_pylist(), parents, (1, 2), strict=True):
        assert row["parent"] == parent
        assert row["id"] == child_id(parent, "rephrase/wikipedia/0")
        assert row["text"] == rewritten(text(k)).strip()
        assert (row["source"], row["claimed_license"], row["claimed_language"], row["url"]) == ("rephrased", "cc-by", "en", f"http://x/{k - 1}")
        assert json.loads(row["meta"])["rephrase"] == {
            "attempts": 1, "chunk": 0, "chunks": 1, "completion_tokens": 7, "finish_reason": "stop", "model": "m", "prompt_tokens": 11,
            "served_model": "served", "style": "wikipedia",
        }  # fmt: skip


def test_two_steps_over_one_document_make_two_documents() -> None:
    with serving(good) as server:
        made = [run(server.address, [text(1)], into=into).documents.column("id").to_pylist() for into in ("rephrased", "one", "two")]
    parent = documents([text(1)]).column("id").to_pylist()[0]
    assert made[0] == [child_id(parent, "rephrase/wikipedia/0")]
    assert len({name for names in made for name in names}) == 3
    assert len({request.body["seed"] for request in server.requests}) == 1  # answers of earlier runs stay


def test_outputs_do_not_depend_on_the_order_of_completion_or_on_errors_that_pass() -> None:
    def shaky(request: Request) -> Reply:
        if request.times == 1 and request.number % 3 == 0:
            return Reply(reset=True) if request.number % 2 else error(429, "later", {"Retry-After": "0"})
        return completion(rewritten(request.text), delay=random.random() / 20)

    texts = [text(i) for i in range(12)]
    with serving(shaky) as server:
        first, second = run(server.address, texts, concurrency=6), run(server.address, texts, concurrency=1)
    with serving(good) as server:
        third = run(server.address, texts)
    assert first.documents.equals(second.documents)
    assert first.documents.equals(third.documents)
    assert first.documents.num_rows == 12


def test_requests_carry_a_seed_that_is_their_own() -> None:
    with serving(good) as server:
        run(server.address, [text(1), text(2)])
        run(server.address, [text(1), text(2)])
        run(server.address, [text(1), text(2)], seed=5)
    seeds = [request.body["seed"] for request in server.requests]
    assert len(set(seeds)) == 4
    assert sorted(seeds[:2]) == sorted(seeds[2:4])
    body = server.requests[0].body
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"], body["stream"]) == ("m", 0.5, 0.9, 1024, False)


def test_long_documents_are_split_and_short_ones_left_alone() -> None:
    long = "\n\n".join(text(i) for i in range(6))
    with serving(good) as server:
        made = run(server.address, ["too short", long], max_input_characters=1500)
    rows = made.documents.to_pylist()
    assert len(rows) >= 3
    assert [json.loads(row["meta"])["rephrase"]["chunk"] for row in rows] == list(range(len(rows)))
    assert len({row["id"] for row in rows}) == len(rows)
    asked = [r.text for r in sorted(server.requests, key=lambda r: long.index(r.text[:60]))]
    assert "".join("".join(asked).split()) == "".join(long.split())  # no paragraph is lost


def test_rejections_and_failures_are_kept_apart() -> None:
    def mixed(request: Request) -> Reply:
        if "1001" in request.text:
            return completion(rewritten(request.text), "length")
        if "1002" in request.text:
            return completion(request.text)
        if "1003" in request.text:
            return error(400, "too long")
        return good(request)

    with serving(mixed) as server:
        made = run(server.address, [text(i) for i in range(5)])
    ids = documents([text(i) for i in range(5)]).column("id").to_pylist()
    assert [row["parent"] for row in made.documents.to_pylist()] == [ids[0], ids[4]]
    assert [(row["parent"], row["reason"]) for row in made.rejected] == [(ids[1], "truncated"), (ids[2], "copied")]
    assert [(row["parent"], row["reason"]) for row in made.errors] == [(ids[3], "refused_request")]


def test_the_ladder_tries_again_at_other_temperatures() -> None:
    def only_when_warm(request: Request) -> Reply:
        return good(request) if request.body["temperature"] >= 0.9 else completion("I'm sorry, but I cannot do that.")

    with serving(only_when_warm) as server:
        made = run(server.address, [text(1)], ladder=[0.7, 0.9, 1.0])
        assert [request.body["temperature"] for request in server.requests] == [0.5, 0.7, 0.9]
        assert json.loads(made.documents.to_pylist()[0]["meta"])["rephrase"]["attempts"] == 3
        assert run(server.address, [text(1)], ladder=[0.7]).rejected[0]["reason"] == "refused"


def test_choice_is_by_hash_and_its_share_is_right() -> None:
    ids = [f"{i:032x}" for i in range(4000)]
    kept = chosen(ids, 0.25, 0)
    assert 0.22 < sum(kept) / 4000 < 0.28
    assert chosen(ids[::-1], 0.25, 0) == kept[::-1]
    assert all(more for more, less in zip(chosen(ids, 0.5, 0), kept, strict=True) if less)  # a larger share keeps the smaller
    assert chosen(ids, 0.25, 1) != kept
    assert all(chosen(ids, 1.0, 0))
    assert not any(chosen(ids, 0.0, 0))


def test_styles_are_spread_over_documents_or_all_applied() -> None:
    spec = options(styles=["qa", "distill", "wikipedia"])
    counts: dict[str, int] = {}
    for i in range(900):
        for style in styles_for(f"{i:032x}", spec, 0):
            counts[style.name] = counts.get(style.name, 0) + 1
    assert sorted(counts) == ["distill", "qa", "wikipedia"]
    assert min(counts.values()) > 240
    assert [style.name for style in styles_for("x", options(styles=["qa", "distill"], every_style=True), 0)] == ["qa", "distill"]
    with pytest.raises(SpecError, match="no style 'wikipaedia'") as caught:
        styles_for("x", options(styles=["wikipaedia"]), 0)
    assert "wikipedia" in caught.value.hint


# ── the step ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def arguments(tmp_path: Path, context: Context) -> Arguments:
    run = tmp_path / "runs" / "w"
    batches = [[documents([text(i) for i in range(k, k + 6)], file=f"{k}.warc.gz")] for k in (0, 6)]
    corpus = write_corpus(run / "web" / "01-ingest", {"00000": batches[0], "00001": batches[1]})
    workflow = Workflow(name="w", sources={"web": [Step(ingest=Ingest(warc="*.warc.gz"))]})
    project = Project(tmp_path, tmp_path, run, 0, Fingerprints(tmp_path / "f.json"), workflow)
    said: list[str] = []
    return Arguments({"web": corpus}, {"web": run / "web" / "02-rephrase"}, run / "together" / "02-rephrase", project, context, said.append)


def read(folder: Path) -> list[dict[str, Any]]:
    corpus = Corpus.open(folder)
    return [row for shard in corpus.shards for batch in corpus.batches(shard) for row in batch.to_pylist()]


def test_without_an_endpoint_the_step_says_one_line(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURATE_LLM_BASE_URL", raising=False)
    assert rephrase_step(options(), arguments) == {}
    assert arguments.say.__self__ == ["rephrase: skipped, no endpoint is configured (CURATE_LLM_BASE_URL is not set)"]
    assert not arguments.scratch.exists()


def test_the_step_writes_a_source_with_a_balanced_ledger(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(request: Request) -> Reply:
        if "1001" in request.text:
            return completion("I cannot do that.")
        return error(422, "no") if "1007" in request.text else good(request)

    with serving(mixed) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        monkeypatch.setenv("CURATE_LLM_API_KEY", "sk-hidden-9")
        manifest = rephrase_step(options(where="length(text) > 100"), arguments)["rephrased"]
        asked = len(server.requests)
        folder = arguments.project.run / "rephrased" / "02-rephrase"
        assert (manifest.ledger.entered, manifest.ledger.created, manifest.ledger.kept, manifest.ledger.errored) == (0, 12, 10, 1)
        assert manifest.ledger.dropped == {"refused": 1}
        rows = read(folder)
        assert len(rows) == 10
        assert {row["source"] for row in rows} == {"rephrased"}
        assert {row["parent"] for row in rows} < {row["id"] for row in read(arguments.sources["web"].folder)}
        assert verify(folder) == []
        dropped = pq.read_table(folder / "dropped" / "web-00000.parquet").to_pylist()
        assert dropped[0]["reason"] == "refused"
        assert rephrase_step(options(where="length(text) > 100"), arguments)["rephrased"] == manifest  # nothing to do
        assert len(server.requests) == asked
        # Other gates decide anew over the same answers; only what was never answered is asked for again.
        rephrase_step(options(where="length(text) > 100", gates=Gates(min_length_ratio=0.0, max_length_ratio=0.1)), arguments)
        assert len(server.requests) == asked + 1
    everything = b"".join(path.read_bytes() for path in arguments.project.run.rglob("*") if path.is_file())
    assert b"sk-hidden-9" not in everything


def test_a_server_that_goes_away_costs_no_answer(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = msgspec.structs.replace(arguments, context=Context(Inline()))
    spec = options(attempts=1, concurrency=1, timeout_seconds=2.0)
    early = {"1000", "1001", "1006", "1007"}  # two documents of each shard
    with serving(lambda r: good(r) if any(year in r.text for year in early) else error(500, "out of memory")) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        with pytest.raises(CurateError, match="requests got no answer") as caught:
            rephrase_step(spec, arguments)
        assert "run again" in caught.value.hint
    with serving(good) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        manifest = rephrase_step(spec, arguments)["rephrased"]
        assert manifest.ledger.kept == 12
        assert 8 <= len(server.requests) < 12


def test_a_request_that_got_no_answer_is_made_again_by_the_next_run(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = msgspec.structs.replace(arguments, context=Context(Inline()))
    spec, folder = options(attempts=1, ladder=[0.9]), arguments.project.run / "rephrased" / "02-rephrase"
    broken = True

    def behavior(request: Request) -> Reply:
        if broken and ("1001" in request.text or ("1002" in request.text and request.body["temperature"] == 0.9)):
            return error(500, "boom")
        if "1002" in request.text and request.body["temperature"] == 0.5:
            return completion("I cannot do that.")
        return error(400, "too long") if "1003" in request.text else good(request)

    with serving(behavior) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        for asked in (12, 14):  # without the refused one: eleven documents, one of them twice; then what has no answer
            manifest = rephrase_step(spec, arguments)["rephrased"]
            assert (manifest.ledger.kept, manifest.ledger.errored, manifest.ledger.dropped) == (9, 2, {"refused": 1})
            assert arguments.say.__self__[-1] == "warning: rephrase: 2 requests got no answer; the next run asks for them again"
            assert len([r for r in server.requests if "1003" not in r.text]) == asked
        broken = False
        manifest = rephrase_step(spec, arguments)["rephrased"]
        assert (manifest.ledger.kept, manifest.ledger.errored, manifest.ledger.dropped) == (11, 1, {})
        assert len([r for r in server.requests if "1003" not in r.text]) == 16
        assert [r.body["temperature"] for r in server.requests if "1002" in r.text] == [0.5, 0.9, 0.9, 0.9]
        asked = len(server.requests)
        assert rephrase_step(spec, arguments)["rephrased"] == manifest  # a refusal is final
        assert len(server.requests) == asked
        mended = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}
        shutil.rmtree(folder)
        shutil.rmtree(arguments.scratch.parent)
        assert rephrase_step(spec, arguments)["rephrased"] == manifest  # undisturbed from the beginning
        assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")} == mended


def test_a_taken_up_task_that_is_killed_is_not_taken_for_complete(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = msgspec.structs.replace(arguments, context=Context(Inline()))
    with serving(lambda r: error(500, "boom") if "1001" in r.text else good(r)) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        rephrase_step(options(attempts=1), arguments)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", killing_the_second_time(Path.unlink))
            with pytest.raises(KeyboardInterrupt):
                rephrase_step(options(attempts=1), arguments)
    with serving(good) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        assert rephrase_step(options(attempts=1), arguments)["rephrased"].ledger.kept == 12


def killing_the_second_time(unlink: Any) -> Any:
    calls = []

    def killed(path: Path, missing_ok: bool = False) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    return killed


def test_answers_do_not_depend_on_the_number_of_the_step(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = msgspec.structs.replace(arguments, context=Context(Inline()))
    run, told = arguments.project.run, []
    with serving(good) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        for number in ("02", "03", "04"):
            moved = msgspec.structs.replace(arguments, scratch=run / "together" / f"{number}-rephrase")
            rephrase_step(options(), moved)
            told.append([path.read_bytes() for path in sorted((run / "rephrased" / f"{number}-rephrase").glob("*.parquet"))])
            if number == "03":  # as an earlier version left them
                (run / "together/answers/rephrased").rename(run / "together/03-rephrase/answers")
        assert len(server.requests) == 12
    assert told[0] == told[1] == told[2]


def test_a_renamed_source_asks_for_nothing_again(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = msgspec.structs.replace(arguments, context=Context(Inline()))
    with serving(good) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        for into in ("rephrased", "wiki", "rephrased"):
            rephrase_step(options(into=into), arguments)
        assert len(server.requests) == 12
    files = [sorted((arguments.project.run / into / arguments.scratch.name).glob("*.parquet")) for into in ("rephrased", "wiki")]
    texts = [[text for path in paths for text in pq.read_table(path)["text"].to_pylist()] for paths in files]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 0


# ── a whole run ───────────────────────────────────────────────────────────────────────────────────────────────


SPEC = """\
name: w
sources: {web: [{ingest: {jsonl: data/*.jsonl}}]}
together:
  - rephrase: {model: m, share: 1.0, attempts: 1, concurrency: 1, into: told}
"""


def whole_run(root: Path, spec: str = SPEC) -> Path:
    (root / "workflows").mkdir(exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    (root / "workflows/w.yaml").write_text(spec)
    (root / "data/a.jsonl").write_text("".join(json.dumps({"text": text(i)}) + "\n" for i in range(40)))
    Run(root / "workflows/w.yaml", Context(Inline()), lambda line: None)()
    return root / "runs/w"


def test_a_step_more_pays_for_nothing_and_leaves_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(good) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        folder = whole_run(tmp_path)
        whole_run(tmp_path, SPEC.replace("data/*.jsonl}}]", "data/*.jsonl}}, {edit: [fix_mojibake]}]"))
        assert sorted(path.name for path in (folder / "told").iterdir()) == ["03-rephrase"]
        monkeypatch.delenv("CURATE_LLM_BASE_URL")
        whole_run(tmp_path)
        assert not (folder / "told").exists()
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        whole_run(tmp_path)
        assert len(read(folder / "told/02-rephrase")) == 40
        assert len(server.requests) == 40


def test_a_document_on_which_the_condition_fails_is_quarantined(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = read(arguments.sources["web"].folder)[7]["id"]
    spec = options(where=f"case when id = '{odd}' then text::int else 1 end = 1")
    arguments = msgspec.structs.replace(arguments, context=Context(Inline(), budget=Budget(max_share=0.5)))
    with serving(good) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        ledger = rephrase_step(spec, arguments)["rephrased"].ledger
    assert (ledger.entered, ledger.created, ledger.kept, ledger.errored) == (0, 12, 11, 1)
    (error,) = pq.read_table(arguments.project.run / "rephrased/02-rephrase/errors").to_pylist()
    assert error["id"] == odd
    assert error["error"].startswith("rephrase.where: ConversionException: ")
    assert error["file"] == "6.warc.gz"


def test_two_steps_are_deduplicated_together_and_have_sources_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(good) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        second = SPEC + "  - rephrase: {model: n, share: 1.0, sources: [web], into: %s}\n  - dedup: {}\n"
        folder = whole_run(tmp_path, second % "again")  # the same server writes the same twice
        assert sum(len(read(folder / name / "04-dedup")) for name in ("told", "again")) == 40
        with pytest.raises(SpecError, match="there is a source 'told' already"):
            whole_run(tmp_path, second % "told")


def test_over_the_budget_the_same_command_goes_on_once_the_cause_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = f"{SPEC}errors: {{max_share: 0.0, max_documents: 0}}\n"
    with serving(lambda r: error(500, "boom") if r.number == 7 else good(r)) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        with pytest.raises(BudgetError):
            whole_run(tmp_path, spec)
        assert len(read(whole_run(tmp_path, spec) / "told/02-rephrase")) == 40
        assert len(server.requests) == 41


def test_the_report_shows_answers_that_came_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda r: error(500, "boom") if r.number == 7 else good(r)) as server:
        monkeypatch.setenv("CURATE_LLM_BASE_URL", server.address)
        before = (whole_run(tmp_path) / "report.html").read_text()
        after = (whole_run(tmp_path) / "report.html").read_text()
    assert ("requests got no answer" in before, "requests got no answer" in after) == (True, False)


def test_the_endpoint_is_none_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_LLM_BASE_URL", "  ")
    assert endpoint(options()) is None
