"""Every number of a comparison, computed again from the files by NumPy and SciPy alone."""

import csv
import json
import re

import numpy as np
import pandas
import pytest
from scipy import stats

from flaxlab.compare.__main__ import main
from flaxlab.notebook.suite import SuiteRuns
from tests.helpers.finished_runs import (
    ARM,
    BASELINE,
    TEST_EXAMPLES,
    fail,
    read_csv,
    write_run,
    write_suite,
)

THIRD = "alexnet_no_dropout"
FINALS = {
    BASELINE: [0.800, 0.812, 0.805, 0.791, 0.808, 0.803, 0.799, 0.811],
    ARM: [0.825, 0.830, 0.828, 0.805, 0.833, 0.30, 0.815, 0.822],
    THIRD: [0.802, 0.808, 0.811, 0.788, 0.801, 0.806, 0.795],
}
LEVEL = 0.05 / 2  # two arms beside the baseline


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a comparison: a collapsed run, a failed one, and the rest learned."""
    folder = tmp_path_factory.mktemp("recomputed")
    write_suite(folder, seeds=8, arms=dict.fromkeys(FINALS), equivalent_within=0.01)
    for name, finals in FINALS.items():
        for seed, final in enumerate(finals):
            curve = [0.6, 0.7 + 0.01 * (seed % 3), 0.79, 0.78 + 0.002 * seed, final]
            extra = {"fitted_accuracy": final + 0.05 - 0.001 * seed}
            write_run(folder / name / f"seed_{seed}", name, seed, curve, extra=extra)
    fail(folder, THIRD, 7)
    main([str(folder)])
    return folder


def read_arm(folder, name):
    """Reads {seed: values} of the runs that learned, from their files."""
    runs = {}
    for place in sorted((folder / name).iterdir()):
        if not (place / "summary.json").exists():
            continue
        summary = json.loads((place / "summary.json").read_text())
        rows = list(csv.DictReader((place / "history.csv").read_text().splitlines()))
        curve = np.array([float(row["val_accuracy"]) for row in rows])
        with np.load(place / "predictions.npz") as stored:
            logits, labels = stored["logits"].astype(float), stored["labels"]
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        if curve[-1] < 1 / 3 + 0.05 * 2 / 3:
            continue
        runs[summary["seed"]] = {
            "accuracy": curve[-1],
            "final_accuracy": curve[-1],
            "best_accuracy": curve.max(),
            "late_accuracy": curve[-3:].mean(),
            "mean_accuracy": curve.mean(),
            # The second half of five epochs: three of them, one second difference.
            "late_spread": abs(curve[4] - 2 * curve[3] + curve[2]) / np.sqrt(6),
            "fitted_accuracy": summary["fitted_accuracy"],
            "gap": summary["fitted_accuracy"] - curve[-1],
            "keras_gap": float(rows[-1]["train_accuracy"]) - curve[-1],
            "cross_entropy": float(rows[-1]["val_loss"]),
            "brier": ((shares - np.eye(3)[labels]) ** 2).sum(axis=1).mean(),
            # All predictions have the same probability, so that there is one bin.
            "calibration_error": abs(shares.max() - (logits.argmax(axis=1) == labels).mean()),
            "seconds": sum(float(row["seconds"]) for row in rows),
            "right": logits.argmax(axis=1) == labels,
        }
    return runs


def approximately(value):
    return pytest.approx(value, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", list(FINALS))
def test_means_and_intervals(compared, name):
    runs, row = read_arm(compared, name), read_csv(compared)[name]
    assert int(row["count"]) == len(runs)
    assert row["seeds"] == " ".join(map(str, runs))
    for key in next(iter(runs.values())):
        if key == "right":
            continue
        values = np.array([run[key] for run in runs.values()])
        assert float(row[key]) == approximately(values.mean())
        if f"{key}_low" in row:
            low, high = stats.t.interval(
                0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values)
            )
            assert float(row[f"{key}_low"]) == approximately(low)
            assert float(row[f"{key}_high"]) == approximately(high)
    values = np.array([run["accuracy"] for run in runs.values()])
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
    assert float(row["prediction_low"]) == approximately(values.mean() - half)
    assert float(row["prediction_high"]) == approximately(min(values.mean() + half, 1))
    right = np.array([run["right"] for run in runs.values()])
    assert float(row["spread"]) == approximately(right.mean(axis=1).std(ddof=1))
    by_images = np.sqrt(right.var(axis=0, ddof=1).mean() / right.shape[1])
    assert float(row["spread_by_images"]) == approximately(by_images)


def paired(folder, name):
    arm, baseline = read_arm(folder, name), read_arm(folder, BASELINE)
    seeds = sorted(arm.keys() & baseline.keys())
    return [arm[seed] for seed in seeds], [baseline[seed] for seed in seeds]


def accuracy_differences(folder, name):
    arm, baseline = ([run["accuracy"] for run in side] for side in paired(folder, name))
    return np.subtract(arm, baseline)


def spread(differences):
    return max(differences.std(ddof=1), 1 / TEST_EXAMPLES / np.sqrt(6))


def power(effect, sigma, count):
    critical = stats.t.ppf(1 - LEVEL / 2, count - 1)
    return stats.nct.sf(critical, count - 1, effect / sigma * np.sqrt(count))


@pytest.mark.parametrize("name", [ARM, THIRD])
def test_differences(compared, name):
    row = read_csv(compared)[name]
    differences = accuracy_differences(compared, name)
    count, mean = len(differences), differences.mean()
    half = stats.t.ppf(1 - LEVEL / 2, count - 1) * spread(differences) / np.sqrt(count)
    assert float(row["difference"]) == approximately(mean)
    assert float(row["difference_low"]) == approximately(mean - half)
    assert float(row["difference_high"]) == approximately(mean + half)
    t = mean / (spread(differences) / np.sqrt(count))
    assert float(row["p"]) == approximately(min(1, 2 * 2 * stats.t.sf(abs(t), count - 1)))
    images = np.rint(differences * TEST_EXAMPLES)
    flips = stats.permutation_test(
        (images,), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert float(row["sign_flip_p"]) == approximately(min(1, 2 * flips))
    # The upper limit of a one-sided 80% interval of the spread.
    limit = spread(differences) * np.sqrt((count - 1) / stats.chi2.ppf(0.2, count - 1))
    assert power(float(row["detectable_difference"]), limit, count) == pytest.approx(0.8, abs=1e-6)
    needed = count + int(row["more_seeds"])
    assert power(abs(mean), limit, needed) >= 0.8
    assert needed == count or power(abs(mean), limit, needed - 1) < 0.8


@pytest.mark.parametrize("name", [ARM, THIRD])
def test_errors_and_pairing(compared, name):
    row = read_csv(compared)[name]
    arm, baseline = paired(compared, name)
    right = np.array([run["right"] for run in arm]) * 1.0 - [run["right"] for run in baseline]
    seeds, images = right.shape
    by_seed, by_image = right.mean(axis=1), right.mean(axis=0)
    rest = right - by_seed[:, None] - by_image + right.mean()
    rest = (rest**2).sum() / (seeds - 1) / (images - 1) / seeds / images
    of_seeds, of_images = by_seed.var(ddof=1) / seeds, by_image.var(ddof=1) / images
    assert float(row["error_seeds"]) == approximately(np.sqrt(of_seeds))
    assert float(row["error_images"]) == approximately(np.sqrt(of_images))
    both = max(of_seeds + of_images - rest, of_seeds, of_images)
    assert float(row["error_both"]) == approximately(np.sqrt(both))
    correlation = np.corrcoef([run["accuracy"] for run in arm], [r["accuracy"] for r in baseline])
    assert float(row["correlation"]) == approximately(correlation[0, 1])


def test_pandas_takes_the_table_in_python_as_it_reads_the_file(compared):
    table = pandas.DataFrame(SuiteRuns(compared).compare().table)
    expected = pandas.read_csv(compared / "comparison.csv")
    assert table.columns.tolist() == expected.columns.tolist()
    assert table["arm"].tolist() == [BASELINE, ARM, THIRD]
    numbers = expected.dropna(axis="columns", how="all").select_dtypes("number")
    assert len(numbers.columns) > 30
    for name in numbers:
        np.testing.assert_allclose(
            table[name].astype(float), numbers[name], rtol=1e-12, err_msg=name
        )


def test_the_page_shows_these_numbers(compared):
    """Each number in the tables of the Markdown is one of comparison.csv, rounded."""
    rows = read_csv(compared)
    markdown = (compared / "comparison.md").read_text()
    (accuracy,) = re.findall(rf"^\| {ARM} \| 7 of 8 .*$", markdown, re.MULTILINE)
    row = {
        key: float(value) for key, value in rows[ARM].items() if re.match(r"^-?[\d.e-]+$", value)
    }
    shown = (
        f"{row['accuracy'] * 100:.2f} [{row['accuracy_low'] * 100:.2f},"
        f" {row['accuracy_high'] * 100:.2f}] | {row['late_accuracy'] * 100:.2f}"
        f" [{row['late_accuracy_low'] * 100:.2f}, {row['late_accuracy_high'] * 100:.2f}] |"
        f" {row['difference'] * 100:+.2f} [{row['difference_low'] * 100:+.2f},"
        f" {row['difference_high'] * 100:+.2f}] | "
    )
    assert shown in accuracy
    assert f"| {row['sign_flip_p']:.3f} | {row['detectable_difference'] * 100:.1f} |" in accuracy
    noise = (
        f"| {ARM} | {row['spread'] * 100:.2f} | {row['spread_by_images'] * 100:.2f} |"
        f" {row['error_seeds'] * 100:.2f} | {row['error_images'] * 100:.2f} |"
        f" {row['error_both'] * 100:.2f} | {row['correlation']:+.2f} |"
    )
    assert noise in markdown
    assert f"| {row['mean_accuracy'] * 100:.2f} | {row['best_accuracy'] * 100:.2f} |" in markdown
    assert "1 of 8 [0%, 53%]" in markdown  # Clopper and Pearson: 0.0032 to 0.5265
    for name in FINALS:
        assert rows[name]["verdict"] in markdown
