"""The JSON record beside the arrays of a checkpoint, and the versions of the code that it names."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from flaxlab import config as configs
from flaxlab.batches.devices import Devices
from flaxlab.hardware import processor_name, xla_threads
from flaxlab.run.fingerprint import fingerprints
from flaxlab.run.history import to_numbers
from flaxlab.run.steps import Mark
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Progress
from flaxlab.training.metrics import History

_PACKAGES = ("flaxlab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that a result depends on.

    In a checkout of flaxlab, "git" is its revision, see `git_revision`.
    """
    found = {"python": sys.version.split()[0]}
    found |= {package: metadata.version(package) for package in _PACKAGES}
    root = Path(__file__).parents[2]
    revision = git_revision(root) if (root / ".git").exists() else None
    return found | ({"git": revision} if revision else {})


@functools.cache
def experiment_revision(file: Path) -> str | None:
    """Returns the `git_revision` of an experiment file when `remember_revisions` last ran."""
    return git_revision(file.expanduser().resolve())


def remember_revisions(files: Iterable[Path]) -> None:
    """Looks up the revision of flaxlab and of experiment files before a run or a suite.

    A commit may follow while it runs. Experiment files are run again when they have changed, in a
    notebook too; flaxlab is not, so that its revision stays that of the first run.
    """
    versions()
    experiment_revision.cache_clear()
    for file in files:
        experiment_revision(file)


def git_revision(path: Path) -> str | None:
    """Returns the revision of the repository around a file or folder: "0123456789ab + changes".

    "+ changes" means that tracked files differ from the revision, or that `path` is not tracked.
    None without a repository, or without git on this machine.
    """

    def git(*arguments: str) -> str | None:
        with contextlib.suppress(OSError):
            result = subprocess.run(
                ["git", *arguments],
                cwd=path if path.is_dir() else path.parent,
                capture_output=True,
                text=True,
                check=False,
            )
            if result.returncode == 0:
                return result.stdout.strip()
        return None

    revision = git("rev-parse", "--short=12", "HEAD")
    if revision is None:
        return None
    tracked = path.is_dir() or git("ls-files", "--error-unmatch", path.name) is not None
    changed = git("status", "--porcelain", "--untracked-files=no") or not tracked
    return f"{revision} + changes" if changed else revision


def computed_by(devices: Devices) -> dict[str, Any]:
    """Returns what decides how a run rounds: its kind of device and, on a CPU, XLA's threads."""
    if devices.accelerated:
        return {"device": devices.mesh.devices.flat[0].device_kind}
    return {"device": processor_name(), "threads": xla_threads(jax.local_device_count())}


def make_record(
    experiment: Experiment,
    history: History,
    progress: Progress | None = None,
    seconds: float = 0.0,
    mark: Mark | None = None,
) -> dict[str, Any]:
    """Returns the record of a checkpoint.

    Args:
        experiment: the experiment.
        history: rows of the complete epochs.
        progress: progress in the next epoch; None at the end of an epoch.
        seconds: how long that took.
        mark: where the last row of steps.csv ends.
    """
    part = progress and {
        "steps": progress.steps,
        "totals": to_numbers(progress.totals),
        "seconds": seconds,
        "mark": mark and mark._asdict(),
    }
    dataset = experiment.dataset
    return {
        "config": configs.to_dict(experiment.config),
        "fingerprints": fingerprints(experiment),
        "dataset": {
            "title": dataset.title,
            "fingerprint": dataset.fingerprint,
            "class_names": list(dataset.class_names),
        },
        "history": [asdict(row) for row in history],
        "steps_per_call": experiment.steps_per_call,
        "computed_by": computed_by(experiment.devices),
        "part": part,
        "versions": versions(),
    }
