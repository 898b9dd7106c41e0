"""Sequential runs: they go where the laws are unsure of the best mix, save runs, and stop by the rule that is stated."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from curate.mix.feasible import violation
from curate.mix.law import choose_law
from curate.mix.limits import free, limits_of, natural_weights
from curate.mix.objective import Problem
from curate.mix.sample import as_vector, sample_mixes
from curate.mix.sequential import LEAST, expected_gain, propose_runs, run_noise, should_stop
from curate.mix.solve import solve
from curate.specs.mix import Constraints, SourceLimits, Swarm

Array = NDArray[np.float64]
TOKENS = {f"s{i}": int(1e5 * 1.6**i) for i in range(6)}
NAMES = sorted(TOKENS)
NATURAL = as_vector(natural_weights(TOKENS), NAMES)
CONSTRAINTS = Constraints(sources={"s5": SourceLimits(min=0.1), "s0": SourceLimits(max=0.4)})


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.mix.solve.RESAMPLES", 10)


def truth(mixes: Array, seed: int) -> dict[str, Array]:
    """Sources help each other: nearly a power law, not quite."""
    random = np.random.default_rng(seed)
    found = {}
    for name in ("docs", "math"):
        worth = np.exp(random.normal(0, 1, 6))
        both = random.permutation(6)[:2]
        data = mixes @ worth + 0.5 * np.sqrt(mixes[:, both[0]] * mixes[:, both[1]]) + 0.03
        found[name] = 0.8 + 0.7 * data ** -random.uniform(0.25, 0.5)
    return found


def problem(mixes: Array, seed: int = 0, noise: float = 0.002, law: str = "power", **changes: Any) -> Problem:
    scores = {name: y + noise * np.random.default_rng([seed, 1]).normal(size=300)[: len(y)] for name, y in truth(mixes, seed).items()}
    laws = {name: choose_law(name, mixes, y, law, noise) for name, y in scores.items()}
    return Problem(NAMES, mixes, scores, laws, {"docs": 1.0, "math": 1.0}, NATURAL, changes.pop("limits", free(NAMES)), **changes)


def first(runs: int, seed: int = 0, design: str = Swarm().design) -> Array:
    return np.array([list(mix.values()) for mix in sample_mixes(Swarm(runs=runs, seed=seed, design=design), free(NAMES), TOKENS)])


def regret(given_problem: Problem, seed: int, best: float) -> float:
    mix = solve(given_problem).weights
    both = truth(np.stack([mix, NATURAL]), seed)
    return float(np.mean([y[0] / y[1] for y in both.values()])) - best


def best_of(seed: int, mixes: Array) -> float:
    """Return the lowest true relative bits: a random search that narrows."""
    base = {name: float(y[0]) for name, y in truth(NATURAL[None], seed).items()}

    def bits(at: Array) -> Array:
        return np.asarray(np.mean([y / base[name] for name, y in truth(at, seed).items()], axis=0))

    random = np.random.default_rng(0)
    tried = np.vstack([mixes, random.dirichlet(np.ones(6), 4000)])
    for strength in (30, 100, 300, 1000):
        around = tried[np.argsort(bits(tried))[:10]]
        tried = np.vstack([around, *(random.dirichlet(strength * np.maximum(mix, 1e-3), 300) for mix in around)])
    return float(bits(tried).min())


def test_proposed_runs_are_within_the_limits_diverse_and_repeatable() -> None:
    limits = limits_of(CONSTRAINTS, TOKENS, None)
    given_problem = problem(first(14), limits=limits)
    solution = solve(given_problem)
    runs = propose_runs(given_problem, 6, solution)
    assert len(runs) == 6
    assert max(violation(limits, mix) for mix in runs) < 1e-9
    assert len({mix.round(4).tobytes() for mix in runs}) >= 5
    assert [mix.tobytes() for mix in propose_runs(given_problem, 6)] == [mix.tobytes() for mix in runs]
    assert [mix.tobytes() for mix in propose_runs(given_problem, 3, solution)] == [mix.tobytes() for mix in runs[:3]]


@pytest.mark.parametrize(("design", "runs", "seeds"), [("dirichlet", 28, 3), ("space_filling", 20, 5)])
def test_a_swarm_that_asks_where_it_is_unsure_needs_no_more_runs_than_its_design_and_fewer_than_draws(design: str, runs: int, seeds: int) -> None:
    one_shot, sequential = [], []
    for seed in range(seeds):
        mixes = first(runs, seed, design)
        best = best_of(seed, mixes)
        one_shot.append(regret(problem(mixes, seed, noise=0.01), seed, best))
        mixes = first(12, seed, design)
        while len(mixes) < 20:
            mixes = np.vstack([mixes, *propose_runs(problem(mixes, seed, noise=0.01), 4)])
        sequential.append(regret(problem(mixes, seed, noise=0.01), seed, best))
    assert np.mean(sequential) < np.mean(one_shot)


def test_the_expected_gain_falls_with_runs_and_noise_and_stops_the_swarm() -> None:
    few, many = problem(first(14), noise=0.01), problem(first(60), noise=0.01)
    gains = [expected_gain(few), expected_gain(many)]
    assert gains[0] > 1.5 * gains[1] > 0
    assert expected_gain(problem(first(14), noise=0.03)) > gains[0]
    repeats = {name: np.array([1.5, 1.5 + 10 * LEAST, 1.5 - 10 * LEAST]) for name in ("docs", "math")}
    go, stop = should_stop(few, repeats), should_stop(many, {name: 10 * y for name, y in repeats.items()})
    assert not go.stop and "above the noise of one run" in go.why
    assert stop.stop and stop.expected_gain == gains[1] and f"another {100 * gains[1]:.2f} % of the bits, below the noise of one run" in stop.why
    quiet = should_stop(many, {name: np.full(3, 1.5) for name in repeats})
    assert quiet.noise == 0.0 and not quiet.stop and "that are worth a run" in quiet.why


def test_the_noise_of_the_objective_is_that_of_repeated_runs() -> None:
    given_problem = problem(first(20))
    together = np.array([0.0, 0.01, -0.01, 0.02])
    base = {name: float(given_problem.laws[name].full.predict(NATURAL[None])[0, 0]) for name in ("docs", "math")}
    joint = run_noise(given_problem, {name: base[name] * (1 + together) for name in base})
    assert joint == pytest.approx(together.std(ddof=1))
    opposed = run_noise(given_problem, {"docs": base["docs"] * (1 + together), "math": base["math"] * (1 - together)})
    assert opposed == pytest.approx(0.0, abs=1e-12)
    assumed = run_noise(given_problem)  # from each law's noise, with the suites' errors as alike as their residuals
    single = np.array([0.5 * 0.002 / base[name] for name in base])
    assert abs(single[0] - single[1]) - 1e-12 <= assumed <= single.sum() + 1e-12
    unknown = {name: msgspec.structs.replace(law, noise=None) for name, law in given_problem.laws.items()}
    assert run_noise(msgspec.structs.replace(given_problem, laws=unknown)) > 0
