"""Configs in Python: from an experiment's file, its name, or another config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from flaxlab.config.default import default_config
from flaxlab.config.fields import (
    MAY_BE_NONE,
    differences,
    flatten,
    lists_to_tuples,
    nearest_field,
)
from flaxlab.config.find import find_experiment
from flaxlab.config.read import apply_overrides, load_experiment, wrong_field
from flaxlab.config.rules import validate
from flaxlab.errors import UsageError
from flaxlab.models import MODELS


class Fields(ConfigDict):
    """A config or a group of its fields, which says in few lines what it holds and what it lacks.

    It equals any `ConfigDict` with the same fields.
    """

    def __setitem__(self, key: str, value: Any) -> None:  # what setting an attribute calls
        if self.is_locked and key not in self:
            near = nearest_field(key, [path for path, _ in flatten(self)])
            hint = f"did you mean {near}?" if near else f"the fields are {', '.join(self)}"
            raise KeyError(f"there is no field {key}; {hint}")
        if isinstance(value, ConfigDict) and not isinstance(value, Fields):
            value = Fields(value)
        super().__setitem__(key, value)

    def __eq__(self, other: object) -> bool:
        return bool(ConfigDict(self).__eq__(other))

    def __str__(self) -> str:
        return "\n".join(f"{path} = {value!r}" for path, value in flatten(self))

    __repr__ = __str__


class ExperimentConfig(Fields):
    """A config that may be changed, and knows its experiment file.

    Its `repr`, which a notebook shows, has the fields that are not at their defaults; its `str`,
    which `print` shows, has all of them.

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

    def __repr__(self) -> str:
        own = dict(flatten(self))
        name = str(own["model.name"])
        defaults = dict(flatten(default_config(name if name in MODELS else "alexnet")))
        changed = [
            f"  {path} = {value!r}"
            + (f"  (default {defaults[path]!r})" if path in defaults else "")
            for path, value in own.items()
            if path != "name" and (path not in defaults or defaults[path] != value)
        ]
        where = "made in Python" if self.file is None else str(self.file)
        rest = len(own) - len(changed) - 1
        return "\n".join(
            [
                f"config {self.name or '(no name)'}, {where}",
                *changed,
                f"  and {rest} fields at their defaults, which print(config) shows",
            ]
        )

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
    known = [path for path, _ in flatten(config)]
    for path in overrides or {}:
        if path not in known:
            raise UsageError(wrong_field(path, known))
    return ExperimentConfig(apply_overrides(config, to_options(overrides or {})), file)


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
