"""Finds the state that a run starts with: a new one, another run's, or where it stopped."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from flaxlab.checkpoints.find import choose, find_saved, require_intact
from flaxlab.checkpoints.read import read_variables
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.errors import UsageError
from flaxlab.run.history import from_numbers
from flaxlab.run.load import reported_step
from flaxlab.run.resume_rules import check_resumable, warn_of_other_rounding
from flaxlab.run.steps import Mark
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Progress, Start, finished
from flaxlab.training.metrics import Row
from flaxlab.training.optimizer import restarted
from flaxlab.training.state import TrainState

_log = logging.getLogger(__name__)


class Part(NamedTuple):
    """What a checkpoint within an epoch says of the steps that were taken in it.

    Attributes:
        seconds: how long they took.
        mark: where the last row of steps.csv ends; None: there is none yet.
    """

    seconds: float = 0.0
    mark: Mark | None = None


def find_start(experiment: Experiment, checkpoints: Checkpoints) -> tuple[Start, Part]:
    """Returns the newest intact state of the run in a directory, or its initial one.

    Args:
        experiment: the experiment, as it is started now.
        checkpoints: the checkpoints of the run.

    Returns:
        Where the run begins, on its devices, and what is known of the steps already taken in the
        next epoch.

    Raises:
        UsageError: the run cannot go on with this config, code or data.
    """
    place = experiment.devices.put
    state = experiment.create_state()
    newest = checkpoints.newest()
    if newest is None:
        checkpoints.forget_best_after(0)
        if experiment.config.train.init_from is not None:
            state = warm_start(state, Path(experiment.config.train.init_from))
            state = restarted(state, experiment.optimizer)
        return Start(place(state), [], Progress.beginning(1)), Part()
    record = newest.record
    check_resumable(record, experiment)
    state = newest.restore(place(state))
    checkpoints.forget_best_after(int(state.step))
    history, part = [Row(**row) for row in record["history"]], record["part"]
    if not finished(experiment.config.train, history):
        warn_of_other_rounding(record, experiment)
    epoch = len(history) + 1
    if part is None:  # the end of an epoch
        return Start(state, history, Progress.beginning(epoch)), Part()
    progress = Progress(epoch, part["steps"], from_numbers(part["totals"]))
    mark = part.get("mark")  # an older checkpoint has none
    return Start(state, history, progress), Part(part["seconds"], mark and Mark(**mark))


def warm_start(state: TrainState, source: Path) -> TrainState:
    """Replaces parameters and running statistics with those of another run, by path and shape.

    They are those with which that run is scored. The log lists which arrays were taken, and which
    were not and why.

    Args:
        state: a newly drawn state.
        source: a run or any checkpoint with "params", see `find_saved`.

    Raises:
        UsageError: there is no such checkpoint, it is damaged, or no kernel in it fits: biases
            and statistics alone hold nothing that was learned.
    """
    found = find_saved(source)
    saved = choose(found, reported_step(found))
    require_intact(saved)
    tree = saved.trees.get("state", next(iter(saved.trees.values())))
    taken, left, unused = [], [], []
    kernels = 0
    replaced: dict[str, Any] = {}
    for collection, found_there in read_variables(tree, saved.kind == "midway").items():
        own = flatten_dict(getattr(state, collection), sep="/")
        theirs = flatten_dict(found_there, sep="/")
        for path, value in own.items():
            other, name = theirs.get(path), f"{collection}/{path}"
            if other is None:
                left.append(f"{name} (not there)")
            elif other.shape != value.shape:
                left.append(f"{name} (there {other.shape}, here {value.shape})")
            else:
                own[path] = jnp.asarray(other, value.dtype)
                taken.append(name)
                kernels += collection == "params" and value.ndim > 1
        unused += [f"{collection}/{path}" for path in theirs if path not in own]
        replaced[collection] = unflatten_dict(own, sep="/")
    if not kernels:
        example = next(note for note in left if "/kernel (" in note)
        raise UsageError(
            f"nothing in {saved.folder} fits config.train.init_from: no kernel has the path and"
            f" shape of one in this model, for example {example}"
        )
    _log.info("from %s: %s; the optimizer starts afresh", source, ", ".join(taken))
    if left:
        _log.info("drawn at random: %s", ", ".join(left))
    if unused:
        _log.info("not used: %s", ", ".join(unused))
    return state.replace(**replaced)
