"""Intervals and tests: against SciPy, by hand, and by simulation of what they promise."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flaxlab.claims import Statement
from flaxlab.compare.statistics import (
    holm,
    mean_interval,
    paired_difference,
    prediction_interval,
    smallest_detectable,
    t_test,
)
from flaxlab.compare.verdicts import CONTRADICTED, SUPPORTED, decide, judge

SIMULATIONS = 2000
accuracies = st.integers(0, 10_000).map(lambda correct: correct / 10_000)
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=8)


def close_to_share(hits: int, share: float) -> bool:
    """Within four standard deviations of what a true share gives: 1 in 16,000 by chance."""
    return abs(hits / SIMULATIONS - share) < 4 * np.sqrt(share * (1 - share) / SIMULATIONS)


@given(st.lists(accuracies, min_size=2, max_size=10), st.sampled_from([0.5, 0.95, 0.99]))
def test_the_interval_of_the_mean_is_scipys(values, confidence):
    got = mean_interval(values, confidence)
    assert got.count == len(values)
    assert got.mean == pytest.approx(np.mean(values))
    if np.ptp(values) > 0:
        low, high = stats.t.interval(
            confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
        assert (got.low, got.high) == pytest.approx((low, high), abs=1e-12)
    else:
        assert (got.low, got.high) == (None, None)


def test_one_value_has_no_interval():
    for interval in (mean_interval, prediction_interval):
        got = interval([0.9])
        assert (got.mean, got.low, got.high, got.count) == (0.9, None, None, 1)
        assert got.contains(0.9) is None
        assert got.no_interval == "one seed: no interval"


@given(accuracies, accuracies, st.integers(2, 8))
def test_equal_values_have_no_interval(value, other, count):
    """Equal but for rounding: differences of accuracies are not exactly so."""
    for got in (
        mean_interval([value] * count),
        prediction_interval([value] * count),
        paired_difference([value, value + 0.1] * count, [other, other + 0.1] * count).estimate,
    ):
        assert (got.low, got.high, got.contains(got.mean)) == (None, None, None)
        assert got.no_interval == "all seeds equal: no interval"


def test_the_prediction_interval_by_hand():
    # n = 3, mean 2, s = 1, t(0.975, 2) = 4.3027: 2 +- 4.3027 * sqrt(4/3)
    got = prediction_interval([1.0, 2.0, 3.0])
    assert (got.low, got.high) == pytest.approx((2 - 4.9683, 2 + 4.9683), abs=1e-4)
    assert got.contains(6.9)
    assert not got.contains(7.0)


@given(pairs)
def test_the_paired_t_test_is_scipys(values):
    arm, baseline = zip(*values, strict=True)
    got = paired_difference(arm, baseline)
    differences = np.subtract(arm, baseline)
    if np.ptp(differences) < 1e-9:
        # Not defined there: as the sign-flip test.
        assert got.t_p == pytest.approx(got.sign_flip_p)
        assert got.detectable is None
        return
    theirs = stats.ttest_rel(arm, baseline)
    assert got.t_p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    low, high = theirs.confidence_interval(0.95)
    assert (got.estimate.low, got.estimate.high) == pytest.approx((low, high), abs=1e-12)


@given(pairs)
def test_the_sign_flip_test_tries_all_signs(values):
    arm, baseline = np.array(values).T
    # Whole numbers, so that the reference has no rounding.
    differences = np.rint((arm - baseline) * 10_000).astype(int)
    signs = itertools.product((-1, 1), repeat=len(differences))
    extreme = [abs(np.dot(sign, differences)) >= abs(differences.sum()) for sign in signs]
    assert paired_difference(arm, baseline).sign_flip_p == pytest.approx(np.mean(extreme))


def test_paired_by_hand():
    # Differences 2, 4, 6 points: mean 4, s = 2, t = 4 / (2 / sqrt 3) = 3.4641, p = 0.0742; of the
    # eight signs two are as extreme.
    got = paired_difference([0.92, 0.84, 0.96], [0.90, 0.80, 0.90])
    assert got.estimate.mean == pytest.approx(0.04)
    assert got.t_p == pytest.approx(0.0742, abs=1e-4)
    assert got.sign_flip_p == pytest.approx(0.25)


def test_one_pair_is_not_tested():
    got = paired_difference([0.9], [0.8])
    assert got.estimate.mean == pytest.approx(0.1)
    assert (got.t_p, got.sign_flip_p, got.detectable) == (None, None, None)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; never falling.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, None, 0.6]) == [1.0, None, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferronis(p_values):
    adjusted = holm(p_values)
    for p, got in zip(p_values, adjusted, strict=True):
        assert p <= got <= min(1.0, len(p_values) * p) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


@pytest.mark.parametrize("seeds", [2, 5])
def test_95_of_100_intervals_hold_the_truth(seeds):
    rng = np.random.default_rng(seeds)
    held = predicted = 0
    for _ in range(SIMULATIONS):
        *values, another = rng.normal(0.85, 0.01, seeds + 1)
        held += mean_interval(values).contains(0.85)
        predicted += prediction_interval(values).contains(another)
    assert close_to_share(held, 0.95)
    assert close_to_share(predicted, 0.95)


def family_wise_errors(draw, seeds, corrected):
    """Counts families of five arms, no better than the baseline they share, with a discovery."""
    errors = 0
    for _ in range(SIMULATIONS):
        baseline = draw(seeds)
        p_values = [t_test((draw(seeds) - baseline).tolist()) for _ in range(5)]
        errors += min(holm(p_values) if corrected else p_values) < 0.05
    return errors


@pytest.mark.parametrize(("seeds", "test_images"), [(4, None), (2, 300), (3, 300), (2, 2000)])
def test_one_family_in_twenty_has_a_false_discovery_at_most(seeds, test_images):
    rng = np.random.default_rng(0)

    def draw(count):
        shares = rng.normal(0.85, 0.01, count)
        if test_images is None:
            return shares
        return rng.binomial(test_images, shares) / test_images  # equal differences do occur

    limit = 0.05 + 4 * np.sqrt(0.05 * 0.95 / SIMULATIONS)
    assert family_wise_errors(draw, seeds, corrected=True) / SIMULATIONS < limit
    if test_images is None:  # without the correction the promise does not hold
        assert family_wise_errors(draw, seeds, corrected=False) / SIMULATIONS > 0.1


def test_claims_are_falsely_decided_no_more_often_than_promised():
    """On whole numbers of epochs, whose differences are often the same in every seed."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(SIMULATIONS):
        values = {
            name: {seed: {"epochs_to_95": rng.integers(2, 4)} for seed in range(2)} for name in "ab"
        }
        (verdict,) = decide([[judge(Statement("epochs_to_95", "a", "b"), values)]])
        wrong += verdict.word in (SUPPORTED, CONTRADICTED)
    assert wrong / SIMULATIONS < 0.05


@pytest.mark.parametrize(("seeds", "level"), [(3, 0.05), (5, 0.01), (10, 0.05)])
def test_four_of_five_detectable_differences_are_detected(seeds, level):
    rng = np.random.default_rng(seeds)
    effect = smallest_detectable(0.02, seeds, level)
    values = rng.normal(effect, 0.02, (SIMULATIONS, seeds))
    p_values = stats.ttest_1samp(values, 0.0, axis=1).pvalue
    found = np.sum((p_values < level) & (values.mean(axis=1) > 0))
    assert close_to_share(int(found), 0.8)
