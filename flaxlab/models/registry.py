"""Finds the network that a config names, flaxlab's or one's own, and builds it from its knobs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn

from flaxlab.errors import UsageError
from flaxlab.models.convnet import VGG, AlexNet
from flaxlab.models.own import find_own, name_own
from flaxlab.models.resnet import ResNet

MODELS: dict[str, type[nn.Module]] = {"alexnet": AlexNet, "vgg": VGG, "resnet": ResNet}

# Not choices of the experiment: they follow from the data, from how the step is mapped and from
# the machine that computes it.
_NOT_KNOBS = ("num_classes", "axis_name", "conv", "max_pool", "dot_general", "parent", "name")


def is_own(name: Any, given_by: str = "config.model.name") -> bool:
    """Returns whether a name may be that of a network outside flaxlab.

    Args:
        name: a name.
        given_by: where it comes from, for messages.

    Raises:
        UsageError: it is not the name of a network.
    """
    if name in MODELS:
        return False
    place, _, attribute = str(name).rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    if not attribute.isidentifier() or not (is_module or place.endswith(".py")):
        raise UsageError(
            f"{given_by} is {name!r}; expected {', '.join(MODELS)}, or a network of your own"
            " as package.module:Class or FILE.py:Class"
        )
    return True


def find_model(name: str) -> type[nn.Module]:
    """Returns the class of a network. For one's own, this runs the code of its module.

    Args:
        name: "alexnet", "vgg" or "resnet"; "package.module:Class", of a module that Python finds;
            or "FILE.py:Class".

    Raises:
        UsageError: there is no such network, or flaxlab cannot train it, see
            `flaxlab.models.own.find_own`.
    """
    return find_own(name, _NOT_KNOBS) if is_own(name) else MODELS[name]


def name_of(model: type[nn.Module]) -> str:
    """Returns the name by which `find_model` finds a class.

    Raises:
        UsageError: it was not defined at the top level of a module or a file.
    """
    known = [name for name, found in MODELS.items() if found is model]
    return known[0] if known else name_own(model)


def source_file(name: str) -> Path | None:
    """Returns the file with the class of a network of one's own; None for flaxlab's."""
    file = getattr(sys.modules[find_model(name).__module__], "__file__", None)
    return Path(file) if is_own(name) and file else None


def knobs(name: str) -> dict[str, Any]:
    """Returns the defaults of the fields of a network that an experiment may change.

    Of a network of one's own: those whose default is a bool, a number, a text or a tuple of these.

    Args:
        name: see `find_model`, which says what is raised.
    """
    fields = find_model(name).__dataclass_fields__
    defaults = {key: field.default for key, field in fields.items() if key not in _NOT_KNOBS}
    return {key: default for key, default in defaults.items() if _is_plain(default)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)


def build(knobs: Mapping[str, Any], num_classes: int, axis_name: str | None = None) -> nn.Module:
    """Builds the network `knobs["name"]` from its other knobs: `config.model`, unchanged.

    Args:
        knobs: values of the fields.
        num_classes: number of logits.
        axis_name: the mapped axis that cuts the batch under `pmap`, if there is one.

    Raises:
        UsageError: see `find_model`; or the network does not take these knobs.
    """
    model = find_model(knobs["name"])
    fields = {key: value for key, value in knobs.items() if key != "name"}
    if "axis_name" in model.__dataclass_fields__:
        fields["axis_name"] = axis_name
    elif axis_name is not None:
        raise UsageError(
            f"{knobs['name']} has no field axis_name, by which its layers would know the axis of"
            " pmap; use --config.train.parallel=sharded"
        )
    try:
        return model(num_classes=num_classes, **fields)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{knobs['name']} does not take its config: {error}") from error


def computed_by(model: nn.Module, **functions: Any) -> nn.Module:
    """Returns the network with these functions for its layers.

    Args:
        model: a network; where it has no field of a function's name it stays as it is.
        functions: see `flaxlab.kernels.Kernels`.
    """
    fields = type(model).__dataclass_fields__
    return model.clone(**{name: value for name, value in functions.items() if name in fields})
