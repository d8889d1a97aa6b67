"""Reads an experiment file and its overrides, `--config=FILE --config.a.b=value`."""

from __future__ import annotations

import difflib
import importlib.util
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import FrozenConfigDict, config_flags

import experiments
from flaxlab import config as configs
from flaxlab.config import ConfigDict
from flaxlab.errors import UsageError


def load_experiment(path: Path) -> ConfigDict:
    """Runs the `get_config` of an experiment file.

    Raises:
        UsageError: there is no such file, or it fails; the message names its line.
    """
    path = path.expanduser().resolve()
    if not path.is_file():
        near = difflib.get_close_matches(
            path.name, [file.name for file in path.parent.glob("*.py")]
        )
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise UsageError(f"there is no experiment file {path}{hint}")
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file; expected one with get_config()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # the file is the user's: whatever it raises is an input error
        frames = traceback.extract_tb(error.__traceback__)
        lines = [str(frame.lineno) for frame in frames if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else ", ".join(lines[-1:])
        raise UsageError(f"{path}, line {line}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UsageError(f"get_config() of {path} returned {type(config).__name__}, no ConfigDict")
    return config


def load_baseline(path: Path, config: ConfigDict) -> ConfigDict:
    """Loads the experiment that `config.baseline` names; none named: that of `path` itself.

    Looks beside the experiment file at `path`, then among flaxlab's own experiments.

    Raises:
        UsageError: there is no such experiment.
    """
    if not config.baseline:
        return load_experiment(path)
    if not config.baseline.isidentifier():
        raise UsageError(
            f"config.baseline is {config.baseline!r}; expected the name of an experiment file"
            " without its folder and without .py"
        )
    file = f"{config.baseline}.py"
    beside = path.expanduser().with_name(file)
    own = Path(experiments.__path__[0]) / file
    return load_experiment(own if own.is_file() and not beside.is_file() else beside)


def resolve_config(path: Path, overrides: Sequence[str]) -> ConfigDict:
    """Returns the experiment's config with the overrides applied, validated and frozen.

    Args:
        path: the experiment file.
        overrides: "--config.a.b=value" each, or "--config.a.b", "value".

    Raises:
        UsageError: a field does not exist, a value is of the wrong kind or not allowed.
    """
    config = load_experiment(path)
    configs.validate(config)
    _require_fields(config, overrides)
    model = config.model.name
    values = flags.FlagValues()
    arguments = ["flaxlab", *overrides]
    config_flags.DEFINE_config_dict(
        "config", config, flag_values=values, sys_argv=arguments, lock_config=True
    )
    try:
        left_over = values(arguments)[1:]
    except (flags.Error, TypeError, ValueError) as error:
        raise UsageError(_wrong_kind(config, error)) from error
    if left_over:
        raise UsageError(f"what is {left_over[0]!r} for? Expected --config.FIELD=VALUE")
    config = values.config
    configs.validate(config)
    if config.model.name != model:
        raise UsageError(
            f"config.model.name cannot be changed: {path.name} is about {model}; start from an"
            f" experiment on {config.model.name}"
        )
    return FrozenConfigDict(config)


def _require_fields(config: ConfigDict, overrides: Sequence[str]) -> None:
    known = [f"config.{name}" for name, _ in configs.flatten(config)]
    for argument in overrides:
        if not argument.startswith("-"):
            continue
        name = argument.lstrip("-").split("=", 1)[0]
        if name in known or (name.startswith("no") and name[2:] in known):
            continue
        inside = [path for path in known if path.startswith(f"{name}.")]
        if inside:
            raise UsageError(f"--{name} is a group of fields; set one of {', '.join(inside)}")
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean --{near[0]}?" if near else "flaxlab/config.py lists the fields"
        raise UsageError(f"there is no --{name}; {hint}")


def _wrong_kind(config: ConfigDict, error: Exception) -> str:
    found = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)
    if found is None:
        return str(error)
    path, value = found.groups()
    *groups, field = path.split(".")
    for group in groups:
        config = config[group]
    kind = config.get_type(field).__name__
    return f"--config.{path}={value} is of the wrong kind; expected {kind}, now {config[field]!r}"
