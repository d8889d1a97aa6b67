"""Checks the values of a config."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ml_collections import FrozenConfigDict

from flaxlab import models
from flaxlab.config import ConfigDict, default_config, flatten
from flaxlab.errors import UsageError
from flaxlab.models.blocks import ACTIVATIONS, DROPOUT_PLACES, INITIALIZERS, NORM_PLACES
from flaxlab.models.dropout import DROPOUTS
from flaxlab.models.norm import NORMS
from flaxlab.models.pool import POOLINGS

# What a value must be: a check, and the same in words.
_Rule = tuple[Callable[[Any], bool], str]


def _one_of(*values: Any) -> _Rule:
    return lambda value: value in values, "one of " + ", ".join(map(str, values))


def _at_least(bound: float) -> _Rule:
    return lambda value: bound <= value < float("inf"), f"at least {bound}"


def _above(bound: float) -> _Rule:
    return lambda value: bound < value < float("inf"), f"a number above {bound}"


def _within(low: float, high: float) -> _Rule:
    return lambda value: low <= value < high, f"at least {low} and below {high}"


def _optional(rule: _Rule) -> _Rule:
    check, text = rule
    return lambda value: value is None or check(value), f"{text}, or None"


def _numbers(rule: _Rule) -> _Rule:
    check, text = rule
    return (
        lambda values: all(isinstance(value, int | float) and check(value) for value in values),
        f"a tuple of numbers, each {text}",
    )


def _are_pairs(values: Any) -> bool:
    return isinstance(values, tuple) and all(
        isinstance(pair, tuple)
        and len(pair) == 2
        and all(isinstance(number, int) and number >= 1 for number in pair)
        for pair in values
    )


_TFDS_NAME = r"tfds:[A-Za-z]\w*(/[\w.+-]+)?"  # tfds:NAME or tfds:NAME/CONFIG
_DATA_NAMES = ("fashion_mnist", "cifar10", "digits", "folder")

_RULES: dict[str, _Rule] = {
    "seed": _within(0, 2**32),
    "data.image_shape": (
        lambda shape: _are_pairs((shape[:2],)) and len(shape) == 3 and shape[2] in (1, 3),
        "(height, width, channels) with 1 or 3 channels",
    ),
    "data.name": (
        lambda name: name in _DATA_NAMES or re.fullmatch(_TFDS_NAME, name) is not None,
        f"one of {', '.join(_DATA_NAMES)}, or tfds:NAME",
    ),
    "data.train_examples": _optional(_at_least(1)),
    "data.test_examples": _optional(_at_least(1)),
    "data.placement": _one_of("auto", "resident", "streamed", "grain"),
    "data.workers": _at_least(0),
    "data.augment.random_resized_crop": (
        lambda share: 0 <= share <= 1,
        "a share of the area up to 1.0, or 0.0 for none",
    ),
    "data.augment.pad_and_crop": _at_least(0),
    "data.augment.cutout": _at_least(0),
    "data.scaling": _one_of("unit", "symmetric", "raw"),
    "data.validation": _one_of("test", "holdout"),
    "data.holdout_fraction": _within(0.001, 1.0),
    "model.name": _one_of(*models.MODELS),
    "model.padding": _one_of("SAME", "VALID"),
    "model.blocks": (
        lambda blocks: blocks and all(block and _are_pairs(block) for block in blocks),
        "for each block a tuple of (filters, kernel side), all whole numbers from 1",
    ),
    "model.pools": (_are_pairs, "for each block (window, stride), whole numbers from 1"),
    "model.strides": (
        lambda strides: all(isinstance(number, int) and number >= 1 for number in strides),
        "for each block a whole number from 1, or () for 1",
    ),
    "model.block_activation": _one_of(*ACTIVATIONS),
    "model.kernel_init": _one_of(*INITIALIZERS),
    "model.pool_kind": _one_of(*POOLINGS),
    "model.norm": _one_of(*NORMS),
    "model.norm_place": _one_of(*NORM_PLACES),
    "model.norm_groups": _at_least(1),
    "model.norm_epsilon": _above(0.0),
    "model.batch_norm_momentum": _within(0.0, 1.0),
    "model.block_dropout": _numbers(_within(0.0, 1.0)),
    "model.block_dropout_kind": _one_of(*DROPOUTS),
    "model.block_dropout_region": _at_least(1),
    "model.dropout_place": _one_of(*DROPOUT_PLACES),
    "model.head_input": _one_of("flatten", "average"),
    "model.head_units": (
        lambda units: all(isinstance(number, int) and number >= 1 for number in units),
        "a tuple of whole numbers from 1",
    ),
    "model.head_activation": _one_of(*ACTIVATIONS),
    "model.head_norm": _one_of(*(kind for kind in NORMS if kind != "instance")),
    "model.head_dropout": _numbers(_within(0.0, 1.0)),
    "model.dtype": _one_of("float32", "bfloat16"),
    "loss.l1": _at_least(0.0),
    "loss.l2": _at_least(0.0),
    "optimizer.name": _one_of("adam", "adamw", "sgd"),
    "optimizer.learning_rate": _above(0.0),
    "optimizer.b1": _within(0.0, 1.0),
    "optimizer.b2": _within(0.0, 1.0),
    "optimizer.epsilon": _at_least(0.0),
    "optimizer.adam_form": _one_of("keras", "paper"),
    "optimizer.momentum": _within(0.0, 1.0),
    "optimizer.weight_decay": _at_least(0.0),
    "optimizer.schedule": _one_of("constant", "cosine", "step"),
    "optimizer.warmup_epochs": _at_least(0.0),
    "optimizer.step_epochs": _above(0.0),
    "optimizer.step_factor": _above(0.0),
    "train.epochs": _at_least(1),
    "train.batch_size": _at_least(1),
    "train.parallel": _one_of("sharded", "pmap"),
    "train.devices": _optional(_at_least(1)),
    "train.steps_per_execution": _optional(_at_least(1)),
    "train.matmul_precision": _one_of("default", "tensorfloat32", "float32"),
    "train.on_nonfinite": _one_of("stop", "skip"),
    "train.early_stopping_patience": _at_least(0),
    "train.early_stopping_min_delta": _at_least(0.0),
    "checkpoint.keep": _at_least(1),
    "checkpoint.epoch_seconds": _at_least(0.0),
    "checkpoint.every_minutes": _at_least(0.0),
    "checkpoint.every_steps": _at_least(0),
    "log.progress": _one_of("auto", "bar", "lines", "none"),
}

# Tuples that need an entry for each entry of another: which one, and an example entry.
_ENTRIES: dict[str, tuple[str, Any]] = {
    "model.pools": ("model.blocks", (2, 2)),
    "model.strides": ("model.blocks", 1),
    "model.block_dropout": ("model.blocks", 0.25),
    "model.head_dropout": ("model.head_units", 0.5),
}


def _written(path: str, values: dict[str, Any]) -> str:
    """Returns how to write a tuple on the command line; "" for other values."""
    default = dict(flatten(default_config()))[path]
    if not isinstance(default, tuple):
        return "; it is not a tuple" if isinstance(values[path], tuple) else ""
    example = default
    if path in _ENTRIES:
        of, entry = _ENTRIES[path]
        example = (entry,) * (len(values[of]) if isinstance(values[of], tuple) else 2)
    return f', written --config.{path}="{example}" for example'


def validate(config: ConfigDict) -> None:
    """Checks each value, and the values that depend on each other.

    Raises:
        UsageError: a value is not allowed; the message names the field and what it takes.
    """
    values = dict(flatten(config))
    known = dict(flatten(default_config()))
    for path in sorted(known.keys() ^ values.keys()):
        verb = "lacks" if path in known else "has an unknown"
        raise UsageError(f"the config {verb} field {path}; start from default_config()")
    for path, (check, expected) in _RULES.items():
        if not _holds(check, values[path]):
            raise UsageError(
                f"config.{path} is {values[path]!r}; expected {expected}{_written(path, values)}"
            )
    if config.data.name == "folder" and not config.data.folder:
        raise UsageError(
            "config.data.folder is not set; data.name=folder needs --config.data.folder=DIR"
        )
    crops = config.data.augment.random_resized_crop > 0
    if crops and config.data.placement not in ("auto", "grain"):
        raise UsageError(
            "config.data.augment.random_resized_crop needs the original pictures: use"
            f" --config.data.placement=grain, not {config.data.placement}, or pad_and_crop"
        )
    for path, (of, _) in _ENTRIES.items():
        given, needed = len(values[path]), len(values[of])
        if given != needed and not (given == 0 and path != "model.pools"):
            raise UsageError(
                f"config.{path} has {given} entries, but {of} has {needed};"
                f" give one for each{_written(path, values)}"
            )


def _holds(check: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(check(value))
    except TypeError:  # a value of another kind, set in an experiment file
        return False


def complete(config: ConfigDict) -> ConfigDict:
    """Returns a stored config, validated and frozen, with defaults for fields that it lacks.

    Raises:
        UsageError: a value is not allowed, or there is no model of that name.
    """
    stored = dict(flatten(config))
    if stored.get("model.name") not in models.MODELS:
        raise UsageError(f"config.model.name is {stored.get('model.name')!r}; no model has it")
    completed = default_config(stored["model.name"])
    known = dict(flatten(completed))
    with completed.ignore_type():
        completed.update_from_flattened_dict({p: v for p, v in stored.items() if p in known})
    validate(completed)
    return FrozenConfigDict(completed)
