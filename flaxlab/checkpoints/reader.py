"""Reads any Orbax checkpoint: its steps, what is in them, and their arrays one by one."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flaxlab.checkpoints.manifest import NAME, find_damage
from flaxlab.errors import UsageError

_TREE_FILE = "_METADATA"  # in a folder that holds a tree of arrays
_STEP_FILE = "_CHECKPOINT_METADATA"  # in a folder that holds the items of one step

_COLLECTIONS = ("params", "batch_stats", "opt_state")

# Small arrays are read together: Orbax goes through the whole tree for each read.
_TOGETHER = 8_000_000  # bytes

# Orbax reports each read on the absl logger.
logging.getLogger("absl").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Saved:
    """One saved checkpoint: a step of a run, or of a foreign project.

    Attributes:
        folder: of the step, or of the tree where there are no steps.
        trees: the folders that hold trees of arrays, by item name; none where files are missing.
        step: its number; None where there are no steps.
        kind: "latest", "best", or the name of the folder of its manager.
    """

    folder: Path
    trees: dict[str, Path]
    step: int | None
    kind: str

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def record(self) -> dict[str, Any] | None:
        """What flaxlab wrote beside the arrays: config, data set, history, versions."""
        return _json(self.folder / "record" / "metadata")

    def metrics(self) -> dict[str, float]:
        """The metrics of the step: flaxlab's history row of it, or what Orbax was given."""
        record = self.record()
        if record and record.get("history"):
            row = record["history"][-1]
            keys = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
            return {key: row[key] for key in keys if key in row}
        stored = _json(self.folder / _STEP_FILE) or {}
        metrics = stored.get("metrics") or _json(self.folder / "metrics" / "metrics") or {}
        return {key: value for key, value in metrics.items() if isinstance(value, int | float)}


@dataclass(frozen=True)
class Leaf:
    """One leaf of a saved tree.

    Attributes:
        path: names and numbers from the root, "/" between them.
        shape: of the array; None for what is no array.
        dtype: of the array, for example "float32"; else what it is, for example "str".
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


def find_saved(path: Path) -> list[Saved]:
    """Lists the checkpoints at `path`, oldest first: latest ones, then best ones, then others.

    Args:
        path: a run directory, its folder "checkpoints", a manager's folder, one step, or one tree.

    Raises:
        UsageError: there is none; a folder of an interrupted save is named as such.
    """
    path = path.expanduser()
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    if "orbax-checkpoint-tmp" in path.name:
        raise UsageError(f"{path} is a save that was not completed; take another step")
    for folder in (path, path / "checkpoints"):
        single = _saved(folder, folder.parent.name)
        if single is not None:
            return [single]
        parts = [("latest", folder / "latest"), ("best", folder / "best"), (folder.name, folder)]
        found = [saved for kind, part in parts for saved in _steps(part, kind)]
        if found:
            return found
    unfinished = [each.name for each in path.rglob("*orbax-checkpoint-tmp*")]
    if unfinished:
        raise UsageError(f"{path} holds only saves that were not completed ({unfinished[0]})")
    raise UsageError(
        f"there is no checkpoint in {path}; expected a run directory, a folder of checkpoints, or"
        " one that Orbax wrote"
    )


def choose(saved: Sequence[Saved], step: str) -> Saved:
    """Picks one checkpoint.

    Args:
        saved: see `find_saved`.
        step: "latest", "best", or a number.

    Raises:
        UsageError: there is no such one.
    """
    chosen = _choose(saved, step)
    if not chosen.trees:
        raise UsageError(f"checkpoint {chosen.folder} is damaged: {_damage(chosen.folder)}")
    return chosen


def _damage(folder: Path) -> str:
    return "; ".join(find_damage(folder) or ["its metadata are missing"])


def _choose(saved: Sequence[Saved], step: str) -> Saved:
    if step.isdecimal():
        chosen = [each for each in saved if each.step == int(step)]
        # Of a step that is saved twice, the whole state.
        chosen.sort(key=lambda each: each.kind == "best")
        if chosen:
            return chosen[0]
        steps = ", ".join(sorted({str(each.step) for each in saved}))
        raise UsageError(f"there is no step {step} in {saved[0].folder.parent}; it has {steps}")
    if step not in ("latest", "best"):
        raise UsageError(f"--step={step} is no step; expected latest, best, or a number")
    of_kind = [each for each in saved if each.kind == step]
    if of_kind:
        return of_kind[-1]
    if step == "latest":
        return saved[-1]
    raise UsageError(f"{saved[0].folder} has no {step} checkpoint; take --step=latest or a number")


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
    """Reads arrays one after the other, each as NumPy and none kept.

    Needs no template, no optimizer, and not the devices that the arrays were saved from.

    Args:
        tree: the folder.
        leaves: of `list_leaves`; those that are no arrays are left out.

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


def require_intact(saved: Saved) -> None:
    """Raises a `UsageError` that names the damaged files, if the manifest finds any."""
    damage = find_damage(saved.folder)
    if damage:
        raise UsageError(f"checkpoint {saved.folder} is damaged: {'; '.join(damage)}")


def _steps(folder: Path, kind: str) -> list[Saved]:
    if not folder.is_dir():
        return []
    found = [_saved(path, kind) for path in folder.iterdir() if _step(path) is not None]
    return sorted(filter(None, found), key=lambda saved: saved.step or 0)


def _step(folder: Path) -> int | None:
    """Reads the step off the name of a folder: 5, or step_5 as some projects have it."""
    found = re.fullmatch(r"(?:.*_)?(\d+)", folder.name)
    return int(found[1]) if found and folder.is_dir() else None


def _saved(folder: Path, kind: str) -> Saved | None:
    step = _step(folder)
    if (folder / _TREE_FILE).is_file():
        above = folder.parent
        if (above / _STEP_FILE).is_file() or (above / NAME).is_file():
            # One item of a step: what verifies it stands with the step.
            return Saved(above, {folder.name: folder}, _step(above), above.parent.name)
        return Saved(folder, {"": folder}, step, kind)
    trees = {part.parent.name: part.parent for part in sorted(folder.glob(f"*/{_TREE_FILE}"))}
    if trees and (folder / _STEP_FILE).is_file():
        return Saved(folder, trees, step, kind)
    # A step that has lost files must not vanish: an older one would be taken for the latest.
    parts = (_STEP_FILE, NAME, "record", "state")
    if step is not None and any((folder / part).exists() for part in parts):
        return Saved(folder, {}, step, kind)
    return None


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


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
