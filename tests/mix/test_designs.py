"""Designs of the swarm: the comparison mixes come first, limits hold, more runs keep the earlier ones, draws fill the room there is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.errors import SpecError
from curate.mix.feasible import violation
from curate.mix.limits import Limits, Traits, free, limits_of, natural_weights
from curate.mix.sample import as_shares, as_vector, sample_mixes
from curate.specs.mix import DESIGNS, Constraints, GroupLimits, SourceLimits, Swarm

Array = NDArray[np.float64]
TOKENS = {"code": 500_000, "math": 20_000, "papers": 80_000, "web": 900_000}
NAMES = sorted(TOKENS)
SPLIT = {"code": 400_000, "forums": 50_000, "math": 9_000, "web.good": 100_000, "web.medium": 300_000, "web.poor": 600_000}
TRAITS = {
    "code": Traits("technical"),
    "math": Traits("technical"),
    **{name: Traits(source="web", rank=rank) for rank, name in enumerate(["web.poor", "web.medium", "web.good"])},
}


def as_rows(mixes: list[dict[str, float]]) -> Array:
    return np.array([list(mix.values()) for mix in mixes])


def repeats_of_web(mixes: Array) -> Array:
    """Return how often each mix repeats the web's buckets, worst first, up to a factor."""
    return mixes[:, [5, 4, 3]] / np.array([600_000, 300_000, 100_000]) * 1e6


def test_a_swarm_has_natural_uniform_and_one_mix_that_leans_on_each_source() -> None:
    mixes = sample_mixes(Swarm(), free(NAMES), TOKENS)
    assert len(mixes) == 15
    assert mixes[0] == as_shares(NAMES, as_vector(natural_weights(TOKENS), NAMES))
    assert mixes[1] == dict.fromkeys(NAMES, 0.25)
    assert [max(mix, key=lambda name: mix[name] - mixes[0][name]) for mix in mixes[2:6]] == NAMES
    assert all(abs(sum(mix.values()) - 1) < 1e-9 for mix in mixes)
    assert any(0.0 in mix.values() for mix in sample_mixes(Swarm(runs=40, design="dirichlet"), free(NAMES), TOKENS))
    assert sample_mixes(Swarm(seed=1), free(NAMES), TOKENS)[6:] != mixes[6:]
    with pytest.raises(SpecError, match="5 runs cannot tell 4 sources apart"):
        sample_mixes(Swarm(runs=5), free(NAMES), TOKENS)


@pytest.mark.parametrize("design", DESIGNS)
def test_more_runs_keep_the_earlier_ones(design: str) -> None:
    limits = limits_of(Constraints(groups={"technical": GroupLimits(min=0.2)}), SPLIT, None, TRAITS)
    mixes = sample_mixes(Swarm(design=design), limits, SPLIT, TRAITS)
    assert len(mixes) == 21 and len({tuple(mix.values()) for mix in mixes}) == 21
    for runs in (8, 21, 33, 60):
        more = sample_mixes(Swarm(design=design, runs=runs), limits, SPLIT, TRAITS)
        assert len(more) == runs
        assert more[: min(runs, 21)] == mixes[: min(runs, 21)]
    assert sample_mixes(Swarm(design=design), limits, dict(reversed(SPLIT.items())), TRAITS) == mixes


@pytest.mark.parametrize("design", DESIGNS)
def test_drawn_mixes_respect_the_limits(design: str) -> None:
    sources = {"code": SourceLimits(min=0.2), "web": SourceLimits(max=0.5), "math": SourceLimits(fixed=0.05)}
    limits = limits_of(Constraints(sources=sources, groups={"technical": GroupLimits(max=0.5)}), SPLIT, None, TRAITS)
    mixes = as_rows(sample_mixes(Swarm(runs=40, design=design), limits, SPLIT, TRAITS))[2:]
    assert max(violation(limits, mix) for mix in mixes) < 2e-6
    repeats = repeats_of_web(mixes)
    assert np.all(np.diff(repeats, axis=1) >= -20e-6 * 1e6 / 100_000)
    assert np.quantile(repeats[:, 2] - repeats[:, 0], 0.9) > 0.3  # and buckets differ


def test_quality_buckets_are_drawn_in_their_order_without_moving_any() -> None:
    mixes = as_rows(sample_mixes(Swarm(runs=60), limits_of(Constraints(), SPLIT, None, TRAITS), SPLIT, TRAITS))[10:]
    repeats = repeats_of_web(mixes)
    assert np.all(np.diff(repeats, axis=1) >= -1e-4)
    assert np.mean(np.diff(repeats, axis=1).min(1) > 0.01) > 0.6  # few lie on the border, where two buckets repeat equally


