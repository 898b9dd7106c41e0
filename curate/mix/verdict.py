"""The chosen mix against its rivals, trained with the same fresh seeds: paired differences, and an honest word.

A seed fixes initialization and order for all mixes, so the difference between two mixes under one seed is the mix's doing, and the
spread of differences over seeds is the noise. Intervals are Student's t over seeds (95 %); with three seeds they are wide, as they
should be. The verdict weighs suites as the solver does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

Scores = Sequence[Mapping[str, float]]  # per seed: suite → bits per byte


class Difference(msgspec.Struct):
    """Chosen minus rival: negative is better."""

    mine: float
    theirs: float
    mean: float
    low: float
    high: float
    word: str  # better, worse, no_difference_shown


def interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return mean, low and high of paired differences, by Student's t."""
    from scipy.stats import t

    values = np.asarray(differences, np.float64)
    mean = float(values.mean())
    half = float(t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")
    return mean, mean - half, mean + half


def word_of(low: float, high: float) -> str:
    """Say what an interval of differences shows."""
    return "better" if high < 0 else "worse" if low > 0 else "no_difference_shown"


def compare(chosen: Scores, rival: Scores) -> dict[str, Difference]:
    """Return the difference of every suite; `chosen[i]` and `rival[i]` have the same seed."""
    found = {}
    for suite in chosen[0]:
        mine, theirs = [row[suite] for row in chosen], [row[suite] for row in rival]
        mean, low, high = interval([a - b for a, b in zip(mine, theirs, strict=True)])
        found[suite] = Difference(float(np.mean(mine)), float(np.mean(theirs)), mean, low, high, word_of(low, high))
    return found


def overall(chosen: Scores, rival: Scores, importance: Mapping[str, float]) -> Difference:
    """Return the weighted relative difference over all suites: −0.01 is one percent fewer bits."""
    total = sum(importance.values())

    def merit(row: Mapping[str, float], base: Mapping[str, float]) -> float:
        return sum(importance[suite] / total * row[suite] / base[suite] for suite in importance)

    differences = [merit(a, b) - 1.0 for a, b in zip(chosen, rival, strict=True)]
    mean, low, high = interval(differences)
    return Difference(1.0 + mean, 1.0, mean, low, high, word_of(low, high))
