"""Runs the arms of a suite, each with all its seeds, from wherever they stand."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flaxlab import config as configs
from flaxlab import files
from flaxlab.compare.suite_file import SUITE_FILE, read_suite_file, write_suite_file
from flaxlab.config.origin import read_origin
from flaxlab.data.dataset import Dataset
from flaxlab.data.load import load_dataset
from flaxlab.errors import RunFailed, UsageError
from flaxlab.run.resume_rules import is_finished
from flaxlab.run.run import train_and_report
from flaxlab.suite.plan import Plan, PlannedArm, folder_name, suite_record
from flaxlab.suite.progress import SuiteProgress, epoch_work
from flaxlab.training.experiment import Experiment, assemble
from flaxlab.training.programs import compile_programs

FAILURE_FILE = "failure.txt"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite: an arm with a seed.

    Attributes:
        arm: which.
        seed: which.
        folder: its run directory.
        finished: whether it is complete there.
    """

    arm: PlannedArm
    seed: int
    folder: Path
    finished: bool

    def __str__(self) -> str:
        return f"{self.arm.name}, seed {self.seed}"


def assemble_arms(plan: Plan) -> dict[str, Experiment]:
    """Assembles each arm, so that a wrong one is found out before any is trained.

    Raises:
        UsageError: the data is not there, or a model does not take its images.
    """
    datasets: dict[str, Dataset] = {}
    found = {}
    for arm in plan.arms:
        key = configs.to_json(arm.config.data)
        if key not in datasets:
            datasets[key] = load_dataset(arm.config.data)
        found[arm.name] = assemble(arm.config, datasets[key])
    return found


def list_runs(plan: Plan, experiments: Mapping[str, Experiment], workdir: Path) -> list[SuiteRun]:
    """Lists the runs of a plan, arm by arm, and which of them are finished.

    Raises:
        UsageError: a run in `workdir` was made with another config or on other data.
    """
    return [
        run
        for arm in plan.arms
        for run in list_arm(arm, plan.seeds, experiments[arm.name], workdir)
    ]


def list_arm(
    arm: PlannedArm, seeds: Sequence[int], experiment: Experiment, workdir: Path
) -> list[SuiteRun]:
    """Lists the runs of one arm, see `list_runs`."""
    runs = []
    for seed in seeds:
        folder = workdir / folder_name(arm.name) / f"seed_{seed}"
        finished = is_finished(folder, experiment.with_seed(seed))
        runs.append(SuiteRun(arm, seed, folder, finished))
    return runs


def run_work(experiment: Experiment) -> float:
    """Returns the work of a whole run, in the unit of `epoch_work`."""
    return experiment.config.train.epochs * epoch_work(experiment)


def run_suite(
    plan: Plan,
    experiments: dict[str, Experiment],
    runs: Sequence[SuiteRun],
    workdir: Path,
    progress: SuiteProgress,
    command: str,
) -> None:
    """Does the runs that are not finished, one after the other; see `do_runs`.

    Args:
        plan: plan of the suite.
        experiments: by arm, see `assemble_arms`.
        runs: see `list_runs`.
        workdir: folder of the suite; suite.json is written there.
        progress: told how the runs go on.
        command: with which the suite was started.

    Raises:
        RunFailed: some runs failed; the others are complete.
    """
    write_record(plan, workdir, command)
    failures = []
    with progress:
        for arm in plan.arms:
            left = [run for run in runs if run.arm is arm and not run.finished]
            if left:
                failed = do_runs(experiments[arm.name], left, progress)
                failures += [f"{run} ({failed[run.seed]})" for run in left if run.seed in failed]
    require_no_failures(failures, len(runs))


def do_runs(
    experiment: Experiment, runs: Sequence[SuiteRun], progress: SuiteProgress
) -> dict[int, str]:
    """Does runs of one arm; a failed one does not stop the others.

    They share the arm's compiled programs.

    Args:
        experiment: the arm's.
        runs: unfinished runs of that arm.
        progress: told how the runs go on.

    Returns:
        {seed: why} of those that failed; the traceback is in the run's failure.txt.
    """
    failures = {}
    programs = compile_programs(experiment.train_step, experiment.eval_step, experiment.devices)
    for run in runs:
        progress.run_begins(str(run))
        summary = None
        try:
            summary = train_and_report(
                experiment.with_seed(run.seed),
                read_origin(run.arm.file, experiment.config),
                run.folder,
                progress,
                _arguments(run),
                programs,
            )
        except Exception as error:  # whatever it is: the other runs need not wait for it
            failures[run.seed] = _say(error)
            _log.warning("failed: %s: %s", run, _say(error))
            run.folder.mkdir(parents=True, exist_ok=True)
            files.write_text(run.folder / FAILURE_FILE, traceback.format_exc())
        else:
            (run.folder / FAILURE_FILE).unlink(missing_ok=True)
        progress.run_ends(run_work(experiment), summary)
    return failures


def require_no_failures(failures: Sequence[str], runs: int) -> None:
    """Raises `RunFailed` if there are failures, each a run and why, among so many runs."""
    if failures:
        raise RunFailed(
            f"{len(failures)} of {runs} runs: {'; '.join(failures)}. The others are complete;"
            " start the same command again to try these again"
        )


def write_record(plan: Plan, workdir: Path, command: str) -> None:
    """Writes suite.json, which a comparison reads.

    The claims in it stay those of the first start: what is claimed of runs is said before them.

    Raises:
        UsageError: there is a suite.json that cannot be read.
    """
    record, before = suite_record(plan, command), read_suite_file(workdir)
    if before is not None and before.claims != record.claims:
        _log.warning(
            "warning: the claims of the suite %s have changed since it was first started; the old"
            " ones are judged, unless you remove %s and start again",
            plan.name,
            workdir / SUITE_FILE,
        )
        record = replace(record, claims=before.claims)
    write_suite_file(record, workdir)


def _arguments(run: SuiteRun) -> list[str]:
    here, file = Path.cwd(), run.arm.file
    if file.is_relative_to(here):
        file = file.relative_to(here)
    overrides = [*run.arm.overrides, f"--config.seed={run.seed}"]
    return [f"--config={file}", *overrides, f"--workdir={run.folder}"]


def _say(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UsageError | RunFailed) else f"{type(error).__name__}: {text}"
