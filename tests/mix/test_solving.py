"""Limits and the solver: what cannot be is named, what can be is found, and its uncertainty is not hidden."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curate.errors import SpecError
from curate.mix.law import choose_law
from curate.mix.limits import bounds, natural_weights, project
from curate.mix.sample import as_shares, as_vector, sample_mixes
from curate.mix.solve import Problem, Solution, solve
from curate.specs.mix import Constraints, SourceLimits, Swarm

Array = NDArray[np.float64]
TOKENS = {"code": 500_000, "math": 20_000, "papers": 80_000, "web": 900_000}
NAMES = sorted(TOKENS)


def limits(**sources: SourceLimits) -> Constraints:
    return Constraints(sources=sources)


def test_limits_that_exclude_each_other_are_named() -> None:
    with pytest.raises(SpecError, match=r"constraints.sources.math: min 0.5 .* needs 25 repeats of 20,000 tokens; max_repeats is 4"):
        bounds(limits(math=SourceLimits(min=0.5)), TOKENS, 1_000_000)
    with pytest.raises(SpecError, match=r"minimum and fixed shares add up to 1.3, more than 1: code 0.7, web 0.6"):
        bounds(limits(code=SourceLimits(fixed=0.7), web=SourceLimits(min=0.6)), TOKENS, 1_000_000)
    with pytest.raises(SpecError, match=r"highest shares allowed add up to 0.15, less than 1: code 0.05 \(max_repeats 1\)"):
        bounds(Constraints(max_repeats=1), TOKENS, 10_000_000)
    with pytest.raises(SpecError, match=r"web 0.1 \(max\)"):
        bounds(Constraints(max_repeats=10, sources={"web": SourceLimits(max=0.1)}), TOKENS, 10_000_000)
    with pytest.raises(SpecError, match=r"constraints name the source 'wbe'"):
        bounds(limits(wbe=SourceLimits()), TOKENS, 1_000_000)
    with pytest.raises(SpecError, match=r"no tokens in math"):
        natural_weights({**TOKENS, "math": 0})


def test_repetition_bounds_a_share_by_what_there_is() -> None:
    low, high = bounds(limits(math=SourceLimits(max_repeats=10)), TOKENS, 1_000_000)
    assert low.tolist() == [0, 0, 0, 0]
    assert dict(zip(NAMES, high.round(4).tolist(), strict=True)) == {"code": 1, "math": 0.2, "papers": 0.32, "web": 1}


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(-1, 2), min_size=2, max_size=6), data=st.data())
def test_projection_gives_the_nearest_feasible_mix(values: list[float], data: st.DataObject) -> None:
    size = len(values)
    low = np.array(data.draw(st.lists(st.floats(0, 1 / size), min_size=size, max_size=size)))
    high = np.array(data.draw(st.lists(st.floats(1 / size, 1), min_size=size, max_size=size)))
    mix = project(np.array(values), low, high)
    assert abs(mix.sum() - 1) < 1e-9
    assert np.all(mix >= low - 1e-9) and np.all(mix <= high + 1e-9)
    random = np.random.default_rng(0)
    for _ in range(5):
        other = project(random.dirichlet(np.ones(size)), low, high)
        assert np.linalg.norm(mix - values) <= np.linalg.norm(other - values) + 1e-7


def test_a_swarm_has_natural_uniform_and_one_mix_that_leans_on_each_source() -> None:
    mixes = sample_mixes(Swarm(), Constraints(), TOKENS)
    assert len(mixes) == 15
    assert mixes[0] == as_shares(NAMES, as_vector(natural_weights(TOKENS), NAMES))
    assert mixes[1] == dict.fromkeys(NAMES, 0.25)
    assert [max(mix, key=lambda name: mix[name] - mixes[0][name]) for mix in mixes[2:6]] == NAMES
    assert all(abs(sum(mix.values()) - 1) < 1e-9 for mix in mixes)
    assert len({tuple(mix.values()) for mix in mixes}) == 15
    assert any(0.0 in mix.values() for mix in sample_mixes(Swarm(runs=40), Constraints(), TOKENS))
    assert sample_mixes(Swarm(runs=20), Constraints(), TOKENS)[:15] == mixes
    assert sample_mixes(Swarm(), Constraints(), dict(reversed(TOKENS.items()))) == mixes
    assert sample_mixes(Swarm(seed=1), Constraints(), TOKENS)[6:] != mixes[6:]


def test_drawn_mixes_respect_minimum_maximum_and_fixed_shares() -> None:
    given_limits = limits(code=SourceLimits(min=0.2), web=SourceLimits(max=0.3), math=SourceLimits(fixed=0.05))
    for mix in sample_mixes(Swarm(runs=40), given_limits, TOKENS)[2:]:
        assert mix["code"] >= 0.2 - 1e-6
        assert mix["web"] <= 0.3 + 1e-6
        assert abs(mix["math"] - 0.05) < 1e-6
    with pytest.raises(SpecError, match="5 runs cannot tell 4 sources apart"):
        sample_mixes(Swarm(runs=5), Constraints(), TOKENS)


def test_shares_are_joined_by_name() -> None:
    assert as_vector({"web": 0.7, "math": 0.3}, ["math", "web"]).tolist() == [0.3, 0.7]
    with pytest.raises(SpecError, match="missing: \\['math'\\]; unknown: \\['maths'\\]"):
        as_vector({"web": 0.7, "maths": 0.3}, ["math", "web"])


def truth(mixes: Array) -> dict[str, Array]:
    """Docs need web and papers, math needs math: more of one is less of the other."""
    docs = 0.8 + (mixes @ np.array([0.3, 0.05, 1.5, 1.0]) + 0.02) ** -0.3
    math = 0.6 + (mixes @ np.array([0.1, 4.0, 0.4, 0.05]) + 0.02) ** -0.4
    return {"docs": docs, "math": math}


def problem(runs: int = 24, seed: int = 0, noise: float = 0.004, law: str = "power", **changes: object) -> Problem:
    mixes = np.array([list(mix.values()) for mix in sample_mixes(Swarm(runs=runs, seed=seed), Constraints(), TOKENS)])
    random = np.random.default_rng(seed)
    scores = {name: y + random.normal(0, noise, runs) for name, y in truth(mixes).items()}
    laws = {name: choose_law(name, mixes, y, law) for name, y in scores.items()}
    natural = as_vector(natural_weights(TOKENS), NAMES)
    values: dict[str, object] = {"names": NAMES, "mixes": mixes, "scores": scores, "laws": laws, "importance": {"docs": 1.0, "math": 1.0}}
    values |= {"natural": natural, "low": np.zeros(4), "high": np.ones(4), "pull": 0.0}
    return Problem(**{**values, **changes})  # type: ignore[arg-type]


def true_gain(mix: Array, natural: Array) -> float:
    both = truth(np.stack([mix, natural]))
    return float(np.mean([1 - y[0] / y[1] for y in both.values()]))


def best_gain(given_problem: Problem) -> float:
    """Search a fine grid of feasible mixes."""
    grid = np.array([(a, b, c, 40 - a - b - c) for a in range(41) for b in range(41 - a) for c in range(41 - a - b)]) / 40
    inside = np.all((grid >= given_problem.low - 1e-9) & (grid <= given_problem.high + 1e-9), axis=1)
    base = truth(given_problem.natural[None])
    return float(1 - min(np.mean([y / base[name] for name, y in truth(grid[inside]).items()], axis=0)))


@pytest.mark.parametrize("law", ["power", "gp"])
def test_the_solved_mix_is_nearly_as_good_as_the_best_there_is(law: str) -> None:
    given_problem = problem(runs=40, law=law)
    solution = solve(given_problem)
    assert true_gain(solution.weights, given_problem.natural) > 0.9 * best_gain(given_problem)
    assert abs(solution.weights.sum() - 1) < 1e-9
    assert np.all((solution.low <= solution.weights) & (solution.weights <= solution.high))


def test_the_predicted_gain_is_corrected_and_its_interval_covers_the_truth() -> None:
    covered, excess = [], []
    for seed in range(4):
        given_problem = problem(runs=16, seed=seed, noise=0.02)
        solution = solve(given_problem)
        gain = true_gain(solution.weights, given_problem.natural)
        covered.append(solution.gain[1] <= gain <= solution.gain[2])
        excess.append((solution.gain_uncorrected - gain, solution.gain[0] - gain))
        assert solution.gain[0] <= solution.gain_uncorrected
    assert sum(covered) >= 3
    plain, corrected = np.mean(excess, axis=0)
    assert abs(corrected) < max(abs(plain), 0.01)


def test_a_repetition_limit_binds_and_the_warning_says_which() -> None:
    _, high = bounds(Constraints(max_repeats=4), TOKENS, 1_000_000)
    free, bound = solve(problem()), solve(problem(high=high))
    assert free.weights[1] > 0.08 + 0.01
    assert abs(bound.weights[1] - 0.08) < 1e-5
    assert any(warning.startswith("math is at its limit of 8.0 %") for warning in bound.warnings)


def test_a_pull_towards_natural_pulls() -> None:
    given_problem = problem()
    apart = [0.5 * np.abs(solve(problem(pull=pull)).weights - given_problem.natural).sum() for pull in (0.0, 10.0)]
    assert apart[0] > 0.1
    assert apart[1] < 0.02


def test_a_protected_suite_does_not_get_worse() -> None:
    def docs(solution: Solution) -> tuple[float, float]:
        return solution.predictions["docs"]["solved"], solution.predictions["docs"]["natural"]

    lopsided = {"docs": 0.02, "math": 1.0}
    free, kept = docs(solve(problem(importance=lopsided))), docs(solve(problem(importance=lopsided, protected=("docs",))))
    assert free[0] > free[1] + 0.01
    assert kept[0] <= kept[1] + 1e-3


def test_nothing_to_gain_is_said() -> None:
    given_problem = problem(noise=0.0)
    flat = {name: np.full(len(given_problem.mixes), 1.5) + np.random.default_rng(4).normal(0, 0.02, 24) for name in ("docs", "math")}
    laws = {name: choose_law(name, given_problem.mixes, y, "power") for name, y in flat.items()}
    solution = solve(problem(noise=0.0, scores=flat, laws=laws))
    assert solution.gain[1] <= 0
    assert any("interval of the predicted gain includes zero" in warning for warning in solution.warnings)


def test_extrapolation_is_said_and_the_same_problem_has_the_same_solution() -> None:
    near = problem()
    keep = np.abs(near.mixes - near.natural).sum(1) < 0.45
    small = problem(mixes=near.mixes[keep], scores={n: y[keep] for n, y in near.scores.items()})
    small = problem(
        mixes=small.mixes,
        scores=small.scores,
        laws={n: choose_law(n, small.mixes, y, "power") for n, y in small.scores.items()},
        low=np.array([0, 0.5, 0, 0]),
    )
    assert any(warning.startswith("the laws extrapolate") for warning in solve(small).warnings)
    assert solve(near).weights.tobytes() == solve(near).weights.tobytes()
