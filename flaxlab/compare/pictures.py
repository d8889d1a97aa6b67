"""The pictures of a comparison that are about whole arms."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flaxlab.compare.cells import figure_text
from flaxlab.compare.results import BETTER, WORSE, ComparedArm
from flaxlab.compare.rules import OUTCOMES
from flaxlab.pages.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    over_epochs,
    styled,
)
from flaxlab.pages.values import say

# The first is the baseline's; further arms begin again with another line style.
_COLORS = (INK, BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
_STYLES = ("-", "--", ":")
_PANELS_IN_A_ROW = 5
_MOST_SAID = 50  # epochs of a curve that say their values, lest pages grow to megabytes
_LOGARITHMIC_FROM = 10  # from the smallest value to the largest
_CHARACTERS_PER_INCH = 15  # at 8 points

# In the dot plot.
_SEED: dict[str, Any] = {"linestyle": "", "marker": "o", "alpha": 0.6, "markersize": 7}
_COLLAPSED: dict[str, Any] = {"linestyle": "", "marker": "x", "markersize": 7}
_MEAN: dict[str, Any] = {"linestyle": "", "marker": "|", "markersize": 20, "markeredgewidth": 2}
_REPORTED: dict[str, Any] = {"linestyle": "", "marker": "D", "markersize": 8, "mfc": "none"}


@styled
def curves(arms: Sequence[ComparedArm]) -> Figure:
    """Draws accuracies and training loss: the mean of the seeds, and from lowest to highest."""
    figure = Figure(figsize=(13, 4.4))
    left, middle, right = figure.subplots(1, 3)
    middle.sharey(left)
    for axes, key, label in (
        (left, "val_accuracy", "validation accuracy"),
        (middle, "train_accuracy", "training accuracy (dropout on)"),
        (right, "train_loss", "training cross entropy (nats)"),
    ):
        for index, arm in enumerate(arms):
            # A run that stopped early ends there; the mean goes as far as all seeds do.
            epochs = min(len(run.history[key]) for run in arm.scored.values())
            values = np.array([run.history[key][:epochs] for run in arm.scored.values()])
            x = np.arange(1, epochs + 1)
            color, style = _look(index)
            mean = values.mean(axis=0)
            axes.plot(x, mean, style, marker="o", markersize=3, color=color, label=arm.name)
            every = -(-epochs // _MOST_SAID)
            some = slice((epochs - 1) % every, None, every)  # the last one among them
            say(axes, x[some], mean[some], _over_epochs(arm.name, label, values)[some])
            if len(values) > 1:
                axes.fill_between(
                    x, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0
                )
        axes.set_ylabel(label)
        over_epochs(axes, max(len(run.history[key]) for arm in arms for run in arm.runs.values()))
        axes.grid()
    handles, labels = left.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper center", ncols=3)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


@styled
def forest(arms: Sequence[ComparedArm], outcome: str) -> Figure:
    """Draws each arm's difference to the baseline with its interval, in points of `outcome`."""
    tested = [arm for arm in arms if arm.difference is not None]
    figure = Figure(figsize=(9, 0.55 * len(tested) + 1.5))
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=1)
    for row, arm in enumerate(tested):
        assert arm.difference is not None
        estimate = arm.difference.estimate
        color = {BETTER: BLUE, WORSE: VERMILLION}.get(arm.word, GREY)
        decided = color != GREY
        text = f"{estimate.mean * 100:+.1f}"
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low * 100, estimate.high * 100], [row, row], color=color)
            text += f"  [{estimate.low * 100:+.1f}, {estimate.high * 100:+.1f}]"
        else:
            text += f"  {estimate.no_interval}"
        axes.plot(estimate.mean * 100, row, "o" if decided else "D", color=color, markersize=7)
        said = f"{arm.name}: {figure_text(estimate, 100, '{:+.2f}')} points"
        say(axes, [estimate.mean * 100], [row], [said])
        axes.annotate(
            text, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    axes.set_yticks(range(len(tested)), [arm.name for arm in tested], parse_math=False)
    axes.set_ylim(len(tested) - 0.5, -0.5)
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -100), min(high, 100))
    label = f"{outcome} minus that of {arms[0].name}, in points; 95% for all arms together"
    axes.set_xlabel(label, parse_math=False)
    axes.grid()
    axes.spines["left"].set_visible(False)
    axes.tick_params("y", length=0)
    return figure


@styled
def dots(arms: Sequence[ComparedArm]) -> Figure:
    """Draws the accuracy of every seed, the mean, and the lab report's number."""
    figure = Figure(figsize=(9, 0.55 * len(arms) + 1.7))
    axes = figure.subplots()
    for row, arm in enumerate(arms):
        values = {seed: run.scores.accuracy for seed, run in arm.runs.items()}
        learned = [values[seed] for seed in arm.outcomes.learned]
        collapsed = [values[seed] for seed in arm.outcomes.collapsed]
        color, _ = _look(row)
        axes.plot(collapsed, [row] * len(collapsed), color=color, **_COLLAPSED)
        axes.plot(learned, [row] * len(learned), color=color, **_SEED)
        at = {f"{arm.name}, seed {seed}": value for seed, value in values.items()}
        if learned:
            axes.plot(np.mean(learned), row, color=color, **_MEAN)
            at = {f"{arm.name}, mean": float(np.mean(learned))} | at
        if arm.reported is not None:
            axes.plot(arm.reported.final, row, color=GREY, **_REPORTED)
            at = {f"{arm.name}, lab report": arm.reported.final} | at
        say(axes, at.values(), [row] * len(at), [f"{who}: {x:.4f}" for who, x in at.items()])
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
    )
    axes.grid()
    return figure


