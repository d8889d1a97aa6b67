"""What the command `flaxlab.suite` does, once its options are read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flaxlab.command_line import open_console
from flaxlab.compare.command import compare_folders
from flaxlab.errors import RunFailed, UsageError
from flaxlab.files import make_folder
from flaxlab.lock import locked
from flaxlab.machine import available_cores, compute_deterministically, keep_compiled_programs
from flaxlab.run.advice import warnings
from flaxlab.run.record import experiment_revision, versions
from flaxlab.suite.options import LaunchOptions
from flaxlab.suite.plan import Plan, plan_suite, plan_sweep
from flaxlab.suite.progress import SuiteProgress
from flaxlab.suite.runner import assemble_arms, list_runs, run_suite, run_work
from flaxlab.suite.task import make_tasks

if TYPE_CHECKING:  # submitit is an extra
    from flaxlab.suite.launchers.jobs import Launcher


def run(
    file: Path,
    overrides: Sequence[str],
    sweeps: Sequence[str],
    seeds: int | None,
    workdir: Path | None,
    show: bool,
    launch: LaunchOptions,
    arguments: Sequence[str],
) -> None:
    """Runs a suite or a sweep.

    Args:
        file: the suite's file, or that of the swept experiment.
        overrides: "--config.FIELD=VALUE" each.
        sweeps: "--sweep.FIELD=VALUE,VALUE" each; none: `file` is a suite's.
        seeds: number of runs of each arm; None: the suite's own.
        workdir: folder of the runs; None: runs/ and the name of the suite.
        show: print the plan and train nothing.
        launch: where the runs are done.
        arguments: the whole command line, for the comparison.

    Raises:
        UsageError: something given is wrong.
        RunFailed: some runs failed; the others are complete and compared.
        Interrupted: a signal asked to stop.
    """
    plan = (
        plan_sweep(file, seeds, overrides, sweeps) if sweeps else plan_suite(file, seeds, overrides)
    )
    versions()  # now: a commit may follow while the runs go on
    for arm in plan.arms:
        experiment_revision(arm.file)
    if launch.launcher == "none":
        keep_compiled_programs()
        if any(arm.config.train.deterministic for arm in plan.arms):
            compute_deterministically()
    else:
        # What this command only looks at must not take the memory of the GPUs.
        jax.config.update("jax_platforms", "cpu")
        most = max(arm.config.train.devices or 1 for arm in plan.arms)
        if most > 1 and "device_count" not in os.environ.get("XLA_FLAGS", ""):
            jax.config.update("jax_num_cpu_devices", most)  # those of a task are not seen here
        if not show:
            make_launcher = _find_launcher(launch)
    experiments = assemble_arms(plan)
    workdir = (workdir or Path("runs") / plan.name).expanduser()
    runs = list_runs(plan, experiments, workdir)
    console = open_console()
    style = plan.baseline.config.log.progress
    finished = sum(run.finished for run in runs)
    if show or style != "none":
        _print_plan(console, plan)
        line = f"{len(runs)} runs in {workdir}, {finished} of them finished"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    warned: dict[str, list[str]] = {}
    for arm in plan.arms:
        for warning in warnings(experiments[arm.name]):
            warned.setdefault(warning, []).append(arm.name)
    for warning, arms in warned.items():
        text = f"warning ({', '.join(arms)}): {warning}"
        console.print(text, style="yellow", markup=False, soft_wrap=True)
    if show:
        if launch.launcher != "none":
            left = [run for run in runs if not run.finished]
            tasks = make_tasks(plan, left, launch.seeds_per_task, workdir)
            console.print(f"{len(tasks)} tasks", highlight=False)
        return
    make_folder(workdir, "--workdir")
    command = shlex.join(["python", "-m", "flaxlab.suite", *arguments])
    with locked(workdir):
        try:
            if launch.launcher == "none":
                work = sum(run_work(experiments[run.arm.name]) for run in runs if not run.finished)
                progress = SuiteProgress(console, style, len(runs), finished, work)
                run_suite(plan, experiments, runs, workdir, progress, command)
            elif finished < len(runs):
                from flaxlab.suite.waiting import run_tasks

                launcher = make_launcher(plan, workdir)
                each = launch.seeds_per_task
                run_tasks(plan, experiments, runs, workdir, console, style, command, launcher, each)
        except RunFailed:
            _compare_what_is_there(console, workdir)
            raise
        compare_folders(console, [workdir], workdir)


def _find_launcher(launch: LaunchOptions) -> Callable[[Plan, Path], Launcher]:
    """Returns what makes the launcher, once it is known that the machine has what it needs."""
    try:
        from flaxlab.suite.launchers.processes import Processes, find_slots, visible_gpus
        from flaxlab.suite.launchers.slurm import Slurm, require_slurm
    except ModuleNotFoundError as error:
        if error.name != "submitit":
            raise
        raise UsageError(
            f"--launcher={launch.launcher} needs submitit, which is not installed; install it by"
            " pip install 'flaxlab[slurm]'"
        ) from error
    if launch.launcher == "slurm":
        require_slurm()
        return lambda plan, workdir: Slurm(
            plan.name, workdir, launch.resources, launch.tasks_at_once
        )
    slots = find_slots(launch.tasks_at_once, visible_gpus(), available_cores())
    return lambda plan, workdir: Processes(workdir, slots)


def _compare_what_is_there(console: Console, workdir: Path) -> None:
    try:
        compare_folders(console, [workdir], workdir)
    except UsageError as error:  # the failed runs are the error to report; mention this first
        console.print(f"not compared: {error}", style="yellow", markup=False, soft_wrap=True)


def _print_plan(console: Console, plan: Plan) -> None:
    table = Table("arm", "difference to the baseline", box=None, pad_edge=False)
    for arm in plan.arms:
        changed = [f"{path}: {old} -> {new}" for path, (old, new) in arm.differences.items()]
        differences = escape("\n".join(changed)) or "(the baseline)"
        table.add_row(escape(arm.name), differences)
    config = plan.baseline.config
    swept = {path for arm in plan.arms for path in arm.differences}
    fields = {
        "data.name": config.data.name,
        "train.epochs": f"epochs {config.train.epochs}",
        "train.batch_size": f"batch {config.train.batch_size}",
        "optimizer.name": config.optimizer.name,
        "optimizer.learning_rate": f"learning rate {config.optimizer.learning_rate:g}",
    }
    common = [text for path, text in fields.items() if path not in swept]
    console.print(plan.name, style="bold", highlight=False, markup=False)
    console.print(table)
    for number, claim in plan.claims.items():
        text = f"claim {number}: {claim.text}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"in common: {', '.join([*common, f'seeds {plan.seeds[0]} to {plan.seeds[-1]}'])}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
