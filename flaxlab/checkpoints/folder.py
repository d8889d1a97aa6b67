"""The checkpoints in one folder, by Orbax: what a save that fails leaves behind, and which counts.

Saving is asynchronous: arrays are copied before `save` returns and written while training goes on.
A step counts once Orbax has renamed its folder, which it does after the manifest was written.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from flaxlab.checkpoints.manifest import find_damage, write_manifest
from flaxlab.errors import GO_ON, RunFailed, UsageError
from flaxlab.processes import in_several, is_lost_process, is_main

Record = dict[str, Any]

# Bytes that an array is cut into: whoever reads it decompresses one chunk at a time, not a copy of
# the whole, and several chunks are compressed side by side.
_CHUNK = 1 << 24

_TEMPORARY = ".orbax-checkpoint-tmp-0"  # Orbax knows by this what nobody will finish

_FAULTS_OF_DISKS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EIO,
)

_log = logging.getLogger(__name__)


class Trouble:
    """Says once that saving fails and once that it works again, for all folders of a run."""

    def __init__(self) -> None:
        self._reasons: dict[Path, str] = {}

    def reason(self, directory: Path) -> str | None:
        """Returns why the last save to `directory` failed; None if it did not."""
        return self._reasons.get(directory)

    def failed(self, directory: Path, step: int, reason: str) -> None:
        """Remembers a save that failed."""
        if not self._reasons:
            _log.warning(
                "warning: checkpoint %s could not be saved (%s); training goes on, and the next"
                " save tries again",
                directory / str(step),
                reason,
            )
        self._reasons[directory] = reason

    def saved(self, directory: Path) -> None:
        """Forgets that saves to `directory` failed."""
        if self._reasons.pop(directory, None) is not None and not self._reasons:
            _log.warning("checkpoints can be saved again")


class StepManager:
    """The steps of one folder.

    A save that fails is no reason to stop a training: the next save tries again. Of several
    processes each saves its part, all of them must call the methods here in the same order, and
    the first one alone moves and deletes; a save that fails in one of them ends the run.
    """

    def __init__(self, directory: Path, keep: int, trouble: Trouble) -> None:
        """Opens or creates `directory`; removes what a killed process left unfinished in it.

        Args:
            directory: absolute.
            keep: number of steps to keep. An older one is removed once a newer one counts.
            trouble: told of saves that fail.
        """
        self._directory = directory
        self._keep = keep
        self._trouble = trouble
        self._saving: int | None = None
        self._manager: ocp.CheckpointManager | None = None
        self._open()

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            # Orbax reports each save on the absl logger, and each failure with a traceback; of the
            # parts of a save that fails, those that nobody waits for complain to asyncio's.
            for name in ("absl", "asyncio"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            self._manager = ocp.CheckpointManager(
                self._directory,
                item_names=("state", "record"),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=self._keep,
                    cleanup_tmp_directories=True,
                    create=True,
                    # The managers of a run save at the same time: each waits for its like.
                    multiprocessing_options=ocp.options.MultiprocessingOptions(
                        barrier_sync_key_prefix=self._directory.name
                    ),
                    async_options=ocp.options.AsyncOptions(
                        post_finalization_callback=self._before_commit,
                        # Else, where they cannot be made, threads wait five minutes for them, and
                        # the process, at its end, for these threads.
                        create_directories_asynchronously=False,
                    ),
                ),
            )
        return self._manager

    @property
    def failure(self) -> str | None:
        """Why the last save failed; None if it did not."""
        return self._trouble.reason(self._directory)

    def steps(self) -> list[int]:
        """Lists the steps that count, oldest first."""
        if not self._directory.is_dir():
            return []
        names = [path.name for path in self._directory.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def folder(self, step: int) -> Path:
        """Returns the folder of a step."""
        return self._directory / str(step)

    def save(self, step: int, tree: Any, record: Record) -> None:
        """Saves in the background, after an earlier save; nothing if the step is there already."""
        self.settle()
        if step in self.steps():
            return
        chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=_CHUNK), tree)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(tree, chunks), record=ocp.args.JsonSave(record)
        )

        def start() -> None:
            self._saving = step
            if not self._open().save(step, args=args):
                raise RuntimeError("Orbax has a later step")

        self._try(step, start)

    def settle(self, wait: bool = True) -> None:
        """Finds out what became of the save that is under way.

        Args:
            wait: for it to end; else nothing happens while it goes on.
        """
        if self._saving is None or self._manager is None:
            return
        if not wait and self._manager.is_saving_in_progress():
            return
        step, manager = self._saving, self._manager

        def end() -> None:
            manager.wait_until_finished()
            if is_main() and not self.folder(step).is_dir():
                raise FileNotFoundError("its folder has vanished")

        if self._try(step, end):
            self._saving = None
            self._trouble.saved(self._directory)

    def _try(self, step: int, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # what Orbax raises for a full disk and the like: many classes
            self._saving = None
            self._fail(step, _reason(error))
            return False
        return True

    def _fail(self, step: int, reason: str) -> None:
        if in_several():
            raise RunFailed(
                f"checkpoint {self.folder(step)} could not be saved ({reason}); mend that, and"
                f" {GO_ON}, in all processes"
            )
        self._trouble.failed(self._directory, step, reason)
        # A new manager knows what is there, and removes what the failed save has left.
        manager, self._manager = self._manager, None
        with contextlib.suppress(Exception):  # it fails for what is known already
            if manager is not None:
                manager.close()
        with contextlib.suppress(Exception):  # tried again at the next save
            self._open()

    def _before_commit(self) -> None:
        """Called by Orbax when all files are written, before it renames their folder."""
        (folder,) = self._directory.glob(f"{self._saving}.*tmp*")
        write_manifest(folder)

    def damage(self, step: int) -> list[str]:
        """Says what is damaged about a step; see `find_damage`."""
        return find_damage(self.folder(step)) or []

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
        except Exception as error:  # what Orbax raises for damaged files has no common class
            if is_lost_process(error):
                raise
            raise UsageError(
                f"checkpoint {self.folder(step)} cannot be read ({_reason(error)}); move that"
                " folder away to go on from the one before"
            ) from error

    def delete(self, step: int) -> None:
        """Deletes a step, in the first process."""
        if not is_main():
            return
        if not in_several():
            self._open().delete(step)
            return
        # Orbax would wait for the others, which may have found the folder gone already. Renamed
        # first, to what is removed at the next start: half a folder must not count as a step.
        doomed = self._directory / f"deleted-{step}{_TEMPORARY}"
        self.folder(step).rename(doomed)
        shutil.rmtree(doomed)
        self.reload()

    def reload(self) -> None:
        """Has Orbax look at what is there, after the first process moved or deleted a step."""
        self._open().reload()

    def set_aside(self, step: int, place: Path) -> Path:
        """Moves the folder of a step into the folder `place`; returns where it is now."""
        name = f"{self._directory.name}-{step}"
        taken = len(list(place.glob(f"{name}*"))) if place.is_dir() else 0
        target = place / (f"{name}-{taken + 1}" if taken else name)
        place.mkdir(parents=True, exist_ok=True)
        self.folder(step).rename(target)
        self.reload()
        return target

    def close(self) -> None:
        """Waits for the save that is under way."""
        self.settle()
        if self._manager is not None:
            self._manager.close()


def _reason(error: Exception) -> str:
    """Picks what the operating system said out of a long message of TensorStore, where it did."""
    text = str(error).strip() or type(error).__name__
    known = (os.strerror(number) for number in _FAULTS_OF_DISKS)
    return next((reason for reason in known if reason in text), text.split("\n")[0][:200])
