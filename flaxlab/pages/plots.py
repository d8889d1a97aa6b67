"""Draws what is known of a run and its data, in the style of `flaxlab.pages.style`.

`flaxlab.pages.image_plots` draws images, and `flaxlab.compare.pictures` comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flaxlab.pages.style import BLUE, GREY, VERMILLION, frameless, over_epochs, slant, styled
from flaxlab.pages.values import say
from flaxlab.scores import Reliability

if TYPE_CHECKING:  # pages import no other package: runs import them
    from flaxlab.training.metrics import History

_MAX_CELLS_WITH_TEXT = 20  # classes; with more there is no room for counts
_MOST_NAMES = 100  # of classes beside a matrix


@styled
def curves(
    history: History,
    title: str,
    reported: float | None,
    steps: Sequence[tuple[float, float]] = (),
) -> Figure:
    """Draws accuracy and loss over the epochs, training against validation.

    Args:
        history: at least one row.
        title: title of the figure.
        reported: validation accuracy to compare with, drawn as a line; None for none.
        steps: (epochs so far, training loss) within the epochs, drawn thin behind them.
    """
    figure = Figure(figsize=(10, 4))
    figure.suptitle(title, parse_math=False)
    left, right = figure.subplots(1, 2)
    _curve(left, history, "accuracy")
    _curve(right, history, "loss")
    if steps:
        right.plot(*zip(*steps, strict=True), color=VERMILLION, linewidth=0.6, alpha=0.5, zorder=1)
        right.set_xlim(0, history[-1].epoch + 0.5)
    if reported is not None:
        label = f"lab report, last epoch ({reported:.4f})"
        left.axhline(reported, color=GREY, linestyle=":", linewidth=1.5, label=label)
    left.set_ylabel("accuracy")
    right.set_ylabel("cross entropy (nats)")
    left.legend(loc="lower right")
    return figure


def _curve(axes: Axes, history: History, quantity: str) -> None:
    epochs = [row.epoch for row in history]
    for key, label, color, style in (
        ("train", "training", VERMILLION, "--"),
        ("val", "validation", BLUE, "-"),
    ):
        values = [getattr(row, f"{key}_{quantity}") for row in history]
        axes.plot(epochs, values, style, marker="o", markersize=4, color=color, label=label)
        texts = [
            f"epoch {epoch}: {label} {quantity} {value:.4f}"
            for epoch, value in zip(epochs, values, strict=True)
        ]
        say(axes, epochs, values, texts)
    over_epochs(axes, int(epochs[-1]))
    axes.grid()


@styled
def range_test(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    marks: Mapping[str, float],
    title: str,
) -> Figure:
    """Draws the losses of a learning-rate range test.

    Args:
        rates: learning rate of each step, (steps,).
        losses: loss of each batch, in nats, (steps,).
        smoothed: their running mean, (steps,).
        marks: rates to point out, by what they are.
        title: title of the figure.
    """
    figure = Figure(figsize=(7, 4))
    figure.suptitle(title, parse_math=False)
    axes = figure.subplots()
    axes.plot(rates, losses, color=GREY, linewidth=0.8, alpha=0.6, label="each batch")
    axes.plot(rates, smoothed, color=BLUE, linewidth=2, label="running mean")
    for (label, rate), style in zip(marks.items(), ("--", ":"), strict=False):
        text = f"{label}: {rate:.2g}"
        axes.axvline(rate, color=VERMILLION, linestyle=style, linewidth=1.5, label=text)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("cross entropy (nats)")
    axes.legend()
    axes.grid()
    return figure


@styled
def confusion(matrix: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Draws a confusion matrix: counts as text, each row's shares as colour.

    Args:
        matrix: integer counts (classes, classes), rows true, columns predicted.
        class_names: for each row.
        title: title of the figure.
    """
    classes = len(class_names)
    side = min(max(0.62 * classes + 2.4, 5.0), 16.0)
    figure = Figure(figsize=(side + 0.8, side))
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    if classes > _MOST_NAMES:
        class_names = [name if index % 100 == 0 else "" for index, name in enumerate(class_names)]
    axes.set_xticks(range(classes), class_names, parse_math=False)
    if max(map(len, class_names)) > 3:
        slant(axes)
    axes.set_yticks(range(classes), class_names, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.suptitle(title, parse_math=False)
    if classes <= _MAX_CELLS_WITH_TEXT:
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if shares[row, column] > 0.5 else ("black" if count else "#BBBBBB")
            axes.text(
                column,
                row,
                f"{count}",
                ha="center",
                va="center",
                color=color,
                fontsize=9,
                in_layout=False,
            )
    frameless(axes)
    return figure


@styled
def reliability(found: Reliability) -> Figure:
    """Draws how often predictions are right by their probability, and how many there are."""
    figure = Figure(figsize=(5.4, 4.6))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(found.examples) + 1)
    top.stairs(np.nan_to_num(found.accuracy), edges, fill=True, color=BLUE, alpha=0.25)
    top.plot((0, 1), (0, 1), "--", color=GREY, label="perfectly calibrated")
    top.plot(found.confidence, found.accuracy, "o", color=BLUE, label="a bin of predictions")
    texts = [
        f"{count:.0f} predictions, {sure:.1%} sure on average: {right:.1%} are right"
        for count, sure, right in zip(found.examples, found.confidence, found.accuracy, strict=True)
    ]
    say(top, found.confidence, found.accuracy, texts)
    top.set_ylabel("share that is right")
    top.set_ylim(0, 1.02)
    top.legend()
    bottom.stairs(found.examples / found.examples.sum(), edges, fill=True, color=GREY)
    bottom.set_ylabel("share")
    bottom.set_xlabel("probability of the predicted class")
    for axes in (top, bottom):
        axes.grid()
        axes.set_xlim(0, 1)
    return figure


@styled
def class_counts(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draws the number of training and test examples of each class, {class: {split: number}}."""
    figure = Figure(figsize=(8, 0.32 * len(counts) + 1.4))
    axes = figure.subplots()
    rows = np.arange(len(counts))
    for offset, split, color in ((-0.2, "train", BLUE), (0.2, "test", VERMILLION)):
        numbers = [each[split] for each in counts.values()]
        axes.barh(rows + offset, numbers, 0.38, color=color, label=split)
    axes.set_yticks(rows, list(counts), parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("examples")
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.grid()
    return figure


@styled
def histogram(counts: np.ndarray, title: str) -> Figure:
    """Draws how often each pixel value occurs in each channel, from integers (channels, 256)."""
    figure = Figure(figsize=(8, 3.2))
    axes = figure.subplots()
    one = len(counts) == 1
    for channel, color in zip(counts, (GREY,) if one else ("red", "green", "blue"), strict=False):
        axes.step(np.arange(256), channel / channel.sum(), where="mid", color=color, linewidth=1)
    axes.set_yscale("log")
    axes.set_xlim(0, 255)
    axes.set_xlabel("pixel value")
    axes.set_ylabel("share of the pixels")
    axes.set_title(title, parse_math=False)
    axes.grid()
    return figure
