"""The tables of a comparison, each cell as text and as the value that it is sorted by."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from flaxlab.claims import QUANTITIES
from flaxlab.compare.results import ComparedArm, Comparison, JudgedClaim
from flaxlab.compare.statistics import Difference, Estimate
from flaxlab.compare.verdicts import Judgement


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it shows.
        value: what it is sorted by; None sorts last.
        note: why it shows no more; "" for nothing.
    """

    text: str
    value: float | str | None
    note: str = ""

    @property
    def line(self) -> str:
        """Text and note in one line."""
        return f"{self.text} ({self.note})" if self.note else self.text


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        header: one title a column.
        rows: as long as the header, each.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        """Returns it as a Markdown table."""
        lines = [list(self.header), *([cell.line for cell in row] for row in self.rows)]
        escaped = [[text.replace("|", "\\|") for text in line] for line in lines]
        escaped.insert(1, ["---"] * len(self.header))
        return "\n".join("| " + " | ".join(line) + " |" for line in escaped) + "\n"


def accuracy_table(comparison: Comparison) -> Table:
    """What the arms reached against the baseline; the last column is the verdict in words."""
    header = (
        "arm",
        "seeds",
        "accuracy, % [95%]",
        "best epoch, % [95%]",
        "difference, points [95%]",
        "p (t, Holm)",
        "p (sign flip, Holm)",
        "could have seen, points",
        "verdict",
    )
    return Table(header, [_accuracy_row(arm) for arm in comparison.arms])


def _accuracy_row(arm: ComparedArm) -> list[Cell]:
    difference = arm.difference
    return [
        Cell(arm.name, arm.name),
        Cell(str(len(arm.runs)), len(arm.runs)),
        _estimate(arm.means["accuracy"], 100, "{:.2f}"),
        _estimate(arm.means["best_accuracy"], 100, "{:.2f}"),
        _estimate(difference.estimate, 100, "{:+.2f}") if difference else Cell("", None),
        _p_value(arm.t_p),
        _p_value(arm.sign_flip_p),
        _detectable(difference),
        Cell(arm.verdict, arm.verdict),
    ]


def training_table(comparison: Comparison) -> Table:
    """How the arms came there: speed of learning, gap, time."""
    header = (
        "arm",
        "epochs to 95% of the final accuracy",
        "training accuracy, %",
        "training minus validation, points [95%]",
        "fall from the best epoch, points",
        "seconds a run",
        "parameters",
    )
    rows = []
    for arm in comparison.arms:
        parameters = arm.first.summary["parameters_total"]
        rows.append(
            [
                Cell(arm.name, arm.name),
                _mean(arm.means["epochs_to_95"], 1, "{:.1f}"),
                _mean(arm.means["train_accuracy"], 100, "{:.2f}"),
                _estimate(arm.means["gap"], 100, "{:+.2f}"),
                _mean(arm.means["fall_from_best"], 100, "{:.2f}"),
                _mean(arm.means["seconds"], 1, "{:,.0f}"),
                Cell(f"{parameters:,}", parameters),
            ]
        )
    return Table(header, rows)


def report_table(comparison: Comparison) -> Table | None:
    """The lab report's numbers beside ours; None where it says nothing of these arms and data."""
    header = (
        "arm",
        "lab report, last epoch, %",
        "lab report, best epoch, %",
        "ours, mean [95%], %",
        "one further run of ours, 95%",
        "report's number inside",
    )
    rows = []
    for arm in comparison.arms:
        reported = arm.reported
        if reported is None:
            continue
        prediction = arm.prediction
        bounds, inside = Cell("", None), prediction.no_interval
        if prediction.low is not None and prediction.high is not None:
            text = f"{prediction.low * 100:.2f} to {prediction.high * 100:.2f}"
            bounds = Cell(text, prediction.low)
            inside = "yes" if reported.inside else "no"
        rows.append(
            [
                Cell(arm.name, arm.name),
                Cell(f"{reported.final * 100:.2f}", reported.final),
                Cell("" if reported.best is None else f"{reported.best * 100:.2f}", reported.best),
                _estimate(arm.means["accuracy"], 100, "{:.2f}"),
                bounds,
                Cell(inside, inside),
            ]
        )
    return Table(header, rows) if rows else None


def claims_table(claims: Sequence[JudgedClaim]) -> Table:
    """Each claim with its verdict and the figures behind it."""
    rows = []
    for judged in claims:
        figures = "; ".join(statement_text(judgement) for judgement in judged.judgements)
        rows.append(
            [
                Cell(str(judged.number), judged.number),
                Cell(judged.claim.text, judged.claim.text),
                Cell(verdict_text(judged), judged.verdict.word),
                Cell(figures, figures),
            ]
        )
    return Table(("claim", "what it says", "verdict", "figures"), rows)


