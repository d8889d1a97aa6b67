"""The result of a run, and the scores that it ends with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flaxlab.checkpoints.save import Checkpoints
from flaxlab.run.history import best_row
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Hooks, Scores, score
from flaxlab.training.metrics import History
from flaxlab.training.programs import Programs
from flaxlab.training.state import TrainState

_FITTED_EXAMPLES = 10_000


class RunResult(NamedTuple):
    """What `train` returns.

    Attributes:
        state: the state after the last epoch.
        history: one row an epoch.
        test_scores: on the test split: after the last epoch, or, with a holdout, the best epoch's.
        test_epoch: the epoch of these scores.
        fitted: accuracy of the same state on training examples, see `score_result`.
        programs: the compiled programs of this process.
        unsaved: why the last state could not be saved; None if it was.
    """

    state: TrainState
    history: History
    test_scores: Scores
    test_epoch: int
    fitted: float
    programs: Programs
    unsaved: str | None


def score_result(
    experiment: Experiment,
    programs: Programs,
    state: TrainState,
    history: History,
    scores: Scores | None,
    checkpoints: Checkpoints,
    hooks: Hooks,
) -> RunResult:
    """Scores a trained network on the test split, and on the first 10,000 training examples.

    With a holdout, the parameters of the best epoch are scored. The training examples are scored as
    they are and without dropout: what the network knows of what it has seen, where the training
    accuracy is measured under way.

    Args:
        experiment: what was trained.
        programs: the programs of the run.
        state: the state after the last epoch.
        history: one row an epoch.
        scores: the scores after the last epoch, if this process has them.
        checkpoints: those of the run.
        hooks: see `Hooks.after_batch`.

    Raises:
        RunFailed: the parameters of the best epoch could not be saved, or are damaged.
        Interrupted: a hook was told to stop.
    """
    split, epoch, scored = experiment.splits.validation, len(history), state
    if experiment.splits.test is not None:  # else the validation split is the test split
        split, epoch, scores = experiment.splits.test, best_row(history).epoch, None
        best = checkpoints.restore_best(state, epoch * experiment.steps_per_epoch)
        scored = experiment.devices.put(best)
    if scores is None:
        scores = score(programs.evaluate, scored, experiment.eval_feed(split), hooks)
    seen = experiment.splits.train
    some = experiment.eval_feed(seen.take(np.arange(min(len(seen), _FITTED_EXAMPLES))))
    fitted = score(programs.evaluate, scored, some, hooks).accuracy
    return RunResult(state, history, scores, epoch, fitted, programs, checkpoints.failure)
