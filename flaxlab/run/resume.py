"""Where a run begins: from drawn values, from those of another run, or from where it stopped."""

from __future__ import annotations

import logging
from pathlib import Path

from flaxlab.checkpoints.find import find_saved
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.run.history import from_json, from_numbers
from flaxlab.run.load import reported_step
from flaxlab.run.resume_rules import check_resumable
from flaxlab.run.warm_start import warm_start
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Progress, Start
from flaxlab.training.state import TrainState

_log = logging.getLogger(__name__)


def find_start(experiment: Experiment, checkpoints: Checkpoints) -> tuple[Start, float]:
    """Returns the newest intact state of the run in a directory, or its initial one.

    Args:
        experiment: what is run.
        checkpoints: checkpoints of the run.

    Returns:
        Where the run begins, on its devices, and the seconds that the steps already taken in the
        next epoch took.

    Raises:
        UsageError: the run that is there may not go on with this config or these data.
    """
    place = experiment.devices.put
    state = experiment.create_state()
    newest = checkpoints.newest()
    if newest is None:
        checkpoints.forget_best_after(0)
        initial = _initial(state, experiment.config.train.init_from)
        return Start(place(initial), [], Progress.beginning(1)), 0.0
    record = newest.record
    check_resumable(record, experiment)
    state = newest.restore(place(state))
    checkpoints.forget_best_after(int(state.step))
    history, part = from_json(record["history"]), record.get("part")
    epoch = len(history) + 1
    if not part:  # the end of an epoch
        return Start(state, history, Progress.beginning(epoch)), 0.0
    progress = Progress(epoch, part["steps"], from_numbers(part["totals"]))
    return Start(state, history, progress), part["seconds"]


def _initial(state: TrainState, init_from: str | None) -> TrainState:
    if init_from is None:
        return state
    found = find_saved(Path(init_from))
    started = warm_start(state, Path(init_from), reported_step(found))
    _log.info("from %s: %s; the optimizer starts anew", init_from, ", ".join(started.taken))
    if started.left:
        _log.info("as drawn: %s", ", ".join(started.left))
    if started.unused:
        _log.info("not used: %s", ", ".join(started.unused))
    return started.state
