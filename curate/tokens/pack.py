"""Sequences of fixed length from a source, in a seeded order that does not depend on anything else.

Documents are put in the order of a hash of (seed, id), joined end to end (each ends with EOS), and cut into windows of
`context + 1` tokens that overlap by one, so that every token is predicted exactly once. The order within a source depends on
the seed and the ids alone: two runs that differ in their mix see the same sequences of a source in the same order
(common random numbers). Price: a window may begin within a document, and attention may look across its end.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.tokens.shards import TokenShards


class Packed:
    """The first `max_tokens` tokens of a source in its seeded order (all when None), as `len()` sequences."""

    def __init__(self, folders: Sequence[Path | str], context: int, seed: int, max_tokens: int | None = None, min_document_tokens: int = 1) -> None:
        """Read the tokens into memory, 2 or 4 bytes each, without documents of fewer than `min_document_tokens`.

        Raises InputError when there are fewer than `context + 1` tokens.
        """
        self.context, self._seed = context, seed
        shards = [TokenShards(folder) for folder in folders]
        where = [(s, row) for s, shard in enumerate(shards) for row in np.flatnonzero(shard.num_tokens >= min_document_tokens).tolist()]
        order = document_order([shards[s].ids[row] for s, row in where], seed)
        parts, total = [], 0
        for i in order.tolist():
            if max_tokens is not None and total >= max_tokens:
                break
            tokens = shards[where[i][0]].document(where[i][1])
            parts.append(tokens)
            total += len(tokens)
        self.tokens: NDArray[Any] = np.concatenate(parts)[:max_tokens] if parts else np.zeros(0, np.uint16)
        if len(self) == 0:
            what = f"{len(self.tokens):,} tokens are too few for one sequence of {context}"
            raise InputError(what, where=", ".join(map(str, folders)), hint="shorten the context, or leave this source out")

    def first(self, max_tokens: int) -> Packed:
        """Return what reading only the first `max_tokens` tokens would give, without reading or copying them."""
        part = copy.copy(self)
        part.tokens = self.tokens[:max_tokens]
        return part

    def __len__(self) -> int:
        """Number of whole sequences."""
        return max(0, (len(self.tokens) - 1) // self.context)

    def draws(self, count: int) -> NDArray[np.int64]:
        """Return which sequences the first `count` draws give: all in order, then all again in another seeded order, and so on."""
        epochs = [np.arange(len(self), dtype=np.int64)]
        while len(epochs) * len(self) < count:
            epochs.append(np.random.default_rng([self._seed, len(epochs)]).permutation(len(self)))
        return np.concatenate(epochs)[:count]

    def sequences(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sequences `rows`, int64 [len(rows), context + 1]."""
        at = rows[:, None] * self.context + np.arange(self.context + 1)[None, :]
        found: NDArray[np.int64] = self.tokens[at].astype(np.int64)
        return found


def document_order(ids: list[str], seed: int) -> NDArray[np.int64]:
    """Return the positions of `ids` in the order of a hash of (seed, id): the same whatever order they come in."""
    key = seed.to_bytes(8, "little", signed=True)
    hashes = [hashlib.blake2b(identifier.encode(), digest_size=8, key=key).digest() for identifier in ids]
    return np.array(sorted(range(len(ids)), key=lambda i: (hashes[i], ids[i])), np.int64)
