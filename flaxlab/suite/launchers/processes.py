"""Tasks as processes of this machine, one for each GPU."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from submitit import LocalExecutor

from flaxlab.errors import GO_ON, UsageError
from flaxlab.machine import available_cores
from flaxlab.suite.launchers.jobs import TASKS_FOLDER, Ended, Job, Submission
from flaxlab.suite.task import Task

# submitit ends what takes longer.
_A_YEAR = 365 * 24 * 60


class Slot(NamedTuple):
    """Room for one task.

    Attributes:
        gpu: as CUDA_VISIBLE_DEVICES has it; None: there is none.
        cores: CPU cores that the task may use.
    """

    gpu: str | None
    cores: frozenset[int]


class Processes:
    """Does tasks as processes of this machine; see `Launcher`."""

    heard = ("the tasks save after their steps", "stops waiting for them")

    def __init__(self, workdir: Path, slots: Sequence[Slot]) -> None:
        """Takes the folder of the suite, and the room for its tasks."""
        self._executor = LocalExecutor(workdir / TASKS_FOLDER)
        self._executor.update_parameters(timeout_min=_A_YEAR)
        self._free = list(slots)
        self._jobs: list[tuple[Job, Slot]] = []

    def find(self, arms: Sequence[Task]) -> list[Job]:
        """Returns none: what goes on without its command is known by its locks."""
        return []

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Starts a task in each slot that is free."""
        started = []
        for task in tasks[: len(self._free)]:
            slot = self._free.pop(0)
            with _inherited(slot.cores):
                submitted = self._executor.submit(Submission(task, slot.gpu))
            self._jobs.append((Job(task, submitted), slot))
            started.append(self._jobs[-1][0])
        return started

    def ended(self) -> list[Ended]:
        """Returns the jobs whose process is gone, and frees their slots."""
        gone = [(job, slot) for job, slot in self._jobs if job.submitted.done()]
        for pair in gone:
            self._jobs.remove(pair)
            self._free.append(pair[1])
        return [Ended(job, job.result(), "its process was killed") for job, _ in gone]

    def describe(self, job: Job) -> str:
        """Names the process, and its GPU."""
        slot = next(slot for each, slot in self._jobs if each is job)
        where = "" if slot.gpu is None else f" on GPU {slot.gpu}"
        return f"process {job.number}{where}"

    def stop(self) -> str:
        """Has all tasks save and end, and waits until they have."""
        for job, _ in self._jobs:
            # submitit passes the signal on to the task, which has to be there.
            while not (job.submitted.done() or _has_begun(job.log)):
                time.sleep(0.05)
            if not job.submitted.done():
                os.kill(int(job.number), signal.SIGTERM)
        while not all(job.submitted.done() for job, _ in self._jobs):
            time.sleep(0.05)
        return f"the tasks have saved what they did; {GO_ON}"


def _has_begun(log: Path) -> bool:
    try:
        return log.stat().st_size > 0
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _inherited(cores: frozenset[int]) -> Iterator[None]:
    """Processes that are started inside of the block have these cores, and hear no SIGINT.

    Ctrl-C goes to every process of a terminal. Only the waiting command is to hear it: it tells
    the tasks by SIGTERM, once, and submitit's process between them would kill them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    all_cores = available_cores()
    _use_cores(cores)
    try:
        yield
    finally:
        _use_cores(all_cores)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _use_cores(cores: frozenset[int]) -> None:
    if sys.platform == "linux":
        os.sched_setaffinity(0, cores)


def find_slots(tasks_at_once: int | None, gpus: Sequence[str], cores: frozenset[int]) -> list[Slot]:
    """Says how many tasks this machine does at a time, and what each of them gets.

    Args:
        tasks_at_once: at most; None: one for each GPU, or one.
        gpus: see `visible_gpus`.
        cores: CPU cores. GPUs share them; without a GPU, each task has its own.

    Raises:
        UsageError: there are not as many GPUs, or cores.
    """
    if gpus:
        if (tasks_at_once or 0) > len(gpus):
            raise UsageError(
                f"--tasks_at_once={tasks_at_once} is more than the {len(gpus)} visible GPUs, and"
                " tasks do not share one"
            )
        return [Slot(gpu, cores) for gpu in gpus[:tasks_at_once]]
    count = tasks_at_once or 1
    if count > len(cores):
        raise UsageError(
            f"--tasks_at_once={count} is more than the {len(cores)} cores that this process may"
            " use, and tasks do not share one"
        )
    ordered = sorted(cores)
    bounds = [number * len(ordered) // count for number in range(count + 1)]
    shares = [ordered[a:b] for a, b in itertools.pairwise(bounds)]
    return [Slot(None, frozenset(share)) for share in shares]


def visible_gpus() -> list[str]:
    """Lists the GPUs that JAX sees, as CUDA_VISIBLE_DEVICES has them.

    JAX is asked in a process of its own: it would take most of their memory in this one.

    Raises:
        UsageError: JAX does not start.
    """
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if shown.returncode != 0:
        raise UsageError(f"JAX does not start: {shown.stderr.strip().splitlines()[-1]}")
    backend, count = shown.stdout.split()[-2:]
    if backend != "gpu":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(number) for number in range(int(count))]
    return names[: int(count)]
