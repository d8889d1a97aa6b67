"""Reads experiment files and overrides, `--config=FILE --config.a.b=value`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from absl import flags
from ml_collections import FrozenConfigDict, config_flags

from flaxlab import config as configs
from flaxlab.config import ConfigDict, LabReport
from flaxlab.config.fields import MAY_BE_NONE, nearest_field
from flaxlab.config.find import IS_EXPERIMENT, IS_SUITE, experiment_file
from flaxlab.config.rules import validate
from flaxlab.errors import UsageError
from flaxlab.user_code import naming_the_line, run_file

T = TypeVar("T")


def load_experiment(path: Path) -> ConfigDict:
    """Returns what the `get_config` of an experiment file returns, named after the file.

    Raises:
        UsageError: there is no such file, it fails (the message names the line), or it gives the
            config another name.
    """
    config = ConfigDict(call_in_file(path, "get_config", ConfigDict))  # it may be frozen
    name = path.expanduser().resolve().stem
    if config.get("name", "") not in ("", name):
        raise UsageError(
            f"{path} has config.name {config.name!r}, but an experiment is named after its file;"
            " leave config.name out of it and of the files that it builds on"
        )
    with config.unlocked():
        config.name = name
    return config


def load_lab_report(path: Path) -> LabReport | None:
    """Returns the constant `LAB_REPORT` of an experiment file; None if it has none.

    Raises:
        UsageError: there is no such file, it fails, or the constant is of another kind.
    """
    found = getattr(run_file(path), "LAB_REPORT", None)
    if found is not None and not isinstance(found, LabReport):
        raise UsageError(f"LAB_REPORT of {path} is {found!r}; expected LabReport(...)")
    return found


def call_in_file(path: Path, function: str, kind: type[T]) -> T:
    """Calls a function without arguments that a Python file defines.

    Args:
        path: the file.
        function: its name.
        kind: type that it must return.

    Raises:
        UsageError: there is no such file or function, or it fails; the message names its line.
    """
    module = run_file(path)
    if not hasattr(module, function):
        raise UsageError(f"{path} has no {function}(){_other_kind(module)}")
    with naming_the_line(path):
        returned = getattr(module, function)()
    if not isinstance(returned, kind):
        raise UsageError(
            f"{function}() of {path} returned {type(returned).__name__}, not {kind.__name__}"
        )
    return returned


def _other_kind(module: ModuleType) -> str:
    if hasattr(module, "get_config"):
        return f": {IS_EXPERIMENT}"
    if hasattr(module, "get_suite"):
        return f": {IS_SUITE}"
    return ""


def load_baseline(path: Path, config: ConfigDict) -> ConfigDict:
    """Returns the experiment that `config.baseline` names; if it names none, that of `path`.

    Looks beside the experiment file at `path`, then among flaxlab's own experiments.

    Raises:
        UsageError: there is no such experiment.
    """
    return load_experiment(baseline_file(path, config))


def baseline_file(path: Path, config: ConfigDict) -> Path:
    """Returns the file that `load_baseline` reads."""
    if not config.baseline:
        return path
    return experiment_file(config.baseline, [path.expanduser().parent])


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Returns a config with overrides applied, validated and frozen; also changes `config`.

    Args:
        config: valid.
        overrides: "--config.a.b=value" each, or "--config.a.b", "value". The value None sets a
            field to None whose default that is.

    Raises:
        UsageError: a field does not exist, a value is of the wrong kind or not allowed.
    """
    _require_fields(config, overrides)
    groups = _last_of_each(overrides)
    nones = [path for group in groups if (path := _set_to_none(group))]
    config.update_from_flattened_dict(dict.fromkeys(nones))
    name, model = config.name, config.model.name
    values = flags.FlagValues()
    rest = [argument for group in groups if not _set_to_none(group) for argument in group]
    arguments = ["flaxlab", *rest]
    config_flags.DEFINE_config_dict(
        "config", config, flag_values=values, sys_argv=arguments, lock_config=True
    )
    try:
        left_over = values(arguments)[1:]
    except (flags.Error, TypeError, ValueError) as error:
        raise UsageError(_wrong_kind(config, error)) from error
    if left_over:
        raise UsageError(f"unexpected argument {left_over[0]!r}; expected --config.FIELD=VALUE")
    config = values.config
    if config.model.name != model:
        raise UsageError(
            f"config.model.name cannot be changed: {name} uses {model}; start from an experiment"
            f" on {config.model.name}"
        )
    validate(config)
    if not config.name:
        raise UsageError("config.name is empty; give the run a name, or leave --config.name out")
    return FrozenConfigDict(config)


def _set_to_none(override: Sequence[str]) -> str:
    """Returns the field that an override sets to None, which absl cannot; "" if it does not."""
    path, _, value = "=".join(override).lstrip("-").removeprefix("config.").partition("=")
    return path if value == "None" and path in MAY_BE_NONE else ""


def _last_of_each(overrides: Sequence[str]) -> list[list[str]]:
    """Drops overrides that a later one of the same field replaces, since absl would join tuples.

    Returns:
        The arguments of each that is left.
    """
    grouped: list[list[str]] = []
    for argument in overrides:
        if argument.startswith("-") or not grouped:
            grouped.append([argument])
        else:  # the value of the previous argument
            grouped[-1].append(argument)
    last: dict[str, list[str]] = {}
    for group in grouped:
        name = group[0].lstrip("-").split("=", 1)[0]
        last.pop(name, None)  # so that it comes last
        last[name] = group
    return list(last.values())


def _require_fields(config: ConfigDict, overrides: Sequence[str]) -> None:
    known = [path for path, _ in configs.flatten(config)]
    options = {f"{word}config.{path}" for path in known for word in ("", "no")}
    for argument in overrides:
        name = argument.lstrip("-").split("=", 1)[0]
        if argument.startswith("-") and name not in options:
            raise UsageError(wrong_field(name.removeprefix("config."), known, f"--{name}"))


def wrong_field(path: str, known: Sequence[str], option: str = "") -> str:
    """Returns what is wrong with the path of a field that does not exist, and which do.

    Args:
        path: dotted path.
        known: those of the config.
        option: the option that it was given by; "": by its path.
    """
    given, prefix = (option, "--config.") if option else (f"field {path}", "")
    inside = [f"{prefix}{each}" for each in known if each.startswith(f"{path}.")]
    if inside:
        return f"{option or path} is a group of fields; set one of {', '.join(inside)}"
    near = nearest_field(path, known)
    if near is not None:
        return f"there is no {given}; did you mean {prefix}{near}?"
    return f"there is no {given}; python -m flaxlab.main --config=FILE --show=config prints all"


def _wrong_kind(config: ConfigDict, error: Exception) -> str:
    found = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)
    if found is None:
        return str(error)
    path, value = found.groups()
    *groups, field = path.split(".")
    for group in groups:
        config = config[group]
    kind = config.get_type(field).__name__
    if "," in value or "(" in value:
        kind = f"a single {kind}, not a tuple"
    return f"config.{path}={value} is of the wrong kind; expected {kind}, now {config[field]!r}"
