"""The kernel of functions of two sources at a time, as machine code: the second elementary symmetric polynomial of one kernel per source.

With zᵢ = exp(−(aᵢ − bᵢ)² / 2), Σ zᵢzⱼ over pairs of sources is ((Σ zᵢ)² − Σ zᵢ²) / 2, at the cost of one exponential per source (Duvenaud 2011).
Arrays over [sources, runs, runs] would take ten times as long, and a gigabyte for a swarm of 512 runs. Features lie source by source, so that the
innermost loops are as long as there are runs.
"""

from __future__ import annotations

from typing import Any

from curate.kernels.compiled import reassociated
from curate.kernels.exponential_64 import exponential_64

TILE = 16  # runs, of which the first-level cache holds as many rows as columns


@reassociated
def pairs(one: Any, other: Any, same: bool, totals: Any, found: Any) -> None:
    """Write Σ zᵢ to `totals` and Σ zᵢzⱼ to `found`, both [a, b], between the columns of `one` [sources, a] and of `other` [sources, b].

    `same`: these are the same columns, so that what is below the diagonal is enough, and is copied from there tile by tile, to the same bits.
    """
    totals[:] = 0
    found[:] = 0
    for a in range(len(found)):
        total, squares = totals[a], found[a]
        count = a + 1 if same else len(total)
        for i in range(len(one)):
            here, there = one[i, a], other[i]
            for b in range(count):
                away = here - there[b]
                z = exponential_64(-0.5 * away * away)
                total[b] += z
                squares[b] += z * z
        for b in range(count):
            squares[b] = 0.5 * (total[b] * total[b] - squares[b])
    if same:
        for left in range(0, len(found), TILE):
            for top in range(left, len(found), TILE):
                for b in range(left, min(left + TILE, len(found))):
                    for a in range(max(top, b), min(top + TILE, len(found))):
                        totals[b, a], found[b, a] = totals[a, b], found[a, b]


@reassociated
def pairs_back(features: Any, totals: Any, inner: Any, by_features: Any, by_lengths: Any) -> None:
    """Add the gradient of Σ inner · pairs(features, features), `inner` [runs, runs] symmetric, by the features [sources, runs] to `by_features`.

    And by the logarithm of a length that each source's features were divided by, to `by_lengths` [sources]. `totals` are those of `pairs`.
    """
    for a in range(features.shape[1]):
        total, weight = totals[a], inner[a]
        for i in range(len(features)):
            here, there, by_there = features[i, a], features[i], by_features[i]
            own, length = 0.0, 0.0
            for b in range(a):
                away = here - there[b]
                z = exponential_64(-0.5 * away * away)
                pull = 2 * weight[b] * z * (total[b] - z) * away
                by_there[b] += pull
                own += pull
                length += pull * away
            by_there[a] -= own
            by_lengths[i] += length
