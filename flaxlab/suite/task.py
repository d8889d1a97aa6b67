"""A task: one arm with some of its seeds, small enough to be sent to another process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from flaxlab import config as configs
from flaxlab.config.read import resolve_config
from flaxlab.data.load import load_dataset
from flaxlab.errors import UsageError
from flaxlab.machine import compute_deterministically, keep_compiled_programs
from flaxlab.suite.plan import Plan, PlannedArm, folder_name
from flaxlab.suite.progress import SuiteProgress
from flaxlab.suite.runner import SuiteRun, do_runs, list_arm, run_work
from flaxlab.training.experiment import assemble


@dataclass(frozen=True)
class Task:
    """Runs of one arm.

    It says how to make the arm and does not hold it, so that it can be written down, sent and
    compared.

    Attributes:
        arm: name of the arm.
        seeds: seeds of its runs.
        file: experiment file.
        overrides: "--config.FIELD=VALUE" each.
        config: the resolved config as JSON: what the file gives when the task starts has to be
            the same.
        deterministic: whether the suite asks for operations that give the same bits on a GPU.
        workdir: folder of the suite.
    """

    arm: str
    seeds: tuple[int, ...]
    file: str
    overrides: tuple[str, ...]
    config: str
    deterministic: bool
    workdir: str

    def __str__(self) -> str:
        if len(self.seeds) == 1:
            return f"{self.arm}, seed {self.seeds[0]}"
        return f"{self.arm}, seeds {', '.join(map(str, self.seeds))}"

    def folders(self) -> list[Path]:
        """Lists the directories of its runs."""
        arm = Path(self.workdir) / folder_name(self.arm)
        return [arm / f"seed_{seed}" for seed in self.seeds]

    def run(self) -> dict[int, str]:
        """Does the runs that are not finished, as a suite in one process does them.

        Returns:
            {seed: why} of those that failed.

        Raises:
            UsageError: the experiment's file has changed, or what it needs is not there.
            Interrupted: a signal asked to stop.
        """
        keep_compiled_programs()
        if self.deterministic:
            compute_deterministically()
        file = Path(self.file)
        config = resolve_config(file, self.overrides)
        if configs.to_json(config) != self.config:
            raise UsageError(
                f"{file}, or what it builds on, has changed since the suite was started; start the"
                " suite again"
            )
        arm = PlannedArm(self.arm, file, self.overrides, config, {})
        experiment = assemble(config, load_dataset(config.data))
        runs = list_arm(arm, self.seeds, experiment, Path(self.workdir))
        left = [run for run in runs if not run.finished]
        console = Console(file=sys.stdout, width=120)
        work = len(left) * run_work(experiment)
        with SuiteProgress(console, "lines", len(runs), len(runs) - len(left), work) as progress:
            return do_runs(experiment, left, progress) if left else {}


def make_tasks(
    plan: Plan, runs: Sequence[SuiteRun], seeds_per_task: int | None, workdir: Path
) -> list[Task]:
    """Makes tasks of runs.

    Args:
        plan: plan of the suite.
        runs: those that are to be done, arm by arm.
        seeds_per_task: at most; None: all seeds of an arm in one task.
        workdir: folder of the suite.
    """
    deterministic = any(arm.config.train.deterministic for arm in plan.arms)
    tasks = []
    for arm in plan.arms:
        seeds = [run.seed for run in runs if run.arm.name == arm.name]
        size = seeds_per_task or max(1, len(seeds))
        tasks += [
            Task(
                arm=arm.name,
                seeds=tuple(seeds[first : first + size]),
                file=str(arm.file),
                overrides=arm.overrides,
                config=configs.to_json(arm.config),
                deterministic=deterministic,
                workdir=str(workdir),
            )
            for first in range(0, len(seeds), size)
        ]
    return tasks
