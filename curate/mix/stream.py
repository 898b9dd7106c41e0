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


Pools = dict[tuple[str, int], Packed]  # (source, seed) → its sequences in their seeded order


class Stream:
    """The sequences of one run: `batch(step)` gives int64 [rows, context + 1]."""

    def __init__(self, run: Mapping[str, Any], folders: Mapping[str, Sequence[Path | str]], pools: Pools | None = None) -> None:
        """`run` is as curate.mix.flow plans it; `folders` maps each source to its folders of token shards; `pools`: what was read before.

        Raises InputError when the two name different sources, or when a source is too small for one sequence.
        """
        proxy, seed = run["proxy"], run["seed"]
        self.rows = proxy["batch_tokens"] // proxy["context"]
        self.num_steps = max(1, proxy["tokens"] // (self.rows * proxy["context"]))
        names, self._source, draw = _slots_of(run, folders)
        self._packed: list[Packed | None] = []
        self._row = np.zeros(len(draw), np.int64)
        for s, name in enumerate(names):
            mine = self._source == s
            packed = None
            if mine.any():
                most = _most_tokens(run, name, int(mine.sum()))
                known = (pools or {}).get((name, seed))
                packed = known.first(most) if known is not None else _read(run, folders[name], most)
                self._row[mine] = packed.draws(int(mine.sum()))
            self._packed.append(packed)
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


def streams_of(runs: Sequence[Mapping[str, Any]], folders: Mapping[str, Sequence[Path | str]]) -> list[Stream]:
    """Return the streams of a group of runs of one proxy. Runs with the same seed read a source in the same order, so it is read once."""
    most: dict[tuple[str, int], int] = {}
    for run in runs:
        names, source, _ = _slots_of(run, folders)
        for s, name in enumerate(names):
            if count := int((source == s).sum()):
                key = (name, run["seed"])
                most[key] = max(most.get(key, 0), _most_tokens(run, name, count))
    pools = {(name, seed): _read(dict(runs[0]) | {"seed": seed}, folders[name], count) for (name, seed), count in most.items()}
    return [Stream(run, folders, pools) for run in runs]


def _slots_of(run: Mapping[str, Any], folders: Mapping[str, Sequence[Path | str]]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    proxy = run["proxy"]
    if set(folders) != set(run["weights"]):
        raise InputError(
            f"the mix names {', '.join(sorted(run['weights']))}; there are tokens of {', '.join(sorted(folders))}", where=f"run {run['run']}"
        )
    rows = proxy["batch_tokens"] // proxy["context"]
    return slots(run["weights"], rows * max(1, proxy["tokens"] // (rows * proxy["context"])), run["seed"])


def _most_tokens(run: Mapping[str, Any], name: str, num_draws: int) -> int:
    """Return how many tokens of a source a run needs: its pool, but at least one sequence, and never more than it draws."""
    context, pool = run["proxy"]["context"], run["pools"].get(name)
    wanted = num_draws * context + 1
    return int(wanted if pool is None else min(wanted, max(pool, context + 1)))


def _read(run: Mapping[str, Any], folders: Sequence[Path | str], most: int) -> Packed:
    return Packed(folders, run["proxy"]["context"], run["seed"], most, run.get("min_document_tokens", 1))
