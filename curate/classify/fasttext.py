"""fastText models without the library: train one, write and read its file format (version 12), and score with it.

Why not the library (fasttext-numpy2-wheel 0.9.2, measured on 2,344 labeled texts, dim 32, 10 epochs): its matrix is filled by
threads that take a tenth each. Below 10 threads the rest keeps what the memory held before: of 12 models trained with one
thread, half with word bigrams, 4 stopped with "Encountered NaN" and 3 differed from their siblings; with 10 threads the last
rows·dim mod 10 numbers stay unset (weights up to 1e38), and from 2 threads on no two models are equal. The trainer here gives
the same bytes each time and the same quality, and the library loads its files and predicts the same probabilities.

What it trades away: one core trains one model, and subwords, hierarchical softmax, quantized and multi-label models
are neither trained nor read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.classify.kernel import all_features, build_slots, descend, initialize, probabilities_of
from curate.classify.text import prepare, string_buffers
from curate.errors import CurateError, InputError
from curate.specs.classifier import Classifier

MAGIC, VERSION = 793712314, 12
END = b"</s>"
LABELS = ("__label__positive", "__label__negative")
_ARGS = struct.Struct("<12id")  # dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate, t
_COUNTS = struct.Struct("<iiiqq")  # size, words, labels, tokens, pruned size
_SHAPE = struct.Struct("<qq")
_SOFTMAX, _SUPERVISED = 3, 3
_ROWS_AT_ONCE = 4096
_READABLE = "only plain softmax models with word n-grams are read"


@dataclass(frozen=True)
class FastText:
    """A model that is ready to score. `matrix` float32[words + buckets, dim], `output` float32[labels, dim]."""

    labels: list[str]
    vocabulary: tuple[Any, ...]  # slots, words, word_offsets, end_row, ngrams, buckets: what the kernels take
    matrix: NDArray[np.float32]
    output: NDArray[np.float32]

    def probabilities(self, prepared: pa.StringArray) -> NDArray[np.float64]:
        """Return the probability of each label, float64[texts, labels], for texts that `prepare` made."""
        if len(prepared) == 0:
            return np.zeros((0, len(self.labels)))
        offsets, data = string_buffers(prepared)
        return probabilities_of(data, offsets, self.vocabulary, self.matrix, self.output)  # type: ignore[no-any-return]


def train(texts: Sequence[str], labels: Sequence[bool], options: Classifier) -> tuple[bytes, list[float]]:
    """Train on raw `texts`; return the model file and the mean loss of each epoch. Same input, same bytes.

    Raises CurateError when a label is missing or the weights overflow.
    """
    prepared = [prepare(pa.array(texts[i : i + _ROWS_AT_ONCE], pa.string()), options.max_characters) for i in range(0, len(texts), _ROWS_AT_ONCE)]
    # fastText's label order is by frequency; here positive comes first, always.
    targets = np.array([0 if positive else 1 for positive in labels], np.int32)
    if len(set(targets.tolist())) < 2:
        raise CurateError("training needs positive and negative texts; one of the two is missing")
    words = _count_words(prepared, options.features.min_count)
    ngrams = options.features.word_ngrams
    buckets = options.features.buckets if ngrams > 1 else 0
    vocabulary = _vocabulary([word for word, _ in words], ngrams, buckets)
    parts = [all_features(data, offsets, vocabulary) for offsets, data in map(string_buffers, prepared)]
    features = np.concatenate([rows for rows, _ in parts])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(ends) for _, ends in parts]))]).astype(np.int64)
    matrix = np.zeros((len(words) + buckets, options.features.dim), np.float32)
    output = np.zeros((2, options.features.dim), np.float32)
    initialize(matrix, features, options.seed)
    losses = descend((features, offsets, targets), (matrix, output), options.epochs, options.learning_rate, options.seed)
    if not (np.isfinite(output).all() and np.isfinite(losses).all() and np.isfinite(matrix[features]).all()):
        raise CurateError("training diverged: some weights are not finite", hint=f"lower learning_rate (it is {options.learning_rate})")
    counts = [int((targets == label).sum()) for label in range(2)]
    return _file(options, words, counts, matrix, output), [round(float(loss), 6) for loss in losses]


def _count_words(prepared: list[pa.StringArray], min_count: int) -> list[tuple[bytes, int]]:
    """Return (word, count), most frequent first, ties in byte order; the end-of-line word counts once per text."""
    counts: dict[bytes, int] = {}
    for texts in prepared:
        words = pc.list_flatten(pc.split_pattern(texts.cast(pa.binary()), b" ")).value_counts()
        for word, count in zip(words.field("values").to_pylist(), words.field("counts").to_pylist(), strict=True):
            counts[word] = counts.get(word, 0) + count
    counts.pop(b"", None)
    kept = [(word, count) for word, count in counts.items() if count >= min_count]
    kept.append((END, sum(len(texts) for texts in prepared)))
    return sorted(kept, key=lambda entry: (-entry[1], entry[0]))


def _vocabulary(words: list[bytes], ngrams: int, buckets: int) -> tuple[Any, ...]:
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum([len(word) for word in words], out=offsets[1:])
    data = np.frombuffer(b"".join(words), np.uint8)
    end_row = words.index(END) if END in words else -1
    return build_slots(data, offsets), data, offsets, end_row, ngrams, buckets


def _file(options: Classifier, words: list[tuple[bytes, int]], counts: list[int], matrix: NDArray[Any], output: NDArray[Any]) -> bytes:
    """Return the bytes of fastText's model file: arguments, dictionary, input matrix, output matrix."""
    f, buckets = options.features, matrix.shape[0] - len(words)
    args = _ARGS.pack(f.dim, 5, options.epochs, f.min_count, 5, f.word_ngrams, _SOFTMAX, _SUPERVISED, buckets, 0, 0, 100, 1e-4)
    tokens = sum(count for _, count in words) + sum(counts)
    parts = [struct.pack("<ii", MAGIC, VERSION), args, _COUNTS.pack(len(words) + 2, len(words), 2, tokens, -1)]
    parts += [word + b"\0" + struct.pack("<qb", count, 0) for word, count in words]
    parts += [label.encode() + b"\0" + struct.pack("<qb", count, 1) for label, count in zip(LABELS, counts, strict=True)]
    for weights in (matrix, output):
        parts += [b"\0", _SHAPE.pack(*weights.shape), weights.astype("<f4", copy=False).tobytes()]
    return b"".join(parts)


