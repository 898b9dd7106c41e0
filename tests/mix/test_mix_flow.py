"""From a swarm to a mix: laws that recover a known truth, limits that hold, a verdict that is honest, the same bytes twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import documents, write_corpus

from curate.engine import Context, Inline
from curate.errors import InputError, SpecError
from curate.mix import flow, law, limits, sample, solve, verdict
from curate.mix.export import as_text
from curate.mix.solved import diff_mixes, read_solved, solved_text
from curate.mix.stage import run_mix
from curate.mix.table import read_swarm
from curate.specs.mix import Constraints, Mix, Proxy, SolvedMix, SolvedScore, SolvedSource, SourceLimits, Swarm, Target

TOKENS = {"code": 4_000_000, "math": 1_000_000, "web": 5_000_000}
NAMES = sorted(TOKENS)


def truth(mixes: np.ndarray, gains: list[float], floor: float = 0.9, exponent: float = 0.3) -> np.ndarray:
    return floor + (mixes @ np.array(gains)) ** -exponent


def swarm(num: int = 24, seed: int = 1) -> np.ndarray:
    found = sample.sample_mixes(Swarm(runs=num, seed=seed), Constraints(), TOKENS)
    return np.stack([sample.as_vector(mix, NAMES) for mix in found])


def problem(mixes: np.ndarray, high: float = 1.0) -> solve.Problem:
    noise = np.random.default_rng(3)
    scores = {
        "code": truth(mixes, [9.0, 1.0, 1.0]) + 0.001 * noise.normal(size=len(mixes)),
        "math": truth(mixes, [0.5, 12.0, 1.0]) + 0.001 * noise.normal(size=len(mixes)),
    }
    laws = {suite: law.choose_law(suite, mixes, values) for suite, values in scores.items()}
    natural = np.array(list(limits.natural_weights(TOKENS).values()))
    return solve.Problem(NAMES, mixes, scores, laws, {"code": 1.0, "math": 1.0}, natural, np.zeros(3), np.full(3, high), 0.0)


def test_the_natural_and_the_uniform_mix_are_always_in_the_swarm() -> None:
    found = sample.sample_mixes(Swarm(), Constraints(), TOKENS)
    assert len(found) == 12
    assert found[0] == {"code": 0.4, "math": 0.1, "web": 0.5}
    assert sample.as_vector(found[1], NAMES) == pytest.approx([1 / 3] * 3, abs=1e-5)
    assert all(sum(mix.values()) == pytest.approx(1, abs=1e-9) for mix in found)
    assert sample.sample_mixes(Swarm(runs=20), Constraints(), TOKENS)[:12] == found


@pytest.mark.parametrize("kind", ["ridge", "log_linear", "power", "gp", "power_gp"])
def test_every_law_follows_a_smooth_truth(kind: str) -> None:
    mixes, unseen = swarm(), swarm(40, seed=7)
    fitted = law.choose_law("s", mixes, truth(mixes, [9.0, 1.0, 1.0]), kind)
    found, low, high = fitted.predict(unseen)
    assert np.corrcoef(found, truth(unseen, [9.0, 1.0, 1.0]))[0, 1] > (0.9 if kind == "ridge" else 0.95)
    assert (low <= found).all()
    assert (found <= high).all()


def test_auto_takes_the_law_with_the_smallest_left_out_error() -> None:
    mixes = swarm()
    fitted = law.choose_law("s", mixes, truth(mixes, [9.0, 1.0, 1.0]))
    assert fitted.errors[fitted.full.kind] <= 1.02 * min(fitted.errors.values())
    assert "leave-one-out error" in fitted.why


def test_the_solved_mix_is_close_to_the_best_one() -> None:
    found = solve.solve(problem(swarm()))
    grid = np.random.default_rng(0).dirichlet(np.ones(3), 20_000)
    natural = np.array([[0.4, 0.1, 0.5]])

    def loss(mixes: np.ndarray) -> np.ndarray:
        return sum(truth(mixes, gains) / truth(natural, gains) for gains in ([9.0, 1.0, 1.0], [0.5, 12.0, 1.0]))

    best, mine = loss(grid).min(), loss(found.weights[None])[0]
    assert mine - best < 0.1 * (2.0 - best)
    assert found.gain[0] <= found.gain_uncorrected
    assert (found.low <= found.weights).all()
    assert (found.weights <= found.high).all()


def test_solving_twice_gives_the_same() -> None:
    a, b = solve.solve(problem(swarm())), solve.solve(problem(swarm()))
    assert a.weights.tolist() == b.weights.tolist()
    assert a.gain == b.gain


def test_limits_hold() -> None:
    found = solve.solve(problem(swarm(), high=0.5))
    assert found.weights.max() <= 0.5 + 1e-9
    assert found.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("constraints", "target", "message"),
    [
        (Constraints(sources={"math": SourceLimits(min=0.5)}), 20_000_000, "math"),
        (Constraints(sources={"math": SourceLimits(min=0.6), "web": SourceLimits(min=0.6)}), 1_000_000, "add up to 1.2"),
        (Constraints(max_repeats=1), 20_000_000, "less than 1"),
        (Constraints(sources={"maths": SourceLimits()}), 1_000_000, "maths"),
    ],
)
def test_limits_that_exclude_each_other_are_named(constraints: Constraints, target: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        limits.bounds(constraints, TOKENS, target)


def test_the_verdict_is_honest() -> None:
    def seeds(*values: float) -> list[dict[str, float]]:
        return [{"s": value} for value in values]

    importance = {"s": 1.0}
    assert verdict.overall(seeds(1.00, 1.01, 1.02), seeds(1.10, 1.11, 1.12), importance).word == "better"
    assert verdict.overall(seeds(1.10, 1.11, 1.12), seeds(1.00, 1.01, 1.02), importance).word == "worse"
    assert verdict.overall(seeds(1.00, 1.10, 1.05), seeds(1.05, 1.02, 1.06), importance).word == "no_difference_shown"


def test_csv_files_are_joined_by_run_id_and_refused_when_they_do_not_match(tmp_path: Path) -> None:
    ratios, metrics = tmp_path / "ratios.csv", tmp_path / "metrics.csv"
    ratios.write_text("run,web,code\na,0.5,0.5\nb,0.9,0.1\n")
    metrics.write_text("run,docs\nb,2.0\na,1.0\n")
    found = read_swarm(ratios, metrics)
    assert (found.runs, found.sources) == (["a", "b"], ["code", "web"])
    assert found.scores["docs"].tolist() == [1.0, 2.0]
    metrics.write_text("run,docs\nb,2.0\nc,1.0\n")
    with pytest.raises(InputError, match=r"a is not in .*metrics.csv; c is not in .*ratios.csv"):
        read_swarm(ratios, metrics)
    ratios.write_text("run,web,code\na,0.5,0.6\n")
    with pytest.raises(InputError, match=r"add up to 1.1") as caught:
        read_swarm(ratios, metrics)
    assert caught.value.where.endswith("ratios.csv:2")


def test_fit_from_csv_by_the_command(tmp_path: Path) -> None:
    mixes = swarm()
    rows = [f"r{i},{','.join(f'{w:.6f}' for w in mix)}" for i, mix in enumerate(mixes)]
    (tmp_path / "ratios.csv").write_text("run,code,math,web\n" + "\n".join(rows) + "\n")
    scores = truth(mixes, [9.0, 1.0, 1.0])
    (tmp_path / "metrics.csv").write_text("run,docs\n" + "\n".join(f"r{i},{y:.6f}" for i, y in reversed(list(enumerate(scores)))) + "\n")
    command = [sys.executable, "-m", "curate.cli", "mix", "fit", "--ratios", "ratios.csv", "--metrics", "metrics.csv", "--output", "laws", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["laws"]["docs"]["law"] in law.PREFERENCE
    lines = (tmp_path / "laws/predictions.csv").read_text().splitlines()
    assert lines[0] == "run,suite,mean,low,high"
    assert len(lines) == 1 + len(mixes)


def solved_mix(share: float = 0.6) -> SolvedMix:
    def source(weight: float) -> SolvedSource:
        return SolvedSource(weight=weight, solved=weight, low=0.1, high=0.9, natural=0.5, available_tokens=100, repeats=1.0)

    weights = {"code": source(share), "web": source(round(1 - share, 6))}
    scores = {"docs": SolvedScore(law="power", natural=1.0, solved=0.9, low=0.8, high=1.0)}
    return SolvedMix(
        name="m",
        verdict="better",
        keep="solved",
        target_tokens=1000,
        weights=weights,
        scores=scores,
        predicted_gain=(0.1, 0.0, 0.2),
        made_from={"spec": "x"},
    )


def test_a_solved_mix_is_written_read_compared_and_exported(tmp_path: Path) -> None:
    path = tmp_path / "m.solved.yaml"
    path.write_text(solved_text(solved_mix()))
    assert read_solved(path) == solved_mix()
    assert diff_mixes(solved_mix(), solved_mix(0.7))["moved"] == pytest.approx(0.1)
    assert as_text(path, "megatron", "tokens/{source}") == "--data-path 0.600000 tokens/code 0.400000 tokens/web"
    assert json.loads(as_text(path, "datasets"))["probabilities"] == [0.6, 0.4]
    assert json.loads(as_text(path, "json"))["tokens"] == {"code": 600, "web": 400}
    with pytest.raises(SpecError, match="source"):
        as_text(path, "megatron", "tokens")


def token_folders(tmp_path: Path) -> tuple[dict[str, Path], Path]:
    """Two sources of real token shards: one that the suite looks like, one of noise."""
    from curate.specs.workflow import Tokenize, Workflow
    from curate.tokens.stage import tokenize
    from curate.workflow import Arguments, Project

    draw = np.random.default_rng(0)
    good = [" ".join(draw.choice(["the", "cat", "sat", "on", "a", "mat"], 60)) for _ in range(150)]
    noise = ["".join(chr(97 + k) for k in draw.integers(0, 26, 300)) for _ in range(150)]
    sources = {"good": write_corpus(tmp_path / "good", {"a": [documents(good, "good")]}, "good")}
    sources["noise"] = write_corpus(tmp_path / "noise", {"a": [documents(noise, "noise")]}, "noise")
    import msgspec

    workflow = msgspec.convert({"name": "x", "sources": {"good": [{"ingest": {"jsonl": "x"}}]}}, Workflow)
    project = Project(tmp_path, tmp_path, tmp_path / "run", 0, None, workflow)  # type: ignore[arg-type]
    targets = {name: tmp_path / "tokens" / name for name in sources}
    tokenize(Tokenize(vocab_size=300), Arguments(sources, targets, tmp_path / "scratch", project, Context(Inline()), print))
    return targets, tmp_path / "scratch/tokenizer.json"


def spec_file(tmp_path: Path) -> Path:
    (tmp_path / "mixes").mkdir()
    texts = ["the cat sat on a mat the mat sat on the cat " * 3] * 4
    (tmp_path / "suite.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    path = tmp_path / "mixes/tiny.yaml"
    path.write_text(
        "name: tiny\ntarget: {tokens: 10_000}\nevals: {cats: suite.jsonl}\nswarm: {runs: 7, replicates: 1}\n"
        "proxy: {layers: 1, width: 16, heads: 2, context: 32, tokens: 8192, batch_tokens: 512, learning_rate: 2e-2}\n"
        "constraints: {natural_pull: 0.001, max_repeats: 10}\nconfirm: {seeds: 2}\n"
    )
    return path


def test_a_source_that_helps_gets_more_and_a_second_run_trains_nothing(tmp_path: Path) -> None:
    tokens, tokenizer = token_folders(tmp_path)
    spec = spec_file(tmp_path)
    run_mix(spec, tokens, tokenizer, tmp_path / "mix", Context(Inline()), lambda line: None)
    result = json.loads((tmp_path / "mix/result.json").read_text())
    weights = result["solved"]["weights"]
    assert weights["good"]["solved"] > weights["good"]["natural"]
    assert len(result["runs"]) == 8
    files = {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / "mix").rglob("*") if p.is_file() and p.suffix != ".json"}
    run_mix(spec, tokens, tokenizer, tmp_path / "mix", Context(Inline()), lambda line: None)
    assert {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / "mix").rglob("*") if p.is_file() and p.suffix != ".json"} == files
    again = run_mix(spec, tokens, tokenizer, tmp_path / "again", Context(Inline()), lambda line: None)
    first = json.loads((tmp_path / "mix/manifest.json").read_text())
    assert again.files == first["files"]


def test_members_of_a_group_equal_solo_runs(tmp_path: Path) -> None:
    from curate.mix.proxy import train_group
    from curate.specs.load import resolved
    from curate.tokens.tokenizer import Encoder

    tokens, tokenizer = token_folders(tmp_path)
    folders = {name: [path] for name, path in tokens.items()}
    proxy = resolved(Proxy(layers=1, width=16, heads=2, context=32, tokens=4096, batch_tokens=512, learning_rate=2e-2))
    runs = [
        {"run": str(i), "weights": {"good": share, "noise": 1 - share}, "seed": i, "pools": {"good": None, "noise": None}, "proxy": proxy}
        for i, share in enumerate((0.2, 0.8))
    ]
    vocab = Encoder.open(tokenizer).vocab_size
    together, _ = train_group(runs, folders, vocab)
    for k, run in enumerate(runs):
        alone, _ = train_group([run], folders, vocab)
        for name, value in alone.items():
            np.testing.assert_allclose(value[0].numpy(), together[name][k].numpy(), atol=1e-4)


def test_too_few_runs_are_refused() -> None:
    spec = Mix(name="m", target=Target(tokens=1000), evals={"s": "x.jsonl"})
    runs = flow.plan_runs(spec, TOKENS)
    with pytest.raises(InputError, match="only 0 of"):
        flow.problem_of(spec, TOKENS, runs, {run["run"]: None for run in runs})
