"""Intervals and tests: against SciPy, by hand, and by simulation of what they promise."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flaxlab.compare.statistics import (
    bonferroni,
    cautious_spread,
    hochberg,
    mean_interval,
    prediction_interval,
    seeds_for_sign_flips,
    share_bounds,
    share_interval,
    share_test,
    sign_flip_test,
    spread_of,
    t_test,
)
from tests.helpers.samples import SIMULATIONS, accuracies, close_to_share, samples


@given(samples, st.sampled_from([0.5, 0.95, 0.99]))
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


def test_one_value_has_no_interval_and_no_test():
    for interval in (mean_interval, prediction_interval):
        got = interval([0.9])
        assert (got.mean, got.low, got.high, got.count) == (0.9, None, None, 1)
        assert got.contains(0.9) is None
        assert got.no_interval == "one seed: no interval"
    assert t_test([0.1]) is None
    assert spread_of([0.1]) is None
    assert cautious_spread([[0.1], [0.2]]) is None
    assert bonferroni(None, 5) is None


@given(accuracies, st.integers(2, 8))
def test_equal_values_have_no_interval(value, count):
    """Equal but for rounding: differences of accuracies are not exactly so."""
    equal = [value + 0.1 - 0.1] + [value] * (count - 1)
    for got in (mean_interval(equal), prediction_interval(equal)):
        assert (got.low, got.high, got.contains(got.mean)) == (None, None, None)
        assert got.no_interval == "all seeds equal: no interval"


def test_the_prediction_interval_by_hand():
    # n = 3, mean 2, s = 1, t(0.975, 2) = 4.3027: 2 +- 4.3027 * sqrt(4/3)
    got = prediction_interval([1.0, 2.0, 3.0])
    assert (got.low, got.high) == pytest.approx((2 - 4.9683, 2 + 4.9683), abs=1e-4)
    assert got.contains(6.9)
    assert not got.contains(7.0)


@given(samples)
def test_the_t_test_is_scipys(values):
    differences = np.subtract(values, 0.5)
    if np.ptp(differences) < 1e-9:
        return
    theirs = stats.ttest_1samp(differences, 0.0).pvalue
    assert t_test(differences) == pytest.approx(theirs, rel=1e-6, abs=1e-12)


def test_no_spread_is_smaller_than_that_of_rounding():
    """More agreement must not make a difference less certain."""
    assert spread_of([1, 1, 1], step=1) == pytest.approx(1 / np.sqrt(6))
    assert spread_of([1, 1, 4], step=1) == pytest.approx(np.sqrt(3))
    # One epoch later in all of five seeds: t = sqrt(30), p = 0.0054, where the sign-flip test of
    # equal values gave 2 / 2**5 = 0.0625; with one of them two epochs later, p = 0.0039.
    agreed, less = t_test([1, 1, 1, 1, 1], step=1), t_test([1, 1, 1, 1, 2], step=1)
    assert agreed == pytest.approx(2 * stats.t.sf(np.sqrt(30), 4))
    assert less == pytest.approx(0.0039, abs=1e-4)
    assert t_test([1, 1, 1, 1, 2], step=1) < t_test([1, 1, 1, 1, 3], step=1)
    assert t_test([0, 0, 0], step=1) == 1


@given(st.lists(st.lists(accuracies, min_size=2, max_size=6), min_size=1, max_size=5))
def test_the_cautious_spread_is_a_limit_of_that_within_groups(groups):
    within = sum(np.sum((np.array(group) - np.mean(group)) ** 2) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    limit = np.sqrt(within / stats.chi2.ppf(0.2, freedom))
    assert cautious_spread([*groups, [0.5]]) == pytest.approx(limit, abs=1e-12)


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=8))
def test_the_sign_flip_test_tries_all_signs(images):
    signs = itertools.product((-1, 1), repeat=len(images))
    extreme = [abs(np.dot(sign, images)) >= abs(sum(images)) for sign in signs]
    assert sign_flip_test(images) == pytest.approx(np.mean(extreme))


def test_sign_flips_are_not_fooled_by_floats():
    # As floats, 0.0093 - 0.0093 + 0.0032 and 0.0032 differ, and p was 0.75.
    assert sign_flip_test([93, -93, 32]) == 1.0


@pytest.mark.parametrize(("comparisons", "needed"), [(1, 6), (2, 7), (5, 8)])
def test_how_many_seeds_the_sign_flip_test_needs(comparisons, needed):
    assert seeds_for_sign_flips(comparisons) == needed
    assert comparisons * 2 / 2**needed < 0.05 <= comparisons * 2 / 2 ** (needed - 1)


def test_hochberg_by_hand():
    # From the largest: 0.04 * 1, 0.03 * 2, 0.02 * 3, 0.01 * 4; never rising.
    assert hochberg([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.04, 0.04, 0.04, 0.04])
    assert hochberg([0.5, 0.01]) == pytest.approx([0.5, 0.02])
    assert hochberg([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_hochberg_is_statsmodels_definition(p_values):
    """p(i) becomes the smallest of (m - j + 1) p(j) over the ranks j >= i."""
    ordered = np.sort(p_values)
    m = len(ordered)
    reference = {
        p: min([1.0, *((m - j) * ordered[j] for j in range(m) if ordered[j] >= p)])
        for p in p_values
    }
    assert hochberg(p_values) == pytest.approx([reference[p] for p in p_values])


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


@pytest.mark.parametrize(("seeds", "images"), [(4, None), (2, 300), (3, 300), (2, 2000)])
def test_one_family_in_twenty_has_a_false_discovery_at_most(seeds, images):
    """Five arms no better than the baseline that they share."""
    rng = np.random.default_rng(0)

    def draw():
        shares = rng.normal(0.85, 0.01, seeds)
        # Of few images, equal differences do occur.
        return shares if images is None else rng.binomial(images, shares) / images

    plain = corrected = 0
    for _ in range(SIMULATIONS):
        baseline = draw()
        p_values = [t_test(draw() - baseline, 1 / images if images else 0.0) for _ in range(5)]
        plain += min(p_values) < 0.05
        corrected += min(bonferroni(p, 5) for p in p_values) < 0.05
    assert corrected / SIMULATIONS < 0.05 + 4 * np.sqrt(0.05 * 0.95 / SIMULATIONS)
    if images is None:  # without the correction the promise does not hold
        assert plain / SIMULATIONS > 0.1


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_plans_keep_their_promise_in_four_of_five_studies(seeds):
    """By the measured spread itself, a power of .80 was one of .62 to .74."""
    rng = np.random.default_rng(seeds)
    kept = 0
    for _ in range(SIMULATIONS):
        kept += cautious_spread([rng.normal(0, 0.01, seeds)]) >= 0.01
    assert close_to_share(kept, 0.8)


@pytest.mark.parametrize("seeds", [3, 5])
def test_pooled_plans_keep_it_for_arms_that_share_a_baseline(seeds):
    """As if the arms' differences were independent, it was kept in 70% of studies."""
    rng = np.random.default_rng(seeds)
    kept = 0
    for _ in range(SIMULATIONS):
        baseline, *arms = rng.normal(0, 0.01, (6, seeds))
        differences = [arm - baseline for arm in arms]
        kept += cautious_spread(differences, correlation=0.5) >= 0.01 * np.sqrt(2)
    assert 0.76 < kept / SIMULATIONS < 0.88


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # 5 of 5: 0.025 ** (1/5). 2 of 5: the tables of Clopper and Pearson.
    [(5, 5, 0.4782, 1.0), (0, 5, 0.0, 0.5218), (2, 5, 0.0527, 0.8534), (3, 3, 0.2924, 1.0)],
)
def test_the_exact_interval_of_a_share(hits, count, low, high):
    assert share_interval(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_the_bounds_of_a_share_are_where_its_test_turns():
    low, high = share_bounds(5, 5, 0.05)
    assert (low, high) == pytest.approx((0.05 ** (1 / 5), 1.0))
    for hits in range(1, 6):
        low, _ = share_bounds(hits, 5, 0.05)
        assert share_test(hits, 5, low)[0] == pytest.approx(0.05)
    for hits in range(5):
        _, high = share_bounds(hits, 5, 0.025)
        assert share_test(hits, 5, high)[1] == pytest.approx(0.025)


@given(st.integers(1, 20).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_test_of_a_share_is_scipys(seen):
    hits, count = seen
    at_most, at_least = share_test(hits, count, 0.5)
    greater = stats.binomtest(hits, count, 0.5, alternative="greater").pvalue
    less = stats.binomtest(hits, count, 0.5, alternative="less").pvalue
    assert (at_most, at_least) == pytest.approx((greater, less))
