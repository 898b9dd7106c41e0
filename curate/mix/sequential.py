"""Where to train next, and when to stop.

What is not known is written as a covariance of the gains at some hundred candidate mixes. It has two parts. The resampled refits of the laws
say how the laws would come out of another swarm. What no refit shows, since a law cannot express it, or since a Gaussian process follows its
runs however they are weighted, has the size of the laws' leave-one-out errors, as large as the law thinks itself uncertain there
(curate.mix.spread), and is alike at mixes as near as neighboring runs are. Candidates lie around the recommended mix, towards what the
refits recommend, what was tried, and everywhere else within the limits.

Runs are chosen one after the other: each removes the most of the uncertainty of the gain over the recommended mix where the best mix may
be, given the runs chosen before it (a knowledge gradient, Frazier 2009, with variances in place of its maximum). They spread by themselves:
what one run has told need not be asked again. Every second run is a fresh draw as in the first swarm: where a law has the wrong shape, runs
near what it takes for the best mix alone would confirm it in its error. (Without these, regret on saturating truths was up to twice as large.)

The swarm is large enough when knowing all gains exactly would gain less than two runs of the same mix differ by. That gain is the mean, over
draws of what the gains may be, of the best candidate's gain beyond that of the recommended mix (the expected value of perfect information).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.mix.feasible import project
from curate.mix.objective import Problem, divergence, full_fits, relative_bits
from curate.mix.sample import draw_mix
from curate.mix.solve import Solution, solve

Array = NDArray[np.float64]
LEAST = 2e-4  # an expected gain below this share of the bits is not worth a run, however quiet the runs are
STEPS = (0.2, 0.5)  # of the way from the recommended mix to another, where candidates lie
ELSEWHERE = 40  # flat draws that candidates lie towards
DRAWS = 512  # of the gains at all candidates
NOISE_SHARE = 0.5  # of the squared leave-one-out errors, where no repeated run tells


class Rule(msgspec.Struct, frozen=True):
    """Whether a sequential swarm stops, and why. Gains and noise are relative: 0.01 is one percent of the bits."""

    stop: bool
    expected_gain: float
    noise: float  # of the objective, between runs of the same mix
    why: str  # for people


class _Belief(msgspec.Struct, frozen=True):
    """What the gains at candidate mixes may be. The first candidate is the recommended mix."""

    mixes: Array  # [candidates, sources]
    mean: Array  # of the gains, less the pull towards the natural mix, [candidates]
    covariance: Array  # [candidates, candidates]


def propose_runs(problem: Problem, count: int, solution: Solution | None = None) -> list[Array]:
    """Return `count` further mixes to train, within the limits, the most telling first."""
    belief = _belief(problem, solution or solve(problem))
    covariance, noise = belief.covariance, max(run_noise(problem), LEAST) ** 2
    found: list[Array] = []
    for number in range(count):
        if number % 2:
            found.append(draw_mix(problem.natural, problem.limits, [len(problem.mixes), number]))
            continue
        gains = _drawn(belief.mean, covariance)
        likely = np.bincount(gains.argmax(1), minlength=len(belief.mean)) / DRAWS  # to be the best
        over = covariance - covariance[:1]  # of the gain over the recommended mix, with the gain at each candidate
        removed = likely @ over**2 / (np.diagonal(covariance) + noise)
        best = int(np.argmax(removed))
        found.append(belief.mixes[best])
        covariance = covariance - np.outer(covariance[best], covariance[best]) / (covariance[best, best] + noise)
    return found


def expected_gain(problem: Problem, solution: Solution | None = None) -> float:
    """Return what knowing all gains exactly would add to the gain, relative to the bits of the natural mix."""
    belief = _belief(problem, solution or solve(problem))
    gains = _drawn(belief.mean, belief.covariance)
    return float(np.mean(gains.max(1) - gains[:, 0]))


def should_stop(problem: Problem, repeats: Mapping[str, Array] | None = None, solution: Solution | None = None) -> Rule:
    """Return whether more runs are worth it: not when the expected gain is below the noise of a run, or below LEAST.

    `repeats`: suite → scores of one mix under several seeds, in the same order for all suites.
    """
    gain, noise = expected_gain(problem, solution), run_noise(problem, repeats)
    stop = gain < max(noise, LEAST)
    limit = f"the noise of one run, {100 * noise:.2f} %" if noise >= LEAST else f"the {100 * LEAST:.2f} % that are worth a run"
    word = "below" if stop else "above"
    return Rule(stop, gain, noise, f"knowing the laws exactly would gain another {100 * gain:.2f} % of the bits, {word} {limit}")


def run_noise(problem: Problem, repeats: Mapping[str, Array] | None = None) -> float:
    """Return the standard deviation of the objective between runs of the same mix.

    Without `repeats`, each suite's known noise is taken, or else a share of its leave-one-out errors; suites err together as these do.
    """
    weight = problem.scales
    if repeats and all(len(repeats[suite]) > 1 for suite in weight):
        return float(np.std(sum(scale * np.asarray(repeats[suite]) for suite, scale in weight.items()), ddof=1))
    return float(_together(problem, {suite: np.array([scale * _noise(problem, suite)]) for suite, scale in weight.items()})[0])


def _noise(problem: Problem, suite: str) -> float:
    """Return the standard deviation of a suite's score between runs of the same mix."""
    fitted = problem.laws[suite]
    return float(np.sqrt(NOISE_SHARE * np.mean(fitted.residuals**2))) if fitted.noise is None else fitted.noise


