"""Draws the pictures of a run and of its data, in the style of `flaxlab.pages.style`.

`flaxlab.compare.pictures` draws those of a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flaxlab.pages.style import BLUE, GREY, VERMILLION, over_epochs, styled
from flaxlab.scores import Mistake

if TYPE_CHECKING:  # pages import no other package: data and runs import them
    from flaxlab.data.lazy import Images
    from flaxlab.training.metrics import History

_MAX_CELLS_WITH_TEXT = 20  # classes; with more there is no room for counts
_MOST_NAMES = 100  # of classes beside a matrix
_MOST_ROWS = 50  # of samples: a sheet of a thousand would take gigabytes


@styled
def curves(history: History, title: str, reported: float | None) -> Figure:
    """Draws accuracy and loss over the epochs, training against validation.

    Args:
        history: at least one row.
        title: title of the figure.
        reported: validation accuracy to compare with, drawn as a line; None for none.
    """
    figure = Figure(figsize=(10, 4))
    figure.suptitle(title, parse_math=False)
    left, right = figure.subplots(1, 2)
    _curve(left, history, "accuracy")
    _curve(right, history, "loss")
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
        losses: of each batch, in nats, (steps,).
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
        axes.tick_params("x", rotation=45)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), class_names, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.suptitle(title, parse_math=False)
    if classes <= _MAX_CELLS_WITH_TEXT:
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if shares[row, column] > 0.5 else ("black" if count else "#BBBBBB")
            axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


@styled
def samples(
    images: Images, labels: np.ndarray, class_names: Sequence[str], per_class: int = 10
) -> Figure:
    """Draws up to `per_class` random images of each class, a class a row; of the first classes.

    Args:
        images: uint8 (N, H, W, C).
        labels: int (N,).
        class_names: for each label.
        per_class: images in a row.
    """
    rng = np.random.default_rng(0)
    class_names = class_names[:_MOST_ROWS]
    height, width, channels = images.shape[1:]
    margin = max(width // 10, 1)
    rows, columns = height + margin, width + margin
    # One picture of all: a subplot for each image would take seconds.
    sheet = np.full((len(class_names) * rows, per_class * columns, channels), 255, np.uint8)
    for label in range(len(class_names)):
        chosen = rng.permutation(np.flatnonzero(labels == label))[:per_class]
        for place, image in enumerate(images[chosen]):
            _paste(sheet, image, label * rows, place * columns)
    figure = Figure(figsize=(per_class * 0.8 + 1.8, len(class_names) * 0.8))
    axes = figure.subplots()
    _show(axes, sheet)
    axes.set_xticks([])
    centers = np.arange(len(class_names)) * rows + height / 2
    axes.set_yticks(centers, class_names, fontsize=11, parse_math=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


@styled
def mistakes(
    images: Images, found: Sequence[Mistake], class_names: Sequence[str], columns: int = 6
) -> Figure:
    """Draws wrong predictions, each with what it is, what it was taken for, and how surely.

    Args:
        images: uint8 (N, H, W, C), of the whole split.
        found: what to draw.
        class_names: for each label.
        columns: pictures in a row.
    """
    rows = max(-(-len(found) // columns), 1)
    figure = Figure(figsize=(columns * 1.9, rows * 2.3))
    axes = figure.subplots()
    axes.set_axis_off()
    height, width, channels = images.shape[1:]
    # As in `samples`; above an image there is room for its two lines.
    down, right = height + math.ceil(0.4 * width), width + math.ceil(0.2 * width)
    sheet = np.full((rows * down, columns * right, channels), 255, np.uint8)
    for place, mistake in enumerate(found):
        row, column = divmod(place, columns)
        top, left = (row + 1) * down - height, column * right
        _paste(sheet, images[mistake.example], top, left)
        axes.text(
            left + (width - 1) / 2,
            top - 0.5 - 0.04 * width,
            f"taken for {class_names[mistake.predicted]} ({mistake.probability:.1%})\n"
            f"is {class_names[mistake.label]}",
            fontsize=8,
            ha="center",
            va="bottom",
            parse_math=False,
        )
    if found:
        _show(axes, sheet)
    else:
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center")
    return figure


def _paste(sheet: np.ndarray, image: np.ndarray, top: int, left: int) -> None:
    height, width = image.shape[:2]
    sheet[top : top + height, left : left + width] = image


def _show(axes: Axes, image: np.ndarray) -> None:
    if image.shape[-1] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(image)


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


@styled
def class_means(means: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws the mean image of each class, from floats (classes, H, W, C), 0 to 255."""
    columns = min(len(means), 10)
    rows = -(-len(means) // columns)
    figure = Figure(figsize=(columns * 1.1, rows * 1.4))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, name in zip(grid.flat, means, class_names, strict=False):
        _show(axes, np.rint(image).astype(np.uint8))
        axes.set_title(name, fontsize=8, parse_math=False)
    return figure


@styled
def saliency(image: np.ndarray, strength: np.ndarray, title: str) -> Figure:
    """Draws an image uint8 (H, W, C) beside how strongly a logit depends on its pixels (H, W)."""
    figure = Figure(figsize=(6, 3.3))
    left, right = figure.subplots(1, 2)
    _show(left, image)
    left.set_title(title, fontsize=10, parse_math=False)
    right.imshow(strength, cmap="magma", vmin=0)
    right.set_title("what it depends on", fontsize=10)
    for axes in (left, right):
        axes.set_axis_off()
    return figure
