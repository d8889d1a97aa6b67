"""Run directories as a finished run leaves them, with accuracies that a test chooses."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab.compare.suite_file import SuiteRecord, write_suite_file
from flaxlab.config.read import load_experiment
from flaxlab.data.shape import with_image_shape
from flaxlab.run.history import to_csv
from flaxlab.run.origin import read_origin
from flaxlab.training.metrics import Row
from tests.helpers.runs import EXPERIMENTS

# What a comparison of several seeds writes beside the runs.
COMPARISON_FILES = {"comparison.md", "comparison.csv", "comparison.html"} | {
    f"comparison_{name}.png"
    for name in (
        "curves",
        "differences",
        "pairs",
        "seeds",
        "class_accuracy",
        "confusion",
        "confusion_difference",
    )
}
CLASSES = ("shirt", "shoe", "bag")
TEST_EXAMPLES = 300


def write_run(
    folder: Path,
    experiment: str,
    seed: int,
    validation: Sequence[float],
    title: str = "Fashion-MNIST",
    extra: dict | None = None,
    *,
    train: float = 0.9,
    **overrides,
) -> Path:
    """Writes a finished run.

    Args:
        folder: the run directory.
        experiment: name of its file.
        seed: of the run.
        validation: accuracy of each epoch.
        title: of the data set.
        extra: further fields of the summary.
        train: training accuracy of the last epoch.
        **overrides: fields of the config; "__" stands for a dot.
    """
    file = EXPERIMENTS / f"{experiment}.py"
    config = ConfigDict(with_image_shape(load_experiment(file)))
    config.seed = seed
    config.train.epochs = len(validation)
    config.update_from_flattened_dict(
        {path.replace("__", "."): value for path, value in overrides.items()}
    )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(configs.to_json(config))
    rows = [
        Row(epoch, 0.5, train, 0.6, accuracy, 0.001, 2.0, 0.0, 1000.0, 0)
        for epoch, accuracy in enumerate(validation, 1)
    ]
    (folder / "history.csv").write_text(to_csv(rows))
    rng = np.random.default_rng(seed)
    labels = np.arange(TEST_EXAMPLES) % len(CLASSES)
    right = rng.random(TEST_EXAMPLES) < validation[-1]
    predicted = np.where(right, labels, (labels + 1) % len(CLASSES))
    np.savez(
        folder / "predictions.npz",
        logits=np.eye(len(CLASSES), dtype=np.float32)[predicted],
        labels=labels.astype(np.int32),
    )
    summary = {
        "name": config.name,
        "seed": seed,
        "dataset": title,
        "dataset_fingerprint": title,
        "train_examples": 6000,
        "test_examples": TEST_EXAMPLES,
        "parameters_total": 1000,
        "device": "1 x cpu (cpu)",
        "versions": {"jax": "1.2.3"},
        "classes": {name: {} for name in CLASSES},
        "command": f"python -m flaxlab.main --config={experiment}.py --config.seed={seed}",
        **_origin(file, config),
        **(extra or {}),
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def _origin(file: Path, config) -> dict:
    """What a run of the file records of it."""
    origin = read_origin(file, config)
    return {
        "departures": origin.departures,
        "lab_report": origin.lab_report and asdict(origin.lab_report),
    }


def read_csv(folder):
    """Returns the rows of a comparison.csv by arm."""
    with (folder / "comparison.csv").open(newline="") as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


BASELINE, ARM = "alexnet_default", "alexnet_pool"


def write_suite(folder, seeds=5, **fields):
    """Writes the suite.json of a baseline and one arm, with other `fields` of its record."""
    record = {
        "name": "pooling",
        "baseline": BASELINE,
        "arms": dict.fromkeys((BASELINE, ARM)),
        "seeds": tuple(range(seeds)),
        "vary": (),
        "experiment": None,
        "claims": {},
        "collapsed_margin": 0.05,
        "equivalent_within": 0.0,
        "looks": (),
        "factors": {},
        "command": "python -m flaxlab.suite --config=pooling.py",
    }
    write_suite_file(SuiteRecord(**(record | fields)), folder)


def write_arm(folder, name, finals):
    """Writes finished runs of an arm with these last accuracies, seed by seed."""
    for seed, final in enumerate(finals):
        write_run(folder / name / f"seed_{seed}", name, seed, [0.5, final])


def fail(folder, name, seed, error="MemoryError: no room"):
    """Leaves what a suite leaves of a run that an error has ended."""
    run = write_run(folder / name / f"seed_{seed}", name, seed, [0.5, 0.6])
    (run / "summary.json").unlink()
    (run / "failure.txt").write_text(f"Traceback ...\n{error}\n")
