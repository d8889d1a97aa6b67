"""Saves, lists and restores the steps in one folder with Orbax, and survives saves that fail.

Saving is asynchronous: arrays are copied before `save` returns, and written while training goes on.
A step counts as saved once Orbax has renamed its folder, after the manifest has been written.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from flaxlab.checkpoints.manifest import write_manifest
from flaxlab.errors import GO_ON, RunFailed, UsageError
from flaxlab.processes import in_several, is_lost_process, is_main

Record = dict[str, Any]

# Bytes of a chunk of an array. A reader decompresses one chunk at a time instead of the whole
# array, and several chunks are compressed in parallel.
_CHUNK = 1 << 24

_TEMPORARY = ".orbax-checkpoint-tmp-0"  # marks a folder that Orbax removes when it starts

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)

_log = logging.getLogger(__name__)


class StepManager:
    """The steps in one folder.

    A failed save does not stop the training: the next save tries again. If a run has several
    processes, each saves its own part, all must call the methods here in the same order, only the
    first moves and deletes folders, and a save that fails in one of them ends the run.
    """

    def __init__(
        self,
        directory: Path,
        keep: int,
        failures: dict[Path, str],
        follows: StepManager | None = None,
    ) -> None:
        """Opens or creates `directory`, and removes what a killed process left unfinished in it.

        Args:
            directory: absolute.
            keep: number of steps to keep. An older one is removed once a newer one is saved.
            failures: why the last save to a folder failed. Shared by all folders of a run, so that
                it warns once when saving starts to fail, and once when it works again.
            follows: the folder of steps that a step here may need, see `save`.
        """
        self._directory = directory
        self._keep = keep
        self._failures = failures
        self._follows = follows
        self._saving: int | None = None
        self._needs: int | None = None
        self._manager: ocp.CheckpointManager | None = None
        self._open()

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            # Orbax logs each save to absl's logger, and each failure with a traceback; the parts
            # of a failed save that nothing waits for log to asyncio's, and Python warns of their
            # coroutines.
            for name in ("absl", "asyncio"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            warnings.filterwarnings("ignore", "coroutine 'async_serialize", RuntimeWarning)
            self._manager = ocp.CheckpointManager(
                self._directory,
                item_names=("state", "record"),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=self._keep,
                    cleanup_tmp_directories=True,
                    create=True,
                    # A run's managers save at the same time: each waits for its own counterpart.
                    multiprocessing_options=ocp.options.MultiprocessingOptions(
                        barrier_sync_key_prefix=self._directory.name
                    ),
                    async_options=ocp.options.AsyncOptions(
                        post_finalization_callback=self._before_commit,
                        # If folders cannot be made asynchronously, threads wait five minutes for
                        # them, and the process waits for these threads before it exits.
                        create_directories_asynchronously=False,
                    ),
                ),
            )
        return self._manager

    @property
    def failure(self) -> str | None:
        """Why the last save failed; None if it did not."""
        return self._failures.get(self._directory)

    @property
    def saving(self) -> bool:
        """Whether a save has begun whose end `settle` has not seen."""
        return self._saving is not None

    def steps(self) -> list[int]:
        """Lists the saved steps, oldest first."""
        if not self._directory.is_dir():
            return []
        names = [path.name for path in self._directory.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def folder(self, step: int) -> Path:
        """Returns the folder of a step."""
        return self._directory / str(step)

    def save(self, step: int, tree: Any, record: Record, needs: int | None = None) -> None:
        """Saves in the background, once an earlier save is done, unless the step is saved already.

        Args:
            step: number of the step.
            tree: arrays.
            record: what to save beside the arrays, as JSON.
            needs: a step of `follows` that must be saved before this one counts as saved; if its
                save fails, so does this one.
        """
        self.settle()
        if step in self.steps():
            return
        chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=_CHUNK), tree)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(tree, chunks), record=ocp.args.JsonSave(record)
        )
        with self._tolerating_failure(step):
            self._saving, self._needs = step, needs
            if not self._open().save(step, args=args):
                raise RuntimeError("Orbax has a later step")

    def settle(self, wait: bool = True) -> None:
        """Checks whether the save in progress, if any, succeeded.

        Args:
            wait: wait for it to end; otherwise do nothing while it is in progress.
        """
        if self._saving is None or self._manager is None:
            return
        if not wait and self._manager.is_saving_in_progress():
            return
        step = self._saving
        with self._tolerating_failure(step):
            self._manager.wait_until_finished()
            if is_main() and not self.folder(step).is_dir():
                raise FileNotFoundError("its folder has vanished")
            self._saving = None
            failed = bool(self._failures)
            if self._follows is None:
                self._failures.pop(self._directory, None)
            else:
                self._failures.clear()  # a newer state, with its best step, replaces all of that
            if failed and not self._failures:
                _log.warning("checkpoints can be saved again")

    @contextlib.contextmanager
    def _tolerating_failure(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax's errors, for a full disk say, have no common class
            self._saving = None
            reason = _reason(error)
            if in_several():
                raise RunFailed(
                    f"checkpoint {self.folder(step)} could not be saved ({reason}); fix that, and"
                    f" {GO_ON}, in all processes"
                ) from error
            if not self._failures:
                _log.warning(
                    "warning: checkpoint %s could not be saved (%s); training goes on, and the"
                    " next save tries again",
                    self.folder(step),
                    reason,
                )
            self._failures[self._directory] = reason
            # The next save opens a new manager, which sees what is there. One that is opened now
            # may fail to remove what is left, and would then refuse to save.
            manager, self._manager = self._manager, None
            with contextlib.suppress(Exception):  # it fails for the reason given above
                if manager is not None:
                    manager.close()
            with contextlib.suppress(OSError):
                for left in self._unfinished(step):
                    shutil.rmtree(left, ignore_errors=True)

    def _unfinished(self, step: int | None) -> list[Path]:
        return list(self._directory.glob(f"{step}.*tmp*"))

    def _before_commit(self) -> None:
        """Called by Orbax when all files are written, before it renames their folder."""
        (folder,) = self._unfinished(self._saving)
        write_manifest(folder)
        if self._follows is not None and self._needs is not None:
            self._follows.require(self._needs)

    def require(self, step: int) -> None:
        """Waits, in any thread, until a step is saved; raises the reason if that fails."""
        if (manager := self._manager) is not None:
            manager.wait_until_finished()
        if not self.folder(step).is_dir():
            raise OSError(self.failure or f"{self.folder(step)} is missing")

    def record(self, step: int) -> Record:
        """Reads what was saved beside the arrays."""
        return self._read(step, ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]

    def restore(self, step: int, like: Any) -> Any:
        """Restores the arrays to the structure and devices of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._read(step, args)["state"]

    def _read(self, step: int, args: ocp.args.Composite) -> Any:
        try:
            return self._open().restore(step, args=args)
        except Exception as error:  # Orbax's errors about damaged files have no common class
            if is_lost_process(error):
                raise
            raise UsageError(
                f"checkpoint {self.folder(step)} cannot be read ({_reason(error)}); move that"
                " folder away to resume from the previous one"
            ) from error

    def delete(self, step: int) -> None:
        """Deletes a step, in the first process."""
        if not is_main():
            return
        if not in_several():
            self._open().delete(step)
            return
        # Orbax would wait for the other processes, which may have found the folder gone already.
        # Renamed first, so that half a folder never counts as a step.
        doomed = self._directory / f"deleted-{step}{_TEMPORARY}"
        self.folder(step).rename(doomed)
        shutil.rmtree(doomed)
        self.reload()

    def reload(self) -> None:
        """Lets Orbax list the steps again, after the first process moved or deleted one."""
        self._open().reload()

    def set_aside(self, step: int, place: Path) -> Path:
        """Moves the folder of a step into the folder `place`; returns its new path."""
        name = f"{self._directory.name}-{step}"
        taken = len(list(place.glob(f"{name}*"))) if place.is_dir() else 0
        target = place / (f"{name}-{taken + 1}" if taken else name)
        place.mkdir(parents=True, exist_ok=True)
        self.folder(step).rename(target)
        self.reload()
        return target

    def close(self) -> None:
        """Waits for the save in progress."""
        if self._manager is not None:
            self._manager.close()


def _reason(error: Exception) -> str:
    """Returns the operating system's message if the error quotes one, else its first line."""
    text = str(error).strip() or type(error).__name__
    known = (os.strerror(number) for number in _DISK_ERRORS)
    return next((reason for reason in known if reason in text), text.split("\n")[0][:200])