def read(data: bytes, where: str = "") -> FastText:
    """Read a model file. Raises InputError for files that are no fastText model, damaged, or of a kind that is not supported."""
    try:
        return _read(data, where)
    except (struct.error, ValueError, IndexError) as error:
        raise InputError(f"is damaged: {error}", where=where, hint="train the classifier again") from error


def _read(data: bytes, where: str) -> FastText:
    magic, version = struct.unpack_from("<ii", data, 0)
    if magic != MAGIC:
        raise InputError("is not a fastText model", where=where)
    dim, _, _, _, _, ngrams, loss, kind, buckets, _, maxn, _, _ = _ARGS.unpack_from(data, 8)
    at = 8 + _ARGS.size
    size, num_words, num_labels, _, pruned = _COUNTS.unpack_from(data, at)
    unsupported = [
        what
        for what, found in (
            (f"format version {version}", version != VERSION),
            ("word vectors without labels", kind != _SUPERVISED),
            ("a loss other than softmax", loss != _SOFTMAX),
            ("subwords", maxn > 0),
            ("pruned or quantized weights", pruned >= 0),
        )
        if found
    ]
    if unsupported:
        raise InputError(f"is a fastText model with {', '.join(unsupported)}", where=where, hint=_READABLE)
    at += _COUNTS.size
    names = []
    for _ in range(size):
        end = data.index(b"\0", at)
        names.append(data[at:end])
        at = end + 10
    matrices = []
    for expected in ((num_words + buckets, dim), (num_labels, dim)):
        if data[at]:
            raise InputError("is a quantized fastText model", where=where, hint=_READABLE)
        shape = _SHAPE.unpack_from(data, at + 1)
        if shape != expected:
            raise ValueError(f"a matrix has shape {shape}, expected {expected}")
        weights = np.frombuffer(data, "<f4", shape[0] * shape[1], at + 17).astype(np.float32).reshape(shape)
        at += 17 + weights.nbytes
        matrices.append(weights)
    labels = [name.decode("utf-8", "replace") for name in names[num_words:]]
    return FastText(labels, _vocabulary(names[:num_words], ngrams, buckets if ngrams > 1 else 0), matrices[0], matrices[1])
