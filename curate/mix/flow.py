"""The steps of a mix in order, as plain data: which runs, what follows from their scores, what is written down.

    plan_runs   spec, tokens        → runs of the swarm
    recommend   spec, tokens, runs  → the proposal of the laws
    plan_confirm                    → the same mixes under fresh seeds
    conclude                        → the solved mix, and what the report shows

Nothing here trains or reads corpora; curate.mix.stage runs the steps as tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import InputError
from curate.mix import law, limits, sample, solve, verdict
from curate.mix.stream import pool_tokens
from curate.specs.load import resolved
from curate.specs.mix import Mix, SolvedMix, SolvedScore, SolvedSource

CONFIRM_SEED = 1_000_003  # seeds of the confirmation, far from the swarm's
Run = dict[str, Any]


def plan_runs(spec: Mix, tokens: Mapping[str, int]) -> list[Run]:
    """Return the runs of the swarm: the mixes under one seed, then the natural mix again under others, which measures the noise.

    `tokens` are those available per source. A run is JSON-able: run, weights, seed, pools, proxy.
    """
    mixes = sample.sample_mixes(spec.swarm, spec.constraints, tokens)
    limits.bounds(spec.constraints, tokens, spec.target.tokens)  # what cannot be met is said before anything is trained
    seeds = [(mix, spec.swarm.seed) for mix in mixes]
    seeds += [(mixes[0], spec.swarm.seed + 1 + i) for i in range(spec.swarm.replicates)]
    return [_run(spec, tokens, f"run-{i:03d}", mix, seed, spec.proxy.tokens) for i, (mix, seed) in enumerate(seeds)]


def _run(spec: Mix, tokens: Mapping[str, int], name: str, mix: Mapping[str, float], seed: int, proxy_tokens: int) -> Run:
    proxy = resolved(spec.proxy) | {"tokens": proxy_tokens}
    pools = pool_tokens(tokens, spec.target.tokens, proxy_tokens) if spec.proxy.simulate_repeats else dict.fromkeys(sorted(tokens))
    return {"run": name, "weights": dict(sorted(mix.items())), "seed": seed, "pools": pools, "proxy": proxy}


def problem_of(spec: Mix, tokens: Mapping[str, int], runs: list[Run], scores: Mapping[str, Mapping[str, float] | None]) -> solve.Problem:
    """Fit a law per suite and put together what is to be solved. `scores`: run → suite → bits per byte, None for a run that failed.

    Raises InputError when too few runs are left.
    """
    names = sorted(tokens)
    done = [run for run in runs if scores[run["run"]] is not None]
    swarm = [run for run in done if run["seed"] == spec.swarm.seed]
    if len(swarm) < len(names) + 2:
        raise InputError(f"only {len(swarm)} of {len(runs)} proxies trained without failing", where="swarm", hint="lower proxy.learning_rate")
    mixes = np.stack([sample.as_vector(run["weights"], names) for run in swarm])
    natural = sample.as_vector(limits.natural_weights(tokens), names)
    same = [run for run in done if run["weights"] == runs[0]["weights"]]
    measured, laws = {}, {}
    for suite in spec.suites:
        measured[suite] = np.array([_score(scores, run["run"], suite) for run in swarm])
        repeated = [_score(scores, run["run"], suite) for run in same]
        noise = float(np.std(repeated, ddof=1)) if len(repeated) > 1 else None
        laws[suite] = law.choose_law(suite, mixes, measured[suite], spec.law, noise)
    low, high = limits.bounds(spec.constraints, tokens, spec.target.tokens)
    importance = {name: suite.weight for name, suite in spec.suites.items()}
    protected = tuple(name for name, suite in spec.suites.items() if suite.protect)
    return solve.Problem(names, mixes, measured, laws, importance, natural, low, high, spec.constraints.natural_pull, protected)


def _score(scores: Mapping[str, Mapping[str, float] | None], run: str, suite: str) -> float:
    found = scores[run]
    assert found is not None
    return found[suite]


def recommend(spec: Mix, tokens: Mapping[str, int], runs: list[Run], scores: Mapping[str, Mapping[str, float] | None]) -> dict[str, Any]:
    """Return the proposal as plain data: weights with intervals, predictions, gain, laws, and the points of the report's charts."""
    problem = problem_of(spec, tokens, runs, scores)
    found = solve.solve(problem)
    shares = sample.as_shares(problem.names, found.weights)
    laws = {}
    for suite, fitted in problem.laws.items():
        predicted = problem.scores[suite] - fitted.residuals
        laws[suite] = {
            "law": fitted.full.kind,
            "why": fitted.why,
            "errors": fitted.errors,
            "noise": fitted.noise,
            "measured": problem.scores[suite].tolist(),
            "left_out": predicted.tolist(),
        }
    return {
        "weights": shares,
        "low": dict(zip(problem.names, found.low.tolist(), strict=True)),
        "high": dict(zip(problem.names, found.high.tolist(), strict=True)),
        "natural": dict(zip(problem.names, problem.natural.tolist(), strict=True)),
        "gain": list(found.gain),
        "gain_uncorrected": found.gain_uncorrected,
        "gain_over_uniform": list(found.gain_over_uniform),
        "predictions": found.predictions,
        "nearest_run": found.nearest_run,
        "warnings": found.warnings + _failures(runs, scores),
        "laws": laws,
    }


