"""The whole mix on a toy whose answer is known: one source helps, it is found, confirmed and written down, and nothing is done twice."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from conftest import documents, write_corpus

from curate.cli import _mix_verdicts
from curate.corpus import read_manifest, verify, write_json
from curate.engine import Context, Inline, Work, make_plan
from curate.errors import InputError, SpecError
from curate.mix import data, flow, stage
from curate.mix.conclude import conclude
from curate.mix.data import Data
from curate.mix.estimate import estimate
from curate.mix.evaluate import SCORES
from curate.mix.fitted import fit_swarm
from curate.mix.limits import Traits
from curate.mix.setting import Setting
from curate.mix.solved import write_solved
from curate.mix.stage import run_mix
from curate.project import Fingerprints
from curate.report.mixing import mix as report_of
from curate.specs.load import load_spec
from curate.specs.mix import Constraints, Mix, SolvedMix
from curate.specs.workflow import Tokenize, Workflow
from curate.tasks import hash_of
from curate.tokens.stage import tokenize
from curate.verbs.mix_tables import print_plan, print_result, read_result
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


def third(project: Path, tmp_path: Path) -> Path:
    """Return the token shards of a third source: a copy of the letters, since no folder may be in two sources."""
    return shutil.copytree(project / "tokens/letters", tmp_path / "tokens/letters")


def solve(project: Path, folder: Path, text: str = SPEC, name: str = "toy", until: str = "confirm") -> list[str]:
    spec = project / f"mixes/{name}.yaml"
    spec.write_text(text)
    said: list[str] = []
    tokens = {source: project / "tokens" / source for source in ("letters", "sums")}
    run_mix(spec, tokens, project / "tokens/together/tokenizer.json", folder, Context(Inline()), said.append, until)
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
    assert sorted(mix.made_from) == ["evals/sums", "spec", "tokenizer", "tokens/letters", "tokens/sums"]
    assert mix.made_from["spec"] == hash_of(mix.spec) and mix.spec["proxy"]["width"] == 16
    assert "better than the natural one" in (tmp_path / "mix/verdict.txt").read_text()
    result = json.loads((tmp_path / "mix/result.json").read_text())
    assert [run["run"] for run in result["runs"]] == [*(f"run-00{i}" for i in range(6)), "repeat-1"]
    assert {row["rival"] for row in result["comparison"]} == {"natural", "uniform"}
    for name in ("swarm/1/proxies", "swarm/1/scores/sums", "laws", "fit", "proposal", "confirm/proxies", "confirm/scores/sums"):
        assert verify(tmp_path / "mix" / name) == []
    solve(project, tmp_path / "again")
    assert outputs(tmp_path / "again") == outputs(tmp_path / "mix")


def receipts(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("receipts/*.json")}


def trained(before: dict[Path, int], folder: Path) -> set[str]:
    """The proxies that were trained since `before`."""
    return {path.stem for path, time in receipts(folder).items() if path.parent.parent.name == "proxies" and before.get(path) != time}


def test_a_rerun_does_nothing_and_more_runs_keep_the_earlier_ones(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solve(project, tmp_path / "mix")
    before, remembered = receipts(tmp_path / "mix"), (tmp_path / "mix/swarm/runs.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(flow, "plan_runs", lambda setting: pytest.fail("the runs were planned again"))
        solve(project, tmp_path / "mix")
    assert receipts(tmp_path / "mix") == before
    for damaged in (b"", b"[]", b'{"asked": 1}', remembered[:-40]):
        (tmp_path / "mix/swarm/runs.json").write_bytes(damaged)
        solve(project, tmp_path / "mix")
        assert receipts(tmp_path / "mix") == before
        assert (tmp_path / "mix/swarm/runs.json").read_bytes() == remembered
    solve(project, tmp_path / "mix", SPEC.replace("runs: 6", "runs: 7"), until="train")
    assert trained(before, tmp_path / "mix") == {"run-006"}


def test_runs_that_are_added_leave_the_groups_of_earlier_ones_alone(project: Path, tmp_path: Path) -> None:
    spec = SPEC.replace("swarm: {", "swarm: {group: 4, ")
    solve(project, tmp_path / "mix", spec, until="train")
    before = receipts(tmp_path / "mix")
    assert {path.stem for path in before if "proxies" in str(path)} == {"run-000", "run-003"}  # seven proxies in groups of three and four
    solve(project, tmp_path / "mix", spec.replace("runs: 6", "runs: 9"), until="train")
    assert trained(before, tmp_path / "mix") == {"run-006"}
    manifest = read_manifest(tmp_path / "mix/swarm/1/proxies")
    assert sorted(manifest.files) == [f"{name}.safetensors" for name in sorted(["repeat-1", *(f"run-{i:03d}" for i in range(9))])]


def test_groups_are_of_equal_sizes_and_only_what_was_begun_stays_together(tmp_path: Path) -> None:
    runs: list[flow.Run] = [{"run": f"run-{i}", "weights": {"a": 1.0}} for i in range(10)]
    assert [len(group) for group in stage.grouped(runs, tmp_path, lambda count: 4)] == [3, 3, 4]
    plan = make_plan("train", "x:y", tmp_path, {}, {}, [Work(f"run-{i}", [], [], {"runs": runs[i : i + 5]}) for i in (0, 5)])
    write_json(tmp_path / "plan.json", plan)
    assert [len(group) for group in stage.grouped(runs, tmp_path, lambda count: 2)] == [2] * 5  # planned, and never begun
    (tmp_path / "checkpoints").mkdir()
    for name in ("run-0", "run-5"):
        (tmp_path / f"checkpoints/{name}.pt").touch()
    changed = [run | ({"weights": {"a": 0.5}} if run["run"] == "run-7" else {}) for run in runs]
    groups = stage.grouped(changed, tmp_path, lambda count: 3)
    assert groups == [changed[:5], changed[5:7], changed[7:]]


def test_a_changed_limit_or_law_trains_and_scores_nothing_and_a_new_suite_is_scored_alone(project: Path, tmp_path: Path) -> None:
    solve(project, tmp_path / "mix", until="solve")
    before = receipts(tmp_path / "mix")
    solve(project, tmp_path / "mix", SPEC.replace("max_repeats: 8", "max_repeats: 3").replace("law: power", "law: ridge"), until="solve")
    changed = {path.relative_to(tmp_path / "mix").as_posix() for path, time in receipts(tmp_path / "mix").items() if before.get(path) != time}
    assert changed == {"laws/receipts/sums.json", "fit/receipts/fit.json", "proposal/receipts/proposal.json"}
    (project / "evals/letters.jsonl").write_text('{"text": "a b c d e f g"}\n{"text": "j i h g f"}\n')
    before = receipts(tmp_path / "mix")
    solve(project, tmp_path / "mix", SPEC.replace("evals:\n", "evals:\n  letters: evals/letters.jsonl\n"), until="solve")
    changed = {path.relative_to(tmp_path / "mix").as_posix() for path, time in receipts(tmp_path / "mix").items() if before.get(path) != time}
    assert {path for path in changed if "proxies" in path or "scores/sums" in path} == set()
    assert len([path for path in changed if path.startswith("swarm/1/scores/letters/")]) == 7
    assert json.loads((tmp_path / "mix/fit/laws.json").read_text()).keys() == {"letters", "sums"}


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
    own = f"tokenizer: {project}/tokens/together/tokenizer.json\nsources: {{sums: {project}/tokens/sums, other: FOLDER}}\n"
    with pytest.raises(SpecError, match=r"sources.other: no such folder"):
        solve(project, tmp_path / "mix", SPEC + own.replace("FOLDER", "nowhere"), "bad")
    with pytest.raises(InputError, match=r"no tokens in other\nhint: they must be folders that a tokenize step wrote"):
        solve(project, tmp_path / "mix", SPEC + own.replace("FOLDER", str(project / "docs/letters")), "bad")
    with pytest.raises(SpecError, match=r"constraints.sources.sums: min 0.9 .* max_repeats is 1"):
        solve(project, tmp_path / "mix", SPEC.replace("{max_repeats: 8}", "{max_repeats: 1, sources: {sums: {min: 0.9}}}"), "bad")
    (project / "evals/empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="the suite 'sums' has no items"):
        solve(project, tmp_path / "mix", SPEC.replace("sums.jsonl", "empty.jsonl"), "bad")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_runs_that_failed_are_left_out_and_said() -> None:
    spec = msgspec.convert({"name": "m", "target": {"tokens": 50_000}, "evals": {"docs": "x"}, "swarm": {"runs": 10}, "law": "power"}, Mix)
    setting = Setting(spec, {"a": 30_000, "b": 20_000, "c": 5_000}, dict.fromkeys("abc", Traits()))
    runs = flow.plan_runs(setting)
    assert [run["run"] for run in runs[-3:]] == ["run-009", "repeat-1", "repeat-2"]
    assert {run["seed"] for run in runs[:10]} == {0}
    scores: dict[str, dict[str, float] | None] = {r["run"]: {"docs": 2 - r["weights"]["c"] + 0.01 * r["seed"]} for r in runs}
    swarm, repeats = flow.swarm_of(runs, scores, ["docs"], {})
    assert flow.noise_of(repeats)["docs"] == pytest.approx(0.01, rel=1e-6)
    laws = fit_swarm(swarm, "power")
    found = flow.recommend(flow.problem_of(setting, swarm, laws), swarm, "power", setting)
    assert found["weights"]["c"] == pytest.approx(0.4, abs=0.01)  # its limit: 4 repeats of 5,000 tokens
    scores["run-004"] = None
    assert flow.failures(runs, scores) == ["1 of 12 proxies diverged and were left out: run-004"]
    assert "run-004" not in flow.swarm_of(runs, scores, ["docs"], {})[0].runs
    with pytest.raises(InputError, match="only 3 of 12 proxies trained without failing; 5 are needed"):
        flow.swarm_of(runs, {name: score if i < 3 else None for i, (name, score) in enumerate(scores.items())}, ["docs"], {})


LIMITED = {"name": "m", "target": {"tokens": 40_000}, "evals": {"docs": "x"}, "swarm": {"runs": 10}, "law": "power"}


def limited(constraints: dict[str, Any], **more: Any) -> tuple[Setting, dict[str, Any]]:
    """Return a setting of three sources, and the proposal of a swarm that c helps."""
    spec = msgspec.convert({**LIMITED, "constraints": constraints}, Mix)
    setting = Setting(spec, {"a": 30_000, "b": 20_000, "c": 25_000}, dict.fromkeys("abc", Traits()), **more)
    runs = flow.plan_runs(setting)
    swarm, _ = flow.swarm_of(runs, {run["run"]: {"docs": 2 - run["weights"]["c"]} for run in runs}, ["docs"], setting.kept)
    swarm = flow.reduced(swarm, setting.kept)
    return setting, flow.recommend(flow.problem_of(setting, swarm, fit_swarm(swarm, "ridge")), swarm, "ridge", setting)


def test_a_natural_mix_that_limits_forbid_is_neither_rival_nor_kept() -> None:
    """What is kept when nothing is better must be allowed: the nearest mix to the natural one, which is what is trained and compared."""
    setting, proposal = limited({"sources": {"a": {"max": 0.1}}})
    assert proposal["natural"] == pytest.approx({"a": 0.1, "b": 0.4, "c": 0.5}, abs=1e-5)
    (note,) = [note for note in proposal["warnings"] if "not allowed" in note]
    assert note.startswith(
        "the natural mix (a 40.0 %, b 26.7 %, c 33.3 %) is not allowed: a at most 0.1. `natural` is the nearest mix that is (a 10.0 %"
    )
    confirming = {run["run"]: run["weights"] for run in flow.plan_confirm(setting, proposal, {})}
    assert confirming["natural-0"] == pytest.approx(proposal["natural"], abs=1e-6)
    rows = [{"suite": "docs", "item": i, "bits": 100.0, "bytes": 100, "right": None} for i in range(30)]
    solved, _, words = conclude(setting, proposal, dict.fromkeys(confirming, pa.Table.from_pylist(rows, SCORES)), {})
    assert solved.keep == "natural" and "keep the natural mix" in words
    assert {name: source.weight for name, source in solved.weights.items()} == pytest.approx({"a": 0.1, "b": 0.4, "c": 0.5}, abs=1e-5)
    _, same = limited({})
    assert same["natural"] == {"a": 0.4, "b": pytest.approx(4 / 15), "c": pytest.approx(1 / 3)}
    assert not any("natural" in note for note in same["warnings"] if "not allowed" in note)


def test_what_earlier_phases_have_read_counts_for_the_natural_mix_too() -> None:
    _, proposal = limited({"max_repeats": 1}, used={"a": 30_000, "b": 0, "c": 0})
    assert proposal["natural"] == pytest.approx({"a": 0.0, "b": 4 / 9, "c": 5 / 9}, abs=1e-5)


def test_with_reused_ratios_natural_is_one_mix_everywhere() -> None:
    setting, proposal = limited({}, kept={"a": 0.1, "b": 0.9})
    natural = {"a": 0.1 * 2 / 3, "b": 0.9 * 2 / 3, "c": 1 / 3}
    runs = flow.plan_runs(setting)
    assert runs[0]["weights"] == pytest.approx(natural, abs=1e-6) and runs[-1]["weights"] == runs[0]["weights"]
    assert proposal["natural"] == pytest.approx(natural, abs=1e-9)
    assert proposal["predictions"]["docs"]["natural"] == pytest.approx(2 - 1 / 3, abs=0.01)
    confirming = {run["run"]: run["weights"] for run in flow.plan_confirm(setting, proposal, {})}
    assert confirming["natural-0"] == runs[0]["weights"]
    assert "`natural` has the reused ratios; without them it would be a 40.0 %, b 26.7 %, c 33.3 %" in proposal["warnings"]


def test_a_sequential_swarm_adds_rounds_until_its_rule_stops_it(project: Path, tmp_path: Path) -> None:
    text = SPEC.replace("swarm: {runs: 6, replicates: 1}", "swarm: {runs: 5, replicates: 1, batch: 2, max_runs: 8}")
    said = solve(project, tmp_path / "mix", text, until="fit")
    rounds = sorted(path.parent.name for path in (tmp_path / "mix/swarm").glob("*/proxies"))
    plans = [json.loads(path.read_text()) for path in sorted((tmp_path / "mix/swarm").glob("*/round/round.json"))]
    assert len(plans) == len(rounds)  # the last one says why there is no other
    assert [len(plan["runs"]) > 0 for plan in plans] == [True] * (len(rounds) - 1) + [False]
    assert all(f"mix toy: {plan['why']}" in said for plan in plans)
    lines = (tmp_path / "mix/fit/ratios.csv").read_text().splitlines()
    assert len(lines) - 1 == 5 + sum(len(plan["runs"]) for plan in plans) <= 8
    before = receipts(tmp_path / "mix")
    solve(project, tmp_path / "mix", text, until="fit")
    assert receipts(tmp_path / "mix") == before


def planned(project: Path, swarm: str) -> dict[str, Any]:
    """Return the summary of `curate mix plan` for the mix of this module with another swarm."""
    own = f"sources: {{letters: {project}/tokens/letters, sums: {project}/tokens/sums}}\ntokenizer: {project}/tokens/together/tokenizer.json\n"
    (project / "mixes/further.yaml").write_text(SPEC.replace("{runs: 6, replicates: 1}", swarm) + own)
    summary: dict[str, Any] = estimate(project / "mixes/further.yaml")["summary"]
    return summary


@pytest.mark.parametrize(("more", "most"), [("", 30 - 5), (", max_runs: 8", 8 - 5), (", max_runs: 4", 0)])
def test_a_plan_says_how_many_runs_may_follow_and_what_they_cost(project: Path, monkeypatch: pytest.MonkeyPatch, more: str, most: int) -> None:
    monkeypatch.setattr("curate.mix.estimate._tokens_per_second", lambda *_: 3072 / 60)  # a run a minute, on all cores together
    monkeypatch.setattr("curate.mix.estimate.num_gpus", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    found = planned(project, f"{{runs: 5, replicates: 1, batch: 3{more}}}")
    assert found.get("further runs, at most", 0) == most
    further = [row for row in found if "of further runs" in row]
    assert found["tokens in all"] == (6 + 6) * 3072 and len(further) == (3 if most else 0)
    if most:
        assert found["tokens of further runs, at most"] == most * 3072
        each = float(found["floating-point operations"]) / 12
        assert float(found["floating-point operations of further runs, at most"]) == pytest.approx(most * each, rel=0.01)
        assert found["minutes of further runs, at most"] == -(-most // 3) * 4  # rounds of three runs, two by two: as long as four


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.mix.estimate._tokens_per_second", lambda *_: 3072 / 60)


def own(project: Path) -> str:
    return f"sources: {{letters: {project}/tokens/letters, sums: {project}/tokens/sums}}\ntokenizer: {project}/tokens/together/tokenizer.json\n"


@pytest.mark.usefixtures("fast")
def test_a_plan_reads_the_suites_and_says_how_large_they_are(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SPEC + own(project) + PHASE + ", evals: {ends: evals/ends.jsonl}}\n- {name: more, target: {tokens: 10}}\n"
    rows = [{"question": "1 plus 1", "choices": ["2", "drei"], "answer": "B"}, {"question": "2 plus 2", "choices": ["4", "5"], "answer": 0}]
    (project / "evals/ends.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (project / "mixes/sizes.yaml").write_text(text)
    found = estimate(project / "mixes/sizes.yaml")
    summary = found["summary"]
    sums = sum(len(json.loads(line)["text"]) for line in (project / "evals/sums.jsonl").read_text().splitlines())
    assert summary["suites"] == {"sums": {"items": 30, "bytes": sums}}
    assert summary["suites of later phases"] == {"end": {"ends": {"items": 2, "bytes": len(" drei 4")}}}  # of right answers
    assert set(summary["sources"]) == {"letters", "sums"} == set(found["natural"])
    assert sum(found["natural"].values()) == pytest.approx(1)
    numbers = [summary[key] for key in ("floating-point operations", "memory of a worker", "minutes on this machine")]
    assert all(isinstance(number, (int, float)) and number > 0 for number in [*numbers, *summary["sources"].values()])
    assert [key for key, value in summary.items() if isinstance(value, str)] == []  # words only where they say what no number says
    print_plan(found)
    told = capsys.readouterr().out
    for part in (
        f"sums (30 items, {sums:,} bytes)",
        "end: ends (2 items, 7 bytes)",
        "about 4",
        f"letters ({summary['sources']['letters']:,} tokens)",
    ):
        assert part in told
    assert max(map(len, told.splitlines())) <= 120


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("line", "message"),
    [("", "the suite 'sums' has no items"), ('{"body": "a"}', r"bad.jsonl:1: has no field 'text'"), ("{", r"bad.jsonl:1: is not JSON")],
)
@pytest.mark.parametrize("where", ["mix", "phase"])
def test_a_plan_ends_with_what_is_wrong_with_a_suite(project: Path, line: str, message: str, where: str) -> None:
    (project / "evals/bad.jsonl").write_text(line + "\n")
    text = SPEC.replace("sums.jsonl", "bad.jsonl") if where == "mix" else SPEC + PHASE + ", evals: {sums: evals/bad.jsonl}}\n"
    (project / "mixes/bad.yaml").write_text(text + own(project))
    with pytest.raises(InputError, match=message):
        estimate(project / "mixes/bad.yaml")


def test_a_round_has_as_many_runs_as_the_plan_says_may_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sources, so 40 runs at most."""
    rule = msgspec.defstruct("Rule", [("stop", bool, False), ("expected_gain", float, 1.0), ("noise", float, 0.1), ("why", str, "go on")])
    monkeypatch.setattr(flow.solve, "solve", lambda _: None)
    monkeypatch.setattr(flow.sequential, "should_stop", lambda *_: rule())
    monkeypatch.setattr(flow.sequential, "propose_runs", lambda _, count, __: [np.full(3, 1 / 3)] * count)
    spec = msgspec.convert(LIMITED | {"swarm": {"batch": 6}}, Mix)
    setting = Setting(spec, {"a": 30_000, "b": 20_000, "c": 25_000}, dict.fromkeys("abc", Traits()))
    problem: Any = None
    assert [len(flow.plan_round(setting, problem, {}, done)["runs"]) for done in (12, 36, 40, 41)] == [6, 4, 0, 0]
    assert flow.most_runs(setting) == 40
    assert flow.most_runs(msgspec.structs.replace(setting, kept={"a": 0.5, "b": 0.5})) == 30  # two coordinates


