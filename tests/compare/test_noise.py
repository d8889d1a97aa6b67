"""Standard errors from seeds and from images, against bootstraps and simulations."""

import numpy as np
import pytest
from scipy import stats

from flaxlab.compare.noise import difference_errors, pairing, spread_between_runs

SEEDS, IMAGES = 6, 400


def draw_right(rng, runs, images=IMAGES, ability=0.0):
    """Whether runs get images right: easy and hard images, better and worse runs."""
    difficulty, skill = rng.normal(1.5, 1.0, images), rng.normal(ability, 0.1, (runs, 1))
    return rng.random((runs, images)) < stats.norm.cdf(difficulty + skill)


@pytest.fixture
def arms():
    rng = np.random.default_rng(0)
    both = draw_right(rng, 2 * SEEDS)
    return both[:SEEDS], both[SEEDS:] & (rng.random((SEEDS, IMAGES)) < 0.95)


def test_errors_are_those_of_bootstraps(arms):
    arm, baseline = arms
    differences = arm.astype(float) - baseline
    rng = np.random.default_rng(1)
    means = {"seeds": [], "images": [], "both": []}
    for _ in range(4000):
        rows = rng.integers(0, SEEDS, SEEDS)
        columns = rng.integers(0, IMAGES, IMAGES)
        means["seeds"].append(differences[rows].mean())
        means["images"].append(differences[:, columns].mean())
        means["both"].append(differences[rows][:, columns].mean())
    got = difference_errors(arm, baseline)
    # A bootstrap of n draws has (n - 1) / n of the variance.
    corrected = np.std(means["seeds"]) * np.sqrt(SEEDS / (SEEDS - 1))
    assert got.seeds == pytest.approx(corrected, rel=0.05)
    assert got.images == pytest.approx(np.std(means["images"]), rel=0.05)
    assert max(got.seeds, got.images) <= got.both <= np.std(means["both"]) * 1.2


def test_the_error_of_both_is_that_of_new_seeds_on_new_images():
    """The difference of two arms on 300 images and 4 seeds, drawn again and again."""
    rng = np.random.default_rng(2)
    means, variances = [], []
    for _ in range(600):
        difficulty = rng.normal(1.0, 1.0, 300)
        effect = rng.normal(0.0, 0.3, 300)  # what the arm changes about an image
        right = []
        for change in (effect, 0.0):
            skill = rng.normal(0.0, 0.2, (4, 1))
            right.append(rng.random((4, 300)) < stats.norm.cdf(difficulty + skill + change))
        got = difference_errors(*right)
        means.append(np.mean(right[0]) - np.mean(right[1]))
        variances.append(got.both**2)
    assert np.sqrt(np.mean(variances)) == pytest.approx(np.std(means), rel=0.12)


def test_equally_good_runs_differ_by_the_test_images_alone():
    rng = np.random.default_rng(3)
    shares = rng.beta(8, 1, 500)  # of runs that get an image right
    spreads = [spread_between_runs(rng.random((5, 500)) < shares) for _ in range(400)]
    seen = np.sqrt(np.mean([each.seen**2 for each in spreads]))
    by_images = np.sqrt(np.mean([each.by_images**2 for each in spreads]))
    assert seen == pytest.approx(by_images, rel=0.06)
    assert by_images == pytest.approx(np.sqrt(np.mean(shares * (1 - shares)) / 500), rel=0.02)


def test_runs_of_different_quality_differ_by_more():
    rng = np.random.default_rng(4)
    right = rng.random((40, 2000)) < rng.normal(0.8, 0.03, (40, 1))
    got = spread_between_runs(right)
    assert got.seen > 2 * got.by_images
    assert np.sqrt(got.seen**2 - got.by_images**2) == pytest.approx(0.03, rel=0.3)
    assert spread_between_runs(right[:1]) is None
    assert difference_errors(right[:1], right[1:2]) is None


def test_pairing_by_scipy():
    rng = np.random.default_rng(5)
    arm, baseline = rng.multivariate_normal([0.85, 0.84], [[4e-4, 3e-4], [3e-4, 4e-4]], 9).T
    got = pairing(arm, baseline)
    assert got.correlation == pytest.approx(stats.pearsonr(arm, baseline).statistic)
    low, high = stats.ttest_rel(arm, baseline).confidence_interval()
    assert got.paired == pytest.approx((high - low) / 2)
    low, high = stats.ttest_ind(arm, baseline, equal_var=False).confidence_interval()
    assert got.unpaired == pytest.approx((high - low) / 2)
    assert got.paired < got.unpaired
    assert pairing(arm[:2], baseline[:2]) is None
    assert pairing(np.full(5, 0.1), baseline[:5]) is None
