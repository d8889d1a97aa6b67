"""Computes the statistics of an array piece by piece, without copying it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from flaxlab.checkpoints.pieces import Pieces
from flaxlab.checkpoints.read import Leaf

BINS = 20
_PIECE = 1 << 18  # values at a time: 2 MiB as float64
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class ArrayStatistics:
    """Statistics of an array's values; the first five and the histogram of finite ones only.

    Attributes:
        mean: arithmetic mean; like the next four, NaN if there are no finite values.
        std: standard deviation.
        low: smallest value.
        high: largest value.
        l2: Euclidean norm.
        zeros: share of values that are exactly zero.
        nans: number of NaNs.
        infinities: number of infinite values.
        histogram: counts of the finite values in equal bins from `low` to `high`.
    """

    mean: float
    std: float
    low: float
    high: float
    l2: float
    zeros: float
    nans: int
    infinities: int
    histogram: tuple[int, ...]

    def sparkline(self) -> str:
        """Draws the histogram in one line of text."""
        top = max(self.histogram, default=0)
        if not top:
            return ""
        last = len(_BLOCKS) - 1
        return "".join(_BLOCKS[math.ceil(count / top * last)] for count in self.histogram)


def describe_array(array: np.ndarray) -> ArrayStatistics:
    """Computes the statistics of an array of numbers or booleans, of any shape.

    Complex numbers count with their absolute values.
    """
    return describe_pieces(lambda: (array,))


def describe_pieces(pieces: Pieces) -> ArrayStatistics:
    """Computes the statistics of an array that is read in pieces; see `describe_array`.

    Args:
        pieces: () -> arrays of any shapes, which together hold the values; called twice.
    """
    total = square = 0.0
    low, high = math.inf, -math.inf
    zeros = nans = infinities = count = size = 0
    for piece in _pieces(pieces()):
        size += piece.size
        finite = piece[np.isfinite(piece)]
        nans += int(np.isnan(piece).sum())
        infinities += int(np.isinf(piece).sum())
        zeros += int((piece == 0).sum())
        if finite.size:
            count += finite.size
            total += float(finite.sum())
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if not count:
        nothing = math.nan
        share = zeros / size if size else 0.0
        return ArrayStatistics(
            nothing, nothing, nothing, nothing, nothing, share, nans, infinities, (0,) * BINS
        )
    mean = total / count
    spread = 0.0
    histogram = np.zeros(BINS, np.int64)
    # A second pass: the spread about a known mean, and bins between known bounds.
    for piece in _pieces(pieces()):
        finite = piece[np.isfinite(piece)]
        with np.errstate(over="ignore"):  # squares of the largest numbers are infinite
            spread += float(np.sum((finite - mean) ** 2))
            square += float(np.sum(finite**2))
        histogram += np.bincount(_bins(finite, low, high), minlength=BINS)
    return ArrayStatistics(
        mean=mean,
        std=math.sqrt(spread / count),
        low=low,
        high=high,
        l2=math.sqrt(square),
        zeros=zeros / size,
        nans=nans,
        infinities=infinities,
        histogram=tuple(histogram.tolist()),
    )


def find_flaws(leaf: Leaf, found: ArrayStatistics) -> list[str]:
    """Lists what looks wrong with an array, judging by its path and its statistics."""
    flaws = []
    if found.nans:
        flaws.append(f"{found.nans} NaN")
    if found.infinities:
        flaws.append(f"{found.infinities} infinite")
    if leaf.collection in ("batch_stats", "average_stats"):
        name = leaf.path.rsplit("/", 1)[-1]
        if name == "var" and found.low <= 0:
            flaws.append("a variance is not positive")
        initial = {"mean": 0.0, "var": 1.0}.get(name)
        if initial is not None and found.low == found.high == initial:
            flaws.append("never moved")
    return flaws


def _bins(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns the bin of each value; the middle one if all are equal.

    `np.histogram` would refuse bounds that are very close to each other.
    """
    if low == high:
        return np.full(values.shape, BINS // 2)
    # Halved, because the difference of two large numbers may overflow.
    places = (values / 2 - low / 2) / (high / 2 - low / 2) * BINS
    return np.clip(places.astype(np.int64), 0, BINS - 1)


def _pieces(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for array in arrays:
        flat = array.reshape(-1)
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE]
            yield (np.abs(piece) if np.iscomplexobj(piece) else piece).astype(np.float64)
