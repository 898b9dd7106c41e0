"""Laws and limits → the mix that is proposed, how sure that is, and what it would gain.

The swarm is cut into random halves, each with the runs that it lacks as another. For every half the laws are refitted, and the objective of
curate.mix.objective is minimized over the feasible mixes. The proposal is the mean of these optima: what only some of the runs say does not
move it, and a swarm drawn anew would recommend nearly the same (Breiman 1996 for the mean; McCarthy 1969 for balanced halves). It is
feasible, since limits are convex; where it would make a protected suite worse, it goes towards the optimum of all runs until it does not.
Given up: the optimum of all runs, which looks better to the very laws that it comes from, and was measured to be no better (docs/decisions.md).
Resampling with weights in place of halves leaves a Gaussian process as it is, for it follows every run however little that counts; it
stands in where a half has too few runs.

A minimum is found by SLSQP with exact gradients, for all runs from several fixed starts (with the parametric laws the objective `bits` is
convex; with Gaussian processes it is not). Deterministic.

Halves of a swarm vary about the fit to all of it as swarms of its size about the truth, so the optima give the intervals of the weights. They
also correct the predicted gain for the winner's curse: a mix that was chosen because it looks best looks better than it is, and a half's
optimum looks better in that half than in others. The interval of the gain also carries the laws' leave-one-out errors, since no resample
knows of what a law cannot express.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import SpecError
from curate.mix import law as laws_of
from curate.mix.feasible import linear_constraints, project
from curate.mix.law import Fit
from curate.mix.limits import Limits
from curate.mix.objective import Evaluate, Fits, Problem, apart, best_chance, fewest_bits, full_fits, law_error, relative_bits
from curate.mix.slopes import AtMix, weighted

__all__ = ["Problem", "Solution", "solve"]

Array = NDArray[np.float64]
RESAMPLES = 40  # halves of the swarm; even
STILL = 1e-4  # a source whose shares differ by less over the runs was never tried
LEAST_HALF = 1.5  # times (sources + 1): runs of a half
SAME = 1e-6  # shares that differ by less are the same
Interval = tuple[float, float, float]  # mean, low, high


class Solution(msgspec.Struct):
    """What was found; arrays are in the order of the problem's names. Gains are relative: 0.01 is one percent fewer bits."""

    weights: Array
    optimum: Array  # of the fit to all runs
    low: Array  # 90 % interval over halves of the swarm
    high: Array
    gain: Interval  # over natural, corrected for the winner's curse: mean and 90 % interval
    gain_uncorrected: float
    gain_over_uniform: Interval  # likewise
    predictions: dict[str, dict[str, float]]  # suite → natural, uniform, solved, low, high
    nearest_run: float  # total variation distance
    usual_distance: float  # within which 90 % of the runs have another one
    keep_natural: bool  # the interval of the gain includes zero
    chance: float | None  # of beating the natural mix; None unless that is the objective
    warnings: list[str]
    curse: float  # what was taken off the gain
    refits: dict[str, Fit]  # suite → its law refitted to RESAMPLES halves of the swarm
    optima: Array  # the mixes that these recommend, [RESAMPLES, sources]


def solve(problem: Problem) -> Solution:
    """Return the recommended mix. Raises SpecError when no mix keeps every protected suite."""
    full, refits = full_fits(problem), resampled(problem)
    optimum = minimize(problem, objective_of(problem, full, refits), starts_of(problem))
    optima = np.array([_again(problem, refits, b, optimum) for b in range(RESAMPLES)])
    weights = settled(problem, optimum, optima)
    curse = _curse(problem, refits, optima)
    gain = gain_interval(problem, refits, weights, problem.natural, curse)
    uniform = np.full(len(problem.names), 1 / len(problem.names))
    low, high = np.quantile(optima, [0.05, 0.95], axis=0)
    return Solution(
        weights,
        optimum,
        np.minimum(low, weights),
        np.maximum(high, weights),
        gain,
        gain_of(problem, full, weights),
        gain_interval(problem, refits, weights, uniform, curse),
        _predictions(problem, weights, uniform),
        float(apart(problem.mixes, weights).min()),
        problem.usual_distance,
        gain[1] <= 0,
        _chance(problem, refits, weights, curse) if problem.objective == "chance" else None,
        _warnings(problem, weights, gain),
        curse,
        refits,
        optima,
    )


def settled(problem: Problem, optimum: Array, optima: Array) -> Array:
    """Return the mean of the optima of resampled swarms, as near to it as protected suites allow. The objective `chance` weighs resamples itself."""
    if problem.objective == "chance":
        return optimum
    middle = project(optima.mean(0), problem.limits)
    parts = np.linspace(1, 0, 33) if problem.protected else (1.0,)
    way = optimum + np.asarray(parts)[:, None] * (middle - optimum)
    good = protects(problem, problem.ceilings, way)
    return np.asarray(way[int(np.argmax(good))]) if good.any() else optimum


