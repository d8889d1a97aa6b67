"""The best epoch of a history, history.csv, and metrics as JSON."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from flaxlab import files
from flaxlab.processes import is_main
from flaxlab.training.metrics import Metrics, Row, no_metrics

_log = logging.getLogger(__name__)

COLUMNS = tuple(field.name for field in fields(Row))


def best_row(history: Sequence[Row]) -> Row:
    """Returns the row with the highest validation accuracy, the earliest if several have it."""
    return max(history, key=lambda row: row.val_accuracy)


def values_of_epoch(row: Row) -> dict[str, float]:
    """Returns what charts over the epochs show, by name; training and validation share a group."""
    return {
        "loss/train": row.train_loss,
        "loss/validation": row.val_loss,
        "loss/penalty": row.penalty,
        "accuracy/train": row.train_accuracy,
        "accuracy/validation": row.val_accuracy,
        "learning_rate": row.learning_rate,
        "images_per_second": row.images_per_second,
    }


def to_csv(history: Sequence[Row]) -> str:
    """Returns the history as CSV text, in full float precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return text.getvalue()


def from_csv(text: str) -> list[Row]:
    """Returns the history that `to_csv` was given; columns of later versions are left out.

    Raises:
        ValueError, TypeError: the text is something else, or was cut.
    """
    kinds = {field.name: int if field.type == "int" else float for field in fields(Row)}
    rows: list[Row] = []
    reader = csv.DictReader(text.splitlines())
    if not reader.fieldnames or reader.fieldnames[0] != COLUMNS[0]:
        raise ValueError(f"it does not begin with the column {COLUMNS[0]}")
    for row in reader:
        values: dict[str, Any] = {key: kinds[key](row[key]) for key in row.keys() & kinds.keys()}
        rows.append(Row(**values))
    return rows


def read_history(path: Path) -> list[Row]:
    """Returns the rows of a history.csv; none if there is no such file."""
    return from_csv(path.read_text()) if path.is_file() else []


def saved_epochs(folder: Path) -> int:
    """Returns the number of epochs that a run has saved.

    Raises:
        FileNotFoundError: there is no history.csv yet.
    """
    return len((folder / "history.csv").read_text().splitlines()) - 1


def to_numbers(metrics: Metrics) -> dict[str, float]:
    """Returns the fields as Python numbers, which JSON keeps exactly."""
    found = jax.device_get(metrics)
    return {field.name: getattr(found, field.name).item() for field in fields(found)}


def from_numbers(numbers: dict[str, float]) -> Metrics:
    """Returns the metrics that `to_numbers` was given, bit for bit."""
    like = no_metrics()
    arrays = {name: jnp.asarray(n, getattr(like, name).dtype) for name, n in numbers.items()}
    return like.replace(**arrays)


class HistoryFile:
    """history.csv of a run: written when there are more epochs, and only by the first process."""

    def __init__(self, path: Path) -> None:
        """Keeps the path, and writes nothing yet."""
        self._path = path
        self._written: int | None = None  # number of rows; None: the file must be written

    def write(self, history: Sequence[Row]) -> None:
        """Writes a history unless it has as many rows as the last one; warns once if it fails."""
        if not is_main() or len(history) == self._written:
            return
        try:
            files.write_text(self._path, to_csv(history))
            self._written = len(history)
        except OSError as error:
            if self._written is not None:
                _log.warning("warning: %s could not be written (%s)", self._path, error.strerror)
            self._written = None
