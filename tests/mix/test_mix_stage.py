"""The whole mix on a toy whose answer is known: one source helps, it is found, confirmed and written down, and nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import documents, write_corpus

from curate.corpus import verify
from curate.engine import Context, Inline
from curate.errors import InputError, SpecError
from curate.mix import flow
from curate.mix.stage import run_mix
from curate.project import Fingerprints
from curate.specs.load import load_spec
from curate.specs.mix import Mix, SolvedMix
from curate.specs.workflow import Tokenize, Workflow
from curate.tokens.stage import tokenize
from curate.workflow import Arguments, Project

SPEC = """
name: toy
target: {tokens: 20_000}
evals:
  sums: {file: evals/sums.jsonl}
swarm: {runs: 6, replicates: 1}
proxy: {layers: 1, width: 16, heads: 1, context: 32, tokens: 3072, batch_tokens: 128, learning_rate: 1e-2}
law: power
constraints: {max_repeats: 8}
confirm: {seeds: 2}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with token shards of two sources, of which the smaller holds what the suite asks for."""
    root = tmp_path_factory.mktemp("project")
    draw = np.random.default_rng(0)
    letters = [" ".join(draw.choice(list("abcdefghij"), 20)) for _ in range(300)]
    sums = [f"{i} plus {i + 1} is {2 * i + 1}, and that is all there is" for i in range(120)]
    corpora = {
        name: write_corpus(root / f"docs/{name}", {"a": [documents(texts, source=name)]}) for name, texts in (("letters", letters), ("sums", sums))
    }
    workflow = msgspec.convert({"name": "w", "sources": {"web": [{"ingest": {"jsonl": "x"}}]}}, Workflow)
    where = Project(root, root, root / "run", 0, Fingerprints(root / "f.json"), workflow)
    targets = {name: root / "tokens" / name for name in corpora}
    tokenize(Tokenize(vocab_size=280, train_megabytes=1), Arguments(corpora, targets, root / "tokens/together", where, Context(Inline()), print))
    (root / "evals").mkdir()
    (root / "evals/sums.jsonl").write_text(
        "\n".join(json.dumps({"text": f"{i} plus {i + 1} is {2 * i + 1}, and that is all"}) for i in range(200, 230))
    )
    (root / "mixes").mkdir()
    return root


def solve(project: Path, folder: Path, text: str = SPEC, name: str = "toy") -> list[str]:
    spec = project / f"mixes/{name}.yaml"
    spec.write_text(text)
    said: list[str] = []
    tokens = {source: project / "tokens" / source for source in ("letters", "sums")}
    run_mix(spec, tokens, project / "tokens/together/tokenizer.json", folder, Context(Inline()), said.append)
    return said


def outputs(folder: Path) -> dict[str, bytes]:
    kept = (".parquet", ".safetensors", ".yaml", ".txt")
    files = [p for p in sorted(folder.rglob("*")) if p.suffix in kept or (p.name in ("result.json", "proposal.json") and p.parent.name != "receipts")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_the_source_that_helps_is_found_confirmed_and_written_down(project: Path, tmp_path: Path) -> None:
    solve(project, tmp_path / "mix")
    mix = load_spec(tmp_path / "mix/toy.solved.yaml", SolvedMix)
    natural = mix.weights["sums"].natural
    assert (mix.verdict, mix.keep) == ("better", "solved")
    assert mix.weights["sums"].weight > natural + 0.1
    assert mix.weights["sums"].repeats == pytest.approx(mix.weights["sums"].weight * 20_000 / mix.weights["sums"].available_tokens, abs=1e-3)
    assert mix.scores["sums"].confirmed is not None and mix.scores["sums"].confirmed < 0
    assert sorted(mix.made_from) == ["spec", "tokens/letters", "tokens/sums"]
    assert "better than the natural one" in (tmp_path / "mix/verdict.txt").read_text()
    result = json.loads((tmp_path / "mix/result.json").read_text())
    assert len(result["runs"]) == 7
    assert {row["rival"] for row in result["comparison"]} == {"natural"}
    assert [verify(tmp_path / "mix" / name) for name in ("swarm", "proposal", "confirm")] == [[], [], []]
    solve(project, tmp_path / "again")
    assert outputs(tmp_path / "again") == outputs(tmp_path / "mix")


def test_a_rerun_trains_nothing_and_more_runs_keep_the_earlier_ones(project: Path, tmp_path: Path) -> None:
    solve(project, tmp_path / "mix")
    receipts = {path: path.stat().st_mtime_ns for path in (tmp_path / "mix").rglob("receipts/*.json")}
    solve(project, tmp_path / "mix")
    assert {path: path.stat().st_mtime_ns for path in receipts} == receipts
    solve(project, tmp_path / "mix", SPEC.replace("runs: 6", "runs: 7").replace("max_repeats: 8", "max_repeats: 6"))
    kept = [path for path in receipts if path.parent.parent.name == "swarm" and int(path.stem[4:]) < 6]
    assert len(kept) == 6
    assert {path: path.stat().st_mtime_ns for path in kept} == {path: receipts[path] for path in kept}


def test_what_cannot_be_is_said_before_anything_is_trained(project: Path, tmp_path: Path) -> None:
    cases = {
        "sources: [letters, maths]\n": (SpecError, "no source 'maths'"),
        "tokenizer: nowhere.json\n": (SpecError, "there is no tokenizer"),
    }
    for line, (kind, message) in cases.items():
        with pytest.raises(kind, match=message):
            solve(project, tmp_path / "mix", SPEC + line, "bad")
    with pytest.raises(SpecError, match="highest shares allowed add up to"):
        solve(project, tmp_path / "mix", SPEC.replace("20_000", "20_000_000"), "bad")
    with pytest.raises(SpecError, match=r"evals.sums: no such file"):
        solve(project, tmp_path / "mix", SPEC.replace("sums.jsonl", "none.jsonl"), "bad")
    with pytest.raises(SpecError, match="width 15 is not a multiple"):
        solve(project, tmp_path / "mix", SPEC.replace("width: 16", "width: 15"), "bad")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_runs_that_failed_are_left_out_and_said(project: Path) -> None:
    spec = msgspec.convert({"name": "m", "target": {"tokens": 50_000}, "evals": {"docs": "x"}, "swarm": {"runs": 10}, "law": "power"}, Mix)
    tokens = {"a": 30_000, "b": 20_000, "c": 5_000}
    runs = flow.plan_runs(spec, tokens)
    assert [run["run"] for run in runs[-2:]] == ["run-010", "run-011"]
    assert {run["seed"] for run in runs[:10]} == {0}
    scores: dict[str, dict[str, float] | None] = {r["run"]: {"docs": 2 - r["weights"]["c"] + 0.01 * r["seed"]} for r in runs}
    whole = flow.recommend(spec, tokens, runs, scores)
    scores["run-004"] = None
    found = flow.recommend(spec, tokens, runs, scores)
    assert found["warnings"][-1] == "1 of 12 proxies diverged and were left out: run-004"
    assert len(found["laws"]["docs"]["measured"]) == 9
    assert found["weights"]["c"] == pytest.approx(0.4, abs=0.01)
    assert whole["laws"]["docs"]["noise"] == pytest.approx(0.01, rel=1e-6)
    with pytest.raises(InputError, match="only 3 of 12 proxies trained without failing"):
        flow.recommend(spec, tokens, runs, {name: score if i < 3 else None for i, (name, score) in enumerate(scores.items())})
