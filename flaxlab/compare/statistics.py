"""Intervals and tests for a few seeds: small samples, paired, several arms at once.

SciPy computes the distributions and tests; what stands here is what a comparison of arms does with
them, and how the cases are settled in which they are not defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.8

# All 2**n signs are tried up to n = 16, random ones for more.
_MOST_SIGN_FLIPS = 2**16

# Differences of accuracies that are equal but for the rounding of their subtraction.
_NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: mean of the values.
        low: lower bound; None where there is no interval: with fewer than two values, and where
            all are equal, for a spread of 0 in a few values says nothing of the true one.
        high: upper bound; None as above.
        count: number of values.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    def contains(self, value: float) -> bool | None:
        """Whether `value` lies in the interval; None where there is none."""
        if self.low is None or self.high is None:
            return None
        return self.low <= value <= self.high

    def clipped(self) -> Estimate:
        """Cuts the interval to [0, 1]: that a share lies there, the normal distribution ignores."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, 0.0), high=min(self.high, 1.0))

    @property
    def no_interval(self) -> str:
        """Why there is no interval; "" where there is one."""
        if self.low is not None:
            return ""
        return f"{'one seed' if self.count == 1 else 'all seeds equal'}: no interval"


@dataclass(frozen=True)
class Difference:
    """What paired seeds say about the difference of two arms.

    Attributes:
        estimate: mean difference with its t interval.
        t_p: two-sided p value of the paired t test; None with fewer than two pairs.
        sign_flip_p: two-sided p value of the sign-flip permutation test, exact up to 16 pairs;
            None with fewer than two pairs. It cannot be below 2 / 2**pairs.
        detectable: the smallest true difference that the t test would have found with a power of
            80%, at the level that it was given and with the spread that was measured; None with
            fewer than two pairs, and where all differences are the same.
    """

    estimate: Estimate
    t_p: float | None
    sign_flip_p: float | None
    detectable: float | None


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Returns the mean with Student's t interval for it.

    Args:
        values: one a seed, at least one.
        confidence: share of such intervals that hold the true mean, for normal values.
    """
    return _interval(values, confidence, lambda count: 1 / count)


def prediction_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Returns the mean with the interval in which the value of one further run would lie.

    The interval for one new observation of a normal distribution of unknown mean and variance:
    mean +- t * s * sqrt(1 + 1/n).
    """
    return _interval(values, confidence, lambda count: 1 + 1 / count)


def _interval(
    values: Sequence[float], confidence: float, variance_factor: Callable[[int], float]
) -> Estimate:
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Estimate(mean, None, None, count)
    spread = float(np.std(values, ddof=1))
    if spread <= _NO_SPREAD:
        return Estimate(mean, None, None, count)
    spread *= math.sqrt(variance_factor(count))
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * spread
    return Estimate(mean, mean - half, mean + half, count)


def paired_difference(
    arm: Sequence[float], baseline: Sequence[float], level: float = 1 - CONFIDENCE
) -> Difference:
    """Compares two arms whose values belong together by pairs.

    Args:
        arm: one value a seed.
        baseline: the values of the same seeds, in the same order.
        level: level of the two-sided test behind `detectable`.
    """
    differences = np.subtract(arm, baseline)
    estimate = mean_interval(differences.tolist())
    count = len(differences)
    if count < 2:
        return Difference(estimate, None, None, None)
    flips = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=_MOST_SIGN_FLIPS,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    spread = float(np.std(differences, ddof=1))
    return Difference(
        estimate,
        t_p=t_test(differences.tolist()),
        sign_flip_p=float(flips.pvalue),
        detectable=smallest_detectable(spread, count, level) if spread > _NO_SPREAD else None,
    )


def t_test(values: Sequence[float]) -> float | None:
    """Returns the two-sided p value of the t test that the mean is 0; None of fewer than two.

    Where all values are the same, the test is not defined. Accuracies and epochs are discrete, so
    that happens by chance: the p value is then that of the sign-flip test, 1 for zeros and else
    2 / 2**n, for n values.
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return None
    spread = float(np.std(values, ddof=1))
    if spread <= _NO_SPREAD:
        return 1.0 if abs(mean) <= _NO_SPREAD else 2 / 2**count
    return float(2 * stats.t.sf(abs(mean) * math.sqrt(count) / spread, count - 1))


def smallest_detectable(
    spread: float, count: int, level: float = 1 - CONFIDENCE, power: float = POWER
) -> float:
    """Returns the true mean difference that a two-sided paired t test finds with this power.

    By the noncentral t distribution of the test statistic. Found means: significant, and with the
    right sign.

    Args:
        spread: standard deviation of the differences.
        count: number of pairs, at least 2.
        level: level of the test.
        power: probability of a p value below `level`.
    """
    critical = stats.t.ppf(1 - level / 2, count - 1)

    def excess(effect: float) -> float:
        return float(stats.nct.sf(critical, count - 1, effect * math.sqrt(count))) - power

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return spread * float(optimize.brentq(excess, 0.0, high))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts p values for their number, by the step-down method of Holm (1979).

    The probability that any true null hypothesis has an adjusted p value below alpha is at most
    alpha, however the tests depend on each other. None (no test) stays None and does not count.
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = largest
    return adjusted