def test_a_source_added_later_is_solved_with_the_old_ones_as_a_block(project: Path, tmp_path: Path) -> None:
    solve(project, tmp_path / "mix")
    folder = project / "mixes"
    (folder / "toy.solved.yaml").write_text((tmp_path / "mix/toy.solved.yaml").read_text())
    (project / "evals/letters.jsonl").write_text('{"text": "a b c d e f g"}\n{"text": "j i h g f"}\n')
    solved = load_spec(folder / "toy.solved.yaml", SolvedMix)
    more = {"letters": project / "tokens/letters", "sums": project / "tokens/sums", "again": third(project, tmp_path)}
    spec = folder / "more.yaml"
    spec.write_text(SPEC.replace("runs: 6", "runs: 5").replace("name: toy", "name: more") + "reuse: mixes/toy.solved.yaml\n")
    run_mix(spec, more, project / "tokens/together/tokenizer.json", tmp_path / "more", Context(Inline()), print, "solve")
    found = json.loads((tmp_path / "more/proposal/proposal.json").read_text())
    assert found["coordinates"] == ["(reused)", "again"]
    old = solved.weights["sums"].weight / solved.weights["letters"].weight
    assert found["weights"]["sums"] / found["weights"]["letters"] == pytest.approx(old, rel=1e-3)
    assert found["low"]["sums"] <= found["weights"]["sums"] <= found["high"]["sums"]
    assert load_spec(tmp_path / "more/proposal/more.proposed.yaml", SolvedMix).made_from["reuse"]
    spec.write_text(SPEC.replace("name: toy", "name: same") + "reuse: mixes/toy.solved.yaml\n")
    with pytest.raises(SpecError, match="reuse: all sources are as they were"):
        run_mix(spec, dict(list(more.items())[:2]), project / "tokens/together/tokenizer.json", tmp_path / "same", Context(Inline()), print)


