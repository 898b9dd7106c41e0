"""What a mix must satisfy: linear limits on shares that add up to one. And, when no mix can, which limits exclude each other.

A limit is a row and a top, row @ w ≤ top, with the words in which a user would say it. Those on one share alone become bounds. Limits:

    min, max, fixed   of a source (of all its quality buckets together), of a group, of synthetic text (max only)
    repeats           share · target / available ≤ max_repeats, less what earlier phases have read; a source with quality buckets
                      repeats its tokens so often on average
    upsampling        the same for one bucket: at most max_upsampling
    quality           a bucket is not repeated more often than the next better one
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError, SpecError
from curate.mix.feasible import Facts, checked, project
from curate.specs.mix import Constraints, GroupLimits, SourceLimits

__all__ = ["Limit", "Limits", "Traits", "assemble", "free", "limits_of", "natural_weights", "project", "relaxed", "repeat_limit", "through"]

Array = NDArray[np.float64]
TINY = 1e-9


class Traits(msgspec.Struct, frozen=True):
    """What limits need to know of a leaf: a source, or one quality bucket of a source."""

    group: str | None = None
    synthetic: bool = False
    source: str | None = None  # that a bucket belongs to
    rank: int = 0  # of a bucket; the worst is 0


class Limit(msgspec.Struct, frozen=True):
    """One limit, row @ w <= top."""

    row: Array  # [sources]
    top: float
    label: str  # in a user's words; the two halves of a fixed share have the same
    kind: str  # min, max, fixed, repeats, upsampling, quality, group_min, group_max, group_fixed, synthetic
    subject: str  # the source, bucket or group that it is about
    growth: float = 0.0  # what `top` gains when the subject's available tokens double
    debt: float = 0.0  # what earlier phases read beyond it: `top` is 0, and would be so far below


class Limits(msgspec.Struct, frozen=True):
    """All limits of a mix. Shares w, in the order of `names`, satisfy low <= w <= high, rows @ w <= tops, and add up to one."""

    names: list[str]
    low: Array  # [sources]
    high: Array  # [sources]
    rows: Array  # [m, sources]
    tops: Array  # [m]
    labels: list[str]  # of the rows
    parts: list[Limit]  # what the arrays were put together from


def natural_weights(tokens: Mapping[str, int]) -> dict[str, float]:
    """Return shares in proportion to the available tokens. Raises SpecError when a source is empty."""
    empty = [name for name, count in tokens.items() if count <= 0]
    if empty:
        raise SpecError(
            f"no tokens in {', '.join(sorted(empty))}", where="sources", hint="leave them out of the mix, or look in the funnel for what dropped them"
        )
    total = sum(tokens.values())
    return {name: tokens[name] / total for name in sorted(tokens)}


# ── from the spec ─────────────────────────────────────────────────────────────────────────────────────────────────


def limits_of(
    constraints: Constraints,
    tokens: Mapping[str, int],
    target_tokens: int | None,
    traits: Mapping[str, Traits] = {},
    used: Mapping[str, int] = {},
) -> Limits:
    """Return the limits on the shares of the leaves in `tokens` (leaf → available), sorted by name.

    Without `target_tokens` repetition is free, as it is when a swarm is sampled. `used`: tokens of each leaf that earlier phases have read.
    Raises SpecError that names the limits that exclude each other, a source or group that does not exist, or a limit on synthetic text where
    there is none.
    """
    names = sorted(tokens)
    kinds = {name: traits.get(name, Traits()) for name in names}
    leaves = _leaves(names, kinds)
    _check_names(constraints, leaves, kinds)
    parts: list[Limit] = []
    for source, members in leaves.items():
        parts += _share_parts(constraints.sources.get(source, SourceLimits()), source, _mark(names, members))
        parts += _quality_parts(names, tokens, target_tokens, sorted(members, key=lambda leaf: kinds[leaf].rank), used)
    if target_tokens:
        parts += _repeat_parts(constraints, tokens, target_tokens, leaves, used)
    parts += _group_parts(constraints, names, kinds)
    return checked(assemble(names, parts), Facts(constraints, tokens, target_tokens))


def _leaves(names: Sequence[str], traits: Mapping[str, Traits]) -> dict[str, list[str]]:
    """Return source → its leaves."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(traits[name].source or name, []).append(name)
    return found


def _check_names(constraints: Constraints, leaves: Mapping[str, list[str]], traits: Mapping[str, Traits]) -> None:
    for name in constraints.sources:
        if name not in leaves:
            known = ", ".join(sorted(leaves))
            raise SpecError(f"constraints name the source '{name}', which the mix does not have", where="constraints.sources", hint=f"known: {known}")
    groups = sorted({trait.group for trait in traits.values() if trait.group})
    for group in constraints.groups:
        if group not in groups:
            hint = f"known: {', '.join(groups)}" if groups else "give sources a `group` first"
            raise SpecError(f"constraints name the group '{group}', which no source is in", where="constraints.groups", hint=hint)
    if constraints.max_synthetic is not None and not any(trait.synthetic for trait in traits.values()):
        hint = "sources: {NAME: {synthetic: true, …}}, or leave max_synthetic out"
        what = f"it limits nothing: none of {', '.join(sorted(leaves))} is marked as synthetic"
        raise SpecError(what, where="constraints.max_synthetic", hint=hint)


def _mark(names: Sequence[str], members: Sequence[str]) -> Array:
    return np.array([float(name in members) for name in names])


