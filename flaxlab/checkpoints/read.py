"""Reads any tree that Orbax has saved: its contents, its arrays, and large arrays in pieces.

Orbax describes the tree; TensorStore, on which Orbax is built, reads one array without the others,
without a template, and without the devices that it was saved from.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from flaxlab.checkpoints.pieces import Pieces, find_pieces, reading
from flaxlab.errors import UsageError

_COLLECTIONS = ("params", "batch_stats", "opt_state")
_LARGE = 8_000_000  # bytes of an array that is read in pieces

# Orbax reports each read on the absl logger.
logging.getLogger("absl").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Leaf:
    """One leaf of a saved tree.

    Attributes:
        path: names and numbers from the root, "/" between them.
        shape: shape of an array; None for anything else.
        dtype: dtype of an array, such as "float32"; the type of anything else, such as "str".
        key: what the array is stored under, such as "params.output.kernel".
    """

    path: str
    shape: tuple[int, ...] | None
    dtype: str
    key: str

    @property
    def size(self) -> int:
        """Number of values."""
        return 0 if self.shape is None else math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values in memory."""
        return 0 if self.shape is None else self.size * jax.numpy.dtype(self.dtype).itemsize

    @property
    def collection(self) -> str:
        """The collection it belongs to: the first known name in its path, else the first name."""
        names = self.path.split("/")
        return next((name for name in names if name in _COLLECTIONS), names[0])


def list_leaves(tree: Path) -> list[Leaf]:
    """Lists the leaves of a saved tree without reading their values.

    Raises:
        UsageError: the tree's metadata cannot be read.
    """
    with reading(f"the metadata of {tree}"), ocp.PyTreeCheckpointer() as reader:
        metadata = reader.metadata(tree.absolute()).item_metadata
    if metadata is None:  # what Orbax returns for some kinds of damage
        raise UsageError(f"the metadata of {tree} cannot be read; its files are damaged")
    described, _ = jax.tree_util.tree_flatten_with_path(
        metadata.tree, is_leaf=lambda leaf: hasattr(leaf, "name")
    )
    return [
        Leaf(
            path=jax.tree_util.keystr(keys, simple=True, separator="/"),
            shape=None if getattr(leaf, "shape", None) is None else tuple(leaf.shape),
            dtype=str(leaf.dtype) if hasattr(leaf, "dtype") else _kind(leaf),
            key=leaf.name,
        )
        for keys, leaf in described
    ]


def read_leaves(tree: Path, leaves: Sequence[Leaf]) -> Iterator[tuple[Leaf, np.ndarray]]:
    """Reads arrays one after the other and keeps none.

    Args:
        tree: folder of the tree.
        leaves: leaves of `list_leaves`; those that are not arrays are left out.

    Returns:
        Each leaf with its values, in its shape and dtype.

    Raises:
        UsageError: an array cannot be read.
    """
    for leaf in leaves:
        if leaf.shape is not None:
            (array,) = _read(leaf, tree)
            yield leaf, array


def read_pieces(tree: Path, leaves: Sequence[Leaf]) -> Iterator[tuple[Leaf, Pieces]]:
    """Opens one array after the other, to be read in pieces if it is large.

    Args:
        tree: folder of the tree.
        leaves: leaves of `list_leaves`; those that are not arrays are left out.

    Returns:
        Each leaf with () -> NumPy arrays of its dtype that together hold its values, in any order
        and shape. An array that is small, or not stored in Orbax's default way, is read at once.

    Raises:
        UsageError: an array cannot be read; the functions that are returned raise it as well.
    """
    for leaf in leaves:
        if leaf.shape is not None:
            name = f"{leaf.path} in {tree}"
            with reading(name):
                pieces = find_pieces(_open(leaf, tree), name) if leaf.nbytes > _LARGE else None
            yield leaf, pieces or functools.partial(_read, leaf, tree)


def read_collection(tree: Path, collection: str) -> dict[str, Any]:
    """Reads one collection, for example "params", as nested dicts of NumPy arrays; {} if absent.

    It may be nested below other names, as in {"model": {"params": ...}}.

    Raises:
        UsageError: it is not made of nested dicts, or is in several places.
    """
    leaves = [leaf for leaf in list_leaves(tree) if leaf.collection == collection]
    inside = [leaf for leaf in leaves if collection in leaf.path.split("/")[:-1]]
    prefixes = {leaf.path[: leaf.path.index(collection)] for leaf in inside}
    if len(prefixes) > 1 or len(inside) < len(leaves):
        raise UsageError(f"{tree} does not hold {collection} as one tree of named arrays")
    nested: dict[str, Any] = {}
    for leaf, array in read_leaves(tree, leaves):
        below = leaf.path[leaf.path.index(collection) + len(collection) + 1 :]
        *groups, name = below.split("/")
        inner = nested
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                raise UsageError(f"{tree} has both {leaf.path} and an array above it")
        inner[name] = array
    return nested


def read_variables(tree: Path, midway: bool = False) -> dict[str, dict[str, Any]]:
    """Reads the "params" and "batch_stats" that are scored, see `TrainState.scored`; {} if absent.

    Args:
        tree: the folder of a state.
        midway: whether it was saved within an epoch. An average has no statistics of its own then,
            and the parameters that are trained are read instead.

    Raises:
        UsageError: see `read_collection`.
    """
    averages = {"params": "average", "batch_stats": "average_stats"}
    return {
        name: (not midway and read_collection(tree, average)) or read_collection(tree, name)
        for name, average in averages.items()
    }


def _read(leaf: Leaf, tree: Path) -> tuple[np.ndarray]:
    with reading(f"{leaf.path} in {tree}"):
        return (_open(leaf, tree).read().result(),)


def _open(leaf: Leaf, tree: Path) -> tensorstore.TensorStore:
    files = {"driver": "file", "path": f"{tree.absolute()}/"}
    if (tree / "manifest.ocdbt").is_file():
        store: dict[str, Any] = {"driver": "ocdbt", "base": files, "path": f"{leaf.key}/"}
    else:  # a folder for each array
        store = {**files, "path": f"{files['path']}{leaf.key}/"}
    return tensorstore.open({"driver": "auto", "kvstore": store}).result()


def _kind(leaf: Any) -> str:
    return type(leaf).__name__.removesuffix("Metadata").lower()
