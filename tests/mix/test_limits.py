"""Limits: what cannot be is named, with its numbers; what can be is a mix within all of them, and the nearest one is found."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curate.errors import InputError, SpecError
from curate.mix.feasible import allowed, middle, violation
from curate.mix.limits import Limit, Limits, Traits, assemble, limits_of, natural_weights, project, relaxed, through
from curate.specs.mix import Constraints, GroupLimits, SourceLimits

Array = NDArray[np.float64]
TOKENS = {"code": 500_000, "math": 20_000, "papers": 80_000, "web": 900_000}
NAMES = sorted(TOKENS)
SPLIT = {"code": 400_000, "web.good": 100_000, "web.medium": 300_000, "web.poor": 600_000}
BUCKETS = {name: Traits(source="web", rank=rank) for rank, name in enumerate(["web.poor", "web.medium", "web.good"])}


def constraints(**sources: SourceLimits) -> Constraints:
    return Constraints(sources=sources)


def test_limits_of_single_sources_that_exclude_each_other_are_named() -> None:
    with pytest.raises(SpecError, match=r"constraints.sources.math: min 0.5 .* needs 25 repeats of 20,000 tokens; max_repeats is 4"):
        limits_of(constraints(math=SourceLimits(min=0.5)), TOKENS, 1_000_000)
    with pytest.raises(SpecError, match=r"needs 2.5 repeats .* max_repeats is 4 beside .* earlier phases read 50,000"):
        limits_of(constraints(math=SourceLimits(min=0.05)), TOKENS, 1_000_000, used={"math": 50_000})
    with pytest.raises(SpecError, match=r"minimum and fixed shares add up to 1.3, more than 1: code 0.7, web 0.6"):
        limits_of(constraints(code=SourceLimits(fixed=0.7), web=SourceLimits(min=0.6)), TOKENS, 1_000_000)
    with pytest.raises(SpecError, match=r"highest shares allowed add up to 0.15, less than 1: code 0.05 \(max_repeats 1\)"):
        limits_of(Constraints(max_repeats=1), TOKENS, 10_000_000)
    with pytest.raises(SpecError, match=r"web 0.1 \(max\)"):
        limits_of(Constraints(max_repeats=10, sources={"web": SourceLimits(max=0.1)}), TOKENS, 10_000_000)
    with pytest.raises(SpecError, match=r"constraints name the source 'wbe'"):
        limits_of(constraints(wbe=SourceLimits()), TOKENS, 1_000_000)
    with pytest.raises(SpecError, match=r"constraints name the group 'science', which no source is in\nhint: give sources"):
        limits_of(Constraints(groups={"science": GroupLimits(min=0.1)}), TOKENS, 1_000_000)
    with pytest.raises(
        SpecError,
        match=r"constraints.max_synthetic: it limits nothing: none of code, math, papers, web is marked as synthetic\nhint: .*synthetic: true",
    ):
        limits_of(Constraints(max_synthetic=0.2), TOKENS, 1_000_000)
    with pytest.raises(SpecError, match=r"no tokens in math"):
        natural_weights({**TOKENS, "math": 0})


@pytest.mark.parametrize(
    ("target", "sources", "hint"),
    [
        (10_000_000, {}, "raise max_repeats, lower target.tokens, or add sources"),
        (100_000, {name: SourceLimits(fixed=0.24) for name in NAMES}, "raise a fixed share, or add sources"),
        (100_000, {name: SourceLimits(max=0.2) for name in NAMES}, "raise a maximum, or add sources"),
        (
            100_000,
            {name: SourceLimits(fixed=0.2) for name in NAMES[1:]} | {"code": SourceLimits(max=0.3)},
            "raise a fixed share, raise a maximum, or add sources",
        ),
        (10_000_000, {"web": SourceLimits(max=0.1)}, "raise max_repeats, lower target.tokens, raise a maximum, or add sources"),
    ],
)
def test_the_hint_names_the_limits_that_allow_too_little(target: int, sources: dict[str, SourceLimits], hint: str) -> None:
    with pytest.raises(SpecError, match="the highest shares allowed add up to .*, less than 1") as caught:
        limits_of(constraints(**sources), TOKENS, target)
    assert caught.value.hint == hint


def test_of_many_limits_only_those_that_exclude_each_other_are_named() -> None:
    given_limits = Constraints(
        sources={"code": SourceLimits(max=0.3), "math": SourceLimits(min=0.02), "web": SourceLimits(max=0.9)},
        groups={"science": GroupLimits(max=0.1), "plain": GroupLimits(max=0.5)},
        max_synthetic=0.9,
    )
    traits = {"code": Traits(), "math": Traits("science", True), "papers": Traits("science"), "web": Traits("plain")}
    with pytest.raises(SpecError) as caught:
        limits_of(given_limits, TOKENS, 1_000_000, traits)
    assert "none" not in str(caught.value)
    assert str(caught.value) == (
        "constraints: these limits exclude each other, and dropping any one of them would do: "
        "code at most 0.3; group science at most 0.1; group plain at most 0.5\n"
        "hint: change a minimum, maximum or fixed share"
    )
    fixed = Constraints(groups={"science": GroupLimits(fixed=0.5)})
    with pytest.raises(
        SpecError,
        match=r"math at most 0.08 \(max_repeats 4 of 20,000 tokens\); papers at most 0.32 .*; group science fixed at 0.5\nhint: raise max_repeats",
    ):
        limits_of(fixed, TOKENS, 1_000_000, traits)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_the_named_conflict_is_infeasible_and_none_of_it_can_be_spared(seed: int) -> None:
    limits = random_limits(seed, feasible=False)
    try:
        found = through(limits, np.eye(len(limits.names)), limits.names)
    except SpecError as error:
        named = error.what.split("would do: ")[1].split("; ")
        parts = [part for part in limits.parts if part.label in named]
        assert {part.label for part in parts} == set(named)
        assert not has_mix(assemble(limits.names, parts))
        for left_out in named:
            assert has_mix(assemble(limits.names, [part for part in parts if part.label != left_out]))
    else:
        assert has_mix(found)


def test_repetition_bounds_a_share_by_what_there_is_and_what_was_read() -> None:
    limits = limits_of(constraints(math=SourceLimits(max_repeats=10)), TOKENS, 1_000_000)
    assert limits.low.tolist() == [0, 0, 0, 0] and not len(limits.rows)
    assert dict(zip(NAMES, limits.high.round(4).tolist(), strict=True)) == {"code": 1, "math": 0.2, "papers": 0.32, "web": 1}
    later = limits_of(constraints(math=SourceLimits(max_repeats=10)), TOKENS, 1_000_000, used={"math": 150_000, "papers": 10**9})
    assert later.high.round(4).tolist() == [1, 0.05, 0, 1]
    assert limits_of(Constraints(), TOKENS, None).high.tolist() == [1, 1, 1, 1]


def test_more_of_a_source_first_makes_up_for_what_was_read_beyond_its_limit() -> None:
    used = {"math": 84_000, "papers": 10**9}  # math may be read 4 × 20,000
    limits = limits_of(Constraints(), TOKENS, 1_000_000, used=used)
    assert limits.high.round(6).tolist() == [1, 0, 0, 1]
    more = relaxed(limits, lambda part: 0.1 * part.growth)
    expected = limits_of(Constraints(), {name: round(1.1 * count) for name, count in TOKENS.items()}, 1_000_000, used=used)
    assert more.high[1] == pytest.approx(0.004) and more.high[2] == 0
    assert np.minimum(more.high, 1).tolist() == pytest.approx(np.minimum(expected.high, 1).tolist())
    twice = relaxed(relaxed(limits, lambda part: 0.04 * part.growth), lambda part: 0.06 * part.growth)
    assert twice.high.tolist() == pytest.approx(more.high.tolist())


def test_a_bucket_repeats_at_most_so_often_and_the_better_one_never_less() -> None:
    limits = limits_of(Constraints(max_repeats=2, max_upsampling=7), SPLIT, 1_000_000, BUCKETS)
    assert limits.names == ["code", "web.good", "web.medium", "web.poor"]
    assert limits.high.round(6).tolist() == [0.8, 0.7, 1.0, 1.0]
    assert limits.labels == [
        "web.medium repeated at least as often as web.poor",
        "web.good repeated at least as often as web.medium",
        "web at most 2 (max_repeats 2 of 1,000,000 tokens)",
    ]
    repeats = project(np.array([0.1, 0.0, 0.0, 0.9]), limits) / np.array(list(SPLIT.values())) * 1_000_000
    assert repeats[1] >= repeats[2] - 1e-6 >= repeats[3] - 2e-6
    natural = np.array(list(natural_weights(SPLIT).values()))
    assert violation(limits, natural) < 1e-12
    tight = limits_of(Constraints(sources={"web": SourceLimits(max_repeats=0.5)}), SPLIT, 1_000_000, BUCKETS)
    assert project(natural, tight)[1:].sum() <= 0.5 + 1e-9
    both = Constraints(sources={"web": SourceLimits(max=0.1)}, groups={"all": GroupLimits(fixed=0.5)})
    grouped = {name: Traits("all", source="web", rank=trait.rank) for name, trait in BUCKETS.items()}
    with pytest.raises(SpecError, match=r"web at most 0.1; group all fixed at 0.5"):
        limits_of(both, SPLIT, 1_000_000, grouped)


def test_a_bucket_that_earlier_phases_used_up_leaves_the_others_their_room() -> None:
    """Over all phases the better one is repeated at least as often: after 7 and 1 times, the worse one may have up to 6 more."""
    tokens, buckets = {"web.hi": 100, "web.lo": 1_000, "x": 3_000}, {"web.lo": Traits(source="web", rank=0), "web.hi": Traits(source="web", rank=1)}
    used = {"web.hi": 700, "web.lo": 1_000, "x": 300}
    limits = limits_of(Constraints(max_repeats=4, max_upsampling=7), tokens, 1_000, buckets, used)
    natural = np.array(list(natural_weights(tokens).values()))
    assert allowed(natural, limits) == pytest.approx([0, 0.25, 0.75], abs=1e-5)  # its ratios, but for what may not be read any more
    assert violation(limits, np.array([0, 1.0, 0])) == 0  # 1 repeat more of web.lo
    assert violation(limits_of(Constraints(max_repeats=4), tokens, 1_000, buckets), np.array([0.0, 1.0, 0])) > 0.09  # nothing read before


def test_groups_and_synthetic_text_are_limited_together() -> None:
    traits = {"code": Traits(), "math": Traits("science", True), "papers": Traits("science"), "web": Traits(synthetic=True)}
    given_limits = Constraints(groups={"science": GroupLimits(min=0.3, max=0.35)}, max_synthetic=0.2)
    limits = limits_of(given_limits, TOKENS, None, traits)
    mix = project(np.array([0.1, 0.0, 0.1, 0.8]), limits)
    assert violation(limits, mix) <= 1e-9
    assert abs(mix[1] + mix[2] - 0.35) < 1e-9 or abs(mix[1] + mix[2] - 0.3) < 1e-9
    assert abs(mix[1] + mix[3] - 0.2) < 1e-9


def test_a_frozen_block_obeys_the_limits_of_its_sources() -> None:
    limits = limits_of(constraints(web=SourceLimits(max=0.3), code=SourceLimits(min=0.1)), TOKENS, None)
    expand = np.array([[0.0, 0.25], [1.0, 0.0], [0.0, 0.0], [0.0, 0.75]])
    reduced = through(limits, expand, ["math", "old"])
    assert reduced.low.tolist() == [0.0, 0.4] and reduced.high.tolist() == [1.0, 0.4]
    assert violation(limits, expand @ project(np.array([0.1, 0.9]), reduced)) < 1e-9
    with pytest.raises(SpecError, match="reuse: .*: code at least 0.2; web at most 0.3\nhint: solve without reuse, or change"):
        through(limits_of(constraints(web=SourceLimits(max=0.3), code=SourceLimits(min=0.2)), TOKENS, None), expand, ["math", "old"])
    with pytest.raises(InputError, match="do not add up to one"):
        through(limits, expand / 2, ["math", "old"])


def random_limits(seed: int, feasible: bool) -> Limits:
    """Return limits on 3 or 4 shares: bounds and up to four rows, some of them equalities, that a known mix satisfies (or need not)."""
    random = np.random.default_rng(seed)
    size = int(random.integers(3, 5))
    inside = random.dirichlet(np.ones(size))
    if random.uniform() < 0.3:
        inside = np.where(np.arange(size) == random.integers(size), 0.0, inside) + 0.0
        inside /= inside.sum()
    parts = []
    for i in range(size):
        slack = float(random.choice([0.0, 0.05, 0.3]))
        parts.append(Limit(np.eye(size)[i], float(inside[i]) + slack, f"max {i}", "max", str(i)))
        parts.append(Limit(-np.eye(size)[i], -float(inside[i]) * float(random.choice([0.0, 0.5, 1.0])), f"min {i}", "min", str(i)))
    for k in range(int(random.integers(0, 4))):
        row = random.integers(0, 2, size).astype(float) if random.uniform() < 0.6 else np.round(random.normal(size=size), 2)
        top = float(row @ inside) + float(random.choice([0.0, 0.02, 0.2])) - (0.0 if feasible else float(random.choice([0.0, 0.1])))
        parts.append(Limit(row, top, f"row {k}", "max", f"g{k}"))
        if random.uniform() < 0.2:
            parts.append(Limit(-row, -top if not feasible else -float(row @ inside), f"row {k}", "max", f"g{k}"))
    return assemble([f"s{i}" for i in range(size)], parts)


def has_mix(limits: Limits) -> bool:
    """Minimize the largest violation by brute force: an LP of its own, over the vertices of what any few limits leave."""
    return bool(vertices(limits).size)


def inequalities(limits: Limits) -> tuple[Array, Array]:
    unit = np.eye(len(limits.names))
    return np.vstack([unit, -unit, limits.rows]), np.concatenate([limits.high, -limits.low, limits.tops])


def vertices(limits: Limits) -> Array:
    size = len(limits.names)
    rows, tops = inequalities(limits)
    found = []
    for active in combinations(range(len(rows)), size - 1):
        matrix = np.vstack([np.ones(size), rows[list(active)]])
        if np.linalg.matrix_rank(matrix) == size:
            w = np.linalg.solve(matrix, np.append(1.0, tops[list(active)]))
            if np.all(rows @ w <= tops + 1e-8):
                found.append(w)
    return np.array(found)


def slow_projection(weights: Array, limits: Limits) -> Array:
    """Try every set of active limits."""
    size = len(limits.names)
    rows, tops = inequalities(limits)
    best, best_distance = np.zeros(size), np.inf
    for count in range(size):
        for active in combinations(range(len(rows)), count):
            matrix = np.vstack([np.ones(size), rows[list(active)]])
            w = weights - np.linalg.pinv(matrix) @ (matrix @ weights - np.append(1.0, tops[list(active)]))
            if abs(w.sum() - 1) < 1e-9 and np.all(rows @ w <= tops + 1e-9):
                distance = float(np.linalg.norm(w - weights))
                if distance < best_distance:
                    best, best_distance = w, distance
    return best


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 1_000_000), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_projection_gives_the_nearest_feasible_mix(seed: int, scale: float) -> None:
    limits = random_limits(seed, feasible=True)
    weights = np.random.default_rng([seed, 1]).normal(0.3, scale, len(limits.names))
    mix = project(weights, limits)
    assert violation(limits, mix) <= 1e-9
    expected = slow_projection(weights, limits)
    assert np.linalg.norm(mix - weights) <= np.linalg.norm(expected - weights) + 1e-7
    assert np.abs(project(mix, limits) - mix).max() <= 1e-9
    assert project(weights, limits).tobytes() == mix.tobytes()


def test_what_stands_for_a_mix_that_is_not_allowed_keeps_the_ratios_that_no_limit_is_about() -> None:
    there = np.array([0.9, 0.06, 0.04])
    limits = assemble(["web", "code", "math"], [Limit(np.array([1.0, 0, 0]), 0.5, "web at most 0.5", "max", "web")])
    assert allowed(there, limits) == pytest.approx([0.5, 0.3, 0.2], abs=1e-6)
    inside = np.array([0.5, 0.1, 0.4])
    assert allowed(inside, limits) is inside


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1_000_000))
def test_what_stands_for_a_mix_is_the_nearest_in_relative_entropy(seed: int) -> None:
    limits, random = random_limits(seed, feasible=True), np.random.default_rng([seed, 2])
    there = random.dirichlet(np.ones(len(limits.names))) * 0.99 + 0.01 / len(limits.names)
    found = allowed(there, limits)
    assert violation(limits, found) <= 1e-8
    corners = vertices(limits)
    others = random.dirichlet(np.ones(len(corners)), 300) @ corners  # feasible, since limits are convex
    others = np.vstack([others, 0.98 * found + 0.02 * others])

    def divergence(mixes: Array) -> Array:
        return np.asarray((mixes * np.log(np.maximum(mixes, 1e-6) / there)).sum(-1))

    assert divergence(found) <= divergence(np.maximum(others, 0)).min() + 1e-5


def test_projection_and_the_middle_scale_to_many_sources() -> None:
    tokens: dict[str, int] = {f"s{i:02d}.{b}": 1000 * (i + 1) * (b + 1) for i in range(12) for b in range(3)}
    traits: dict[str, Any] = {name: Traits(f"g{int(name[1:3]) % 4}", source=name[:3], rank=int(name[-1])) for name in tokens}
    given_limits = Constraints(groups={"g0": GroupLimits(fixed=0.3), "g1": GroupLimits(max=0.2)}, sources={"s02": SourceLimits(min=0.1)})
    limits = limits_of(given_limits, tokens, 300_000, traits)
    random = np.random.default_rng(0)
    center = middle(limits)
    assert violation(limits, center) <= 1e-9
    assert center.min() > 1e-4
    for _ in range(20):
        mix = project(random.dirichlet(np.full(36, 0.2)), limits)
        assert violation(limits, mix) <= 1e-9
