"""Laws and limits → the mix that the laws recommend, how sure that is, and what it would gain.

Minimizes Σ ωⱼ · predictedⱼ(w) / predictedⱼ(natural) + pull · KL(w ‖ natural) over shares between their bounds that add up to one, by SLSQP with exact
gradients from several fixed starts (the objective is convex for the parametric laws, but not for Gaussian processes). Deterministic.

Intervals come from a Bayesian bootstrap over runs (Rubin 1981: smooth weights, so that no resample loses the one run that shows a source):
every law is refitted and the mix solved again. The same resamples correct the predicted gain for the winner's curse (Efron's optimism): a
mix that was chosen because it looks best looks better than it is. The interval of the gain also carries the laws' leave-one-out errors,
since a bootstrap knows nothing of what a law cannot express.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import SpecError
from curate.mix import law as laws_of
from curate.mix.law import SuiteLaw

Array = NDArray[np.float64]
RESAMPLES = 64
FLOOR = 1e-6  # of a share, inside logarithms


class Problem(msgspec.Struct, frozen=True):
    """What is to be solved. Sources are in the order of `names` everywhere."""

    names: list[str]
    mixes: Array  # of the swarm, [runs, sources]
    scores: dict[str, Array]  # suite → [runs]
    laws: dict[str, SuiteLaw]
    importance: dict[str, float]  # suite → weight in the objective
    natural: Array
    low: Array
    high: Array
    pull: float = 0.01
    protected: tuple[str, ...] = ()  # suites that may not get worse than under the natural mix


class Solution(msgspec.Struct):
    """What was found; arrays are in the order of the problem's names. Gains are relative: 0.01 is one percent fewer bits."""

    weights: Array
    low: Array  # 90 % interval over resampled runs
    high: Array
    gain: tuple[float, float, float]  # over natural, corrected for the winner's curse: mean and 90 % interval
    gain_uncorrected: float
    gain_over_uniform: tuple[float, float, float]  # likewise
    predictions: dict[str, dict[str, float]]  # suite → natural, uniform, solved, low, high
    nearest_run: float  # total variation distance
    warnings: list[str]


Evaluate = Callable[[Array], tuple[float, Array]]


def solve(problem: Problem) -> Solution:
    """Return the recommended mix. Raises SpecError when no mix keeps every protected suite."""
    objective = _objective(problem, {suite: fitted.full for suite, fitted in problem.laws.items()})
    weights = _minimize(problem, objective, _starts(problem), protect=True)
    draws = _draws(problem)
    refits = {
        suite: laws_of.fit(fitted.full.kind, problem.mixes, problem.scores[suite], draws, fitted.full) for suite, fitted in problem.laws.items()
    }
    full = {suite: fitted.full for suite, fitted in problem.laws.items()}
    again, own, seen = [], [], []
    for b in range(RESAMPLES):
        one = {suite: fit.one(b) for suite, fit in refits.items()}
        other = _minimize(problem, _objective(problem, one), [weights], protect=False)
        again.append(other)
        own.append(_gain(problem, one, other))
        seen.append(_gain(problem, full, other))
    curse = max(0.0, float(np.mean(np.array(own) - np.array(seen))))
    uniform = np.full(len(problem.names), 1 / len(problem.names))
    gain = _gain_interval(problem, refits, weights, problem.natural, curse)
    low, high = np.quantile(np.array(again), [0.05, 0.95], axis=0)
    distance, usual = _distances(problem, weights)
    return Solution(
        weights,
        np.minimum(low, weights),
        np.maximum(high, weights),
        gain,
        _gain(problem, full, weights),
        _gain_interval(problem, refits, weights, uniform, curse),
        _predictions(problem, weights, uniform),
        distance,
        _warnings(problem, weights, (distance, usual), gain),
    )


def _objective(problem: Problem, fits: Mapping[str, Any]) -> Evaluate:
    total = sum(problem.importance.values())
    base = {suite: float(problem.laws[suite].full.predict(problem.natural[None])[0, 0]) for suite in fits}

    def evaluate(w: Array) -> tuple[float, Array]:
        value, gradient = 0.0, np.zeros(len(w))
        for suite, fit in fits.items():
            scale = problem.importance[suite] / total / base[suite]
            if scale:
                value += scale * float(fit.predict(w[None])[0, 0])
                gradient += scale * fit.gradient(w)[0]
        ratio = np.log(np.maximum(w, FLOOR) / problem.natural)
        value += problem.pull * float(np.sum(w * ratio))
        gradient += problem.pull * (ratio + 1)
        return value, gradient

    return evaluate


def _starts(problem: Problem) -> list[Array]:
    """Return natural, uniform and the three runs with the best scores, made feasible."""
    from curate.mix.limits import project

    total = sum(problem.importance.values())
    merit = sum(problem.importance[s] / total * y / float(np.mean(y)) for s, y in problem.scores.items())
    best = problem.mixes[np.argsort(merit, kind="stable")[:3]]
    uniform = np.full(len(problem.names), 1 / len(problem.names))
    return [project(start, problem.low, problem.high) for start in (problem.natural, uniform, *best)]


