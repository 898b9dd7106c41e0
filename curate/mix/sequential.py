"""Where to train next, and when to stop.

After a first swarm, the laws are refitted to resampled runs, and each refit recommends a mix of its own. Where these mixes differ in what
the refits say of them, a further run teaches the most. So runs are chosen one after the other: each removes the most of the variance of
the gain at the recommended mixes, given the runs chosen before it, as if the refits were draws from a Gaussian (the ensemble Kalman
update, Evensen 1994; the choice is a knowledge gradient without its maximum, and for a handful of runs nearly as good). Runs spread by
themselves, since what one run has told need not be asked again.

The swarm is large enough when knowing the laws exactly would gain less than two runs of the same mix differ by. That gain is the mean, over
refits, of what the refit's own mix gains beyond the mix that all runs recommend (the expected value of perfect information).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.mix.objective import Problem, relative_bits, scales
from curate.mix.solve import Solution, solve

Array = NDArray[np.float64]
LEAST = 2e-4  # an expected gain below this share of the bits is not worth a run, however quiet the runs are
HALFWAY = 0.5  # candidates lie between pairs of recommended mixes as well


class Rule(msgspec.Struct, frozen=True):
    """Whether a sequential swarm stops, and why. Gains and noise are relative: 0.01 is one percent of the bits."""

    stop: bool
    expected_gain: float
    noise: float  # of the objective, between runs of the same mix
    why: str  # for people


def propose_runs(problem: Problem, count: int, solution: Solution | None = None) -> list[Array]:
    """Return `count` further mixes to train, within the limits, the most telling first."""
    solution = solution or solve(problem)
    optima = solution.optima
    candidates = np.vstack([solution.weights, optima, HALFWAY * optima + (1 - HALFWAY) * np.roll(optima, 1, axis=0)])
    bits = relative_bits(problem, solution.refits, np.vstack([problem.natural, candidates]))
    gains = bits[:, :1] - bits[:, 1:]
    apart = gains - gains.mean(0)
    covariance = apart.T @ apart / len(apart)  # of the gains at all candidates, over refits
    noise = max(run_noise(problem), LEAST) ** 2
    asked = 1 + len(optima)  # what is to be known: the gains at the recommended mixes, relative to that of all runs
    found: list[Array] = []
    for _ in range(count):
        known = covariance[:, 1:asked] - covariance[:, :1]
        removed = (known**2).sum(1) / (np.diagonal(covariance) + noise)
        best = int(np.argmax(removed))
        found.append(candidates[best])
        covariance = covariance - np.outer(covariance[best], covariance[best]) / (covariance[best, best] + noise)
    return found


def expected_gain(problem: Problem, solution: Solution | None = None) -> float:
    """Return what knowing the laws exactly would add to the gain, relative to the bits of the natural mix."""
    solution = solution or solve(problem)
    bits = relative_bits(problem, solution.refits, np.vstack([solution.weights, solution.optima]))
    own = bits[np.arange(len(bits)), 1 + np.arange(len(bits))]
    return float(np.mean(np.maximum(bits[:, 0] - own, 0.0)))


def run_noise(problem: Problem, repeats: Mapping[str, Array] | None = None) -> float:
    """Return the standard deviation of the objective between runs of the same mix.

    `repeats`: suite → scores of one mix under several seeds, in the same order for all suites. Without them, the noise of the laws is
    taken, or else their leave-one-out errors, as those of one run together.
    """
    weight = scales(problem)
    if repeats and all(len(repeats[suite]) > 1 for suite in weight):
        return float(np.std(sum(scale * np.asarray(repeats[suite]) for suite, scale in weight.items()), ddof=1))
    errors = np.array([scale * problem.laws[suite].residuals for suite, scale in weight.items()])
    known = [problem.laws[suite].noise for suite in weight]
    if any(noise is None for noise in known):
        return float(errors.sum(0).std())
    size = np.array([scale * float(noise or 0.0) for scale, noise in zip(weight.values(), known, strict=True)])
    spread = np.maximum(errors.std(1), 1e-12)
    alike = np.cov(errors, ddof=0).reshape(len(size), len(size)) / np.outer(spread, spread)  # suites err together
    return float(np.sqrt(max(size @ alike @ size, 0.0)))


def should_stop(problem: Problem, repeats: Mapping[str, Array] | None = None, solution: Solution | None = None) -> Rule:
    """Return whether more runs are worth it: not when the expected gain is below the noise of a run, or below LEAST."""
    gain, noise = expected_gain(problem, solution), run_noise(problem, repeats)
    least = max(noise, LEAST)
    stop = gain < least
    limit = f"the noise of one run, {100 * noise:.2f} %" if noise >= LEAST else f"the {100 * LEAST:.2f} % that are worth a run"
    word = "below" if stop else "above"
    return Rule(stop, gain, noise, f"knowing the laws exactly would gain another {100 * gain:.2f} % of the bits, {word} {limit}")