def test_a_later_phase_starts_where_the_mix_ended_and_counts_what_was_read(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SPEC.replace("target: {tokens: 20_000}", "target: {tokens: 12_000}")
    text += "phases:\n- {name: end, target: {tokens: 6_000}, min_document_tokens: 20, learning_rate: 3e-3}\n"
    solve(project, tmp_path / "mix", text, until="confirm")
    first = load_spec(tmp_path / "mix/toy.solved.yaml", SolvedMix)
    second = load_spec(tmp_path / "mix/phases/end/toy-end.solved.yaml", SolvedMix)
    assert second.target_tokens == 6_000
    assert second.weights["sums"].available_tokens <= first.weights["sums"].available_tokens
    long = second.weights["sums"].available_tokens / first.weights["sums"].available_tokens  # of what was read, so much is in long documents
    left = 8 * second.weights["sums"].available_tokens - first.weights["sums"].weight * 12_000 * long
    assert second.weights["sums"].weight * 6_000 <= left + 1
    plan = json.loads((tmp_path / "mix/phases/end/swarm/1/proxies/plan.json").read_text())
    run = plan["tasks"][0]["options"]["runs"][0]
    assert run["start"].endswith(f"confirm/proxies/{first.keep}-0.safetensors")
    assert (run["proxy"]["learning_rate"], run["min_document_tokens"]) == (3e-3, 20)
    losses = [note["reports"] for note in read_manifest(tmp_path / "mix/phases/end/swarm/1/proxies").notes.values()]
    begin = [report["losses"][0] for note in losses for report in note.values()]
    scratch = [note["reports"] for note in read_manifest(tmp_path / "mix/swarm/1/proxies").notes.values()]
    assert max(begin) < min(report["losses"][0] for note in scratch for report in note.values())  # it did not begin at random
    found = read_result(tmp_path / "mix")
    assert found["phases"]["end"]["solved"]["target_tokens"] == 6_000
    capsys.readouterr()
    print_result(found)
    first_told, then_told = capsys.readouterr().out.split("\nphase end\n")
    assert found["verdict"] in first_told
    assert found["phases"]["end"]["verdict"] in then_told


def test_phases_are_told_in_the_order_of_the_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written(folder: Path, spec: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        solved = {"name": folder.name, "weights": {}, "scores": {}, "keep": "solved", "spec": spec}
        nothing: dict[str, Any] = {"weights": {}, "natural": {}, "laws": {}, "gain": [0.1, 0.0, 0.2]}
        nothing["sensitivity"] = {
            "flat": {"ranges": {}},
            "sentences": [],
            "suites": {},
            "curve": [{"distance": 0.1, "gain": [0.1, 0.0, 0.2], "pull": 0.0}],
        }
        write_json(folder / "result.json", {"solved": solved, "proposal": nothing, "comparison": [], "verdict": f"of {folder.name}", "runs": [{}]})
        (folder / "verdict.txt").write_text(f"of {folder.name}\n")

    names = ["middle", "end", "long"]
    written(tmp_path / "mix", {"phases": [{"name": name} for name in [*names, "never"]]})
    for name in [*names, "gone"]:  # which a later spec left out
        written(tmp_path / "mix/phases" / name, {"phases": []})
    found = read_result(tmp_path / "mix")
    assert list(found["phases"]) == names
    print_result(found)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("of ")] == ["of mix", *(f"of {name}" for name in names)]
    assert _mix_verdicts(tmp_path / "mix") == ["of mix", *(f"phase {name}\nof {name}" for name in names)]
    section = report_of(tmp_path / "mix")
    assert section is not None and [phase["name"] for phase in section["phases"]] == names
    result = json.loads((tmp_path / "mix/result.json").read_text())
    write_json(tmp_path / "mix/result.json", result | {"solved": result["solved"] | {"spec": {}}})  # as an older version wrote it
    assert list(read_result(tmp_path / "mix")["phases"]) == ["end", "gone", "long", "middle"]
    assert _mix_verdicts(tmp_path / "nowhere") == []


def test_what_was_read_counts_against_the_documents_that_it_was_read_from() -> None:
    everything = [("books", 900, 1000), ("code", 100, 500)]
    assert stage.used_of(everything, {"books": 1000, "code": 500}) == {"books": 900, "code": 100}
    long = {"books": 100, "math": 7}  # tokens in long documents, which were read as often as the others
    assert stage.used_of(everything, long) == {"books": 90, "math": 0}
    assert stage.used_of([*everything, ("books", 50, 100)], long) == {"books": 140, "math": 0}
    assert stage.used_of([*everything, ("books", 50, 100)], {"books": 1000}) == {"books": 950}


PHASE = "phases:\n- {name: end, target: {tokens: 6_000}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PHASE + ", min_document_tokens: 5_000}\n", r"phases.end: no document of letters has 5,000 tokens"),
        (PHASE + ", context: 256}\n", r"phases.end: batch_tokens 128 hold no sequence of 256 tokens"),
        (PHASE + ", evals: {sums: evals/broken.jsonl}}\n", r"broken.jsonl:1: has no field 'text'"),
        (PHASE + ", constraints: {max_repeats: 0.1}}\n", r"phases.end: constraints: the highest shares allowed add up to"),
        (PHASE.replace("6_000", "60_000_000") + "}\n", r"phases.end: constraints: the highest shares allowed add up to"),
    ],
)
def test_what_a_phase_cannot_do_is_said_before_anything_is_trained(project: Path, tmp_path: Path, text: str, message: str) -> None:
    (project / "evals/broken.jsonl").write_text('{"body": "a"}\n')
    with pytest.raises((SpecError, InputError), match=message):
        solve(project, tmp_path / "mix", SPEC + text, "bad", "train")
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (", constraints: {sources: {zz: {min: 0.1}}}}", r"bad.yaml:\d+: phase 'end': constraints name the source 'zz'.*\nhint: known: letters, sums"),
        (", evals: {sums: {file: evals/sums.jsonl, weight: 0}}}", r"bad.yaml:14: phase 'end': all suites have weight 0: .* at phases\[0\]"),
    ],
)
def test_a_phase_that_cannot_be_solved_is_refused_with_the_spec(project: Path, tmp_path: Path, text: str, message: str) -> None:
    own = f"sources: {{letters: {project}/tokens/letters, sums: {project}/tokens/sums}}\ntokenizer: {project}/tokens/together/tokenizer.json\n"
    (project / "mixes/bad.yaml").write_text(SPEC + own + PHASE + text + "\n")
    with pytest.raises(SpecError, match=message):
        estimate(project / "mixes/bad.yaml")
    if "zz" in text:  # whose sources are those of a workflow
        with pytest.raises(SpecError, match=r"phases.end: constraints.sources: constraints name the source 'zz'.*\nhint: known: letters, sums"):
            solve(project, tmp_path / "mix", SPEC + PHASE + text + "\n", "bad", "train")


