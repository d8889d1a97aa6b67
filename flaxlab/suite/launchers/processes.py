"""Tasks as processes of this machine, one for each GPU, or several that share one."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from submitit import LocalExecutor

from flaxlab.errors import GO_ON, UsageError
from flaxlab.suite.launchers.task import TASKS_FOLDER, Job, Outcome, Slot, Task

# submitit kills tasks that take longer.
_A_YEAR = 365 * 24 * 60


class Processes:
    """Runs tasks as processes of this machine.

    Attributes:
        jobs: the tasks that are running.
        on_signal: what a first and a second signal to the waiting command do.
    """

    on_signal = ("the tasks save after their steps", "stops waiting for them")

    def __init__(self, workdir: Path, slots: Sequence[Slot]) -> None:
        """Prepares to start tasks of the suite in `workdir`, one in each slot."""
        self._executor = LocalExecutor(workdir / TASKS_FOLDER)
        self._executor.update_parameters(timeout_min=_A_YEAR)
        self._free = list(slots)
        self.jobs: list[Job] = []

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Starts the first of `tasks`, one in each free slot; returns their jobs in that order."""
        # A terminal sends Ctrl-C to all its processes. Only the waiting command may hear it: it
        # passes a SIGTERM on, while submitit's process in between would kill the task.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        started = []
        for task in tasks[: len(self._free)]:
            placed = replace(task, slot=self._free.pop(0))
            started.append(Job(placed, self._executor.submit(placed)))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.jobs += started
        return started

    def ended(self) -> list[tuple[Job, Outcome]]:
        """Returns the jobs whose process has ended since the last call, and frees their slots."""
        over = [job for job in self.jobs if job.submitted.done()]
        self.jobs = [job for job in self.jobs if job not in over]
        self._free += [job.task.slot for job in over if job.task.slot is not None]
        failures = [job.failures() for job in over]
        killed = "its process was killed"
        return [(j, killed if f is None else f) for j, f in zip(over, failures, strict=True)]

    def stop(self) -> str:
        """Tells all tasks to save and end, and waits for them; returns what to tell the user."""
        for job in self.jobs:
            # submitit's process in between passes the signal on only once the task has started.
            while not (job.submitted.done() or job.submitted.stdout()):
                time.sleep(0.05)
            if not job.submitted.done():
                os.kill(int(job.number), signal.SIGTERM)
        while not all(job.submitted.done() for job in self.jobs):
            time.sleep(0.05)
        return f"the tasks have saved what they did; {GO_ON}"


def find_slots(
    tasks_at_once: int | None, gpus: Sequence[str], cores: frozenset[int], tasks_per_gpu: int = 1
) -> list[Slot]:
    """Returns a slot for each task that may run at the same time.

    Args:
        tasks_at_once: number of tasks; None: as many as the GPUs take, or one.
        gpus: see `visible_gpus`.
        cores: CPU cores. Tasks on GPUs share them; without GPUs, each task has its own.
        tasks_per_gpu: number of tasks that may share a GPU.

    Raises:
        UsageError: the GPUs, or the cores, are too few for the tasks; or tasks are to share GPUs,
            but there is none.
    """
    if tasks_per_gpu > 1 and not gpus:
        raise UsageError(f"--tasks_per_gpu={tasks_per_gpu}, but JAX sees no GPU; leave it out")
    # The first tasks go to different GPUs.
    on_gpus = [Slot(gpu, cores, tasks_per_gpu) for _ in range(tasks_per_gpu) for gpu in gpus]
    count = tasks_at_once or len(on_gpus) or 1
    if count > len(on_gpus or cores):
        limit = f"the {len(cores)} cores of this process, and tasks do not share one"
        if gpus:
            limit = f"{tasks_per_gpu} for each of {len(gpus)} visible GPUs; see --tasks_per_gpu"
        raise UsageError(f"--tasks_at_once={count} is more than {limit}")
    if gpus:
        return on_gpus[:count]
    ordered = sorted(cores)
    bounds = [number * len(ordered) // count for number in range(count + 1)]
    return [Slot(None, frozenset(ordered[a:b])) for a, b in itertools.pairwise(bounds)]


def visible_gpus() -> list[str]:
    """Returns the GPUs that JAX sees, each as a value of CUDA_VISIBLE_DEVICES.

    Asks JAX in another process: in this one, it would take most of the GPUs' memory.

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
