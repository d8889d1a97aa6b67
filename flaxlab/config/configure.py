"""Configs in Python: from an experiment's file, its name, or another config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from flaxlab.config.fields import MAY_BE_NONE, differences, lists_to_tuples
from flaxlab.config.read import PLACES, apply_overrides, experiment_file, load_experiment
from flaxlab.config.rules import validate
from flaxlab.errors import UsageError
from flaxlab.files import to_path


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
        self.lock()

    def __reduce__(self) -> tuple[Any, ...]:  # what pickle and copy call
        return ExperimentConfig, (ConfigDict(self), self.file)

    def copy_and_resolve_references(
        self, visit_map: dict[int, ConfigDict] | None = None
    ) -> ExperimentConfig:
        """Returns a copy of the config with values in the place of placeholders."""
        resolved = ConfigDict(self).copy_and_resolve_references(visit_map)
        return ExperimentConfig(resolved, self.file)

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
    return ExperimentConfig(apply_overrides(config, to_options(overrides or {})), file)


def find_experiment(experiment: str | Path) -> Path:
    """Returns the file of an experiment that is named by its path, or by its name alone.

    Raises:
        UsageError: it is no path and no name, or cannot be the name of an experiment.
    """
    path = to_path(experiment, "the experiment")
    if path.suffix == ".py" or len(path.parts) > 1:
        return path
    return experiment_file(str(experiment), PLACES)


def to_options(overrides: Mapping[str, Any]) -> list[str]:
    """Returns values as options, "--config.FIELD=VALUE" each.

    Args:
        overrides: {dotted path: value}; NumPy's scalars and arrays count as numbers and tuples.

    Raises:
        UsageError: a value is None, and the field cannot be.
    """
    required = [
        path for path, value in overrides.items() if value is None and path not in MAY_BE_NONE
    ]
    if required:
        raise UsageError(
            f"config.{required[0]} cannot be None; these can: {', '.join(sorted(MAY_BE_NONE))}"
        )
    return [f"--config.{path}={_without_numpy(value)}" for path, value in overrides.items()]


def _without_numpy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return lists_to_tuples(value.tolist())
    if isinstance(value, tuple | list):
        return tuple(map(_without_numpy, value))
    return value.item() if isinstance(value, np.generic) else value


def as_overrides(original: ConfigDict, config: ConfigDict) -> list[str] | None:
    """Returns the options, "--config.FIELD=VALUE" each, that make `config` of an experiment's.

    None if there are no such options, since a field was set to None or removed.
    """
    changed = {path: new for path, (_, new) in differences(original, config).items()}
    if any(new is None and path not in MAY_BE_NONE for path, new in changed.items()):
        return None
    return to_options(changed)
