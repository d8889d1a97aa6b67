"""Submits the tasks of a suite, waits for them, shows progress, and collects failures."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flaxlab.errors import Interrupted
from flaxlab.lock import is_locked
from flaxlab.run.history import saved_epochs
from flaxlab.run.resume_rules import is_finished
from flaxlab.run.signals import Interruption
from flaxlab.suite.launchers.task import make_tasks
from flaxlab.suite.progress import SuiteProgress
from flaxlab.suite.runs import SuiteRun, epoch_work

if TYPE_CHECKING:  # submitit is an extra
    from flaxlab.suite.launchers.processes import Processes
    from flaxlab.suite.launchers.slurm import Slurm

# Two kills may be bad luck; a third is not.
_MOST_STARTS = 3
_SECONDS_BETWEEN_LOOKS = 0.5
_NAMES_SHOWN = 2

_log = logging.getLogger(__name__)


def run_tasks(
    runs: Sequence[SuiteRun],
    workdir: Path,
    progress: SuiteProgress,
    launcher: Processes | Slurm,
    seeds_per_task: int | None,
) -> dict[Path, str]:
    """Does what `do_runs` does, in tasks of other processes.

    A task that is killed is started again, at most twice. Runs that an earlier start left running
    or queued are waited for, and not started again.

    Args:
        runs: see `list_runs`.
        workdir: folder of the suite.
        progress: shows the runs.
        launcher: does the tasks.
        seeds_per_task: see `make_tasks`.

    Returns:
        {run directory: reason} for the runs that failed.

    Raises:
        UsageError: Slurm refuses the tasks.
        RunFailed: Slurm cannot be reached.
        Interrupted: a signal asked to stop.
    """
    under_way = {folder for job in launcher.jobs for folder in job.task.folders}
    left = [run for run in runs if not run.finished]
    new = [run for run in left if run.folder not in under_way]
    waiting = make_tasks(new, seeds_per_task, workdir)
    progress.skip(_work_done(left))
    starts: Counter[str] = Counter()
    held: set[str] = set()
    reasons: dict[Path, str] = {}
    with progress, Interruption(*launcher.on_signal) as interruption:
        for job in launcher.jobs:
            starts[str(job.task)] += 1
            progress.say(f"{job.task}: waiting for {job} of an earlier start")
        try:
            while (waiting or launcher.jobs) and interruption.received is None:
                # Processes that outlive their command keep their runs locked.
                free = [task for task in waiting if not any(map(is_locked, task.folders))]
                for task in waiting:
                    if task not in free and str(task) not in held:
                        progress.say(f"{task}: waiting for another process that is running it")
                        held.add(str(task))
                for task, job in zip(free, launcher.submit(free), strict=False):
                    waiting.remove(task)
                    starts[str(task)] += 1
                    progress.say(f"{task}: {job}, log {job.submitted.paths.stdout}")
                for job, outcome in launcher.ended():
                    task, paths = job.task, job.submitted.paths
                    if isinstance(outcome, dict):
                        reasons |= {f: f"{why}; log {paths.stdout}" for f, why in outcome.items()}
                        continue
                    how = f"the task ended without a result ({outcome}; log {paths.stderr})"
                    if starts[str(task)] < _MOST_STARTS:
                        _log.warning("%s: %s; starting it again", task, how)
                        waiting.insert(0, task)
                    else:
                        reasons |= dict.fromkeys(task.folders, f"{how}, {_MOST_STARTS} times")
                left = _show_progress(left, progress)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        finally:
            # After an error as well: leave no task behind that nobody knows of.
            farewell = launcher.stop()
        if interruption.received is not None:
            raise Interrupted(interruption.received, farewell)
    unexplained = "its task ended before it was finished"
    return {run.folder: reasons.get(run.folder, unexplained) for run in left}


def _show_progress(runs: Sequence[SuiteRun], progress: SuiteProgress) -> list[SuiteRun]:
    """Shows how far runs are, from the files in their directories; returns the unfinished ones."""
    left, running = [], []
    for run in runs:
        file = run.folder / "summary.json"
        if file.is_file() and is_finished(run.folder, run.experiment.with_seed(run.seed)):
            progress.run_begins(run)
            progress.run_ends(run, json.loads(file.read_text()))
            continue
        left.append(run)
        if (run.folder / ".lock").exists():
            running.append(f"{run} epoch {_epochs(run)}/{run.experiment.config.train.epochs}")
    more = " ..." if len(running) > _NAMES_SHOWN else ""
    progress.show(_work_done(left), ("; ".join(running[:_NAMES_SHOWN]) or "waiting") + more)
    return left


def _work_done(runs: Sequence[SuiteRun]) -> float:
    return sum(_epochs(run) * epoch_work(run.experiment) for run in runs)


def _epochs(run: SuiteRun) -> int:
    try:
        return saved_epochs(run.folder)
    except FileNotFoundError:
        return 0
