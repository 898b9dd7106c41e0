"""The solver: the best mix within the limits is found, and its uncertainty is not hidden."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from curate.mix.elsewhere import solve_fit
from curate.mix.feasible import violation
from curate.mix.fitted import FILES, fit_swarm, write_fit
from curate.mix.law import choose_law
from curate.mix.limits import Traits, free, limits_of, natural_weights
from curate.mix.objective import best_chance, bits_and_slope, divergence, fewest_bits, full_fits, law_error, relative_bits
from curate.mix.sample import as_vector, sample_mixes
from curate.mix.solve import Problem, Solution, gain_intervals, gain_of, resampled, settled, solve
from curate.mix.table import Swarm as Table
from curate.specs.mix import Constraints, GroupLimits, SourceLimits, Swarm

Array = NDArray[np.float64]
TOKENS = {"code": 500_000, "math": 20_000, "papers": 80_000, "web": 900_000}
NAMES = sorted(TOKENS)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.mix.solve.RESAMPLES", 24)


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
    inside = np.array([violation(given_problem.limits, mix) <= 1e-9 for mix in grid])
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
    for seed in range(10):
        given_problem = problem(runs=16, seed=seed, noise=0.02)
        solution = solve(given_problem)
        gain = true_gain(solution.weights, given_problem.natural)
        covered.append(solution.gain[1] <= gain <= solution.gain[2])
        excess.append((solution.gain_uncorrected - gain, solution.gain[0] - gain))
        assert solution.gain[0] <= solution.gain_uncorrected
    assert sum(covered) >= 8
    plain, corrected = np.mean(excess, axis=0)
    assert abs(corrected) < max(abs(plain), 0.01)


def test_what_limits_decide_alone_is_not_corrected_as_a_choice() -> None:
    """No winner's curse where nothing could win: laws of halves may all differ from that of the whole swarm, and do."""
    shares = {name: SourceLimits(fixed=share) for name, share in {"code": 0.2, "math": 0.2, "papers": 0.3, "web": 0.3}.items()}
    solution = solve(problem(runs=40, noise=0.05, limits=limits_of(Constraints(sources=shares), TOKENS, None)))
    assert solution.gain[0] == pytest.approx(solution.gain_uncorrected, abs=1e-12)
    assert solution.gain[1] < solution.gain[0] < solution.gain[2]


def test_what_is_predicted_of_a_mix_is_known_the_better_the_nearer_it_is_to_the_natural_one() -> None:
    given_problem = problem(noise=0.02)
    solution, natural = solve(given_problem), given_problem.natural
    mixes = natural + np.array([1.0, 0.1, 0.01, 0.0])[:, None] * (solution.weights - natural)
    intervals = gain_intervals(given_problem, solution.refits, mixes, natural, [0.0] * 4)
    widths = [high - low for _, low, high in intervals]
    assert widths[0] > widths[1] > 5 * widths[2] > widths[3] == 0
    assert all(low <= true_gain(mix, natural) <= high for mix, (_, low, high) in zip(mixes, intervals, strict=True))


def test_the_error_of_the_laws_falls_with_the_distance_and_counts_against_the_gain() -> None:
    """Without any spread between resamples, what is left of the interval is the laws' error: here that a mix may be much worse than predicted."""
    given_problem = problem(runs=40)
    fixed = {name: given_problem.laws[name].full for name in given_problem.laws}
    worse = {name: msgspec.structs.replace(law, residuals=np.where(np.arange(40) % 8 == 0, 0.05, 0.0)) for name, law in given_problem.laws.items()}
    skewed = msgspec.structs.replace(given_problem, laws=worse)
    way = np.array([0.2, 0.3, 0.3, 0.2]) - given_problem.natural
    assert 0.5 * np.abs(way).sum() * 0.2 < given_problem.usual_distance
    (mean, low, high), (_, lower, _) = gain_intervals(
        skewed, fixed, given_problem.natural + np.array([[0.1], [0.2]]) * way, given_problem.natural, [0, 0]
    )
    assert high == pytest.approx(mean) and low < mean - 1e-4
    gains = [gain_of(skewed, fixed, given_problem.natural + part * way) for part in (0.1, 0.2)]
    assert (gains[1] - lower) / (gains[0] - low) == pytest.approx(2, rel=0.1)


