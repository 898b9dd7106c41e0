"""Turn a model's raw score into a probability, on labeled texts that neither training nor evaluation sees.

`platt` fits a logistic curve over the log-odds (Platt 1999, with his smoothed targets, by Newton's method); it has two
parameters, so a hundred texts are enough. `isotonic` fits any monotone curve (pool adjacent violators, Zadrozny and Elkan 2002); it
wants a thousand. Both are monotone: ranks stay as they are, up to ties. What neither can know: the share of positives among
the documents that are scored later. The probability holds for the mix of labels that it was fitted on.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_EDGE = 1e-7  # raw probabilities are kept this far from 0 and 1


class Calibration(msgspec.Struct, frozen=True):
    """A fitted curve: sigmoid(slope · log-odds + intercept), or a polyline through (knots, values)."""

    kind: Literal["platt", "isotonic", "none"]
    slope: float = 1.0
    intercept: float = 0.0
    knots: list[float] = []
    values: list[float] = []

    def __call__(self, raw: Floats) -> Floats:
        """Return the calibrated probabilities, float64 of the shape of `raw`."""
        if self.kind == "none":
            return raw
        if self.kind == "isotonic":
            return np.interp(raw, self.knots, self.values)
        return _sigmoid(self.slope * _log_odds(raw) + self.intercept)


def calibrate(kind: Literal["platt", "isotonic", "none"], raw: Floats, labels: NDArray[np.bool_]) -> Calibration:
    """Fit a curve of `kind` that maps `raw` probabilities to the share of positive `labels`."""
    if kind == "none":
        return Calibration("none")
    if kind == "isotonic":
        knots, values = _isotonic(raw, labels)
        return Calibration("isotonic", knots=knots, values=values)
    slope, intercept = _platt(_log_odds(raw), labels)
    return Calibration("platt", slope=slope, intercept=intercept)


def _log_odds(raw: Floats) -> Floats:
    kept = np.clip(raw, _EDGE, 1 - _EDGE)
    return np.log(kept / (1 - kept))


def _sigmoid(x: Floats) -> Floats:
    positive = 1 / (1 + np.exp(-np.abs(x)))
    return np.where(x >= 0, positive, 1 - positive)


def _platt(x: Floats, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Return (slope, intercept). The slope is never negative: scores that rank the wrong way become constant."""
    positive, negative = int(labels.sum()), int((~labels).sum())
    high, low = (positive + 1) / (positive + 2), 1 / (negative + 2)
    target = np.where(labels, high, low)
    design = np.stack([x, np.ones_like(x)])
    weights = np.array([0.0, np.log((positive + 1) / (negative + 1))])
    loss = _loss(weights, design, target)
    for _ in range(100):
        p = _sigmoid(weights @ design)
        gradient = design @ (p - target)
        hessian = (design * (p * (1 - p))) @ design.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while scale > 1e-6 and _loss(weights - scale * step, design, target) > loss:
            scale /= 2
        weights = weights - scale * step
        before, loss = loss, _loss(weights, design, target)
        if before - loss < 1e-10 * max(1.0, before):
            break
    if weights[0] < 0:
        return 0.0, float(np.log((positive + 1) / (negative + 1)))
    return float(weights[0]), float(weights[1])


def _loss(weights: Floats, design: Floats, target: Floats) -> float:
    z = weights @ design
    return float(np.sum(np.logaddexp(0, z) - target * z))


def _isotonic(raw: Floats, labels: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    """Return the polyline of the best monotone fit: two knots for each pooled block, its first and its last score."""
    xs, index = np.unique(raw, return_inverse=True)
    sums, counts = np.bincount(index, labels.astype(np.float64)), np.bincount(index).astype(np.float64)
    blocks: list[list[Any]] = []  # sum, count, first, last
    for x, total, count in zip(xs.tolist(), sums.tolist(), counts.tolist(), strict=True):
        blocks.append([total, count, x, x])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            total, count, _, last = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
            blocks[-1][3] = last
    knots, values = [], []
    for total, count, first, last in blocks:
        for x in dict.fromkeys((first, last)):
            knots.append(x)
            values.append(total / count)
    return knots, values
