"""Finds the checkpoints of a run, or of any other project that uses Orbax, by their files."""

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
    """One saved checkpoint, of flaxlab or of another project.

    Attributes:
        folder: folder of the step, or of the tree if there are no steps.
        trees: folders that hold trees of arrays, by item name; empty if files are missing.
        step: number of the step; None if there are no steps.
        kind: "latest", "best", "midway", or the name of the folder that holds the steps.
    """

    folder: Path
    trees: dict[str, Path]
    step: int | None
    kind: str

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def record(self) -> dict[str, Any] | None:
        """Returns what flaxlab saved beside the arrays: config, data set, history, versions."""
        return _json(self.folder / "record" / "metadata")

    def metrics(self) -> dict[str, float]:
        """Returns the step's metrics: its row of flaxlab's history, or what Orbax was given."""
        record = self.record()
        if record and record.get("part"):
            sums = record["part"]["totals"]
            count = sums["count"] or math.nan  # if every step was skipped
            return {
                "epoch": epoch_of(record),
                "train_loss": sums["loss"] / count,
                "train_accuracy": sums["correct"] / count,
            }
        if record and record.get("history"):
            row = record["history"][-1]
            keys = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
            return {key: row[key] for key in keys if key in row}
        metrics = _json(self.folder / "metrics" / "metrics") or {}
        return {key: value for key, value in metrics.items() if isinstance(value, int | float)}


def epoch_of(record: dict[str, Any]) -> int:
    """Returns the epoch, complete or begun, that a checkpoint with this record is from."""
    return len(record["history"]) + bool(record.get("part"))


def find_saved(path: Path) -> list[Saved]:
    """Lists the checkpoints at `path`, oldest first: latest, then best, midway, and others.

    Args:
        path: a run directory, its folder "checkpoints", a folder of steps, one step, or one tree.

    Raises:
        UsageError: there is none, or only saves that were interrupted.
    """
    path = path.expanduser()
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    if "orbax-checkpoint-tmp" in path.name:
        raise UsageError(f"{path} is a save that was not completed; choose another step")
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
        saved: checkpoints, see `find_saved`.
        step: "latest", "best", or a number.

    Raises:
        UsageError: there is no such checkpoint, or it has lost files.
    """
    if step.isdecimal():
        found = [each for each in saved if each.step == int(step)]
        if not found:
            steps = ", ".join(sorted({str(each.step) for each in saved}))
            raise UsageError(f"there is no step {step} in {saved[0].folder.parent}; it has {steps}")
        chosen = min(found, key=lambda each: each.kind == "best")  # the whole state, if it is there
    elif step in ("latest", "best"):
        found = [each for each in saved if each.kind == step]
        if not found and step == "best":
            raise UsageError(
                f"{saved[0].folder} has no best checkpoint; choose --step=latest or a number"
            )
        chosen = (found or saved)[-1]
    else:
        raise UsageError(f"--step={step} is not a step; expected latest, best or a number")
    if not chosen.trees:
        damage = find_damage(chosen.folder) or ["its metadata is missing"]
        raise UsageError(f"checkpoint {chosen.folder} is damaged: {'; '.join(damage)}")
    return chosen


def require_intact(saved: Saved) -> None:
    """Raises a `UsageError` that names the damaged files if the manifest shows any."""
    damage = find_damage(saved.folder)
    if damage:
        raise UsageError(f"checkpoint {saved.folder} is damaged: {'; '.join(damage)}")


def _steps(folder: Path, kind: str) -> list[Saved]:
    if not folder.is_dir():
        return []
    found = [_saved(path, kind) for path in folder.iterdir() if _step(path) is not None]
    return sorted(filter(None, found), key=lambda saved: saved.step or 0)


def _step(folder: Path) -> int | None:
    """Returns the number in the name of a step's folder: 5, or step_5 as in some projects."""
    found = re.fullmatch(r"(?:.*_)?(\d+)", folder.name)
    return int(found[1]) if found and folder.is_dir() else None


def _saved(folder: Path, kind: str) -> Saved | None:
    step = _step(folder)
    if (folder / _TREE_FILE).is_file():
        above = folder.parent
        if (above / _STEP_FILE).is_file() or (above / NAME).is_file():
            # One item of a step: the manifest is in the step's folder.
            return Saved(above, {folder.name: folder}, _step(above), above.parent.name)
        return Saved(folder, {"": folder}, step, kind)
    trees = {part.parent.name: part.parent for part in sorted(folder.glob(f"*/{_TREE_FILE}"))}
    if trees and (folder / _STEP_FILE).is_file():
        return Saved(folder, trees, step, kind)
    # A step that has lost files is still listed: otherwise an older one would pass as the latest.
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
