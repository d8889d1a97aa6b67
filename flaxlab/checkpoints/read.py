"""Reads any tree that Orbax has saved: its contents, its arrays, and large arrays in pieces.

Orbax describes the tree; TensorStore, on which Orbax is built, reads one array without the others,
without a template, and without the devices that it was saved from.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from flaxlab.checkpoints.pieces import find_pieces
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
    try:
        with ocp.PyTreeCheckpointer() as reader:
            metadata = reader.metadata(tree.absolute()).item_metadata
    except Exception as error:  # Orbax's errors about damaged files have no common class
        raise UsageError(f"the metadata of {tree} cannot be read ({_reason(error)})") from error
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
            with _errors_of(leaf, tree):
                array = _open(leaf, tree).read().result()
            yield leaf, array


def read_pieces(tree: Path, leaves: Sequence[Leaf]) -> Iterator[tuple[Leaf, Iterable[np.ndarray]]]:
    """Reads the values of one array after the other, of a large one never all at once.

    Args:
        tree: folder of the tree.
        leaves: leaves of `list_leaves`; those that are not arrays are left out.

    Returns:
        Each leaf with NumPy arrays of its dtype that together hold its values, in any order and
        shape, and that can be iterated over several times. An array that is small, or not stored
        in Orbax's default way, is a single one.

    Raises:
        UsageError: an array cannot be read; for a large one, while its pieces are iterated over.
    """
    for leaf in leaves:
        if leaf.shape is not None:
            with _errors_of(leaf, tree):
                array = _open(leaf, tree)
                pieces = find_pieces(array, _name(leaf, tree)) if leaf.nbytes > _LARGE else None
                values = pieces or (array.read().result(),)
            yield leaf, values
            del values  # before the next array is read


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


def _open(leaf: Leaf, tree: Path) -> tensorstore.TensorStore:
    files = {"driver": "file", "path": f"{tree.absolute()}/"}
    if (tree / "manifest.ocdbt").is_file():
        store: dict[str, Any] = {"driver": "ocdbt", "base": files, "path": f"{leaf.key}/"}
    else:  # a folder for each array
        store = {**files, "path": f"{files['path']}{leaf.key}/"}
    return tensorstore.open({"driver": "auto", "kvstore": store}).result()


@contextlib.contextmanager
def _errors_of(leaf: Leaf, tree: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # TensorStore's errors have no common class
        raise UsageError(f"{_name(leaf, tree)} cannot be read ({_reason(error)})") from error


def _name(leaf: Leaf, tree: Path) -> str:
    return f"{leaf.path} in {tree}"


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0][:200]


def _kind(leaf: Any) -> str:
    return type(leaf).__name__.removesuffix("Metadata").lower()
