"""Reads any tree that Orbax has saved: what is in it, its arrays, and the values of large ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flaxlab.checkpoints.pieces import find_pieces
from flaxlab.errors import UsageError

_COLLECTIONS = ("params", "batch_stats", "opt_state")

# Small arrays are read together: Orbax goes through the whole tree for each read.
_TOGETHER = 8_000_000  # bytes

# Orbax reports each read on the absl logger.
logging.getLogger("absl").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Leaf:
    """One leaf of a saved tree.

    Attributes:
        path: names and numbers from the root, "/" between them.
        shape: shape of an array; None for anything else.
        dtype: dtype of an array, such as "float32"; the type of anything else, such as "str".
        index: its place among the leaves of the tree.
    """

    path: str
    shape: tuple[int, ...] | None
    dtype: str
    index: int

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
        """What it belongs to: the first known name of the path, else the first name."""
        names = self.path.split("/")
        return next((name for name in names if name in _COLLECTIONS), names[0])


def list_leaves(tree: Path) -> list[Leaf]:
    """Lists the leaves of a saved tree without reading their values.

    Raises:
        UsageError: its metadata cannot be read.
    """
    return [
        Leaf(
            path="/".join(str(_key(key)) for key in keys),
            shape=None if getattr(leaf, "shape", None) is None else tuple(leaf.shape),
            dtype=str(leaf.dtype) if hasattr(leaf, "dtype") else _kind(leaf),
            index=index,
        )
        for index, (keys, leaf) in enumerate(_metadata(tree)[0])
    ]


def read_leaves(tree: Path, leaves: Sequence[Leaf]) -> Iterator[tuple[Leaf, np.ndarray]]:
    """Reads arrays one after the other, as NumPy in the shape and dtype of their leaves, none kept.

    Needs no template, no optimizer, and not the devices that the arrays were saved from.

    Args:
        tree: the folder.
        leaves: what `list_leaves` returns; those that are not arrays are left out.

    Raises:
        UsageError: an array cannot be read.
    """
    keyed, structure = _metadata(tree)
    arguments = structure.unflatten([ocp.RestoreArgs(restore_type=np.ndarray)] * len(keyed))
    with ocp.PyTreeCheckpointer() as reader:
        for group in _groups(leaf for leaf in leaves if leaf.shape is not None):
            indices = {leaf.index for leaf in group}
            wanted = structure.unflatten(
                [
                    metadata if index in indices else ocp.PLACEHOLDER
                    for index, (_, metadata) in enumerate(keyed)
                ]
            )
            args = ocp.args.PyTreeRestore(item=wanted, restore_args=arguments)
            try:
                restored = jax.tree.leaves(reader.restore(tree.absolute(), args=args))
            except Exception as error:  # what Orbax raises for damaged files has no common class
                reason = str(error).split("\n")[0][:200]
                paths = ", ".join(leaf.path for leaf in group[:3])
                raise UsageError(f"{paths} in {tree} cannot be read ({reason})") from error
            while group:
                leaf = group.pop(0)
                yield leaf, np.asarray(restored[leaf.index])
            del restored


def read_pieces(tree: Path, leaves: Sequence[Leaf]) -> Iterator[tuple[Leaf, Iterable[np.ndarray]]]:
    """Reads the values of one array after the other; a large one is never in memory as a whole.

    Args:
        tree: the folder.
        leaves: what `list_leaves` returns; those that are not arrays are left out.

    Returns:
        Leaves in any order, each with NumPy arrays of its dtype that together hold its values, in
        any order and shape; they may be gone through several times. What only Orbax can read is
        one array.

    Raises:
        UsageError: an array cannot be read; of a large one, while its pieces are gone through.
    """
    names = [metadata.name for _, metadata in _metadata(tree)[0]]
    whole = []
    for leaf in leaves:
        stored = None
        if leaf.shape is not None and leaf.nbytes > _TOGETHER:
            dtype = jax.numpy.dtype(leaf.dtype)
            stored = find_pieces(tree, names[leaf.index], leaf.shape, dtype)
        if stored is None:
            whole.append(leaf)
        else:
            yield leaf, stored
    for leaf, array in read_leaves(tree, whole):
        yield leaf, (array,)
        del array  # before the next one is read


def _groups(leaves: Iterable[Leaf]) -> Iterator[list[Leaf]]:
    """Parts leaves into groups of at most `_TOGETHER` bytes; a larger one stands alone."""
    group: list[Leaf] = []
    for leaf in leaves:
        if group and sum(each.nbytes for each in group) + leaf.nbytes > _TOGETHER:
            yield group
            group = []
        group.append(leaf)
    if group:
        yield group


def read_collection(tree: Path, collection: str) -> dict[str, Any]:
    """Reads one collection, for example "params", as nested dicts of NumPy arrays; {} if absent.

    It may stand below other names, as in {"model": {"params": ...}}.

    Raises:
        UsageError: it is not made of nested dicts, or stands in several places.
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


def _metadata(tree: Path) -> tuple[list[tuple[Any, Any]], Any]:
    try:
        with ocp.PyTreeCheckpointer() as reader:
            metadata = reader.metadata(tree.absolute()).item_metadata
    except Exception as error:  # see above
        reason = str(error).split("\n")[0][:200]
        raise UsageError(f"the metadata of {tree} cannot be read ({reason})") from error
    if metadata is None:  # what Orbax returns for some kinds of damage
        raise UsageError(f"the metadata of {tree} cannot be read; its files are damaged")
    found = metadata.tree
    return jax.tree_util.tree_flatten_with_path(found, is_leaf=lambda leaf: hasattr(leaf, "name"))


def _key(key: Any) -> Any:
    return getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))


def _kind(leaf: Any) -> str:
    return type(leaf).__name__.removesuffix("Metadata").lower()
