"""Runs one arm with some of its seeds in a process that submitit starts."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from flaxlab.command_line import EXIT_SIGNAL, prepare_process
from flaxlab.data.shape import resolve_config
from flaxlab.errors import Interrupted, UsageError
from flaxlab.machine import compute_deterministically, set_up_compiler
from flaxlab.suite.plan import PlannedArm
from flaxlab.suite.progress import SuiteProgress
from flaxlab.suite.runner import do_runs
from flaxlab.suite.runs import SuiteRun, list_runs, run_folder

if TYPE_CHECKING:  # submitit is an extra
    from submitit import Job as SubmittedJob
    from submitit.core.utils import DelayedSubmission

# Subfolder of the suite's folder, for submitit's files and logs.
TASKS_FOLDER = "tasks"

# Of a GPU's memory, what tasks that share it take together, unless the user has set another share.
_MEMORY_FRACTION, _SHARED_MEMORY = "XLA_PYTHON_CLIENT_MEM_FRACTION", 0.9

# The state of a job that squeue does not list.
FORGOTTEN = "unknown to squeue"

# {run directory: reason} for the runs that failed, or how the task was killed.
Outcome = dict[Path, str] | str


class Slot(NamedTuple):
    """The part of this machine that one task uses.

    Attributes:
        gpu: the value of CUDA_VISIBLE_DEVICES; None without a GPU.
        cores: numbers of its CPU cores.
        tasks_per_gpu: number of tasks that share its GPU.
    """

    gpu: str | None
    cores: frozenset[int]
    tasks_per_gpu: int = 1


@dataclass(frozen=True)
class Task:
    """Some runs of one arm; submitit pickles it, and calls it in another process.

    Attributes:
        arm: the arm, as planned.
        seeds: seeds of its runs.
        workdir: folder of the suite.
        slot: what it uses of this machine; None under Slurm, which decides.
    """

    arm: PlannedArm
    seeds: tuple[int, ...]
    workdir: Path
    slot: Slot | None = None

    def __str__(self) -> str:
        plural = "s" if len(self.seeds) > 1 else ""
        return f"{self.arm.name}, seed{plural} {', '.join(map(str, self.seeds))}"

    @property
    def folders(self) -> list[Path]:
        """The run directories."""
        return [run_folder(self.workdir, self.arm, seed) for seed in self.seeds]

    def __call__(self) -> dict[Path, str]:
        """Does the runs that are not finished; exits with 128 + N on signal N.

        Returns:
            {run directory: reason} for the runs that failed.
        """
        # submitit's handlers would end or requeue the job in the middle of a step. The runs hear
        # the signal first, and save; submitit's handler requeues the job afterwards.
        numbers = (signal.SIGTERM, signal.SIGUSR2)
        handlers: dict[signal.Signals, Any] = {each: signal.getsignal(each) for each in numbers}
        prepare_process(numbers)
        if self.slot is not None and self.slot.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.slot.gpu
            if self.slot.tasks_per_gpu > 1:
                whole = float(os.environ.get(_MEMORY_FRACTION, _SHARED_MEMORY))
                os.environ[_MEMORY_FRACTION] = f"{whole / self.slot.tasks_per_gpu:.3f}"
        if self.slot is not None and sys.platform == "linux":
            os.sched_setaffinity(0, self.slot.cores)
        try:
            return self.run()
        except UsageError as error:
            return dict.fromkeys(self.folders, str(error))
        except Interrupted as error:
            print(f"interrupted: {error}", file=sys.stderr)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if error.signal == signal.SIGUSR2 or _is_about_to_be_preempted():
                handlers[signal.SIGUSR2](signal.SIGUSR2, None)  # exits
            sys.exit(EXIT_SIGNAL + error.signal)

    def checkpoint(self) -> DelayedSubmission:
        """Returns what submitit runs when the job starts again: the same task."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self)

    def run(self) -> dict[Path, str]:
        """Does the runs that are not finished, in this process; see `do_runs`.

        Raises:
            UsageError: the experiment file has changed, or its data is missing.
            Interrupted: a signal asked to stop.
        """
        arm = self.arm
        if resolve_config(arm.file, arm.overrides) != arm.config:
            raise UsageError(
                f"{arm.file}, or a file that it builds on, has changed since the suite was started;"
                " start the suite again"
            )
        set_up_compiler()
        if arm.config.train.deterministic:
            compute_deterministically()
        runs = list_runs([arm], self.seeds, self.workdir)
        return do_runs(runs, SuiteProgress(Console(file=sys.stdout, width=120), "lines", runs))


def _is_about_to_be_preempted() -> bool:
    """Returns whether Slurm still calls this job RUNNING although it has sent SIGTERM.

    That is the grace time before a preemption, and a job that ends in it does not come back. The
    state is another one after `scancel` or the time limit, and where Slurm itself requeues the job.
    """
    from submitit import JobEnvironment

    job = JobEnvironment()
    return job.cluster == "slurm" and job_states([job.job_id]) == {job.job_id: "RUNNING"}


def job_states(numbers: Sequence[str]) -> dict[str, str] | None:
    """Returns Slurm's state of each job, or `FORGOTTEN`; None if squeue does not answer.

    sacct, which submitit asks, needs a database that not every cluster has.
    """
    jobs = ",".join(sorted({number.split("_")[0] for number in numbers}))
    if not jobs:
        return {}
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T"]
    try:
        shown = subprocess.run(
            [*command, f"--jobs={jobs}"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if shown.returncode != 0 and "Invalid job id" not in shown.stderr:
        return None
    found = dict(line.split() for line in shown.stdout.splitlines() if len(line.split()) == 2)
    return {number: found.get(number, FORGOTTEN) for number in numbers}


def make_tasks(runs: Sequence[SuiteRun], seeds_per_task: int | None, workdir: Path) -> list[Task]:
    """Returns tasks that do `runs`.

    Args:
        runs: runs of a suite, arm by arm.
        seeds_per_task: at most; None: all seeds of an arm in one task.
        workdir: folder of the suite.
    """
    tasks = []
    for _, group in itertools.groupby(runs, key=lambda run: run.arm.name):
        of_arm = list(group)
        size = seeds_per_task or len(of_arm)
        for first in range(0, len(of_arm), size):
            seeds = tuple(run.seed for run in of_arm[first : first + size])
            tasks.append(Task(of_arm[0].arm, seeds, workdir))
    return tasks


class Job(NamedTuple):
    """A task that has been submitted, with submitit's handle."""

    task: Task
    submitted: SubmittedJob[dict[Path, str]]

    def __str__(self) -> str:
        return f"{'job' if self.task.slot is None else 'process'} {self.number}"

    @property
    def number(self) -> str:
        """Number of the process, or of the Slurm job: "12_0" in an array."""
        return self.submitted.job_id

    def failures(self) -> dict[Path, str] | None:
        """Returns {run directory: reason} for the runs that failed; None while there is no result.

        submitit's own `result()` waits for one, and asks sacct, which not every cluster has.
        """
        try:
            content = self.submitted.paths.result_pickle.read_bytes()
        except FileNotFoundError:
            return None
        outcome, value = pickle.loads(content)  # written by submitit in our own process
        if outcome == "success":
            return dict(value)
        return dict.fromkeys(self.task.folders, str(value).strip().splitlines()[-1])
