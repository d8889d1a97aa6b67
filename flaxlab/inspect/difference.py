"""Compares two checkpoints: their configs, structures and values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxlab import config as configs
from flaxlab.checkpoints.find import Saved
from flaxlab.checkpoints.read import Leaf, list_leaves, read_leaves


def config_changes(a: Saved, b: Saved) -> dict[str, tuple[Any, Any]] | None:
    """Returns {path: (a, b)} where the stored configs differ; None if one has no config."""
    left, right = ((saved.record() or {}).get("config") for saved in (a, b))
    if left is None or right is None:
        return None
    return configs.differences(configs.from_dict(left), configs.from_dict(right))


def structure_changes(a: Sequence[Leaf], b: Sequence[Leaf]) -> list[dict[str, Any]]:
    """Lists {path, a, b} of leaves that only one has, or that differ in shape or dtype."""
    left, right = ({leaf.path: (leaf.shape, leaf.dtype) for leaf in leaves} for leaves in (a, b))
    return [
        {"path": path, "a": _form(left.get(path)), "b": _form(right.get(path))}
        for path in dict.fromkeys([*left, *right])
        if left.get(path) != right.get(path)
    ]


def value_changes(tree_a: Path, tree_b: Path, keep: Callable[[Leaf], bool]) -> list[dict[str, Any]]:
    """Lists the arrays that both trees have, the most changed first.

    Args:
        tree_a: folder of a tree.
        tree_b: folder of another.
        keep: whether to compare a leaf.

    Returns:
        For each array {path, change, largest}: the Euclidean norm of the difference over that of
        the array in `tree_a` (infinite if that is zero), and the largest absolute difference.
        At most two arrays are in memory at a time, and copies of them.
    """
    right = {leaf.path: leaf for leaf in list_leaves(tree_b)}
    shared = [
        leaf
        for leaf in list_leaves(tree_a)
        if keep(leaf) and leaf.path in right and right[leaf.path].shape == leaf.shape
    ]
    rows = []
    pairs = zip(
        read_leaves(tree_a, shared),
        read_leaves(tree_b, [right[leaf.path] for leaf in shared]),
        strict=True,
    )
    for (leaf, a), (_, b) in pairs:
        change, largest = _change(a, b)
        rows.append({"path": leaf.path, "change": change, "largest": largest})
        del a, b  # frees memory before the next ones are read
    return sorted(rows, key=lambda row: -row["change"])


def _change(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Returns relative change and largest difference; infinite if a value is not finite."""
    kind = np.complex128 if np.iscomplexobj(a) or np.iscomplexobj(b) else np.float64
    left, right = a.astype(kind), b.astype(kind)
    # Equal NaNs and infinities are no change, and the largest integers are not exact in float64.
    same = (a == b) | (np.isnan(left) & np.isnan(right))
    if same.all():
        return 0.0, 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.abs(right - left)
        moved = np.where(same, 0.0, moved)
        norm, distance = float(np.linalg.norm(left)), float(np.linalg.norm(moved))
    if not (math.isfinite(norm) and math.isfinite(distance)) or norm == 0:
        return math.inf, float(np.nan_to_num(moved, nan=math.inf, posinf=math.inf).max())
    return distance / norm, float(moved.max())


def _form(found: tuple[Any, str] | None) -> str | None:
    if found is None:
        return None
    shape, dtype = found
    return dtype if shape is None else f"{dtype}[{','.join(map(str, shape))}]"
