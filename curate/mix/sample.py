"""Which mixes to train proxies on.

Natural and uniform always, whatever the limits (they are what a proposal is compared with); for each source one mix that gives it half
and the rest as it comes; and Dirichlet draws around centers between natural and uniform, over a range of strengths, some of them with
sources left out. Minimum, maximum and fixed shares are respected; repetition is not, since a limit that binds at the target says
nothing about what a proxy can teach (olmix constrains proposals, not samples). At least 3 × (sources + 1) runs by default.

Traded away: space-filling and D-optimal designs, which know nothing of where good mixes lie.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from curate.errors import SpecError
from curate.mix.limits import bounds, natural_weights, project
from curate.specs.mix import Constraints, Swarm

Vector = NDArray[np.float64]
DIGITS = 6  # weights are rounded, so that a spec, a run and its hash show the same number


def sample_mixes(swarm: Swarm, constraints: Constraints, tokens: Mapping[str, int]) -> list[dict[str, float]]:
    """Return the mixes of a swarm, each source → share: the natural, the uniform, one per source, then draws.

    `tokens` are those available per source. The first N mixes do not depend on how many are asked for.
    Raises SpecError when the limits cannot be met, or when `runs` are too few to fit a law.
    """
    names = sorted(tokens)
    natural = np.array(list(natural_weights(tokens).values()))
    num_runs = swarm.runs or 3 * (len(names) + 1)
    if num_runs < len(names) + 2:
        raise SpecError(f"{num_runs} runs cannot tell {len(names)} sources apart", where="swarm.runs", hint=f"{3 * (len(names) + 1)} is the default")
    low, high = bounds(constraints, tokens, None)
    uniform = np.full(len(names), 1 / len(names))
    mixes = [natural, uniform]
    mixes += [project(0.5 * natural + 0.5 * np.eye(len(names))[i], low, high) for i in range(len(names))]
    draw = 0
    while len(mixes) < num_runs:
        mixes.append(_draw(np.random.default_rng([swarm.seed, draw]), swarm, natural, low, high))
        draw += 1
    return [as_shares(names, mix) for mix in mixes[:num_runs]]


def _draw(random: np.random.Generator, swarm: Swarm, natural: Vector, low: Vector, high: Vector) -> Vector:
    temper = random.uniform()
    center = natural**temper
    strength = float(np.exp(random.uniform(*np.log(swarm.strengths))))
    mix = random.dirichlet(strength * np.maximum(center / center.sum(), 1e-3))
    if random.uniform() < swarm.sparse and len(mix) > 2:
        left_out = random.permutation(len(mix))[: random.integers(1, len(mix) - 1)]
        mix[left_out] = 0.0
        if mix.sum() <= 0:  # the draw had everything on what was left out
            mix = np.where(np.isin(np.arange(len(mix)), left_out), 0.0, center)
    return project(mix / mix.sum(), low, high)


def as_shares(names: list[str], mix: Vector) -> dict[str, float]:
    """Return source → share, rounded so that the shares still add up to exactly one in their last digit."""
    units = 10**DIGITS
    whole = np.floor(mix * units + 1e-9).astype(int)
    order = np.lexsort((np.arange(len(mix)), -(mix * units - whole)))
    whole[order[: units - int(whole.sum())]] += 1
    return {name: int(share) / units for name, share in zip(names, whole, strict=True)}


def as_vector(mix: Mapping[str, float], names: list[str]) -> Vector:
    """Return the shares in the order of `names`. Raises SpecError when the two do not name the same sources."""
    if set(mix) != set(names):
        missing, extra = sorted(set(names) - set(mix)), sorted(set(mix) - set(names))
        raise SpecError(f"a mix of {', '.join(sorted(mix))} is not one of {', '.join(names)} (missing: {missing}; unknown: {extra})")
    return np.array([mix[name] for name in names], np.float64)
