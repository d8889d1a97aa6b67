"""Decides whether a run may go on with this config, code and data, and whether it is finished."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab.checkpoints.find import epoch_of, find_saved
from flaxlab.config.rules import complete
from flaxlab.data.cache import is_lazy
from flaxlab.errors import UsageError
from flaxlab.run.fingerprint import describe_other_code, fingerprints, same_tracer
from flaxlab.run.history import saved_epochs
from flaxlab.run.record import computed_by
from flaxlab.texts import count_text
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import finished
from flaxlab.training.metrics import Row

_log = logging.getLogger(__name__)

_RUN = "the run in this --workdir"


def resuming_differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns {path: (old, new)} of the fields that keep a run of `old` from going on with `new`.

    The number of epochs, logging and the like may change; but not the number of epochs with a
    schedule whose learning rates all follow from it.
    """
    changed = configs.meaningful_differences(old, new)
    if new.optimizer.schedule not in ("cosine", "one_cycle"):
        changed.pop("train.epochs", None)
    return changed


def check_resumable(record: dict[str, Any], experiment: Experiment) -> None:
    """Raises a `UsageError` that names what differs if a run may not go on from a checkpoint.

    Code that was traced by another version of JAX, Flax or Optax cannot be compared; then a
    difference is only a warning.

    Args:
        record: the record of the checkpoint, see `make_record`.
        experiment: the experiment, as it is started now.
    """
    config, dataset = experiment.config, experiment.dataset
    reached = epoch_of(record)
    if config.train.epochs < reached:
        raise UsageError(
            f"{_RUN} has reached epoch {reached}, but config.train.epochs is"
            f" {config.train.epochs}; use another --workdir, or config.train.epochs={reached}"
        )
    changed = resuming_differences(complete(configs.from_dict(record["config"])), config)
    if changed:
        raise UsageError(
            f"{_RUN} was started with another config ({_there_and_now(changed)}); use another"
            " --workdir, or the old values"
        )
    other_code = describe_other_code(record, fingerprints(experiment), _RUN)
    if other_code and same_tracer(record["versions"]):
        raise UsageError(f"{other_code}; use another --workdir, or go back to that code")
    if other_code:
        _log.warning("warning: %s", other_code)
    before, now = record["dataset"]["fingerprint"], dataset.fingerprint
    if is_lazy(before) != is_lazy(now):
        was, way = ("in their files", "grain") if is_lazy(before) else ("in memory", "streamed")
        raise UsageError(
            f"{_RUN} was started with its images {was}, so it cannot be checked whether these are"
            f" the same; use --config.data.placement={way}"
        )
    if before != now:
        raise UsageError(
            f"{_RUN} was started on other data ({record['dataset']['title']}, changed since); use"
            " another --workdir"
        )
    names = tuple(record["dataset"]["class_names"])
    if names != dataset.class_names:
        raise UsageError(
            f"{_RUN} was started with other class names"
            f" ({_other_names(names, dataset.class_names)}); use another --workdir, or the old"
            " names"
        )


def warn_of_other_rounding(record: dict[str, Any], experiment: Experiment) -> None:
    """Warns if a run that goes on from a checkpoint may not end with the bits it would have had.

    Args:
        record: the record of the checkpoint; an older one does not say what computed it.
        experiment: the experiment, as it is started now.
    """
    steps = record.get("steps_per_call", experiment.steps_per_call)
    if steps != experiment.steps_per_call:
        _log.warning(
            "warning: %s took %d steps in a call and now takes %d, which may round differently;"
            " --config.train.steps_per_execution=%d keeps the same bits",
            _RUN,
            steps,
            experiment.steps_per_call,
            steps,
        )
    now = computed_by(experiment.devices)
    before = record.get("computed_by", now)
    if before != now:
        # Of one device, and not the same: it is a processor, with other threads.
        same_device = before["device"] == now["device"]
        _log.warning(
            "warning: %s was computed by %s and goes on with %s, which may round differently%s",
            _RUN,
            _computer(before),
            _computer(now),
            f"; NPROC={before['threads']} keeps the same bits" if same_device else "",
        )


def is_complete(folder: Path, experiment: Experiment) -> bool:
    """Returns whether the run in `folder` has all its epochs, and its report.

    Raises:
        UsageError: it may not go on with this config, code or data, see `check_resumable`.
    """
    try:
        found = [saved for saved in find_saved(folder) if saved.kind == "latest"]
    except UsageError:  # there is no checkpoint, or none is complete
        return False
    record = found[-1].record() if found else None
    if record is None:
        return False
    check_resumable(record, experiment)
    history = [Row(**row) for row in record["history"]]
    return finished(experiment.config.train, history) and (folder / "summary.json").is_file()


def is_finished(folder: Path, experiment: Experiment) -> bool:
    """Returns whether the run in `folder` is complete.

    Needs no checkpoints, since the runs in a ledger have none.

    Raises:
        UsageError: it was made with another config or on other data, or cannot be read.
    """
    try:
        old = complete(configs.from_dict(json.loads((folder / "config.json").read_text())))
        done = (folder / "summary.json").is_file()
        summary = json.loads((folder / "summary.json").read_text()) if done else {}
        epochs = saved_epochs(folder)
    except FileNotFoundError:
        return False
    except (ValueError, AttributeError, UsageError) as error:
        raise UsageError(f"the run in {folder} cannot be read ({error}); remove it") from error
    changed = resuming_differences(old, experiment.config)
    if epochs > experiment.config.train.epochs:
        changed["train.epochs"] = (epochs, experiment.config.train.epochs)
    if done and summary["dataset_fingerprint"] != experiment.dataset.fingerprint:
        changed["the data"] = (summary["dataset"], f"{experiment.dataset.title}, changed since")
    if changed:
        raise UsageError(
            f"the run in {folder} differs from this one ({_there_and_now(changed)}); use another"
            " --workdir, or the old values"
        )
    if done and (
        text := describe_other_code(summary, fingerprints(experiment), f"the run in {folder}")
    ):
        _log.warning("warning: %s; new runs are not comparable seeds of the same arm", text)
    return done and old.train.epochs == experiment.config.train.epochs


def _there_and_now(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"{path}: {old!r} there, {new!r} now" for path, (old, new) in changed.items())


def _computer(computed: Mapping[str, Any]) -> str:
    threads = computed.get("threads")
    counted = f"{count_text(threads, 'thread')} of " if threads else ""
    return f"{counted}{computed['device']}"


def _other_names(old: Sequence[str], new: Sequence[str]) -> str:
    if len(old) != len(new):
        return f"{len(old)} there, {len(new)} now"
    label = next(label for label, name in enumerate(old) if name != new[label])
    return f"label {label} is {old[label]!r} there, {new[label]!r} now"
