"""What is written beside the arrays of a checkpoint, and whether a run may go on from it."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab.checkpoints.steps import epoch_of
from flaxlab.data.cache import is_lazy
from flaxlab.data.dataset import Dataset
from flaxlab.errors import UsageError
from flaxlab.training.epoch import EpochPart
from flaxlab.training.history import History

_PACKAGES = ("flaxlab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that a result depends on.

    With the git revision of flaxlab where it runs from a checkout; "-dirty" marks local changes.
    """
    found = {"python": sys.version.split()[0]}
    found |= {package: metadata.version(package) for package in _PACKAGES}
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        with contextlib.suppress(OSError):  # no git on this machine
            result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
            if result.returncode == 0:
                found["git"] = result.stdout.strip()
    return found


def make_record(
    config: ConfigDict, dataset: Dataset, history: History, part: EpochPart | None = None
) -> dict[str, Any]:
    """Returns the JSON that stands beside the arrays of a checkpoint.

    Args:
        config: of the run.
        dataset: of the run.
        history: of its complete epochs.
        part: what has been done of the next one; None at the end of an epoch.
    """
    return {
        "config": configs.to_dict(config),
        "dataset": {
            "title": dataset.title,
            "fingerprint": dataset.fingerprint,
            "class_names": list(dataset.class_names),
        },
        "history": history,
        "part": part and part.to_json(),
        "versions": versions(),
    }


def check_resumable(record: dict[str, Any], config: ConfigDict, dataset: Dataset) -> None:
    """Raises a `UsageError` that shows what differs if `config` may not go on from `record`.

    More epochs, logging and the like may change; with the cosine schedule the number of epochs
    may not, since all learning rates follow from it.
    """
    reached = epoch_of(record)
    if config.train.epochs < reached:
        raise UsageError(
            f"the run in this --workdir has come to epoch {reached}, but config.train.epochs is"
            f" {config.train.epochs}; take another --workdir, or config.train.epochs={reached}"
        )
    differences = resuming_differences(configs.from_dict(record["config"]), config)
    changed = [f"{path}: {old!r} there, {new!r} now" for path, (old, new) in differences.items()]
    if changed:
        raise UsageError(
            "the run in this --workdir was started with another config ("
            + "; ".join(changed)
            + "); take another --workdir, or the old values"
        )
    before, now = record["dataset"]["fingerprint"], dataset.fingerprint
    if is_lazy(before) != is_lazy(now):
        was, way = ("in their files", "grain") if is_lazy(before) else ("in memory", "streamed")
        raise UsageError(
            f"the run in this --workdir was started with its images {was}, and whether these are"
            f" the same cannot be told; use --config.data.placement={way}"
        )
    if before != now:
        raise UsageError(
            f"the run in this --workdir was started on other data ({record['dataset']['title']},"
            " changed since); take another --workdir"
        )


def resuming_differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns {path: (old, new)} where a run of `old` may not go on with `new`."""
    changed = configs.meaningful_differences(old, new)
    if new.optimizer.schedule != "cosine":
        changed.pop("train.epochs", None)
    return changed
