"""MinHash signatures with banding: texts with a Jaccard similarity s share a band key with the chance 1 - (1 - s^rows)^bands.

Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec, Rajaraman and Ullman, "Mining of Massive
Datasets", chapter 3; word 5-grams in 14 bands of 8 rows as in FineWeb (arXiv 2406.17557).

A shingle is `ngram` words in a row, as curate.kernels.words finds them: case-folded, punctuation and symbols left out. A text of
fewer words is one shingle of all of them; a text without words has no signature, and so no near-duplicates. Repeated shingles
count once (a set, not a bag).

A shingle is hashed to 64 well-mixed bits x, once. The hash functions of the signature are the bijections a·x + b mod 2^64 with odd a:
no modulo by a prime and no 128-bit product, so the loop over functions is vectorized. A family that simple is not min-wise
independent for every set of integers; on hashes that are mixed already, its estimate of the similarity shows no bias, and no more
scatter than independent functions would have (tests/dedup/test_dedup_minhash.py measures both). The multipliers come from SplitMix64, written
down here and not taken from a library's generator: signatures that are stored depend on them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.kernels.compiled import compiled, inlined
from curate.kernels.words import SEED, finish, step, words_of
from curate.specs.workflow import Minhash

_MASK = (1 << 64) - 1
_STREAM = 0x6D696E68617368  # where the multipliers begin in SplitMix64's sequence


@dataclass(frozen=True, slots=True)
class Shingles:
    """The shingles of a batch, in order of rows and positions, repetitions included."""

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]  # [rows + 1]


def chance(similarity: float, bands: int, rows: int) -> float:
    """Return the chance that two texts of this Jaccard similarity share a band key."""
    return float(1 - (1 - similarity**rows) ** bands)


def shingles_of(text: pa.StringArray, ngram: int) -> Shingles:
    """Return the shingles of each row: runs of `ngram` words, or one of all the words of a text that has fewer."""
    words = words_of(text)
    real = words.kinds == 0
    before = np.zeros(len(real) + 1, np.int64)
    np.cumsum(real, out=before[1:])
    at = before[words.offsets]
    counts = np.diff(at)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(np.where(counts > 0, np.maximum(counts - (ngram - 1), 1), 0), out=offsets[1:])
    hashes = np.empty(int(offsets[-1]), np.uint64)
    _shingles(words.hashes[real], at, ngram, offsets, hashes)
    return Shingles(hashes, offsets)


def band_keys(shingles: Shingles, options: Minhash) -> NDArray[np.uint64]:
    """Return the keys, uint64 [rows, bands]; zeros for a row without shingles."""
    multipliers, addends = parameters(options.bands * options.rows)
    keys = np.zeros((len(shingles.offsets) - 1, options.bands), np.uint64)
    _band_keys(shingles.hashes, shingles.offsets, multipliers, addends, options.rows, keys)
    return keys


def minima(shingles: Shingles, count: int) -> NDArray[np.uint64]:
    """Return the signatures themselves, uint64 [rows, count]: how many of two rows' values agree estimates their similarity."""
    multipliers, addends = parameters(count)
    keys = np.zeros((len(shingles.offsets) - 1, count), np.uint64)
    _minima(shingles.hashes, shingles.offsets, multipliers, addends, keys)
    return keys


@functools.cache
def parameters(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return (odd multipliers, addends) of the first `count` hash functions, uint64 [count] each."""
    stream = [_splitmix(_STREAM + i * 0x9E3779B97F4A7C15) for i in range(1, 2 * count + 1)]
    return np.array(stream[::2], np.uint64) | np.uint64(1), np.array(stream[1::2], np.uint64)


def _splitmix(state: int) -> int:
    z = state & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


@inlined
def _mixed(values, start, end):  # type: ignore[no-untyped-def]
    """Hash a run of 64-bit values to one."""
    h = SEED
    for i in range(start, end):
        h = step(h, values[i])
    return finish(h)


@compiled
def _shingles(words, at, ngram, offsets, hashes):  # type: ignore[no-untyped-def]
    """Fill `hashes`; row r has the words at[r] to at[r + 1]."""
    for r in range(len(at) - 1):
        last = at[r + 1]
        for k in range(offsets[r + 1] - offsets[r]):
            first = at[r] + k
            hashes[offsets[r] + k] = _mixed(words, first, min(first + ngram, last))


@inlined
def _lower(hashes, start, end, multipliers, addends, least):  # type: ignore[no-untyped-def]
    """Set `least` to the least value of each hash function over hashes[start:end]."""
    count = len(least)
    least[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
    i = start
    while i + 4 <= end:  # four shingles for each load of a multiplier
        w, x, y, z = hashes[i], hashes[i + 1], hashes[i + 2], hashes[i + 3]
        for k in range(count):
            a, b = multipliers[k], addends[k]
            least[k] = min(least[k], min(min(a * w + b, a * x + b), min(a * y + b, a * z + b)))
        i += 4
    while i < end:
        x = hashes[i]
        for k in range(count):
            least[k] = min(least[k], multipliers[k] * x + addends[k])
        i += 1


@compiled
def _minima(hashes, offsets, multipliers, addends, keys):  # type: ignore[no-untyped-def]
    least = np.empty(len(multipliers), np.uint64)
    for r in range(len(offsets) - 1):
        if offsets[r + 1] > offsets[r]:
            _lower(hashes, offsets[r], offsets[r + 1], multipliers, addends, least)
            keys[r, :] = least


@compiled
def _band_keys(hashes, offsets, multipliers, addends, rows, keys):  # type: ignore[no-untyped-def]
    least = np.empty(len(multipliers), np.uint64)
    for r in range(len(offsets) - 1):
        if offsets[r + 1] > offsets[r]:
            _lower(hashes, offsets[r], offsets[r + 1], multipliers, addends, least)
            for band in range(keys.shape[1]):
                keys[r, band] = _mixed(least, band * rows, (band + 1) * rows)
