"""What a trained model said of each example of the split that its run reports.

`predictions.npz` has one of two forms: "logits" and "labels" as a run writes them, or "predicted",
"losses" and "labels", a twentieth of the size, as a ledger keeps them.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxlab.errors import UsageError

PREDICTIONS_FILE = "predictions.npz"


class Predictions(NamedTuple):
    """What a model said of N examples.

    Attributes:
        labels: what they are, integers (N,).
        predicted: class with the largest logit, integers (N,).
        losses: cross entropies in nats, floats (N,).
        probabilities: of each class, float64 (N, classes); None in the small form.
    """

    labels: np.ndarray
    predicted: np.ndarray
    losses: np.ndarray
    probabilities: np.ndarray | None = None


def read_predictions(folder: Path) -> Predictions:
    """Returns the predictions of the run in `folder`, in whichever form they are kept.

    Raises:
        UsageError: predictions.npz is missing or damaged.
    """
    path = folder / PREDICTIONS_FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            if "logits" in stored:
                return from_logits(stored["logits"], stored["labels"])
            return Predictions(*(stored[field] for field in ("labels", "predicted", "losses")))
    except (ValueError, LookupError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read ({error}); make the run again") from error


def from_logits(logits: np.ndarray, labels: np.ndarray) -> Predictions:
    """Returns the predictions that logits make.

    Args:
        logits: float32 (N, classes).
        labels: int32 (N,).
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    sums = np.log(np.exp(shifted).sum(axis=1))
    losses = sums - shifted[np.arange(len(labels)), labels]
    return Predictions(labels, logits.argmax(axis=1), losses, np.exp(shifted - sums[:, None]))


def full_form(logits: np.ndarray, labels: np.ndarray) -> bytes:
    """Returns the file of logits, float32 (N, classes), and labels, int32 (N,)."""
    return _npz(logits=logits, labels=labels)


def compact_form(predictions: Predictions) -> bytes:
    """Returns the file of classes as small integers and losses as float16."""
    most = np.finfo(np.float16).max
    return _npz(
        labels=_small(predictions.labels),
        predicted=_small(predictions.predicted),
        losses=np.minimum(predictions.losses, most).astype(np.float16),
    )


def _small(classes: np.ndarray) -> np.ndarray:
    return classes.astype(np.min_scalar_type(int(classes.max(initial=0))))


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
