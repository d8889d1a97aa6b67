"""Effects and interactions, against least squares and by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from flaxlab.compare.__main__ import main
from flaxlab.compare.comparison import compare
from flaxlab.compare.outcomes import Design
from flaxlab.compare.runs import find_runs
from flaxlab.errors import UsageError
from flaxlab.suite.definition import Suite
from tests.helpers.finished_runs import write_run, write_suite

ARMS = ("vgg_growing_dropouts", "vgg_no_batchnorm", "vgg_no_dropout", "vgg_no_batchnorm_no_dropout")
FACTORS = {"no BN": (ARMS[1], ARMS[3]), "no dropout": (ARMS[2], ARMS[3])}
SEEDS = 5


@pytest.fixture
def accuracies(tmp_path):
    """Of each arm and seed; written as runs beside a suite.json."""
    rng = np.random.default_rng(0)
    # Without batch normalization 5 points worse, without dropout 1 better, and both: 2 worse still.
    expected = np.array([0.80, 0.75, 0.81, 0.74])
    values = expected[:, None] + rng.normal(0, 0.004, (4, SEEDS)) + rng.normal(0, 0.02, SEEDS)
    for name, row in zip(ARMS, values, strict=True):
        for seed, value in enumerate(row):
            write_run(tmp_path / name / f"seed_{seed}", name, seed, [value], "CIFAR-10")
    write_suite(tmp_path, baseline=ARMS[0], arms=dict.fromkeys(ARMS), factors=FACTORS)
    return values


def test_effects_are_those_of_least_squares_with_seeds_as_blocks(accuracies, tmp_path):
    design = Design(ARMS, tuple(range(SEEDS)), factors=FACTORS)
    found = compare(find_runs([tmp_path])[0], ARMS[0], "", design=design).effects
    levels = np.array(list(itertools.product((-1, 1), repeat=2)))[:, ::-1]  # as ARMS
    columns = [levels[:, 0], levels[:, 1], levels.prod(axis=1)]
    runs = itertools.product(zip(*columns, strict=True), np.eye(SEEDS))
    rows = [[*column, *block] for column, block in runs]
    coefficients = np.linalg.lstsq(np.array(rows), accuracies.ravel(), rcond=None)[0][:3]
    assert [effect.factors for effect in found] == [
        ("no BN",),
        ("no dropout",),
        ("no BN", "no dropout"),
    ]
    # From -1 to 1 are two units; an interaction is the difference of two such differences.
    means = [effect.estimate.mean for effect in found]
    assert means == pytest.approx(coefficients * [2, 2, 4])


def test_intervals_are_of_the_contrasts_of_a_seed(accuracies, tmp_path):
    design = Design(ARMS, tuple(range(SEEDS)), factors=FACTORS)
    found = compare(find_runs([tmp_path])[0], ARMS[0], "", design=design).effects
    whole, no_bn, no_dropout, neither = accuracies
    contrasts = (
        (no_bn + neither - whole - no_dropout) / 2,
        (no_dropout + neither - whole - no_bn) / 2,
        (neither - no_dropout) - (no_bn - whole),
    )
    for effect, values in zip(found, contrasts, strict=True):
        test = stats.ttest_1samp(values, 0)
        low, high = test.confidence_interval(1 - 0.05 / 3)
        assert (effect.estimate.low, effect.estimate.high) == pytest.approx((low, high))
        assert effect.p == pytest.approx(min(1, 3 * test.pvalue))


def test_the_page_has_a_table_of_effects(accuracies, tmp_path):
    main([str(tmp_path)])
    for suffix in ("md", "html"):
        text = (tmp_path / f"comparison.{suffix}").read_text()
        assert "Effects and interactions" in text
        assert "no BN × no dropout" in text


def test_some_arms_of_a_factorial_suite_have_no_effects(accuracies, tmp_path):
    main([str(tmp_path / ARMS[0]), str(tmp_path / ARMS[1]), f"--to={tmp_path}"])
    assert "Effects and interactions" not in (tmp_path / "comparison.md").read_text()


def test_without_a_seed_in_which_all_arms_learned_there_are_no_effects(tmp_path):
    for name in ARMS:
        final = 0.1 if name == ARMS[1] else 0.8
        for seed in range(2):
            write_run(tmp_path / name / f"seed_{seed}", name, seed, [final + seed / 50], "CIFAR-10")
    design = Design(ARMS, (0, 1), factors=FACTORS)
    assert compare(find_runs([tmp_path])[0], ARMS[0], "", design=design).effects == []


@pytest.mark.parametrize(
    "factors",
    [
        {"a": ("arm",)},  # two arms without it
        {"a": ("arm",), "b": ("arm",)},  # never one without the other
        {"a": ("base", "both"), "b": ("other", "both")},  # the baseline
    ],
)
def test_factors_that_are_no_factorial_are_refused(factors):
    with pytest.raises(UsageError, match="one arm for each combination"):
        Suite("mine", "base", ("arm", "other", "both"), factors=factors)
    Suite(
        "mine",
        "base",
        ("arm", "other", "both"),
        factors={"a": ("arm", "both"), "b": ("other", "both")},
    )


def test_no_effect_is_larger_than_accuracies_allow(tmp_path):
    """A change is worth 100 points at most, and where another is made, 200 more or fewer."""
    swings = ((0.9, 0.5), (0.5, 0.9), (0.7, 0.7), (0.5, 0.9))
    for name, values in zip(ARMS, swings, strict=True):
        for seed, value in enumerate(values):
            write_run(tmp_path / name / f"{seed}", name, seed, [value], "CIFAR-10")
    design = Design(ARMS, (0, 1), factors=FACTORS)
    found = compare(find_runs([tmp_path])[0], ARMS[0], "", design=design).effects
    bounds = [(effect.estimate.low, effect.estimate.high) for effect in found]
    assert bounds == [(-1, 1), (-1, 1), (-2, 2)]
