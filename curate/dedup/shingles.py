"""The shingle sets of candidates, for their true Jaccard similarity: sorted, distinct, in one file that is mapped into memory.

They are computed from the texts again rather than stored with every signature: a set takes 1.5 times the bytes of its text, and
on a crawl most documents have no candidate at all. A sketch (bottom-k, or the 112 minima) would be smaller, but its error, ±0.04
at a similarity of 0.7, is as large as the choice that it has to make, and what is removed wrongly is lost. The file has no name, so a killed
process leaves nothing behind; the system keeps in memory what it has room for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.dedup.exact import composed
from curate.dedup.minhash import shingles_of


@dataclass(frozen=True, slots=True)
class Sets:
    """Sets of 64-bit hashes: set d is hashes[starts[d]:ends[d]], ascending, each hash once."""

    hashes: NDArray[np.uint64]  # read-only
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def shingle_sets(documents: Iterable[tuple[NDArray[np.int64], pa.StringArray]], count: int, ngram: int, folder: Path | None = None) -> Sets:
    """Return the shingle sets of documents 0 to count - 1, that come as (numbers, texts), in any order.

    `folder` is where the file lies (default: the system's place for temporary files); it takes 8 bytes a shingle. A document that does
    not come has an empty set.
    """
    starts, ends = np.zeros(count, np.int64), np.zeros(count, np.int64)
    written = 0
    with tempfile.TemporaryFile(dir=folder) as file:
        for numbers, text in documents:
            hashes, offsets = distinct(text, ngram)
            starts[numbers], ends[numbers] = offsets[:-1] + written, offsets[1:] + written
            file.write(hashes.data)
            written += len(hashes)
        file.flush()
        mapped = np.asarray(np.memmap(file, np.uint64, "r", shape=(written,))) if written else np.zeros(0, np.uint64)
    mapped.flags.writeable = False
    return Sets(mapped, starts, ends)


def distinct(text: pa.StringArray, ngram: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return (the distinct shingles of each row, ascending, row after row; where each row starts, and the end)."""
    found = shingles_of(composed(text), ngram)
    hashes, bounds = found.hashes, found.offsets
    for a, b in pairwise(bounds.tolist()):
        hashes[a:b].sort()
    first = np.ones(len(hashes), np.bool_)
    first[1:] = hashes[1:] != hashes[:-1]
    first[bounds[:-1][bounds[:-1] < len(hashes)]] = True
    running = np.zeros(len(hashes) + 1, np.int64)
    np.cumsum(first, out=running[1:])
    return hashes[first], running[bounds]
