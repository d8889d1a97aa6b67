"""Draws images of a data set, by themselves or with what a model makes of them, and filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flaxlab.pages.style import GREY, frameless, styled
from flaxlab.scores import Mistake

if TYPE_CHECKING:  # pages import no other package: data imports them
    from flaxlab.data.lazy import Images

_MOST_ROWS = 50  # of samples: a sheet of a thousand would take gigabytes
_MOST_FILTERS, _FILTERS_IN_A_ROW = 96, 12


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
    chosen = [
        images[rng.permutation(np.flatnonzero(labels == label))[:per_class]]
        for label in range(len(class_names))
    ]
    return _image_rows(chosen, class_names, per_class)


@styled
def augmented(stored: np.ndarray, trained: np.ndarray) -> Figure:
    """Draws images (N, H, W, C) as they are stored, and below each what a step trains on."""
    return _image_rows([stored, trained], ["stored", "trained on"], len(stored))


def _image_rows(rows: Sequence[np.ndarray], names: Sequence[str], columns: int) -> Figure:
    """Draws rows of up to `columns` images, uint8 (N, H, W, C) each."""
    height, width, channels = rows[0].shape[1:]
    margin = max(width // 10, 1)
    down, right = height + margin, width + margin
    # One picture of all: a subplot for each image would take seconds.
    sheet = np.full((len(rows) * down, columns * right, channels), 255, np.uint8)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            _paste(sheet, image, row * down, column * right)
    figure = Figure(figsize=(columns * 0.8 + 1.8, len(rows) * 0.8))
    axes = figure.subplots()
    _show(axes, sheet)
    axes.set_xticks([])
    centers = np.arange(len(rows)) * down + height / 2
    axes.set_yticks(centers, names, fontsize=11, parse_math=False)
    axes.tick_params(length=0)
    frameless(axes)
    return figure


@styled
def mistakes(
    images: Images, found: Sequence[Mistake], class_names: Sequence[str], columns: int = 6
) -> Figure:
    """Draws wrong predictions, each with its true and predicted class and their probability.

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
    # One picture of all, too; above an image there is room for its two lines.
    down, right = height + math.ceil(0.4 * width), width + math.ceil(0.2 * width)
    sheet = np.full((rows * down, columns * right, channels), 255, np.uint8)
    for place, mistake in enumerate(found):
        row, column = divmod(place, columns)
        top, left = (row + 1) * down - height, column * right + (right - width) // 2
        _paste(sheet, images[mistake.example], top, left)
        axes.text(
            left + (width - 1) / 2,
            top - 0.5 - 0.04 * width,
            f"predicted {class_names[mistake.predicted]} ({mistake.probability:.1%})\n"
            f"true: {class_names[mistake.label]}",
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
def saliency(
    image: np.ndarray, predicted: str, strength: np.ndarray, title: str, unit: str, text: str
) -> Figure:
    """Draws an image beside the same in grey, with a map of what a logit reacts to laid over it.

    Args:
        image: uint8 (H, W, C).
        predicted: the class.
        strength: (H, W), 0 and above.
        title: what stands above the map.
        unit: what stands beside its scale.
        text: what the map shows, a sentence without its full stop.
    """
    figure = Figure(figsize=(7.4, 3.8))
    left, right = figure.subplots(1, 2)
    _show(left, image)
    left.set_title(predicted, fontsize=10, parse_math=False)
    right.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    top = float(strength.max()) or 1.0
    laid = right.imshow(strength, cmap="magma", vmin=0, vmax=top, alpha=0.65)
    right.set_title(title, fontsize=10, parse_math=False)
    bar = figure.colorbar(laid, ax=right, shrink=0.8)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    for axes in (left, right):
        axes.set_axis_off()
    figure.supxlabel(
        f"{text}. It is no proof of a reason, nor of a right answer:\n"
        "compare the map of an untrained network (Adebayo et al., 2018).",
        fontsize=8,
        color=GREY,
    )
    return figure


@styled
def filters(kernel: np.ndarray, path: str) -> Figure:
    """Draws the filters of a convolution, floats (H, W, C, F).

    In colour if C is 3, else the mean over C. Zero is grey; the largest weight sets the scale.
    """
    kernel = kernel.astype(np.float64)
    if kernel.shape[2] != 3:
        kernel = kernel.mean(axis=2, keepdims=True)
    levels = np.rint((kernel / (np.abs(kernel).max() or 1.0) / 2 + 0.5) * 255).astype(np.uint8)
    height, width, channels, total = kernel.shape
    count = min(total, _MOST_FILTERS)
    columns = min(count, _FILTERS_IN_A_ROW)
    rows = -(-count // columns)
    margin = max(width // 6, 1)
    down, right = height + margin, width + margin
    sheet = np.full((rows * down - margin, columns * right - margin, channels), 255, np.uint8)
    for index in range(count):
        row, column = divmod(index, columns)
        _paste(sheet, levels[..., index], row * down, column * right)
    figure = Figure(figsize=(0.8 * columns + 0.4, 0.8 * rows + 0.6))
    axes = figure.subplots()
    _show(axes, sheet)
    axes.set_axis_off()
    figure.suptitle(f"{path}: {count} of {total} filters", fontsize=10, parse_math=False)
    return figure


def _paste(sheet: np.ndarray, image: np.ndarray, top: int, left: int) -> None:
    height, width = image.shape[:2]
    sheet[top : top + height, left : left + width] = image


def _show(axes: Axes, image: np.ndarray) -> None:
    if image.shape[-1] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(image)