@styled
def pairs(arms: Sequence[ComparedArm], outcome: str) -> Figure:
    """Draws each arm beside the baseline, the runs of a seed joined by a line.

    Args:
        arms: the baseline first; arms without a learned seed in common with it are left out.
        outcome: field of `RunScores` to draw.
    """
    baseline = _learned(arms[0], outcome)
    shown = [arm for arm in arms[1:] if baseline.keys() & _learned(arm, outcome).keys()]
    columns = min(len(shown), _PANELS_IN_A_ROW)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.4, 3 * rows))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, arm in zip(grid, shown, strict=False):
        values = _learned(arm, outcome)
        seeds = [seed for seed in baseline if seed in values]
        ends = np.array([(baseline[seed], values[seed]) for seed in seeds])
        for seed, end in zip(seeds, ends, strict=True):
            color = {1: BLUE, -1: VERMILLION}.get(int(np.sign(end[1] - end[0])), GREY)
            axes.plot((0, 1), end, marker="o", markersize=5, linewidth=1.2, color=color)
            said = f"{arm.name}, seed {seed}: baseline {end[0]:.4f}, arm {end[1]:.4f}"
            say(axes, (0, 1), end, (said, said))
        if len(ends) > 1:
            axes.plot((0, 1), ends.mean(axis=0), color=INK, linewidth=3)
        axes.set_title(arm.name, fontsize=10, parse_math=False)
        axes.set_xticks((0, 1), ("baseline", "arm"))
        axes.set_xlim(-0.25, 1.25)
        axes.grid()
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    figure.supylabel(OUTCOMES[outcome])
    return figure


@styled
def sweeps(arms: Sequence[ComparedArm], outcome: str) -> Figure:
    """Draws the outcome against each number that several arms differ in, with its interval.

    Args:
        arms: the baseline first; `swept` must find something.
        outcome: field of `RunScores` to draw.
    """
    found = swept(arms)
    figure = Figure(figsize=(5.2 * len(found), 3.8))
    panels = figure.subplots(1, len(found), squeeze=False, sharey=True).flat
    for axes, (path, by_value) in zip(panels, found.items(), strict=True):
        values = list(by_value)
        means = [arm.means[outcome].mean for arm in by_value.values()]
        axes.plot(values, means, color=GREY, linewidth=1)
        for value, arm in by_value.items():
            estimate = arm.means[outcome]
            color = INK if arm is arms[0] else BLUE
            seeds = {seed: getattr(run.scores, outcome) for seed, run in arm.scored.items()}
            at = [value] * len(seeds)
            axes.plot(at, [*seeds.values()], "o", color=color, alpha=0.3, markersize=4)
            if estimate.low is not None and estimate.high is not None:
                ends = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
                axes.errorbar(value, estimate.mean, ends, color=color, capsize=5)
            axes.plot(value, estimate.mean, "D" if arm.outcomes.learned else "x", color=color)
            who = f"{path} {value:g}"
            say(axes, [value], [estimate.mean], [f"{who}: {figure_text(estimate, 1, '{:.4f}')}"])
            texts = [f"{who}, seed {seed}: {scored:.4f}" for seed, scored in seeds.items()]
            say(axes, at, seeds.values(), texts)
        _scale(axes, values)
        axes.set_xlabel(path, parse_math=False)
        axes.set_ylabel(OUTCOMES[outcome])
        axes.grid()
        axes.label_outer()
    return figure


def swept(arms: Sequence[ComparedArm]) -> dict[str, dict[float, ComparedArm]]:
    """Returns the fields in which several arms differ from the baseline by a number alone.

    Args:
        arms: the baseline first.

    Returns:
        {field: {value: arm}}, the baseline's value among them, in rising order; of fields with
        three values or more.
    """
    found: dict[str, dict[float, ComparedArm]] = {}
    for arm in arms[1:]:
        for path, (old, new) in arm.changes.items():
            numbers = isinstance(old, int | float) and isinstance(new, int | float)
            if len(arm.changes) == 1 and numbers:
                found.setdefault(path, {old: arms[0]})[new] = arm
    return {
        path: dict(sorted(by_value.items()))
        for path, by_value in found.items()
        if len(by_value) > 2
    }


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Marks the values on x, on a logarithmic axis if they go up by factors; 0 stands beside it."""
    above = [value for value in values if value > 0]
    if len(above) > 1 and values[0] >= 0 and max(above) >= _LOGARITHMIC_FROM * min(above):
        if values[0] == 0:
            axes.set_xscale("symlog", linthresh=min(above))
        else:
            axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.margins(x=0.08)


def _over_epochs(name: str, quantity: str, values: np.ndarray) -> list[str]:
    """Returns what an arm's curves (seeds, epochs) say at each epoch."""
    texts = []
    for epoch, scored in enumerate(values.T, 1):
        spread = f", {scored.min():.4f} to {scored.max():.4f}" if len(scored) > 1 else ""
        texts.append(f"{name}, epoch {epoch}: {quantity} {scored.mean():.4f}{spread}")
    return texts


def _learned(arm: ComparedArm, outcome: str) -> dict[int, float]:
    """Returns {seed: outcome} of the runs that learned."""
    return {seed: getattr(arm.runs[seed].scores, outcome) for seed in arm.outcomes.learned}


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