def test_rivals_of_other_sources_are_refused_before_anything_is_trained(project: Path, tmp_path: Path) -> None:
    one = {"weight": 0.5, "solved": 0.5, "low": 0.4, "high": 0.6, "natural": 0.5, "available_tokens": 9, "repeats": 1.0}
    facts = {"name": "old", "verdict": "better", "keep": "solved", "target_tokens": 9, "scores": {}, "predicted_gain": (0.1, 0.0, 0.2)}
    for name, sources in {"old": ("letters", "sums"), "less": ("letters", "maths")}.items():
        solved = msgspec.convert(facts | {"weights": dict.fromkeys(sources, one)}, SolvedMix)
        write_solved(project / f"mixes/{name}.solved.yaml", solved)
    rival = SPEC.replace("confirm: {", "confirm: {against: [natural, mixes/less.solved.yaml], ")
    with pytest.raises(SpecError, match=r"bad.yaml: the rival 'less' is a mix of letters, maths, not of letters, sums\nhint: .*leave it out"):
        solve(project, tmp_path / "mix", rival, "bad", "train")
    own = f"sources: {{letters: {project}/tokens/letters, sums: {project}/tokens/sums, more: {third(project, tmp_path)}}}\n"
    own += f"tokenizer: {project}/tokens/together/tokenizer.json\n" + PHASE + ", sources: [letters, sums]}\n"
    spec = project / "mixes/bad.yaml"
    for other in ("old", "three"):
        write_solved(
            project / "mixes/three.solved.yaml",
            msgspec.convert(facts | {"weights": dict.fromkeys(("letters", "more", "sums"), one | {"weight": 1 / 3})}, SolvedMix),
        )
        spec.write_text(rival.replace("less", other) + own)
        where = "bad.yaml" if other == "old" else "bad.yaml: phases.end"
        with pytest.raises(SpecError, match=f"{where}: the rival '{other}' is a mix of"):
            estimate(spec)


