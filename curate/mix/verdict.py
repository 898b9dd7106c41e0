"""Is the chosen mix better than its rival? A paired comparison over seeds and items.

Proxies of both mixes share their seeds (initialization, order within each source, slots), so per seed one difference per suite remains.
Its mean has an error from the few seeds and one from the finite suite; both are added (the latter from the spread of items, bits and
bytes jointly, as a ratio estimator), and the interval is Student's with Welch-Satterthwaite degrees of freedom. Negative: the chosen
mix needs fewer bits. What it cannot show: how a proxy's difference carries over to a large model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.errors import InputError

Array = NDArray[np.float64]
LEVEL = 0.95


class Comparison(msgspec.Struct, frozen=True):
    """Chosen minus rival in bits per byte (relative to the rival for the suites together), with its interval."""

    chosen: float
    rival: float
    difference: float
    low: float
    high: float
    verdict: str


class Verdict(msgspec.Struct, frozen=True):
    """All suites together (relative), and each."""

    overall: Comparison
    suites: dict[str, Comparison]
    num_seeds: int


class _Paired(msgspec.Struct, frozen=True):
    """One suite: bits per byte of both per seed, and the spread of the mean difference over items."""

    chosen: Array  # [seeds]
    rival: Array
    item_variance: float


def compare(chosen: Sequence[pa.Table], rival: Sequence[pa.Table], importance: Mapping[str, float]) -> Verdict:
    """Compare tables of scores (one per seed, in the same order of seeds), items joined by suite and line.

    `importance` weighs the suites. Raises InputError when the two sides did not see the same items, or for fewer than two seeds.
    """
    if len(chosen) != len(rival) or len(chosen) < 2:
        raise InputError(
            f"{len(chosen)} and {len(rival)} runs cannot be compared pair by pair", hint="two seeds or more, each trained for both mixes"
        )
    pairs = [(_by_item(a), _by_item(b)) for a, b in zip(chosen, rival, strict=True)]
    suites = {name: _paired(name, pairs) for name in sorted(importance)}
    share = {name: importance[name] / sum(importance.values()) for name in suites}
    relative: Array = np.sum([share[n] * (p.chosen - p.rival) / p.rival.mean() for n, p in suites.items()], axis=0)
    spread = sum(share[n] ** 2 * p.item_variance / p.rival.mean() ** 2 for n, p in suites.items())
    overall = _comparison(1 + relative, np.ones_like(relative), float(spread))
    return Verdict(overall, {n: _comparison(p.chosen, p.rival, p.item_variance) for n, p in suites.items()}, len(chosen))


def _by_item(table: pa.Table) -> dict[str, dict[int, tuple[float, int]]]:
    found: dict[str, dict[int, tuple[float, int]]] = {}
    for suite, item, bits, size in zip(*(table[name].to_pylist() for name in ("suite", "item", "bits", "bytes")), strict=True):
        found.setdefault(suite, {})[item] = (bits, size)
    return found


def _paired(name: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> _Paired:
    items = sorted(pairs[0][0].get(name, {}))
    for sides in pairs:
        for side in sides:
            if sorted(side.get(name, {})) != items or not items:
                raise InputError("the runs were not scored on the same items", where=f"suite {name}", hint="evaluate all of them on the same file")
    bits = np.array([[[side[name][item][0] for item in items] for side in sides] for sides in pairs])  # [seeds, 2, items]
    sizes = np.array([pairs[0][0][name][item][1] for item in items], np.float64)
    rates = bits.sum(2) / sizes.sum()
    each = (bits[:, 0] - bits[:, 1]).mean(0)
    count = len(items)
    away = each - each.sum() / sizes.sum() * sizes
    variance = float((away**2).sum() / sizes.sum() ** 2 * count / (count - 1)) if count > 1 else 0.0
    return _Paired(rates[:, 0], rates[:, 1], variance)


def _comparison(chosen: Array, rival: Array, item_variance: float) -> Comparison:
    from scipy.stats import t

    differences = chosen - rival
    count = len(differences)
    seed_variance = float(differences.var(ddof=1)) / count
    total = seed_variance + item_variance
    freedom = total**2 / (seed_variance**2 / (count - 1)) if seed_variance > 0 else np.inf
    reach = float(t.ppf((1 + LEVEL) / 2, min(freedom, 1e6))) * np.sqrt(total)
    mean = float(differences.mean())
    low, high = mean - reach, mean + reach
    verdict = "better" if high < 0 else "worse" if low > 0 else "no_difference_shown"
    return Comparison(float(chosen.mean()), float(rival.mean()), mean, float(low), float(high), verdict)
