"""What is written beside the arrays of a checkpoint."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from flaxlab import config as configs
from flaxlab.run import history as histories
from flaxlab.run.fingerprint import fingerprints
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Progress
from flaxlab.training.metrics import History

_PACKAGES = ("flaxlab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that a result depends on.

    With the git revision of flaxlab where it runs from a checkout, see `git_revision`.
    """
    found = {"python": sys.version.split()[0]}
    found |= {package: metadata.version(package) for package in _PACKAGES}
    root = Path(__file__).parents[2]
    revision = git_revision(root) if (root / ".git").exists() else None
    return found | ({"git": revision} if revision else {})


@functools.cache
def experiment_revision(file: Path) -> str | None:
    """Returns the `git_revision` of an experiment file when this was first asked for."""
    return git_revision(file.expanduser().resolve())


def git_revision(path: Path) -> str | None:
    """Returns the revision of the repository around a file or folder: "0123456789ab + changes".

    "+ changes" says that tracked files differ from the revision, or that `path` is not part of
    it. None where there is no repository, or no git on this machine.
    """
    folder = path if path.is_dir() else path.parent

    def git(*arguments: str) -> str | None:
        with contextlib.suppress(OSError):
            result = subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
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


def make_record(
    experiment: Experiment,
    history: History,
    progress: Progress | None = None,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Returns the JSON that stands beside the arrays of a checkpoint.

    Args:
        experiment: what is run.
        history: rows of the complete epochs.
        progress: what has been done of the next one; None at the end of an epoch.
        seconds: that this took.
    """
    part = progress and {
        "steps": progress.steps,
        "totals": histories.to_numbers(progress.totals),
        "seconds": seconds,
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
        "history": histories.to_json(history),
        "part": part,
        "versions": versions(),
    }