def verdict_text(judged: JudgedClaim) -> str:
    """Writes the verdict on a claim with its p value."""
    p = judged.verdict.p
    return judged.verdict.word if p is None else f"{judged.verdict.word} (p {_p_text(p)})"


def statement_text(judgement: Judgement) -> str:
    """Writes an inequality and the measured difference in one line."""
    statement, estimate = judgement.statement, judgement.difference
    larger, smaller = _side(statement.larger), _side(statement.smaller)
    if statement.margin:
        larger += f" + {statement.margin * 100:g} points"
    text = f"{QUANTITIES[statement.quantity]}: {larger} > {smaller}"
    if estimate is None:
        return f"{text}: not tested"
    in_epochs = statement.quantity == "epochs_to_95"
    scale, unit = (1, "epochs") if in_epochs else (100, "points")
    figure = _figure(estimate, scale, "{:+.1f}")
    words = f", {estimate.no_interval}" if estimate.no_interval else ""
    return f"{text}: {figure} {unit}, n = {estimate.count}{words}"


def _side(side: str | float) -> str:
    return side if isinstance(side, str) else f"{side:.0%}"


def changes_table(comparison: Comparison) -> Table:
    """In which fields of the config each arm differs from the baseline."""
    rows = [
        [Cell(text, text) for text in (arm.name, path, str(old), str(new))]
        for arm in comparison.arms
        for path, (old, new) in arm.changes.items()
    ]
    return Table(("arm", "field", comparison.baseline.name, "arm's value"), rows)


def describe_departures(comparison: Comparison) -> str:
    """Says in one line where the runs are not those of the experiment files; "" if they are."""
    return "; ".join(
        f"{path}: {' or '.join(map(str, values))} instead of {file}"
        for path, (file, values) in comparison.departures.items()
    )


def to_csv(comparison: Comparison) -> str:
    """Returns the numbers of the arms as CSV, in full float precision; shares, not percent."""
    rows = []
    for arm in comparison.arms:
        row: dict[str, object] = {
            "arm": arm.name,
            "seeds": " ".join(map(str, arm.runs)),
            "count": len(arm.runs),
            "dataset": arm.first.summary["dataset"],
            "train_examples": arm.first.summary["train_examples"],
            "test_examples": arm.first.summary["test_examples"],
            "epochs": arm.first.config.train.epochs,
            "not_the_experiments_protocol": describe_departures(comparison),
        }
        for key in ("accuracy", "final_accuracy", "best_accuracy"):
            row |= _columns(key, arm.means[key])
        for key in ("train_accuracy", "gap", "epochs_to_95", "fall_from_best", "seconds"):
            row[key] = arm.means[key].mean
        difference = arm.difference
        row |= _columns("difference", difference.estimate if difference else None)
        row |= {
            "t_p": difference and difference.t_p,
            "t_p_holm": arm.t_p,
            "sign_flip_p": difference and difference.sign_flip_p,
            "sign_flip_p_holm": arm.sign_flip_p,
            "detectable_difference": difference and difference.detectable,
            "verdict": arm.verdict,
            "prediction_low": arm.prediction.low,
            "prediction_high": arm.prediction.high,
            "reported_final": arm.reported and arm.reported.final,
            "reported_best": arm.reported and arm.reported.best,
            "reported_inside": arm.reported and arm.reported.inside,
        }
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _columns(key: str, estimate: Estimate | None) -> dict[str, float | str | None]:
    values = (estimate.mean, estimate.low, estimate.high, estimate.no_interval) if estimate else ()
    names = (key, f"{key}_low", f"{key}_high", f"{key}_no_interval")
    return dict(itertools.zip_longest(names, values))


def _estimate(estimate: Estimate, scale: float, form: str) -> Cell:
    # A note on the comparison names the arms with one seed.
    note = estimate.no_interval if estimate.count > 1 else ""
    return Cell(_figure(estimate, scale, form), estimate.mean, note)


def _figure(estimate: Estimate, scale: float, form: str) -> str:
    text = form.format(estimate.mean * scale)
    if estimate.low is not None and estimate.high is not None:
        text += f" [{form.format(estimate.low * scale)}, {form.format(estimate.high * scale)}]"
    return text


def _mean(estimate: Estimate, scale: float, form: str) -> Cell:
    return Cell(form.format(estimate.mean * scale), estimate.mean)


def _p_value(p: float | None) -> Cell:
    if p is None:
        return Cell("", None)
    return Cell(_p_text(p).removeprefix("= "), p)


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _detectable(difference: Difference | None) -> Cell:
    if difference is None or difference.detectable is None:
        return Cell("", None)
    detectable = difference.detectable
    return Cell("more than 100" if detectable > 1 else f"{detectable * 100:.1f}", detectable)
