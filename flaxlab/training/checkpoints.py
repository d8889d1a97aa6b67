"""Checkpoints by Orbax; no other module imports it.

    checkpoints/latest/<step>/state/     the whole TrainState: what a run resumes from
    checkpoints/best/<step>/state/       params and batch_stats of the best epoch
    checkpoints/*/<step>/record/         JSON: config, history, versions

The two are apart because a single manager that keeps the best throws the latest away. Saving is
asynchronous: arrays are copied before `save_*` returns and written while training goes on.
"""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from flaxlab.errors import UsageError
from flaxlab.training.state import TrainState

Record = dict[str, Any]


class Checkpoints:
    """The checkpoints of one run directory; use it in a `with` statement.

    Leaving the block waits until everything is written.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        """Opens or creates `directory`.

        Args:
            directory: where to write; absolute or relative.
            keep: number of latest checkpoints to keep.
        """
        # Orbax reports each save on the absl logger at INFO and its own start at WARNING.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._latest = _manager(directory / "latest", keep)
        # Two, so that the one before is left if the newest belongs to an epoch that is repeated.
        self._best = _manager(directory / "best", 2)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._latest.close()
        finally:
            self._best.close()

    def save_latest(self, state: TrainState, record: Record) -> None:
        """Saves the whole state under its step number; replaces older ones."""
        self._best.wait_until_finished()
        _save(self._latest, int(state.step), state, record)

    def save_best(self, state: TrainState, record: Record) -> None:
        """Saves the parameters and running statistics as the best so far.

        A later `save_latest` waits for it.
        """
        _save(self._best, int(state.step), _variables(state), record)

    def forget_best_after(self, step: int) -> None:
        """Deletes the best ones of steps that a run which goes on from `step` has yet to take.

        A run that was killed between `save_best` and `save_latest` leaves one.
        """
        for saved in self._best.all_steps():
            if saved > step:
                self._best.delete(saved)

    def latest_record(self) -> Record | None:
        """Reads the record of the newest checkpoint, not its arrays; None if there is none."""
        step = self._latest.latest_step()
        if step is None:
            return None
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        return self._latest.restore(step, args=args)["record"]

    def restore_latest(self, like: TrainState) -> TrainState:
        """Restores the newest state.

        Args:
            like: a state of the same structure, whose devices the arrays are put on.
        """
        return _restore(self._latest, like)

    def restore_best(self, like: TrainState) -> TrainState:
        """Returns `like` with the parameters and running statistics of the best epoch."""
        return like.replace(**_restore(self._best, _variables(like)))


def _manager(directory: Path, keep: int) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        directory.absolute(),
        item_names=("state", "record"),
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, create=True
        ),
    )


def _variables(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.batch_stats}


def _save(manager: ocp.CheckpointManager, step: int, tree: Any, record: Record) -> None:
    manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(tree), record=ocp.args.JsonSave(record)
        ),
    )


def _restore(manager: ocp.CheckpointManager, like: Any) -> Any:
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
    step = manager.latest_step()
    try:
        return manager.restore(step, args=args)["state"]
    except Exception as error:  # what Orbax raises for damaged files has no common class
        folder = manager.directory / str(step)
        reason = str(error).split("\n")[0][:200]
        raise UsageError(
            f"checkpoint {folder} cannot be read ({reason}); move that folder away to go on from"
            " the one before"
        ) from error
