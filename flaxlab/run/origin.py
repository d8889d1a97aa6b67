"""What a run takes from its experiment file, read when the run starts and kept with it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from flaxlab.config.fields import differences_but_seed, replaced
from flaxlab.config.find import PLACES, experiment_file
from flaxlab.config.lab_report import LabReport
from flaxlab.config.read import load_baseline, load_experiment, load_lab_report
from flaxlab.config.rules import validate
from flaxlab.data.shape import with_image_shape
from flaxlab.errors import UsageError


@dataclass(frozen=True)
class Origin:
    """The experiment file of a run, and what was read from it.

    Attributes:
        file: the experiment file; None for a config that was made in Python.
        baseline: config of the experiment that this one is compared with.
        departures: what the command line changed, {path: (in the file, in the run)}: the
            meaningful differences between the experiment file and the run, except the seed.
        lab_report: the lab report's numbers for this network; None if it has none.
        suite: digest of the claims and rules of the suite that starts the run; "" for a run alone.
        suite_name: name of that suite.
    """

    file: Path | None
    baseline: ConfigDict
    departures: dict[str, tuple[Any, Any]]
    lab_report: LabReport | None
    suite: str = ""
    suite_name: str = ""


def read_origin(file: Path | None, config: ConfigDict) -> Origin:
    """Reads an experiment file, if there is one, for a run with this config.

    A run whose name is not that of its file, such as an arm of a sweep, is another experiment:
    the lab report has no numbers for it.

    Raises:
        UsageError: the file, or that of its baseline, does not exist or fails.
    """
    if file is None:
        return Origin(None, _baseline_in_python(config), {}, None)
    original = with_shape_of_run(load_experiment(file), config)
    return Origin(
        file=file,
        baseline=with_shape_of_run(load_baseline(file, config), config),
        departures=differences_but_seed(original, config),
        lab_report=load_lab_report(file) if config.name == original.name else None,
    )


def _baseline_in_python(config: ConfigDict) -> ConfigDict:
    if config.baseline in ("", config.name):
        return config
    return with_shape_of_run(load_experiment(experiment_file(config.baseline, PLACES)), config)


def with_shape_of_run(config: ConfigDict, run: ConfigDict) -> ConfigDict:
    """Returns the config of a file with the shape of its data, to be compared with that of a run.

    Where the data are not to be had, it is the run's shape if they are the run's, and else None.
    """
    with contextlib.suppress(UsageError):
        validate(config)
        return with_image_shape(config)
    if all(config.data[key] == run.data[key] for key in ("name", "folder", "file")):
        return replaced(config, data={"image_shape": run.data.image_shape})
    return config
