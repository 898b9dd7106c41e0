"""Laws: each recovers its own truth, its gradient is right, a run left out is not there, and refits cost little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from curate.errors import InputError
from curate.mix import gp, pairs, trees
from curate.mix.law import PREFERENCE, Fit, choose_law, fit
from curate.mix.limits import free
from curate.mix.sample import sample_mixes
from curate.mix.slopes import weighted
from curate.specs.mix import Swarm

Array = NDArray[np.float64]
WORTH = np.array([0.05, 1.0, 3.0, 0.4])


def swarm(sources: int, runs: int, seed: int = 0) -> Array:
    tokens = {f"s{i:02d}": int(size) for i, size in enumerate(np.exp(np.random.default_rng(0).normal(14, 1, sources)))}
    return np.array([list(mix.values()) for mix in sample_mixes(Swarm(runs=runs, seed=seed), free(sorted(tokens)), tokens)])


def power_truth(mixes: Array) -> Array:
    return np.asarray(0.8 + (mixes @ WORTH) ** -0.3)


def exponential_truth(mixes: Array) -> Array:
    return np.asarray(0.9 + np.exp(mixes @ np.array([0.5, -0.7, -2.0, 0.1])))


def interacting_truth(mixes: Array) -> Array:
    return np.asarray(power_truth(mixes) - 0.5 * np.sqrt(mixes[:, 0] * mixes[:, 2]))


def stepped_truth(mixes: Array) -> Array:
    return np.asarray(1.5 - 0.3 * (mixes[:, 1] > 0.2) - 0.2 * (mixes[:, 2] > 0.1) - 0.2 * (mixes[:, 0] > 0.3) * (mixes[:, 3] > 0.1))


TRUTHS: dict[str, Callable[[Array], Array]] = {
    "power": power_truth,
    "log_linear": exponential_truth,
    "gp": interacting_truth,
    "power_gp": interacting_truth,
    "trees": stepped_truth,
}


@pytest.mark.parametrize("kind", sorted(TRUTHS))
def test_a_law_ranks_unseen_mixes_of_its_own_kind_of_truth(kind: str) -> None:
    mixes, unseen = swarm(4, 32), swarm(4, 80, seed=5)
    noise = np.random.default_rng(0).normal(0, 0.002, len(mixes))
    predicted = fit(kind, mixes, TRUTHS[kind](mixes) + noise).predict(unseen)[0]
    least = {"gp": 0.9, "power_gp": 0.95, "trees": 0.8}.get(kind, 0.99)
    assert spearmanr(predicted, TRUTHS[kind](unseen))[0] > least


@pytest.mark.parametrize("kind", PREFERENCE)
def test_gradients_are_those_of_the_predictions(kind: str) -> None:
    mixes = swarm(4, 20)
    law = fit(kind, mixes, interacting_truth(mixes), np.random.default_rng(0).dirichlet(np.ones(20), 3) * 20)
    at = np.array([0.3, 0.2, 0.4, 0.1])
    steps = np.eye(4) * 1e-6
    numeric = (law.predict(at + steps) - law.predict(at - steps)) / 2e-6
    value, slope = weighted([(1.0, law)])(at)
    assert np.allclose(value, law.predict(at)[:, 0], rtol=1e-9)
    assert np.allclose(slope, numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", PREFERENCE)
def test_a_run_of_weight_zero_is_a_run_that_is_not_there(kind: str) -> None:
    mixes = swarm(4, 18)
    scores = interacting_truth(mixes)
    full = fit(kind, mixes, scores)
    weights = np.ones(18)
    weights[7] = 0
    wild = scores.copy()
    wild[7] += 0.1
    at = swarm(4, 30, seed=3)
    assert np.allclose(fit(kind, mixes, scores, weights, full).predict(at), fit(kind, mixes, wild, weights, full).predict(at), atol=3e-3)


def test_the_gradient_of_the_marginal_likelihood_is_right() -> None:
    mixes = swarm(4, 16)
    scores = interacting_truth(mixes)
    y = (scores - scores.mean()) / scores.std()
    at = np.array([1.0, 0.3, 2.0, 0.7, 0.2, -0.1, -0.6, -2.5, -0.5, -4.0])
    for around in (np.zeros((16, 16)), np.ones((16, 16)), np.outer(mixes[:, 0], mixes[:, 0])):
        numeric = [(gp.objective(at + step, mixes, y, around)[0] - gp.objective(at - step, mixes, y, around)[0]) / 2e-5 for step in np.eye(10) * 1e-5]
        assert np.allclose(gp.objective(at, mixes, y, around)[1], numeric, rtol=1e-4, atol=1e-5)


def test_the_kernel_of_pairs_is_that_of_its_formula() -> None:
    mixes, unseen = swarm(4, 9), swarm(4, 12, seed=2)[3:]
    hyper = np.array([1.0, 0.3, 2.0, 0.7, -9.0, 0.4, -0.6, -2.5, -9.0, -4.0])  # next to nothing but the part of pairs
    one, other = (np.log(part + np.exp(-4.0)) / np.exp(hyper[:4] - 0.6) for part in (mixes, unseen))
    each = np.exp(-0.5 * (one[:, None] - other[None]) ** 2)
    expected = sum(each[:, :, i] * each[:, :, j] for i in range(4) for j in range(i)) / 6 * np.exp(0.8)
    assert np.allclose(gp.kernel(hyper, mixes, mixes, unseen), expected, atol=1e-6)
    assert np.allclose(gp.variance_at(hyper, mixes, mixes), np.diagonal(gp.kernel(hyper, mixes, mixes, mixes)))


@pytest.mark.parametrize("runs", [1, 2, 15, 16, 17, 50])
def test_pairs_among_the_same_runs_are_those_of_two_tables(runs: int) -> None:
    features = np.random.default_rng(runs).normal(size=(5, runs))
    (totals, found), (totals_among, found_among) = np.full((2, 2, runs, runs), np.nan)
    pairs.pairs(features, features, False, totals, found)
    pairs.pairs(features, features, True, totals_among, found_among)
    assert (totals_among == totals).all()
    assert (found_among == found).all()


def test_what_each_source_and_each_two_do_is_found_among_twelve() -> None:
    """Sixty runs say next to nothing about a function of twelve sources: with one squared exponential of all of them, .59."""
    found = []
    for seed in range(3):
        random = np.random.default_rng(seed)
        least, alone, together = random.uniform(0.02, 0.15, 12), random.normal(-0.7, 1, 12), random.normal(0, 1, 12)

        def truth(w: Array, least: Array = least, alone: Array = alone, together: Array = together) -> Array:
            enough = w > least
            return np.asarray(3 + 0.05 * (enough @ alone + (enough * np.roll(enough, 1, 1)) @ together))

        mixes, unseen = swarm(12, 60, seed), swarm(12, 214, seed + 20)[14:]
        guess = choose_law("docs", mixes, truth(mixes) + np.random.default_rng(0).normal(0, 0.01, 60), "gp").full.predict(unseen)[0]
        found.append(np.corrcoef(guess, truth(unseen))[0, 1])
    assert np.mean(found) > 0.64


@pytest.mark.parametrize("kind", PREFERENCE)
def test_a_run_counted_twice_is_a_run_that_is_there_twice(kind: str) -> None:
    """What `weights` mean, against a fit to the longer table; trees also look at how many runs there are."""
    mixes = swarm(4, 16)
    scores = interacting_truth(mixes) + np.random.default_rng(3).normal(0, 0.01, 16)
    full, twice = fit(kind, mixes, scores), np.where(np.arange(16) == 9, 2.0, 1.0)
    longer = np.append(np.arange(16), 9)
    start = full if kind not in ("gp", "power_gp") else Fit(kind, full.values, {**full.fixed, "mixes": mixes[longer]})
    at = swarm(4, 30, seed=3)
    one, other = fit(kind, mixes, scores, twice, full).predict(at), fit(kind, mixes[longer], scores[longer], np.ones(17), start).predict(at)
    assert np.abs(one - other).max() < (0.6 if kind == "trees" else 0.03) * scores.std()


def test_trees_are_what_scikit_learn_grew_when_their_splits_are_hard() -> None:
    from sklearn.ensemble import GradientBoostingRegressor

    mixes, at = swarm(4, 30), swarm(4, 50, seed=2)
    scores = stepped_truth(mixes)
    given = {"n_estimators": trees.TREES, "learning_rate": trees.RATE, "max_depth": 2, "subsample": trees.SUBSAMPLE, "random_state": 0}
    grown = GradientBoostingRegressor(**given).fit(np.log(mixes + trees.EPSILON), scores)
    values = fit("trees", mixes, scores).values
    hard = trees.predict({**values, "width": values["width"] * 1e-6}, at)[0]
    assert np.allclose(hard, grown.predict(np.log(at + trees.EPSILON)), atol=1e-9)


@pytest.mark.parametrize("kind", ["log_linear", "power_gp", "trees"])
def test_the_same_runs_give_the_same_law_to_the_last_bit(kind: str) -> None:
    mixes = swarm(4, 14)
    scores = interacting_truth(mixes)
    one, again = (np.stack(choose_law("docs", mixes, scores, kind).predict(mixes)) for _ in range(2))
    assert one.tobytes() == again.tobytes()


def test_a_law_that_cannot_express_the_truth_stays_within_bounds() -> None:
    """A power law with a free exponent predicts hundreds of bits in a corner that no run shows."""
    corners = np.eye(4) * 0.997 + 0.001
    for seed in range(6):
        mixes = swarm(4, 15, seed)
        scores = stepped_truth(mixes) + np.random.default_rng(seed).normal(0, 0.01, 15)
        for kind in ("power", "log_linear", "power_gp", "gp"):
            predicted = fit(kind, mixes, scores).predict(corners)[0]
            assert np.abs(predicted - scores.mean()).max() < 10 * np.ptp(scores)


def test_refits_without_a_run_are_those_of_a_fit_without_it() -> None:
    mixes = swarm(4, 14)
    scores = power_truth(mixes) + np.random.default_rng(2).normal(0, 0.01, 14)
    law = choose_law("docs", mixes, scores, "power")
    for i in (0, 5, 13):
        kept = np.arange(14) != i
        alone = fit("power", mixes[kept], scores[kept]).predict(mixes[i])[0, 0]
        assert abs(law.residuals[i] - (scores[i] - alone)) < 0.1 * scores.std()


def test_too_few_runs_and_scores_that_are_no_numbers_are_refused() -> None:
    mixes = swarm(4, 12)
    with pytest.raises(InputError, match="suite docs: 3 scores at 3 mixes are too few"):
        choose_law("docs", mixes[:3], np.ones(3))
    with pytest.raises(InputError, match="suite docs: a score is not a number"):
        choose_law("docs", mixes, np.full(12, np.nan))
    with pytest.raises(InputError, match="unknown law 'forest'"):
        fit("forest", mixes, np.ones(12))
    with pytest.raises(InputError, match="a blend cannot be fitted by itself"):
        fit("blend", mixes, np.ones(12))


def test_scores_that_are_all_the_same_are_no_error() -> None:
    law = choose_law("docs", swarm(4, 12), np.full(12, 1.25))
    assert law.full.kind == "constant"
    assert np.allclose(law.predict(swarm(4, 12)), 1.25)
