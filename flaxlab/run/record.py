"""What is written beside the arrays of a checkpoint, and whether a run may go on from it."""

from __future__ import annotations

import contextlib
import functools
import logging
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab.checkpoints.find import epoch_of
from flaxlab.config.rules import complete
from flaxlab.data.cache import is_lazy
from flaxlab.errors import UsageError
from flaxlab.run import history as histories
from flaxlab.run.fingerprint import describe_other_code, fingerprints, same_tracer
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Progress
from flaxlab.training.metrics import History

_log = logging.getLogger(__name__)

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


def check_resumable(record: dict[str, Any], experiment: Experiment) -> None:
    """Raises a `UsageError` that shows what differs if a run may not go on from `record`.

    More epochs, logging and the like may change; with the cosine schedule the number of epochs
    may not, since all learning rates follow from it.
    """
    config, dataset = experiment.config, experiment.dataset
    reached = epoch_of(record)
    if config.train.epochs < reached:
        raise UsageError(
            f"the run in this --workdir has come to epoch {reached}, but config.train.epochs is"
            f" {config.train.epochs}; take another --workdir, or config.train.epochs={reached}"
        )
    differences = resuming_differences(complete(configs.from_dict(record["config"])), config)
    changed = [f"{path}: {old!r} there, {new!r} now" for path, (old, new) in differences.items()]
    if changed:
        raise UsageError(
            "the run in this --workdir was started with another config ("
            + "; ".join(changed)
            + "); take another --workdir, or the old values"
        )
    check_same_code(record, fingerprints(experiment), "the run in this --workdir")
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


def check_same_code(record: Mapping[str, Any], now: Mapping[str, str], run: str) -> None:
    """Raises a `UsageError` if the code computes something else than when `record` was written.

    See `describe_other_code`; what cannot be known is a warning.
    """
    text = describe_other_code(record, now, run)
    if text and same_tracer(record["versions"]):
        raise UsageError(f"{text}; take another --workdir, or go back to that code")
    if text:
        _log.warning("warning: %s", text)


def resuming_differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns {path: (old, new)} where a run of `old` may not go on with `new`."""
    changed = configs.meaningful_differences(old, new)
    if new.optimizer.schedule != "cosine":
        changed.pop("train.epochs", None)
    return changed
