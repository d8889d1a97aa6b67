"""From a run's checkpoint to a model that can be called, without optimizer and without template."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from flaxlab import config as configs
from flaxlab import models
from flaxlab.batches.augment import scale_pixels
from flaxlab.checkpoints.find import Saved, choose, epoch_of, find_saved, require_intact
from flaxlab.checkpoints.read import read_collection
from flaxlab.config import ConfigDict
from flaxlab.config.rules import complete
from flaxlab.data.catalog import CATALOG
from flaxlab.errors import UsageError
from flaxlab.run.fingerprint import describe_other_code, network_fingerprints
from flaxlab.training.state import TrainState

Variables = dict[str, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredModel:
    """A model as a run stored it.

    Attributes:
        model: the linen module; it computes by plain `lax`.
        variables: {"params": ..., "batch_stats": ...}, nested dicts of NumPy arrays; no
            "batch_stats" without batch normalization.
        config: resolved config of the run.
        class_names: for each logit.
        saved: where it stands.
        epoch: after or in which it was saved.
    """

    model: models.ConvNet
    variables: Variables
    config: ConfigDict
    class_names: tuple[str, ...]
    saved: Saved
    epoch: int


def eval_state(variables: Variables) -> TrainState:
    """Returns the state that a step which only scores reads: no optimizer, and no key in use."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=(),
        key=jax.random.key(0),
    )


def load_stored(path: Path, step: str | None = None) -> StoredModel:
    """Loads the model that a run has trained.

    Args:
        path: a run directory, its checkpoints, or one step.
        step: "latest", "best" or a number; None: the one whose accuracy the run reports, the
            best epoch's with a holdout, else the latest.

    Raises:
        UsageError: there is no such checkpoint, it is damaged, it was not written by flaxlab, or
            its arrays are not those of its config's model.
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
    params = read_collection(saved.trees["state"], "params")
    batch_stats = read_collection(saved.trees["state"], "batch_stats")
    classes = len(params.get("output", {}).get("bias", ()))
    names = _class_names(record, config, classes)
    model = models.build(config.model, classes)
    variables = {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})
    _require_structure(saved, model, config, variables)
    preprocess = functools.partial(scale_pixels, scaling=config.data.scaling)
    now = network_fingerprints(model, preprocess, config.data.image_shape)
    if text := describe_other_code(record, now, str(saved.folder)):
        _log.warning("warning: %s; its accuracy may be another now", text)
    return StoredModel(model, variables, config, names, saved, epoch_of(record))


def _class_names(record: dict[str, Any], config: ConfigDict, classes: int) -> tuple[str, ...]:
    if "class_names" in record["dataset"]:
        return tuple(record["dataset"]["class_names"])
    # Older records do not name them.
    if config.data.name in CATALOG:
        return CATALOG[config.data.name].class_names
    return tuple(f"class {label}" for label in range(classes))


def reported_step(found: Sequence[Saved]) -> str:
    """Returns "best" for a run with a holdout, whose best epoch is reported, else "latest"."""
    stored = [(saved.record() or {}).get("config", {}) for saved in found]
    holdout = any(config.get("data", {}).get("validation") == "holdout" for config in stored)
    return "best" if holdout and any(saved.kind == "best" for saved in found) else "latest"


def shapes_of(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns {path: shape} of a tree of arrays, "/" between the names."""
    return {
        "/".join(str(key.key) for key in keys): tuple(leaf.shape)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def describe_shapes(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """Says in one line which arrays differ, at most five of them."""
    differing = [
        f"{path}: {found.get(path, 'absent')}, expected {expected.get(path, 'absent')}"
        for path in dict.fromkeys([*expected, *found])
        if expected.get(path) != found.get(path)
    ]
    more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
    return "; ".join(differing[:5]) + more


def _require_structure(
    saved: Saved, model: models.ConvNet, config: ConfigDict, variables: Variables
) -> None:
    images = jnp.zeros((1, *config.data.image_shape))
    key = jax.random.key(0)
    expected = shapes_of(jax.eval_shape(lambda: model.init(key, images, train=False)))
    found = shapes_of(variables)
    if expected != found:
        raise UsageError(
            f"{saved.folder} does not hold the model of its config"
            f" ({describe_shapes(expected, found)})"
        )
