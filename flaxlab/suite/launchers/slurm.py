"""Tasks as a job array of Slurm."""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from submitit import SlurmExecutor, SlurmJob
from submitit.core.utils import FailedJobError

from flaxlab.errors import GO_ON, RunFailed, UsageError
from flaxlab.suite.launchers.task import FORGOTTEN, TASKS_FOLDER, Job, Outcome, Task, job_states
from flaxlab.suite.plan import Plan

# Limits how often a run of days on a partition of hours goes back into the queue.
_MOST_TIMEOUTS = 100
_MOST_TASKS = 10_000
_SECONDS_TO_SAVE = 120
# On a network file system, the result of a job may appear this long after its end.
_SECONDS_BETWEEN_LOOKS = 60
# The user cancelled the job, or a retry would fail in the same way.
_FINAL_STATES = {"CANCELLED", "DEADLINE", "OUT_OF_MEMORY"}
_OVER = {"BOOT_FAIL", "COMPLETED", "FAILED", "NODE_FAIL", "PREEMPTED", "TIMEOUT"}
_OVER |= {FORGOTTEN, *_FINAL_STATES}


def require_slurm() -> None:
    """Raises a `UsageError` if Slurm's commands are not on this machine."""
    if not all(map(shutil.which, ("sbatch", "squeue", "srun"))):
        raise UsageError(
            "--launcher=slurm needs Slurm's sbatch, squeue and srun, which are not on this machine;"
            " start the command on a node of the cluster, or use --launcher=processes"
        )


class Slurm:
    """Runs tasks as jobs of Slurm.

    Attributes:
        jobs: the tasks that are queued or running.
        on_signal: what a first and a second signal to the waiting command do.
    """

    on_signal = ("the jobs go on without this command", "stops at once")

    def __init__(self, plan: Plan, workdir: Path, options: argparse.Namespace) -> None:
        """Prepares to submit, and finds the jobs that an earlier start left queued or running.

        Args:
            plan: plan of the suite.
            workdir: folder of the suite; every node must see it under this path.
            options: say what a task gets, see `read_options`.

        Raises:
            UsageError: one of the jobs has another config than its arm has now, or Slurm does not
                answer.
        """
        self._folder = workdir / TASKS_FOLDER
        self._executor = SlurmExecutor(self._folder, max_num_timeout=_MOST_TIMEOUTS)
        cores = options.sbatch.get("cpus-per-task")
        self._executor.update_parameters(
            job_name=f"flaxlab-{plan.name}",
            time=options.sbatch["time"],
            signal_delay_s=_SECONDS_TO_SAVE,
            array_parallelism=options.tasks_at_once or _MOST_TASKS,
            additional_parameters=options.sbatch,
            # Since Slurm 22.05, srun does not inherit this option from sbatch.
            srun_args=None if cores is None else [f"--cpus-per-task={cores}"],
        )
        self.jobs = _find_jobs(plan, self._folder)
        self._last_look = 0.0
        self._over: set[str] = set()

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Submits all tasks as one array, and returns their jobs.

        Raises:
            UsageError: Slurm refuses the array.
            RunFailed: Slurm cannot be reached.
        """
        if not tasks:
            return []
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit also prints what it raises
                submitted = self._executor.submit_array(tasks)
        except FailedJobError as error:
            if "Unable to contact" in str(error):
                raise RunFailed(f"Slurm accepts no jobs now: {error}") from error
            raise UsageError(f"Slurm refuses the jobs: {error}") from error
        started = [Job(task, job) for task, job in zip(tasks, submitted, strict=True)]
        self.jobs += started
        return started

    def ended(self) -> list[tuple[Job, Outcome]]:
        """Returns the jobs that have ended since the last call."""
        lost = self._find_lost()
        found: list[tuple[Job, Outcome]] = []
        for job in self.jobs:
            failures, state = job.failures(), lost.get(job.number, "")
            if failures is not None:
                found.append((job, failures))
            elif state in _FINAL_STATES:
                found.append((job, dict.fromkeys(job.task.folders, f"Slurm's state: {state}")))
            elif state:
                found.append((job, f"Slurm's state: {state}"))
        for job, _ in found:
            self.jobs.remove(job)
        return found

    def _find_lost(self) -> dict[str, str]:
        """Returns {number: state} for the jobs that were over at this look and at the last one."""
        if time.monotonic() - self._last_look < _SECONDS_BETWEEN_LOOKS:
            return {}
        self._last_look = time.monotonic()
        states = job_states([job.number for job in self.jobs])
        if states is None:
            return {}
        over = {number: state for number, state in states.items() if state in _OVER}
        before, self._over = self._over, set(over)
        return {number: state for number, state in over.items() if number in before}

    def stop(self) -> str:
        """Leaves the jobs running, and returns what to tell the user about them."""
        if not self.jobs:
            return GO_ON
        numbers = sorted({job.number.split("_")[0] for job in self.jobs})
        return (
            f"{len(self.jobs)} jobs go on: squeue --jobs={','.join(numbers)} shows them, scancel"
            f" {' '.join(numbers)} makes them save and end; start the same command again to wait"
            " for them"
        )


def _find_jobs(plan: Plan, folder: Path) -> list[Job]:
    ending = "_submitted.pkl"  # of the file in which submitit keeps a job's task
    numbers = sorted(file.name.removesuffix(ending) for file in folder.glob(f"*{ending}"))
    states = job_states(numbers)
    if states is None:
        raise UsageError(
            "squeue does not answer, and jobs of an earlier start may be running; try again"
        )
    found = []
    configs = {arm.name: arm.config for arm in plan.arms}
    for number in (number for number in numbers if states[number] not in _OVER):
        submitted: SlurmJob[dict[Path, str]] = SlurmJob(folder, number)
        task = submitted.submission().function
        assert isinstance(task, Task)
        # A slot: the number is that of a process, which --launcher=processes has started.
        if task.arm.name not in configs or task.slot is not None:
            continue
        if task.arm.config != configs[task.arm.name]:
            raise UsageError(
                f"job {number} is running {task} with other settings; wait for it, cancel it"
                f" (scancel {number}), or use another --workdir"
            )
        found.append(Job(task, submitted))
    return found
