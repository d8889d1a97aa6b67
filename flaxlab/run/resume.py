"""Where a run starts: from drawn values, from those of another run, or from where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flaxlab.checkpoints.find import find_saved
from flaxlab.checkpoints.load import reported_step
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.run.history import History
from flaxlab.run.record import check_resumable
from flaxlab.run.warm_start import warm_start
from flaxlab.training.epoch import EpochPart
from flaxlab.training.experiment import Experiment
from flaxlab.training.state import TrainState

_log = logging.getLogger(__name__)


class Start(NamedTuple):
    """Where a run goes on.

    Attributes:
        state: state after the last step taken.
        history: history of the complete epochs.
        part: what was done of the next one.
    """

    state: TrainState
    history: History
    part: EpochPart


def find_start(
    experiment: Experiment, checkpoints: Checkpoints, place: Callable[[TrainState], TrainState]
) -> Start:
    """Returns the newest intact state of the run in a directory, or its initial one.

    Args:
        experiment: what is run.
        checkpoints: checkpoints of the run.
        place: puts a state on the devices of the run.

    Raises:
        UsageError: the run that is there may not go on with this config or these data.
    """
    state = experiment.create_state()
    newest = checkpoints.newest()
    if newest is None:
        checkpoints.forget_best_after(0)
        initial = _initial(state, experiment.config.train.init_from)
        return Start(place(initial), [], EpochPart.none())
    record = newest.record
    check_resumable(record, experiment)
    state = newest.restore(place(state))
    checkpoints.forget_best_after(int(state.step))
    part = record.get("part")  # None at the end of an epoch; older versions knew no other
    return Start(state, record["history"], EpochPart.from_json(part) if part else EpochPart.none())


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
