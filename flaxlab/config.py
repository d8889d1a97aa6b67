"""Every knob of an experiment once: its default, what it means, and which values it takes.

The protocol stands here and nowhere else. The lab report states the number of epochs and that
"validation" means the official test split; it does not state the optimizer, the learning rate,
the batch size or the scaling of the inputs. Adam with 1e-3 is Keras's default and fits what the
report shows; batch size 64 and pixels in [0, 1] are our choice.

An experiment file calls `default_config` or the `get_config` of its baseline and changes the
fields that it is about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict as ConfigDict
from ml_collections import FrozenConfigDict
from ml_collections.config_dict import placeholder

from flaxlab import models
from flaxlab.errors import UsageError
from flaxlab.models.blocks import ACTIVATIONS, POOLINGS


def default_config(model: str = "alexnet") -> ConfigDict:
    """Returns a config with every knob at its default, for the model "alexnet" or "vgg"."""
    config = ConfigDict()
    config.name = ""  # of the experiment: names its run directory and its report
    config.baseline = ""  # name of the experiment file beside this one to compare with
    config.seed = 0  # of initial values, order of examples, dropout and the holdout split

    # What the lab report measured, where it did: validation accuracy of the last and best epoch.
    config.reported = ConfigDict()
    config.reported.data = ""  # name of the data set that it was measured on
    config.reported.final_accuracy = placeholder(float)
    config.reported.best_accuracy = placeholder(float)

    config.data = ConfigDict()
    config.data.name = "fashion_mnist"  # fashion_mnist, cifar10, digits, folder
    config.data.image_shape = (28, 28, 1)  # (H, W, C): digits and folder are brought to it
    config.data.data_dir = placeholder(str)  # TFDS folder; None: $TFDS_DATA_DIR or TFDS's own
    config.data.folder = placeholder(str)  # class folders of images, for data.name=folder
    config.data.train_examples = placeholder(int)  # a fixed stratified subset; None: all
    config.data.test_examples = placeholder(int)  # a fixed stratified subset; None: all
    # Where the examples wait: "resident" on the device, or "streamed" to it ahead of time; the
    # batches are the same. "auto": resident up to a quarter of an accelerator's memory, or 1 GiB.
    config.data.placement = "auto"
    config.data.scaling = "unit"  # pixels to [0, 1]; "symmetric": [-1, 1]; "raw": 0 to 255
    # "test": each epoch is scored on the test split (the report's protocol, optimistic for the
    # best epoch). "holdout": a seeded stratified part of train chooses the best epoch, and the
    # test split is scored once at the end.
    config.data.validation = "test"
    config.data.holdout_fraction = 0.1

    # The model's own fields; their comments stand with the classes in flaxlab/models/convnet.py.
    config.model = ConfigDict({"name": model, **models.knobs(model)})

    # Penalties on every kernel but the output layer's, as Keras's regularizers.L1 and L2 have
    # them: l1 * sum(|w|) + l2 * sum(w**2), added to the cross entropy.
    config.loss = ConfigDict()
    config.loss.l1 = 0.0
    config.loss.l2 = 0.0

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # adam, adamw, sgd
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b1 = 0.9  # adam, adamw
    config.optimizer.b2 = 0.999  # adam, adamw
    config.optimizer.epsilon = 1e-7  # adam, adamw; Keras's default (optax's is 1e-8)
    config.optimizer.momentum = 0.9  # sgd
    config.optimizer.nesterov = False  # sgd
    config.optimizer.weight_decay = 1e-4  # adamw
    config.optimizer.schedule = "constant"  # constant, cosine (to 0 at the end), step
    config.optimizer.warmup_epochs = 0.0  # linear from 0
    config.optimizer.step_epochs = 3.0  # step: every so many epochs after the warm-up ...
    config.optimizer.step_factor = 0.1  # ... the learning rate is multiplied by this

    config.train = ConfigDict()
    config.train.epochs = 10  # of the report
    config.train.batch_size = 64
    # Optimizer steps in one call of the program: the host is asked less often. On a CPU it brings
    # nothing, and convolutions that lax computes become slow in its loop.
    config.train.steps_per_execution = 1
    # A trace of ten calls by jax.profiler, to profile/ in the run directory.
    config.train.profile = False
    # On a CPU, in float32: convolutions and max pooling by flaxlab.kernels, which are faster than
    # XLA's own and equal to them but for rounding. False: plain lax, as on a GPU.
    config.train.fast_kernels = True
    config.train.early_stopping_patience = 0  # epochs without a better one; 0: never stop early
    config.train.early_stopping_min_delta = 0.0  # what counts as better, in accuracy

    config.checkpoint = ConfigDict()
    config.checkpoint.keep = 2  # latest checkpoints kept, beside the best one

    config.log = ConfigDict()
    config.log.progress = "auto"  # auto (a bar on a terminal, else lines), bar, lines, none
    config.log.tensorboard = True
    return config.lock()


# What a value must be, as a test and in words.
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


_RULES: dict[str, _Rule] = {
    "seed": _within(0, 2**32),
    "data.image_shape": (
        lambda shape: _are_pairs((shape[:2],)) and len(shape) == 3 and shape[2] in (1, 3),
        "(height, width, channels) with 1 or 3 channels",
    ),
    "data.name": _one_of("fashion_mnist", "cifar10", "digits", "folder"),
    "data.train_examples": _optional(_at_least(1)),
    "data.test_examples": _optional(_at_least(1)),
    "data.placement": _one_of("auto", "resident", "streamed"),
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
    "model.pool_kind": _one_of(*POOLINGS),
    "model.batch_norm_momentum": _within(0.0, 1.0),
    "model.batch_norm_epsilon": _above(0.0),
    "model.block_dropout": _numbers(_within(0.0, 1.0)),
    "model.head_units": (
        lambda units: all(isinstance(number, int) and number >= 1 for number in units),
        "a tuple of whole numbers from 1",
    ),
    "model.head_activation": _one_of(*ACTIVATIONS),
    "model.head_dropout": _numbers(_within(0.0, 1.0)),
    "model.dtype": _one_of("float32", "bfloat16"),
    "loss.l1": _at_least(0.0),
    "loss.l2": _at_least(0.0),
    "optimizer.name": _one_of("adam", "adamw", "sgd"),
    "optimizer.learning_rate": _above(0.0),
    "optimizer.b1": _within(0.0, 1.0),
    "optimizer.b2": _within(0.0, 1.0),
    "optimizer.epsilon": _at_least(0.0),
    "optimizer.momentum": _within(0.0, 1.0),
    "optimizer.weight_decay": _at_least(0.0),
    "optimizer.schedule": _one_of("constant", "cosine", "step"),
    "optimizer.warmup_epochs": _at_least(0.0),
    "optimizer.step_epochs": _above(0.0),
    "optimizer.step_factor": _above(0.0),
    "train.epochs": _at_least(1),
    "train.batch_size": _at_least(1),
    "train.steps_per_execution": _at_least(1),
    "train.early_stopping_patience": _at_least(0),
    "train.early_stopping_min_delta": _at_least(0.0),
    "checkpoint.keep": _at_least(1),
    "log.progress": _one_of("auto", "bar", "lines", "none"),
}


def validate(config: ConfigDict) -> None:
    """Checks each value by itself and those that belong together.

    Raises:
        UsageError: says which field is wrong and what it takes.
    """
    values = dict(flatten(config))
    known = dict(flatten(default_config()))
    for path in sorted(known.keys() ^ values.keys()):
        verb = "lacks" if path in known else "has an unknown"
        raise UsageError(f"the config {verb} field {path}; start from default_config()")
    for path, (check, expected) in _RULES.items():
        if not _holds(check, values[path]):
            raise UsageError(f"config.{path} is {values[path]!r}; expected {expected}")
    if not config.name:
        raise UsageError("config.name is empty; give the experiment a name")
    if config.data.name == "folder" and not config.data.folder:
        raise UsageError(
            "config.data.folder is not set; data.name=folder needs --config.data.folder=DIR"
        )
    model = config.model
    for field, of in (
        ("pools", "blocks"),
        ("block_dropout", "blocks"),
        ("head_dropout", "head_units"),
    ):
        given, needed = len(model[field]), len(model[of])
        if given != needed and not (given == 0 and field.endswith("dropout")):
            raise UsageError(
                f"config.model.{field} has {given} entries, but model.{of} has {needed};"
                " give one for each"
            )


def _holds(check: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(check(value))
    except TypeError:  # a value of another kind, set in an experiment file
        return False


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of every field, in alphabetical order."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def replaced(config: ConfigDict, **fields: Any) -> FrozenConfigDict:
    """Returns the config with some fields of its first level set to other values, frozen."""
    changed = ConfigDict(config)
    changed.update(fields)
    return FrozenConfigDict(changed)


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns {dotted path: (value in old, value in new)} where they differ; None if absent."""
    before, after = dict(flatten(old)), dict(flatten(new))
    paths = list(dict.fromkeys([*before, *after]))
    pairs = {path: (before.get(path), after.get(path)) for path in paths}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def meaningful_differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns `differences` without those that only name or describe an experiment."""
    describing = ("name", "baseline", "reported.", "log.", "data.placement", "train.profile")
    changed = differences(old, new)
    return {path: pair for path, pair in changed.items() if not path.startswith(describing)}


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as nested plain dicts that JSON can hold (tuples become lists there)."""
    return {key: to_dict(v) if isinstance(v, ConfigDict) else v for key, v in config.items()}


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """Reads back what `to_dict` made, through JSON or not: lists become tuples."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return tuple(map(plain, value)) if isinstance(value, list | tuple) else value

    return ConfigDict(plain(values))


def to_json(config: ConfigDict) -> str:
    """Returns the config as indented JSON text."""
    return json.dumps(to_dict(config), indent=2)
