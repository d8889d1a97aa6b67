"""What logits and labels say about a classifier."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ClassScores(NamedTuple):
    """Scores of each class, float64 (classes,); 0 where a score is not defined.

    Attributes:
        precision: share of the examples predicted as the class that belong to it.
        recall: share of the examples of the class that were predicted as it.
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
    """Counts examples, int64 (classes, classes): rows are labels, columns predictions."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Scores each class by its row and column of a confusion matrix."""
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
        probabilities: of each class, floats (N, classes).
        labels: integers (N,).

    Returns:
        From 0, certain and right, to 2, certain and wrong.
    """
    missed = probabilities.copy()
    missed[np.arange(len(labels)), labels] -= 1
    return float(np.mean(np.sum(missed**2, axis=1)))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Returns by how much the predicted class's probability misses the share that is right.

    The expected calibration error (Guo, Pleiss, Sun and Weinberger, 2017): predictions are put
    into bins of equal width by their probability, and the distances of the bins' mean probability
    and accuracy are averaged, weighted by their sizes.

    Args:
        probabilities: of each class, floats (N, classes).
        labels: integers (N,).
        bins: how many.

    Returns:
        From 0 to 1.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, right - confidence)).sum() / len(labels))


def most_confident_mistakes(logits: np.ndarray, labels: np.ndarray, count: int) -> list[Mistake]:
    """Lists up to `count` wrong predictions, the most probable first.

    Args:
        logits: floats (N, classes).
        labels: integers (N,).
        count: the most to list.
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
