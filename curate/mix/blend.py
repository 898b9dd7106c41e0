"""A weighted mean of several laws of one suite, for when no single one is clearly the best.

A law's share is in proportion to its leave-one-out error to the power −4: a law with an error 19 % larger than another's counts half as
much. Shares below a twentieth are dropped. Least-squares stacking (Wolpert 1992) was tried: it predicted no better, and its weights jump.

All that a blend consists of lies in the two dictionaries of a fit, under `law/name`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SHARPNESS = 4.0
LEAST_SHARE = 0.05


def shares_of(errors: Mapping[str, float]) -> dict[str, float]:
    """Return law → share, for the laws that count."""
    kinds = list(errors)
    size = np.array([errors[kind] for kind in kinds])
    weight = (np.maximum(size, 1e-12) / max(float(size.min()), 1e-12)) ** -SHARPNESS
    weight = np.where(weight / weight.sum() < LEAST_SHARE, 0.0, weight)
    return {kind: float(share) for kind, share in zip(kinds, weight / weight.sum(), strict=True) if share > 0}


def join(parts: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """Return law → name → array as one dictionary."""
    return {f"{kind}/{name}": array for kind, part in parts.items() for name, array in part.items()}


def split(together: Mapping[str, Array], kinds: list[str]) -> dict[str, dict[str, Array]]:
    """Return what `join` was given, for these laws."""
    return {kind: {name.removeprefix(f"{kind}/"): array for name, array in together.items() if name.startswith(f"{kind}/")} for kind in kinds}


def shares_in(fixed: Mapping[str, Array]) -> dict[str, float]:
    """Return law → share of a blend that was fitted."""
    return {name.removesuffix("/share"): float(array) for name, array in fixed.items() if name.endswith("/share")}
