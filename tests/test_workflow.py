"""A workflow as a user runs it: what runs again after a change, and what a killed run leaves."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import workflow
from curate.check import check_workflow
from curate.cli import main
from curate.corpus import Corpus, verify
from curate.engine import Context, Inline
from curate.errors import BudgetError, CurateError, InputError, SpecError
from curate.explain import as_text, explain
from curate.functions import _module_at
from curate.funnel import funnel, open_run
from curate.lock import locked
from curate.workflow import Run, open_project

SPEC = """\
name: demo
sources:
  web:
    - ingest: {jsonl: data/web/*.jsonl.gz}
    - annotate: [gopher, characters]
    - drop:
        too_short: gopher.words < 6
        shouting: characters.uppercase > 0.5
  notes:
    - ingest: {files: data/notes/*.txt}
together:
  - dedup: {minhash: {ngram: 3}}
  - drop:
      from_notes: source = 'notes' and length(text) < 12
"""

WORDS = [
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "haven",
    "inlet",
    "jetty",
    "knoll",
    "ledge",
    "marsh",
    "north",
    "ocean",
    "plain",
    "quarry",
    "ridge",
    "shore",
    "tide",
]


def text_of(seed: int, length: int = 40) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(length)).capitalize() + "."


def write_lines(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        for i, text in enumerate(texts):
            file.write(json.dumps({"id": i, "text": text, "url": f"https://example.org/{path.stem}/{i}"}).encode() + b"\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "workflows").mkdir(parents=True)
    (root / "workflows/demo.yaml").write_text(SPEC)
    for shard in range(4):
        texts = [text_of(100 * shard + i) for i in range(30)]
        write_lines(
            root / f"data/web/part-{shard}.jsonl.gz", [*texts, "Too short.", text_of(shard).upper(), text_of(7), text_of(100 * shard) + " And more."]
        )
    (root / "data/notes").mkdir()
    (root / "data/notes/a.txt").write_text("A note of its own, about nothing else in the world.")
    (root / "data/notes/b.txt").write_text("tiny")
    return root


def run(project: Path) -> Path:
    Run(project / "workflows/demo.yaml", Context(Inline()), lambda line: None)()
    return project / "runs/demo"


def change(project: Path, old: str, new: str) -> None:
    path = project / "workflows/demo.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def receipts(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("receipts/*.json"))}


def rerun(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Return the stages with tasks that ran, by the folder's name."""
    return {name.split("/")[1] for name, at in after.items() if before.get(name) != at}


def shards(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet")) if "/." not in str(path)}


def test_a_run_accounts_for_every_document(project: Path) -> None:
    folder = run(project)
    rows = {row.folder: row.ledger for row in funnel(folder)}
    assert rows["web/01-ingest"].entered == 4 * 34
    assert rows["web/03-drop"].dropped == {"shouting": 4, "too_short": 4}
    assert rows["web/04-dedup"].dropped == {"exact_duplicate": 4, "near_duplicate": 4}
    assert rows["notes/05-drop"].dropped == {"from_notes": 1}
    for row in funnel(folder):
        assert row.ledger.entered + row.ledger.created == row.ledger.kept + row.ledger.errored + sum(row.ledger.dropped.values())
    for stage in open_run(folder).stages:
        assert verify(folder / stage.folder) == []


def test_each_tokenize_step_shows_the_tokens_that_it_wrote(project: Path) -> None:
    change(project, SPEC[SPEC.index("together:") :], "together: [tokenize: {vocab_size: 257}, tokenize: {vocab_size: 400}]\n")
    folder = run(project)
    rows = {row.folder: row for row in funnel(folder) if row.kind == "tokenize"}
    for stage in ("web/04-tokenize", "web/05-tokenize", "notes/04-tokenize", "notes/05-tokenize"):
        written = sum(pq.read_table(path, columns=["num_tokens"])["num_tokens"].to_numpy().sum() for path in (folder / stage).glob("*.parquet"))
        assert (rows[stage].kept_tokens, rows[stage].exact) == (written, True)
    assert rows["web/04-tokenize"].kept_tokens > 1.5 * rows["web/05-tokenize"].kept_tokens


def test_a_second_run_does_nothing(project: Path) -> None:
    folder = run(project)
    before, bytes_before = receipts(folder), shards(folder)
    run(project)
    assert rerun(before, receipts(folder)) == set()
    assert shards(folder) == bytes_before


def test_a_changed_threshold_decides_again_without_annotating(project: Path) -> None:
    folder = run(project)
    before = receipts(folder)
    change(project, "gopher.words < 6", "gopher.words < 2")
    run(project)
    again = rerun(before, receipts(folder))
    assert "03-drop" in again
    assert again.isdisjoint({"01-ingest", "02-annotate"})


def test_a_changed_annotator_recomputes_its_own_column_only(project: Path) -> None:
    folder = run(project)
    path = next((folder / "web/02-annotate").glob("*.parquet"))
    kept = pq.read_table(path, columns=["characters"])
    notes = json.loads((path.parent / "receipts" / f"{path.stem}.json").read_text())["notes"]["columns"]
    change(project, "[gopher, characters]", "[{gopher: {stop_words: [amber]}}, characters]")
    run(project)
    now = json.loads((path.parent / "receipts" / f"{path.stem}.json").read_text())["notes"]["columns"]
    assert (now["characters"], now["gopher"]) == (notes["characters"], now["gopher"])
    assert now["gopher"] != notes["gopher"]
    assert pq.read_table(path, columns=["characters"]).equals(kept)
    fresh = run_elsewhere(project)
    assert shards(folder) == shards(fresh)


def run_elsewhere(project: Path) -> Path:
    """Run the same spec into a fresh folder."""
    (project / "runs/demo").rename(project / "runs/before")
    folder = run(project)
    folder.rename(project / "runs/fresh")
    (project / "runs/before").rename(project / "runs/demo")
    return project / "runs/fresh"


def test_an_added_file_is_all_that_is_read(project: Path) -> None:
    folder = run(project)
    before = receipts(folder)
    write_lines(project / "data/web/added-0.jsonl.gz", [text_of(9000 + i) for i in range(5)])
    run(project)
    after = receipts(folder)
    changed = [name for name, at in after.items() if before.get(name) != at]
    assert [name for name in changed if "01-ingest" in name or "02-annotate" in name or "03-drop" in name] == [
        name for name in after if "added-0" in name and "web/0" in name and int(name.split("/")[1][:2]) <= 3
    ]
    assert shards(folder) == shards(run_elsewhere(project))


def test_a_step_that_is_gone_leaves_nothing_behind(project: Path) -> None:
    folder = run(project)
    change(project, "  - drop:\n      from_notes: source = 'notes' and length(text) < 12\n", "")
    run(project)
    assert not (folder / "web/05-drop").exists()
    assert (folder / "web/04-dedup").exists()


def test_what_a_step_over_all_sources_kept_goes_with_it(project: Path) -> None:
    folder = run(project)
    (folder / "together/02-rephrase/answers").mkdir(parents=True)  # of an older version, and paid for
    (folder / "together/mine").mkdir()
    (folder / "mine").mkdir()
    (folder / "mine/a.txt").touch()
    (folder / "together/04-dedup").rename(folder / "moved")
    for name, target in (("04-dedup", "../moved"), ("09-classify", "../mine")):  # as to a larger disk
        (folder / f"together/{name}").symlink_to(target)
    change(project, "    - annotate: [gopher, characters]\n", "    - annotate: [gopher, characters]\n    - edit: [fix_mojibake]\n")
    run(project)
    assert sorted(path.name for path in (folder / "together").iterdir()) == ["02-rephrase", "05-dedup", "mine"]
    assert (folder / "mine/a.txt").exists()


def test_a_source_that_is_gone_stays_and_is_said(project: Path) -> None:
    without_together(project)
    folder = run(project)
    (folder / "mine").mkdir()  # of somebody else: no run wrote it
    change(project, "  notes:\n", "  remarks:\n")
    said: list[str] = []
    Run(project / "workflows/demo.yaml", Context(Inline()), said.append)()
    assert said == [f"note: {folder}/notes is no part of this workflow any more; delete it, or queries over all sources count it"]
    assert (folder / "notes/01-ingest/manifest.json").is_file()
    shutil.rmtree(folder / "notes")
    said.clear()
    Run(project / "workflows/demo.yaml", Context(Inline()), said.append)()
    assert said == []


def test_what_was_rephrased_is_not_removed_in_silence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURATE_LLM_BASE_URL", raising=False)
    change(project, SPEC[SPEC.index("together:") :], "together:\n  - rephrase: {model: m, styles: [wikipedia], sources: [web], into: told}\n")
    folder = run(project)
    shutil.copytree(folder / "web/01-ingest", folder / "told/04-rephrase")  # as a run with an endpoint leaves it
    said: list[str] = []
    Run(project / "workflows/demo.yaml", Context(Inline()), said.append)()
    assert said[1:] == ["removed told/04-rephrase: no endpoint"]
    assert not (folder / "told").exists()


def test_a_wrong_rule_fails_before_anything_runs(project: Path) -> None:
    change(project, "gopher.words < 6", "gopher.wrds < 6")
    with pytest.raises(SpecError, match="wrds") as caught:
        run(project)
    assert "sources.web" in caught.value.where
    assert not (project / "runs/demo/web").exists()


def test_paths_beside_the_spec_lead_beside_the_spec(project: Path) -> None:
    before = shards(run(project))
    change(project, "jsonl: data/web", "jsonl: ../data/web")
    done = receipts(project / "runs/demo")
    assert shards(run(project)) == before
    assert receipts(project / "runs/demo") == done  # the same files, so the same work


def test_a_source_that_keeps_nothing_is_said(project: Path) -> None:
    change(project, "gopher.words < 6", "gopher.words < 6000")
    said: list[str] = []
    Run(project / "workflows/demo.yaml", Context(Inline()), said.append)()
    assert "warning: web/03-drop keeps none of 136 documents (too_short)" in said


def test_a_stage_is_listed_before_it_is_done(project: Path) -> None:
    seen = []

    class Watching(Inline):
        def run(self, jobs: list[Any], done: Any) -> None:
            seen.append([row.folder for row in funnel(project / "runs/demo") if not row.complete])
            super().run(jobs, done)

    Run(project / "workflows/demo.yaml", Context(Watching()), lambda line: None)()
    assert seen[0] == ["web/01-ingest", "notes/01-ingest"]


def test_a_rule_for_what_is_rephrased_is_checked_against_what_it_will_have(project: Path) -> None:
    change(project, "    - ingest: {files: data/notes/*.txt}", "    - ingest: {files: data/notes/*.txt}\n    - annotate: [gopher]")
    steps = "  - rephrase: {model: m, styles: [wikipedia], sources: [web], into: told}\n  - drop: {short: gopher.words < 3}\n"
    change(project, "together:\n", "together:\n" + steps)
    with pytest.raises(SpecError, match=r"sources\.told: step 1: drop\.short"):
        run(project)


CLASSIFIER = "name: {name}\npositive: [{{source: web, where: {where}}}]\nnegative: [{{source: {source}}}]\n"


@pytest.mark.parametrize(
    ("steps", "classifier", "place", "what"),
    [
        ("- tokenize: {vocab_size: 100}", {}, "workflows/demo.yaml:", "Expected int >= 257 at together[0].tokenize.vocab_size"),
        ("- tokenize: {tokenizer: nowhere/tokenizer.json}", {}, "together[0].tokenize: ", "no such file"),
        ("- tokenize: {tokenizer: data/notes/a.txt}", {}, "together[0].tokenize: ", "is not a tokenizer"),
        ("- dedup: {}\nmix: m", {}, "workflows/demo.yaml:", "a mix needs tokens"),
        ("- rephrase: {model: m, where: gopher.wrods > 5, sources: [web]}", {}, "sources.web: step 4: rephrase.where", "wrods"),
        ("- rephrase: {model: m, where: gopher.words > 5}", {}, "sources.notes: step 2: rephrase.where", "gopher"),
        (
            "- rephrase: {model: m}\n  - rephrase: {model: m, into: b, where: gopher.words > 5, sources: [rephrased]}",
            {},
            "sources.rephrased: step 1",
            "gopher",
        ),
        ("- classify: {classifier: c}", {"where": "gopher.wrods > 5"}, "sources.web: step 4: classifier good.where", "wrods"),
        ("- classify: {classifier: c}", {"source": "nowhere"}, "together[0].classify: classifier good: source", "'nowhere' is unknown"),
        ("- classify: {classifier: c}", {"name": "source"}, "together[0].classify: ", "'source' is a column of every document"),
    ],
)
def test_what_would_fail_the_last_step_fails_the_check(project: Path, steps: str, classifier: dict[str, str], place: str, what: str) -> None:
    change(project, SPEC[SPEC.index("together:") :], f"together:\n  {steps}\n")
    (project / "mixes").mkdir()
    (project / "mixes/m.yaml").write_text("sources: {}\n")
    (project / "classifiers").mkdir()
    (project / "classifiers/c.yaml").write_text(CLASSIFIER.format(**({"name": "good", "where": "gopher.words > 5", "source": "notes"} | classifier)))
    with pytest.raises(SpecError, match=re.escape(what)) as caught:
        check_workflow(open_project(project / "workflows/demo.yaml"))
    assert place in caught.value.where


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("gopher.words < 6", "gopher.wrods < 6", "workflows/demo.yaml:7: sources.web: step 3: drop.too_short"),
        ("length(text) < 12", "length(txet) < 12", "workflows/demo.yaml:14: sources.web: step 5: drop.from_notes"),
        ("- annotate: [gopher, characters]", "- filter: ./no.py:f", "workflows/demo.yaml:5: sources.web[1].filter"),
        ("{minhash: {ngram: 3}}", "{prefer: [nobody]}", "workflows/demo.yaml:12: together[0].dedup: prefer"),
        ("name: demo", "name: demo\nprepare: {call: './no.py:f', into: made}", "workflows/demo.yaml:2: ./no.py:f"),
    ],
)
def test_the_check_names_file_and_line(project: Path, before: str, after: str, place: str) -> None:
    change(project, before, after)
    with pytest.raises(SpecError) as caught:
        check_workflow(open_project(project / "workflows/demo.yaml"))
    assert str(caught.value.where).removeprefix(f"{project}/").startswith(place)


def test_what_is_right_passes_the_check(project: Path) -> None:
    steps = "- classify: {classifier: c}\n  - rephrase: {model: m, where: good.score > 0.5 and gopher.words > 5, sources: [web]}"
    change(project, SPEC[SPEC.index("together:") :], f"together:\n  {steps}\n  - tokenize: {{tokenizer: input/tokenizer.json}}\n")
    change(project, "name: demo\n", "name: demo\nprepare: {call: './prepare.py:fill', into: input}\n")
    (project / "workflows/prepare.py").write_text("def fill(folder):\n    ...\n")  # will make the tokenizer
    (project / "classifiers").mkdir()
    (project / "classifiers/c.yaml").write_text(CLASSIFIER.format(name="good", where="gopher.words > 5", source="notes"))
    assert check_workflow(open_project(project / "workflows/demo.yaml")) == [str(project / "classifiers/c.yaml")]


def test_what_was_prepared_and_is_gone_is_explained(project: Path) -> None:
    without_together(project)
    change(project, "name: demo\n", "name: demo\nprepare: {call: './prepare.py:fill', into: made}\n")
    change(project, "data/notes/*.txt", "made/*.txt")
    (project / "workflows/prepare.py").write_text("def fill(folder):\n    (folder / 'a.txt').write_text('one two three four five six')\n")
    run(project)
    (project / "made/a.txt").unlink()
    with pytest.raises(SpecError, match=r"no file matches 'made/\*\.txt'\nhint: .*/made was filled once by prepare.*: delete the folder"):
        run(project)
    (project / "made/deep").mkdir()
    (project / "made/deep/a.txt").write_text("what took hours to fetch, and another pattern would read")
    with pytest.raises(SpecError, match=r"no file matches 'made/\*\.txt'\nhint: relative patterns start at"):
        run(project)
    shutil.rmtree(project / "made")
    run(project)


def test_two_runs_of_the_same_folder_exclude_each_other(project: Path) -> None:
    with locked(project / "runs/demo"), pytest.raises(CurateError, match=f"process {os.getpid()} is running in it"):
        run(project)


def test_explain_shows_scores_margins_and_survivors(project: Path) -> None:
    folder = run(project)
    short = as_text(explain(folder, "https://example.org/part-0.jsonl/30")[0])
    assert "dropped as too_short" in short
    assert "gopher.words = 2 (< 6, margin -4)" in short
    double = explain(folder, "https://example.org/part-3.jsonl/33")[0]
    last = double.events[-1]
    assert (last.outcome, last.reason) == ("dropped", "near_duplicate") or last.outcome == "kept"
    near = [
        t
        for s in range(4)
        for n in (0, 33)
        for t in explain(folder, f"https://example.org/part-{s}.jsonl/{n}")
        if t.events[-1].reason == "near_duplicate"
    ]
    assert near
    survivor = explain(folder, near[0].events[-1].detail["survivor"])[0]
    assert survivor.events[-1].outcome == "kept"
    assert explain(folder, near[0].id[:12])[0].id == near[0].id
    with pytest.raises(CurateError, match="no document"):
        explain(folder, "https://example.org/nowhere")


def without_together(project: Path) -> None:
    """Leave the steps of single sources, which are quick."""
    change(project, SPEC[SPEC.index("together:") :], "")


def test_explain_reads_what_an_incomplete_run_left_and_says_what_is_damaged(project: Path) -> None:
    without_together(project)
    folder = run(project)
    whole = as_text(explain(folder, "https://example.org/part-0.jsonl/30")[0])
    for manifest in folder.rglob("manifest.json"):
        manifest.unlink()
    assert as_text(explain(folder, "https://example.org/part-0.jsonl/30")[0]) == whole
    os.truncate(next((folder / "web/02-annotate").glob("part-0*.parquet")), 500)
    with pytest.raises(InputError, match="cannot be read") as caught:
        explain(folder, "https://example.org/part-0.jsonl/30")
    assert "02-annotate" in caught.value.where
    assert caught.value.hint.startswith("curate verify")


def test_a_lost_plan_is_written_again_and_stops_no_changed_rule(project: Path) -> None:
    without_together(project)
    plan = run(project) / "web/03-drop/plan.json"
    whole = plan.read_bytes()
    for lose in (lambda: plan.write_bytes(b""), plan.unlink):
        lose()
        with pytest.raises(InputError, match="run the workflow again, which writes it"):
            explain(plan.parents[2], "https://example.org/part-0.jsonl/30")
        run(project)
        assert plan.read_bytes() == whole
    plan.unlink()
    spec = project / "workflows/demo.yaml"
    spec.write_text(spec.read_text().replace("< 6", "< 7"))
    assert "gopher.words < 7" in (run(project) / "web/03-drop/plan.json").read_text()


def test_a_project_in_a_folder_that_looks_like_a_pattern_reads_its_own_data(project: Path, tmp_path: Path) -> None:
    """`[12]` in a path is a name, unless the pattern of a spec has it."""
    without_together(project)
    shutil.copytree(project, tmp_path / "crawl1")
    project = project.rename(tmp_path / "crawl[12]")
    (project / "data/notes/a.txt").write_text("What stands in this project alone.")
    folder = run(project)
    (note,) = (path for path in (folder / "notes/01-ingest").glob("a-*.parquet"))
    assert pq.read_table(note)["text"].to_pylist() == ["What stands in this project alone."]
    assert "dropped as too_short" in as_text(explain(folder, "https://example.org/part-0.jsonl/30")[0])


def test_explain_says_of_how_many_documents_of_one_url_it_shows_the_first(tmp_path: Path) -> None:
    damaged_project(tmp_path, "jsonl", "*.jsonl")
    (tmp_path / "data/a.jsonl").write_text("".join(json.dumps({"text": f"page {i}", "url": "https://x.example/"}) + "\n" for i in range(60)))
    folder, said = run(tmp_path), list[str]()
    assert len(explain(folder, "https://x.example/", said.append)) == 50
    assert said == ["the first 50 of 60 documents with this URL"]


def command(project: Path, *options: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "curate.cli", "run", "workflows/demo.yaml", *options]
    return subprocess.Popen(arguments, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def test_explain_says_that_a_document_was_cut(tmp_path: Path) -> None:
    stage = {"source": "web", "kind": "decontaminate", "folder": "web/01-decontaminate"}
    folder = tmp_path / stage["folder"]
    (folder / "matches").mkdir(parents=True)
    match = {"doc_id": "aaaaaa", "benchmark": "gsm8k", "item_id": "7", "variant": "verbatim", "score": 0.9, "threshold": 0.4, "action": "span"}
    pq.write_table(pa.Table.from_pylist([match, match | {"doc_id": "bbbbbb", "action": "record"}]), folder / "matches/a.parquet")
    pq.write_table(pa.table({"id": ["aaaaaa", "bbbbbb", "cccccc"], "text": ["x", "y", "z"]}), folder / "a.parquet")
    ingest = {"source": "web", "kind": "ingest", "folder": "web/00-ingest"}
    shutil.copytree(folder, tmp_path / ingest["folder"], ignore=shutil.ignore_patterns("matches"))
    (tmp_path / "run.json").write_text(json.dumps({"name": "r", "spec_file": "", "spec": {}, "stages": [ingest, stage]}))
    outcomes = [explain(tmp_path, name)[0].events[-1] for name in ("aaaaaa", "bbbbbb", "cccccc")]
    assert [event.outcome for event in outcomes] == ["cut", "kept", "kept"]
    assert outcomes[0].detail["matches"][0]["item_id"] == "7"
    assert "gsm8k" in as_text(explain(tmp_path, "bbbbbb")[0])


def test_killed_and_run_again_the_bytes_are_the_same(project: Path) -> None:
    whole = command(project, "--workers", "2")
    start = time.monotonic()
    output, _ = whole.communicate(timeout=120)
    seconds = time.monotonic() - start
    assert whole.returncode == 0, output.decode()
    expected = shards(project / "runs/demo")
    draw = random.Random(0)
    for workers, victim in ((1, "main"), (2, "worker"), (4, "main")):
        (project / "runs/demo").rename(project / f"runs/kept-{workers}-{victim}")
        for _ in range(2):
            process = command(project, "--workers", str(workers))
            time.sleep(draw.uniform(0.3, 0.9) * seconds)
            kill(process, victim)
            process.communicate(timeout=120)
        last = command(project, "--workers", str(workers))
        output, _ = last.communicate(timeout=120)
        assert last.returncode == 0, output.decode()
        assert shards(project / "runs/demo") == expected
        assert not list((project / "runs/demo").rglob("*.tmp"))


def kill(process: subprocess.Popen[bytes], victim: str) -> None:
    """Kill the main process, or one of its workers, without warning."""
    if victim == "main":
        os.kill(process.pid, signal.SIGKILL)
        return
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()
    for child in children[:1]:
        os.kill(int(child), signal.SIGKILL)


def test_rules_in_another_order_decide_again(project: Path) -> None:
    change(
        project,
        "        too_short: gopher.words < 6\n        shouting: characters.uppercase > 0.5",
        "        too_short: gopher.words < 6\n        any: 1 = 1",
    )
    folder = run(project)
    assert Corpus.open(folder / "web/03-drop").manifest.ledger.dropped == {"any": 132, "too_short": 4}
    change(project, "        too_short: gopher.words < 6\n        any: 1 = 1", "        any: 1 = 1\n        too_short: gopher.words < 6")
    run(project)
    assert Corpus.open(folder / "web/03-drop").manifest.ledger.dropped == {"any": 136}


class Killed(BaseException):
    """Stands for `kill -9`: nothing that the code does about errors happens."""


PREPARE = """\
name: demo
prepare: {call: "./prepare.py:fill", into: input, options: {n: 1}}
sources:
  web:
    - ingest: {files: input/*.txt}
"""


def prepared(project: Path) -> None:
    open_ = workflow.open_project(project / "workflows/demo.yaml")
    workflow.prepare(open_, lambda line: None)


@pytest.mark.parametrize("at", ["mkdir", "touch", "rename", "rmtree", "write_json", "unlink"])
def test_a_killed_preparation_is_taken_up_again(project: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    (project / "workflows/demo.yaml").write_text(PREPARE)
    (project / "workflows/prepare.py").write_text(
        "def fill(folder, n: int):\n    (folder / f'{n}.txt').write_text('x')\n    (folder / 'sub').mkdir()\n"
    )
    for n in (1, 2):  # into no folder, and over what an earlier preparation made
        change(project, "{n: 1}", f"{{n: {n}}}")
        with monkeypatch.context() as patched:
            killer = Mock(side_effect=Killed)
            if at == "rmtree":
                patched.setattr(workflow.shutil, "rmtree", lambda folder, killer=killer: (next(folder.glob(".prep*")).unlink(), killer()))
            elif at == "write_json":
                patched.setattr(workflow, "write_json", killer)
            else:
                patched.setattr(workflow.Path, at, killer)
            try:
                prepared(project)
                assert (n, at) in {(1, "rename"), (1, "rmtree"), (2, "mkdir")}
            except Killed:
                assert killer.called
        prepared(project)
        assert [path.name for path in sorted((project / "input").glob("*.txt"))] == [f"{n}.txt"]
        assert not (project / ".input.curate-old").exists()


def test_a_changed_file_that_a_default_names_prepares_again(project: Path) -> None:
    (project / "workflows/demo.yaml").write_text(PREPARE.replace(", options: {n: 1}", ""))
    code = "from pathlib import Path\ndef fill(folder, words: Path = Path(__file__).with_name('words.txt')):\n"
    (project / "workflows/prepare.py").write_text(f"{code}    (folder / 'a.txt').write_text(words.read_text())\n")
    for words in ("some", "others"):
        (project / "workflows/words.txt").write_text(words)
        prepared(project)
        assert (project / "input/a.txt").read_text() == words


def test_a_cache_that_a_default_names_does_not_prepare_again(project: Path) -> None:
    (project / "workflows/demo.yaml").write_text(PREPARE.replace(", options: {n: 1}", ""))
    code = "from pathlib import Path\ndef fill(folder, cache: Path = Path(__file__).with_name('cache')):\n    cache.mkdir(exist_ok=True)\n"
    (project / "workflows/prepare.py").write_text(f"{code}    (cache / 'seen').touch()\n    (folder / 'a.txt').write_text('some')\n")
    prepared(project)
    (project / "workflows/cache/later").touch()
    (project / "input/mark.txt").touch()
    prepared(project)
    assert (project / "input/mark.txt").exists()


def test_a_folder_of_someone_else_is_not_cleared(project: Path) -> None:
    (project / "workflows/demo.yaml").write_text(PREPARE.replace("into: input", "into: data"))
    (project / "workflows/prepare.py").write_text("def fill(folder, n: int):\n    ...\n")
    with pytest.raises(CurateError, match="was not made by this workflow"):
        prepared(project)
    assert (project / "data/notes/a.txt").exists()


def test_a_report_that_was_not_written_is_written_by_the_next_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(project)
    change(project, "gopher.words < 6", "gopher.words < 5")
    with monkeypatch.context() as patched:
        patched.setattr("curate.report.write_report", Mock(side_effect=Killed))
        with pytest.raises(Killed):
            run(project)
    run(project)
    assert "gopher.words &lt; 5" in (folder / "report.html").read_text()
    before = (folder / "report.html").stat().st_mtime_ns
    run(project)
    assert (folder / "report.html").stat().st_mtime_ns == before
    for late in ("", "phases/late"):
        (folder / "mix" / late).mkdir(parents=True, exist_ok=True)
        (folder / "mix" / late / "result.json").write_text("{}")
        with monkeypatch.context() as patched:
            patched.setattr("curate.report.write_report", again := Mock())
            run(project)
        assert again.called


def test_a_mix_that_the_workflow_no_longer_has_is_not_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_together(project)
    folder = run(project)
    (folder / "mix").mkdir()
    (folder / "mix/result.json").write_text('{"solved": {}}')  # the report of it would fail
    (folder / "mix/verdict.txt").write_text("better than the natural one")
    assert main(["run", str(project / "workflows/demo.yaml"), "--workers", "0", "--quiet"]) == 0
    assert "better" not in capsys.readouterr().out
    assert 'id="mix"' not in (folder / "report.html").read_text(encoding="utf-8")


# ── damaged inputs ────────────────────────────────────────────────────────────────────────────────────────────────


def damaged_project(folder: Path, kind: str, pattern: str, errors: str = "") -> Path:
    for name in ("workflows", "data"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "workflows/demo.yaml").write_text(f"name: demo\n{errors}sources:\n  web:\n    - ingest: {{{kind}: data/{pattern}}}\n")
    return folder


def test_a_damaged_row_group_counts_as_its_rows_in_budget_and_funnel(tmp_path: Path) -> None:
    damaged_project(tmp_path, "parquet", "*.parquet")
    path = tmp_path / "data/a.parquet"
    pq.write_table(pa.table({"text": [f"document {i}" for i in range(1000)]}), path, row_group_size=100, compression="zstd", use_dictionary=False)
    groups = pq.read_metadata(path)
    data = bytearray(path.read_bytes())
    for group in range(2, 10):
        at = groups.row_group(group).column(0).data_page_offset
        data[at : at + 50] = b"\xff" * 50
    path.write_bytes(data)
    with pytest.raises(BudgetError, match="800 of 1,000 documents failed; the spec allows 10"):
        run(tmp_path)
    damaged_project(tmp_path, "parquet", "*.parquet", "errors: {max_share: 0.8}\n")
    ledger = funnel(run(tmp_path))[0].ledger
    assert (ledger.entered, ledger.kept, ledger.errored, ledger.damaged) == (1000, 200, 800, 0)


def test_the_text_of_documents_that_an_annotator_failed_on_is_not_counted(tmp_path: Path) -> None:
    damaged_project(tmp_path, "jsonl", "*.jsonl", "errors: {max_share: 0.6}\n")
    texts = [("bad " if i < 5 else "good ") + "word " * (1000 if i < 5 else 10) for i in range(10)]
    (tmp_path / "data/a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "workflows/steps.py").write_text(
        "import pyarrow as pa\n"
        "def v(batch):\n"
        "    if any(text.startswith('bad') for text in batch['text'].to_pylist()): raise ValueError('bad')\n"
        "    return pa.StructArray.from_arrays([pa.array([1] * batch.num_rows, pa.int64())], names=['v'])\n"
    )
    with (tmp_path / "workflows/demo.yaml").open("a") as spec:
        spec.write("    - annotate: [./steps.py:v]\n    - annotate: [characters]\n")
    folder = run(tmp_path)
    shutil.rmtree(folder / "web/02-annotate/errors")  # what is shown needs nothing but the manifests
    rows = funnel(folder)
    size = sum(len(text) for text in texts[5:])
    assert [row.ledger.kept_bytes for row in rows] == [sum(map(len, texts)), size, size]


def test_a_region_with_an_unknown_number_of_documents_is_estimated_and_said(tmp_path: Path) -> None:
    damaged_project(tmp_path, "jsonl", "*.jsonl.gz")
    lines = "".join(json.dumps({"text": text_of(i)}) + "\n" for i in range(2000)).encode()
    for name in "ab":
        (tmp_path / f"data/{name}.jsonl.gz").write_bytes(gzip.compress(lines))
    whole = (tmp_path / "data/b.jsonl.gz").read_bytes()
    (tmp_path / "data/b.jsonl.gz").write_bytes(whole[:1000] + b"\xff" * 50 + whole[1050:])
    with pytest.raises(BudgetError, match=r"about 1,9\d\d of 3,9\d\d documents failed; .* 1 damaged region \(49\.\d % of the input\)"):
        run(tmp_path)
    damaged_project(tmp_path, "jsonl", "*.jsonl.gz", "errors: {max_share: 0.6}\n")
    folder = run(tmp_path)
    ledger = funnel(folder)[0].ledger
    assert ledger.damaged == 1 and ledger.errored < 10  # noise that ended in line feeds is lines, too
    (message,) = open_run(folder).messages
    assert message.startswith("warning: web/01-ingest: 1 damaged region (49.") and "unknown number of documents" in message
    assert "unknown number of documents" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_fineweb_recipe_takes_out_the_lines_that_c4_does(tmp_path: Path) -> None:
    draw = random.Random(3)
    words = "river stone market window garden paper silver morning winter letter answer village doctor captain engine bridge summer music".split()
    body = [f"The {' '.join(draw.sample(words, 9))} have been with that {' '.join(draw.sample(words, 4))}." for _ in range(8)]
    above = ["Please enable Javascript to view this page.", "", "Share this", "We use cookies. Our privacy policy: mail a@host.org."]
    notices = [f"Of the {word} it uses cookies: {' '.join(draw.sample(words, 5))}. It does." for word in words[:3]]
    last = "Write to the captain{} at {}, or call 4111 1111 1111 1111 today."
    write_lines(tmp_path / "data/pages.jsonl.gz", ["\n".join([*above, *body, last.format("[1]", "b@host.org")]), "\n".join([*body[4:], *notices])])
    recipe = (Path(__file__).parents[1] / "workflows/fineweb.yaml").read_text()
    begin, end = recipe.index("    - ingest"), recipe.index("    - annotate")
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows/fineweb.yaml").write_text(f"{recipe[:begin]}    - ingest: {{jsonl: data/*.jsonl.gz}}\n{recipe[end:]}")
    Run(tmp_path / "workflows/fineweb.yaml", Context(Inline()), lambda line: None)()
    web = tmp_path / "runs/fineweb/web"
    (page,) = pq.read_table(next(max(web.iterdir()).glob("*.parquet"))).column("text").to_pylist()
    assert page.splitlines() == [*body, last.format("", "email@example.com")]
    (dropped,) = [row for file in web.glob("*/dropped/*.parquet") for row in pq.read_table(file).to_pylist()]
    assert dropped["reasons"] == ["few_sentences"], "the sentences of a line that is taken out do not count"


MEASURE = """\
import pyarrow as pa

def size(batch):
    return pa.StructArray.from_arrays([pa.array([1] * batch.num_rows, pa.int64())], names=["size"])
"""


def test_a_module_beside_a_users_file_is_found_whichever_is_planned_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "workflows/my_steps.py").write_text(MEASURE)
    (project / "workflows/my_module_beside.py").write_text(MEASURE)
    (project / "workflows/demo.yaml").write_text(
        "name: demo\nsources:\n"
        "  a:\n    - ingest: {files: data/notes/*.txt}\n    - edit: [fix_mojibake]\n    - annotate: ['./my_steps.py:size']\n"
        "  b:\n    - ingest: {files: data/notes/*.txt}\n    - annotate: ['my_module_beside:size']\n"
    )
    for _ in range(2):  # the second plans without checking
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(project / "workflows")])
        monkeypatch.delitem(sys.modules, "my_module_beside", raising=False)
        _module_at.cache_clear()
        measured = [row for file in run(project).glob("b/*-annotate/*.parquet") for row in pq.read_table(file).to_pylist()]
        assert [row["size"] for row in measured] == [{"size": 1}] * 2
