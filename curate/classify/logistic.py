"""The alternative engine: TF-IDF of hashed word n-grams, and logistic regression by scikit-learn.

Linear in its features, convex, hence without a seed or a learning rate to choose; often as good as fastText on a few thousand
labels (measured: docs/decisions.md). What it trades away: it needs the whole feature matrix in memory to train, and its files are
read by this tool only.

A model file is a JSON header on one line, then float32 weights (the inverse document frequency of each bucket, then
its coefficient), little-endian. Never a pickle: model files travel, and a pickle is a program.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.classify.kernel import HASHED, all_features, build_slots, logits_of, weigh
from curate.classify.text import prepare, string_buffers
from curate.errors import CurateError, InputError
from curate.specs.classifier import Classifier

FORMAT = "curate-logistic-1"
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Logistic:
    """A model that is ready to score. `frequency` and `weights` float32[buckets]."""

    vocabulary: tuple[Any, ...]
    frequency: NDArray[np.float32]
    weights: NDArray[np.float32]
    intercept: float

    def probabilities(self, prepared: pa.StringArray) -> NDArray[np.float64]:
        """Return the probabilities of (positive, negative), float64[texts, 2], for texts that `prepare` made."""
        rows, ends = _features(prepared, self.vocabulary)
        z = logits_of(rows, ends, self.frequency, self.weights) + self.intercept
        p = np.where(z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))
        return np.stack([p, 1 - p], axis=1)


def train(texts: Sequence[str], labels: Sequence[bool], options: Classifier) -> tuple[bytes, list[float]]:
    """Train on raw `texts`; return the model file and no losses. Same input, same bytes.

    Raises CurateError when a label is missing.
    """
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    targets = np.array(labels, np.bool_)
    if targets.all() or not targets.any():
        raise CurateError("training needs positive and negative texts; one of the two is missing")
    buckets, ngrams = options.features.buckets, options.features.word_ngrams
    vocabulary = _vocabulary(ngrams, buckets)
    parts = []
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        parts.append(_features(prepare(pa.array(texts[start : start + _ROWS_AT_ONCE], pa.string()), options.max_characters), vocabulary))
    rows = np.concatenate([part for part, _ in parts])
    ends = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(end) for _, end in parts]))]).astype(np.int64)
    frequency, columns, values, offsets = weigh(rows, ends, buckets)
    matrix = csr_matrix((values.astype(np.float64), columns, offsets), shape=(len(texts), buckets))
    fitted = LogisticRegression(C=options.regularization, solver="liblinear", max_iter=1000, random_state=options.seed).fit(matrix, targets)
    header = {"format": FORMAT, "word_ngrams": ngrams, "buckets": buckets, "intercept": float(fitted.intercept_[0])}
    content = json.dumps(header, sort_keys=True).encode() + b"\n"
    return content + frequency.astype("<f4").tobytes() + fitted.coef_[0].astype("<f4").tobytes(), []


def read(data: bytes, where: str = "") -> Logistic:
    """Read a model file. Raises InputError when it is none."""
    try:
        line, _, rest = data.partition(b"\n")
        header = json.loads(line)
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']}")
        weights = np.frombuffer(rest, "<f4").astype(np.float32).reshape(2, header["buckets"])
        return Logistic(_vocabulary(header["word_ngrams"], header["buckets"]), weights[0], weights[1], float(header["intercept"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"is not a logistic model: {error}", where=where, hint="train the classifier again") from error


def _vocabulary(ngrams: int, buckets: int) -> tuple[Any, ...]:
    """Return a vocabulary without words: single words are hashed too."""
    empty, offsets = np.zeros(1, np.uint8)[:0], np.zeros(1, np.int64)
    return build_slots(empty, offsets), empty, offsets, HASHED, ngrams, buckets


def _features(prepared: pa.StringArray, vocabulary: tuple[Any, ...]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    offsets, data = string_buffers(prepared)
    return all_features(data, offsets, vocabulary)  # type: ignore[no-any-return]
