"""What is to be decided, as plain data: the spec, what there is of each leaf, and what is settled already.

A mix is solved in *coordinates*. As a rule there is one per leaf. With `reuse`, the leaves that are as they were when an earlier mix was
solved are one coordinate together: their ratios among each other stay, and only their common share is decided again, with the shares of
what is new or revised. So a swarm for two new sources needs as many runs as a mix of three (Olmo 3, 2025, calls it mixture reuse; what it
gives up is that a new source may change what is best among the old ones).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import SpecError
from curate.mix.feasible import TINY, allowed
from curate.mix.limits import Limits, Traits, limits_of, natural_weights, through
from curate.mix.sample import as_shares
from curate.specs.mix import Mix, SolvedMix
from curate.tasks import hash_of

Array = NDArray[np.float64]
NOTICED = 5e-4  # share of the tokens by which a mix is another one
BLOCK = "(reused)"  # sorts before every leaf, whose names begin with a letter or digit


class Setting(msgspec.Struct, frozen=True):
    """What the steps of a mix need to know. JSON-able, since it travels to workers."""

    spec: Mix
    tokens: dict[str, int]  # leaf → tokens that there are
    traits: dict[str, Traits]
    kept: dict[str, float] = {}  # leaf → its share of the reused block; {}: nothing is reused
    used: dict[str, int] = {}  # leaf → tokens that earlier phases read
    start: str | None = None  # the proxy that all proxies begin from; None: at random
    min_document_tokens: int = 1  # shorter documents stay out

    @property
    def leaves(self) -> list[str]:
        """The leaves, sorted."""
        return sorted(self.tokens)


def coordinates(leaves: Sequence[str], kept: Mapping[str, float]) -> tuple[list[str], Array]:
    """Return the names of the coordinates, sorted, and the matrix that makes shares of leaves from theirs, [leaves, coordinates]."""
    if not kept:
        return list(leaves), np.eye(len(leaves))
    names = [BLOCK, *(leaf for leaf in leaves if leaf not in kept)]
    spread = np.zeros((len(leaves), len(names)))
    for i, leaf in enumerate(leaves):
        spread[i, 0 if leaf in kept else names.index(leaf)] = kept.get(leaf, 1.0)
    return names, spread


def in_coordinates(leaves: Sequence[str], kept: Mapping[str, float], mixes: Array) -> Array:
    """Return mixes of leaves, [mixes, leaves], in coordinates, [mixes, coordinates]."""
    names, _ = coordinates(leaves, kept)
    of_leaf = [0 if leaf in kept else names.index(leaf) for leaf in leaves]
    result = np.zeros((len(mixes), len(names)))
    np.add.at(result.T, of_leaf, np.asarray(mixes, np.float64).T)
    return result


def limits_in(setting: Setting, repetition: bool = True) -> Limits:
    """Return the limits on the coordinates; without `repetition`, those for sampling. Raises SpecError for limits that exclude each other."""
    target = setting.spec.target.tokens if repetition else None
    limits = limits_of(setting.spec.constraints, setting.tokens, target, setting.traits, setting.used)
    if not setting.kept:
        return limits
    names, spread = coordinates(setting.leaves, setting.kept)
    return through(limits, spread, names)


def tokens_in(setting: Setting) -> dict[str, int]:
    """Return the tokens of each coordinate."""
    names, _ = coordinates(setting.leaves, setting.kept)
    found = {name: setting.tokens[name] for name in names if name != BLOCK}
    return found | ({BLOCK: sum(setting.tokens[leaf] for leaf in setting.kept)} if setting.kept else {})


def traits_in(setting: Setting) -> dict[str, Traits]:
    """Return the traits of each coordinate."""
    return {name: setting.traits.get(name, Traits()) for name in coordinates(setting.leaves, setting.kept)[0]}


def natural_mix(setting: Setting) -> Array:
    """Return the natural shares of the leaves."""
    return np.array(list(natural_weights(setting.tokens).values()))


def baseline(setting: Setting) -> tuple[Array, list[str]]:
    """Return what stands for the natural mix, in coordinates, and notes on why it is another one, if it is.

    Proposals are measured by it, `keep: natural` falls back to it: so it is a mix that may be trained. It has the reused ratios, and where
    limits (or what earlier phases have read) do not allow the natural mix, it is the nearest that they do allow.
    """
    names, spread = coordinates(setting.leaves, setting.kept)
    limits, there = limits_in(setting), natural_mix(setting)
    natural = in_coordinates(setting.leaves, setting.kept, there[None])[0]
    found, notes = allowed(natural, limits), []
    if 0.5 * np.abs(spread @ natural - there).sum() > NOTICED:
        notes.append(f"`natural` has the reused ratios; without them it would be {_shares(setting.leaves, there)}")
    if 0.5 * np.abs(found - natural).sum() > NOTICED:
        broken = dict.fromkeys(part.label for part in limits.parts if float(part.row @ natural) > part.top + TINY)
        what = f"the natural mix ({_shares(names, natural)}) is not allowed: {'; '.join(broken)}"
        notes.append(f"{what}. `natural` is the nearest mix that is ({_shares(names, found)})")
    return found, notes


def _shares(names: Sequence[str], mix: Array) -> str:
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in zip(names, mix, strict=True))


def as_mix(setting: Setting, shares: Array) -> dict[str, float]:
    """Return leaf → share from shares of coordinates."""
    return as_shares(setting.leaves, coordinates(setting.leaves, setting.kept)[1] @ shares)


def reused(solved: SolvedMix, contents: Mapping[str, str]) -> dict[str, float]:
    """Return the ratios, leaf → share of the block, that `solved` gives the leaves whose tokens are the same as then.

    `contents` are those of curate.mix.data. Raises SpecError when fewer than two leaves are as they were, or all are.
    """
    same = [leaf for leaf in sorted(contents) if solved.made_from.get(f"tokens/{leaf}") == hash_of(contents[leaf]) and leaf in solved.weights]
    total = sum(solved.weights[leaf].weight for leaf in same)
    if len(same) < 2 or total <= 0:
        hint = "two or more sources with the same tokens and a share are needed; leave `reuse` out to solve the mix anew"
        raise SpecError(f"{solved.name} has {len(same)} of these sources as they are now, so nothing can be kept", where="reuse", hint=hint)
    if len(same) == len(contents):
        hint = "leave `reuse` out: changed suites, limits and budgets are solved anew from the same proxies"
        raise SpecError("all sources are as they were: there is nothing left to solve", where="reuse", hint=hint)
    return {leaf: solved.weights[leaf].weight / total for leaf in same}
