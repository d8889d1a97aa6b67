"""Evidence that stays valid however often it is looked at: e-values for a mean and for a share.

An e-value is a bet against a hypothesis: if the hypothesis is true, the chance that it ever reaches
1 / level, at whatever number of seeds, is `level` at most (Ville's inequality). So seeds can be
added until something is decided, which a t test does not allow.

For a mean: Wang and Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means with
unknown variance", arXiv 2310.03722. It is the Bayes factor of a t test whose effect, measured in
standard deviations, is drawn from a normal distribution.
"""

from __future__ import annotations

import math

from scipy import optimize, special, stats

# Standard deviation of the effect that is bet on, in spreads of a difference. By simulation with
# five arms: at 3, effects of two, three and five spreads take 8, 6 and 5 seeds on average; at 1
# they take 9, 8 and 7, and at 10 they take 9, 6 and 5.
TYPICAL_EFFECT = 3.0


def mean_e_value(t: float, count: int) -> float:
    """Returns the e-value against a mean of 0.

    Args:
        t: t statistic of the values: their mean divided by its standard error.
        count: number of values, at least 2.
    """
    shrunk, ratio = _shrink(count), t * t / (count - 1)
    exponent = count / 2 * (math.log1p(ratio) - math.log1p(ratio / shrunk))
    return math.exp(min(exponent - math.log(shrunk) / 2, 700.0))  # beyond, floats overflow


def critical_t(count: int, level: float) -> float:
    """Returns the |t| at which `mean_e_value` is 1 / level; infinite if it never is."""
    shrunk = _shrink(count)
    bound = (math.sqrt(shrunk) / level) ** (2 / count)
    if bound >= shrunk:
        return math.inf
    return math.sqrt((count - 1) * (bound - 1) / (1 - bound / shrunk))


def _shrink(count: int) -> float:
    return 1 + count * TYPICAL_EFFECT**2


def share_e_value(hits: int, count: int, share: float) -> float:
    """Returns the e-value against a true share of at most `share`.

    Bets on all larger shares alike.

    Args:
        hits: number of draws with the outcome.
        count: number of all draws.
        share: the largest share of the hypothesis, below 1.
    """
    misses = count - hits
    mixture = special.betaln(hits + 1, misses + 1) + stats.beta.logsf(share, hits + 1, misses + 1)
    expected = special.xlogy(hits, share) + special.xlog1py(misses + 1, -share)
    return math.exp(min(float(mixture - expected), 700.0))


def share_at_least(hits: int, count: int, level: float) -> float:
    """Returns the lower limit of the true share, at confidence 1 - `level`."""
    if hits == 0:
        return 0.0
    return float(
        optimize.brentq(
            lambda share: math.log(level * share_e_value(hits, count, share)),
            1e-9,
            hits / count * (1 - 1e-9),
        )
    )
