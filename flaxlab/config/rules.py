"""Checks the values of a config."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ml_collections import FrozenConfigDict

from flaxlab import models
from flaxlab.config import ConfigDict, default_config, flatten
from flaxlab.config.checks import Rule, above, are_pairs, at_least, one_of, optional, within
from flaxlab.config.model_rules import ENTRIES, MAY_BE_EMPTY, MODEL_RULES
from flaxlab.errors import UsageError

_TFDS_NAME = r"tfds:[A-Za-z]\w*(/[\w.+-]+)?"  # tfds:NAME or tfds:NAME/CONFIG
_SCHEDULE_FREE = ("schedule_free_sgd", "schedule_free_adamw")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "lion", "muon", *_SCHEDULE_FREE)
_DATA_NAMES = ("fashion_mnist", "cifar10", "digits", "folder", "parquet", "npz", "arrays")
_TRACKERS = ("wandb", "mlflow")
# Of tuples that are None or empty unless they are set.
_EXAMPLES: dict[str, Any] = {"data.image_shape": (28, 28, 1), "log.trackers": _TRACKERS}

_RULES: dict[str, Rule] = {
    "seed": within(0, 2**32),
    "data.image_shape": optional(
        (
            lambda shape: are_pairs((shape[:2],)) and len(shape) == 3 and shape[2] in (1, 3),
            "(height, width, channels) with 1 or 3 channels",
        )
    ),
    "data.name": (
        lambda name: name in _DATA_NAMES or re.fullmatch(_TFDS_NAME, name) is not None,
        f"one of {', '.join(_DATA_NAMES)}, or tfds:NAME",
    ),
    "data.train_examples": optional(at_least(1)),
    "data.test_examples": optional(at_least(1)),
    "data.placement": one_of("auto", "resident", "streamed", "grain"),
    "data.workers": at_least(0),
    "data.augment.random_resized_crop": (
        lambda share: 0 <= share <= 1,
        "a share of the area up to 1.0, or 0.0 for none",
    ),
    "data.augment.pad_and_crop": at_least(0),
    "data.augment.cutout": at_least(0),
    "data.augment.mixup": at_least(0.0),
    "data.scaling": one_of("unit", "symmetric", "raw"),
    "data.validation": one_of("test", "holdout"),
    "data.holdout_fraction": within(0.001, 1.0),
    "loss.l1": at_least(0.0),
    "loss.l2": at_least(0.0),
    "loss.label_smoothing": within(0.0, 1.0),
    "optimizer.name": one_of(*OPTIMIZERS),
    "optimizer.learning_rate": above(0.0),
    "optimizer.b1": within(0.0, 1.0),
    "optimizer.b2": within(0.0, 1.0),
    "optimizer.epsilon": at_least(0.0),
    "optimizer.adam_form": one_of("keras", "paper"),
    "optimizer.momentum": within(0.0, 1.0),
    "optimizer.weight_decay": at_least(0.0),
    "optimizer.rms_decay": within(0.0, 1.0),
    "optimizer.clip_norm": at_least(0.0),
    "optimizer.sam_radius": at_least(0.0),
    "optimizer.schedule": one_of("constant", "cosine", "step", "one_cycle", "plateau"),
    "optimizer.warmup_epochs": at_least(0.0),
    "optimizer.step_epochs": above(0.0),
    "optimizer.step_factor": above(0.0),
    "optimizer.plateau_patience": at_least(1),
    "train.ema_decay": within(0.0, 1.0),
    "train.epochs": at_least(1),
    "train.batch_size": at_least(1),
    "train.parallel": one_of("sharded", "pmap"),
    "train.devices": optional(at_least(1)),
    "train.steps_per_execution": optional(at_least(1)),
    "train.matmul_precision": one_of("default", "tensorfloat32", "float32"),
    "train.on_nonfinite": one_of("stop", "skip"),
    "train.early_stopping_patience": at_least(0),
    "train.early_stopping_min_delta": at_least(0.0),
    "checkpoint.keep": at_least(1),
    "checkpoint.epoch_seconds": at_least(0.0),
    "checkpoint.every_minutes": at_least(0.0),
    "checkpoint.every_steps": at_least(0),
    "log.progress": one_of("auto", "bar", "lines", "none"),
    "log.histograms": at_least(0),
    "log.every_steps": optional(at_least(0)),
    "log.trackers": (
        lambda names: isinstance(names, tuple) and len({*names} & {*_TRACKERS}) == len(names),
        '"wandb", "mlflow", or both, each once',
    ),
}


def _written(path: str, values: dict[str, Any], example: Any) -> str:
    """Returns how to write a tuple such as `example` on the command line; "" for other values."""
    example = example or _EXAMPLES.get(path, example)
    if not isinstance(example, tuple):
        return "; it is not a tuple" if isinstance(values[path], tuple) else ""
    if path in ENTRIES:
        of, entry = ENTRIES[path]
        example = (entry,) * (len(values[of]) if isinstance(values[of], tuple) else 2)
    return f', written --config.{path}="{example}" for example'


def rules_of(model: str) -> dict[str, Rule]:
    """Returns {dotted path: rule} of the fields that have one, by the name of the network."""
    of_model = {f"model.{field}": rule for field, rule in MODEL_RULES.get(model, {}).items()}
    return _RULES | of_model


def validate(config: ConfigDict) -> None:
    """Checks each value, and the values that depend on each other.

    The fields of a network of one's own are not checked here, and no code of it is run: the network
    checks them when it is built.

    Raises:
        UsageError: a value is not allowed; the message names the field and what it takes.
    """
    values = dict(flatten(config))
    model = str(values.get("model.name", "alexnet"))  # its absence is found below
    own = models.is_own(model)
    known = dict(flatten(default_config() if own else default_config(model)))
    for path in sorted(known.keys() ^ values.keys()):
        if own and path.startswith("model."):
            continue
        verb = "lacks" if path in known else "has an unknown"
        raise UsageError(f"the config {verb} field {path}; start from default_config()")
    rules = rules_of(model)
    for path, (check, expected) in rules.items():
        if not _holds(check, values[path]):
            raise UsageError(
                f"config.{path} is {values[path]!r}; expected"
                f" {expected}{_written(path, values, known[path])}"
            )
    for name, field, value in (
        ("folder", "folder", "DIR"),
        ("parquet", "folder", "DIR"),
        ("npz", "file", "FILE"),
    ):
        if config.data.name == name and not config.data[field]:
            raise UsageError(
                f"config.data.{field} is not set; data.name={name} needs"
                f" --config.data.{field}={value}"
            )
    crops = config.data.augment.random_resized_crop > 0
    if crops and config.data.placement not in ("auto", "grain"):
        raise UsageError(
            "config.data.augment.random_resized_crop needs the original pictures: use"
            f" --config.data.placement=grain, not {config.data.placement}, or pad_and_crop"
        )
    _check_recipe(config)
    if config.log.histograms and not config.log.tensorboard:
        raise UsageError(
            f"config.log.histograms is {config.log.histograms}, but TensorBoard is off; use"
            " --config.log.tensorboard=true, or histograms=0"
        )
    if values.get("model.stochastic_depth") and values.get("model.shortcut") == "none" and not own:
        raise UsageError(
            "config.model.stochastic_depth skips whole blocks, which only a network with shortcuts"
            " allows; use --config.model.shortcut=pad, or stochastic_depth=0"
        )
    for path in rules.keys() & ENTRIES.keys():
        of, _ = ENTRIES[path]
        given, needed = len(values[path]), len(values[of])
        if given != needed and (given or path not in MAY_BE_EMPTY):
            raise UsageError(
                f"config.{path} has {given} entries, but {of} has {needed};"
                f" give one for each{_written(path, values, known[path])}"
            )


def _check_recipe(config: ConfigDict) -> None:
    """Raises a `UsageError` if values of the optimizer and of the averages exclude each other."""
    optimizer, schedule = config.optimizer, config.optimizer.schedule
    if schedule == "one_cycle" and optimizer.warmup_epochs:
        raise UsageError(
            "config.optimizer.schedule=one_cycle begins with a warm-up of its own; use"
            " --config.optimizer.warmup_epochs=0, or another schedule"
        )
    if schedule == "plateau" and not optimizer.step_factor < 1:
        raise UsageError(
            f"config.optimizer.step_factor is {optimizer.step_factor}; with schedule=plateau,"
            " expected a number below 1"
        )
    if optimizer.name not in _SCHEDULE_FREE:
        return
    if schedule != "constant":
        raise UsageError(
            f"config.optimizer.name={optimizer.name} takes the place of a schedule; use"
            f" --config.optimizer.schedule=constant, not {schedule}, with a warm-up if need be"
        )
    if config.train.ema_decay:
        raise UsageError(
            f"config.optimizer.name={optimizer.name} scores an average of its own; use"
            " --config.train.ema_decay=0, or another optimizer"
        )
    if not optimizer.b1:
        raise UsageError(
            f"config.optimizer.b1 is 0; with {optimizer.name}, expected a number above 0"
        )


def _holds(check: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(check(value))
    except TypeError:  # a value of another kind, set in an experiment file
        return False


def complete(config: ConfigDict) -> ConfigDict:
    """Returns a stored config, validated and frozen, with defaults for fields that it lacks.

    Of a network of one's own, the fields stay as they are stored: no code of it is run.

    Raises:
        UsageError: a value is not allowed, or there is no model of that name.
    """
    stored = dict(flatten(config))
    model = str(stored.get("model.name"))
    if models.is_own(model):
        completed = default_config()
        with completed.unlocked():
            completed.model = ConfigDict(config.model)
    else:
        completed = default_config(model)
    known = dict(flatten(completed))
    with completed.ignore_type():
        completed.update_from_flattened_dict({p: v for p, v in stored.items() if p in known})
    validate(completed)
    return FrozenConfigDict(completed)
