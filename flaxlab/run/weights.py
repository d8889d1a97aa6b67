"""Reads off a trained state what a page shows of it: the first filters, and each normalization."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from flaxlab.models import LayerRow
from flaxlab.training.state import Variables


class Spread(NamedTuple):
    """The values of an array: their mean, the lowest and the highest."""

    mean: float
    low: float
    high: float


class NormalizationRow(NamedTuple):
    """What a normalization layer has come to.

    Attributes:
        path: the path of the layer.
        features: how many it has.
        scale: what it multiplies them by.
        mean: their running mean; None without running statistics.
        var: their running variance; None as above.
    """

    path: str
    features: int
    scale: Spread
    mean: Spread | None
    var: Spread | None


def first_kernel(layers: Iterable[LayerRow], variables: Variables) -> tuple[str, np.ndarray] | None:
    """Returns path and kernel (H, W, C, F) of the convolution that is called first, if any."""
    params = flatten_dict(variables["params"], sep="/")
    for row in layers:
        kernel = params.get(f"{row.path}/kernel")
        if kernel is not None and kernel.ndim == 4:
            return row.path, np.asarray(kernel)
    return None


def normalizations(layers: Iterable[LayerRow], variables: Variables) -> list[NormalizationRow]:
    """Returns a row for each normalization that has a scale, in the order of the calls."""
    params = flatten_dict(variables["params"], sep="/")
    running = flatten_dict(variables.get("batch_stats", {}), sep="/")
    found = []
    for row in layers:
        scale = params.get(f"{row.path}/scale")
        if scale is not None and row.kind.endswith("Norm"):
            mean, var = (running.get(f"{row.path}/{name}") for name in ("mean", "var"))
            statistics = (None if each is None else _spread(each) for each in (mean, var))
            found.append(NormalizationRow(row.path, scale.size, _spread(scale), *statistics))
    return found


def _spread(values: np.ndarray) -> Spread:
    exact = np.asarray(values, np.float64)
    return Spread(float(exact.mean()), float(exact.min()), float(exact.max()))
