"""Laws: each recovers its own truth, intervals cover, and the choice is by error and not by fashion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from curate.errors import InputError
from curate.mix import gp
from curate.mix.law import PREFERENCE, choose_law, fit
from curate.mix.sample import sample_mixes
from curate.specs.mix import Constraints, Swarm

Array = NDArray[np.float64]
WORTH = np.array([0.05, 1.0, 3.0, 0.4])


def swarm(sources: int, runs: int, seed: int = 0) -> Array:
    tokens = {f"s{i:02d}": int(size) for i, size in enumerate(np.exp(np.random.default_rng(0).normal(14, 1, sources)))}
    return np.array([list(mix.values()) for mix in sample_mixes(Swarm(runs=runs, seed=seed), Constraints(), tokens)])


def power_truth(mixes: Array) -> Array:
    return np.asarray(0.8 + (mixes @ WORTH) ** -0.3)


def exponential_truth(mixes: Array) -> Array:
    return np.asarray(0.9 + np.exp(mixes @ np.array([0.5, -0.7, -2.0, 0.1])))


def interacting_truth(mixes: Array) -> Array:
    return np.asarray(power_truth(mixes) - 0.5 * np.sqrt(mixes[:, 0] * mixes[:, 2]))


TRUTHS: dict[str, Callable[[Array], Array]] = {"power": power_truth, "log_linear": exponential_truth, "gp": interacting_truth}


@pytest.mark.parametrize("kind", ["power", "log_linear", "gp"])
def test_a_law_ranks_unseen_mixes_of_its_own_kind_of_truth(kind: str) -> None:
    mixes, unseen = swarm(4, 32), swarm(4, 80, seed=5)
    noise = np.random.default_rng(0).normal(0, 0.002, len(mixes))
    predicted = fit(kind, mixes, TRUTHS[kind](mixes) + noise).predict(unseen)[0]
    assert spearmanr(predicted, TRUTHS[kind](unseen))[0] > (0.9 if kind == "gp" else 0.99)


@pytest.mark.parametrize("kind", PREFERENCE)
def test_gradients_are_those_of_the_predictions(kind: str) -> None:
    mixes = swarm(4, 20)
    law = fit(kind, mixes, interacting_truth(mixes), np.random.default_rng(0).dirichlet(np.ones(20), 3) * 20)
    at = np.array([0.3, 0.2, 0.4, 0.1])
    steps = np.eye(4) * 1e-6
    numeric = (law.predict(at + steps) - law.predict(at - steps)) / 2e-6
    assert np.allclose(law.gradient(at), numeric, rtol=1e-3, atol=1e-5)


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
    x = gp.features(mixes)
    squares = (x[:, None] - x[None]) ** 2
    scores = interacting_truth(mixes)
    y = (scores - scores.mean()) / scores.std()
    at = np.array([1.0, 0.3, 2.0, 0.7, 0.2, -2.5])
    for around_zero in (False, True):
        numeric = [
            (gp._objective(at + step, squares, y, around_zero)[0] - gp._objective(at - step, squares, y, around_zero)[0]) / 2e-5
            for step in np.eye(6) * 1e-5
        ]
        assert np.allclose(gp._objective(at, squares, y, around_zero)[1], numeric, rtol=1e-4, atol=1e-5)


def test_intervals_cover_new_measurements() -> None:
    covered = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        mixes, unseen = swarm(4, 20, seed), swarm(4, 60, seed + 50)[6:]
        truth = power_truth if seed % 2 else exponential_truth
        law = choose_law("docs", mixes, truth(mixes) + random.normal(0, 0.01, 20), "power")
        measured = truth(unseen) + random.normal(0, 0.01, len(unseen))
        _, low, high = law.predict(unseen)
        covered.append(np.mean((low <= measured) & (measured <= high)))
    assert 0.85 <= float(np.mean(covered)) <= 0.99


def test_the_choice_is_by_leave_one_out_error_and_says_why() -> None:
    mixes = swarm(4, 32)
    law = choose_law("docs", mixes, interacting_truth(mixes))
    assert law.errors[law.full.kind] <= min(law.errors.values()) * 1.02
    assert law.full.kind in ("gp", "power_gp")
    assert f"{law.errors[law.full.kind]:.4f}" in law.why
    steady = choose_law("docs", mixes, power_truth(mixes) + np.random.default_rng(1).normal(0, 0.001, 32))
    assert steady.full.kind in ("power", "power_gp")
    named = choose_law("docs", mixes, interacting_truth(mixes), "ridge")
    assert (named.full.kind, named.why, list(named.errors)) == ("ridge", "named in the spec", ["ridge"])


def test_leave_one_out_errors_are_those_of_refits_without_the_run() -> None:
    mixes = swarm(4, 14)
    scores = power_truth(mixes) + np.random.default_rng(2).normal(0, 0.01, 14)
    law = choose_law("docs", mixes, scores, "power")
    for i in (0, 5, 13):
        kept = np.arange(14) != i
        alone = fit("power", mixes[kept], scores[kept]).predict(mixes[i])[0, 0]
        assert abs(law.residuals[i] - (scores[i] - alone)) < 0.02 * scores.std()


def test_an_interval_is_never_narrower_than_the_noise_of_replicates() -> None:
    mixes = swarm(4, 14)
    law = choose_law("docs", mixes, power_truth(mixes), "power", noise=0.05)
    mean, low, high = law.predict(mixes)
    assert np.all(high - mean >= 1.64 * 0.05)
    assert np.all(mean - low >= 1.64 * 0.05)


def test_too_few_runs_and_scores_that_are_no_numbers_are_refused() -> None:
    mixes = swarm(4, 12)
    with pytest.raises(InputError, match="suite docs: 3 scores at 3 mixes are too few"):
        choose_law("docs", mixes[:3], np.ones(3))
    with pytest.raises(InputError, match="suite docs: a score is not a number"):
        choose_law("docs", mixes, np.full(12, np.nan))
    with pytest.raises(InputError, match="unknown law 'trees'"):
        fit("trees", mixes, np.ones(12))