def resampled(problem: Problem) -> dict[str, Fit]:
    """Return suite → its law refitted to RESAMPLES halves of the swarm, the same for all suites; every second one is what the one before lacks.

    Where a half would hold fewer runs than half of a default swarm, runs are weighted at random instead (a Bayesian bootstrap, Rubin 1981).
    """
    (runs, sources), random = problem.mixes.shape, np.random.default_rng(0)
    if runs < 2 * LEAST_HALF * (sources + 1):  # so that a default swarm of an odd number of runs is halved, too
        draws = random.dirichlet(np.ones(runs), RESAMPLES) * runs
    else:
        first = [np.isin(np.arange(runs), random.permutation(runs)[: runs // 2]) for _ in range(RESAMPLES // 2)]
        draws = np.array([part for half in first for part in (half, ~half)], np.float64)
    return {suite: laws_of.fit(one.full.kind, problem.mixes, problem.scores[suite], draws, one.full) for suite, one in problem.laws.items()}


def objective_of(problem: Problem, fits: Fits, refits: Fits) -> Evaluate:
    """Return what the problem wants minimized, as `fits` see it."""
    if problem.objective == "chance":
        return best_chance(problem, fits, refits, law_error(problem))
    return fewest_bits(problem, fits)


def starts_of(problem: Problem) -> list[Array]:
    """Return the natural and the uniform mix and the three runs with the best scores; not all within the limits."""
    total = sum(problem.importance.values())
    merit = sum(problem.importance[s] / total * y / float(np.mean(y)) for s, y in problem.scores.items())
    best = problem.mixes[np.argsort(merit, kind="stable")[:3]]
    return [problem.natural, np.full(len(problem.names), 1 / len(problem.names)), *best]


def _again(problem: Problem, refits: Fits, b: int, start: Array) -> Array:
    one = {suite: fit.one(b) for suite, fit in refits.items()}
    free = msgspec.structs.replace(problem, protected=())
    return minimize(free, objective_of(free, one, refits), [start])


# ── the solver ────────────────────────────────────────────────────────────────────────────────────────────────────


def minimize(
    problem: Problem, evaluate: Evaluate, starts: list[Array], limits: Limits | None = None, slack: Mapping[str, float] | None = None
) -> Array:
    """Return the best mix within the limits that keeps the protected suites. Raises SpecError when there is none.

    `limits` stand in for the problem's; `slack`: by how much, relative, a protected suite may be worse than under the natural mix.
    """
    from scipy.optimize import minimize as slsqp

    limits, slack = limits or problem.limits, slack or {}
    ceilings = {suite: (1 + slack.get(suite, 0.0)) * most for suite, most in problem.ceilings.items()}
    constraints = [*linear_constraints(limits), *protection(problem, ceilings)]
    box = list(zip(limits.low, limits.high, strict=True))
    best: tuple[float, Array] | None = None
    for start in starts:
        begin = project(start, limits)
        found = slsqp(evaluate, begin, jac=True, method="SLSQP", bounds=box, constraints=constraints, options={"maxiter": 200, "ftol": 1e-10})
        for w in (project(np.asarray(found.x), limits) if np.isfinite(found.x).all() else begin, begin):
            value = evaluate(w)[0]
            if protects(problem, ceilings, w[None])[0] and np.isfinite(value) and (best is None or value < best[0] - 1e-9):
                best = (value, w)
    if best is None:
        suites = ", ".join(problem.protected)
        raise SpecError(f"no mix within the limits keeps {suites} as good as the natural mix does", where="evals", hint="protect fewer suites")
    return best[1]


def protection(problem: Problem, ceilings: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return that every protected suite stays below its ceiling as constraints of SLSQP."""
    return [_kept(weighted([(1.0, problem.laws[suite].full)]), most) for suite, most in ceilings.items()]


def _kept(bits: AtMix, most: float) -> dict[str, Any]:
    return {"type": "ineq", "fun": lambda w: 100 * (most - float(bits(w)[0][0])), "jac": lambda w: -100 * bits(w)[1][0]}


def protects(problem: Problem, ceilings: Mapping[str, float], mixes: Array) -> NDArray[np.bool_]:
    """Say of mixes whether no protected suite is predicted to be worse than it may be, within one part in ten thousand, [mixes]."""
    good = np.ones(len(mixes), np.bool_)
    for suite, most in ceilings.items():
        good &= problem.laws[suite].full.predict(mixes)[0] <= most * (1 + 1e-4)
    return good


# ── what it gains ─────────────────────────────────────────────────────────────────────────────────────────────────


def gain_of(problem: Problem, fits: Fits, w: Array) -> float:
    """Return by how much `w` lowers the weighted bits, relative to the natural mix, as the first of these fits sees it."""
    natural, mine = relative_bits(problem, fits, np.stack([problem.natural, w]))[0]
    return float(natural - mine)


def _curse(problem: Problem, refits: Fits, optima: Array) -> float:
    """Return how much better the optimum of a resample looks in that resample than in all of them on the average: what choosing it adds.

    Next to the fit to all runs instead, laws of half as many runs differ from it also where nothing was chosen.
    """
    bits = relative_bits(problem, refits, optima)
    return max(0.0, float(np.mean(bits.mean(0) - np.diag(bits))))


def gain_interval(problem: Problem, refits: Fits, w: Array, rival: Array, curse: float) -> Interval:
    """Return the gain of `w` over `rival`, less the winner's curse, with its 90 % interval."""
    return gain_intervals(problem, refits, w[None], rival, [curse])[0]


def gain_intervals(problem: Problem, refits: Fits, mixes: Array, rival: Array, curses: list[float]) -> list[Interval]:
    """Return the gains of mixes [mixes, sources] over `rival`, less what the winner's curse is for each, with their 90 % intervals."""
    gains, draws = _gains(problem, refits, mixes, rival)
    means, (low, high) = gains - curses, np.quantile(draws, [0.05, 0.95], axis=0) - curses
    found = [(float(m), min(float(a), float(m)), max(float(b), float(m))) for m, a, b in zip(means, low, high, strict=True)]
    return [(0.0, 0.0, 0.0) if apart(mix[None], rival) < SAME else interval for mix, interval in zip(mixes, found, strict=True)]


def _gains(problem: Problem, refits: Fits, mixes: Array, rival: Array) -> tuple[Array, Array]:
    """Return the gains of mixes [mixes, sources] over `rival` that all runs show, [mixes], and what they may be, [RESAMPLES · runs, mixes].

    Resamples say how far the gain that all runs show would move in another swarm. Each is taken with the leave-one-out error of every run, that of
    all suites together, as the error of the law at a mix (bits that it costs more than predicted are gain that is lost): in units of what the law
    thinks of its uncertainty, so that a run in a far corner does not speak for mixes in the middle. A mix that lies nearer to its rival than runs
    to each other shares that error with it: what is left is in proportion to the distance, as where scores are smooth.
    """
    both = np.vstack([rival, mixes])
    drawn, full = relative_bits(problem, refits, both), relative_bits(problem, full_fits(problem), both)[0]
    gains, moved = full[0] - full[1:], drawn[:, :1] - drawn[:, 1:]
    error = np.zeros((len(problem.mixes), len(mixes)))
    for suite, scale in problem.scales.items():
        fitted = problem.laws[suite]
        error += scale * np.outer(fitted.residuals / fitted.scales, fitted.scale_at(mixes))
    error *= np.minimum(1.0, apart(mixes, rival) / max(problem.usual_distance, SAME))
    draws = gains + (moved - moved.mean(0))[:, None] - error
    return gains, draws.reshape(-1, len(mixes))


def _chance(problem: Problem, refits: Fits, w: Array, curse: float) -> float:
    """Return how likely `w` beats the natural mix: the share of what its gain may be that is above the winner's curse. No mix beats itself."""
    draws = _gains(problem, refits, w[None], problem.natural)[1]
    return 0.0 if apart(w[None], problem.natural) < SAME else float(np.mean(draws > curse))


def _predictions(problem: Problem, weights: Array, uniform: Array) -> dict[str, dict[str, float]]:
    found = {}
    for suite, fitted in problem.laws.items():
        mean, low, high = fitted.predict(np.stack([problem.natural, uniform, weights]))
        found[suite] = {"natural": mean[0], "uniform": mean[1], "solved": mean[2], "low": low[2], "high": high[2]}
    return {suite: {name: float(value) for name, value in row.items()} for suite, row in found.items()}


def _warnings(problem: Problem, weights: Array, gain: Interval) -> list[str]:
    warnings = []
    for what, mix in {"proposal": weights, "natural mix": problem.natural}.items():
        distance, usual = float(apart(problem.mixes, mix).min()), problem.usual_distance
        if distance > usual:
            warnings.append(
                f"the laws extrapolate: the {what} differs from the nearest run in {100 * distance:.0f} % of its tokens, "
                f"most runs have another within {100 * usual:.0f} %"
            )
    still = [name for name, shares in zip(problem.names, problem.mixes.T, strict=True) if np.ptp(shares) < STILL]
    if still:
        warnings.append(f"no two runs have different shares of {', '.join(still)}: what more or less of it would do is a guess")
    if gain[2] < 0:
        warnings.append("no gain over the natural mix is predicted, once what is due to the choice of the best-looking mix is taken off")
    elif gain[1] <= 0:
        warnings.append("the interval of the predicted gain includes zero: the natural mix may be as good")
    return warnings