def _failures(runs: list[Run], scores: Mapping[str, Mapping[str, float] | None]) -> list[str]:
    failed = [run["run"] for run in runs if scores[run["run"]] is None]
    return [f"{len(failed)} of {len(runs)} proxies diverged and were left out: {', '.join(failed)}"] if failed else []


def plan_confirm(spec: Mix, tokens: Mapping[str, int], proposal: Mapping[str, Any]) -> list[Run]:
    """Return the runs that confirm: the solved mix and its rivals, each under the same fresh seeds."""
    names = sorted(tokens)
    mixes = {"solved": proposal["weights"]}
    for rival in spec.confirm.against:
        mix = np.full(len(names), 1 / len(names)) if rival == "uniform" else sample.as_vector(limits.natural_weights(tokens), names)
        mixes[rival] = sample.as_shares(names, mix)
    size = spec.confirm.tokens or spec.proxy.tokens
    return [
        _run(spec, tokens, f"{name}-{i}", mix, CONFIRM_SEED + spec.swarm.seed + i, size)
        for name, mix in mixes.items()
        for i in range(spec.confirm.seeds)
    ]


def conclude(
    spec: Mix, tokens: Mapping[str, int], proposal: Mapping[str, Any], scores: Mapping[str, pa.Table], made_from: dict[str, str]
) -> tuple[SolvedMix, list[dict[str, Any]], str]:
    """Return the solved mix, the table of paired differences (natural first), and the verdict in words.

    `scores`: run → its table of scores per item, without rows for a run that diverged. A seed counts when all its runs worked.
    """
    importance = {name: suite.weight for name, suite in spec.suites.items()}
    sides = ["solved", *spec.confirm.against]
    seeds = [i for i in range(spec.confirm.seeds) if all(scores[f"{side}-{i}"].num_rows for side in sides)]
    if len(seeds) < 2:
        raise InputError("too few confirming proxies trained without failing", where="confirm", hint="lower proxy.learning_rate")
    tables = {side: [scores[f"{side}-{i}"] for i in seeds] for side in sides}
    found = {rival: verdict.compare(tables["solved"], tables[rival], importance) for rival in ["natural", *spec.confirm.against]}
    against_natural = found["natural"]
    hurt = [name for name, suite in spec.suites.items() if suite.protect and against_natural.suites[name].verdict == "worse"]
    keep = "solved" if against_natural.overall.verdict == "better" and not hurt else "natural"
    suites = {}
    for suite, predicted in proposal["predictions"].items():
        row = against_natural.suites[suite]
        values = {name: round(predicted[name], 5) for name in ("natural", "solved", "low", "high")}
        confirmed = {"confirmed": round(row.difference, 5), "confirmed_low": round(row.low, 5), "confirmed_high": round(row.high, 5)}
        suites[suite] = SolvedScore(law=proposal["laws"][suite]["law"], **values, **confirmed, verdict=row.verdict)
    gain = tuple(round(value, 5) for value in proposal["gain"])
    solved = SolvedMix(
        name=spec.name,
        verdict=against_natural.overall.verdict,
        keep=keep,
        target_tokens=spec.target.tokens,
        weights={name: _source(name, keep, spec, tokens, proposal) for name in sorted(tokens)},
        scores=suites,
        predicted_gain=(gain[0], gain[1], gain[2]),
        warnings=proposal["warnings"],
        made_from=made_from,
    )
    return solved, _rows(found), _in_words(proposal, against_natural, hurt)


