"""Mix → the order in which a proxy reads sequences, with common random numbers.

Slot i of a run (a row of a batch) has a number u_i in [0, 1) that all runs with the same seed share; the source of the slot is the inverse
of the mix's cumulative distribution at u_i, and the k-th slot of a source gets the k-th sequence of its seeded order. u_i = u_0 + i·φ mod 1
(a Kronecker sequence), so that every stretch of a run has its mix almost exactly, and near mixes share most of their sequences at most
of their places: what differs between two runs is the mix, and not luck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.tokens.pack import Packed

GOLDEN = (5**0.5 - 1) / 2


def slots(weights: Mapping[str, float], num_slots: int, seed: int) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Return the sources, sorted, and for each slot the index of its source and which draw from that source it is."""
    names = sorted(weights)
    shares = np.array([weights[name] for name in names])
    edges = np.cumsum(shares / shares.sum())
    start = np.random.default_rng([seed, 1]).uniform()
    u = np.mod(start + np.arange(num_slots) * GOLDEN, 1.0)
    source = np.minimum(np.searchsorted(edges, u, side="right"), int(np.flatnonzero(shares > 0)[-1]))
    draw = np.zeros(num_slots, np.int64)
    for s in range(len(names)):
        mine = source == s
        draw[mine] = np.arange(int(mine.sum()))
    return names, source, draw


def pool_tokens(tokens: Mapping[str, int], target_tokens: int, proxy_tokens: int) -> dict[str, int | None]:
    """Return how much of each source a proxy may see so that it repeats it as the target would; None: no limit is needed.

    A source of A tokens in a target of T is read w·T / A times at share w. A proxy of P tokens reads a pool of A·P/T tokens as often,
    whatever w is; so the pool is the same for all mixes. Where T ≤ A no mix can repeat the source.
    """
    return {name: int(count * proxy_tokens / target_tokens) if target_tokens > count else None for name, count in sorted(tokens.items())}


class Stream:
    """The sequences of one run: `batch(step)` gives int64 [rows, context + 1]."""

    def __init__(self, run: Mapping[str, Any], folders: Mapping[str, Sequence[Path | str]]) -> None:
        """`run` is as curate.mix.flow plans it; `folders` maps each source to its folders of token shards.

        Raises InputError when the two name different sources, or when a source is too small for one sequence.
        """
        proxy, seed = run["proxy"], run["seed"]
        if set(folders) != set(run["weights"]):
            raise InputError(
                f"the mix names {', '.join(sorted(run['weights']))}; there are tokens of {', '.join(sorted(folders))}", where=f"run {run['run']}"
            )
        self.rows = proxy["batch_tokens"] // proxy["context"]
        self.num_steps = max(1, proxy["tokens"] // (self.rows * proxy["context"]))
        names, self._source, draw = slots(run["weights"], self.rows * self.num_steps, seed)
        self._packed: list[Packed | None] = []
        self._row = np.zeros(len(draw), np.int64)
        for s, name in enumerate(names):
            mine = self._source == s
            packed = _pool(run, name, folders[name], int(mine.sum())) if mine.any() else None
            self._packed.append(packed)
            if packed is not None:
                self._row[mine] = packed.draws(int(mine.sum()))
        self.realized = {name: int((self._source == s).sum()) * proxy["context"] for s, name in enumerate(names)}
        self.repeats = {name: self.realized[name] / len(p.tokens) if p is not None else 0.0 for name, p in zip(names, self._packed, strict=True)}
        self._context = proxy["context"]

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the sequences of one step."""
        here = slice(step * self.rows, (step + 1) * self.rows)
        result = np.empty((self.rows, self._context + 1), np.int64)
        for s, packed in enumerate(self._packed):
            mine = self._source[here] == s
            if packed is not None and mine.any():
                result[mine] = packed.sequences(self._row[here][mine])
        return result


def _pool(run: Mapping[str, Any], name: str, folders: Sequence[Path | str], num_draws: int) -> Packed:
    """Read what a run needs of a source: its pool, but at least one sequence, and never more than it draws."""
    context, pool = run["proxy"]["context"], run["pools"].get(name)
    wanted = num_draws * context + 1
    most = wanted if pool is None else min(wanted, max(pool, context + 1))
    return Packed(folders, context, run["seed"], most, run.get("min_document_tokens", 1))
