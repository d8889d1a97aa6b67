"""The history of a run as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from flaxlab.training.metrics import History, Row


def to_csv(history: Sequence[Row]) -> str:
    """Returns the history as CSV text, in full float precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return text.getvalue()


def to_json(history: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns the rows as plain dicts."""
    return [asdict(row) for row in history]


def from_json(rows: Iterable[Mapping[str, Any]]) -> History:
    """Reads back what `to_json` returned; columns that a row lacks have their defaults."""
    return [Row(**row) for row in rows]
