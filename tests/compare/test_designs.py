"""Other outcomes and tests than the usual ones, where a suite has fixed them before its runs."""

import numpy as np
import pytest
from scipy import stats

from flaxlab.claims import Claim, Statement
from flaxlab.compare.__main__ import main
from flaxlab.errors import UsageError
from flaxlab.suite.definition import Suite
from tests.helpers.finished_runs import (
    ARM,
    BASELINE,
    TEST_EXAMPLES,
    read_csv,
    write_arm,
    write_run,
    write_suite,
)
from tests.helpers.refusals import refused

BASE = (0.800, 0.812, 0.805, 0.791, 0.808)
BETTER = (0.825, 0.830, 0.828, 0.815, 0.833)
CLAIM = Claim("It helps.", "fashion_mnist", (Statement("accuracy", ARM, BASELINE),))


def compare(folder):
    main([str(folder)])
    return read_csv(folder)[ARM], (folder / "comparison.md").read_text()


def test_welchs_test_compares_runs_of_any_seeds(tmp_path):
    write_suite(tmp_path, test="welch", claims={1: CLAIM})
    write_arm(tmp_path, BASELINE, BASE)
    for seed, final in enumerate(BETTER[:4], start=10):
        write_run(tmp_path / ARM / f"seed_{seed}", ARM, seed, [0.5, final])
    row, markdown = compare(tmp_path)
    theirs = stats.ttest_ind(BETTER[:4], BASE, equal_var=False)
    low, high = theirs.confidence_interval(0.95)
    assert float(row["p"]) == pytest.approx(theirs.pvalue)
    assert float(row["difference_low"]) == pytest.approx(low)
    assert float(row["difference_high"]) == pytest.approx(high)
    assert row["sign_flip_p"] == row["correlation"] == row["error_seeds"] == ""
    assert "Welch's t test" in markdown
    assert "seed by seed" not in markdown
    assert "seeds in common" not in markdown
    assert "supported (p" in markdown


def test_the_late_mean_decides_where_the_suite_says_so(tmp_path):
    """The last epoch alone says nothing here; the three together do."""
    write_suite(tmp_path, outcome="late_accuracy")
    rng = np.random.default_rng(0)
    curves = {}
    for name, level in ((BASELINE, 0.80), (ARM, 0.82)):
        late = level + rng.normal(0, 0.002, (5, 3))
        late[:, 2] = 0.81  # equal last epochs
        late[:, 1] += level - 0.81
        curves[name] = late
        for seed, curve in enumerate(late):
            write_run(tmp_path / name / f"seed_{seed}", name, seed, [0.5, *curve])
    row, markdown = compare(tmp_path)
    differences = (curves[ARM] - curves[BASELINE]).mean(axis=1)
    step = 1 / TEST_EXAMPLES / np.sqrt(3)  # three rounding errors, averaged
    spread = max(differences.std(ddof=1), step / np.sqrt(6))
    half = stats.t.ppf(0.975, 4) * spread / np.sqrt(5)
    assert float(row["difference"]) == pytest.approx(differences.mean())
    assert float(row["difference_low"]) == pytest.approx(differences.mean() - half)
    assert row["word"] == "better"
    assert "judged by the mean accuracy of the last three epochs" in markdown


def test_a_test_for_any_time_says_when_it_is_too_early(tmp_path):
    """Corrected for two arms, two seeds cannot decide."""
    arms = dict.fromkeys((BASELINE, ARM, "alexnet_l2"))
    write_suite(tmp_path, seeds=2, test="anytime", arms=arms)
    write_arm(tmp_path, BASELINE, BASE[:2])
    write_arm(tmp_path, ARM, BETTER[:2])
    row, markdown = compare(tmp_path)
    assert row["word"] == "undecided"
    assert row["difference_no_interval"] == "too few seeds: no interval"
    assert row["verdict"] == "undecided: +2.1 points, too few seeds: no interval"
    assert "Seeds may be added after any comparison" in markdown


def test_an_interval_for_any_time_holds_what_a_bet_does_not_refute(tmp_path):
    """By the sums of Wang and Ramdas: their Theorem for a Gaussian mixture, with c = 1/3."""
    write_suite(tmp_path, test="anytime")
    write_arm(tmp_path, BASELINE, BASE)
    write_arm(tmp_path, ARM, BETTER)
    row, _ = compare(tmp_path)
    differences, n, c2 = np.subtract(BETTER, BASE), 5, 1 / 9

    def e_value(mean):
        s, v = np.sum(differences - mean), np.sum((differences - mean) ** 2)
        ratio = (n + c2) * v / ((n + c2) * v - s**2)
        return np.sqrt(c2 / (n + c2)) * ratio ** (n / 2)

    assert float(row["p"]) == pytest.approx(1 / e_value(0))
    for bound in ("difference_low", "difference_high"):
        assert e_value(float(row[bound])) == pytest.approx(20)


def test_suites_with_different_rules_are_compared_one_by_one(tmp_path, capsys):
    for name, test in (("one", "paired"), ("other", "anytime")):
        write_arm(tmp_path / name, BASELINE, BASE)
        write_suite(tmp_path / name, name=name, test=test)
    said = refused(main, [tmp_path / "one", tmp_path / "other", f"--to={tmp_path}"], capsys)
    assert "judge their runs by different rules" in said


@pytest.mark.parametrize("field", ["test", "outcome"])
def test_a_record_with_an_unknown_rule_is_refused(tmp_path, capsys, field):
    write_arm(tmp_path, BASELINE, BASE)
    write_suite(tmp_path, **{field: "anova"})
    assert f"its {field} is 'anova'" in refused(main, [tmp_path], capsys)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"test": "anova"}, "expected one of paired, welch, anytime"),
        ({"outcome": "loss"}, "expected one of accuracy, late_accuracy"),
        ({"outcome": ["accuracy"]}, "expected one of accuracy, late_accuracy"),
        ({"test": "welch", "factors": {"pool": ("b",)}}, "Welch's test pairs no seeds"),
    ],
)
def test_a_suite_refuses_what_it_does_not_know(fields, said):
    with pytest.raises(UsageError, match=said):
        Suite("mine", "a", ("b",), **fields)
