"""Draws the sheet of a data set: samples, class counts, duplicates and pixel statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from flaxlab import files
from flaxlab.data.dataset import Dataset, Split
from flaxlab.pages import image_plots, plots, style
from flaxlab.pages.render import render

_CHUNK = 10_000  # images at a time: float64 copies of a whole split may not fit into memory


def write_data_sheet(dataset: Dataset, folder: Path) -> Path:
    """Writes data_sheet.html, statistics.json, samples.png, classes.png, pixels.png, means.png.

    Returns:
        The path of the page.
    """
    statistics = describe(dataset)
    train, names = dataset.train, dataset.class_names
    figures = {
        "samples": image_plots.samples(train.images, train.labels, names),
        "classes": plots.class_counts(statistics["classes"]),
        "pixels": plots.histogram(pixel_counts(train), f"{dataset.title}, training split"),
        "means": image_plots.class_means(class_means(train, len(names)), names),
    }
    drawn: dict[str, str | bytes] = {}
    for name, figure in figures.items():
        drawn[name] = content = style.png(figure)
        files.write_bytes(folder / f"{name}.png", content)
    for name in ("classes", "pixels"):
        drawn[name] = style.svg(figures[name], name)
    text = json.dumps(statistics, indent=2, allow_nan=False)
    files.write_text(folder / "statistics.json", text + "\n")
    page = folder / "data_sheet.html"
    files.write_text(page, render("data_sheet.html.j2", drawn, dataset=dataset, found=statistics))
    return page


def describe(dataset: Dataset) -> dict[str, Any]:
    """Returns the numbers of a data set.

    "classes" maps each class to its number of examples in each split; "channels" holds, for each
    split and channel, mean and standard deviation of the pixels over 255, in [0, 1]; "duplicates"
    is the number of test images that are also in the training split, pixel for pixel.
    """
    splits = {"train": dataset.train, "test": dataset.test}
    counts = {
        name: np.bincount(split.labels, minlength=len(dataset.class_names)).tolist()
        for name, split in splits.items()
    }
    return {
        "name": dataset.name,
        "title": dataset.title,
        "version": dataset.version,
        "origin": dataset.origin,
        "fingerprint": dataset.fingerprint,
        "image_shape": list(dataset.image_shape),
        "examples": {name: len(split) for name, split in splits.items()},
        "classes": {
            label: {name: counts[name][index] for name in splits}
            for index, label in enumerate(dataset.class_names)
        },
        "channels": {name: channel_statistics(split) for name, split in splits.items()},
        "duplicates": _count_duplicates(dataset),
    }


def channel_statistics(split: Split) -> list[dict[str, float]]:
    """Returns mean and standard deviation of each channel's pixels over 255, in [0, 1]."""
    values = np.arange(256) / 255
    found = []
    for counts in pixel_counts(split):
        shares = counts / counts.sum()
        mean = float(shares @ values)
        found.append({"mean": mean, "std": float(np.sqrt(shares @ (values - mean) ** 2))})
    return found


def pixel_counts(split: Split) -> np.ndarray:
    """Counts how often each value occurs, int64 (channels, 256)."""
    counts = np.zeros((split.images.shape[-1], 256), np.int64)
    for start in range(0, len(split), _CHUNK):
        images = split.images[start : start + _CHUNK]
        for channel in range(len(counts)):
            counts[channel] += np.bincount(images[..., channel].ravel(), minlength=256)
    return counts


def class_means(split: Split, classes: int) -> np.ndarray:
    """Returns the mean image of each class, float64 (classes, H, W, C), 0 to 255."""
    sums = np.zeros((classes, *split.images.shape[1:]))
    for start in range(0, len(split), _CHUNK):
        images = split.images[start : start + _CHUNK]
        np.add.at(sums, split.labels[start : start + _CHUNK], images)
    counts = np.bincount(split.labels, minlength=classes)
    return sums / np.maximum(counts, 1)[:, None, None, None]


def _count_duplicates(dataset: Dataset) -> int:
    known = {image.tobytes() for image in dataset.train.images}
    return sum(image.tobytes() in known for image in dataset.test.images)