def _rows(found: Mapping[str, verdict.Verdict]) -> list[dict[str, Any]]:
    """Return one row per rival and suite, and first, per rival, the row of all suites together (relative: 1 is the rival)."""
    rows = []
    for rival, one in found.items():
        for suite, row in {"all, relative": one.overall, **one.suites}.items():
            numbers = {"mine": row.chosen, "theirs": row.rival, "mean": row.difference, "low": row.low, "high": row.high}
            rows.append({"suite": suite, "rival": rival, **numbers, "word": row.verdict})
    return rows


def _source(name: str, keep: str, spec: Mix, tokens: Mapping[str, int], proposal: Mapping[str, Any]) -> SolvedSource:
    weight = round(proposal["weights" if keep == "solved" else "natural"][name], 6)
    return SolvedSource(
        weight=weight,
        solved=proposal["weights"][name],
        low=round(proposal["low"][name], 6),
        high=round(proposal["high"][name], 6),
        natural=round(proposal["natural"][name], 6),
        available_tokens=tokens[name],
        repeats=round(weight * spec.target.tokens / tokens[name], 3),
    )


def _in_words(proposal: Mapping[str, Any], found: verdict.Verdict, hurt: list[str]) -> str:
    """Return the verdict as a few plain sentences."""
    gain, measured = proposal["gain"], found.overall
    ordered = sorted(proposal["weights"].items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in ordered)
    natural = ", ".join(f"{name} {100 * proposal['natural'][name]:.1f} %" for name, _ in ordered)
    what = {
        "better": "The solved mix is better than the natural one",
        "worse": "The solved mix is worse than the natural one: keep the natural mix",
        "no_difference_shown": "No difference between the solved and the natural mix was shown: keep the natural mix, or train more seeds",
    }[measured.verdict]
    worse = [name for name, suite in found.suites.items() if suite.verdict == "worse"]
    but = f", but worse on {', '.join(worse)}" if worse and measured.verdict == "better" else ""
    inside = gain[1] <= -measured.difference <= gain[2]
    lines = [
        f"{what}{but}.",
        *([f"{', '.join(hurt)} may not get worse: keep the natural mix."] if hurt else []),
        f"Confirmed with {found.num_seeds} fresh seeds: bits per byte change by {_percent(measured.difference)} "
        f"(95 % interval {_percent(measured.low)} to {_percent(measured.high)}).",
        f"Predicted from the swarm: {_percent(-gain[0])} (90 % interval {_percent(-gain[2])} to {_percent(-gain[1])}); what was confirmed lies "
        f"{'inside' if inside else 'outside'}.",
        f"solved   {shares}",
        f"natural  {natural}",
    ]
    return "\n".join([*lines, *(f"note: {warning}" for warning in proposal["warnings"])])


def _percent(share: float) -> str:
    return f"{100 * share:+.2f} %".replace("-", "\N{MINUS SIGN}")
