"""The numbers of one run that a comparison uses, from what its run directory holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from flaxlab.scores import Predictions, brier_score, calibration_error

# Fields of `RunScores` that lie in [0, 1].
SHARES = (
    "accuracy",
    "final_accuracy",
    "best_accuracy",
    "late_accuracy",
    "mean_accuracy",
    "train_accuracy",
    "fitted_accuracy",
)

# Those that are differences of two such.
GAPS = ("gap", "keras_gap")

LATE = 3  # epochs


@dataclass(frozen=True)
class RunScores:
    """The numbers of one run that are compared; accuracies are shares, times seconds.

    None stands for what the run does not say.

    Attributes:
        accuracy: what the protocol reports: validation accuracy of the last epoch, or, with a
            holdout, test accuracy of the best epoch.
        final_accuracy: validation accuracy of the last epoch.
        best_accuracy: highest validation accuracy of an epoch.
        late_accuracy: mean validation accuracy of the last three epochs.
        mean_accuracy: mean validation accuracy of all epochs: the area under the curve, higher for
            a run that learns faster.
        late_spread: how far the validation accuracy of an epoch is from the next one's, see
            `spread_between_epochs`.
        train_accuracy: mean over the last epoch, in training mode: what Keras shows.
        fitted_accuracy: accuracy on training examples, in evaluation mode, of the same state.
        gap: fitted accuracy minus `accuracy`, both in evaluation mode.
        keras_gap: train minus final accuracy, with dropout on in one and off in the other.
        cross_entropy: cross entropy of the split that `accuracy` is about, in nats.
        brier: Brier score of the same.
        calibration_error: expected calibration error of the same.
        seconds: time of all epochs.
    """

    accuracy: float
    final_accuracy: float
    best_accuracy: float
    late_accuracy: float
    mean_accuracy: float
    late_spread: float | None
    train_accuracy: float
    fitted_accuracy: float | None
    gap: float | None
    keras_gap: float
    cross_entropy: float
    brier: float | None
    calibration_error: float | None
    seconds: float

    def as_dict(self) -> dict[str, float]:
        """Returns {field: value} of the values that are known."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def score_run(
    summary: Mapping[str, Any], history: Mapping[str, np.ndarray], predictions: Predictions
) -> RunScores:
    """Returns the numbers of one run.

    Args:
        summary: the contents of summary.json.
        history: the columns of history.csv, float64 (epochs,) each.
        predictions: what it said of each example of the split that it reports.
    """
    validation = history["val_accuracy"]
    final, train = float(validation[-1]), float(history["train_accuracy"][-1])
    fitted = summary.get("fitted_accuracy")
    shares, labels = predictions.probabilities, predictions.labels
    accuracy = float(summary.get("test_accuracy", final))
    return RunScores(
        accuracy=accuracy,
        final_accuracy=final,
        best_accuracy=float(validation.max()),
        late_accuracy=float(validation[-LATE:].mean()),
        mean_accuracy=float(validation.mean()),
        late_spread=spread_between_epochs(validation),
        train_accuracy=train,
        fitted_accuracy=fitted,
        gap=None if fitted is None else fitted - accuracy,
        keras_gap=train - final,
        cross_entropy=float(summary.get("test_loss", history["val_loss"][-1])),
        brier=None if shares is None else brier_score(shares, labels),
        calibration_error=None if shares is None else calibration_error(shares, labels),
        seconds=float(history["seconds"].sum()),
    )


def spread_between_epochs(accuracies: np.ndarray) -> float | None:
    """Returns the standard deviation of an epoch's accuracy about the line between its neighbours.

    By the mean square of the second differences in the second half of the curve, which is 6 times
    the variance of independent epochs: successive differences (von Neumann, Kent, Bellinson and
    Hart, 1941) freed from a trend, so that an arm that still rises does not seem unstable.

    Args:
        accuracies: one an epoch, (epochs,).

    Returns:
        The spread; None if the second half has fewer than three epochs.
    """
    late = accuracies[(len(accuracies) - 1) // 2 :]
    if len(late) < 3:
        return None
    return float(np.sqrt(np.mean(np.diff(late, 2) ** 2) / 6))