def _share_parts(limits: SourceLimits | GroupLimits, subject: str, mark: Array) -> list[Limit]:
    """Return the limits min, max and fixed of a source or group."""
    low, high, fixed = limits.min, limits.max, limits.fixed
    kind, what = ("group_", f"group {subject}") if isinstance(limits, GroupLimits) else ("", subject)
    if fixed is not None:
        label = f"{what} fixed at {fixed:g}"
        return [Limit(mark, fixed, label, f"{kind}fixed", subject), Limit(-mark, -fixed, label, f"{kind}fixed", subject)]
    parts = []
    if low > 0:
        parts.append(Limit(-mark, -low, f"{what} at least {low:g}", f"{kind}min", subject))
    if high < 1:
        parts.append(Limit(mark, high, f"{what} at most {high:g}", f"{kind}max", subject))
    return parts


def _quality_parts(
    names: Sequence[str], tokens: Mapping[str, int], target: int | None, members: Sequence[str], used: Mapping[str, int]
) -> list[Limit]:
    """Return, for buckets from worst to best, that repeats do not fall: w_b / A_b <= w_c / A_c, scaled to numbers near one.

    What earlier phases read counts: a bucket that they repeated as often as it may be leaves its worse neighbors the room that they have.
    """
    parts = []
    for worse, better in pairwise(members):
        row = _mark(names, [worse]) / tokens[worse] - _mark(names, [better]) / tokens[better]
        size = np.abs(row).max()
        ahead = used.get(better, 0) / tokens[better] - used.get(worse, 0) / tokens[worse]  # repeats
        top = max(0.0, ahead) / target / size if target else 0.0
        parts.append(Limit(row / size, top, f"{better} repeated at least as often as {worse}", "quality", better))
    return parts


def _repeat_parts(
    constraints: Constraints, tokens: Mapping[str, int], target: int, leaves: Mapping[str, list[str]], used: Mapping[str, int]
) -> list[Limit]:
    names = sorted(tokens)

    def part(subject: str, members: Sequence[str], most: float, kind: str) -> Limit:
        available, before = sum(tokens[name] for name in members), sum(used.get(name, 0) for name in members)
        room = (most * available - before) / target
        top, debt = max(0.0, room), max(0.0, -room)
        read = f", of which earlier phases read {before:,}" if before else ""
        word = "max_upsampling" if kind == "upsampling" else "max_repeats"
        label = f"{subject} at most {top:.3g} ({word} {most:g} of {available:,} tokens{read})"
        return Limit(_mark(names, members), top, label, kind, subject, growth=most * available / target, debt=debt)

    parts = []
    for source, members in leaves.items():
        parts.append(part(source, members, repeat_limit(constraints, source), "repeats"))
        if members != [source]:
            parts += [part(leaf, [leaf], constraints.max_upsampling, "upsampling") for leaf in members]
    return parts


def _group_parts(constraints: Constraints, names: list[str], traits: Mapping[str, Traits]) -> list[Limit]:
    parts = []
    for group, limits in constraints.groups.items():
        members = [name for name in names if traits[name].group == group]
        parts += _share_parts(limits, group, _mark(names, members))
    made = [name for name in names if traits[name].synthetic]
    if constraints.max_synthetic is not None:
        label = f"synthetic text at most {constraints.max_synthetic:g} ({', '.join(made)})"
        parts.append(Limit(_mark(names, made), constraints.max_synthetic, label, "synthetic", "synthetic"))
    return parts


def repeat_limit(constraints: Constraints, name: str) -> float:
    """Return how often the target may read the source."""
    limits = constraints.sources.get(name)
    return constraints.max_repeats if limits is None or limits.max_repeats is None else limits.max_repeats


# ── put together ──────────────────────────────────────────────────────────────────────────────────────────────────


def assemble(names: list[str], parts: Sequence[Limit]) -> Limits:
    """Return the limits as arrays: a part on one share alone is a bound, the others are rows. Does not check that a mix exists."""
    low, high = np.zeros(len(names)), np.ones(len(names))
    rows = []
    for part in parts:
        at = np.flatnonzero(part.row)
        if len(at) != 1:
            if len(at) or part.top < -TINY:  # a row of zeros says nothing, unless it says that nothing is possible
                rows.append(part)
        elif part.row[at[0]] > 0:
            high[at[0]] = min(high[at[0]], part.top / part.row[at[0]])
        else:
            low[at[0]] = max(low[at[0]], part.top / part.row[at[0]])
    stacked = np.array([part.row for part in rows]).reshape(len(rows), len(names))
    return Limits(names, low, high, stacked, np.array([part.top for part in rows], np.float64), [part.label for part in rows], list(parts))


def free(names: list[str]) -> Limits:
    """Return limits that limit nothing."""
    return assemble(names, [])


def relaxed(limits: Limits, changed: Callable[[Limit], float]) -> Limits:
    """Return the limits with `changed(part)` added to each top; where earlier phases read too much, that is made up for first."""
    parts = [_raised(part, change) if (change := changed(part)) else part for part in limits.parts]
    return assemble(limits.names, parts)


def _raised(part: Limit, change: float) -> Limit:
    top = part.top + max(0.0, change - part.debt) if part.debt else part.top + change
    return msgspec.structs.replace(part, top=top, debt=max(0.0, part.debt - change))


def through(limits: Limits, expand: Array, names: list[str]) -> Limits:
    """Return the same limits for v, where w = expand @ v: a block with frozen inner shares is one column of `expand` [sources, names].

    Raises SpecError when no v satisfies them.
    """
    if expand.shape != (len(limits.names), len(names)) or (expand < 0).any() or np.abs(expand.sum(0) - 1).max() > 1e-6:
        raise InputError(f"columns that do not add up to one cannot stand for {len(limits.names)} sources", where="reuse")
    return checked(assemble(list(names), [msgspec.structs.replace(part, row=part.row @ expand) for part in limits.parts]))