def test_what_choosing_adds_is_taken_off() -> None:
    """On noise alone whatever is recommended looks better than natural, and is not."""
    plain, corrected = [], []
    for seed in range(8):
        random = np.random.default_rng(seed)
        bare = problem(runs=40, seed=seed)
        flat = {name: 1.5 + random.normal(0, 0.02, 40) for name in ("docs", "math")}
        laws = {name: choose_law(name, bare.mixes, y, "power_gp") for name, y in flat.items()}
        solution = solve(msgspec.structs.replace(bare, scores=flat, laws=laws))
        plain.append(solution.gain_uncorrected)
        corrected.append(solution.gain[0])
    assert np.mean(plain) > 0.002
    assert abs(np.mean(corrected)) < 0.5 * np.mean(plain)


def test_repeats_of_a_mix_are_no_neighbors_of_it() -> None:
    given_problem = problem()
    twice = msgspec.structs.replace(given_problem, mixes=np.repeat(given_problem.mixes, 2, axis=0))
    nearly = msgspec.structs.replace(given_problem, mixes=np.vstack([given_problem.mixes, given_problem.mixes + 1e-5]))
    assert twice.usual_distance == pytest.approx(given_problem.usual_distance)
    assert nearly.usual_distance == pytest.approx(given_problem.usual_distance, abs=2e-3)
    assert given_problem.usual_distance > 0.05


def test_a_mix_gains_nothing_over_itself() -> None:
    natural = as_vector(natural_weights(TOKENS), NAMES)
    shares = {name: SourceLimits(fixed=float(share)) for name, share in zip(NAMES, natural, strict=True)}
    solution = solve(problem(limits=limits_of(Constraints(sources=shares), TOKENS, None)))
    assert np.allclose(solution.weights, natural)
    assert solution.gain == (0.0, 0.0, 0.0)
    assert solution.gain_over_uniform[1] < solution.gain_over_uniform[2]


def test_groups_and_buckets_are_solved_within_their_limits() -> None:
    traits = {"code": Traits(), "math": Traits("science"), "papers": Traits("science"), "web": Traits()}
    limits = limits_of(Constraints(groups={"science": GroupLimits(fixed=0.25)}, sources={"web": SourceLimits(max=0.5)}), TOKENS, None, traits)
    given_problem = problem(runs=40, limits=limits)
    solution = solve(given_problem)
    assert violation(limits, solution.weights) <= 1e-9
    assert all(violation(limits, mix) <= 1e-9 for mix in solution.optima)
    assert true_gain(solution.weights, given_problem.natural) > 0.9 * best_gain(given_problem)
    ordered = {name: Traits(source="all", rank=rank) for rank, name in enumerate(["math", "papers", "web", "code"])}
    limits = limits_of(Constraints(max_upsampling=1.5), TOKENS, 1_500_000, ordered)
    given_problem = problem(runs=40, limits=limits)
    mix = solve(given_problem).weights
    assert violation(limits, mix) <= 1e-9
    repeats = mix[[1, 2, 3, 0]] / np.array([20_000, 80_000, 900_000, 500_000])
    assert np.all(np.diff(repeats) >= -1e-9 / 20_000)
    assert true_gain(mix, given_problem.natural) > -0.001  # the order wanted here is the wrong one


def test_a_repetition_limit_binds() -> None:
    loose, bound = solve(problem()), solve(problem(limits=limits_of(Constraints(max_repeats=4), TOKENS, 1_000_000)))
    assert loose.weights[1] > 0.08 + 0.01
    assert abs(bound.weights[1] - 0.08) < 1e-5


def test_a_pull_towards_natural_pulls() -> None:
    given_problem = problem()
    apart = [0.5 * np.abs(solve(problem(pull=pull)).weights - given_problem.natural).sum() for pull in (0.0, 10.0)]
    assert apart[0] > 0.1
    assert apart[1] < 0.02


def test_a_pull_towards_another_mix_goes_there_and_gains_are_still_over_natural() -> None:
    uniform = np.full(len(NAMES), 1 / len(NAMES))
    free_problem = problem()
    pulled = solve(problem(pull=10.0, anchor=uniform))
    assert 0.5 * np.abs(pulled.weights - uniform).sum() < 0.02
    over_natural = gain_of(free_problem, full_fits(free_problem), pulled.weights)
    assert abs(over_natural) > 1e-3
    assert pulled.gain_uncorrected == pytest.approx(over_natural, rel=1e-9)


