"""How good a classifier is, measured on labeled texts that training and calibration never saw.

Ranking: the area under the ROC curve (with Hanley and McNeil's 1982 standard error, since held-out sets are often small)
and average precision. Deciding: precision, recall and share kept for a row of thresholds. Probabilities: Brier score, and a
table of predicted against true shares. Everything is plain data, rounded to six digits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def evaluate(scores: Floats, labels: Bools, threshold: float) -> dict[str, Any]:
    """Return every measure of `scores`, float64[n] in [0, 1], against `labels`, bool[n], as plain data."""
    area = auc(scores, labels)
    error = _auc_error(area, int(labels.sum()), int((~labels).sum()))
    table = calibration_table(scores, labels)
    return {
        "num_texts": len(labels),
        "num_positive": int(labels.sum()),
        "auc": _rounded(area),
        "auc_interval": [_rounded(max(0.0, area - 1.96 * error)), _rounded(min(1.0, area + 1.96 * error))],
        "average_precision": _rounded(average_precision(scores, labels)),
        "brier": _rounded(float(np.mean((scores - labels) ** 2))) if len(labels) else None,
        "calibration_error": _rounded(sum(row["num_texts"] * abs(row["mean_score"] - row["share_positive"]) for row in table) / max(len(labels), 1)),
        "at_threshold": at_threshold(scores, labels, threshold),
        "curve": [at_threshold(scores, labels, t) for t in _THRESHOLDS],
        "calibration": table,
    }


def auc(scores: Floats, labels: Bools) -> float:
    """Return the probability that a positive text scores above a negative one, ties counting half; 0.5 without both labels."""
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative:
        return 0.5
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index]
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def average_precision(scores: Floats, labels: Bools) -> float:
    """Return the mean precision over the positives, by falling score; texts of equal score are taken together."""
    positive = int(labels.sum())
    if not positive:
        return 0.0
    values, index = np.unique(-scores, return_inverse=True)
    hits = np.cumsum(np.bincount(index, labels, len(values)))
    taken = np.cumsum(np.bincount(index, minlength=len(values)))
    return float(np.sum(np.diff(hits, prepend=0.0) * hits / taken) / positive)


def at_threshold(scores: Floats, labels: Bools, threshold: float) -> dict[str, Any]:
    """Return what keeping the texts that score at least `threshold` would do: confusion, precision, recall, share kept."""
    kept = scores >= threshold
    right, wrong = int((kept & labels).sum()), int((kept & ~labels).sum())
    missed, rejected = int((~kept & labels).sum()), int((~kept & ~labels).sum())
    return {
        "threshold": threshold,
        "kept_positive": right,
        "kept_negative": wrong,
        "dropped_positive": missed,
        "dropped_negative": rejected,
        "precision": _rounded(right / (right + wrong)) if right + wrong else None,
        "recall": _rounded(right / (right + missed)) if right + missed else None,
        "share_kept": _rounded((right + wrong) / max(len(labels), 1)),
    }


def calibration_table(scores: Floats, labels: Bools, bins: int = 10) -> list[dict[str, Any]]:
    """Return, for each bin of scores that is not empty, how many texts it holds, their mean score and share of positives."""
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    rows = []
    for k in range(bins):
        here = place == k
        if here.any():
            rows.append(
                {
                    "from": _rounded(k / bins),
                    "to": _rounded((k + 1) / bins),
                    "num_texts": int(here.sum()),
                    "mean_score": _rounded(float(scores[here].mean())),
                    "share_positive": _rounded(float(labels[here].mean())),
                }
            )
    return rows


def _auc_error(area: float, positive: int, negative: int) -> float:
    """Return the standard error of an area under the curve (Hanley and McNeil 1982)."""
    if not positive or not negative:
        return 0.5
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positive - 1) * (q1 - area**2) + (negative - 1) * (q2 - area**2)
    return math.sqrt(max(variance, 0.0) / (positive * negative))


def _rounded(value: float) -> float:
    return round(float(value), 6)
