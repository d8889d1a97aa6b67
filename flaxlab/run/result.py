"""What a run has come to, when it is trained and scored."""

from __future__ import annotations

from typing import NamedTuple

from flaxlab.training.loop import Scores
from flaxlab.training.metrics import History
from flaxlab.training.programs import Programs
from flaxlab.training.state import TrainState


class RunResult(NamedTuple):
    """What `train` returns.

    Attributes:
        state: the state after the last epoch.
        history: one row an epoch.
        test_scores: on the test split: after the last epoch, or, with a holdout, the best epoch's.
        test_epoch: the epoch of these scores.
        fitted: accuracy of the same state on training examples, see `train`.
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
