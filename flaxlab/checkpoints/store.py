"""The checkpoints of a run, by Orbax.

    checkpoints/latest/<step>/state/     the whole TrainState: what a run resumes from
    checkpoints/best/<step>/state/       params and batch_stats of the best epoch
    checkpoints/*/<step>/record/         JSON: config, history, versions
    checkpoints/*/<step>/sha256.json     digests of all that, checked before anything is restored

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

from flaxlab.checkpoints.manifest import find_damage, write_manifest
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
        self._latest = _Manager(directory / "latest", keep)
        # Two, so that the one before is left if the newest belongs to an epoch that is repeated.
        self._best = _Manager(directory / "best", 2)

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
        self._best.wait()
        self._latest.save(int(state.step), state, record)

    def save_best(self, state: TrainState, record: Record) -> None:
        """Saves the parameters and running statistics as the best so far.

        A later `save_latest` waits for it.
        """
        self._best.save(int(state.step), _variables(state), record)

    def forget_best_after(self, step: int) -> None:
        """Deletes the best ones of steps that a run which goes on from `step` has yet to take.

        A run that was killed between `save_best` and `save_latest` leaves one.
        """
        for saved in self._best.steps():
            if saved > step:
                self._best.delete(saved)

    def latest_record(self) -> Record | None:
        """Reads the record of the newest checkpoint, not its arrays; None if there is none."""
        return self._latest.record()

    def restore_latest(self, like: TrainState) -> TrainState:
        """Restores the newest state.

        Args:
            like: a state of the same structure, whose devices the arrays are put on.
        """
        return self._latest.restore(like)

    def restore_best(self, like: TrainState) -> TrainState:
        """Returns `like` with the parameters and running statistics of the best epoch."""
        return like.replace(**self._best.restore(_variables(like)))


class _Manager:
    """An Orbax manager whose checkpoints have a manifest before they count as complete."""

    def __init__(self, directory: Path, keep: int) -> None:
        self._directory = directory.absolute()
        self._saving: int | None = None
        self._manager = ocp.CheckpointManager(
            self._directory,
            item_names=("state", "record"),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                cleanup_tmp_directories=True,
                create=True,
                async_options=ocp.options.AsyncOptions(
                    post_finalization_callback=self._before_commit
                ),
            ),
        )
        self.close = self._manager.close
        self.delete = self._manager.delete
        self.steps = self._manager.all_steps
        self.latest_step = self._manager.latest_step
        self.wait = self._manager.wait_until_finished

    def save(self, step: int, tree: Any, record: Record) -> None:
        """Saves in the background; waits for an earlier save first."""
        self.wait()
        self._saving = step
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(tree), record=ocp.args.JsonSave(record)
        )
        self._manager.save(step, args=args)

    def _before_commit(self) -> None:
        """Called by Orbax when all files are written, before it renames their folder."""
        for folder in self._directory.glob(f"{self._saving}.*tmp*"):
            write_manifest(folder)

    def record(self) -> Record | None:
        """Reads the record of the newest checkpoint; None if there is none."""
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        return None if self.latest_step() is None else self._read(args)["record"]

    def restore(self, like: Any) -> Any:
        """Restores the newest checkpoint to the structure and devices of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._read(ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))["state"]

    def _read(self, args: ocp.args.Composite) -> Any:
        step = self.latest_step()
        folder = self._directory / str(step)
        try:
            damage = find_damage(folder)
            if damage:
                raise UsageError("; ".join(damage))
            return self._manager.restore(step, args=args)
        except Exception as error:  # what Orbax raises for damaged files has no common class
            reason = str(error).split("\n")[0][:200]
            raise UsageError(
                f"checkpoint {folder} cannot be read ({reason}); move that folder away to go on"
                " from the one before"
            ) from error


def _variables(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.batch_stats}