def test_a_phase_without_the_sources_of_a_group_has_no_limit_for_it() -> None:
    text = {"name": "m", "target": {"tokens": 3_000_000}, "evals": {"docs": "x"}, "constraints": {"groups": {"science": {"min": 0.05}}}}
    spec = msgspec.convert(text | {"phases": [{"name": "end", "target": {"tokens": 100_000}, "sources": ["books", "code"]}]}, Mix)
    tokens = {"books": 1_000_000, "code": 2_000_000, "papers": 400_000}
    traits = {"books": Traits(), "code": Traits(), "papers": Traits("science")}
    data = Data({name: [] for name in tokens}, tokens, dict.fromkeys(tokens, ""), traits, Path("x"), {})
    ((setting, _),) = stage.plan_phases(spec, Path("m.yaml"), data, {})
    assert setting.spec.constraints.groups == {} and spec.constraints.groups
    assert len(flow.plan_runs(setting)) == 11
    made = msgspec.structs.replace(spec, constraints=Constraints(max_synthetic=0.2))
    some = msgspec.structs.replace(data, traits=traits | {"papers": Traits(synthetic=True)})
    ((setting, _),) = stage.plan_phases(made, Path("m.yaml"), some, {})
    assert setting.spec.constraints.max_synthetic is None  # nor for synthetic text, of which the phase has none
    own = [msgspec.structs.replace(made.phases[0], constraints=made.constraints)]
    with pytest.raises(SpecError, match=r"phases.end: constraints.max_synthetic: it limits nothing"):
        stage.plan_phases(msgspec.structs.replace(made, phases=own), Path("m.yaml"), some, {})


