"""Networks of one's own: finds their classes, and checks that flaxlab can train them."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.machinery
import inspect
import itertools
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import errors

from flaxlab.errors import UsageError
from flaxlab.models.summary import trace_modules
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
    except UsageError:
        raise
    except Exception as error:  # whatever the user's code raises
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(
            f"{error.name}."
        )
        if not missing:
            raise UsageError(
                f"the module {module} cannot be imported: {type(error).__name__}: {error}"
            ) from error
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


def same_network(name: str, other: str) -> bool:
    """Returns whether two names are of one network, as far as that is known without running it.

    They are if the classes have one name and their files the same contents. Where a file is not
    there any more, or its module is not loaded, the files need only have one name. Modules of
    different names are never one.
    """
    if name == other:
        return True
    places = [each.rpartition(":")[0] for each in (name, other)]
    if not any(place.endswith(".py") for place in places):
        return False
    files = [_file_of(place) for place in places]
    if name.rpartition(":")[2] != other.rpartition(":")[2] or None in files:
        return False
    contents = [file.read_bytes() for file in files if file and file.is_file()]
    same_stem = len({file.stem for file in files if file}) == 1
    return contents[0] == contents[1] if len(contents) == 2 else same_stem


def _file_of(place: str) -> Path | None:
    """Returns the file of a module, by its own name or that of the file; None without one."""
    if place.endswith(".py"):
        return Path(place)
    file = getattr(sys.modules.get(place), "__file__", None)
    if not file and all(part.isidentifier() for part in place.split(".")):
        return Path(place.replace(".", "/")).with_suffix(".py")
    return Path(file) if file else None


def require_importable(name: str, folder: Path) -> None:
    """Checks that a network that a record names may be imported, without running any code.

    Args:
        name: see `find_own`.
        folder: the record's checkpoint. Nothing is run that is in its run directory, or in a folder
            between that and the current one.

    Raises:
        UsageError: it is in a file, in one of these folders, or nowhere.
    """
    module, _, attribute = name.rpartition(":")
    given = f"name it: --model=FILE.py:{attribute}, or model=... in flaxlab.load"
    if module.endswith(".py"):
        raise UsageError(
            f"the network {name} is in a file, and flaxlab runs no file that a run names; {given}"
        )
    found = _locations(module)
    if not found:
        raise UsageError(f"there is no module {module} for the network {name} of this run; {given}")
    for place, inside in itertools.product(found, _around(folder)):
        if place.absolute().is_relative_to(inside) or place.resolve().is_relative_to(inside):
            raise UsageError(
                f"the module {module} of the network {name} is in {inside}, from which no code is"
                f" run; {given}"
            )


def _locations(module: str) -> list[Path]:
    """Returns all places where the parts of a dotted name may be imported from; [] without any.

    Unlike `importlib.util.find_spec`, this runs no package to find what is inside it.
    """
    top, *rest = module.split(".")
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    specs = (finder.find_spec(top, None) for finder in finders)
    spec = next((spec for spec in specs if spec is not None), None)
    if spec is None or top == "__main__":
        return []
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    places = [*folders, *([Path(spec.origin)] if spec.origin else [])]
    for part in rest:
        names = [part, *(f"{part}{suffix}" for suffix in importlib.machinery.all_suffixes())]
        found = [folder / name for folder in folders for name in names]
        folders = [place for place in found if place.exists()]
        if not folders:
            return []
        places += folders
    return places


def _around(folder: Path) -> list[Path]:
    """Returns the folders of a checkpoint from which nothing is run.

    These are its run directory, three levels up, and all folders up to the current one: a module
    may be in another run beside it. Links are not followed, and followed. A folder with the
    interpreter's own packages is none of them: above a copy of a single checkpoint it may be.
    """
    here, found = Path.cwd(), []
    for place in (folder.absolute(), folder.resolve()):
        above = [each for each in place.parents[:3] if each not in Path(sys.prefix).parents]
        found += [place, *above]
        found += [each for each in place.parents if here in each.parents]
    return found


def require_logits(model: nn.Module, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Checks that a network maps images (H, W, C) to logits, as flaxlab trains and scores them.

    Raises:
        UsageError: its output has another shape or dtype, it keeps more than parameters and batch
            statistics, training changes their shapes or needs other keys than "dropout", or its
            dropout would be the same on all devices of `pmap`.
    """
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    key = jax.random.key(0)
    name = type(model).__name__

    def in_training(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        rngs = {"dropout": key}
        return model.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])

    try:
        init = functools.partial(model.init_with_output, train=False)
        outputs, variables = jax.eval_shape(init, key, images)
        others = variables.keys() - {"params", "batch_stats"}
        if others or "params" not in variables:
            raise UsageError(
                f"{name} has the collections {', '.join(variables)}; expected params and, for"
                " running statistics, batch_stats"
            )
        if getattr(model, "axis_name", None) is None:
            trained, changed = jax.eval_shape(in_training, variables, images, key)
            outputs = (outputs, trained)
            before, after = (each.get("batch_stats", {}) for each in (variables, changed))
            if jax.tree.map(jnp.shape, before) != jax.tree.map(jnp.shape, after):
                raise UsageError(f"{name} keeps other batch_stats in training than at its start")
        else:
            _require_mapped_dropout(model, image_shape)
    except errors.FlaxError as error:
        raise UsageError(f"{name} cannot be trained: {error}") from error
    for logits in jax.tree.leaves(outputs):
        if logits.shape != (2, num_classes) or logits.dtype != jnp.float32:
            raise UsageError(
                f"{name} returns {logits.dtype}{logits.shape} for 2 images; expected float32 logits"
                f" (2, {num_classes})"
            )


def _require_mapped_dropout(model: nn.Module, image_shape: tuple[int, ...]) -> None:
    calls, _ = trace_modules(model, image_shape)
    for path, (module, *_) in calls.items():
        if isinstance(module, nn.Dropout):
            raise UsageError(
                f"{'/'.join(path)} is flax.linen.Dropout, which on each device of pmap drops the"
                " same values; use flaxlab.models.Dropout(rate, axis_name=self.axis_name), or"
                " --config.train.parallel=sharded"
            )