def test_groups_and_the_sources_within_them_vary_apart() -> None:
    tokens = {f"s{i}": 100_000 for i in range(8)}
    traits = {name: Traits("a" if i < 4 else "b") for i, name in enumerate(tokens)}

    def tied(given_traits: dict[str, Traits]) -> float:
        """Return how far a lopsided pair of groups goes with a lopsided inside."""
        mixes = as_rows(sample_mixes(Swarm(runs=400, design="dirichlet", sparse=0.0), free(sorted(tokens)), tokens, given_traits))[10:]
        inside = (mixes[:, :4] / mixes[:, :4].sum(1, keepdims=True)).std(1)
        return float(np.corrcoef(np.abs(mixes[:, :4].sum(1) - 0.5), inside)[0, 1])

    assert tied(traits) < 0.15 < 0.3 < tied({})


@pytest.mark.parametrize("design", ["dirichlet", "space_filling"])
def test_runs_do_not_pile_up_on_the_border_of_tight_limits(design: str) -> None:
    tokens = {f"s{i}": 100_000 * (i + 1) for i in range(6)}
    traits = {name: Traits("a" if i < 3 else "b") for i, name in enumerate(tokens)}
    sources = {name: SourceLimits(max=0.24) for name in tokens}
    limits = limits_of(Constraints(sources=sources, groups={"a": GroupLimits(max=0.45, min=0.35)}), tokens, None, traits)
    mixes = as_rows(sample_mixes(Swarm(runs=60, design=design), limits, tokens, traits))[8:]
    assert violation_of_all(limits, mixes) < 2e-6
    at_border = (mixes > 0.24 - 1e-5).sum(1) + (np.abs(mixes[:, :3].sum(1) - 0.4) > 0.05 - 1e-5)
    assert np.mean(at_border > 0) < 0.2
    assert mixes.std(0).min() > 0.02


def violation_of_all(limits: Limits, mixes: Array) -> float:
    return max(violation(limits, mix) for mix in mixes)


def test_a_space_filling_design_leaves_smaller_holes_than_draws_do() -> None:
    tokens = dict.fromkeys(("a", "b", "c"), 100_000)
    flat = np.random.default_rng(0).dirichlet(np.ones(3), 2000)

    def hole(design: str) -> float:
        mixes = as_rows(sample_mixes(Swarm(runs=69, design=design), free(sorted(tokens)), tokens))[5:]
        return float(np.sqrt(((flat[:, None] - mixes[None]) ** 2).sum(2)).min(1).mean())

    assert hole("space_filling") < 0.9 * hole("dirichlet")


def test_a_d_optimal_design_tells_more_of_each_source_than_draws_do() -> None:
    tokens = {f"s{i}": 100_000 * (i + 1) for i in range(8)}

    def information(design: str) -> float:
        mixes = as_rows(sample_mixes(Swarm(runs=27, design=design), free(sorted(tokens)), tokens))
        x = np.hstack([np.ones((27, 1)), np.log(mixes + 0.003)])
        return float(np.linalg.slogdet(x.T @ x)[1])

    assert information("d_optimal") > information("dirichlet") + 3


def test_shares_are_joined_by_name() -> None:
    assert as_vector({"web": 0.7, "math": 0.3}, ["math", "web"]).tolist() == [0.3, 0.7]
    with pytest.raises(SpecError, match="missing: \\['math'\\]; unknown: \\['maths'\\]"):
        as_vector({"web": 0.7, "maths": 0.3}, ["math", "web"])


def test_a_swarm_fills_the_space_unless_a_design_is_named() -> None:
    tokens = {f"s{i:02d}": 1000 * (i + 1) for i in range(4)}
    default, named, draws = (sample_mixes(swarm, free(sorted(tokens)), tokens) for swarm in (Swarm(runs=10), *map(with_design, DESIGNS[:2])))
    assert default == named != draws


def with_design(design: str) -> Swarm:
    return Swarm(runs=10, design=design)


def test_settings_of_draws_are_refused_where_nothing_is_drawn() -> None:
    for given in ({"sparse": 0.0}, {"strengths": (1.0, 5.0)}):
        with pytest.raises(ValueError, match="strengths and sparse are of Dirichlet draws\nhint: with design: dirichlet"):
            Swarm(**given)
        assert Swarm(design="dirichlet", **given).design == "dirichlet"
