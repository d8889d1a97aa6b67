"""The tables of a comparison's arms."""

from __future__ import annotations

from collections.abc import Sequence

from flaxlab.compare.cells import Cell, Table, estimate_cell, mean_cell, p_cell, points_cell
from flaxlab.compare.factors import Effect
from flaxlab.compare.outcomes import Design, Outcomes
from flaxlab.compare.results import ComparedArm, Comparison, Difference

# Of the aliases of a contrast, those of so many changes at most are written out.
_WRITTEN_OUT = 2
_FRACTIONS = {0.5: "½", 0.25: "¼"}


def accuracy_table(comparison: Comparison) -> Table:
    """What the arms reached against the baseline; the last column is the verdict in words."""
    header = [
        "arm",
        "runs that learned",
        "accuracy, % [95%]",
        "last three epochs, % [95%]",
        difference_title(comparison.design),
        "p",
        "p (sign flip)",
        "smallest detectable, points",
        "verdict",
    ]
    rows = [_accuracy_row(arm) for arm in comparison.arms]
    for name, outcomes in comparison.absent.items():
        verdict = f"no run is finished ({outcomes.lost})"
        empty = [Cell("", None)] * 6
        rows.append([Cell(name, name), _learned(outcomes), *empty, Cell(verdict, verdict)])
    shown = [
        index
        for index, title in enumerate(header)
        # Too few seeds for it to say anything.
        if title != "p (sign flip)" or any(row[index].text for row in rows)
    ]
    return Table([header[i] for i in shown], [[row[i] for i in shown] for row in rows])


def difference_title(design: Design) -> str:
    """Returns the title of the column of differences."""
    of = "" if design.outcome == "accuracy" else " of the last three epochs"
    return f"difference{of}, points [95% of all]"


def _accuracy_row(arm: ComparedArm) -> list[Cell]:
    difference = arm.difference
    late = arm.means["late_accuracy"]
    return [
        Cell(arm.name, arm.name),
        _learned(arm.outcomes),
        estimate_cell(
            arm.means["accuracy"], 100, "{:.2f}", "" if arm.outcomes.learned else "collapsed"
        ),
        estimate_cell(late, 100, "{:.2f}"),
        estimate_cell(difference.estimate, 100, "{:+.2f}") if difference else Cell("", None),
        p_cell(difference.p if difference else None),
        p_cell(difference.sign_flip_p if difference else None),
        _detectable(difference),
        Cell(arm.verdict, arm.verdict),
    ]


def _learned(outcomes: Outcomes) -> Cell:
    learned, planned = len(outcomes.learned), outcomes.planned
    return Cell(f"{learned} of {planned}", learned, outcomes.lost)


def outcomes_table(comparison: Comparison) -> Table | None:
    """What became of every run; None where all of them learned."""
    if not comparison.losses:
        return None
    header = (
        "arm",
        "planned",
        "learned",
        "collapsed",
        "diverged",
        "failed",
        "not finished",
        "missing",
        "share of runs that do not learn [95%]",
    )
    named = {arm.name: arm.outcomes for arm in comparison.arms} | comparison.absent
    rows = []
    for name, each in named.items():
        share = Cell("", None)
        if each.share is not None:
            low, high = each.share
            text = f"{each.did_not_learn} of {each.ended} [{low:.0%}, {high:.0%}]"
            share = Cell(text, each.did_not_learn / each.ended)
        counts = [Cell(_seeds(found), len(found)) for found in vars(each).values()]
        rows.append([Cell(name, name), Cell(str(each.planned), each.planned), *counts, share])
    return Table(header, rows)


def _seeds(seeds: Sequence[int]) -> str:
    return (
        f"{len(seeds)} (seed {', '.join(map(str, seeds))})"
        if 0 < len(seeds) < 4
        else str(len(seeds))
    )


def effects_table(comparison: Comparison) -> Table | None:
    """Effects and interactions of a factorial suite; None without factors."""
    rows = []
    for effect in comparison.effects:
        name = effect_name(effect)
        rows.append(
            [
                Cell(name, name),
                estimate_cell(effect.estimate, 100, "{:+.2f}"),
                p_cell(effect.p),
                Cell(str(effect.estimate.count), effect.estimate.count),
            ]
        )
    return Table(("change", "effect, points [95% of all]", "p", "seeds"), rows) if rows else None


