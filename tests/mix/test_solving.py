"""Limits and the solver: what cannot be is named, what can be is found, and its uncertainty is not hidden."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.mix.law import choose_law
from curate.mix.limits import free, limits_of, natural_weights
from curate.mix.sample import as_vector, sample_mixes
from curate.mix.solve import Problem, Solution, solve
from curate.specs.mix import Constraints, SourceLimits, Swarm

Array = NDArray[np.float64]
TOKENS = {"code": 500_000, "math": 20_000, "papers": 80_000, "web": 900_000}
NAMES = sorted(TOKENS)


def truth(mixes: Array) -> dict[str, Array]:
    """Docs need web and papers, math needs math: more of one is less of the other."""
    docs = 0.8 + (mixes @ np.array([0.3, 0.05, 1.5, 1.0]) + 0.02) ** -0.3
    math = 0.6 + (mixes @ np.array([0.1, 4.0, 0.4, 0.05]) + 0.02) ** -0.4
    return {"docs": docs, "math": math}


def problem(runs: int = 24, seed: int = 0, noise: float = 0.004, law: str = "power", **changes: object) -> Problem:
    mixes = np.array([list(mix.values()) for mix in sample_mixes(Swarm(runs=runs, seed=seed), free(NAMES), TOKENS)])
    random = np.random.default_rng(seed)
    scores = {name: y + random.normal(0, noise, runs) for name, y in truth(mixes).items()}
    laws = {name: choose_law(name, mixes, y, law) for name, y in scores.items()}
    natural = as_vector(natural_weights(TOKENS), NAMES)
    values: dict[str, object] = {"names": NAMES, "mixes": mixes, "scores": scores, "laws": laws, "importance": {"docs": 1.0, "math": 1.0}}
    values |= {"natural": natural, "limits": free(NAMES), "pull": 0.0}
    return Problem(**{**values, **changes})  # type: ignore[arg-type]


def true_gain(mix: Array, natural: Array) -> float:
    both = truth(np.stack([mix, natural]))
    return float(np.mean([1 - y[0] / y[1] for y in both.values()]))


def best_gain(given_problem: Problem) -> float:
    """Search a fine grid of feasible mixes."""
    grid = np.array([(a, b, c, 40 - a - b - c) for a in range(41) for b in range(41 - a) for c in range(41 - a - b)]) / 40
    inside = np.all((grid >= given_problem.limits.low - 1e-9) & (grid <= given_problem.limits.high + 1e-9), axis=1)
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
    loose, bound = solve(problem()), solve(problem(limits=limits_of(Constraints(max_repeats=4), TOKENS, 1_000_000)))
    assert loose.weights[1] > 0.08 + 0.01
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
    loose, kept = docs(solve(problem(importance=lopsided))), docs(solve(problem(importance=lopsided, protected=("docs",))))
    assert loose[0] > loose[1] + 0.01
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
        limits=limits_of(Constraints(sources={"math": SourceLimits(min=0.5)}), TOKENS, None),
    )
    assert any(warning.startswith("the laws extrapolate") for warning in solve(small).warnings)
    assert solve(near).weights.tobytes() == solve(near).weights.tobytes()
