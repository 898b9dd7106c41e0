"""The steps of a mix in order, as plain data: which runs, what follows from their scores, what is written down.

    plan_runs      setting               → runs of the swarm
    swarm_of       runs, scores          → the table that laws are fitted to, and the noise
    problem_of     setting, table, laws  → what is to be solved
    recommend      problem               → the proposal of the laws
    plan_confirm   proposal              → the same mixes under fresh seeds

Nothing here trains or reads corpora; curate.mix.stage runs the steps as tasks, curate.mix.conclude says what came of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix import sensitivity, sequential, solve
from curate.mix.fitted import facts_of
from curate.mix.law import SuiteLaw
from curate.mix.sample import as_shares, as_vector, sample_mixes
from curate.mix.setting import Setting, as_mix, baseline, coordinates, in_coordinates, limits_in, natural_mix, tokens_in, traits_in
from curate.mix.stream import pool_tokens
from curate.mix.table import Swarm
from curate.mix.threads import one_thread
from curate.specs.load import resolved
from curate.specs.mix import Proxy

CONFIRM_SEED = 1_000_003  # seeds of the confirmation, far from the swarm's
Array = NDArray[np.float64]
Run = dict[str, Any]
Scores = Mapping[str, Mapping[str, float] | None]  # run → suite → bits per byte; None for a run that failed


def plan_runs(setting: Setting) -> list[Run]:
    """Return the runs of the swarm: the mixes under one seed, then the natural mix again under others, which measures the noise.

    A run is JSON-able: run, weights, seed, pools, proxy, and what is special about a later phase.
    """
    limits_in(setting)  # what cannot be met is said before anything is trained
    swarm, proxy = setting.spec.swarm, setting.spec.proxy
    _, spread = coordinates(setting.leaves, setting.kept)
    drawn = sample_mixes(swarm, limits_in(setting, repetition=False), tokens_in(setting), traits_in(setting))
    mixes = [as_shares(setting.leaves, spread @ np.array(list(mix.values()))) for mix in drawn]
    runs = [_run(setting, f"run-{i:03d}", mix, swarm.seed, proxy) for i, mix in enumerate(mixes)]
    return runs + [_run(setting, f"repeat-{i + 1}", mixes[0], swarm.seed + 1 + i, proxy) for i in range(swarm.replicates)]


def most_runs(setting: Setting) -> int:
    """Return how many runs a sequential swarm may have in all; repeats of the natural mix under other seeds do not count."""
    return setting.spec.swarm.max_runs or 10 * (len(coordinates(setting.leaves, setting.kept)[0]) + 1)


@one_thread()
def plan_round(setting: Setting, problem: solve.Problem, repeats: Mapping[str, Array], num_runs: int) -> dict[str, Any]:
    """Return the next runs of a sequential swarm, none when it is to stop, and why: {runs, expected_gain, noise, why}."""
    most = most_runs(setting)
    count = min(setting.spec.swarm.batch or 0, most - num_runs)
    solution = solve.solve(problem)
    rule = sequential.should_stop(problem, repeats, solution)
    found = {"expected_gain": rule.expected_gain, "noise": rule.noise, "why": rule.why, "runs": []}
    if count <= 0 or rule.stop:
        return found | ({"why": f"{rule.why}; {most} runs are the most that the spec allows"} if count <= 0 and not rule.stop else {})
    mixes = [as_mix(setting, mix) for mix in sequential.propose_runs(problem, count, solution)]
    return found | {"runs": [_run(setting, f"run-{num_runs + i:03d}", m, setting.spec.swarm.seed, setting.spec.proxy) for i, m in enumerate(mixes)]}


def _run(setting: Setting, name: str, mix: Mapping[str, float], seed: int, proxy: Proxy) -> Run:
    target = setting.spec.target.tokens
    pools = pool_tokens(setting.tokens, target, proxy.tokens) if proxy.simulate_repeats else dict.fromkeys(setting.leaves)
    run: Run = {"run": name, "weights": dict(sorted(mix.items())), "seed": seed, "pools": pools, "proxy": resolved(proxy)}
    if setting.start is not None:
        run["start"] = setting.start
    if setting.min_document_tokens > 1:
        run["min_document_tokens"] = setting.min_document_tokens
    return run


def swarm_of(runs: list[Run], scores: Scores, suites: Sequence[str], kept: Mapping[str, float]) -> tuple[Swarm, dict[str, Array]]:
    """Return the table of the swarm, without replicates and failed runs, and suite → scores of the natural mix under all seeds.

    Raises InputError when too few runs are left.
    """
    leaves = sorted(runs[0]["weights"])
    done = [run for run in runs if scores[run["run"]] is not None]
    swarm = [run for run in done if run["seed"] == runs[0]["seed"]]
    least = len(coordinates(leaves, kept)[0]) + 2
    if len(swarm) < least:
        what = f"only {len(swarm)} of {len(runs)} proxies trained without failing; {least} are needed"
        raise InputError(what, where="swarm", hint="lower proxy.learning_rate")
    same = [run for run in done if run["weights"] == runs[0]["weights"]]
    mixes = np.stack([as_vector(run["weights"], leaves) for run in swarm])
    table = {suite: np.array([_score(scores, run, suite) for run in swarm]) for suite in suites}
    repeats = {suite: np.array([_score(scores, run, suite) for run in same]) for suite in suites}
    return Swarm([run["run"] for run in swarm], leaves, mixes, table), repeats


def _score(scores: Scores, run: Run, suite: str) -> float:
    found = scores[run["run"]]
    assert found is not None
    return found[suite]


def noise_of(repeats: Mapping[str, Array]) -> dict[str, float | None]:
    """Return suite → the standard deviation of a repeated run; None where it was not repeated."""
    return {suite: float(np.std(values, ddof=1)) if len(values) > 1 else None for suite, values in repeats.items()}


def problem_of(setting: Setting, swarm: Swarm, laws: Mapping[str, SuiteLaw]) -> solve.Problem:
    """Return what is to be solved; `swarm` is in coordinates (curate.mix.setting), as the laws are."""
    spec = setting.spec
    return solve.Problem(
        names=swarm.sources,
        mixes=swarm.mixes,
        scores=swarm.scores,
        laws=dict(laws),
        importance={name: suite.weight for name, suite in spec.suites.items()},
        natural=baseline(setting)[0],
        limits=limits_in(setting),
        anchor=in_coordinates(setting.leaves, setting.kept, natural_mix(setting)[None])[0],
        pull=spec.constraints.natural_pull,
        protected=tuple(name for name, suite in spec.suites.items() if suite.protect),
        objective=spec.objective,
    )


def reduced(swarm: Swarm, kept: Mapping[str, float]) -> Swarm:
    """Return the table of the swarm in coordinates."""
    if not kept:
        return swarm
    return Swarm(swarm.runs, coordinates(swarm.sources, kept)[0], in_coordinates(swarm.sources, kept, swarm.mixes), swarm.scores)


def only(swarm: Swarm, suite: str) -> Swarm:
    """Return the table with the scores of one suite."""
    return Swarm(swarm.runs, swarm.sources, swarm.mixes, {suite: swarm.scores[suite]})


@one_thread()
def recommend(problem: solve.Problem, swarm: Swarm, asked: str, setting: Setting | None = None) -> dict[str, Any]:
    """Return the proposal as plain data: weights with intervals, predictions, gain, laws, sensitivity, and the points of the report's charts.

    With a setting also how often the target would read each source; with the objective `chance` also that of beating the natural mix.

    Weights are those of leaves; what the laws and the sensitivity speak of are coordinates, which differ only when a mix is reused.
    """
    found = solve.solve(problem)
    names, spread = coordinates(setting.leaves, setting.kept) if setting is not None else (problem.names, np.eye(len(problem.names)))
    leaves = setting.leaves if setting is not None else problem.names
    notes = baseline(setting)[1] if setting is not None else []
    analysis = sensitivity.analyze(problem, found)

    def of_leaves(values: Array) -> dict[str, float]:
        return dict(zip(leaves, (spread @ values).tolist(), strict=True))

    weights = as_shares(leaves, spread @ found.weights)
    known: dict[str, Any] = {} if found.chance is None else {"chance": found.chance}
    if setting is not None:
        known["repeats"] = {leaf: weights[leaf] * setting.spec.target.tokens / setting.tokens[leaf] for leaf in leaves}
    return {
        "weights": weights,
        **known,
        "low": of_leaves(found.low),
        "high": of_leaves(found.high),
        "natural": of_leaves(problem.natural),
        "gain": list(found.gain),
        "gain_uncorrected": found.gain_uncorrected,
        "gain_over_uniform": list(found.gain_over_uniform),
        "predictions": found.predictions,
        "keep_natural": found.keep_natural,
        "nearest_run": found.nearest_run,
        "usual_distance": found.usual_distance,
        "warnings": [*found.warnings, *analysis["limited"], *notes],
        "laws": {suite: facts_of(law, problem.scores[suite], asked) for suite, law in problem.laws.items()},
        "sensitivity": analysis,
        "path": _path(problem, found.weights),
        "predicted": _predicted(problem),
        "coordinates": names,
        "runs": [{"run": run, "weights": dict(zip(swarm.sources, mix.tolist(), strict=True))} for run, mix in
                 zip(swarm.runs, swarm.mixes, strict=True)],
    }  # fmt: skip


def _path(problem: solve.Problem, weights: Array) -> dict[str, Any]:
    """Return what the laws say on the straight way from the natural mix (0) to the solved one (1): {at, suites: suite → {mean, low, high}}."""
    at = np.linspace(0, 1, 13)
    mixes = problem.natural + at[:, None] * (weights - problem.natural)
    suites = {suite: dict(zip(("mean", "low", "high"), (v.tolist() for v in law.predict(mixes)), strict=True)) for suite, law in problem.laws.items()}
    return {"at": at.tolist(), "suites": suites}


def _predicted(problem: solve.Problem) -> dict[str, dict[str, list[float]]]:
    """Return suite → {mean, low, high} at the runs of the swarm."""
    found = {}
    for suite, law in problem.laws.items():
        found[suite] = dict(zip(("mean", "low", "high"), (v.tolist() for v in law.predict(problem.mixes)), strict=True))
    return found


def failures(runs: list[Run], scores: Scores) -> list[str]:
    """Return what to say of runs that failed."""
    failed = [run["run"] for run in runs if scores[run["run"]] is None]
    return [f"{len(failed)} of {len(runs)} proxies diverged and were left out: {', '.join(failed)}"] if failed else []


def plan_confirm(setting: Setting, proposal: Mapping[str, Any], rivals: Mapping[str, Mapping[str, float]]) -> list[Run]:
    """Return the runs that confirm: the solved mix and its rivals, each under the same fresh seeds.

    `rivals` are those of the spec that are neither natural nor uniform: name → weights.
    """
    leaves, confirm = setting.leaves, setting.spec.confirm
    mixes = {"solved": proposal["weights"]}
    for name in confirm.rivals:
        if name == "uniform":
            mixes[name] = as_shares(leaves, np.full(len(leaves), 1 / len(leaves)))
        elif name == "natural":
            mixes[name] = as_mix(setting, baseline(setting)[0])
        else:
            mixes[name] = as_shares(leaves, as_vector(rivals[name], leaves))
    proxy = confirm.proxy or setting.spec.proxy
    if confirm.tokens is not None:
        proxy = msgspec.structs.replace(proxy, tokens=confirm.tokens)
    return [
        _run(setting, f"{name}-{i}", mix, CONFIRM_SEED + setting.spec.swarm.seed + i, proxy)
        for name, mix in mixes.items()
        for i in range(confirm.seeds)
    ]
