"""The pictures of a comparison that are about single classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from flaxlab.compare.results import ComparedArm
from flaxlab.pages.style import frameless, slant, styled
from flaxlab.scores import class_scores

_MAX_CELLS_WITH_TEXT = 12
_PANELS_IN_A_ROW = 3


@styled
def confusions(arms: Sequence[ComparedArm], class_names: Sequence[str]) -> Figure:
    """Draws the confusion matrix of each arm, mean over the seeds, as shares of the true class."""
    percent = {arm.name: _shares(arm) * 100 for arm in arms}
    return _matrices(percent, class_names, "Blues", (0, 100), "{:.0f}", "percent of the true class")


@styled
def confusion_differences(arms: Sequence[ComparedArm], class_names: Sequence[str]) -> Figure:
    """Draws the confusion matrix of each arm minus that of the baseline, in points.

    Blue is good: more on the diagonal, fewer beside it.
    """
    baseline = _shares(arms[0])
    points = {arm.name: (_shares(arm) - baseline) * 100 for arm in arms[1:]}
    bound = max(float(np.abs(change).max()) for change in points.values()) or 1.0
    good = 2 * np.eye(len(class_names)) - 1
    label = f"points better (blue) or worse (red) than {arms[0].name}"
    return _matrices(points, class_names, "RdBu", (-bound, bound), "{:+.0f}", label, good)


@styled
def class_accuracy(arms: Sequence[ComparedArm], class_names: Sequence[str]) -> Figure:
    """Draws which share of each class each arm gets right, mean over the seeds."""
    recalls = np.array([class_scores(arm.confusion()).recall for arm in arms])
    width = 3 + 0.75 * len(class_names)
    figure = Figure(figsize=(width, 0.5 * len(arms) + 1.8))
    axes = figure.subplots()
    image = axes.imshow(recalls, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, label="share correct")
    if len(class_names) <= 2 * _MAX_CELLS_WITH_TEXT:
        for (row, column), value in np.ndenumerate(recalls):
            color = "white" if value > 0.5 else "black"
            axes.text(column, row, f"{value:.0%}", ha="center", va="center", color=color)
    axes.set_yticks(range(len(arms)), [arm.name for arm in arms], parse_math=False)
    axes.set_xticks(range(len(class_names)), class_names, parse_math=False)
    slant(axes)
    frameless(axes)
    return figure


def _shares(arm: ComparedArm) -> np.ndarray:
    counts = arm.confusion()
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _matrices(
    matrices: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    colors: str,
    limits: tuple[float, float],
    form: str,
    label: str,
    good: np.ndarray | float = 1.0,
) -> Figure:
    """Draws matrices (classes, classes) side by side, on one scale of colours.

    The colour of a cell is that of its value times `good`.
    """
    columns = min(len(matrices), _PANELS_IN_A_ROW)
    rows = -(-len(matrices) // columns)
    figure = Figure(figsize=(4.3 * columns + 1, 4.3 * rows))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    dark_from = max(limits) / 2
    ticks = range(len(class_names))
    for axes, (name, matrix) in zip(grid, matrices.items(), strict=False):
        axes.set_axis_on()
        image = axes.imshow(matrix * good, cmap=colors, vmin=limits[0], vmax=limits[1])
        for (row, column), value in np.ndenumerate(matrix):
            if abs(value) >= 0.5 and len(class_names) <= _MAX_CELLS_WITH_TEXT:
                color = "white" if abs(value) > dark_from else "black"
                text = form.format(value)
                axes.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    color=color,
                    fontsize=9,
                    in_layout=False,
                )
        axes.set_title(name, fontsize=11, parse_math=False)
        axes.set_xticks(ticks, class_names, fontsize=8, parse_math=False)
        axes.set_yticks(ticks, class_names, fontsize=8, parse_math=False)
        slant(axes)
        frameless(axes)
    bar = figure.colorbar(image, ax=grid, shrink=0.5, aspect=40)
    bar.set_label(label, parse_math=False)
    return figure
