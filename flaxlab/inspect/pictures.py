"""Draws a checkpoint: histograms of weights, batch normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from flaxlab.inspect.statistics import ArrayStatistics
from flaxlab.pages.style import BLUE, GREY, styled

_COLUMNS = 4


@styled
def weight_histograms(found: Mapping[str, ArrayStatistics]) -> Figure:
    """Draws the histogram of each array of weights in {path: statistics}, at least one."""
    columns = min(len(found), _COLUMNS)
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.2 * rows))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (path, statistics) in zip(grid.flat, found.items(), strict=False):
        axes.set_axis_on()
        if np.isfinite(statistics.high - statistics.low):
            edges = np.linspace(statistics.low, statistics.high, len(statistics.histogram) + 1)
            axes.stairs(statistics.histogram, edges, fill=True, color=BLUE)
        axes.set_title(path, fontsize=8, parse_math=False)
        axes.tick_params(labelsize=7)
        axes.set_yticks([])
        axes.grid()
    return figure


@styled
def normalization(layers: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draws the scale, running mean and running variance of each normalization layer.

    Args:
        layers: {path: {"scale": ..., "mean": ..., "var": ...}}, each floats (features,).
    """
    titles = {"scale": "scale", "mean": "running mean", "var": "running variance"}
    names = [key for key in titles if any(key in each for each in layers.values())]
    width = 1.5 + 0.5 * len(layers)
    figure = Figure(figsize=(max(width, 4) * len(names), 3.8))
    for axes, key in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
        values: Sequence[np.ndarray] = [each[key] for each in layers.values() if key in each]
        labels = [path for path, each in layers.items() if key in each]
        axes.boxplot(values, tick_labels=labels, medianprops={"color": BLUE}, widths=0.6)
        axes.set_title(titles[key])
        axes.tick_params("x", rotation=60, labelsize=8)
        axes.axhline({"scale": 1.0, "mean": 0.0, "var": 1.0}[key], color=GREY, linewidth=0.8)
        axes.ticklabel_format(axis="y", useOffset=False)
        lowest = min(1.0, *(float(np.min(each)) for each in values))
        highest = max(1.0, *(float(np.max(each)) for each in values))
        # Within one power of ten, a logarithmic axis has no round numbers to label.
        if key == "var" and lowest > 0 and highest >= 10 * lowest:
            axes.set_yscale("log")
        axes.grid()
    return figure
