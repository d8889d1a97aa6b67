"""The checkpoints of a run.

    checkpoints/latest/<step>/state/     the whole TrainState at the end of an epoch
    checkpoints/midway/<step>/state/     the same within an epoch; removed once its end is saved
    checkpoints/best/<step>/state/       params and batch_stats that the best epoch was scored with
    checkpoints/*/<step>/record/         JSON: config, history, versions
    checkpoints/*/<step>/sha256.json     digests of all that, checked before anything is restored
    checkpoints/damaged/                 steps that no longer match their digests

Latest and best are kept apart because an Orbax manager that keeps the best step deletes the latest.
Midway is apart so that "latest" is always an epoch that was scored.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flaxlab.checkpoints.folder import Record, StepManager
from flaxlab.checkpoints.manifest import find_damage
from flaxlab.errors import RunFailed
from flaxlab.processes import from_main, in_several, is_main
from flaxlab.training.state import TrainState, Variables

_NONE = -1  # no step

_log = logging.getLogger(__name__)


class ResumePoint(NamedTuple):
    """The newest intact state of a run.

    Attributes:
        record: what was saved beside its arrays.
        restore: (like) -> the state, on the devices of `like`, a state of the same structure.
    """

    record: Record
    restore: Callable[[TrainState], TrainState]


class Checkpoints:
    """The checkpoints of one run directory; use it in a `with` statement.

    Leaving the block waits until everything is written.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        """Opens or creates `directory`.

        Args:
            directory: folder to write to, absolute or relative.
            keep: number of latest checkpoints to keep.
        """
        directory = directory.absolute()
        self._damaged = directory / "damaged"
        failures: dict[Path, str] = {}
        # Two, so that the previous one is left if the epoch of the newest is repeated.
        self._best = StepManager(directory / "best", 2, failures)
        self._latest = StepManager(directory / "latest", keep, failures, follows=self._best)
        self._midway = StepManager(directory / "midway", 1, failures, follows=self._best)
        # Step, variables and record of the best state so far, until they are on the disk.
        self._pending: tuple[int, Variables, Record] | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and in_several():
            return  # if another process is gone, waiting for a save it shared would never end
        self.settle()
        for manager in (self._best, self._midway, self._latest):
            manager.close()

    def save_latest(self, state: TrainState, record: Record) -> None:
        """Saves the whole state at the end of an epoch under its step; replaces older ones."""
        needs = self._before_state()
        self._latest.save(int(state.step), state, record, needs)

    def save_midway(self, state: TrainState, record: Record) -> None:
        """Saves the whole state within an epoch; replaces an older one."""
        needs = self._before_state()
        self._midway.save(int(state.step), state, record, needs)

    def save_best(self, step: int, variables: Variables, record: Record) -> None:
        """Saves what was scored after a step, `TrainState.scored`, as the best so far.

        A whole state that is saved later is written at the same time, but never counts as saved
        before it: a kill never leaves a history whose best epoch was not saved. If this save
        fails, the next save of a whole state tries it again; until then `variables` are kept.
        """
        self._settle_states()  # a state in progress may need the best step that this one removes
        if self.failure is not None:
            # The newest state on the disk may need the older of the best steps there. Those after
            # it belong to no state.
            with contextlib.suppress(Exception):  # Orbax's errors have no common class
                self._best.settle()
                self.forget_best_after(self.newest_step())
        self._pending = step, variables, record
        self._best.save(*self._pending)

    def _before_state(self) -> int | None:
        """Returns the best step that is not on the disk yet, if any; tries again if that failed."""
        self._settle_states()
        if in_several():
            # If the best step fails in one of them, that one ends; no thread may wait for it then.
            # Where it did not fail it is saved, even if this process cannot see its folder yet.
            self._best.settle()
            self._pending = None
            return None
        self._settle_best(wait=False)
        if self._pending is None:
            return None
        if not self._best.saving:
            self._best.save(*self._pending)
        return self._pending[0]

    def _settle_best(self, wait: bool = True) -> None:
        self._best.settle(wait)
        if self._pending is not None and self._pending[0] in self._best.steps():
            self._pending = None

    def _settle_states(self, wait: bool = True) -> None:
        for manager in (self._midway, self._latest):
            manager.settle(wait)

    def settle(self, wait: bool = True) -> None:
        """Checks whether the saves in progress succeeded, and removes what they replace.

        Args:
            wait: wait for them to end; otherwise skip those still in progress.
        """
        self._settle_best(wait)
        self._settle_states(wait)
        with contextlib.suppress(OSError):  # an old midway checkpoint only takes up space
            for step in self._midway.steps():
                if step <= self.saved_step():
                    self._midway.delete(step)

    def saved_step(self) -> int:
        """Returns the step of the newest epoch that is completely saved; 0 if there is none."""
        return max(self._latest.steps(), default=0)

    def newest_step(self) -> int:
        """Returns the newest step that is completely saved, within an epoch too; 0 without one."""
        return max([*self._latest.steps(), *self._midway.steps()], default=0)

    @property
    def failure(self) -> str | None:
        """Why the last save of a whole state failed; None if it did not."""
        return self._latest.failure or self._midway.failure

    def newest(self) -> ResumePoint | None:
        """Finds the newest intact state, and moves newer, damaged ones to "damaged".

        Returns:
            None if there is none; with a warning if all are damaged.
        """
        # One process checks, and moves what is damaged; the others are told.
        step, is_latest = from_main(*(self._find_newest() if is_main() else (_NONE, 0)))
        for each in (self._latest, self._midway):
            each.reload()
        if step == _NONE:
            return None
        manager = self._latest if is_latest else self._midway
        return ResumePoint(manager.record(step), functools.partial(manager.restore, step))

    def _find_newest(self) -> tuple[int, int]:
        """Returns the step of the newest intact state, and 1 if it is the end of an epoch."""
        found = [(step, 1, self._latest) for step in self._latest.steps()]
        found += [(step, 0, self._midway) for step in self._midway.steps()]
        for step, is_latest, manager in sorted(found, key=lambda each: each[:2], reverse=True):
            if not self._set_aside_if_damaged(manager, step):
                return step, is_latest
        if found:
            _log.warning("warning: no intact checkpoint is left; the run starts from its beginning")
        return _NONE, 0

    def restore_best(self, like: TrainState, step: int) -> TrainState:
        """Returns `like`, but with what was scored in the best epoch.

        Args:
            like: a state of the same structure, whose devices the arrays are put on.
            step: the last step of that epoch.

        Raises:
            RunFailed: they could not be saved, or are damaged.
        """
        self._settle_best()
        if self._pending is not None and self._pending[0] == step:
            return like.scoring(self._pending[1])  # it could not be saved
        there = step in self._best.steps()
        if there:
            (damaged,) = from_main(int(is_main() and self._set_aside_if_damaged(self._best, step)))
            there = not damaged
        if not there:
            reason = self._best.failure or "its checkpoint is missing or was damaged"
            raise RunFailed(
                f"cannot score the test split: the parameters of the best epoch (step {step}) are"
                f" missing ({reason}); start the run again in another --workdir"
            )
        return like.scoring(self._best.restore(step, like.scored))

    def forget_best_after(self, step: int) -> None:
        """Deletes best checkpoints of steps that a run which resumes at `step` will repeat.

        A run that was killed between `save_best` and `save_latest` leaves one.
        """
        for saved in self._best.steps():
            if saved > step:
                self._best.delete(saved)
        from_main(0)  # wait until the first process has deleted them
        self._best.reload()

    def _set_aside_if_damaged(self, manager: StepManager, step: int) -> bool:
        damage = find_damage(manager.folder(step))
        if damage:
            place = manager.set_aside(step, self._damaged)
            _log.warning(
                "warning: checkpoint %s is damaged (%s); it was moved to %s",
                manager.folder(step),
                "; ".join(damage[:3]) + ("; ..." if len(damage) > 3 else ""),
                place,
            )
        return bool(damage)
