"""Scores of a classifier from its logits and labels, and the file that keeps its predictions.

`predictions.npz` holds "logits" and "labels", as a run writes them, or "predicted", "losses" and
"labels", a twentieth of the size, as a ledger keeps them.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxlab.errors import UsageError

PREDICTIONS_FILE = "predictions.npz"


class ClassScores(NamedTuple):
    """Scores of each class, float64 (classes,); 0 where a score is undefined.

    Attributes:
        precision: share of the examples predicted as the class that belong to it.
        recall: share of the examples of the class that are predicted as the class.
        f1: harmonic mean of the two.
        support: number of examples of the class.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


class Mistake(NamedTuple):
    """One wrong prediction: the example, its label, the predicted class and its probability."""

    example: int
    label: int
    predicted: int
    probability: float


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts examples: int64 (classes, classes), rows are labels, columns predictions."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Returns the scores of each class from a confusion matrix, see `confusion_matrix`."""
    hits = np.diag(confusion).astype(float)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, support + predicted),
        support=support,
    )


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax of logits (N, classes), in float64."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True).astype(np.float64))
    return exponents / exponents.sum(axis=1, keepdims=True)


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean squared distance from probabilities to the labels (Brier, 1950).

    Args:
        probabilities: probability of each class, floats (N, classes).
        labels: integers (N,).

    Returns:
        From 0, certain and right, to 2, certain and wrong.
    """
    missed = probabilities.copy()
    missed[np.arange(len(labels)), labels] -= 1
    return float(np.mean(np.sum(missed**2, axis=1)))


class Reliability(NamedTuple):
    """Predictions by how sure they are, float64 (bins,) each; NaN for the means of an empty bin.

    Attributes:
        examples: number of predictions.
        confidence: mean probability of the predicted class.
        accuracy: share that is right.
    """

    examples: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Returns what a reliability diagram shows (Guo, Pleiss, Sun and Weinberger, 2017).

    Args:
        probabilities: probability of each class, floats (N, classes).
        labels: integers (N,).
        bins: how many, of equal width, for the probability of the predicted class.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    examples, sure, hits = (
        np.bincount(place, weights, bins) for weights in (np.ones(len(labels)), confidence, right)
    )
    empty = np.where(examples > 0, examples, np.nan)
    return Reliability(examples, sure / empty, hits / empty)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Returns by how much the predicted class's probability misses the share that is right.

    The expected calibration error of the same authors: the distances of the bins' confidence and
    accuracy are averaged, weighted by their examples.

    Args:
        probabilities: probability of each class, floats (N, classes).
        labels: integers (N,).
        bins: see `reliability`.

    Returns:
        From 0 to 1.
    """
    found = reliability(probabilities, labels, bins)
    gaps = np.abs(found.accuracy - found.confidence)
    return float(np.nansum(found.examples * gaps) / len(labels))


def most_confident_mistakes(logits: np.ndarray, labels: np.ndarray, count: int) -> list[Mistake]:
    """Returns up to `count` wrong predictions, the most probable first.

    Args:
        logits: floats (N, classes).
        labels: integers (N,).
        count: maximum number of mistakes.
    """
    scores = probabilities(logits)
    predicted = logits.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    confidence = scores[wrong, predicted[wrong]]
    chosen = wrong[np.argsort(-confidence, kind="stable")][:count]
    return [
        Mistake(int(i), int(labels[i]), int(predicted[i]), float(scores[i, predicted[i]]))
        for i in chosen
    ]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


class Predictions(NamedTuple):
    """What a model predicts for N examples.

    Attributes:
        labels: true classes, integers (N,).
        predicted: classes with the largest logit, integers (N,).
        losses: cross entropies in nats, floats (N,).
        probabilities: probability of each class, float64 (N, classes); None in the small form.
    """

    labels: np.ndarray
    predicted: np.ndarray
    losses: np.ndarray
    probabilities: np.ndarray | None = None


def from_logits(logits: np.ndarray, labels: np.ndarray) -> Predictions:
    """Returns the predictions from logits, float32 (N, classes), and labels, int32 (N,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    sums = np.log(np.exp(shifted).sum(axis=1))
    losses = sums - shifted[np.arange(len(labels)), labels]
    return Predictions(labels, logits.argmax(axis=1), losses, np.exp(shifted - sums[:, None]))


def read_predictions(folder: Path) -> Predictions:
    """Returns the predictions of the run in `folder`, from either form of the file.

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
        raise UsageError(f"{path} cannot be read ({error}); run the experiment again") from error


def full_form(logits: np.ndarray, labels: np.ndarray) -> bytes:
    """Returns the file of logits, float32 (N, classes), and labels, int32 (N,)."""
    return _npz(logits=logits, labels=labels)


def compact_form(predictions: Predictions) -> bytes:
    """Returns the file of classes as small integers and losses as float16."""
    largest = np.finfo(np.float16).max
    return _npz(
        labels=_small(predictions.labels),
        predicted=_small(predictions.predicted),
        losses=np.minimum(predictions.losses, largest).astype(np.float16),
    )


def _small(classes: np.ndarray) -> np.ndarray:
    return classes.astype(np.min_scalar_type(int(classes.max(initial=0))))


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