def test_the_means_of_disjoint_swarms_without_a_natural_mix_do_not_move_the_proposal(tmp_path: Path) -> None:
    def proposal(seed: int, count: int) -> Array:
        mixes = np.random.default_rng(seed).dirichlet(np.full(4, 0.5), count)  # their means differ in several percent
        scores = {name: 5 + 0.1 * y for name, y in truth(mixes).items()}  # little to gain, so that the pull is felt
        swarm = Table([f"r{i}" for i in range(count)], NAMES, mixes, scores)
        write_fit({name: tmp_path / name for name in FILES}, swarm, fit_swarm(swarm, "power"), "power")
        proposed, _ = solve_fit(tmp_path, None)
        assert any("no run is called natural" in warning for warning in proposed["warnings"])
        return np.array([proposed["weights"][name] for name in NAMES])

    assert 0.5 * np.abs(proposal(1, 48) - proposal(2, 48)).sum() < 0.01


def test_a_protected_suite_does_not_get_worse() -> None:
    def docs(solution: Solution) -> tuple[float, float]:
        return solution.predictions["docs"]["solved"], solution.predictions["docs"]["natural"]

    lopsided = {"docs": 0.02, "math": 1.0}
    loose, kept = docs(solve(problem(importance=lopsided))), docs(solve(problem(importance=lopsided, protected=("docs",))))
    assert loose[0] > loose[1] + 0.01
    assert kept[0] <= kept[1] + 1e-3


def test_a_source_that_no_run_varies_is_said_to_be_a_guess_and_so_is_a_natural_mix_full_of_it() -> None:
    given_problem = problem()
    mixes = given_problem.mixes.copy()
    mixes[:, 3] = 0.0  # web
    mixes /= mixes.sum(1, keepdims=True)
    scores = truth(mixes)
    laws = {name: choose_law(name, mixes, y, "power") for name, y in scores.items()}
    found = solve(msgspec.structs.replace(given_problem, mixes=mixes, scores=scores, laws=laws)).warnings
    assert "no two runs have different shares of web: what more or less of it would do is a guess" in found
    assert any(warning.startswith("the laws extrapolate: the natural mix differs from the nearest run in 60 % of its tokens") for warning in found)
    assert not any("natural mix differs" in warning or "no two runs" in warning for warning in solve(given_problem).warnings)


def test_nothing_to_gain_keeps_the_natural_mix() -> None:
    given_problem = problem(noise=0.0)
    flat = {name: np.full(len(given_problem.mixes), 1.5) + np.random.default_rng(4).normal(0, 0.02, 24) for name in ("docs", "math")}
    for law in ("power", "gp"):
        laws = {name: choose_law(name, given_problem.mixes, y, law) for name, y in flat.items()}
        solution = solve(problem(noise=0.0, scores=flat, laws=laws, pull=0.01))
        assert solution.keep_natural and solution.gain[1] <= 0
        assert any("interval of the predicted gain includes zero" in warning for warning in solution.warnings)
    assert not solve(problem()).keep_natural


def test_the_best_chance_is_at_least_that_of_the_fewest_bits() -> None:
    bits = problem(runs=16, noise=0.03, pull=0.0)
    chance = msgspec.structs.replace(bits, objective="chance")
    refits, error = resampled(bits), law_error(bits)
    assert error == pytest.approx(np.sqrt(np.mean(sum(scale * bits.laws[suite].residuals for suite, scale in bits.scales.items()) ** 2)))
    few, sure = solve(bits).weights, solve(chance).weights

    def probability(mix: Array) -> float:
        gains = -np.diff(relative_bits(bits, refits, np.stack([bits.natural, mix])))[:, 0]
        full = -np.diff(relative_bits(bits, full_fits(bits), np.stack([bits.natural, mix])))[0, 0]
        return float(norm.cdf(full / np.hypot(gains.std(), error)))

    assert probability(sure) >= probability(few)
    assert np.abs(sure - few).sum() > 1e-3
    random = np.random.default_rng(0)
    assert probability(sure) >= max(probability(mix) for mix in random.dirichlet(np.ones(4), 300)) - 1e-3


def test_the_chance_of_beating_the_natural_mix_is_that_of_the_interval_of_the_gain() -> None:
    given = problem(runs=16, noise=0.1, pull=0.0)
    assert solve(given).chance is None
    best, chances = solve(msgspec.structs.replace(given, objective="chance")).weights, []
    for part in (0.1, 0.3, 0.5):
        found = solve(msgspec.structs.replace(given, objective="chance", natural=(1 - part) * best + part / 4))
        spread = (found.gain[2] - found.gain[1]) / (2 * norm.ppf(0.95))
        assert found.chance == pytest.approx(norm.cdf(found.gain[0] / spread), abs=0.08)
        chances.append(found.chance)
    assert 0.3 < chances[0] < chances[1] < chances[2] <= 1
    alone = {name: SourceLimits(fixed=float(share)) for name, share in zip(NAMES, given.natural, strict=True)}
    assert solve(msgspec.structs.replace(given, objective="chance", limits=limits_of(Constraints(sources=alone), TOKENS, None))).chance == 0


