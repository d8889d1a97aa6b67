"""Scores of probabilities, by hand and by simulation."""

import numpy as np
import pytest

from flaxlab.scores import brier_score, calibration_error, from_logits, probabilities, reliability


def test_the_brier_score_by_hand():
    # (0.3, 0.7) for class 1: 0.09 + 0.09. (0.5, 0.5) for class 0: 0.25 + 0.25.
    shares, labels = np.array([[0.3, 0.7], [0.5, 0.5]]), np.array([1, 0])
    assert brier_score(shares, labels) == pytest.approx((0.18 + 0.5) / 2)
    assert brier_score(np.eye(2), np.array([0, 1])) == 0
    assert brier_score(np.eye(2), np.array([1, 0])) == 2


def test_the_calibration_error_by_hand():
    # Two bins of ten: 0.95 and 0.95, both right; 0.65 and 0.69, one right.
    shares = np.array([[0.95, 0.05], [0.05, 0.95], [0.65, 0.35], [0.31, 0.69]])
    labels = np.array([0, 1, 0, 0])
    expected = 0.5 * (1 - 0.95) + 0.5 * (0.67 - 0.5)
    assert calibration_error(shares, labels, bins=10) == pytest.approx(expected)
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0


def test_a_reliability_diagram_by_hand():
    """As above, and one prediction with 1.0, which is no bin of its own."""
    shares = np.array([[0.95, 0.05], [0.05, 0.95], [0.65, 0.35], [0.31, 0.69], [1.0, 0.0]])
    found = reliability(shares, np.array([0, 1, 0, 0, 1]), bins=10)
    assert found.examples.tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 0, 3]
    assert found.confidence[[6, 9]] == pytest.approx([0.67, 2.9 / 3])
    assert found.accuracy[[6, 9]] == pytest.approx([1 / 2, 2 / 3])
    assert np.isnan(found.accuracy[:6]).all()
    assert np.isnan(found.confidence[:6]).all()
    assert len(reliability(shares, np.array([0, 1, 0, 0, 1])).examples) == 15


def test_labels_drawn_by_their_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1, 1, 1], 40_000)
    labels = (rng.random(40_000)[:, None] > shares.cumsum(axis=1)).sum(axis=1)
    assert calibration_error(shares, labels) < 0.01
    overconfident = shares**3 / (shares**3).sum(axis=1, keepdims=True)
    assert calibration_error(overconfident, labels) > 0.1


def test_the_probabilities_of_predictions_are_the_softmax():
    logits = np.random.default_rng(1).normal(0, 5, (20, 4)).astype(np.float32)
    found = from_logits(logits, np.arange(20) % 4)
    assert found.probabilities == pytest.approx(probabilities(logits))
    assert found.losses == pytest.approx(-np.log(found.probabilities[range(20), np.arange(20) % 4]))
