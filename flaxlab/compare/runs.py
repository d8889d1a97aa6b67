"""Finds finished runs, reads what a comparison needs of them, and refuses what does not belong."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flaxlab import config as configs
from flaxlab.compare.run_scores import RunScores, score_run
from flaxlab.config import ConfigDict, LabReport
from flaxlab.config.fields import PROTOCOL, fixed_differences
from flaxlab.config.rules import complete
from flaxlab.errors import Diverged, UsageError
from flaxlab.run.directory import FAILURE_FILE
from flaxlab.run.history import saved_epochs
from flaxlab.scores import Predictions, confusion_matrix, read_predictions
from flaxlab.texts import count_text

# What a comparison takes from summary.json.
_NEEDED = (
    "dataset",
    "dataset_fingerprint",
    "train_examples",
    "test_examples",
    "parameters_total",
    "device",
    "versions",
    "classes",
)


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        folder: its run directory.
        config: resolved.
        summary: the contents of summary.json.
        lab_report: what the lab report has of its network; None where it has nothing.
        departures: where its config is not that of its experiment file, {path: (in the file, in
            the run)}; None for runs of an older version, which do not say.
        history: the columns of history.csv, float64 (epochs,) each.
        predictions: what it said of each example of the split that `scores.accuracy` is about.
        scores: what is compared.
    """

    folder: Path
    config: ConfigDict
    summary: dict[str, Any]
    lab_report: LabReport | None
    departures: dict[str, tuple[Any, Any]] | None
    history: dict[str, np.ndarray]
    predictions: Predictions
    scores: RunScores

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.config.seed)

    @property
    def command(self) -> str:
        """With which it was made; runs of an older version do not say."""
        return str(self.summary.get("command", f"# {self.folder}"))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.summary["classes"])

    @property
    def guessing(self) -> float:
        """Accuracy of always naming the test split's commonest class."""
        counts = np.bincount(self.predictions.labels)
        return float(counts.max() / counts.sum())

    @property
    def right(self) -> np.ndarray:
        """Whether it got each test image right, bool (images,)."""
        return self.predictions.predicted == self.predictions.labels

    def confusion(self) -> np.ndarray:
        """Counts its predictions, int64 (classes, classes): rows true, columns predicted."""
        return confusion_matrix(self.predictions.labels, self.predictions.predicted, self.classes)


@dataclass(frozen=True)
class Unfinished:
    """A run that was begun and is not finished.

    Attributes:
        folder: its run directory.
        config: resolved.
        epochs: how many are saved.
        ended_by: "divergence" if a number was not finite, "error" for what else ended it, by its
            failure.txt; "" if it was stopped, or goes on.
    """

    folder: Path
    config: ConfigDict
    epochs: int
    ended_by: str

    def __str__(self) -> str:
        failure = " It failed: see failure.txt." if self.ended_by else ""
        epochs = count_text(self.epochs, "epoch")
        return f"{self.folder} is not finished ({epochs}) and left out.{failure}"


def find_runs(folders: Iterable[Path]) -> tuple[list[Run], list[Unfinished]]:
    """Reads every run in `folders` and below.

    Returns:
        The finished runs, and those that are not.

    Raises:
        UsageError: a folder is missing or holds no finished run, or a run cannot be read.
    """
    runs: dict[Path, Run] = {}
    unfinished: dict[Path, Unfinished] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}")
        found, left_out = 0, []
        for config_file in sorted(folder.rglob("config.json")):
            place = config_file.parent
            if (place / "summary.json").is_file():
                found += 1
                if place.resolve() not in runs:
                    runs[place.resolve()] = _read(place)
            elif (place / "history.csv").is_file():
                left_out.append(place)
                unfinished[place.resolve()] = _unfinished(place)
        if not found and left_out:
            raise UsageError(
                f"none of the {len(left_out)} runs in {folder} is finished; start the command that"
                " made them again, and they resume where they stopped"
            )
        if not found:
            raise UsageError(
                f"there is no run in {folder}; expected run directories as flaxlab.main and"
                " flaxlab.suite make them, at any depth"
            )
    return list(runs.values()), list(unfinished.values())


