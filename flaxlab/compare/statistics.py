"""Intervals, spreads and tests for a few values, one a seed.

SciPy computes the distributions and tests. This module says what is done where they are not
defined; docs/statistics.md explains it and shows what it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
_SURE = 0.8

# Up to n = 16 the sign-flip test is exact, by all 2**n signs; beyond, it draws them.
_MOST_SIGN_FLIPS = 2**16

# Below this, a spread is the rounding of a subtraction.
NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: mean of the values.
        low: lower bound; None without an interval: with one value, or where all values are equal
            and nothing says how finely they were measured.
        high: upper bound; None as above.
        count: number of values.
        too_few: whether there is no interval because the test needs more values.
    """

    mean: float
    low: float | None
    high: float | None
    count: int
    too_few: bool = False

    def contains(self, value: float) -> bool | None:
        """Returns whether `value` lies in the interval; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low <= value <= self.high

    def clipped(self, lowest: float = 0.0, highest: float = 1.0) -> Estimate:
        """Cuts the interval to what is possible; the normal distribution knows no bounds."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, lowest), high=min(self.high, highest))

    @property
    def no_interval(self) -> str:
        """Why there is no interval; "" if there is one."""
        if self.low is not None:
            return ""
        if self.count == 1:
            return "one seed: no interval"
        return f"{'too few seeds' if self.too_few else 'all seeds equal'}: no interval"


def mean_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, step: float = 0.0
) -> Estimate:
    """Returns the mean with Student's t interval for it.

    Args:
        values: one a seed, at least one.
        confidence: how often such an interval holds the true mean of normal values.
        step: how finely the values were measured, see `spread_of`.
    """
    return _interval(values, confidence, step, lambda count: 1 / count)


def prediction_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Returns the mean with the interval in which one further run would lie.

    For one new draw from a normal distribution of unknown mean and variance: mean +- t s sqrt(1 +
    1/n).
    """
    return _interval(values, confidence, 0.0, lambda count: 1 + 1 / count)


def _interval(
    values: Sequence[float],
    confidence: float,
    step: float,
    variance_factor: Callable[[int], float],
) -> Estimate:
    count, mean = len(values), float(np.mean(values))
    spread = spread_of(values, step)
    if spread is None or spread <= NO_SPREAD:
        return Estimate(mean, None, None, count)
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * spread
    half *= math.sqrt(variance_factor(count))
    return Estimate(mean, mean - half, mean + half, count)


def spread_of(values: Sequence[float], step: float = 0.0) -> float | None:
    """Returns the standard deviation of values, at least that of their rounding; None for one.

    Epochs come in whole numbers, accuracies in whole images: a few values may be equal although
    what they round is not. A difference of two numbers rounded to a multiple of `step` has a
    rounding error with the standard deviation step / sqrt(6), and no spread is taken for smaller.
    """
    if len(values) < 2:
        return None
    return max(float(np.std(values, ddof=1)), step / math.sqrt(6))


def cautious_spread(
    groups: Sequence[Sequence[float]], step: float = 0.0, correlation: float = 0.0
) -> float | None:
    """Returns a spread that the true one exceeds in a fifth of samples only.

    A plan by the spread of the same few runs promises too much in half of all cases, since that
    spread is as often too small as too large. This is its upper 80% confidence limit, by the
    chi-squared distribution of the variance of normal values.

    Args:
        groups: values that spread alike, each group around a mean of its own. Their variances are
            averaged, weighted by degrees of freedom.
        step: how finely they were measured, see `spread_of`.
        correlation: correlation between values of different groups, which then say less
            together: 1/2 for differences to the same arm, if all arms spread alike.

    Returns:
        The spread; None without a group of two values.
    """
    known = [group for group in groups if len(group) > 1]
    if not known:
        return None
    squares = sum((len(group) - 1) * (spread_of(group, step) or 0.0) ** 2 for group in known)
    freedom = sum(len(group) - 1 for group in known)
    # Variances of normal values correlate by the square of what the values correlate by.
    alone = freedom / (1 + (len(known) - 1) * correlation**2)
    mean = squares / freedom
    return math.sqrt(mean * alone / float(stats.chi2.ppf(1 - _SURE, alone)))


def t_test(values: Sequence[float], step: float = 0.0) -> float | None:
    """Returns the two-sided p value of the t test that the mean is 0; None for one value.

    Args:
        values: differences, one a seed.
        step: how finely they were measured, see `spread_of`. Without it, equal values have p = 1
            where they are 0, and else that of the sign-flip test, 2 / 2**n.
    """
    count, mean, spread = len(values), float(np.mean(values)), spread_of(values, step)
    if spread is None:
        return None
    if spread <= NO_SPREAD:
        return 1.0 if abs(mean) <= NO_SPREAD else 2 / 2**count
    return float(2 * stats.t.sf(abs(mean) * math.sqrt(count) / spread, count - 1))


def sign_flip_test(values: Sequence[float]) -> float:
    """Returns the two-sided p value of the test that flips the signs of differences.

    It assumes that a difference is as probable as its opposite, and nothing else. Its smallest p
    value is 2 / 2**n.

    Args:
        values: differences of shares. They are taken in whole billionths, since sums of floats that
            are equal may differ.
    """
    found = stats.permutation_test(
        (np.rint(np.multiply(values, 1e9)).astype(np.int64),),
        np.sum,
        permutation_type="samples",
        n_resamples=_MOST_SIGN_FLIPS,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def seeds_for_sign_flips(comparisons: int, level: float = LEVEL) -> int:
    """Returns how many seeds the sign-flip test needs before it can be significant at all."""
    return math.ceil(1 + math.log2(comparisons / level))


def bonferroni(p: float | None, comparisons: int) -> float | None:
    """Returns a p value multiplied by the number of comparisons, at most 1; None stays None."""
    return None if p is None else min(1.0, comparisons * p)


def hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusts p values for their number, by the step-up method of Hochberg (1988).

    All are below alpha if the largest is: that is a claim of which every part must hold. Valid
    where the tests are positively dependent, as differences to a common arm are.
    """
    order = sorted(range(len(p_values)), key=lambda index: -p_values[index])
    adjusted, smallest = [1.0] * len(p_values), 1.0
    for rank, index in enumerate(order, start=1):
        smallest = min(smallest, rank * p_values[index])
        adjusted[index] = smallest
    return adjusted


def share_interval(hits: int, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns the exact interval of a share of which `hits` of `count` draws were seen.

    Of Clopper and Pearson (1934).
    """
    alpha = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(stats.beta.ppf(alpha, hits, count - hits + 1))
    high = 1.0 if hits == count else float(stats.beta.ppf(1 - alpha, hits + 1, count - hits))
    return low, high


def share_bounds(hits: int, count: int, level: float) -> tuple[float, float]:
    """Returns what the true share is at least, and what it is at most, each at one-sided `level`.

    The shares at which `share_test` turns: 5 of 5 are significantly more than 0.54, at 0.05, and
    not more than 0.56.
    """
    return share_interval(hits, count, 1 - 2 * level)


def share_test(hits: int, count: int, share: float) -> tuple[float, float]:
    """Returns the p values that the true share is at most `share`, and that it is at least `share`.

    By the exact binomial test. Each has one side: only one of the two hypotheses can be true, so
    that a verdict either way is wrong with the probability of one of them.
    """
    at_most = float(stats.binom.sf(hits - 1, count, share))
    at_least = float(stats.binom.cdf(hits, count, share))
    return at_most, at_least
