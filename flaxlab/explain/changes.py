"""Lists what a step changes in the state, array by array."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from flaxlab.training.state import TrainState


class Change(NamedTuple):
    """One array of the state, before and after.

    Attributes:
        field: a field of `TrainState`, such as "params".
        path: path of the array within the field, "/" between the names; "" for the field itself.
        shape: shape of the array.
        dtype: dtype of the array, such as "float32" or "key<fry>".
        size: number of values.
        changed: number of values that differ afterwards.
        before: the value of a scalar, or the root mean square of an array's values.
        after: the same after the step.
        moved: root mean square of the differences.
    """

    field: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    changed: int
    before: float
    after: float
    moved: float


def on_host(state: TrainState) -> dict[str, tuple[str, np.ndarray]]:
    """Copies a state to the host, since a program that it is donated to reuses its memory.

    Returns:
        {path: (dtype, values)} of each array, in the order of the tree; the values of a random
        key are its uint32 words.
    """
    copied = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        values = jax.random.key_data(leaf) if is_key else leaf
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        copied[path] = (str(leaf.dtype), np.array(values))
    return copied


def list_changes(
    before: dict[str, tuple[str, np.ndarray]], after: dict[str, tuple[str, np.ndarray]]
) -> list[Change]:
    """Compares two copies made by `on_host`, of the same shapes and dtypes, array by array."""
    return [
        _change(path, dtype, values, after[path][1]) for path, (dtype, values) in before.items()
    ]


def _change(path: str, dtype: str, before: np.ndarray, after: np.ndarray) -> Change:
    field, _, inside = path.partition("/")
    a, b = before.astype(np.float64), after.astype(np.float64)
    return Change(
        field=field,
        path=inside,
        shape=before.shape,
        dtype=dtype,
        size=before.size,
        changed=int(np.sum(before != after)),
        before=_size(a),
        after=_size(b),
        moved=_size(b - a),
    )


def _size(values: np.ndarray) -> float:
    return float(values) if values.ndim == 0 else float(np.sqrt(np.mean(np.square(values))))


def moments(changes: list[Change], params: Any) -> dict[str, list[Change]]:
    """Groups the optimizer's arrays that have the same tree as the parameters.

    Args:
        changes: the changes of the whole state.
        params: the state's parameters.

    Returns:
        {path of the group: its arrays}; Adam has two, "0/mu" and "0/nu".
    """
    paths = [
        jax.tree_util.keystr(keys, simple=True, separator="/")
        for keys, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    groups: dict[str, list[Change]] = {}
    for change in changes:
        if change.field != "opt_state":
            continue
        for path in paths:
            if change.path.endswith(f"/{path}"):
                groups.setdefault(change.path.removesuffix(f"/{path}"), []).append(change)
                break
    return groups
