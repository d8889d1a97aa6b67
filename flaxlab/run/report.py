"""Writes what a finished run leaves behind: numbers, pictures and a page that shows them."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxlab import config as configs
from flaxlab import files, models, scores
from flaxlab.config import ConfigDict, LabReport
from flaxlab.data.catalog import is_original
from flaxlab.hardware import describe_machine
from flaxlab.pages import image_plots, plots, style
from flaxlab.pages.render import render
from flaxlab.run.advice import penalised_paths, warnings
from flaxlab.run.augmented import augmented_images
from flaxlab.run.fingerprint import fingerprints
from flaxlab.run.history import best_row
from flaxlab.run.origin import Origin
from flaxlab.run.record import experiment_revision, versions
from flaxlab.run.result import RunResult
from flaxlab.run.steps import STEPS_FILE, read_steps
from flaxlab.run.weights import first_kernel, normalizations
from flaxlab.training.experiment import Experiment
from flaxlab.training.optimizer import make_average

_MISTAKES = 18


def write_report(
    experiment: Experiment,
    origin: Origin,
    result: RunResult,
    workdir: Path,
    command: Sequence[str] | None,
) -> dict[str, Any]:
    """Writes every file of a run directory except its checkpoints, history, steps and events.

    summary.json comes last, and only if the last state is saved.

    Args:
        experiment: what was trained.
        origin: what its experiment file says.
        result: what `train` returned.
        workdir: the run directory.
        command: the arguments that started the run; None: the config was made in Python.

    Returns:
        The contents of summary.json.
    """
    scored, dataset = result.test_scores, experiment.dataset
    test = experiment.splits.test or experiment.splits.validation
    name, names = experiment.config.name, dataset.class_names
    confusion = scores.confusion_matrix(scored.labels, scored.logits.argmax(axis=1), len(names))
    summary = summarize(experiment, result, confusion) | {
        "command": "flaxlab.fit(config), the config of config.json"
        if command is None
        else shlex.join(["python", "-m", "flaxlab.main", *command]),
        "experiment_git": origin.file and experiment_revision(origin.file),
        "departures": origin.departures,
        "lab_report": origin.lab_report and asdict(origin.lab_report),
        "suite": origin.suite,
    }
    reported = _comparable_report(experiment, origin.lab_report)
    mistakes = scores.most_confident_mistakes(scored.logits, scored.labels, _MISTAKES)
    steps = read_steps(workdir / STEPS_FILE)
    figures = {
        "curves": plots.curves(
            result.history,
            name,
            None if reported is None else reported.final_accuracy,
            [(row.step / experiment.steps_per_epoch, row.train_loss) for row in steps],
        ),
        "confusion_matrix": plots.confusion(
            confusion, names, f"{name} on {dataset.title}: accuracy {scored.accuracy:.4f}"
        ),
        "samples": image_plots.samples(
            experiment.splits.train.images, experiment.splits.train.labels, names
        ),
        "mistakes": image_plots.mistakes(test.images, mistakes, names),
    }
    pictures: dict[str, str | bytes] = {}
    for key, figure in figures.items():
        pictures[key] = content = style.png(figure)
        files.write_bytes(workdir / f"{key}.png", content)
    for key in ("curves", "confusion_matrix"):
        style.keep_layout(figures[key])
        pictures[key] = style.svg(figures[key], key)
    probabilities = scores.probabilities(scored.logits)
    sureness = plots.reliability(scores.reliability(probabilities, scored.labels))
    pictures["reliability"] = style.svg(sureness, "reliability")
    changed = augmented_images(experiment)
    if changed is not None:
        pictures["augmented"] = style.png(image_plots.augmented(*changed))
    variables = result.state.scored
    first = first_kernel(experiment.layers, variables)
    if first is not None:
        path, kernel = first
        pictures["filters"] = style.png(image_plots.filters(kernel, path))
    files.write_bytes(
        workdir / scores.PREDICTIONS_FILE, scores.full_form(scored.logits, scored.labels)
    )
    files.write_text(workdir / "confusion_matrix.csv", _confusion_csv(confusion, names))
    page = render(
        "report.html.j2",
        pictures,
        config=experiment.config,
        summary=summary,
        scored=scored,
        calibration_error=scores.calibration_error(probabilities, scored.labels),
        scored_epoch=result.test_epoch,
        history=result.history,
        layers=experiment.layers,
        normalizations=normalizations(experiment.layers, variables),
        flops=sum(row.flops for row in experiment.layers),
        warnings=warnings(experiment),
        averaged=make_average(experiment.config) is not None,
        reported=reported,
        differences=configs.meaningful_differences(origin.baseline, experiment.config),
        baseline=origin.baseline.name,
        config_json=configs.to_json(experiment.config),
    )
    files.write_text(workdir / "report.html", page)
    if result.unsaved is None:
        # Last: a run directory with a summary is complete.
        numbers = json.dumps(summary, indent=2, allow_nan=False)
        files.write_text(workdir / "summary.json", numbers + "\n")
    return summary


def summarize(experiment: Experiment, result: RunResult, confusion: np.ndarray) -> dict[str, Any]:
    """Returns the numbers of a run: accuracies are shares, losses are in nats, times in seconds.

    "classes" holds precision, recall, F1 and number of examples of each class of the test split.
    "final" is the last epoch, "best" the epoch with the highest validation accuracy. With the
    protocol "holdout", "test_accuracy" is the best epoch's, on data that had no part in choosing.
    "train_accuracy" is measured in the steps of the last epoch; "fitted_accuracy" afterwards,
    without dropout, with the state that the test split scores.
    """
    config, history = experiment.config, result.history
    last, best = history[-1], best_row(history)
    device = experiment.devices.mesh.devices.flat[0]
    by_class = scores.class_scores(confusion)
    rows = zip(*(column.tolist() for column in by_class), strict=True)
    summary = {
        "name": config.name,
        "seed": config.seed,
        "dataset": experiment.dataset.title,
        "dataset_version": experiment.dataset.version,
        "dataset_origin": experiment.dataset.origin,
        "dataset_fingerprint": experiment.dataset.fingerprint,
        "protocol": config.data.validation,
        "train_examples": len(experiment.splits.train),
        "validation_examples": len(experiment.splits.validation),
        "test_examples": len(experiment.splits.test or experiment.splits.validation),
        "epochs": len(history),
        "steps": int(result.state.step),
        "parameters_total": models.count_parameters(experiment.layers),
        "parameters_trainable": models.count_trainable(experiment.layers),
        "penalised": penalised_paths(experiment),
        "final_val_accuracy": last.val_accuracy,
        "final_val_loss": last.val_loss,
        "best_val_accuracy": best.val_accuracy,
        "best_epoch": best.epoch,
        "train_accuracy": last.train_accuracy,
        "train_loss": last.train_loss,
        "fitted_accuracy": result.fitted,
        "images_per_second": statistics.harmonic_mean(row.images_per_second for row in history),
        "seconds": sum(row.seconds for row in history),
        "machine": describe_machine(),
        "device": f"{experiment.devices.count} x {device.platform} ({device.device_kind})",
        "products": products(config, device),
        "versions": versions(),
        "fingerprints": fingerprints(experiment),
        "classes": {
            name: dict(zip(by_class._fields, row, strict=True))
            for name, row in zip(experiment.dataset.class_names, rows, strict=True)
        },
    }
    if experiment.splits.test is not None:
        summary["test_accuracy"] = result.test_scores.accuracy
        summary["test_loss"] = result.test_scores.loss
    return summary


def products(config: ConfigDict, device: Any) -> str:
    """Returns the precision of a run's products and convolutions, as JAX names it.

    JAX's default on a GPU is TensorFloat-32 from compute capability 8.0 on, and bfloat16 on a TPU
    (https://docs.jax.dev/en/latest/_autosummary/jax.default_matmul_precision.html).

    Args:
        config: the config of the run.
        device: what computes it, a `jax.Device`.
    """
    if configs.dtype_of(config) != "float32" or device.platform == "cpu":
        return configs.dtype_of(config)
    asked = config.train.matmul_precision
    if asked == "default":
        asked = jax.config.values["jax_default_matmul_precision"] or "default"
    if device.platform == "tpu":
        return "bfloat16" if asked == "default" else str(asked)
    # ROCm's devices have other numbers, such as "gfx90a", and no TensorFloat-32.
    capability = re.fullmatch(r"(\d+)\.\d+", str(getattr(device, "compute_capability", "")))
    rounds = capability is not None and int(capability[1]) >= 8
    if asked in ("default", "tensorfloat32"):
        return "tensorfloat32" if rounds else "float32"
    return str(asked)


def _comparable_report(experiment: Experiment, reported: LabReport | None) -> LabReport | None:
    """Returns the lab report's accuracies if they were measured on this data set, else None."""
    dataset = experiment.dataset
    measured_here = reported is not None and dataset.name == reported.data
    return reported if measured_here and is_original(dataset.name, dataset.title) else None


def _confusion_csv(confusion: np.ndarray, class_names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true \\ predicted", *class_names])
    writer.writerows(
        [name, *row] for name, row in zip(class_names, confusion.tolist(), strict=True)
    )
    return text.getvalue()
