"""The runs of a suite: each arm with each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flaxlab import config as configs
from flaxlab.data.dataset import Dataset
from flaxlab.data.load import load_dataset
from flaxlab.errors import UsageError
from flaxlab.run.directory import SUITE_FILE, suite_around
from flaxlab.run.resume_rules import is_finished
from flaxlab.suite.plan import PlannedArm, folder_name
from flaxlab.training.experiment import Experiment, assemble

_BACKWARD = 2  # the backward pass costs about two forward passes


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite: an arm with a seed.

    Attributes:
        arm: the arm.
        experiment: experiment of the arm, with the first seed.
        seed: the seed.
        folder: run directory.
        finished: whether the run was complete when it was listed.
    """

    arm: PlannedArm
    experiment: Experiment
    seed: int
    folder: Path
    finished: bool

    def __str__(self) -> str:
        return f"{self.arm.name}, seed {self.seed}"

    @property
    def work(self) -> float:
        """Work of the whole run, in the units of `epoch_work`."""
        return self.experiment.config.train.epochs * epoch_work(self.experiment)


def list_runs(arms: Sequence[PlannedArm], seeds: Sequence[int], workdir: Path) -> list[SuiteRun]:
    """Returns the runs of some arms, arm by arm; a wrong arm shows before any is trained.

    Args:
        arms: the arms.
        seeds: seeds of each arm.
        workdir: folder of the suite.

    Raises:
        UsageError: data is missing, a model does not accept its images, or a run in `workdir` has
            another config or other data.
    """
    datasets: dict[str, Dataset] = {}
    runs = []
    for arm in arms:
        key = configs.to_json(arm.config.data)
        if key not in datasets:
            datasets[key] = load_dataset(arm.config.data)
        experiment = assemble(arm.config, datasets[key])
        for seed in seeds:
            folder = run_folder(workdir, arm, seed)
            finished = is_finished(folder, experiment.with_seed(seed))
            runs.append(SuiteRun(arm, experiment, seed, folder, finished))
    return runs


def require_no_other_runs(workdir: Path) -> None:
    """Refuses a folder whose other runs a comparison would take for some of the suite.

    Args:
        workdir: folder of the suite. Where it has been started before, only what makes the folder
            itself a run, or part of another suite, is refused.

    Raises:
        UsageError: it is a run directory, holds some, or is inside another suite's folder.
    """
    others = [] if (workdir / SUITE_FILE).is_file() else sorted(workdir.glob("*/config.json"))
    for file in (workdir / "config.json", *others):
        if file.is_file():
            raise UsageError(
                f"--workdir={workdir} is for the runs of one suite, and {file.parent} is a run"
                f" already ({file.name} is there); use another --workdir"
            )
    around = suite_around(workdir.resolve().parent)
    if around is not None:
        raise UsageError(
            f"--workdir={workdir} is inside the folder of another suite ({around / SUITE_FILE}"
            " is there); use another --workdir"
        )


def run_folder(workdir: Path, arm: PlannedArm, seed: int) -> Path:
    """Returns the run directory of an arm with a seed, in the folder of the suite."""
    return workdir / folder_name(arm.name) / f"seed_{seed}"


def epoch_work(experiment: Experiment) -> float:
    """Returns the approximate FLOPs of one epoch and its validation, to compare arms by."""
    images = (1 + _BACKWARD) * len(experiment.splits.train) + len(experiment.splits.validation)
    return images * sum(row.flops for row in experiment.layers)
