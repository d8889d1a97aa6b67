"""Where the spread between runs comes from: the seed, the test images, and what pairing removes.

After Jordan, "On the Variance of Neural Network Training with respect to Test Sets and
Distributions", arXiv 2304.01910.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from flaxlab.compare.procedures import welch_error
from flaxlab.compare.statistics import CONFIDENCE


@dataclass(frozen=True)
class SpreadBetweenRuns:
    """The spread of an arm's accuracy over its seeds, and how much of it the test split makes.

    Attributes:
        seen: standard deviation of the accuracies of the runs.
        by_images: what runs of the same true accuracy would differ by, because each of them gets
            other images of this finite split right.
    """

    seen: float
    by_images: float


@dataclass(frozen=True)
class DifferenceErrors:
    """Standard errors of the mean difference of two arms.

    Attributes:
        seeds: for other seeds on the same test images: what the interval of a difference is of.
        images: for other test images and the same seeds.
        both: for other seeds on other images.
    """

    seeds: float
    images: float
    both: float


@dataclass(frozen=True)
class Pairing:
    """What comparing seed by seed has brought.

    Attributes:
        correlation: correlation of the two arms' accuracies over the seeds.
        paired: half the width of the 95% interval of the difference.
        unpaired: what Welch's interval gives for the same runs, as if they did not belong together.
    """

    correlation: float
    paired: float
    unpaired: float


def spread_between_runs(right: np.ndarray) -> SpreadBetweenRuns | None:
    """Returns the spread of an arm and the part of it that is due to the test split.

    Which images a run gets right varies from run to run. If that were independent from image to
    image, accuracies would vary by the mean variance of an image over their number.

    Args:
        right: whether a run got an image right, bool (runs, images).

    Returns:
        The spread; None for fewer than two runs.
    """
    if len(right) < 2:
        return None
    images = right.shape[1]
    variances = right.var(axis=0, ddof=1)
    return SpreadBetweenRuns(
        seen=float(right.mean(axis=1).std(ddof=1)),
        by_images=math.sqrt(float(variances.mean()) / images),
    )


def difference_errors(arm: np.ndarray, baseline: np.ndarray) -> DifferenceErrors | None:
    """Returns the standard errors of the mean difference, from seeds, from test images and both.

    The difference of run s on image i is a mean, plus an effect of the seed, one of the image, and
    a rest. The errors are those that a bootstrap over seeds, over images and over both gives, by
    their variances: the third is the sum of the first two but for the rest, which both contain.

    Args:
        arm: whether a run got an image right, bool (seeds, images).
        baseline: the same of the baseline, for the same seeds.

    Returns:
        The errors; None for fewer than two seeds.
    """
    seeds, images = arm.shape
    if seeds < 2:
        return None
    differences = arm.astype(np.float64) - baseline
    by_seed, by_image = differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - by_seed[:, None] - by_image + differences.mean()
    rest_variance = float(np.sum(rest**2)) / ((seeds - 1) * (images - 1))
    of_seeds = float(by_seed.var(ddof=1)) / seeds
    of_images = float(by_image.var(ddof=1)) / images
    both = of_seeds + of_images - rest_variance / (seeds * images)
    # An estimate of variances may undercut what is part of it.
    both = max(both, of_seeds, of_images)
    return DifferenceErrors(math.sqrt(of_seeds), math.sqrt(of_images), math.sqrt(both))


def pairing(arm: Sequence[float], baseline: Sequence[float]) -> Pairing | None:
    """Returns how much pairing narrows the interval of a difference.

    Args:
        arm: one accuracy a seed.
        baseline: those of the same seeds, in the same order.

    Returns:
        The gain; None for fewer than three seeds, or where one of the arms does not vary.
    """
    count = len(arm)
    if count < 3 or np.ptp(arm) == 0 or np.ptp(baseline) == 0:
        return None
    half = (1 + CONFIDENCE) / 2
    spread = float(np.std(np.subtract(arm, baseline), ddof=1))
    error, freedom = welch_error(arm, baseline)
    return Pairing(
        correlation=float(np.corrcoef(arm, baseline)[0, 1]),
        paired=float(stats.t.ppf(half, count - 1)) * spread / math.sqrt(count),
        unpaired=float(stats.t.ppf(half, freedom)) * error,
    )