def test_a_phase_names_whole_sources_and_the_hint_does_too() -> None:
    text = {"name": "m", "target": {"tokens": 100_000}, "evals": {"docs": "x"}}
    tokens = {"books": 1_000_000, "web.bad": 1_000_000, "web.good": 1_000_000}
    traits = {"books": Traits(), "web.bad": Traits(source="web"), "web.good": Traits(source="web", rank=1)}
    data = Data({name: [] for name in tokens}, tokens, dict.fromkeys(tokens, ""), traits, Path("x"), {})
    for name, hint in {"web.good": "it is a bucket of web, .*: name 'web'", "web.goo": "did you mean 'web'", "bookz": "did you mean 'books'"}.items():
        spec = msgspec.convert(text | {"phases": [{"name": "end", "target": {"tokens": 1_000}, "sources": ["books", name]}]}, Mix)
        with pytest.raises(SpecError, match=rf"phases.end.sources: the mix has no source '{name}'\nhint: {hint}"):
            stage.plan_phases(spec, Path("m.yaml"), data, {})


def phased(phase: dict[str, Any], **more: Any) -> tuple[Setting, Data]:
    """Plan one phase of a mix of two sources, of which there are 2,000 tokens."""
    text = {"name": "m", "target": {"tokens": 7_000}, "evals": {"docs": "x"}, "phases": [{"name": "end", **phase}], **more}
    tokens = {"a": 500, "b": 1_500}
    data = Data({name: [] for name in tokens}, tokens, dict.fromkeys(tokens, ""), dict.fromkeys(tokens, Traits()), Path("x"), {})
    ((setting, inside),) = stage.plan_phases(msgspec.convert(text, Mix), Path("m.yaml"), data, {})
    return setting, inside


