"""Does what the options of `flaxlab.suite` ask for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jax
from rich.console import Console

from flaxlab.command_line import open_console
from flaxlab.compare.command import compare_folders
from flaxlab.compare.results import Comparison
from flaxlab.compare.suite_file import read_suite_file, write_suite_file
from flaxlab.config.find import find_experiment, find_suite
from flaxlab.errors import RunFailed, UsageError
from flaxlab.files import make_folder
from flaxlab.hardware import available_cores
from flaxlab.lock import locked
from flaxlab.machine import (
    compute_deterministically,
    set_up_compiler,
    take_gpu_memory_as_needed,
)
from flaxlab.run.directory import require_unchanged_imports
from flaxlab.run.record import remember_revisions
from flaxlab.run.tracking import require_trackers, track_comparison
from flaxlab.suite.announce import print_line, print_outlook, print_plan, print_warnings
from flaxlab.suite.plan import Plan, PlannedArm, more_seeds, plan_suite, plan_sweep
from flaxlab.suite.progress import SuiteProgress
from flaxlab.suite.runner import do_runs, with_recorded_rules, write_record
from flaxlab.suite.runs import SuiteRun, list_runs, require_no_other_runs
from flaxlab.suite.seeds import Pilot, print_seeds, read_pilot
from flaxlab.suite.tuning import (
    describe_trials,
    other_trials,
    other_verdicts,
    plan_at_best,
    read_trials,
    take_over,
    trials_of,
)
from flaxlab.suite.until import for_any_time, run_until_decided

if TYPE_CHECKING:  # submitit is an extra
    from flaxlab.suite.launchers.processes import Processes
    from flaxlab.suite.launchers.slurm import Slurm


def run(options: argparse.Namespace) -> Path:
    """Runs a suite or a sweep, and compares its arms.

    Args:
        options: see `read_options`.

    Returns:
        The folder of the runs.

    Raises:
        UsageError: an option is wrong.
        RunFailed: some runs failed; the others are complete and compared.
        Interrupted: a signal asked to stop.
    """
    file = find_experiment(options.config) if options.sweeps else find_suite(options.config)
    if options.sweeps:
        plan = plan_sweep(file, options.seeds, options.overrides, options.sweeps)
    else:
        plan = plan_suite(file, options.seeds, options.overrides)
    if options.until:
        plan = for_any_time(plan, options.at_most)
    workdir = (options.workdir or Path("runs") / plan.name).expanduser()
    console = open_console()
    if options.show or options.plan:
        take_gpu_memory_as_needed()
    if options.plan:
        spread = options.spread and Pilot({}, options.spread / 100, {})
        plan = with_recorded_rules(plan, workdir)
        print_seeds(console, plan, spread or read_pilot(plan, workdir), options.plan)
        return workdir
    if plan.tuned is not None and (options.until or options.arms):
        raise UsageError(
            "--until and --arms are for one comparison, and the suite's `tuned` makes two; leave"
            " the option out, or `tuned`"
        )
    require_no_other_runs(workdir)
    if plan.tuned is not None and not options.show:
        failed = _run_tuned(console, plan, workdir, options)
    else:
        _, failed = _run_plan(console, plan, workdir, options)
    if failed:
        raise RunFailed(
            f"{failed}. The others are complete; start the same command again to retry these"
        )
    return workdir


def _run_tuned(console: Console, plan: Plan, workdir: Path, options: argparse.Namespace) -> str:
    """Runs the trials, and then the suite twice: as given, and each arm at its best.

    Returns:
        Which runs of the two failed; "" if none did. A trial that diverged is a result.
    """
    workdir = workdir.absolute()
    tuning, best = (workdir.with_name(f"{workdir.name}_{word}") for word in ("tuning", "at_best"))
    for folder in (tuning, best):
        require_no_other_runs(folder)
    _run_plan(console, trials_of(plan), tuning, options, compared=False)
    trials = read_trials(plan, tuning)
    given, failed = _run_plan(console, plan, workdir, options)
    tuned = plan_at_best(plan, trials)
    take_over(plan, tuned, workdir, best)
    at_best, failed_at_best = _run_plan(console, tuned, best, options)
    said = describe_trials(plan, trials, other_trials(plan, tuning))
    for folder, own, other, title in (
        (workdir, given, at_best, f"Each arm at its best, {best.name}/comparison.html"),
        (best, at_best, given, f"As given, {workdir.name}/comparison.html"),
    ):
        record = read_suite_file(folder)
        if record is not None and own is not None:
            notes = (*said, other_verdicts(other, title))
            write_suite_file(replace(record, notes=notes), folder)
            compare_folders(console, [folder], folder)
    return "; ".join(filter(None, (failed, failed_at_best)))


def _run_plan(
    console: Console,
    plan: Plan,
    workdir: Path,
    options: argparse.Namespace,
    *,
    compared: bool = True,
) -> tuple[Comparison | None, str]:
    """Does the runs of a plan that are not finished, and compares them.

    Returns:
        The comparison, None if there is none, and which runs failed, "" if none did.
    """
    comparison: Comparison | None = None
    experiments = dict.fromkeys(arm.file for arm in plan.arms)
    for file in experiments:
        require_unchanged_imports(file)
    remember_revisions(experiments)
    require_trackers(name for arm in plan.arms for name in arm.config.log.trackers)
    _prepare_jax(plan, options.launcher)
    in_tasks = options.launcher != "none"
    make_launcher = _find_launcher(options) if in_tasks and not options.show else None
    seeds = more_seeds(plan, options.at_most) if options.until else plan.seeds
    possible = list_runs(_chosen(plan, options.arms), seeds, workdir)
    runs = [run for run in possible if run.seed in plan.seeds]
    left = [run for run in runs if not run.finished]
    style, trackers = plan.baseline.config.log.progress, plan.baseline.config.log.trackers
    if options.show or style != "none":
        print_plan(console, plan)
        print_line(
            console, f"{len(runs)} runs in {workdir}, {len(runs) - len(left)} of them finished"
        )
    print_warnings(console, runs)
    if options.show:
        whole = replace(with_recorded_rules(plan, workdir), seeds=seeds)
        print_outlook(console, whole, left, workdir, options)
        return None, ""
    make_folder(workdir, "--workdir")
    with locked(workdir):
        needed = left or options.until
        launcher = make_launcher(plan, workdir) if make_launcher and needed else None
        write_record(plan, workdir, options.command)

        def do(chosen: Sequence[SuiteRun]) -> dict[Path, str]:
            progress = SuiteProgress(console, style, chosen)
            if launcher is None:
                return do_runs(chosen, progress)
            from flaxlab.suite.waiting import run_tasks

            return run_tasks(chosen, workdir, progress, launcher, options.seeds_per_task)

        reasons = do(runs)
        try:
            if options.until:
                say = partial(print_line, console)
                reasons |= run_until_decided(possible, runs, workdir, do, say)
            if compared:
                comparison = compare_folders(console, [workdir], workdir)
                if record := read_suite_file(workdir):
                    track_comparison(trackers, record.name, record.digest, workdir)
        except UsageError as error:
            if not reasons and options.arms is None:
                raise
            # The failed runs are the error to report; mention this one first. With --arms, the
            # baseline may be among the arms that are left for later.
            print_line(console, f"not compared: {error}", style="yellow")
    done = [run for run in possible if run.seed in plan.seeds or run.folder.exists()]
    failures = [f"{run} ({reasons[run.folder]})" for run in done if run.folder in reasons]
    failed = f"{len(failures)} of {len(done)} runs: {'; '.join(failures)}" if failures else ""
    return comparison, failed


def _chosen(plan: Plan, names: str | None) -> Sequence[PlannedArm]:
    """Returns the arms of a plan that `--arms` names; all of them without it."""
    if names is None:
        return plan.arms
    known = {arm.name: arm for arm in plan.arms}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise UsageError(f"--arms={','.join(unknown)}: the suite's arms are {', '.join(known)}")
    return [arm for arm in plan.arms if arm.name in names.split(",")]


def _prepare_jax(plan: Plan, launcher: str) -> None:
    if launcher == "none":
        set_up_compiler()
        if any(arm.config.train.deterministic for arm in plan.arms):
            compute_deterministically()
        return
    # This command only plans and waits: it must not take the GPUs' memory.
    jax.config.update("jax_platforms", "cpu")
    devices = max(arm.config.train.devices or 1 for arm in plan.arms)
    if devices > 1 and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", devices)  # stand-ins for the tasks' devices


def _find_launcher(options: argparse.Namespace) -> Callable[[Plan, Path], Processes | Slurm]:
    """Returns a function that makes the launcher, if this machine has what it needs."""
    try:
        from flaxlab.suite.launchers.processes import Processes, find_slots, visible_gpus
        from flaxlab.suite.launchers.slurm import Slurm, require_slurm
    except ModuleNotFoundError as error:
        if error.name != "submitit":
            raise
        raise UsageError(
            f"--launcher={options.launcher} needs submitit, which is not installed; install it with"
            " pip install 'flaxlab[slurm]'"
        ) from error
    if options.launcher == "slurm":
        require_slurm()
        return lambda plan, workdir: Slurm(plan, workdir, options)
    slots = find_slots(
        options.tasks_at_once, visible_gpus(), available_cores(), options.tasks_per_gpu or 1
    )
    return lambda plan, workdir: Processes(workdir, slots)
