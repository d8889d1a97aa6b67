"""Fingerprints of what the steps of a run compute, so that a run never goes on with other code.

A config names a network, and the code defines it. Fingerprints are digests of the traced functions
as StableHLO text, without names of files and functions, comments and line numbers. Networks are
traced with plain `lax` on two images, so that neither the device nor its fastest kernels matter.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from flaxlab import config as configs
from flaxlab import models
from flaxlab.config import ConfigDict
from flaxlab.training.experiment import Experiment, step_parts
from flaxlab.training.metrics import batch_metrics
from flaxlab.training.optimizer import averaged
from flaxlab.training.state import draw_state
from flaxlab.training.step import make_train_step

# The packages whose versions may change the StableHLO text of the same code.
TRACERS = ("jax", "jaxlib", "flax", "optax")
_IMAGES = 2

# Names of functions in StableHLO, except those that XLA itself provides.
_FUNCTION = re.compile(r'(?<!custom_call )@(?:"[^"]*"|[\w.$-]+)')


class _Small(nn.Module):
    """A network with a penalised kernel, an output layer, batch statistics and dropout."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = nn.Dense(2)(images.reshape(len(images), -1))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(2, name="output")(nn.Dropout(0.5, deterministic=not train)(x))


def fingerprints(experiment: Experiment) -> dict[str, str]:
    """Returns the digests of what the steps of an experiment compute, by part."""
    config, dataset = configs.replaced(experiment.config, seed=0), experiment.dataset
    return _fingerprints(
        config, experiment.optimizer, dataset.image_shape, len(dataset.class_names)
    )


@functools.lru_cache  # tracing takes a second, and all seeds of an arm have the same digests
def _fingerprints(
    config: ConfigDict,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    classes: int,
) -> dict[str, str]:
    parts = step_parts(config, num_classes=2)  # as `_Small` has
    plain = models.build(config.model, classes)
    return {
        **network_fingerprints(plain, parts["preprocess"], image_shape),
        **_step_fingerprints(optimizer, parts),
    }


def network_fingerprints(
    model: nn.Module,
    preprocess: Callable[[jax.Array], jax.Array],
    image_shape: tuple[int, ...],
) -> dict[str, str]:
    """Returns the digests of how a network is initialized and how it computes logits.

    Args:
        model: computes with plain `lax`.
        preprocess: maps uint8 images (N, H, W, C) to float32.
        image_shape: (H, W, C).
    """
    images = jax.ShapeDtypeStruct((_IMAGES, *image_shape), jnp.float32)
    pixels = jax.ShapeDtypeStruct(images.shape, jnp.uint8)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(functools.partial(model.init, train=False), key, images)

    def initial(key: jax.Array) -> Any:
        return draw_state(model, optax.identity(), image_shape, key)

    def training(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        rngs = {"dropout": key}
        return model.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])

    def evaluation(variables: Any, images: jax.Array) -> Any:
        return model.apply(variables, images, train=False)

    return {
        "preprocessing": _digest(preprocess, pixels),
        "initial values": _digest(initial, key),
        "network in training": _digest(training, variables, images, key),
        "network in evaluation": _digest(evaluation, variables, images),
    }


def _step_fingerprints(
    optimizer: optax.GradientTransformation, parts: Mapping[str, Any]
) -> dict[str, str]:
    """Returns the digests of what a training step does besides its network; see `step_parts`."""
    model, image_shape = _Small(), (8, 8, 3)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(functools.partial(draw_state, model, optimizer, image_shape), key)
    if parts["average"] is not None:
        state = jax.eval_shape(averaged, state)
    batch = {
        "image": jax.ShapeDtypeStruct((_IMAGES, *image_shape), jnp.uint8),
        "label": jax.ShapeDtypeStruct((_IMAGES,), jnp.int32),
        "mask": jax.ShapeDtypeStruct((_IMAGES,), jnp.bool_),
    }
    logits = jax.ShapeDtypeStruct((_IMAGES, 2), jnp.float32)

    def loss(params: Any, logits: jax.Array, label: jax.Array, mask: jax.Array) -> Any:
        return batch_metrics(logits, label, mask).loss, parts["penalty"](params)

    def update(params: Any, opt_state: optax.OptState) -> Any:
        loss = jnp.zeros(())
        return optax.with_extra_args_support(optimizer).update(
            params, opt_state, params, value=loss
        )

    step = make_train_step(model, optimizer, **parts)
    return {
        "loss": _digest(loss, state.params, logits, batch["label"], batch["mask"]),
        "optimizer": _digest(update, state.params, state.opt_state),
        "training step": _digest(step, state, batch),
    }


def describe_other_code(record: Mapping[str, Any], now: Mapping[str, str], run: str) -> str:
    """Returns how today's code differs from the code that made a run; "" if it does not.

    Args:
        record: has "fingerprints" and "versions", as a checkpoint's record and a summary do.
        now: today's fingerprints; parts that only one of the two has are ignored.
        run: name of the run, for the message.
    """
    before = record.get("fingerprints", {})
    changed = [part for part in before if part in now and before[part] != now[part]]
    if not changed:
        return ""
    if not same_tracer(record["versions"]):
        return (
            f"cannot tell whether {run} was made by the same code: JAX, Flax or Optax has changed"
            " version since"
        )
    code = record["versions"].get("git", f"flaxlab {record['versions'].get('flaxlab')}")
    return f"{run} was made by other code ({code}): it differs in the {', the '.join(changed)}"


def same_tracer(versions: Mapping[str, str]) -> bool:
    """Returns whether JAX, Flax and Optax have the versions of a record: {package: version}."""
    return all(versions.get(package) == metadata.version(package) for package in TRACERS)


def _digest(function: Callable, *arguments: Any) -> str:
    traced = jax.jit(function).trace(*arguments)
    text = traced.lower(lowering_platforms=("cpu",)).as_text()
    numbers = itertools.count()
    names: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"@{next(numbers)}")

    return hashlib.sha256(_FUNCTION.sub(numbered, text).encode()).hexdigest()[:16]
