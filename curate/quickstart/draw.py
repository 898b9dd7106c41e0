"""Named streams of seeded choices.

Every part of the quickstart's input draws from a stream of its own, named by what it makes (`web/spam/7`), so a
change to one part leaves every other part's bytes as they were. The price: one small generator per stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def hashed(*names: object) -> int:
    """Return 64 bits that depend only on `names`: a seed, or a place in an order that no new name disturbs."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, names)).encode(), digest_size=8).digest(), "little")


class Draw:
    """Choices from the stream named by `names`; the same names give the same choices on every machine."""

    def __init__(self, *names: object) -> None:
        self._generator = np.random.default_rng(hashed(*names))

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return int(self._generator.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        """Return True in `share` of the calls."""
        return bool(self._generator.random() < share)

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of `choices`, which must not be empty."""
        return choices[int(self._generator.integers(len(choices)))]

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """Return `count` different ones of `choices` (all of them when there are fewer), in random order."""
        order = self._generator.permutation(len(choices))[:count]
        return [choices[int(i)] for i in order]

    def normal(self, shape: tuple[int, ...], deviation: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Return Gaussian noise of this shape around zero."""
        return self._generator.normal(0.0, deviation, shape)