def _together(problem: Problem, sizes: Mapping[str, Array]) -> Array:
    """Return the standard deviation of a sum over suites, whose parts have these sizes [n] and go together as the leave-one-out errors do."""
    errors = np.array([problem.laws[suite].residuals for suite in sizes])
    length = np.maximum(np.sqrt((errors**2).mean(1)), 1e-12)
    alike = errors @ errors.T / errors.shape[1] / np.outer(length, length)
    size = np.array(list(sizes.values()))
    return np.asarray(np.sqrt(np.maximum(np.einsum("in,ij,jn->n", size, alike, size), 0.0)))


def _belief(problem: Problem, solution: Solution) -> _Belief:
    mixes = _candidates(problem, solution)
    bits = relative_bits(problem, solution.refits, np.vstack([problem.natural, mixes]))
    gains = bits[:, :1] - bits[:, 1:]
    apart = gains - gains.mean(0)
    full = relative_bits(problem, full_fits(problem), np.vstack([problem.natural, mixes]))[0]
    pulls = problem.pull * np.array([divergence(problem, mix)[0] for mix in mixes])
    covariance = apart.T @ apart / len(apart) + _unexpressed(problem, mixes)
    return _Belief(mixes, full[0] - full[1:] - pulls, covariance)


def _candidates(problem: Problem, solution: Solution) -> Array:
    """Return mixes within the limits, which are convex: so is all that lies between two of them."""
    flat = np.random.default_rng(2).dirichlet(np.ones(len(problem.names)), ELSEWHERE)
    towards = np.array([project(mix, problem.limits) for mix in (problem.natural, *problem.mixes, *flat)])
    here = solution.weights
    return np.vstack([here, solution.optima, *(here + step * (towards - here) for step in STEPS)])


def _unexpressed(problem: Problem, mixes: Array) -> Array:
    """Return the covariance, between mixes, of what the laws leave of the objective, without noise."""
    sizes = {}
    for suite, scale in problem.scales.items():
        _, low, high = problem.laws[suite].predict(mixes)
        total = ((high - low) / (2 * 1.645)) ** 2
        sizes[suite] = scale * np.sqrt(np.maximum(total - _noise(problem, suite) ** 2, 0.05 * total))
    size = _together(problem, sizes)
    runs, at = np.sqrt(problem.mixes), np.sqrt(np.maximum(mixes, 0.0))
    near = _squares(runs, runs) + 4 * np.eye(len(runs))
    usual = max(float(np.median(near.min(1))), 1e-4)  # squared distance from a run to the next
    return np.asarray(np.outer(size, size) * np.exp(-_squares(at, at) / (4 * usual)))


def _squares(a: Array, b: Array) -> Array:
    return np.asarray(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0.0))


def _drawn(mean: Array, covariance: Array) -> Array:
    """Return DRAWS draws, the same normal numbers every time, [DRAWS, candidates]."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(mean + np.random.default_rng(3).normal(size=(DRAWS, len(mean))) @ root.T)