def test_a_phase_that_cannot_have_its_tokens_whatever_is_read_before_it_is_refused() -> None:
    message = r"phases.end: 1,000 tokens are left by max_repeats at most, after what is read before it; it wants 2,000"
    with pytest.raises(SpecError, match=message):
        phased({"target": {"tokens": 2_000}})
    assert phased({"target": {"tokens": 1_000}})[0].spec.target.tokens == 1_000
    assert phased({"target": {"tokens": 2_000}, "constraints": {"max_repeats": 5}})[0].spec.target.tokens == 2_000


def test_a_phase_is_confirmed_at_its_own_rate_and_context() -> None:
    confirm = {"proxy": {"tokens": 9_000_000}}
    setting, _ = phased({"target": {"tokens": 1_000}, "learning_rate": 1e-3, "context": 1024}, confirm=confirm)
    proposal = {"weights": {"a": 0.5, "b": 0.5}}
    for run in flow.plan_confirm(setting, proposal, {}):
        assert (run["proxy"]["learning_rate"], run["proxy"]["context"], run["proxy"]["tokens"]) == (1e-3, 1024, 9_000_000)


def test_a_natural_mix_that_is_not_allowed_is_said_before_anything_is_trained(project: Path, tmp_path: Path) -> None:
    text = SPEC.replace("{max_repeats: 8}", "{max_repeats: 8, sources: {letters: {max: 0.3}}}")
    said = solve(project, tmp_path / "mix", text, "narrow", "train")
    (note,) = [line for line in said if "not allowed" in line]
    assert note.startswith("mix toy: the natural mix (letters ") and "letters at most 0.3" in note
    own = f"sources: {{letters: {project}/tokens/letters, sums: {project}/tokens/sums}}\ntokenizer: {project}/tokens/together/tokenizer.json\n"
    (project / "mixes/narrow.yaml").write_text(text + own)
    assert "letters at most 0.3" in estimate(project / "mixes/narrow.yaml")["summary"]["natural"]


def test_phases_and_confirming_proxies_of_another_shape_are_refused_with_the_spec(tmp_path: Path) -> None:
    larger = "confirm: {proxy: {layers: 1, width: 32, heads: 1, context: 32, tokens: 3072, batch_tokens: 128}}"
    (tmp_path / "m.yaml").write_text(SPEC.replace("confirm: {seeds: 2}", larger) + PHASE + "}\n")
    with pytest.raises(SpecError, match=r"phases go on from the confirming proxies.*\nhint: leave confirm.proxy out"):
        load_spec(tmp_path / "m.yaml", Mix)
    (tmp_path / "m.yaml").write_text(SPEC.replace("confirm: {seeds: 2}", larger.replace("width: 32", "width: 16")) + PHASE + "}\n")
    assert load_spec(tmp_path / "m.yaml", Mix).phases
    (tmp_path / "m.yaml").write_text(SPEC + PHASE + "}\n" + PHASE.removeprefix("phases:\n") + "}\n")
    with pytest.raises(SpecError, match="two phases have the same name"):
        load_spec(tmp_path / "m.yaml", Mix)


