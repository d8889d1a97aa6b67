"""Runs the arms of a suite, each with all its seeds, from wherever they stand."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flaxlab import config as configs
from flaxlab import files
from flaxlab.command_line import load_baseline
from flaxlab.config_rules import complete
from flaxlab.data.dataset import Dataset
from flaxlab.data.load import load_dataset
from flaxlab.errors import RunFailed, UsageError
from flaxlab.run import train_and_report
from flaxlab.suites.definition import SUITE_FILE
from flaxlab.suites.plan import Plan, PlannedArm, folder_name
from flaxlab.suites.progress import SuiteProgress, epoch_work
from flaxlab.training.engine import compile_programs
from flaxlab.training.experiment import Experiment, assemble
from flaxlab.training.record import resuming_differences

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
    runs = []
    for arm in plan.arms:
        for seed in plan.seeds:
            folder = workdir / folder_name(arm.name) / f"seed_{seed}"
            experiment = experiments[arm.name].with_seed(seed)
            runs.append(SuiteRun(arm, seed, folder, _is_finished(folder, experiment)))
    return runs


def run_work(experiment: Experiment) -> float:
    """Returns the work of a whole run, in the unit of `epoch_work`."""
    return experiment.config.train.epochs * epoch_work(experiment)


def _is_finished(folder: Path, experiment: Experiment) -> bool:
    try:
        old = complete(configs.from_dict(json.loads((folder / "config.json").read_text())))
        finished = (folder / "summary.json").is_file()
        summary = json.loads((folder / "summary.json").read_text()) if finished else {}
        epochs = len((folder / "history.csv").read_text().splitlines()) - 1
    except FileNotFoundError:
        return False
    except (ValueError, AttributeError, UsageError) as error:
        raise UsageError(f"the run in {folder} cannot be read ({error}); remove it") from error
    changed = resuming_differences(old, experiment.config)
    if epochs > experiment.config.train.epochs:
        changed["train.epochs"] = (epochs, experiment.config.train.epochs)
    if finished and summary["dataset_fingerprint"] != experiment.dataset.fingerprint:
        changed["the data"] = (summary["dataset"], f"{experiment.dataset.title}, changed since")
    if changed:
        raise UsageError(
            f"{folder} was made in another way ("
            + "; ".join(f"{path}: {a!r} there, {b!r} now" for path, (a, b) in changed.items())
            + "); take another --workdir, or the old values"
        )
    return finished and old.train.epochs == experiment.config.train.epochs


def run_suite(
    plan: Plan,
    experiments: dict[str, Experiment],
    runs: Sequence[SuiteRun],
    workdir: Path,
    progress: SuiteProgress,
    command: str,
) -> None:
    """Does the runs that are not finished; a failed one does not stop the others.

    The seeds of an arm share its compiled programs.

    Args:
        plan: of the suite.
        experiments: by arm, see `assemble_arms`.
        runs: see `list_runs`.
        workdir: of the suite; suite.json is written there.
        progress: told how the runs go on.
        command: with which the suite was started.

    Raises:
        RunFailed: some runs failed; the others are complete.
    """
    files.write_text(workdir / SUITE_FILE, json.dumps(_record(plan, command), indent=2) + "\n")
    failures = []
    with progress:
        for arm in plan.arms:
            left = [run for run in runs if run.arm is arm and not run.finished]
            if not left:
                continue
            experiment = experiments[arm.name]
            programs = compile_programs(
                experiment.train_step, experiment.eval_step, experiment.layout
            )
            for run in left:
                progress.run_begins(str(run))
                summary = None
                try:
                    summary = train_and_report(
                        experiment.with_seed(run.seed),
                        load_baseline(run.arm.file, experiment.config),
                        run.folder,
                        progress,
                        _arguments(run),
                        programs,
                    )
                except Exception as error:  # whatever it is: the other runs need not wait for it
                    failures.append(f"{run} ({_say(error)})")
                    _log.warning("failed: %s: %s", run, _say(error))
                    run.folder.mkdir(parents=True, exist_ok=True)
                    files.write_text(run.folder / "failure.txt", traceback.format_exc())
                else:
                    (run.folder / "failure.txt").unlink(missing_ok=True)
                progress.run_ends(run_work(experiment), summary)
    if failures:
        raise RunFailed(
            f"{len(failures)} of {len(runs)} runs: {'; '.join(failures)}. The others are complete;"
            " start the same command again to try these again"
        )


def _arguments(run: SuiteRun) -> list[str]:
    here, file = Path.cwd(), run.arm.file
    if file.is_relative_to(here):
        file = file.relative_to(here)
    overrides = [*run.arm.overrides, f"--config.seed={run.seed}"]
    return [f"--config={file}", *overrides, f"--workdir={run.folder}"]


def _say(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UsageError | RunFailed) else f"{type(error).__name__}: {text}"


def _record(plan: Plan, command: str) -> dict[str, object]:
    return {
        "name": plan.name,
        "baseline": plan.baseline.name,
        "arms": {arm.name: {"claim": arm.claim} for arm in plan.arms},
        "seeds": plan.seeds,
        "vary": plan.vary,
        "experiment": plan.experiment,
        "command": command,
    }
