"""Which mixes to train proxies on.

Natural and uniform always, whatever the limits (they are what a proposal is compared with); for each source one mix that gives it half
and the rest as it comes; then, by design:

    dirichlet      draws around centers between natural and uniform, over a range of strengths, some with sources left out; groups first,
                   then the sources of a group, then the quality buckets of a source, each with a strength of its own
    space_filling  a scrambled Sobol sequence, mapped to flat shares of the same levels
    d_optimal      of many Dirichlet draws, one after the other the draw of which a law linear in log(w + ε) knows least

Minimum, maximum, fixed shares, groups and the order of quality buckets are respected; repetition is not, since a limit that binds at the
target says nothing about what a proxy can teach (olmix constrains proposals, not samples). Draws outside the limits are drawn again; where
limits leave little room, the nearest feasible mix is moved inside by a random amount, so that runs do not pile up on the border.
The first N mixes do not depend on how many are asked for. `space_filling` is the default: mixes solved from it are steadier, and better
(docs/decisions.md). At least 3 × (sources + 1) runs by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import SpecError
from curate.mix.feasible import middle, project, violation
from curate.mix.limits import Limits, Traits, natural_weights
from curate.specs.mix import Swarm

Array = NDArray[np.float64]
Tree = list[Any]  # of indices of leaves, nested: groups of sources of buckets
DIGITS = 6  # weights are rounded, so that a spec, a run and its hash show the same number
TRIES = 30  # draws that may miss the limits before one is moved inside
CANDIDATES = 600  # that a D-optimal design chooses from
EPSILON = 0.003  # a share below this is as good as none
SMALLEST = 1e-3  # of the center of a draw


class _Space(msgspec.Struct, frozen=True):
    """Where mixes are drawn."""

    natural: Array
    limits: Limits
    center: Array  # a mix away from all limits
    tree: Tree
    buckets: list[list[int]]  # leaves of each source that has some, worst first


def sample_mixes(
    swarm: Swarm,
    limits: Limits,
    tokens: Mapping[str, int],
    traits: Mapping[str, Traits] = {},
) -> list[dict[str, float]]:
    """Return the mixes of a swarm, each leaf → share: the natural, the uniform, one per leaf, then the design's.

    `tokens` are those available per leaf. Raises SpecError when `runs` are too few to fit a law.
    """
    names = sorted(tokens)
    num_runs = swarm.runs or 3 * (len(names) + 1)
    if num_runs < len(names) + 2:
        raise SpecError(f"{num_runs} runs cannot tell {len(names)} sources apart", where="swarm.runs", hint=f"{3 * (len(names) + 1)} is the default")
    natural = np.array(list(natural_weights(tokens).values()))
    space = _Space(natural, limits, middle(limits) if limits.parts else natural, *_levels(names, traits))
    mixes = [natural, np.full(len(names), 1 / len(names))]
    mixes += [project(0.5 * natural + 0.5 * unit, limits) for unit in np.eye(len(names))]
    more = num_runs - len(mixes)
    if more > 0:
        mixes += _DESIGNS[swarm.design](swarm, space, mixes, more)
    return [as_shares(names, mix) for mix in mixes[:num_runs]]


def draw_mix(natural: Array, limits: Limits, seed: list[int]) -> Array:
    """Return one Dirichlet draw as the design of that name has them by default, without groups."""
    space = _Space(natural, limits, middle(limits) if limits.parts else natural, list(range(len(natural))), [])
    return _inside(space, lambda random: _draw(random, Swarm(), space), seed)


def _levels(names: list[str], traits: Mapping[str, Traits]) -> tuple[Tree, list[list[int]]]:
    """Return the tree of groups, sources and buckets, and the buckets of each source that has some."""
    groups: dict[str, dict[str, list[int]]] = {}
    for i, name in enumerate(names):
        trait = traits.get(name, Traits())
        source = trait.source or name
        groups.setdefault(f"group {trait.group}" if trait.group else source, {}).setdefault(source, []).append(i)
    ordered = {source: sorted(at, key=lambda i: traits.get(names[i], Traits()).rank) for g in groups.values() for source, at in g.items()}
    tree: Tree = [_unnest([_unnest(ordered[source]) for source in sources]) for sources in groups.values()]
    return tree if len(tree) > 1 else tree[0], [at for at in ordered.values() if len(at) > 1]


def _unnest(tree: Tree) -> Any:
    return tree[0] if len(tree) == 1 else tree


# ── designs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _dirichlet(swarm: Swarm, space: _Space, before: list[Array], count: int) -> list[Array]:
    return [_inside(space, lambda random: _draw(random, swarm, space), [swarm.seed, i]) for i in range(count)]


def _space_filling(swarm: Swarm, space: _Space, before: list[Array], count: int) -> list[Array]:
    """A point's coordinates become exponential variables, and those, normalized at each level of the tree, flat shares."""
    points = _sobol(len(space.natural) + _inner_nodes(space.tree), swarm.seed)
    found: list[Array] = []
    while len(found) < count:
        first = None
        for _ in range(TRIES):
            mix = _shifted(space, _from_point(next(points), space))
            first = mix if first is None else first
            if violation(space.limits, mix) <= 1e-9:
                break
        else:
            assert first is not None
            mix = _moved_inside(space, first, np.random.default_rng([swarm.seed, 1, len(found)]))
        found.append(mix)
    return found


