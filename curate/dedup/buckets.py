"""Groups of equal keys, and the kernels that choose survivors from them. Documents are numbers in policy order: 0 is the best.

Two rules, both independent of the order in which buckets are looked at:

- `stars` (with verification): in policy order, a document is a copy when an earlier document *that survives* shares a bucket
  with it and their true Jaccard similarity reaches the threshold; the first such survivor is named. So A ~ B ~ C with A not like C keeps
  C when B was removed: what was only like a removed text is never lost.
- `chains` (without): documents that are joined by shared buckets, through others as well, are copies of the best among them, as
  in FineWeb. Linear in the size of the buckets.

A bucket of boilerplate may hold a million documents. `stars` compares a document only with those survivors of its bucket that came
first, at most `max_leaders` of them: copies leave at once, and a bucket of n texts that are all different costs at most
n · max_leaders comparisons instead of n² / 2. What that may miss stays in the corpus, and is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.dedup.shingles import Sets
from curate.kernels.compiled import compiled, inlined

MAX_LEADERS = 64


@dataclass(frozen=True, slots=True)
class Buckets:
    """Which of `count` buckets each document is in, per band: int32 [documents, bands], -1 for none but its own."""

    of: NDArray[np.int32]
    sizes: NDArray[np.int64]  # [count]


def groups_of(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (rows that share their key with another one, sorted by key and row; where each group starts, and the end).

    `keys` is uint64 [rows] or, for wider keys, [rows, parts].
    """
    parts = keys[:, None] if keys.ndim == 1 else keys
    order = np.lexsort(parts.T).astype(np.int64) if parts.shape[1] > 1 else np.argsort(parts[:, 0], kind="stable").astype(np.int64)
    ordered = parts[order]
    begins = np.ones(len(order) + 1, np.bool_)
    begins[1:-1] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(begins)
    sizes = np.diff(starts) if len(order) else np.zeros(0, np.int64)
    shared = np.repeat(sizes > 1, sizes)
    return order[shared], np.concatenate([[0], np.cumsum(sizes[sizes > 1])]).astype(np.int64)


def assemble(groups: list[tuple[NDArray[np.int64], NDArray[np.int64]]], num_rows: int) -> tuple[NDArray[np.int64], Buckets]:
    """Return (the rows that are in some group, ascending; the buckets of just these): one list entry per band."""
    shared = np.zeros(num_rows, np.bool_)
    for rows, _ in groups:
        shared[rows] = True
    candidates = np.flatnonzero(shared)
    number = np.cumsum(shared) - 1
    of = np.full((len(candidates), len(groups)), -1, np.int32)
    sizes = [np.diff(starts) for _, starts in groups]
    first = 0
    for band, (rows, _) in enumerate(groups):
        of[number[rows], band] = np.repeat(np.arange(first, first + len(sizes[band])), sizes[band])
        first += len(sizes[band])
    return candidates, Buckets(of, np.concatenate([*sizes, np.zeros(0, np.int64)]).astype(np.int64))


def chains(buckets: Buckets) -> NDArray[np.int64]:
    """Return, per document, the best one of its connected component: int64 [documents]."""
    parent = np.arange(len(buckets.of), dtype=np.int64)
    _chains(buckets.of, np.full(len(buckets.sizes), -1, np.int64), parent)
    return parent


@dataclass(frozen=True, slots=True)
class Stars:
    """What `stars` found."""

    survivor: NDArray[np.int64]  # per document: itself when it survives
    similarity: NDArray[np.float64]  # per document: the Jaccard similarity to its survivor; 1 for a survivor
    num_compared: int  # pairs whose similarity was computed
    num_uncompared: int  # times that a survivor came too late to be compared with what follows in its bucket


def stars(buckets: Buckets, sets: Sets, verify: float, max_leaders: int = MAX_LEADERS) -> Stars:
    """Choose survivors by the rule of stars; `sets` are the shingles of the same documents, none of them empty."""
    count = len(buckets.of)
    survivor, similarity = np.arange(count, dtype=np.int64), np.ones(count, np.float64)
    room = np.zeros(len(buckets.sizes) + 1, np.int64)
    np.cumsum(np.minimum(buckets.sizes, max_leaders), out=room[1:])
    leaders, filled = np.empty(room[-1], np.int64), np.zeros(len(buckets.sizes), np.int64)
    tally = np.zeros(2, np.int64)
    _stars(buckets.of, room, leaders, filled, sets.hashes, sets.starts, sets.ends, verify, survivor, similarity, tally)
    return Stars(survivor, similarity, int(tally[0]), int(tally[1]))


@inlined
def _root(parent, d):  # type: ignore[no-untyped-def]
    while parent[d] != d:
        parent[d] = parent[parent[d]]  # halve the path
        d = parent[d]
    return d


@compiled
def _chains(of, leader, parent):  # type: ignore[no-untyped-def]
    """Union-find whose roots are always the smallest number of their component."""
    for d in range(of.shape[0]):
        for band in range(of.shape[1]):
            bucket = of[d, band]
            if bucket < 0:
                continue
            if leader[bucket] < 0:
                leader[bucket] = d
                continue
            a, b = _root(parent, leader[bucket]), _root(parent, d)
            if a < b:
                parent[b] = a
            else:
                parent[a] = b
    for d in range(of.shape[0]):
        parent[d] = _root(parent, d)


@inlined
def _jaccard(shingles, a, a_end, b, b_end):  # type: ignore[no-untyped-def]
    """Return the Jaccard similarity of two sorted sets without repetitions."""
    total, common = (a_end - a) + (b_end - b), 0
    while a < a_end and b < b_end:
        x, y = shingles[a], shingles[b]
        common += x == y
        a += x <= y
        b += y <= x
    return common / (total - common)


@inlined
def _gather(of, d, room, leaders, filled, seen, found):  # type: ignore[no-untyped-def]
    """Put the leaders of all buckets of d into `found`, ascending and each once; return how many."""
    n = 0
    for band in range(of.shape[1]):
        bucket = of[d, band]
        if bucket < 0:
            continue
        for j in range(room[bucket], room[bucket] + filled[bucket]):
            leader = leaders[j]
            if seen[leader] == d:
                continue
            seen[leader] = d
            at = n
            while at > 0 and found[at - 1] > leader:
                found[at] = found[at - 1]
                at -= 1
            found[at] = leader
            n += 1
    return n


@compiled
def _stars(of, room, leaders, filled, shingles, starts, ends, verify, survivor, similarity, tally):  # type: ignore[no-untyped-def]
    widest = 0
    for bucket in range(len(filled)):
        widest = max(widest, room[bucket + 1] - room[bucket])
    found = np.empty(widest * of.shape[1] + 1, np.int64)
    seen = np.full(of.shape[0], -1, np.int64)
    for d in range(of.shape[0]):
        begin, end = starts[d], ends[d]
        for i in range(_gather(of, d, room, leaders, filled, seen, found)):
            start, stop = starts[found[i]], ends[found[i]]
            fewer, more = min(end - begin, stop - start), max(end - begin, stop - start)
            if fewer / more < verify:  # no similarity is above the ratio of the sizes
                continue
            tally[0] += 1
            likeness = _jaccard(shingles, begin, end, start, stop)
            if likeness >= verify:
                survivor[d], similarity[d] = found[i], likeness
                break
        if survivor[d] != d:
            continue
        for band in range(of.shape[1]):
            bucket = of[d, band]
            if bucket < 0:
                continue
            if filled[bucket] < room[bucket + 1] - room[bucket]:
                leaders[room[bucket] + filled[bucket]] = d
                filled[bucket] += 1
            else:
                tally[1] += 1
