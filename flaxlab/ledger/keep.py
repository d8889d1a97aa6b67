"""Checks which runs belong in a ledger, and writes their small files to it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flaxlab import config as configs
from flaxlab import files
from flaxlab.compare.runs import Run, find_runs
from flaxlab.compare.suite_file import SuiteRecord, read_suite_file, write_suite_file
from flaxlab.config.find import experiment_file
from flaxlab.config.read import load_experiment
from flaxlab.errors import UsageError
from flaxlab.run.directory import SUITE_FILE
from flaxlab.run.origin import with_shape_of_run
from flaxlab.scores import PREDICTIONS_FILE, Predictions, compact_form
from flaxlab.suite.plan import plan_suite, suite_record

LARGEST = 40 * 1024  # bytes that a run may take

_KEPT = ("config.json", "history.csv", PREDICTIONS_FILE, "summary.json")
# Options of flaxlab.suite that name a folder.
_PLACES = ("--workdir", "--config.data.data_dir", "--config.data.folder", "--config.data.file")
# Fields of config.data that name a place on this machine, as a ledger has them.
_NO_PLACES = {"data_dir": None, "folder": None, "file": None}

# The relative rounding error of a loss in float16 is at most 1/2048.
_LOSS_TOLERANCE = 1e-3


def keep_runs(
    folder: Path,
    to: Path | None,
    experiments: Sequence[Path] = (),
    suite: Path | None = None,
) -> Iterator[str]:
    """Checks every finished run in `folder` and keeps it under `to`, at the same relative path.

    Args:
        folder: folder with runs, at any depth.
        to: ledger folder; None: only check that the runs have been kept properly.
        experiments: folders of experiment files that take precedence over flaxlab's own.
        suite: file of the suite that the runs belong to, if they were made one by one: a suite.json
            with its claims is kept with them.

    Yields:
        A line about each run, finished or not.

    Raises:
        UsageError: a run does not belong in a ledger; those before it are kept. Or `suite` is not
            the suite of the runs, or its claims are not those of an existing suite.json.
    """
    runs, unfinished = find_runs([folder])
    record = None if suite is None else _record_of(suite, runs, [folder, to or folder])
    for run in runs:
        check_run(run, experiments)
        line = f"{run.folder}: accuracy {run.scores.accuracy:.4f}"
        if to is None:
            _require_kept(run)
            yield f"{line}, kept properly"
        else:
            place = to / run.folder.relative_to(folder)
            yield f"{line}, {keep_run(run, place):,} bytes in {place}"
    if to is not None:
        for file in folder.rglob(SUITE_FILE):
            stored = read_suite_file(file.parent)
            if stored is not None:
                _write_suite(stored, to / file.parent.relative_to(folder))
        if record is not None:
            _write_suite(record, to)
    yield from map(str, unfinished)


def _record_of(file: Path, runs: Sequence[Run], places: Sequence[Path]) -> SuiteRecord:
    """Returns the record that the suite would have written if it had made the runs."""
    config = f"--config=experiments/suites/{file.name}"
    command = shlex.join(["python", "-m", "flaxlab.suite", config])
    record = suite_record(plan_suite(file, None, []), command)
    strangers = sorted({run.config.name for run in runs} - set(record.arms))
    if strangers:
        raise UsageError(
            f"--suite={file} is not the suite of these runs: {', '.join(strangers)} is not among"
            f" its arms ({', '.join(record.arms)})"
        )
    for place in places:
        before = read_suite_file(place)
        if before is not None and before.claims != record.claims:
            raise UsageError(
                f"{place / SUITE_FILE} has other claims than {file}; leave out --suite to keep"
                " those, which were written first, or remove that file"
            )
    # Nobody knows how many runs were planned.
    return replace(record, seeds=())


def _write_suite(record: SuiteRecord, folder: Path) -> None:
    words = shlex.split(record.command)
    command = shlex.join(word for word in words if not word.startswith(_PLACES))
    write_suite_file(replace(record, command=command), folder)


def check_run(run: Run, experiments: Sequence[Path] = ()) -> None:
    """Raises a `UsageError` if a run does not belong in a ledger.

    It does not if its code had uncommitted changes, if its config is not that of its experiment
    file, or if its numbers do not follow from its predictions.
    """
    revisions = {"flaxlab": run.summary["versions"].get("git")}
    if "experiment_git" in run.summary:
        revisions["its experiment file"] = run.summary["experiment_git"]
    for what, revision in revisions.items():
        if not revision or "changes" in revision or "dirty" in revision:
            state = f"was at {revision}" if revision else "had no revision"
            raise UsageError(
                f"{run.folder} does not belong in a ledger: {what} {state}; commit, and repeat"
                " the run"
            )
    file = experiment_file(run.config.name, experiments)
    original = with_shape_of_run(load_experiment(file), run.config)
    changed = configs.differences_but_seed(original, run.config)
    if changed:
        raise UsageError(
            f"{run.folder} does not belong in a ledger: its config is not that of"
            f" {run.config.name}.py ({configs.describe(changed)}); make an experiment file for it"
        )
    _check_numbers(run, run.predictions)


def _check_numbers(run: Run, predictions: Predictions) -> None:
    accuracy = float(np.mean(predictions.predicted == predictions.labels))
    loss = float(np.mean(predictions.losses, dtype=np.float64))
    summary = run.summary
    pairs = {
        "accuracy": (run.scores.accuracy, accuracy, 1e-9),
        "loss": (summary.get("test_loss", summary["final_val_loss"]), loss, _LOSS_TOLERANCE * loss),
        "examples": (summary["test_examples"], len(predictions.labels), 0),
        "epochs": (summary["epochs"], len(run.history["epoch"]), 0),
        "final_val_accuracy": (summary["final_val_accuracy"], run.scores.final_accuracy, 0),
    }
    # The small form cuts losses off at what float16 holds: their mean may then be too small.
    cut = bool(np.max(predictions.losses) >= np.finfo(np.float16).max)
    for name, (said, found, tolerance) in pairs.items():
        higher = name == "loss" and cut and said > found
        if abs(said - found) > tolerance and not higher:
            raise UsageError(
                f"{run.folder} does not belong in a ledger: its summary says {name} {said}, but"
                f" its predictions and history give {found}; repeat the run"
            )


def _require_kept(run: Run) -> None:
    size = sum((run.folder / name).stat().st_size for name in _KEPT)
    data = run.config.data
    if size > LARGEST or any(data[key] for key in _NO_PLACES) or run.command != _command(run):
        raise UsageError(
            f"{run.folder} has not been stripped yet; python -m flaxlab.ledger {run.folder} does"
            " that"
        )


def keep_run(run: Run, place: Path) -> int:
    """Writes the small files of a finished run to `place`, and returns their size in bytes.

    If `place` is the run's own folder, they replace its files.

    Raises:
        UsageError: they would be larger than `LARGEST`.
    """
    config = configs.to_dict(run.config)
    kept = {
        "config.json": _json({**config, "data": {**config["data"], **_NO_PLACES}}),
        "history.csv": (run.folder / "history.csv").read_bytes(),
        PREDICTIONS_FILE: compact_form(run.predictions),
        # Last: a run directory with a summary counts as complete.
        "summary.json": _json({**run.summary, "command": _command(run)}),
    }
    size = sum(map(len, kept.values()))
    if size > LARGEST:
        raise UsageError(
            f"{run.folder} would take {size:,} bytes in the ledger, but a run may take at most"
            f" {LARGEST:,}: its test split is too large to be kept"
        )
    place.mkdir(parents=True, exist_ok=True)
    for name, content in kept.items():
        files.write_bytes(place / name, content)
    return size


def _command(run: Run) -> str:
    config = f"--config=experiments/{run.config.name}.py"
    return shlex.join(["python", "-m", "flaxlab.main", config, f"--config.seed={run.seed}"])


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, allow_nan=False) + "\n").encode()
