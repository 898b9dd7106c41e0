"""What a mix must satisfy: shares between bounds that add up to one. And, when nothing can, which limits exclude each other.

Minimum, maximum, fixed shares and repetition all bound single shares, so feasibility has a closed form: every lower bound below its
upper bound, all lower bounds together at most 1, all upper bounds at least 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from curate.errors import SpecError
from curate.specs.mix import Constraints, SourceLimits

Vector = NDArray[np.float64]
TINY = 1e-9


def natural_weights(tokens: Mapping[str, int]) -> dict[str, float]:
    """Return shares in proportion to the available tokens. Raises SpecError when a source is empty."""
    empty = [name for name, count in tokens.items() if count <= 0]
    if empty:
        raise SpecError(
            f"no tokens in {', '.join(sorted(empty))}", where="sources", hint="leave them out of the mix, or look in the funnel for what dropped them"
        )
    total = sum(tokens.values())
    return {name: tokens[name] / total for name in sorted(tokens)}


def bounds(constraints: Constraints, tokens: Mapping[str, int], target_tokens: int | None) -> tuple[Vector, Vector]:
    """Return the lowest and highest share of each source, sources sorted by name; without `target_tokens` repetition is free.

    Raises SpecError that names the limits that exclude each other.
    """
    names = sorted(tokens)
    for name in constraints.sources:
        if name not in tokens:
            raise SpecError(
                f"constraints name the source '{name}', which the mix does not have", where="constraints.sources", hint=f"known: {', '.join(names)}"
            )
    low, high = np.zeros(len(names)), np.ones(len(names))
    supply = {name: repeat_limit(constraints, name) * tokens[name] / target_tokens if target_tokens else np.inf for name in names}
    for i, name in enumerate(names):
        limits = constraints.sources.get(name, SourceLimits())
        low[i], top = (limits.min, limits.max) if limits.fixed is None else (limits.fixed, limits.fixed)
        high[i] = min(top, supply[name])
        if low[i] > high[i] + TINY:
            word = "min" if limits.fixed is None else "fixed"
            raise SpecError(
                f"{word} {low[i]:g} of the target's {target_tokens:,} tokens needs {low[i] * (target_tokens or 0) / tokens[name]:.3g} repeats of "
                f"{tokens[name]:,} tokens; max_repeats is {repeat_limit(constraints, name):g}",
                where=f"constraints.sources.{name}",
                hint="lower the share, raise max_repeats, or collect more of this source",
            )
    if low.sum() > 1 + TINY:
        parts = ", ".join(f"{name} {share:g}" for name, share in zip(names, low, strict=True) if share > 0)
        raise SpecError(f"the minimum and fixed shares add up to {low.sum():g}, more than 1: {parts}", where="constraints.sources")
    if high.sum() < 1 - TINY:
        parts = ", ".join(f"{name} {share:.3g} ({_why(constraints, name, share)})" for name, share in zip(names, high, strict=True))
        raise SpecError(
            f"the highest shares allowed add up to {high.sum():.3g}, less than 1: {parts}",
            where="constraints",
            hint="raise max_repeats, lower target.tokens, or add sources",
        )
    return low, np.minimum(high, 1.0)


def repeat_limit(constraints: Constraints, name: str) -> float:
    """Return how often the target may read the source."""
    limits = constraints.sources.get(name)
    return constraints.max_repeats if limits is None or limits.max_repeats is None else limits.max_repeats


def _why(constraints: Constraints, name: str, share: float) -> str:
    limits = constraints.sources.get(name, SourceLimits())
    if limits.fixed is not None:
        return "fixed"
    return "max" if share >= limits.max - TINY and limits.max < 1 else f"max_repeats {repeat_limit(constraints, name):g}"


def project(weights: Vector, low: Vector, high: Vector) -> Vector:
    """Return the nearest feasible mix to `weights` (Euclidean), by bisection on the common shift."""
    below, above = float(np.min(low - weights)) - 1, float(np.max(high - weights)) + 1
    for _ in range(100):
        shift = (below + above) / 2
        if np.clip(weights + shift, low, high).sum() < 1:
            below = shift
        else:
            above = shift
    result = np.clip(weights + (below + above) / 2, low, high)
    free = (result > low) & (result < high)
    if free.any():
        result[free] += (1 - result.sum()) / free.sum()
    return np.asarray(result, np.float64)
