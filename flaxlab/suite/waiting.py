"""The waiting command: has tasks started, shows how they go on, and gathers what failed."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from flaxlab.errors import Interrupted
from flaxlab.lock import is_locked
from flaxlab.run.history import saved_epochs
from flaxlab.run.resume_rules import is_finished
from flaxlab.run.signals import Interruption
from flaxlab.suite.launchers.jobs import Ended, Launcher
from flaxlab.suite.plan import Plan
from flaxlab.suite.progress import SuiteDisplay, epoch_work
from flaxlab.suite.runner import (
    SuiteRun,
    require_no_failures,
    run_work,
    write_record,
)
from flaxlab.suite.task import Task, make_tasks
from flaxlab.training.experiment import Experiment

# A task that was killed twice for no fault of its own was unlucky; three times, it was not.
_MOST_STARTS = 3
_SECONDS_BETWEEN_LOOKS = 0.5
_NAMES_SHOWN = 2

_log = logging.getLogger(__name__)


def run_tasks(
    plan: Plan,
    experiments: Mapping[str, Experiment],
    runs: Sequence[SuiteRun],
    workdir: Path,
    console: Console,
    style: str,
    command: str,
    launcher: Launcher,
    seeds_per_task: int | None,
) -> None:
    """Does what `run_suite` does, by tasks of other processes.

    A task that ends without a word, because it was killed, is started again, twice at most. What
    an earlier start has left under way is waited for, and not started again.

    Args:
        plan: plan of the suite.
        experiments: by arm.
        runs: see `list_runs`.
        workdir: folder of the suite.
        console: where to print.
        style: as `config.log.progress`.
        command: with which the suite was started.
        launcher: does the tasks.
        seeds_per_task: see `make_tasks`.

    Raises:
        UsageError: the launcher does not take the tasks.
        RunFailed: some runs failed; the others are complete.
        Interrupted: a signal asked to stop.
    """
    left = [run for run in runs if not run.finished]
    jobs = {job.number: job for job in launcher.find(make_tasks(plan, runs, None, workdir))}
    under_way = {folder for job in jobs.values() for folder in job.task.folders()}
    new = [run for run in left if run.folder not in under_way]
    waiting = [_Start(task) for task in make_tasks(plan, new, seeds_per_task, workdir)]
    write_record(plan, workdir, command)
    held: list[_Start] = []
    why: dict[Path, str] = {}
    progress = FolderProgress(console, style, runs, experiments)
    with progress, Interruption(*launcher.heard) as interruption:
        for job in jobs.values():
            progress.say(f"{job.task}: {launcher.describe(job)} of an earlier start is at it")
        try:
            while waiting or jobs:
                if interruption.received is not None:
                    break
                # What goes on without the command that started it holds its lock.
                ready = [s for s in waiting if not any(map(is_locked, s.task.folders()))]
                for start in waiting:
                    if start not in ready and start not in held:
                        progress.say(f"{start.task}: waiting for another process that is at it")
                        held.append(start)
                for job in launcher.submit([start.task for start in ready]):
                    (start,) = (start for start in ready if start.task is job.task)
                    waiting.remove(start)
                    job.starts = start.number
                    jobs[job.number] = job
                    progress.say(f"{job.task}: {launcher.describe(job)}, log {job.log}")
                for ended in launcher.ended():
                    del jobs[ended.job.number]
                    if ended.failures is None and ended.again and ended.job.starts < _MOST_STARTS:
                        _log.warning("%s; it is started again", _describe(ended))
                        waiting.insert(0, _Start(ended.job.task, ended.job.starts + 1))
                    else:
                        why |= _failures(ended)
                progress.look()
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        finally:
            # Also after a failure of this command: no task is to go on that nobody knows of.
            farewell = launcher.stop()
        if interruption.received is not None:
            raise Interrupted(interruption.received, farewell)
    failures = []
    for run in left:
        if run.folder in why or not is_finished(run.folder, _of(run, experiments)):
            reason = why.get(run.folder, "its task ended and left it unfinished")
            failures.append(f"{run} ({reason})")
    require_no_failures(failures, len(runs))


@dataclass(frozen=True)
class _Start:
    task: Task
    number: int = 1


def _of(run: SuiteRun, experiments: Mapping[str, Experiment]) -> Experiment:
    return experiments[run.arm.name].with_seed(run.seed)


def _describe(ended: Ended) -> str:
    log = ended.job.log.with_suffix(".err")
    return f"{ended.job.task}: the task left no word ({ended.how}; log {log})"


def _failures(ended: Ended) -> dict[Path, str]:
    """Returns {run directory: why} of the runs that an ended job has not done."""
    folders = dict(zip(ended.job.task.seeds, ended.job.task.folders(), strict=True))
    if ended.failures is not None:
        return {
            folders[seed]: f"{reason}; log {ended.job.log}"
            for seed, reason in ended.failures.items()
        }
    starts = "" if ended.job.starts == 1 else f" {ended.job.starts} times"
    reason = f"its task left no word{starts}: {ended.how}"
    log = ended.job.log.with_suffix(".err")
    return {
        folder: f"{reason}; log {log}"
        for folder in folders.values()
        if not (folder / "summary.json").is_file()
    }


class FolderProgress(SuiteDisplay):
    """Shows how runs of other processes go on, by what stands in their directories."""

    def __init__(
        self,
        console: Console,
        style: str,
        runs: Sequence[SuiteRun],
        experiments: Mapping[str, Experiment],
    ) -> None:
        """Prepares the display of `runs`, whose experiments are given by arm."""
        self._left = [run for run in runs if not run.finished]
        self._experiments = experiments
        works = [run_work(experiments[run.arm.name]) for run in self._left]
        super().__init__(console, style, len(runs), len(runs) - len(self._left), sum(works))
        self._over = 0.0  # work of the runs that have been finished since
        self._skipped = sum(self._epochs(run) * self._epoch_work(run) for run in self._left)

    def look(self) -> None:
        """Reads how far the runs are; prints a line of each that has been finished."""
        for run in list(self._left):
            path = run.folder / "summary.json"
            if path.is_file() and is_finished(run.folder, _of(run, self._experiments)):
                self._left.remove(run)
                self._over += run_work(self._experiments[run.arm.name])
                self._show()
                summary = json.loads(path.read_text())
                self._say_finished(self._numbered(str(run)), summary, summary["seconds"])
        self._show()

    def _show(self) -> None:
        done, names = self._over, []
        for run in self._left:
            epochs = self._epochs(run)
            done += epochs * self._epoch_work(run)
            if (run.folder / ".lock").exists():
                total = self._experiments[run.arm.name].config.train.epochs
                names.append(f"{run} epoch {epochs}/{total}")
        more = len(names) - _NAMES_SHOWN
        shown = [*names[:_NAMES_SHOWN], *([f"{more} more"] if more > 0 else [])]
        self._move(done, "; ".join(shown) or "waiting")

    def _epoch_work(self, run: SuiteRun) -> float:
        return epoch_work(self._experiments[run.arm.name])

    def _epochs(self, run: SuiteRun) -> int:
        try:
            return saved_epochs(run.folder)
        except FileNotFoundError:
            return 0
