"""Calibration and evaluation, against scikit-learn and against definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.classify.calibrate import calibrate
from curate.classify.evaluate import at_threshold, auc, average_precision, calibration_table, evaluate

examples = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5, 0.9, 1.0]) | st.floats(0, 1), st.booleans()), min_size=2, max_size=60)


def arrays(rows: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([x for x, _ in rows]), np.array([y for _, y in rows], np.bool_)


@given(examples)
def test_ranking_measures_match_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, labels = arrays(rows)
    if labels.all() or not labels.any():
        assert auc(scores, labels) == 0.5
        return
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores))


@given(examples, st.floats(0, 1))
def test_the_confusion_adds_up(rows: list[tuple[float, bool]], threshold: float) -> None:
    scores, labels = arrays(rows)
    row = at_threshold(scores, labels, threshold)
    assert row["kept_positive"] + row["dropped_positive"] == labels.sum()
    assert row["kept_negative"] + row["dropped_negative"] == (~labels).sum()
    assert row["share_kept"] == pytest.approx((scores >= threshold).mean(), abs=1e-6)
    assert sum(bin["num_texts"] for bin in calibration_table(scores, labels)) == len(rows)


def test_evaluation_of_known_scores() -> None:
    scores, labels = np.array([0.9, 0.8, 0.4, 0.3, 0.2]), np.array([True, True, True, False, False])
    found = evaluate(scores, labels, 0.5)
    assert (found["num_texts"], found["num_positive"], found["auc"], found["average_precision"]) == (5, 3, 1.0, 1.0)
    assert found["at_threshold"]["precision"] == 1.0
    assert found["at_threshold"]["recall"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["brier"] == pytest.approx(np.mean([0.01, 0.04, 0.36, 0.09, 0.04]))
    assert at_threshold(scores, labels, 0.95)["precision"] is None  # nothing kept: no share of it
    low, high = evaluate(np.linspace(0, 1, 40), np.arange(40) % 3 == 0, 0.5)["auc_interval"]
    assert 0 <= low < high <= 1


def noisy(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident scores: their log-odds are three times what they should be."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, num)
    return 1 / (1 + np.exp(-3 * z)), rng.random(num) < 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_repairs_overconfidence(kind: str) -> None:
    curve = calibrate(kind, *noisy(3000, 0))  # type: ignore[arg-type]
    raw, labels = noisy(3000, 1)
    before, after = evaluate(raw, labels, 0.5), evaluate(curve(raw), labels, 0.5)
    assert after["brier"] < before["brier"] - 0.01
    assert after["calibration_error"] < 0.05 < before["calibration_error"]
    assert after["auc"] == pytest.approx(before["auc"], abs=0.005)
    if kind == "platt":
        assert curve.slope == pytest.approx(1 / 3, abs=0.05)


def test_no_calibration_changes_nothing() -> None:
    raw, labels = noisy(10, 0)
    np.testing.assert_array_equal(calibrate("none", raw, labels)(raw), raw)


@given(examples)
def test_calibration_is_monotone_and_bounded(rows: list[tuple[float, bool]]) -> None:
    raw, labels = arrays(rows)
    points = np.linspace(0, 1, 101)
    for kind in ("platt", "isotonic"):
        values = calibrate(kind, raw, labels)(points)  # type: ignore[arg-type]
        assert np.isfinite(values).all()
        assert (np.diff(values) >= -1e-12).all()
        assert values.min() >= 0
        assert values.max() <= 1


@given(examples)
def test_isotonic_matches_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    from sklearn.isotonic import IsotonicRegression

    raw, labels = arrays([(round(x, 6), y) for x, y in rows])  # scikit-learn pools scores that differ by less than it can resolve
    theirs = IsotonicRegression(out_of_bounds="clip").fit(raw, labels).predict(raw)
    np.testing.assert_allclose(calibrate("isotonic", raw, labels)(raw), theirs, atol=1e-9)


def test_scores_that_rank_the_wrong_way_become_constant() -> None:
    raw, labels = noisy(500, 0)
    curve = calibrate("platt", raw, ~labels)
    assert curve.slope == 0
    assert float(curve(np.array([0.1]))[0]) == pytest.approx(float((~labels).mean()), abs=0.01)
