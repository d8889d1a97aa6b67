"""The tests of a difference between two arms, of which a suite chooses one before its first run.

- paired: Student's t over the differences of runs with the same seed;
- welch: Welch's t (1947), which does not pair, for arms whose seeds have nothing in common;
- anytime: a paired t that stays valid if you look after every seed, see `flaxlab.compare.anytime`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import optimize, stats

from flaxlab.compare import anytime
from flaxlab.compare.statistics import (
    LEVEL,
    NO_SPREAD,
    Estimate,
    mean_interval,
    share_bounds,
    share_test,
    spread_of,
    t_test,
)

PAIRED, WELCH, ANYTIME = "paired", "welch", "anytime"
TESTS = (PAIRED, WELCH, ANYTIME)

POWER = 0.8
MOST_SEEDS = 1000  # nobody trains more of an arm


def difference_interval(
    test: str,
    arm: Mapping[int, float],
    baseline: Mapping[int, float],
    level: float,
    step: float = 0.0,
) -> Estimate:
    """Returns the mean of `arm` minus that of `baseline`, with its interval.

    Args:
        test: one of `TESTS`.
        arm: values by seed.
        baseline: the same; it must share a seed with `arm` unless the test is Welch's.
        level: how often the interval may miss the true difference of normal values.
        step: how finely the values were measured, see `statistics.spread_of`.

    Returns:
        The estimate; its count is the number of pairs, for Welch's test that of the smaller arm.
    """
    if test == PAIRED:
        return mean_interval(_paired(arm, baseline), 1 - level, step)
    mean, error, freedom, count = _contrast(test, arm, baseline, step)
    if error is None or error <= NO_SPREAD:
        return Estimate(mean, None, None, count)
    half = error * critical_value(test, count, level, freedom)
    if half == math.inf:
        return Estimate(mean, None, None, count, too_few=True)
    return Estimate(mean, mean - half, mean + half, count)


def difference_p(
    test: str, arm: Mapping[int, float], baseline: Mapping[int, float], step: float = 0.0
) -> float | None:
    """Returns the two-sided p value that the true difference is 0; None with one seed.

    That of the anytime test is valid at every look: it is the reciprocal of an e-value.
    """
    if test == PAIRED:
        return t_test(_paired(arm, baseline), step)
    mean, error, freedom, count = _contrast(test, arm, baseline, step)
    if error is None:
        return None
    if error <= NO_SPREAD:
        return 1.0
    t = mean / error
    if test == WELCH:
        return float(2 * stats.t.sf(abs(t), freedom))
    return min(1.0, 1 / anytime.mean_e_value(t, count))


def _paired(arm: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    return [arm[seed] - baseline[seed] for seed in sorted(arm.keys() & baseline.keys())]


def _contrast(
    test: str, arm: Mapping[int, float], baseline: Mapping[int, float], step: float
) -> tuple[float, float | None, float, int]:
    """Returns the mean difference, its standard error, degrees of freedom, and count."""
    if test == ANYTIME:
        values = _paired(arm, baseline)
        spread = spread_of(values, step)
        error = None if spread is None else spread / math.sqrt(len(values))
        return float(np.mean(values)), error, len(values) - 1, len(values)
    sides = [list(side.values()) for side in (arm, baseline)]
    mean, count = float(np.mean(sides[0]) - np.mean(sides[1])), min(map(len, sides))
    if count < 2:
        return mean, None, 0.0, count
    error, freedom = welch_error(*sides)
    # Each side's values are rounded on their own; together that is the rounding of a difference.
    return mean, max(error, step / math.sqrt(6 * count)), freedom, count


def welch_error(arm: Sequence[float], baseline: Sequence[float]) -> tuple[float, float]:
    """Returns the standard error of an unpaired difference, and its degrees of freedom.

    By Satterthwaite's approximation. Of two arms of equal values the error is 0.

    Args:
        arm: one value a seed, at least two.
        baseline: the same.
    """
    counts = [len(arm), len(baseline)]
    parts = [
        float(np.var(values, ddof=1)) / count
        for values, count in zip((arm, baseline), counts, strict=True)
    ]
    if sum(parts) == 0:
        return 0.0, float(min(counts) - 1)
    freedom = sum(parts) ** 2 / sum(
        part**2 / (count - 1) for part, count in zip(parts, counts, strict=True)
    )
    return math.sqrt(sum(parts)), freedom


def critical_value(test: str, count: int, level: float, freedom: float | None = None) -> float:
    """Returns the |t| beyond which a difference is significant.

    That of the anytime test is infinite while there are too few seeds.

    Args:
        test: one of `TESTS`.
        count: number of seeds.
        level: two-sided level.
        freedom: degrees of freedom, for Welch's test; None: those of `count` pairs.
    """
    if test == ANYTIME:
        return anytime.critical_t(count, level)
    return float(stats.t.ppf(1 - level / 2, count - 1 if freedom is None else freedom))


def power_of(
    effect: float, spread: float, count: int, level: float = LEVEL, test: str = PAIRED
) -> float:
    """Returns how often a true mean difference of `effect` is found.

    Found means: significant, and with the right sign. By the noncentral t distribution of the test
    statistic. Welch's test is taken to have no more degrees of freedom than a paired one, which
    promises too little rather than too much; the anytime test is taken to be looked at once.

    Args:
        effect: true difference.
        spread: true standard deviation of a seed's difference.
        count: number of seeds, at least 2.
        level: two-sided level.
        test: one of `TESTS`.
    """
    critical = critical_value(test, count, level)
    if critical == math.inf:
        return 0.0
    return float(stats.nct.sf(critical, count - 1, abs(effect) / spread * math.sqrt(count)))


def smallest_detectable(
    spread: float, count: int, level: float = LEVEL, power: float = POWER, test: str = PAIRED
) -> float | None:
    """Returns the true mean difference that is found with this power; see `power_of`.

    Returns:
        The difference; None where so few seeds can find none, however large.
    """
    if critical_value(test, count, level) == math.inf:
        return None

    def excess(effect: float) -> float:
        return power_of(effect, 1.0, count, level, test) - power

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return spread * float(optimize.brentq(excess, 0.0, high))


def seeds_needed(
    effect: float, spread: float, level: float = LEVEL, power: float = POWER, test: str = PAIRED
) -> int | None:
    """Returns how many seeds find a true mean difference with this power; see `power_of`.

    Returns:
        The smallest number, from 2; None if more than `MOST_SEEDS` are needed.
    """
    low, high = 2, MOST_SEEDS
    if effect == 0 or power_of(effect, spread, high, level, test) < power:
        return None
    while low < high:
        middle = (low + high) // 2
        if power_of(effect, spread, middle, level, test) >= power:
            high = middle
        else:
            low = middle + 1
    return low


def share_p(test: str, hits: int, count: int, share: float) -> tuple[float, float]:
    """Returns the p values of two hypotheses: the true share is at most, or at least, `share`.

    By the exact binomial test; for the anytime test, by e-values.
    """
    if test != ANYTIME:
        return share_test(hits, count, share)
    e_values = (
        anytime.share_e_value(hits, count, share),
        anytime.share_e_value(count - hits, count, 1 - share),
    )
    at_most, at_least = (min(1.0, 1 / e_value) for e_value in e_values)
    return at_most, at_least


def share_limits(test: str, hits: int, count: int, level: float) -> tuple[float, float]:
    """Returns where `share_p` is `level`: what the true share is at least, and at most."""
    if test != ANYTIME:
        return share_bounds(hits, count, level)
    return (
        anytime.share_at_least(hits, count, level),
        1 - anytime.share_at_least(count - hits, count, level),
    )
