"""Configs in Python: from an experiment's file, its name, or another config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from flaxlab.config.fields import differences
from flaxlab.config.read import PLACES, apply_overrides, experiment_file, load_experiment
from flaxlab.config.rules import validate


class ExperimentConfig(ConfigDict):
    """A config that may be changed, and knows its experiment file.

    Attributes:
        file: the experiment file; None for a config that was made in Python. It is no field of the
            config.
    """

    def __init__(self, config: ConfigDict, file: Path | None) -> None:
        """Copies a config."""
        super().__init__(config)
        object.__setattr__(self, "_file", file)  # else it would become a field

    def __deepcopy__(self, memo: dict[int, Any]) -> ExperimentConfig:
        return ExperimentConfig(copy.deepcopy(ConfigDict(self), memo), self.file).lock()

    @property
    def file(self) -> Path | None:
        """The experiment file; None for a config that was made in Python."""
        return self.__dict__["_file"]


def configure(
    experiment: str | Path | ConfigDict, overrides: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """Returns the config of an experiment with some fields changed, validated.

    Args:
        experiment: an experiment file; the name of one in this folder, in experiments/ or among
            flaxlab's own; or a config, of which a copy is made.
        overrides: {dotted path: value}.

    Raises:
        UsageError: there is no such experiment or field, or a value is wrong.
    """
    if isinstance(experiment, ConfigDict):
        file = experiment.file if isinstance(experiment, ExperimentConfig) else None
        config = copy.deepcopy(ConfigDict(experiment))
    else:
        file = find_experiment(experiment)
        config = load_experiment(file)
    validate(config)
    given = [f"--config.{path}={value}" for path, value in (overrides or {}).items()]
    return ExperimentConfig(apply_overrides(config, given), file).lock()


def find_experiment(experiment: str | Path) -> Path:
    """Returns the file of an experiment that is named by its path, or by its name alone."""
    path = Path(experiment)
    if path.suffix == ".py" or len(path.parts) > 1:
        return path.expanduser()
    return experiment_file(str(experiment), PLACES)


def as_overrides(original: ConfigDict, config: ConfigDict) -> list[str]:
    """Returns the options, "--config.FIELD=VALUE" each, that make `config` of an experiment's.

    A field that was set to None is left out, since no option can do that.
    """
    changed = differences(original, config)
    return [f"--config.{path}={new}" for path, (_, new) in changed.items() if new is not None]