def test_quality_buckets_are_repeated_the_more_the_better_they_are(project: Path, tmp_path: Path) -> None:
    text = SPEC.replace("name: toy", "name: buckets").replace("runs: 6", "runs: 6, design: space_filling")
    text += f"""
sources:
  web: {{buckets: {{low: {project}/tokens/letters, high: {project}/tokens/sums}}}}
  more: {{shards: "{third(project, tmp_path).parent}/lett*", group: extra}}
tokenizer: {project}/tokens/together/tokenizer.json
"""
    text = text.replace("constraints: {max_repeats: 8}", "constraints: {max_repeats: 8, groups: {extra: {max: 0.3}}}")
    spec = project / "mixes/buckets.yaml"
    spec.write_text(text)
    run_mix(spec, {}, None, tmp_path / "mix", Context(Inline()), print, "solve")
    mix = load_spec(tmp_path / "mix/proposal/buckets.proposed.yaml", SolvedMix)
    assert sorted(mix.weights) == ["more", "web.high", "web.low"]
    assert mix.weights["web.low"].repeats <= mix.weights["web.high"].repeats + 1e-3 <= 7.01
    assert mix.weights["more"].weight <= 0.3 + 1e-6


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("{a: tokens/letters, b: tokens/sums, c: tokens/letters}", "tokens/letters belongs to both a and c"),
        ("{a: tokens/letters, b: 'tokens/[ls]*'}", "tokens/letters belongs to both a and b"),
        ("{a: tokens/letters, b: 'links/*'}", "links/again belongs to both a and b"),
        ("{a: links/again, b: [tokens/sums, ./../tokens/letters]}", "tokens/letters belongs to both a and b"),
        ("{a: tokens/sums, web: {buckets: {low: tokens/letters, high: tokens/../tokens/letters}}}", "belongs to both web.high and web.low"),
    ],
)
def test_a_folder_in_two_sources_is_refused_before_anything_is_trained(project: Path, tmp_path: Path, sources: str, message: str) -> None:
    (project / "links").mkdir(exist_ok=True)
    if not (project / "links/again").exists():
        (project / "links/again").symlink_to(project / "tokens/letters")
    spec = project / "mixes/twice.yaml"
    spec.write_text(SPEC + f"sources: {sources}\ntokenizer: tokens/together/tokenizer.json\n")
    for attempt in (lambda: estimate(spec), lambda: run_mix(spec, {}, None, tmp_path / "mix", Context(Inline()), print, "train")):
        with pytest.raises(InputError, match=message) as caught:
            attempt()
        assert "twice.yaml: sources" in str(caught.value) and "hint: take it out of one of them" in str(caught.value)
    assert not (tmp_path / "mix").exists()


def test_typed_tokens_of_a_source_that_is_counted_are_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"typed.yaml: sources.sums: `tokens` is for tables from elsewhere alone\nhint: the tokens of a source"):
        solve(project, tmp_path / "mix", SPEC + "sources: {letters: {}, sums: {tokens: 5000}}\n", "typed", "train")
    assert not (tmp_path / "mix").exists()


def test_a_folder_that_one_source_names_twice_counts_once_and_one_within_another_is_no_repetition(project: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").symlink_to(project / "tokens/letters")
    shutil.copytree(project / "tokens/sums", tmp_path / "sums")
    shutil.copytree(project / "tokens/letters", tmp_path / "sums/within")
    spec = project / "mixes/once.yaml"
    tokens = {name: read_manifest(project / "tokens" / name).notes for name in ("letters", "sums")}
    counts = {name: sum(note["num_tokens"] for note in notes.values()) for name, notes in tokens.items()}
    spec.write_text(
        SPEC
        + f"sources: {{a: ['tokens/lett*', {tmp_path}/letters, tokens/letters], b: {tmp_path}/sums, c: {tmp_path}/sums/within}}\n"
        + "tokenizer: tokens/together/tokenizer.json\n"
    )
    found = data.gather(load_spec(spec, Mix), spec, {}, None)
    assert found.folders["a"] == [project / "tokens/letters"]
    assert found.tokens == {"a": counts["letters"], "b": counts["sums"], "c": counts["letters"]}


def test_a_project_whose_name_looks_like_a_pattern_has_tokens_of_its_own(tmp_path: Path) -> None:
    for folder in ("crawl1", "crawl[12]"):
        (tmp_path / folder / "tokens/web").mkdir(parents=True)
        (tmp_path / folder / "mixes").mkdir()
    here = tmp_path / "crawl[12]"
    for pattern in ("tokens/w*", "./../tokens/w*", f"{tmp_path}/crawl[[]12]/tokens/*"):
        assert data._folders([pattern], "web", here, here / "mixes") == [here / "tokens/web"]


def imported_by(module: str) -> set[str]:
    """The modules of the project that a module imports, directly or not, also within functions."""
    found, todo = set(), [module]
    while todo:
        source = Path(importlib.util.find_spec(todo.pop()).origin).read_text()  # type: ignore[union-attr, arg-type]
        for node in ast.walk(ast.parse(source)):
            names = (
                [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            )
            if isinstance(node, ast.ImportFrom) and node.module in ("curate.mix", "curate"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if name and name.startswith(("curate.mix.", "curate.tokens.", "curate.kernels.")) and name not in found:
                    found.add(name)
                    todo.append(name)
    return found


def test_a_changed_line_of_what_trains_or_scores_never_goes_unnoticed() -> None:
    scoring_only = {"curate.mix.evaluate", "curate.mix.suites"}
    assert imported_by("curate.mix.proxy") - scoring_only <= set(stage._TRAINING)
    assert imported_by("curate.mix.evaluate") <= set(stage._SCORING)