def _d_optimal(swarm: Swarm, space: _Space, before: list[Array], count: int) -> list[Array]:
    """Greedy: each run adds the most to the determinant of the information, given the runs before it."""
    pool = np.array(_dirichlet(swarm, space, before, CANDIDATES))
    seen, offered = _features(np.array(before)), _features(pool)
    inverse = np.linalg.inv(seen.T @ seen + 1e-3 * np.eye(seen.shape[1]))
    chosen: list[int] = []
    for _ in range(min(count, CANDIDATES)):
        unknown = np.einsum("ij,jk,ik->i", offered, inverse, offered)
        unknown[chosen] = -np.inf
        best = int(np.argmax(unknown))
        chosen.append(best)
        along = inverse @ offered[best]
        inverse -= np.outer(along, along) / (1 + unknown[best])
    return [pool[i] for i in chosen]


def _features(mixes: Array) -> Array:
    return np.hstack([np.ones((len(mixes), 1)), np.log(np.maximum(mixes, 0.0) + EPSILON) - np.log(1 / mixes.shape[1] + EPSILON)])


_DESIGNS: dict[str, Callable[[Swarm, _Space, list[Array], int], list[Array]]] = {
    "dirichlet": _dirichlet,
    "space_filling": _space_filling,
    "d_optimal": _d_optimal,
}


# ── draws ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _draw(random: np.random.Generator, swarm: Swarm, space: _Space) -> Array:
    center = np.maximum(space.natural ** random.uniform(), 0.0)
    center = np.maximum(center / center.sum(), SMALLEST)
    mix = np.zeros(len(center))

    def share_out(tree: Tree, amount: float) -> None:
        strength = float(np.exp(random.uniform(*np.log(swarm.strengths))))
        middle_of = np.array([center[_flat(node)].sum() for node in tree])
        shares = random.dirichlet(strength * middle_of / middle_of.sum())
        for node, share in zip(tree, shares, strict=True):
            if isinstance(node, list):
                share_out(node, amount * share)
            else:
                mix[node] = amount * share

    share_out(space.tree, 1.0)
    if random.uniform() < swarm.sparse and len(mix) > 2:
        left_out = random.permutation(len(mix))[: random.integers(1, len(mix) - 1)]
        mix[left_out] = 0.0
        if mix.sum() <= 0:  # the draw had everything on what was left out
            mix = np.where(np.isin(np.arange(len(mix)), left_out), 0.0, center)
    return _shifted(space, mix / mix.sum())


def _flat(tree: Any) -> list[int]:
    return [leaf for node in tree for leaf in _flat(node)] if isinstance(tree, list) else [tree]


def _inner_nodes(tree: Any) -> int:
    return sum(1 + _inner_nodes(node) for node in tree if isinstance(node, list))


def _from_point(point: Array, space: _Space) -> Array:
    """Return flat shares for a point of the unit cube, one coordinate per node of the tree."""
    weights = iter(-np.log(np.clip(point, 1e-12, 1 - 1e-12)))
    mix = np.zeros(len(space.natural))

    def share_out(tree: Tree, amount: float) -> None:
        shares = np.array([next(weights) for _ in tree])
        for node, share in zip(tree, shares / shares.sum(), strict=True):
            if isinstance(node, list):
                share_out(node, amount * share)
            else:
                mix[node] = amount * share

    share_out(space.tree, 1.0)
    return mix


def _sobol(size: int, seed: int) -> Iterator[Array]:
    from scipy.stats import qmc

    sequence = qmc.Sobol(size, scramble=True, rng=np.random.default_rng([seed, 2]))
    while True:
        yield from sequence.random_base2(5) if not sequence.num_generated else sequence.random(sequence.num_generated)


def _shifted(space: _Space, mix: Array) -> Array:
    """Give the lowest shares first and `mix` the rest, and sort the repeats of quality buckets."""
    low = space.limits.low
    mix = low + max(0.0, 1 - float(low.sum())) * _without(mix, space.limits.high - low <= 0)
    for at in space.buckets:
        inside = space.natural[at] / space.natural[at].sum()
        shares = np.sort(mix[at] / inside) * inside
        mix[at] = mix[at].sum() * shares / shares.sum() if shares.sum() > 0 else 0.0
    return mix


def _without(mix: Array, fixed: NDArray[np.bool_]) -> Array:
    left = np.where(fixed, 0.0, mix)
    return left / left.sum() if left.sum() > 0 else mix


def _inside(space: _Space, draw: Callable[[np.random.Generator], Array], seed: list[int]) -> Array:
    """Return the first draw within the limits, or else one that is moved inside."""
    random = np.random.default_rng(seed)
    first = None
    for _ in range(TRIES):
        mix = draw(random)
        if violation(space.limits, mix) <= 1e-9:
            return mix
        first = mix if first is None else first
    assert first is not None
    return _moved_inside(space, first, random)


def _moved_inside(space: _Space, mix: Array, random: np.random.Generator) -> Array:
    """Go from the nearest feasible mix a random part of the way to the middle of all."""
    near = project(mix, space.limits)
    return near + random.uniform() ** 2 * (space.center - near)


# ── shares by name ────────────────────────────────────────────────────────────────────────────────────────────────


def as_shares(names: list[str], mix: Array) -> dict[str, float]:
    """Return source → share, rounded so that the shares still add up to exactly one in their last digit."""
    units = 10**DIGITS
    whole = np.floor(mix * units + 1e-9).astype(int)
    order = np.lexsort((np.arange(len(mix)), -(mix * units - whole)))
    whole[order[: units - int(whole.sum())]] += 1
    return {name: int(share) / units for name, share in zip(names, whole, strict=True)}


def as_vector(mix: Mapping[str, float], names: list[str]) -> Array:
    """Return the shares in the order of `names`. Raises SpecError when the two do not name the same sources."""
    if set(mix) != set(names):
        missing, extra = sorted(set(names) - set(mix)), sorted(set(mix) - set(names))
        raise SpecError(f"a mix of {', '.join(sorted(mix))} is not one of {', '.join(names)} (missing: {missing}; unknown: {extra})")
    return np.array([mix[name] for name in names], np.float64)