def _minimize(problem: Problem, evaluate: Evaluate, starts: list[Array], protect: bool) -> Array:
    from scipy.optimize import minimize

    from curate.mix.limits import project

    constraints: list[dict[str, Any]] = [{"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)}]
    kept = [problem.laws[suite].full for suite in problem.protected] if protect else []
    limits = [float(fit.predict(problem.natural[None])[0, 0]) for fit in kept]
    for fit, limit in zip(kept, limits, strict=True):
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda w, fit=fit, limit=limit: 100 * (limit - float(fit.predict(w[None])[0, 0])),
                "jac": lambda w, fit=fit: -100 * fit.gradient(w)[0],
            }
        )
    best: tuple[float, Array] | None = None
    for start in starts:
        found = minimize(
            evaluate,
            start,
            jac=True,
            method="SLSQP",
            bounds=list(zip(problem.low, problem.high, strict=True)),
            constraints=constraints,
            options={"maxiter": 200, "ftol": 1e-10},
        )
        w = project(np.asarray(found.x), problem.low, problem.high)
        feasible = all(float(fit.predict(w[None])[0, 0]) <= limit * (1 + 1e-4) for fit, limit in zip(kept, limits, strict=True))
        value = evaluate(w)[0]
        if feasible and np.isfinite(value) and (best is None or value < best[0] - 1e-9):
            best = (value, w)
    if best is None:
        suites = ", ".join(problem.protected)
        raise SpecError(f"no mix within the limits keeps {suites} as good as the natural mix does", where="evals", hint="protect fewer suites")
    return best[1]


def _draws(problem: Problem) -> Array:
    """Return the run weights of the resamples, [RESAMPLES, runs], the same for all suites."""
    runs = len(problem.mixes)
    return np.asarray(np.random.default_rng(0).dirichlet(np.ones(runs), RESAMPLES) * runs)


def _gain_interval(problem: Problem, refits: Mapping[str, Any], w: Array, rival: Array, curse: float) -> tuple[float, float, float]:
    """Return the gain of `w` over `rival`, less the winner's curse, with its 90 % interval.

    A resample's gain gets the leave-one-out errors of one run at random, the same run for all suites, as the error of the law at `w`.
    """
    total = sum(problem.importance.values())
    chosen = np.random.default_rng(1).integers(len(problem.mixes), size=RESAMPLES)
    drawn, mean = np.zeros(RESAMPLES), 0.0
    for suite, fitted in problem.laws.items():
        scale = problem.importance[suite] / total
        base = float(fitted.full.predict(problem.natural[None])[0, 0])
        predicted = refits[suite].predict(np.stack([w, rival]))
        drawn += scale / base * (predicted[:, 1] - predicted[:, 0] + fitted.residuals[chosen])
        both = fitted.full.predict(np.stack([w, rival]))[0]
        mean += scale / base * float(both[1] - both[0])
    low, high = np.quantile(drawn, [0.05, 0.95]) - curse
    return mean - curse, min(float(low), mean - curse), max(float(high), mean - curse)


def _distances(problem: Problem, w: Array) -> tuple[float, float]:
    """Return the total variation from `w` to the nearest run, and the distance within which 90 % of the runs have another run."""
    apart = 0.5 * np.abs(problem.mixes[:, None] - problem.mixes[None]).sum(2) + np.eye(len(problem.mixes)) * 2
    return float(0.5 * np.abs(problem.mixes - w).sum(1).min()), float(np.quantile(apart.min(1), 0.9))


def _gain(problem: Problem, fits: Mapping[str, Any], w: Array) -> float:
    """Return by how much `w` lowers the weighted bits, relative to the natural mix, as these fits see it."""
    total = sum(problem.importance.values())
    gain = 0.0
    for suite, fit in fits.items():
        natural, mine = fit.predict(np.stack([problem.natural, w]))[0]
        base = float(problem.laws[suite].full.predict(problem.natural[None])[0, 0])
        gain += problem.importance[suite] / total * float(natural - mine) / base
    return gain


def _predictions(problem: Problem, weights: Array, uniform: Array) -> dict[str, dict[str, float]]:
    found = {}
    for suite, fitted in problem.laws.items():
        mean, low, high = fitted.predict(np.stack([problem.natural, uniform, weights]))
        found[suite] = {"natural": mean[0], "uniform": mean[1], "solved": mean[2], "low": low[2], "high": high[2]}
    return {suite: {name: float(value) for name, value in row.items()} for suite, row in found.items()}


def _warnings(problem: Problem, weights: Array, distances: tuple[float, float], gain: tuple[float, float, float]) -> list[str]:
    warnings = []
    distance, usual = distances
    if distance > usual:
        warnings.append(
            f"the laws extrapolate: the proposal differs from the nearest run in {100 * distance:.0f} % of its tokens, "
            f"most runs have another within {100 * usual:.0f} %"
        )
    for name, share, top in zip(problem.names, weights, problem.high, strict=True):
        if top < 1 and share > top - 1e-4:
            warnings.append(f"{name} is at its limit of {100 * top:.1f} %: more of it is predicted to help")
    if gain[1] <= 0:
        warnings.append("the interval of the predicted gain includes zero: the natural mix may be as good")
    return warnings
