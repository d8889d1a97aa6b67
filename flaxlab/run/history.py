"""The history of a run as CSV and JSON, and its best epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from flaxlab.training.metrics import History, Metrics, Row, no_metrics

COLUMNS = tuple(field.name for field in fields(Row))


def best_row(history: Sequence[Row]) -> Row:
    """Returns the row with the highest validation accuracy; of equals, the earliest."""
    return max(history, key=lambda row: (row.val_accuracy, -row.epoch))


def to_csv(history: Sequence[Row]) -> str:
    """Returns the history as CSV text, in full float precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return text.getvalue()


def saved_epochs(folder: Path) -> int:
    """Counts the epochs of a run that are saved.

    Raises:
        FileNotFoundError: there is no history.csv yet.
    """
    return len((folder / "history.csv").read_text().splitlines()) - 1


def to_json(history: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns the rows as plain dicts."""
    return [asdict(row) for row in history]


def from_json(rows: Iterable[Mapping[str, Any]]) -> History:
    """Reads back what `to_json` returned; columns that a row lacks have their defaults."""
    return [Row(**row) for row in rows]


def to_numbers(metrics: Metrics) -> dict[str, float]:
    """Returns the fields as Python numbers, exactly; JSON keeps them as they are."""
    found = jax.device_get(metrics)
    return {field.name: getattr(found, field.name).item() for field in fields(found)}


def from_numbers(numbers: dict[str, float]) -> Metrics:
    """Reads back what `to_numbers` returned, to the bit."""
    like = no_metrics()
    arrays = {name: jnp.asarray(n, getattr(like, name).dtype) for name, n in numbers.items()}
    return like.replace(**arrays)