def _read(folder: Path) -> Run:
    try:
        stored = json.loads((folder / "config.json").read_text())
        config = _complete(stored)
        summary = json.loads((folder / "summary.json").read_text())
        for key in _NEEDED:
            summary[key]
        with (folder / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        predictions = read_predictions(folder)
        history = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
        return Run(
            folder=folder,
            config=config,
            summary=summary,
            lab_report=_lab_report(summary, stored),
            departures=configs.lists_to_tuples(summary.get("departures")),
            history=history,
            # Of many classes and runs, they would fill the memory.
            predictions=predictions._replace(probabilities=None),
            scores=score_run(summary, history, predictions),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OSError, UsageError) as error:
        raise UsageError(
            f"the run in {folder} cannot be read ({type(error).__name__}: {error}); remove the"
            " folder, or make the run again"
        ) from error


def _lab_report(summary: dict[str, Any], stored: dict[str, Any]) -> LabReport | None:
    if "lab_report" in summary:
        return LabReport.from_json(summary["lab_report"])
    older = stored.get("reported", {})  # before it left the config
    return LabReport(**older) if older.get("final_accuracy") is not None else None


def _complete(stored: dict[str, Any]) -> ConfigDict:
    return complete(configs.from_dict(stored))


def ended_by(folder: Path) -> str:
    """Returns what ended a run that is not finished, see `Unfinished.ended_by`."""
    failure = folder / FAILURE_FILE
    if not failure.is_file():
        return ""
    return "divergence" if Diverged.__name__ in failure.read_text() else "error"


def _unfinished(folder: Path) -> Unfinished:
    return Unfinished(
        folder=folder,
        config=_complete(json.loads((folder / "config.json").read_text())),
        epochs=max(saved_epochs(folder), 0),
        ended_by=ended_by(folder),
    )


def group_by_arm(runs: Sequence[Run]) -> dict[str, dict[int, Run]]:
    """Returns {arm: {seed: run}}: the runs of an arm differ in nothing but the seed.

    An arm is called after its experiment; where several arms share that name, with the values in
    which they differ.

    Raises:
        UsageError: two runs have the same config and seed and other results, or two arms the same
            config.
    """
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            same_name = group[0].config.name == run.config.name
            if same_name and not configs.differences_but_seed(group[0].config, run.config):
                group.append(run)
                break
        else:
            groups.append([run])
    for index, group in enumerate(groups):
        for other in groups[:index]:
            if not configs.differences_but_seed(group[0].config, other[0].config):
                raise UsageError(
                    f"the arms {other[0].config.name} and {group[0].config.name} have the same"
                    " config: there is nothing to compare; leave one out"
                )
    return {_label(group[0], groups): _by_seed(group) for group in groups}


def _by_seed(group: Sequence[Run]) -> dict[int, Run]:
    seeds: dict[int, Run] = {}
    for run in sorted(group, key=lambda run: run.seed):
        same = seeds.setdefault(run.seed, run)
        # Two suites may share an arm, and a ledger may keep a run without some of its numbers: of
        # two runs that agree in those that both have, one is enough.
        ours, theirs = same.scores.as_dict(), run.scores.as_dict()
        if any(ours[key] != theirs[key] for key in ours.keys() & theirs.keys() - {"seconds"}):
            raise UsageError(
                f"{same.folder} and {run.folder} are the same experiment with the same seed, but"
                " differ in their results; leave one out"
            )
    return seeds


def _label(run: Run, groups: Sequence[Sequence[Run]]) -> str:
    name = run.config.name
    namesakes = [group[0].config for group in groups if group[0].config.name == name]
    differing = {
        path for other in namesakes for path in configs.differences_but_seed(run.config, other)
    }
    values = dict(configs.flatten(run.config))
    return " ".join([name, *(f"{path}={values[path]}" for path in sorted(differing))])


def require_one_protocol(runs: Sequence[Run], vary: Iterable[str]) -> None:
    """Checks that all runs saw the same data and were trained in the same way.

    Args:
        runs: at least one.
        vary: fields of the protocol, or groups of them, that may differ.

    Raises:
        UsageError: says which two runs differ, and in what.
    """
    if any("data.validation".startswith(field) for field in vary):
        raise UsageError("--vary=data.validation: accuracies of two kinds cannot be compared")
    first = runs[0]
    for run in runs[1:]:
        changed = fixed_differences(first.config, run.config, PROTOCOL, vary)
        if changed:
            raise UsageError(
                f"{first.folder} and {run.folder} follow different protocols"
                f" ({configs.describe(changed)}); compare them apart, or allow it:"
                f" --vary={','.join(changed)}"
            )
        a, b = (each.summary["dataset_fingerprint"] for each in (first, run))
        if a != b and not any(field.split(".")[0] == "data" for field in vary):
            raise UsageError(
                f"{first.folder} and {run.folder} were made on different data"
                f" ({first.summary['dataset']}, {run.summary['dataset']}); compare them apart"
            )


def computed_on(run: Run) -> str:
    """Returns what computed a run: its accelerator, or the processor."""
    accelerator = re.search(r" x (?:gpu|tpu) \((.*)\)$", run.summary["device"])
    if accelerator:
        return accelerator[1]
    return str(run.summary.get("machine") or run.summary["device"])
