"""The history of a run: one row an epoch, and what follows from it."""

from __future__ import annotations

import csv
import io
from typing import Any

History = list[dict[str, Any]]

COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
    "penalty",
    "images_per_second",
    "skipped_steps",
)


def to_csv(history: History) -> str:
    """Returns the history as CSV text, in full float precision."""
    text = io.StringIO()
    # Rows of older versions lack the last column: they skipped no step.
    writer = csv.DictWriter(text, COLUMNS, restval=0, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def best_row(history: History) -> dict[str, Any]:
    """Returns the row with the highest validation accuracy; of equals, the earliest."""
    return max(history, key=lambda row: (row["val_accuracy"], -row["epoch"]))


def should_stop(history: History, patience: int, min_delta: float) -> bool:
    """Whether early stopping ends the run: `patience` epochs without a better one.

    Better means a validation accuracy of more than `min_delta` above the best before it. A
    patience of 0 never stops. A function of the history alone, so that a resumed run decides
    like one that never stopped.
    """
    if patience == 0:
        return False
    best, waited = float("-inf"), 0
    for row in history:
        if row["val_accuracy"] > best + min_delta:
            best, waited = row["val_accuracy"], 0
        else:
            waited += 1
    return waited >= patience
