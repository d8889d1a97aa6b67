"""The pictures of a comparison of arms."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flaxlab.compare.results import BETTER, WORSE, ComparedArm
from flaxlab.pages.plots import GREY, over_epochs, quiet
from flaxlab.scores import class_scores

# Okabe and Ito (2008), black for the baseline; further arms begin again with another line style.
_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLES = ("-", "--", ":")
_MAX_CELLS_WITH_TEXT = 12
_PANELS_IN_A_ROW = 3
_CHARACTERS_PER_INCH = 15  # at 8 points

# In the dot plot.
_SEED: dict[str, Any] = {"linestyle": "", "marker": "o", "alpha": 0.6, "markersize": 7}
_COLLAPSED: dict[str, Any] = {"linestyle": "", "marker": "x", "markersize": 7}
_MEAN: dict[str, Any] = {"linestyle": "", "marker": "|", "markersize": 20, "markeredgewidth": 2}
_REPORTED: dict[str, Any] = {"linestyle": "", "marker": "D", "markersize": 8, "mfc": "none"}


def curves(arms: Sequence[ComparedArm]) -> Figure:
    """Draws validation and training accuracy: the mean of the seeds, and from lowest to highest."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, label in (
        (left, "val_accuracy", "validation accuracy"),
        (right, "train_accuracy", "training accuracy (mean over the epoch, dropout on)"),
    ):
        for index, arm in enumerate(arms):
            # A run that stopped early ends there; the mean goes as far as all seeds do.
            epochs = min(len(run.history[key]) for run in arm.scored.values())
            values = np.array([run.history[key][:epochs] for run in arm.scored.values()])
            x = np.arange(1, epochs + 1)
            color, style = _look(index)
            axes.plot(
                x, values.mean(axis=0), style, marker="o", markersize=3, color=color, label=arm.name
            )
            if len(values) > 1:
                axes.fill_between(
                    x, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0
                )
        axes.set_ylabel(label)
        over_epochs(axes, max(len(run.history[key]) for arm in arms for run in arm.runs.values()))
        quiet(axes)
    handles, labels = left.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def forest(arms: Sequence[ComparedArm], outcome: str) -> Figure:
    """Draws each arm's difference to the baseline with its interval, in points of `outcome`."""
    tested = [arm for arm in arms if arm.difference is not None]
    figure = Figure(figsize=(9, 0.55 * len(tested) + 1.5), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=1)
    for row, arm in enumerate(tested):
        assert arm.difference is not None
        estimate = arm.difference.estimate
        color = {BETTER: "#0072B2", WORSE: "#D55E00"}.get(arm.word, GREY)
        decided = color != GREY
        text = f"{estimate.mean * 100:+.1f}"
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low * 100, estimate.high * 100], [row, row], color=color)
            text += f"  [{estimate.low * 100:+.1f}, {estimate.high * 100:+.1f}]"
        else:
            text += f"  {estimate.no_interval}"
        axes.plot(estimate.mean * 100, row, "o" if decided else "D", color=color, markersize=7)
        axes.annotate(
            text, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    axes.set_yticks(range(len(tested)), [arm.name for arm in tested], parse_math=False)
    axes.set_ylim(len(tested) - 0.5, -0.5)
    label = f"{outcome} minus that of {arms[0].name}, in points; 95% for all arms together"
    axes.set_xlabel(label, parse_math=False)
    quiet(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params("y", length=0)
    return figure


def dots(arms: Sequence[ComparedArm]) -> Figure:
    """Draws the accuracy of every seed, the mean, and the lab report's number."""
    figure = Figure(figsize=(9, 0.55 * len(arms) + 1.7), layout="constrained")
    axes = figure.subplots()
    for row, arm in enumerate(arms):
        values = {seed: run.scores.accuracy for seed, run in arm.runs.items()}
        learned = [values[seed] for seed in arm.outcomes.learned]
        collapsed = [values[seed] for seed in arm.outcomes.collapsed]
        color, _ = _look(row)
        axes.plot(collapsed, [row] * len(collapsed), color=color, **_COLLAPSED)
        axes.plot(learned, [row] * len(learned), color=color, **_SEED)
        if learned:
            axes.plot(np.mean(learned), row, color=color, **_MEAN)
        if arm.reported is not None:
            axes.plot(arm.reported.final, row, color=GREY, **_REPORTED)
    looks = {"one run": _SEED, "mean": _MEAN}
    if any(arm.outcomes.collapsed for arm in arms):
        looks["collapsed"] = _COLLAPSED
    if any(arm.reported is not None for arm in arms):
        looks["lab report"] = _REPORTED
    axes.set_yticks(range(len(arms)), [arm.name for arm in arms], parse_math=False)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel("accuracy")
    # Grey: the colours are those of the arms.
    axes.legend(
        handles=[Line2D([], [], color=GREY, label=name, **look) for name, look in looks.items()],
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=4,
        frameon=False,
    )
    quiet(axes)
    return figure


def confusions(arms: Sequence[ComparedArm], class_names: Sequence[str]) -> Figure:
    """Draws the confusion matrix of each arm, mean over the seeds, as shares of the true class."""
    percent = {arm.name: _shares(arm) * 100 for arm in arms}
    return _matrices(percent, class_names, "Blues", (0, 100), "{:.0f}", "percent of the true class")


def confusion_differences(arms: Sequence[ComparedArm], class_names: Sequence[str]) -> Figure:
    """Draws the confusion matrix of each arm minus that of the baseline, in points."""
    baseline = _shares(arms[0])
    points = {arm.name: (_shares(arm) - baseline) * 100 for arm in arms[1:]}
    bound = max(float(np.abs(change).max()) for change in points.values()) or 1.0
    label = f"points more (blue) or fewer (red) than {arms[0].name}"
    return _matrices(points, class_names, "RdBu", (-bound, bound), "{:+.0f}", label)


def class_accuracy(arms: Sequence[ComparedArm], class_names: Sequence[str]) -> Figure:
    """Draws which share of each class each arm gets right, mean over the seeds."""
    recalls = np.array([class_scores(arm.confusion()).recall for arm in arms])
    width = 3 + 0.75 * len(class_names)
    figure = Figure(figsize=(width, 0.5 * len(arms) + 1.8), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(recalls, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, label="share that is right")
    if len(class_names) <= 2 * _MAX_CELLS_WITH_TEXT:
        for (row, column), value in np.ndenumerate(recalls):
            color = "white" if value > 0.5 else "black"
            axes.text(column, row, f"{value:.0%}", ha="center", va="center", color=color)
    axes.set_yticks(range(len(arms)), [arm.name for arm in arms], parse_math=False)
    axes.set_xticks(range(len(class_names)), class_names, parse_math=False)
    _slant(axes)
    _frameless(axes)
    return figure


def annotate(figure: Figure, text: str) -> None:
    """Writes a small line below a figure, broken where it is wider than that."""
    width = int(figure.get_figwidth() * _CHARACTERS_PER_INCH)
    lines = textwrap.fill(text, width)
    figure.supxlabel(lines, x=0.01, ha="left", fontsize=8, color=GREY, parse_math=False)
    # The figure becomes higher: what it shows keeps its size.
    height = figure.get_figheight() + 0.15 * (lines.count("\n") + 1) + 0.1
    figure.set_figheight(height)


def _look(index: int) -> tuple[str, str]:
    return _COLORS[index % len(_COLORS)], _STYLES[index // len(_COLORS) % len(_STYLES)]


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
) -> Figure:
    """Draws matrices (classes, classes) side by side, on one scale of colours."""
    columns = min(len(matrices), _PANELS_IN_A_ROW)
    rows = -(-len(matrices) // columns)
    figure = Figure(figsize=(4.3 * columns + 1, 4.3 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    dark_from = max(limits) / 2
    ticks = range(len(class_names))
    for axes, (name, matrix) in zip(grid, matrices.items(), strict=False):
        axes.set_axis_on()
        image = axes.imshow(matrix, cmap=colors, vmin=limits[0], vmax=limits[1])
        for (row, column), value in np.ndenumerate(matrix):
            if abs(value) >= 0.5 and len(class_names) <= _MAX_CELLS_WITH_TEXT:
                color = "white" if abs(value) > dark_from else "black"
                text = form.format(value)
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
        axes.set_title(name, fontsize=11, parse_math=False)
        axes.set_xticks(ticks, class_names, fontsize=8, parse_math=False)
        axes.set_yticks(ticks, class_names, fontsize=8, parse_math=False)
        _slant(axes)
        _frameless(axes)
    bar = figure.colorbar(image, ax=grid, shrink=0.5, aspect=40)
    bar.set_label(label, parse_math=False)
    return figure


def _slant(axes: Axes) -> None:
    axes.tick_params("x", rotation=45)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")


def _frameless(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
