"""What submitit is given, what it gives back, and what both launchers have in common."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from submitit import Job as Submitted
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission

from flaxlab.command_line import EXIT_SIGNAL, prepare_process
from flaxlab.errors import Interrupted, UsageError
from flaxlab.suite.task import Task

TASKS_FOLDER = "tasks"

_ALIVE = "RUNNING"


@dataclass(frozen=True)
class Submission:
    """What submitit writes down and runs in another process.

    A run hears a signal, saves and ends at its next step. submitit's own handler would end the
    process in the middle of whatever it does, so it is called afterwards, to put the job back
    into the queue.

    Attributes:
        task: to be done.
        gpu: the one that it sees, as CUDA_VISIBLE_DEVICES has it; None: whatever is visible.
    """

    task: Task
    gpu: str | None = None

    def __call__(self) -> dict[int, str]:
        """Does the task; returns {seed: why} of the runs that failed."""
        told = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
        handlers: dict[signal.Signals, Any] = {
            number: signal.getsignal(number) for number in (signal.SIGTERM, told)
        }
        prepare_process(handlers)
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        try:
            return self.task.run()
        except UsageError as error:
            return dict.fromkeys(self.task.seeds, str(error))
        except Interrupted as error:
            print(f"interrupted: {error}", file=sys.stderr)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if error.signal == told or _is_left_running():
                handlers[told](told, None)  # does not return
            sys.exit(EXIT_SIGNAL + error.signal)

    def checkpoint(self) -> DelayedSubmission:
        """Returns what submitit is to run when the job starts again: the same."""
        return DelayedSubmission(self)


def _is_left_running() -> bool:
    """Says whether a SIGTERM came from a Slurm that does not end this job by itself.

    It sends SIGTERM before it preempts, after `scancel` and after a time limit. In the last two
    cases, and where it puts a preempted job back into the queue itself, the job is no longer
    RUNNING; in the time of grace before a preemption it is, and would not come back once it ends.
    """
    job = JobEnvironment()
    if job.cluster != "slurm":
        return False
    # Not by SLURM_JOB_ID: of one job of an array, it is also the number of the array.
    command = ["squeue", "--noheader", f"--jobs={job.job_id}", "--format=%T"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return shown.stdout.strip() == _ALIVE
    return False


@dataclass
class Job:
    """A task under way.

    Attributes:
        task: which.
        submitted: submitit's.
        starts: how often it has been submitted, this time counted.
    """

    task: Task
    submitted: Submitted[dict[int, str]]
    starts: int = 1

    @property
    def number(self) -> str:
        """Of the process, or of the job: "12_0" in an array."""
        return self.submitted.job_id

    @property
    def log(self) -> Path:
        """What it has printed; beside it stands what it has complained of, in .err."""
        return self.submitted.paths.stdout

    def result(self) -> dict[int, str] | None:
        """Returns {seed: why} of the runs that failed; None if the task left no word."""
        try:
            content = self.submitted.paths.result_pickle.read_bytes()
        except FileNotFoundError:
            return None
        outcome, value = pickle.loads(content)  # written by submitit, in our own process
        if outcome == "success":
            return dict(value)
        return dict.fromkeys(self.task.seeds, str(value).strip().splitlines()[-1])


class Ended(NamedTuple):
    """A job that is over.

    Attributes:
        job: which.
        failures: {seed: why} of the runs that failed; None: it left no word.
        how: what is known of its end if it left no word.
        again: whether it may be worth starting again then.
    """

    job: Job
    failures: dict[int, str] | None
    how: str = ""
    again: bool = True


class Launcher(Protocol):
    """Where tasks are done.

    Attributes:
        heard: what a first and a second signal to the waiting command do, see `Interruption`.
    """

    heard: tuple[str, str]

    def find(self, arms: Sequence[Task]) -> list[Job]:
        """Returns the jobs of an earlier start of the suite that are under way or queued.

        Args:
            arms: each arm as it is now, as a task with any seeds.
        """

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Starts the first of `tasks`, as many as there is room for."""

    def ended(self) -> list[Ended]:
        """Returns the jobs that are over since it was asked last."""

    def describe(self, job: Job) -> str:
        """Says where a job is done."""

    def stop(self) -> str:
        """Called when the command is to wait no longer; returns what became of the jobs."""
