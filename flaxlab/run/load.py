"""Loads the model of a run from its checkpoint, ready to be called."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from flaxlab import config as configs
from flaxlab import models
from flaxlab.batches.augment import scale_pixels
from flaxlab.checkpoints.find import Saved, choose, epoch_of, find_saved, require_intact
from flaxlab.checkpoints.read import read_variables
from flaxlab.config import ConfigDict
from flaxlab.config.rules import complete
from flaxlab.errors import UsageError
from flaxlab.run.fingerprint import describe_other_code, network_fingerprints
from flaxlab.training.state import TrainState, Variables

_SHOWN = 5  # arrays named in a message, at most

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredModel:
    """A model as a run stored it.

    Attributes:
        model: the linen module; it computes with plain `lax`.
        variables: {"params": ..., "batch_stats": ...}, nested dicts of NumPy arrays; no
            "batch_stats" without batch normalization. Where a run scored an average of its
            parameters, they are that average, with its statistics.
        config: resolved config of the run.
        class_names: the class of each logit.
        saved: the checkpoint.
        epoch: the epoch that the checkpoint ends, or lies in.
    """

    model: nn.Module
    variables: Variables
    config: ConfigDict
    class_names: tuple[str, ...]
    saved: Saved
    epoch: int


def eval_state(variables: Variables) -> TrainState:
    """Returns a state for `make_eval_step`: it has no optimizer, and its key is never used."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=(),
        key=jax.random.key(0),
    )


def load_stored(path: Path, step: str | None = None, model: str | None = None) -> StoredModel:
    """Loads the model that a run has trained.

    Nothing in the run directory is run as code. A network outside flaxlab is imported by the name
    of its module, from where Python finds modules; one from a file only if the caller names it.

    Args:
        path: a run directory, its checkpoints, or one step.
        step: "latest", "best" or a number; None: the one whose accuracy the run reports, that
            is the best epoch's with a holdout, else the latest.
        model: the network of the run, if it is not one of flaxlab's, as `models.find_model` takes
            it; None: the module that the run names.

    Raises:
        UsageError: there is no such checkpoint, it is damaged, it was not written by flaxlab, its
            arrays do not fit the model of its config, or its network has to be named.
    """
    found = find_saved(path)
    saved = choose(found, step or reported_step(found))
    require_intact(saved)
    record = saved.record()
    if record is None or not {"config", "dataset", "history"} <= record.keys():
        raise UsageError(
            f"{saved.folder} was not written by flaxlab, or its record is damaged: it has no"
            " config; python -m flaxlab.inspect shows what is in it"
        )
    config = complete(configs.from_dict(record["config"]))
    read = read_variables(saved.trees["state"], saved.kind == "midway")
    names = tuple(record["dataset"]["class_names"])
    config = _with_network(config, model, saved.folder)
    network = models.build(config.model, len(names))
    variables = {name: tree for name, tree in read.items() if tree or name == "params"}
    _require_structure(saved, network, config, variables)
    preprocess = functools.partial(scale_pixels, scaling=config.data.scaling)
    now = network_fingerprints(network, preprocess, config.data.image_shape)
    if text := describe_other_code(record, now, str(saved.folder)):
        _log.warning("warning: %s; its accuracy may differ now", text)
    return StoredModel(network, variables, config, names, saved, epoch_of(record))


def _with_network(config: ConfigDict, model: str | None, folder: Path) -> ConfigDict:
    """Returns the config with the name of a network whose code may be run.

    Raises:
        UsageError: there is none: it has to be named.
    """
    recorded = config.model.name
    if not models.is_own(recorded):
        if model not in (None, recorded):
            raise UsageError(
                f"{folder} holds {recorded}, which is flaxlab's own; leave out {model}"
            )
        return config
    if model is None:
        models.require_importable(recorded, folder)
        return config
    if not models.is_own(model, "--model"):
        raise UsageError(f"{folder} holds the network {recorded}, not {model}")
    return configs.replaced(config, model={**config.model, "name": model})


def reported_step(found: Sequence[Saved]) -> str:
    """Returns "best" for a run with a holdout, whose best epoch is reported, else "latest"."""
    stored = [(saved.record() or {}).get("config", {}) for saved in found]
    holdout = any(config.get("data", {}).get("validation") == "holdout" for config in stored)
    return "best" if holdout and any(saved.kind == "best" for saved in found) else "latest"


def _require_structure(
    saved: Saved, model: nn.Module, config: ConfigDict, variables: Variables
) -> None:
    images = jnp.zeros((1, *config.data.image_shape))
    key = jax.random.key(0)
    expected = _shapes(jax.eval_shape(lambda: model.init(key, images, train=False)))
    found = _shapes(variables)
    differing = [
        f"{path}: {found.get(path, 'absent')}, expected {expected.get(path, 'absent')}"
        for path in dict.fromkeys([*expected, *found])
        if expected.get(path) != found.get(path)
    ]
    if differing:
        shown = "; ".join(differing[:_SHOWN])
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise UsageError(f"{saved.folder} does not hold the model of its config ({shown}{more})")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns {path: shape} of a tree of arrays, "/" between the names."""
    return {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}
