"""Lists, compares and writes the fields of configs; a field is named by its dotted path."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from flaxlab.config.default import default_config
from flaxlab.errors import UsageError
from flaxlab.models import same_network

# Groups of fields that an ablation leaves alone: a difference here is another protocol.
PROTOCOL = ("data", "optimizer", "train")


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of every field, in alphabetical order."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# Fields whose default is None, and which an option can set to it again.
MAY_BE_NONE = frozenset(path for path, value in flatten(default_config()) if value is None)


def replaced(config: ConfigDict, **fields: Any) -> FrozenConfigDict:
    """Returns a frozen copy of the config with some of its top-level fields replaced."""
    changed = ConfigDict(FrozenConfigDict(config))  # else they would share placeholders
    changed.update(fields)
    return FrozenConfigDict(changed)


def dtype_of(config: ConfigDict) -> str:
    """Returns the dtype of the network's computation; float32 for a network without that knob."""
    return str(config.model.get("dtype", "float32"))


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns {dotted path: (value in old, value in new)} where they differ; None if absent."""
    before, after = dict(flatten(old)), dict(flatten(new))
    paths = list(dict.fromkeys([*before, *after]))
    pairs = {path: (before.get(path), after.get(path)) for path in paths}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def meaningful_differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns the `differences` that can change a run's numbers."""
    no_matter = (
        "name",
        "baseline",
        "checkpoint.",
        "log.",
        "data.data_dir",
        "data.placement",
        "data.workers",
        "train.profile",
        "train.parallel",
        "train.devices",
        "train.steps_per_execution",
        "train.on_nonfinite",  # if it mattered, one of the two runs would have stopped
    )
    changed = differences(old, new)
    if "model.name" in changed and same_network(*map(str, changed["model.name"])):
        del changed["model.name"]
    return {path: pair for path, pair in changed.items() if not path.startswith(no_matter)}


def differences_but_seed(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns `meaningful_differences` without the seed; runs of one arm have none."""
    changed = meaningful_differences(old, new)
    changed.pop("seed", None)
    return changed


def nearest_field(given: str, known: Sequence[str]) -> str | None:
    """Returns the field that was probably meant: `train.epochs` for `epochs` or `train.epoch`.

    Args:
        given: what is no field.
        known: dotted paths of fields.
    """
    ends = {path.rpartition(".")[2]: path for path in reversed(known)}
    end = given.rpartition(".")[2]
    if end not in ends and "." in given:
        return next(iter(difflib.get_close_matches(given, known, n=1)), None)
    near = difflib.get_close_matches(end, list(ends), n=1, cutoff=0.75)
    return ends[near[0]] if near else None


def require_fields(paths: Iterable[str], what: str) -> None:
    """Raises a `UsageError` if a path is neither a field of the config nor a group of them.

    Args:
        paths: dotted paths.
        what: where the paths come from, for the message.
    """
    fields = [f"{path}." for path, _ in flatten(default_config())]
    for path in paths:
        # The fields of the network are those of the suite's experiments, which may be one's own.
        if not path.startswith("model.") and not any(x.startswith(f"{path}.") for x in fields):
            raise UsageError(f"{what}: there is no field {path} in flaxlab/config/default.py")


def fixed_differences(
    old: ConfigDict, new: ConfigDict, fixed: Iterable[str], vary: Iterable[str] = ()
) -> dict[str, tuple[object, object]]:
    """Returns {path: (old, new)} of the meaningful differences in fields that are fixed.

    Args:
        old: one config.
        new: another.
        fixed: fields, or groups of fields, that must agree.
        vary: fields, or groups of fields, among them that need not.
    """
    return {
        path: pair
        for path, pair in meaningful_differences(old, new).items()
        if _belongs(path, fixed) and not _belongs(path, vary)
    }


def _belongs(path: str, groups: Iterable[str]) -> bool:
    return any(path == group or path.startswith(f"{group}.") for group in groups)


def describe(differences: dict[str, tuple[Any, Any]]) -> str:
    """Returns differences as one line, "path: old -> new" each."""
    return "; ".join(f"{path}: {old} -> {new}" for path, (old, new) in differences.items())


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as nested plain dicts for JSON, which turns tuples into lists."""
    return {key: to_dict(v) if isinstance(v, ConfigDict) else v for key, v in config.items()}


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """Returns the config that `to_dict` turned into `values`, before or after JSON.

    Records from before there were several normalizations get the fields of today.
    """
    fields = lists_to_tuples(values)
    model = fields.get("model", {})
    if model.get("name") not in ("alexnet", "vgg"):
        return ConfigDict(fields)
    for old, new in (("batch_norm", "norm"), ("head_batch_norm", "head_norm")):
        if old in model:
            model[new] = "batch" if model.pop(old) else "none"
    if "batch_norm_epsilon" in model:
        model["norm_epsilon"] = model.pop("batch_norm_epsilon")
    return ConfigDict(fields)


def lists_to_tuples(value: Any) -> Any:
    """Returns a value with its lists, at any depth, replaced by tuples."""
    if isinstance(value, dict):
        return {key: lists_to_tuples(item) for key, item in value.items()}
    return tuple(map(lists_to_tuples, value)) if isinstance(value, list | tuple) else value


def to_json(config: ConfigDict) -> str:
    """Returns the config as indented JSON text."""
    return json.dumps(to_dict(config), indent=2)
