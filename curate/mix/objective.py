"""What a mix is worth, as the laws see it: the weighted bits of all suites relative to the natural mix, with exact gradients.

    bits     Σ ωⱼ · predictedⱼ(w) / predictedⱼ(natural) + pull · KL(w ‖ anchor), to be minimized; the anchor is the natural mix
    chance   (mean gain over natural − pull · KL) / spread of the gain over resampled swarms and leave-one-out errors, to be maximized

Laws are evaluated for one fit, or for many resampled ones at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.mix.law import Fit, SuiteLaw
from curate.mix.limits import Limits
from curate.mix.slopes import AtMix, weighted

Array = NDArray[np.float64]
Fits = Mapping[str, Fit]  # suite → its fit, or B fits
Evaluate = Callable[[Array], tuple[float, Array]]  # mix → value to be minimized, gradient
FLOOR = 1e-6  # of a share, inside logarithms
LEAST_ERROR = 1e-12  # of laws, which may be exact where a score never changes
DIGITS = 3  # to which two mixes are the same, as published tables have them


class Problem(msgspec.Struct, frozen=True, dict=True):
    """What is to be solved. Sources are in the order of `names` everywhere."""

    names: list[str]
    mixes: Array  # of the swarm, [runs, sources]
    scores: dict[str, Array]  # suite → [runs]
    laws: dict[str, SuiteLaw]
    importance: dict[str, float]  # suite → weight in the objective
    natural: Array  # what gains are told against, and protected suites; within the limits
    limits: Limits
    pull: float = 0.01
    anchor: Array | None = None  # what it pulls towards, also a mix that the limits do not allow; None: the natural mix
    protected: tuple[str, ...] = ()  # suites that may not get worse than under the natural mix
    objective: str = "bits"  # or chance

    @functools.cached_property
    def scales(self) -> dict[str, float]:
        """Suite → what one bit per byte of it counts in the objective; suites of no importance are left out."""
        total = sum(self.importance[suite] for suite in self.laws)
        natural = self.natural[None]
        return {
            suite: self.importance[suite] / total / float(fitted.full.predict(natural)[0, 0])
            for suite, fitted in self.laws.items()
            if self.importance[suite] > 0
        }

    @functools.cached_property
    def ceilings(self) -> dict[str, float]:
        """Protected suite → the most bits per byte that it may have: what it has under the natural mix."""
        natural = self.natural[None]
        return {suite: float(self.laws[suite].full.predict(natural)[0, 0]) for suite in self.protected}

    @functools.cached_property
    def usual_distance(self) -> float:
        """The total variation within which 90 % of the swarm's mixes have another one; a mix that was repeated is one. 0: there is no other."""
        mixes = np.unique(np.round(self.mixes, DIGITS), axis=0)
        if len(mixes) < 2:
            return 0.0
        return float(np.quantile([np.delete(apart(mixes, mix), i).min() for i, mix in enumerate(mixes)], 0.9))


def apart(mixes: Array, w: Array) -> Array:
    """Return the total variation of each of `mixes` [mixes, sources] from `w`."""
    return np.asarray(0.5 * np.abs(mixes - w).sum(1))


def full_fits(problem: Problem) -> dict[str, Fit]:
    """Return suite → the fit to all runs."""
    return {suite: fitted.full for suite, fitted in problem.laws.items()}


def relative_bits(problem: Problem, fits: Fits, mixes: Array) -> Array:
    """Return the weighted bits of mixes [mixes, sources] relative to the natural mix, [B, mixes], as each of B fits sees them."""
    total: Array = np.zeros((1, len(mixes)))
    for suite, scale in problem.scales.items():
        total = total + scale * fits[suite].predict(mixes)
    return total


def bits_and_slope(problem: Problem, fits: Fits) -> AtMix:
    """Return the function mix → relative bits [B] and their gradients [B, sources]."""
    return weighted([(scale, fits[suite]) for suite, scale in problem.scales.items()])


def log_ratio(problem: Problem, mixes: Array) -> Array:
    """Return the logarithms of shares over those of the anchor, in the shape of `mixes`, [..., sources]."""
    anchor = problem.natural if problem.anchor is None else problem.anchor
    return np.asarray(np.log(np.maximum(mixes, FLOOR) / np.maximum(anchor, FLOOR)))


def divergence(problem: Problem, w: Array) -> tuple[float, Array]:
    """Return KL(w ‖ anchor) in nats, and its gradient; the anchor is the natural mix, where that is known."""
    ratio = log_ratio(problem, w)
    return float(np.sum(w * ratio)), ratio + 1


def fewest_bits(problem: Problem, fits: Fits) -> Evaluate:
    """Return the objective `bits` as single fits see it."""
    bits = bits_and_slope(problem, fits)

    def evaluate(w: Array) -> tuple[float, Array]:
        value, slope = bits(w)
        away, turn = divergence(problem, w)
        return float(value[0]) + problem.pull * away, slope[0] + problem.pull * turn

    return evaluate


def best_chance(problem: Problem, fits: Fits, refits: Fits, error: float) -> Evaluate:
    """Return the objective `chance`: the gain as `fits` see it, over its spread over `refits` and `error`, which no resample shows.

    Negative, and in units of `error`, so that it is of the size of a gain as the objective `bits` is.
    """
    bits, resampled = bits_and_slope(problem, fits), bits_and_slope(problem, refits)
    base, bases = bits(problem.natural)[0], resampled(problem.natural)[0]

    def evaluate(w: Array) -> tuple[float, Array]:
        value, slope = bits(w)
        values, slopes = resampled(w)
        away, turn = divergence(problem, w)
        gain, climb = float(base[0] - value[0]) - problem.pull * away, -slope[0] - problem.pull * turn
        gains = bases - values
        off = gains - gains.mean()
        spread = float(np.sqrt(np.mean(off**2) + error**2))
        widen = -(off @ slopes) / len(off) / spread
        return -gain * error / spread, -error * (climb / spread - gain / spread**2 * widen)

    return evaluate


def law_error(problem: Problem) -> float:
    """Return the standard deviation of what the laws cannot express, relative to the objective: that of leave-one-out errors.

    The noise between repeated runs is not taken off: these have other seeds, while the runs of a swarm have the same and differ by less.
    """
    together = sum(scale * problem.laws[suite].residuals for suite, scale in problem.scales.items())
    return float(max(np.sqrt(np.mean(np.square(together))), LEAST_ERROR))
