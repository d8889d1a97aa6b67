"""The three tests of a difference: against SciPy, by integration, and by what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from flaxlab.compare import anytime
from flaxlab.compare.procedures import (
    ANYTIME,
    PAIRED,
    TESTS,
    WELCH,
    critical_value,
    difference_interval,
    difference_p,
    power_of,
    seeds_needed,
    share_limits,
    share_p,
    smallest_detectable,
)
from tests.helpers.samples import SIMULATIONS, close_to_share, samples


def by_seed(values):
    return dict(enumerate(map(float, values)))


def within_chance(hits, share):
    """Within four standard deviations of a share, or below: 1 in 30,000 by chance."""
    return hits / SIMULATIONS < share + 4 * np.sqrt(share * (1 - share) / SIMULATIONS)


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, of values that hardly vary
@given(samples, samples)
def test_welchs_test_is_scipys(arm, baseline):
    if np.ptp(arm) == np.ptp(baseline) == 0:
        return
    theirs = stats.ttest_ind(arm, baseline, equal_var=False)
    sides = by_seed(arm), by_seed(baseline)
    assert difference_p(WELCH, *sides) == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    low, high = theirs.confidence_interval(0.99)
    got = difference_interval(WELCH, *sides, 0.01)
    assert (got.low, got.high) == pytest.approx((low, high), abs=1e-9)
    assert got.count == min(len(arm), len(baseline))


def test_pairs_have_the_same_seed():
    arm, baseline = {0: 0.5, 1: 0.7, 2: 0.6, 9: 0.1}, {2: 0.5, 0: 0.45, 1: 0.63, 8: 0.9}
    differences = [0.05, 0.07, 0.1]
    for test in (PAIRED, ANYTIME):
        got = difference_interval(test, arm, baseline, 0.05)
        assert (got.mean, got.count) == (pytest.approx(np.mean(differences)), 3)
    p = stats.ttest_1samp(differences, 0).pvalue
    assert difference_p(PAIRED, arm, baseline) == pytest.approx(p)


@pytest.mark.parametrize("test", TESTS)
def test_one_seed_has_no_interval_and_no_test(test):
    one = {0: 0.5}, {0: 0.4}
    assert difference_p(test, *one) is None
    got = difference_interval(test, *one, 0.05)
    assert (got.low, got.high, got.count) == (None, None, 1)


@pytest.mark.parametrize("test", [WELCH, ANYTIME])
def test_equal_values_have_no_interval_but_that_of_rounding(test):
    sides = dict.fromkeys(range(4), 0.75), dict.fromkeys(range(4), 0.25)
    assert difference_p(test, *sides) == 1
    assert difference_interval(test, *sides, 0.05).low is None
    rounded = difference_interval(test, *sides, 0.05, step=0.001)
    half = critical_value(test, 4, 0.05) * 0.001 / np.sqrt(6) / 2
    assert (rounded.low, rounded.high) == pytest.approx((0.5 - half, 0.5 + half))


@pytest.mark.parametrize(("t", "count"), [(0.0, 2), (3.0, 3), (-9.0, 5), (2.5, 20)])
def test_an_e_value_of_a_mean_is_a_bet_on_effects(t, count):
    """The density of t for effects from a normal distribution, over that for none."""

    def density(effect):
        weight = stats.norm.pdf(effect, scale=anytime.TYPICAL_EFFECT)
        return weight * stats.nct.pdf(abs(t), count - 1, effect * np.sqrt(count))

    mixture, _ = integrate.quad(density, -40, 40, points=[-1, 0, 1, 5], limit=400)
    expected = mixture / stats.t.pdf(t, count - 1)
    assert anytime.mean_e_value(t, count) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("count", "level"), [(3, 0.05), (5, 0.01), (20, 0.001)])
def test_the_critical_t_is_where_the_e_value_is_one_over_the_level(count, level):
    critical = anytime.critical_t(count, level)
    assert anytime.mean_e_value(critical, count) == pytest.approx(1 / level)
    assert anytime.mean_e_value(critical * 1.01, count) > 1 / level


def test_too_few_seeds_show_nothing_however_large():
    assert anytime.critical_t(3, 0.01) == np.inf
    assert anytime.mean_e_value(1e9, 3) < 100
    sides = {0: 0.50001, 1: 0.5, 2: 0.49999}, dict.fromkeys(range(3), 0.1)
    got = difference_interval(ANYTIME, *sides, 0.01)
    assert (got.low, got.high, got.no_interval) == (None, None, "too few seeds: no interval")
    assert power_of(100.0, 1.0, 3, 0.01, ANYTIME) == 0
    assert smallest_detectable(1.0, 3, 0.01, test=ANYTIME) is None


def test_looking_after_every_seed_finds_nothing_false_more_often_than_promised():
    """The t test, looked at as often, does."""
    rng = np.random.default_rng(0)
    nothing = dict.fromkeys(range(20), 0.0)
    wrong = dict.fromkeys((ANYTIME, PAIRED), 0)
    for values in rng.normal(0, 0.01, (SIMULATIONS // 10, 20)):
        for test in wrong:
            p_values = [
                difference_p(test, by_seed(values[:count]), nothing) for count in range(2, 21)
            ]
            wrong[test] += min(p_values) < 0.05
    assert wrong[ANYTIME] / (SIMULATIONS // 10) < 0.05 + 4 * np.sqrt(0.05 * 0.95 * 10 / SIMULATIONS)
    assert wrong[PAIRED] / (SIMULATIONS // 10) > 0.15


@given(st.integers(1, 20).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_e_value_of_a_share_is_a_bet_on_larger_ones(seen):
    hits, count = seen
    for share in (0.1, 0.5):
        mixture, _ = integrate.quad(lambda q: stats.binom.pmf(hits, count, q), share, 1)
        expected = mixture / (1 - share) / stats.binom.pmf(hits, count, share)
        assert anytime.share_e_value(hits, count, share) == pytest.approx(expected, rel=1e-6)


def test_looking_at_a_share_after_every_run_is_wrong_no_more_often_than_promised():
    rng = np.random.default_rng(1)
    hits = np.cumsum(rng.random((SIMULATIONS, 20)) < 0.5, axis=1)
    seen = {
        (n, k): share_p(ANYTIME, k, n, 0.5)[0] < 0.05 for n in range(1, 21) for k in range(n + 1)
    }
    wrong = sum(any(seen[n, int(k)] for n, k in enumerate(row, 1)) for row in hits)
    assert within_chance(wrong, 0.05)
    assert wrong > 0


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(("hits", "count"), [(5, 5), (0, 4), (3, 7)])
def test_the_limits_of_a_share_are_where_its_test_turns(test, hits, count):
    low, high = share_limits(test, hits, count, 0.05)
    if hits:
        assert share_p(test, hits, count, low)[0] == pytest.approx(0.05)
    if hits < count:
        assert share_p(test, hits, count, high)[1] == pytest.approx(0.05)
    assert (low == 0) == (hits == 0)
    assert (high == 1) == (hits == count)


@pytest.mark.parametrize(("seeds", "level"), [(3, 0.05), (5, 0.01), (10, 0.05)])
@pytest.mark.parametrize("test", [PAIRED, ANYTIME])
def test_four_of_five_detectable_differences_are_detected(seeds, level, test):
    rng = np.random.default_rng(seeds)
    effect = smallest_detectable(0.02, seeds, level, test=test)
    values = rng.normal(effect, 0.02, (SIMULATIONS, seeds))
    t = values.mean(axis=1) / values.std(axis=1, ddof=1) * np.sqrt(seeds)
    assert close_to_share(np.sum(t > critical_value(test, seeds, level)), 0.8)


@pytest.mark.parametrize("test", [PAIRED, ANYTIME])
@given(effect=st.floats(0.05, 5.0))
def test_the_seeds_needed_are_the_fewest_that_reach_the_power(effect, test):
    count = seeds_needed(effect, 1.0, test=test)
    if count is None:
        assert power_of(effect, 1.0, 1000, test=test) < 0.8
        return
    assert power_of(effect, 1.0, count, test=test) >= 0.8
    assert count == 2 or power_of(effect, 1.0, count - 1, test=test) < 0.8


def test_plans_by_table():
    # Of the paired t test, two-sided, level 0.05, power 0.8: 34 pairs for half a standard
    # deviation (Cohen, 1988), and no number for none.
    assert seeds_needed(0.5, 1.0) == 34
    assert seeds_needed(-0.5, 1.0) == 34
    assert seeds_needed(0.0, 1.0) is None
