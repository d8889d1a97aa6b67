"""Finds the checkpoints of a run or of any other project that uses Orbax, without Orbax."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxlab.checkpoints.manifest import NAME, find_damage
from flaxlab.errors import UsageError

_TREE_FILE = "_METADATA"  # in a folder that holds a tree of arrays
_STEP_FILE = "_CHECKPOINT_METADATA"  # in a folder that holds the items of one step


@dataclass(frozen=True)
class Saved:
    """One saved checkpoint: a step of a run, or of a foreign project.

    Attributes:
        folder: the step's folder, or the tree's where there are no steps.
        trees: the folders that hold trees of arrays, by item name; none where files are missing.
        step: its number; None where there are no steps.
        kind: "latest", "best", "midway", or the name of the folder of its manager.
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
        if record and record.get("part"):
            sums = record["part"]["totals"]
            count = sums["count"] or math.nan  # where every step was skipped
            return {
                "epoch": epoch_of(record),
                "train_loss": sums["loss"] / count,
                "train_accuracy": sums["correct"] / count,
            }
        if record and record.get("history"):
            row = record["history"][-1]
            keys = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
            return {key: row[key] for key in keys if key in row}
        stored = _json(self.folder / _STEP_FILE) or {}
        metrics = stored.get("metrics") or _json(self.folder / "metrics" / "metrics") or {}
        return {key: value for key, value in metrics.items() if isinstance(value, int | float)}


def epoch_of(record: dict[str, Any]) -> int:
    """Returns the epoch that a checkpoint is from, by its record: complete, or begun."""
    return len(record["history"]) + bool(record.get("part"))


def find_saved(path: Path) -> list[Saved]:
    """Lists the checkpoints at `path`, oldest first: latest, then best, midway, and others.

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
        parts = [(kind, folder / kind) for kind in ("latest", "best", "midway")]
        parts.append((folder.name, folder))
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


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
