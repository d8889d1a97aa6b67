"""Networks of one's own: finds their classes, and checks that flaxlab can train them."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import itertools
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxlab.errors import UsageError
from flaxlab.user_code import PREFIX, run_file


def find_own(name: str, not_knobs: Collection[str]) -> type[nn.Module]:
    """Returns the class of a network of one's own, after running the code of its module.

    Args:
        name: "package.module:Class", of a module that Python finds, or "FILE.py:Class".
        not_knobs: fields that need no default.

    Raises:
        UsageError: there is no such network, or flaxlab cannot train it: it is not a linen module,
            has no field `num_classes`, a field without a default, or a call without `train`.
    """
    place, _, attribute = name.rpartition(":")
    module = run_file(Path(place), "file") if place.endswith(".py") else _import(place)
    found = getattr(module, attribute, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise UsageError(f"{place} has no flax.linen.Module of the name {attribute}")
    fields = {field.name: field for field in dataclasses.fields(found)}
    if "num_classes" not in fields:
        raise UsageError(f"{name} has no field num_classes; add num_classes: int, without default")
    for field in fields.values():
        if field.name not in not_knobs and _has_no_default(field):
            raise UsageError(
                f"{name} has no default for {field.name}; give it one, which a config can change"
            )
    if "train" not in inspect.signature(found.__call__).parameters:
        raise UsageError(f"{name} must be called as model(images, train=...); add train: bool")
    return found


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _import(module: str) -> object:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is not
        raise UsageError(
            f"there is no module {module}; set PYTHONPATH to its folder, install it, or name its"
            " file, FILE.py:Class"
        ) from error


def name_own(model: type[nn.Module]) -> str:
    """Returns the name by which `find_own` finds a class.

    Raises:
        UsageError: it was not defined at the top level of a module or a file.
    """
    module = sys.modules.get(model.__module__)
    if getattr(module, model.__name__, None) is not model:
        raise UsageError(
            f"the network {model.__qualname__} is not at the top level of its module; move it there"
        )
    file = getattr(module, "__file__", None)
    by_file = model.__module__ == "__main__" or model.__module__.startswith(PREFIX)
    return f"{file if by_file and file else model.__module__}:{model.__name__}"


def require_importable(name: str, not_in: Sequence[Path]) -> None:
    """Checks that a network that a record names may be imported, without running any code.

    Args:
        name: see `find_own`.
        not_in: folders from which nothing is run.

    Raises:
        UsageError: it is in a file, in one of these folders, or nowhere.
    """
    module, _, attribute = name.rpartition(":")
    given = f"name it: --model=FILE.py:{attribute}, or model=... in flaxlab.load"
    if module.endswith(".py"):
        raise UsageError(
            f"the network {name} is in a file, and a file that a run names is not run; {given}"
        )
    top = module.split(".")[0]  # to look up more of the name would run the package
    spec = None if top == "__main__" else importlib.util.find_spec(top)
    if spec is None:
        raise UsageError(f"there is no module {module} for the network {name} of this run; {given}")
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    for place, folder in itertools.product(map(Path, places), not_in):
        if place.resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"the module {module} of the network {name} is in {folder}, from which no code is"
                f" run; {given}"
            )


def require_logits(model: nn.Module, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Checks that a network maps images (H, W, C) to logits, as flaxlab trains them.

    Raises:
        UsageError: its output has another shape or dtype, or it keeps more than parameters and
            batch statistics.
    """
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    init = functools.partial(model.init_with_output, train=False)
    logits, variables = jax.eval_shape(init, jax.random.key(0), images)
    name = type(model).__name__
    if getattr(logits, "shape", None) != (2, num_classes) or logits.dtype != jnp.float32:
        raise UsageError(
            f"{name} returns {getattr(logits, 'dtype', '')}{getattr(logits, 'shape', logits)} for 2"
            f" images; expected float32 logits (2, {num_classes})"
        )
    if variables.keys() - {"params", "batch_stats"} or "params" not in variables:
        raise UsageError(
            f"{name} has the collections {', '.join(variables)}; expected params and, for running"
            " statistics, batch_stats"
        )
