"""Sensitivity: prices are what solving again gives, flat ranges are flat, each suite's best is a best."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from curate.mix import sensitivity
from curate.mix.feasible import project, violation
from curate.mix.law import choose_law
from curate.mix.limits import Limit, Traits, assemble, free, limits_of, natural_weights
from curate.mix.objective import Problem, fewest_bits, full_fits
from curate.mix.sample import as_vector, sample_mixes
from curate.mix.solve import Solution, solve
from curate.specs.mix import Constraints, GroupLimits, SourceLimits, Swarm

Array = NDArray[np.float64]
TOKENS = {"code": 500_000, "math": 20_000, "papers": 80_000, "web": 900_000}
NAMES = sorted(TOKENS)
TRAITS = {"code": Traits(), "math": Traits("science"), "papers": Traits("science"), "web": Traits(synthetic=True)}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.mix.solve.RESAMPLES", 8)


def problem(constraints: Constraints, target: int | None = 1_000_000, tokens: dict[str, int] = TOKENS, **changes: Any) -> Problem:
    mixes = np.array([list(mix.values()) for mix in sample_mixes(Swarm(runs=30), free(NAMES), TOKENS)])
    worths = {"docs": np.array([0.3, 0.05, 1.5, 1.0]), "math": np.array([0.1, 4.0, 0.4, 0.05])}
    scores = {name: 0.7 + (mixes @ worth + 0.02) ** -0.35 for name, worth in worths.items()}
    laws = {name: choose_law(name, mixes, y, "power") for name, y in scores.items()}
    limits = limits_of(constraints, tokens, target, TRAITS)
    natural = as_vector(natural_weights(TOKENS), NAMES)
    values = {"importance": {"docs": 1.0, "math": 2.0}, "pull": 0.002, **changes}
    return Problem(names=NAMES, mixes=mixes, scores=scores, laws=laws, natural=natural, limits=limits, **values)


def best_value(given_problem: Problem) -> float:
    """Minimize by another algorithm, without gradients from the code under test."""
    evaluate = fewest_bits(given_problem, full_fits(given_problem))
    limits = given_problem.limits
    found = minimize(
        lambda w: evaluate(w)[0],
        project(given_problem.natural, limits),
        method="SLSQP",
        bounds=list(zip(limits.low, limits.high, strict=True)),
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1}, {"type": "ineq", "fun": lambda w: limits.tops - limits.rows @ w}],
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return float(found.fun)


def prices(given_problem: Problem) -> tuple[Solution, dict[tuple[str, str], dict[str, Any]]]:
    solution = solve(given_problem)
    return solution, {(row["kind"], row["subject"]): row for row in sensitivity.shadow_prices(given_problem, solution)}


def test_ten_percent_more_of_a_scarce_source_is_worth_what_solving_with_it_gains() -> None:
    constraints = Constraints(max_repeats=4)
    given_problem = problem(constraints)
    solution, found = prices(given_problem)
    row = found["tokens", "math"]
    more = problem(constraints, tokens={**TOKENS, "math": 22_000})
    assert row["relative"] == pytest.approx(best_value(given_problem) - best_value(more), rel=0.02)
    assert row["relative"] > 1e-4
    weighted = sensitivity.mean_bits(given_problem, np.stack([solution.weights, solve(more).weights]))
    assert row["bits"] == pytest.approx(weighted[0] - weighted[1], rel=0.02)
    assert row["sentence"] == f"10 % more math tokens would be worth {row['bits']:.4f} bits per byte"
    assert ("tokens", "web") not in found  # there is more of it than is wanted


def test_every_limit_that_binds_has_its_price_and_no_other_has() -> None:
    given = Constraints(
        sources={"code": SourceLimits(min=0.3), "math": SourceLimits(max=0.9, max_repeats=100)},
        groups={"science": GroupLimits(max=0.3)},
        max_synthetic=0.9,
    )
    given_problem = problem(given)
    _, found = prices(given_problem)
    assert set(found) == {("limit", "code"), ("limit", "science")}
    looser = problem(Constraints(sources={"code": SourceLimits(min=0.29), "math": SourceLimits(max_repeats=100)}, groups=given.groups))
    assert found["limit", "code"]["relative"] == pytest.approx(best_value(given_problem) - best_value(looser), rel=0.02)
    assert 'one percentage point more room at the limit "code at least 0.3" would be worth' in found["limit", "code"]["sentence"]
    looser = problem(Constraints(sources=given.sources, groups={"science": GroupLimits(max=0.31)}))
    assert found["limit", "science"]["relative"] == pytest.approx(best_value(given_problem) - best_value(looser), rel=0.02)
    fixed = problem(Constraints(groups={"science": GroupLimits(fixed=0.2)}), target=None)
    _, found = prices(fixed)
    looser = problem(Constraints(groups={"science": GroupLimits(max=0.21)}), target=None)
    assert found["limit", "science"]["relative"] == pytest.approx(best_value(fixed) - best_value(looser), rel=0.02)


def test_a_protected_suite_has_its_price() -> None:
    given_problem = problem(Constraints(), target=None, importance={"docs": 0.05, "math": 1.0}, protected=("docs",))
    _, found = prices(given_problem)
    assert found["protect", "docs"]["relative"] > 0.001
    assert found["protect", "docs"]["sentence"].startswith("letting docs get 1 % worse than under the natural mix would be worth 0.0")
    assert not prices(problem(Constraints(), target=None, importance={"docs": 1.0, "math": 0.0}, protected=("docs",)))[1]


def test_at_its_limit_is_said_where_more_would_help_and_nowhere_else() -> None:
    scarce = problem(Constraints(max_repeats=4))
    found = sensitivity.analyze(scarce, solve(scarce))["limited"]
    assert found == [f"{name} is at its limit of {share} %: more of it is predicted to help" for name, share in (("math", "8.0"), ("papers", "32.0"))]
    for limits in (SourceLimits(fixed=0.8), SourceLimits(min=0.8, max=0.8)):  # too much of it already
        pinned = problem(Constraints(sources={"code": limits}), target=None)
        assert sensitivity.analyze(pinned, solve(pinned))["limited"] == []
    none = problem(Constraints(sources={"code": SourceLimits(max=0)}), target=None)  # nobody wants more of it
    assert not any(line.startswith("code") for line in sensitivity.analyze(none, solve(none))["limited"])


def test_limits_that_bind_together_are_priced_together() -> None:
    """With reused ratios several sources are one share: more of one of them alone, where both are used up, would be worth nothing."""
    given_problem, math = problem(Constraints(), target=None), np.eye(4)[1]
    parts = [Limit(math, 0.08, f"{name} at most 0.08", "repeats", name, growth=0.08) for name in ("old", "older")]
    both = msgspec.structs.replace(given_problem, limits=assemble(NAMES, parts))
    found = sensitivity.analyze(both, solve(both))
    (row,) = found["prices"]
    assert (row["subject"], row["what"]) == ("old and older", "10 % more old and older tokens")
    alone = msgspec.structs.replace(given_problem, limits=assemble(NAMES, parts[:1]))
    assert row["bits"] == pytest.approx(prices(alone)[1]["tokens", "old"]["bits"], rel=1e-3) and row["bits"] > 1e-3
    assert found["limited"] == ["math is at its limit of 8.0 %: more of it is predicted to help"]
    group = problem(Constraints(groups={"science": GroupLimits(max=0.05)}), target=None)
    lone = msgspec.structs.replace(group, limits=assemble(NAMES, [Limit(math, 0.05, "group science at most 0.05", "group_max", "science")]))
    assert sensitivity.analyze(lone, solve(lone))["limited"] == ["math is at its limit of 5.0 %: more of it is predicted to help"]


@pytest.mark.parametrize(("share", "way"), [(0.8, "less"), (0.001, "more")])
def test_what_a_fixed_share_costs_says_in_which_direction(share: float, way: str) -> None:
    _, found = prices(problem(Constraints(sources={"papers": SourceLimits(fixed=share)}), target=None))
    what = f'one percentage point more room at the limit "papers fixed at {share:g}", for {way} of it, would be worth 0.'
    assert found["limit", "papers"]["sentence"].startswith(what)


def test_flat_ranges_cost_less_than_they_say_and_reach_as_far_as_they_can() -> None:
    given_problem = problem(Constraints(max_repeats=4, groups={"science": GroupLimits(min=0.1)}))
    solution = solve(given_problem)
    found = sensitivity.flat_ranges(given_problem, solution)
    evaluate, limits = fewest_bits(given_problem, full_fits(given_problem)), given_problem.limits
    most = evaluate(solution.weights)[0] * (1 + sensitivity.LOSS)
    near = solution.weights + np.random.default_rng(0).normal(0, 0.008, (20_000, 4))
    near += (1 - near.sum(1, keepdims=True)) / 4
    inside = (near >= limits.low).all(1) & (near <= limits.high).all(1) & (near @ limits.rows.T <= limits.tops).all(1)
    flat = np.array([mix for mix in near[inside] if evaluate(mix)[0] <= most])
    assert len(flat) > 50
    for i, name in enumerate(NAMES):
        low, high = found["ranges"][name]
        assert low <= solution.weights[i] <= high
        assert low <= flat[:, i].min() + 1e-4 and high >= flat[:, i].max() - 1e-4  # nothing flat is missed
        for end in (low, high):  # and an end is the share of a mix that costs no more
            at = np.arange(4) == i
            pinned = msgspec.structs.replace(limits, low=np.where(at, end, limits.low), high=np.where(at, end, limits.high))
            assert best_value(msgspec.structs.replace(given_problem, limits=pinned)) <= most + 1e-6


def test_weights_may_move_only_as_far_as_protected_suites_allow() -> None:
    given_problem = problem(Constraints(), target=None, importance={"docs": 0.01, "math": 1.0}, protected=("docs",), pull=0.0)
    solution = solve(given_problem)
    docs = given_problem.laws["docs"].full
    most = float(docs.predict(given_problem.natural[None])[0, 0]) * (1 + 1e-4)
    found = sensitivity.flat_ranges(given_problem, solution)
    free_of_it = sensitivity.flat_ranges(msgspec.structs.replace(given_problem, protected=()), solution)
    assert free_of_it["ranges"]["math"][1] > found["ranges"]["math"][1] + 0.01  # without protection, math would go on at the cost of docs
    for row in found["trades"]:
        mix = solution.weights.copy()
        mix[NAMES.index(row["from"])] -= row["share"]
        mix[NAMES.index(row["to"])] += row["share"]
        assert docs.predict(mix[None])[0, 0] <= most + 1e-9
    for i, name in enumerate(NAMES):
        for end in found["ranges"][name]:  # an end is the share of some mix that protects docs and costs no more
            assert kept_at(given_problem, solution, i, end, most)


def kept_at(given_problem: Problem, solution: Solution, i: int, share: float, most: float) -> bool:
    """Say whether a mix with this share of source `i` costs little more than the solution and keeps docs, by another search."""
    evaluate = fewest_bits(given_problem, full_fits(given_problem))
    docs = given_problem.laws["docs"].full
    found = minimize(
        lambda w: evaluate(w)[0],
        np.where(np.arange(4) == i, share, solution.weights),
        method="SLSQP",
        bounds=[(share, share) if j == i else (0, 1) for j in range(4)],
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 1},
            {"type": "ineq", "fun": lambda w: most - docs.predict(w[None])[0, 0]},
        ],
        options={"ftol": 1e-12, "maxiter": 500},
    )
    ceiling = evaluate(solution.weights)[0] * (1 + sensitivity.LOSS)
    return bool(found.fun <= ceiling + 1e-5 and docs.predict(found.x[None])[0, 0] <= most + 1e-5)


def test_trades_cost_less_than_they_say() -> None:
    given_problem = problem(Constraints(max_repeats=4))
    solution = solve(given_problem)
    evaluate = fewest_bits(given_problem, full_fits(given_problem))
    trades = sensitivity.flat_ranges(given_problem, solution)["trades"]
    assert trades
    for row in trades:
        mix = solution.weights.copy()
        mix[NAMES.index(row["from"])] -= row["share"]
        mix[NAMES.index(row["to"])] += row["share"]
        assert violation(given_problem.limits, mix) < 1e-9
        assert evaluate(mix)[0] <= evaluate(solution.weights)[0] * (1 + sensitivity.LOSS) + 1e-9
        assert row["sentence"].startswith(f"{100 * row['share']:.1f} points of {row['from']} may be traded for {row['to']}")


def test_each_suite_has_its_best_and_the_curve_goes_from_free_to_natural() -> None:
    given_problem = problem(Constraints(max_repeats=4))
    solution = solve(given_problem)
    found = sensitivity.analyze(given_problem, solution)
    assert json.loads(json.dumps(found)) == found
    for suite, row in found["suites"].items():
        alone = problem(Constraints(max_repeats=4), importance={name: float(name == suite) for name in ("docs", "math")}, pull=0.0)
        assert row["best"] == pytest.approx(best_value(alone) * row["natural"], rel=1e-5)
        assert row["best"] <= row["solved"] + 1e-9
    curve = found["curve"]
    distances, gains = [point["distance"] for point in curve], [point["gain"][0] for point in curve]
    assert curve[0]["pull"] == 0 and given_problem.pull in [point["pull"] for point in curve]
    assert np.all(np.diff(distances) <= 1e-4) and np.all(np.diff(gains) <= 1e-5)
    assert distances[-1] < 0.1 < distances[0]
    at = next(point for point in curve if point["pull"] == given_problem.pull)
    assert at["gain"] == pytest.approx(list(solution.gain)) and list(at["weights"].values()) == solution.weights.tolist()
    assert sensitivity.analyze(given_problem, solve(given_problem)) == found