def test_the_objectives_have_their_own_gradients() -> None:
    given_problem = problem(law="power", pull=0.02)
    mixed = {"docs": given_problem.laws["docs"], "math": choose_law("math", given_problem.mixes, given_problem.scores["math"], "gp")}
    for one in (given_problem, msgspec.structs.replace(given_problem, laws=mixed)):
        refits, fits = resampled(one), full_fits(one)
        at, step = np.array([0.3, 0.2, 0.4, 0.1]), 1e-5
        for evaluate in (fewest_bits(one, fits), best_chance(one, fits, refits, 0.01), lambda w, p=one: divergence(p, w)):
            _, slope = evaluate(at)
            numeric = [(evaluate(at + step * unit)[0] - evaluate(at - step * unit)[0]) / (2 * step) for unit in np.eye(4)]
            assert np.allclose(slope, numeric, rtol=1e-3, atol=1e-6)
        values, _ = bits_and_slope(one, refits)(at)
        assert np.allclose(values, relative_bits(one, refits, at[None])[:, 0], rtol=1e-12)


def test_mixes_from_disjoint_swarms_are_alike() -> None:
    apart = []
    for seed in range(3):
        a, b = (solve(problem(runs=64, seed=2 * seed + k, noise=0.006, pull=0.01)).weights for k in (0, 1))
        apart.append(0.5 * np.abs(a - b).sum())
    assert np.mean(apart) < 0.05


def test_the_proposal_is_the_mean_of_what_halves_of_the_swarm_recommend() -> None:
    given_problem = problem(runs=32)
    solution = solve(given_problem)
    assert np.allclose(solution.weights, solution.optima.mean(0), atol=1e-6)
    evaluate = fewest_bits(given_problem, full_fits(given_problem))
    assert evaluate(solution.optimum)[0] <= evaluate(solution.weights)[0] + 1e-9
    at, half = given_problem.mixes[16:17], given_problem.mixes[:1]
    refits = resampled(given_problem)["docs"].predict(np.vstack([at, half]))
    wild = {name: y + (np.arange(32) == 16) for name, y in given_problem.scores.items()}
    moved = np.abs(resampled(msgspec.structs.replace(given_problem, scores=wild))["docs"].predict(np.vstack([at, half])) - refits).max(1)
    assert np.array_equal(moved[0::2] > 0.01, moved[1::2] <= 0.01)  # a run is in one half and not in the other


def test_a_small_swarm_is_not_halved() -> None:
    """Half of 12 runs cannot tell four sources apart: every resample has all runs, with other weights."""
    small = problem(runs=12)
    wild = {name: y + (np.arange(12) == 8) for name, y in small.scores.items()}
    before, after = (resampled(one)["docs"].predict(small.mixes) for one in (small, msgspec.structs.replace(small, scores=wild)))
    assert np.mean(np.abs(before - after).max(1) > 1e-4) > 0.9


def test_a_mean_that_hurts_a_protected_suite_is_taken_back() -> None:
    given_problem = problem(importance={"docs": 0.02, "math": 1.0}, protected=("docs",))
    optimum = solve(given_problem).optimum
    mean = settled(given_problem, optimum, np.repeat([[0.0, 0.9, 0.05, 0.05]], 4, 0))
    docs = given_problem.laws["docs"].full.predict(np.stack([given_problem.natural, mean]))[0]
    assert docs[1] <= docs[0] * (1 + 1e-4)


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


@pytest.mark.parametrize(("runs", "halved"), [(14, False), (15, True)])
def test_a_default_swarm_is_halved_and_a_smaller_one_is_weighted(runs: int, halved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights leave a Gaussian process nearly as it is, so that intervals of odd swarms were a fifth of what they should be."""
    seen: list[Array] = []
    given = problem(runs=runs)
    monkeypatch.setattr("curate.mix.law.fit", lambda kind, mixes, scores, draws, full: seen.append(draws) or full)
    resampled(given)
    assert all(bool(np.isin(draws, (0, 1)).all()) == halved for draws in seen)
    if halved:
        assert {int(row.sum()) for row in seen[0]} == {7, 8}
        assert np.array_equal(seen[0][0] + seen[0][1], np.ones(15))
