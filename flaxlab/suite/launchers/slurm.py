"""Tasks as a job array of Slurm."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor, SlurmJob
from submitit.core.utils import FailedJobError

from flaxlab import files
from flaxlab.errors import GO_ON, RunFailed, UsageError
from flaxlab.suite.launchers.jobs import TASKS_FOLDER, Ended, Job, Submission
from flaxlab.suite.options import Resources
from flaxlab.suite.task import Task

# The jobs of a suite: what a second start of its command waits for.
JOBS_FILE = "jobs.json"

# A run of days on a partition of hours is told of its end this often, at most.
_MOST_TIMEOUTS = 100
_SECONDS_TO_SAVE = 120
_SECONDS_BETWEEN_LOOKS = 10
# A file of another node may take this long to be seen on a network file system.
_SECONDS_UNTIL_SEEN = 60
_OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
}
# Final states: a user cancelled the job, or a retry would fail in the same way.
_FINAL = {"CANCELLED", "DEADLINE", "OUT_OF_MEMORY"}


def require_slurm() -> None:
    """Raises a `UsageError` if Slurm's commands are not on this machine."""
    missing = [tool for tool in ("sbatch", "squeue", "srun") if shutil.which(tool) is None]
    if missing:
        raise UsageError(
            f"--launcher=slurm needs Slurm's {missing[0]}, which is not on this machine; start the"
            " command on a node of the cluster, or take --launcher=processes"
        )


class Slurm:
    """Does tasks as jobs of Slurm; see `Launcher`.

    States are read from squeue: sacct, which submitit asks, needs a data base that not every
    cluster has.
    """

    heard = ("the jobs go on without this command", "stops at once")

    def __init__(
        self, name: str, workdir: Path, resources: Resources, tasks_at_once: int | None
    ) -> None:
        """Prepares to submit.

        Args:
            name: name of the suite.
            workdir: folder of the suite; every node must see it under this path.
            resources: what one task asks for.
            tasks_at_once: at most; None: all.
        """
        self._folder = workdir / TASKS_FOLDER
        self._executor = SlurmExecutor(self._folder, max_num_timeout=_MOST_TIMEOUTS)
        self._executor.update_parameters(
            **_parameters(name, resources, tasks_at_once), signal_delay_s=_SECONDS_TO_SAVE
        )
        self._jobs: list[Job] = []
        self._looked = 0.0
        self._states: dict[str, str] | None = None  # None: not known since the last submission
        self._gone: dict[str, float] = {}  # since when a job that left no word is known to be over

    def find(self, arms: Sequence[Task]) -> list[Job]:
        """Returns the jobs in WORKDIR/tasks/jobs.json that are under way or queued.

        Raises:
            UsageError: one of them has an arm with another config than now, or Slurm does not
                answer.
        """
        try:
            recorded = json.loads((self._folder / JOBS_FILE).read_text())
        except FileNotFoundError:
            return []
        now = {arm.arm: arm for arm in arms}
        states = _ask(list(recorded))
        if states is None:
            raise UsageError(
                "squeue does not answer, and jobs of an earlier start may be under way; try again"
            )
        for number, about in recorded.items():
            task = Task(**{key: _as_tuple(value) for key, value in about.items()})
            if task.arm not in now or states.get(number, "COMPLETED") in _OVER:
                continue
            if dataclasses.replace(now[task.arm], seeds=task.seeds) != task:
                raise UsageError(
                    f"job {number} is at {task} with other settings than now; wait for it, or"
                    f" scancel {number}, or take another --workdir"
                )
            self._jobs.append(Job(task, SlurmJob(self._folder, number)))
        return list(self._jobs)

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Submits all tasks as one array.

        Raises:
            UsageError: Slurm refuses it.
            RunFailed: Slurm cannot be reached.
        """
        if not tasks:
            return []
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit shows there what it raises
                submitted = self._executor.submit_array([Submission(task) for task in tasks])
        except FailedJobError as error:
            if "Unable to contact" in str(error):
                raise RunFailed(f"Slurm takes no jobs now: {error}") from error
            raise UsageError(f"Slurm refuses the jobs: {error}") from error
        started = [Job(task, job) for task, job in zip(tasks, submitted, strict=True)]
        self._jobs += started
        self._looked, self._states = time.monotonic(), None
        self._write()
        return started

    def ended(self) -> list[Ended]:
        """Returns the jobs that have left their result, or that squeue calls ended."""
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            states = _ask([job.number for job in self._jobs])
            if states is not None:
                self._states = states
        found = [ended for job in self._jobs if (ended := self._look(job)) is not None]
        for ended in found:
            self._jobs.remove(ended.job)
        if found:
            self._write()
        return found

    def describe(self, job: Job) -> str:
        """Names the job."""
        return f"job {job.number}"

    def stop(self) -> str:
        """Leaves the jobs alone: they need no one who waits."""
        if not self._jobs:
            return GO_ON
        numbers = ",".join(sorted({job.number.split("_")[0] for job in self._jobs}))
        return (
            f"{len(self._jobs)} jobs go on: squeue --jobs={numbers} shows them, scancel"
            f" {numbers.replace(',', ' ')} has them save and end; start the same command again to"
            " wait for them"
        )

    def _look(self, job: Job) -> Ended | None:
        failures = job.result()
        if failures is not None:
            return Ended(job, failures)
        if self._states is None:
            return None
        state = self._states.get(job.number, "unknown to squeue")
        if state not in _OVER and state != "unknown to squeue":
            self._gone.pop(job.number, None)
            return None
        since = self._gone.setdefault(job.number, time.monotonic())
        if time.monotonic() - since < _SECONDS_UNTIL_SEEN and state not in _FINAL:
            return None
        return Ended(job, None, f"Slurm's state: {state}", state not in _FINAL)

    def _write(self) -> None:
        about = {job.number: dataclasses.asdict(job.task) for job in self._jobs}
        files.write_text(self._folder / JOBS_FILE, json.dumps(about, indent=1) + "\n")


def _parameters(name: str, resources: Resources, tasks_at_once: int | None) -> dict[str, Any]:
    """Returns submitit's names of what a task gets."""
    found: dict[str, Any] = {
        "job_name": f"flaxlab-{name}",
        "time": resources.minutes,
        "partition": resources.partition,
        "gpus_per_node": resources.gpus,
        "cpus_per_task": resources.cpus,
        "mem": resources.memory,
        "array_parallelism": tasks_at_once,
        # An array that is requeued by Slurm itself, after a preemption or with its node.
        "additional_parameters": {"requeue": True, **resources.others},
    }
    if resources.cpus is not None:
        # Since Slurm 22.05, srun does not take over what sbatch was told.
        found["srun_args"] = [f"--cpus-per-task={resources.cpus}"]
    return {key: value for key, value in found.items() if value is not None}


def _ask(numbers: Sequence[str]) -> dict[str, str] | None:
    """Asks squeue for the states of jobs.

    Returns:
        {number: state}, without those that Slurm has forgotten; None if it does not answer.
    """
    if not numbers:
        return {}
    jobs = ",".join(sorted({number.split("_")[0] for number in numbers}))
    command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={jobs}"]
    try:
        shown = subprocess.run(
            [*command, "--format=%i %T"], capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    if shown.returncode != 0:
        return {} if "Invalid job id" in shown.stderr else None
    pairs = (line.split() for line in shown.stdout.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
