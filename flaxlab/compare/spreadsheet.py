"""The numbers of a comparison as CSV, for other programs."""

from __future__ import annotations

import csv
import io
import itertools

from flaxlab.compare.results import Comparison
from flaxlab.compare.statistics import Estimate

# Columns of comparison.csv that have a mean alone.
_MEANS = (
    "mean_accuracy",
    "late_spread",
    "train_accuracy",
    "fitted_accuracy",
    "gap",
    "keras_gap",
    "cross_entropy",
    "brier",
    "calibration_error",
    "seconds",
)


def to_csv(comparison: Comparison) -> str:
    """Returns the numbers of the arms as CSV, in full float precision; shares, not percent."""
    rows, text = to_rows(comparison), io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_rows(comparison: Comparison) -> list[dict[str, object]]:
    """Returns a row for each arm, the baseline's first; its keys are the columns of the CSV."""
    rows = []
    for arm in comparison.arms:
        row: dict[str, object] = {
            "arm": arm.name,
            "seeds": " ".join(map(str, arm.outcomes.learned)),
            "count": len(arm.outcomes.learned),
            "planned": arm.outcomes.planned,
            **{name: len(found) for name, found in vars(arm.outcomes).items() if name != "learned"},
            "dataset": arm.first.summary["dataset"],
            "train_examples": arm.first.summary["train_examples"],
            "test_examples": arm.first.summary["test_examples"],
            "epochs": arm.first.config.train.epochs,
            "not_the_experiments_protocol": comparison.departures_text,
            "outcome": comparison.design.outcome,
            "test": comparison.design.test,
        }
        for key in ("accuracy", "final_accuracy", "best_accuracy", "late_accuracy"):
            row |= _columns(key, arm.means[key])
        for key in _MEANS:
            row[key] = arm.means[key].mean if key in arm.means else None
        difference = arm.difference
        errors = difference.errors if difference else None
        paired = difference.pairing if difference else None
        row |= _columns("difference", difference.estimate if difference else None)
        row |= {
            "p": difference and difference.p,
            "sign_flip_p": difference and difference.sign_flip_p,
            "detectable_difference": difference and difference.detectable,
            "more_seeds": difference and difference.more_seeds,
            "spread": arm.spread and arm.spread.seen,
            "spread_by_images": arm.spread and arm.spread.by_images,
            "error_seeds": errors and errors.seeds,
            "error_images": errors and errors.images,
            "error_both": errors and errors.both,
            "correlation": paired and paired.correlation,
            "word": arm.word,
            "verdict": arm.verdict,
            "prediction_low": arm.prediction.low,
            "prediction_high": arm.prediction.high,
            "reported_final": arm.reported and arm.reported.final,
            "reported_best": arm.reported and arm.reported.best,
            "reported_inside": arm.reported and arm.reported.inside,
        }
        rows.append(row)
    return rows


def _columns(key: str, estimate: Estimate | None) -> dict[str, float | str | None]:
    values = (estimate.mean, estimate.low, estimate.high, estimate.no_interval) if estimate else ()
    names = (key, f"{key}_low", f"{key}_high", f"{key}_no_interval")
    return dict(itertools.zip_longest(names, values))