def effect_name(effect: Effect) -> str:
    """Returns what a contrast estimates: one change, several × each other, or a sum of these.

    Of its aliases, those of up to two changes are written out.
    """
    name = " × ".join(effect.factors)
    shown = [(weight, group) for weight, group in effect.aliases if len(group) <= _WRITTEN_OUT]
    for weight, group in shown:
        share = "" if abs(weight) == 1 else f"{_FRACTIONS.get(abs(weight), f'{abs(weight):g}')} "
        name += f" {'+' if weight > 0 else '-'} {share}({' × '.join(group)})"
    return name + (" + higher interactions" if len(shown) < len(effect.aliases) else "")


def noise_table(comparison: Comparison) -> Table | None:
    """Where the spread comes from: seeds, test images, pairing; None with one seed everywhere."""
    header = (
        "arm",
        "spread between runs, points",
        "expected from the test images alone",
        "error of the difference from seeds",
        "from test images",
        "from both",
        "correlation with the baseline",
        "95% interval, paired",
        "the same runs unpaired",
    )
    rows = []
    for arm in comparison.arms:
        if arm.spread is None:
            continue
        difference = arm.difference
        errors = difference.errors if difference else None
        paired = difference.pairing if difference else None
        rows.append(
            [
                Cell(arm.name, arm.name),
                *(points_cell(value) for value in (arm.spread.seen, arm.spread.by_images)),
                points_cell(errors.seeds if errors else None),
                points_cell(errors.images if errors else None),
                points_cell(errors.both if errors else None),
                Cell("", None)
                if paired is None
                else Cell(f"{paired.correlation:+.2f}", paired.correlation),
                points_cell(paired.paired if paired else None, "±{:.2f}"),
                points_cell(paired.unpaired if paired else None, "±{:.2f}"),
            ]
        )
    return Table(header, rows) if rows else None


def training_table(comparison: Comparison) -> Table:
    """How the arms came there: speed of learning, stability, gap, time."""
    columns: dict[str, tuple[str, float, str]] = {
        "mean of all epochs, %": ("mean_accuracy", 100, "{:.2f}"),
        "best epoch, %": ("best_accuracy", 100, "{:.2f}"),
        "spread between late epochs, points": ("late_spread", 100, "{:.2f}"),
        "training accuracy without dropout, %": ("fitted_accuracy", 100, "{:.2f}"),
        "gap, points [95%]": ("gap", 100, "{:+.2f}"),
        "gap as Keras shows it, points": ("keras_gap", 100, "{:+.2f}"),
        "cross entropy, nats": ("cross_entropy", 1, "{:.3f}"),
        "Brier score": ("brier", 1, "{:.3f}"),
        "calibration error, points": ("calibration_error", 100, "{:.2f}"),
        "seconds a run": ("seconds", 1, "{:,.0f}"),
    }
    known = {key for arm in comparison.arms for key in arm.means}
    columns = {title: column for title, column in columns.items() if column[0] in known}
    rows = []
    for arm in comparison.arms:
        parameters = arm.first.summary["parameters_total"]
        cells = []
        for key, scale, form in columns.values():
            estimate = arm.means.get(key)
            if estimate is None:
                cells.append(Cell("", None))
            else:
                make = estimate_cell if key == "gap" else mean_cell
                cells.append(make(estimate, scale, form))
        rows.append([Cell(arm.name, arm.name), *cells, Cell(f"{parameters:,}", parameters)])
    return Table(("arm", *columns, "parameters"), rows)


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
                estimate_cell(arm.means["accuracy"], 100, "{:.2f}"),
                bounds,
                Cell(inside, inside),
            ]
        )
    return Table(header, rows) if rows else None


def _detectable(difference: Difference | None) -> Cell:
    if difference is None or difference.detectable is None:
        return Cell("", None)
    detectable = difference.detectable
    return Cell("more than 100" if detectable > 1 else f"{detectable * 100:.1f}", detectable)


def changes_table(comparison: Comparison) -> Table:
    """In which fields of the config each arm differs from the baseline."""
    rows = [
        [Cell(text, text) for text in (arm.name, path, str(old), str(new))]
        for arm in comparison.arms
        for path, (old, new) in arm.changes.items()
    ]
    return Table(("arm", "field", comparison.baseline.name, "arm's value"), rows)
