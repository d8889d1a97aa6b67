"""Puts together, from a config and a data set, everything that a run needs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab import kernels, models
from flaxlab.batches.augment import augment
from flaxlab.batches.devices import Layout, over_devices
from flaxlab.batches.feed import Feed, Reading, make_feed
from flaxlab.batches.order import batches_per_epoch, scale_pixels
from flaxlab.data.dataset import Dataset, RunSplits
from flaxlab.data.splits import stratified_split
from flaxlab.errors import UsageError
from flaxlab.kernels import Kernels
from flaxlab.run.fingerprint import network_fingerprints, step_fingerprints
from flaxlab.training.optimizer import make_optimizer, make_schedule
from flaxlab.training.penalty import penalised_kernels, penalty
from flaxlab.training.state import TrainState, draw_state
from flaxlab.training.step import EvalStep, TrainStep, make_eval_step, make_train_step

# Running statistics keep momentum**steps of their initial values, a variance of 1 where activations
# may have a few thousandths. Measured on four networks with momenta from 0.9 to 0.99: by running
# statistics that keep 1%, validation accuracy is 22 points (up to 63) below that by each batch's
# own; with 0.5% 10 (up to 36), with 0.3% 3 (up to 14), with 0.2% and less 1 to 2, which is noise.
_SETTLED_SHARE = 0.002

_NAMED_CLASSES = 5  # at most, in a warning

_COLOURS = {1: "grey", 3: "colour"}


@dataclass(frozen=True)
class Experiment:
    """One experiment, ready to run; nothing has been computed yet.

    Attributes:
        config: resolved and validated.
        dataset: what the examples are from.
        splits: the examples of this run.
        model: the linen module.
        layers: its table of layers.
        schedule: learning rate as a function of the number of steps taken.
        optimizer: the Optax transformation.
        draw_state: key -> initial state; compiled when it is first called.
        train_step: pure (state, batch) -> (state, metrics).
        eval_step: pure (state, batch) -> (metrics, logits).
        layout: the devices that share each batch.
    """

    config: ConfigDict
    dataset: Dataset
    splits: RunSplits
    model: models.ConvNet
    layers: list[models.LayerRow]
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    draw_state: Callable[[jax.Array], TrainState]
    train_step: TrainStep
    eval_step: EvalStep
    layout: Layout

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch."""
        return batches_per_epoch(len(self.splits.train), self.config.train.batch_size)

    @property
    def steps_per_call(self) -> int:
        """Number of steps in one call of the training program; the last of an epoch has fewer."""
        return min(self.config.train.steps_per_execution, self.steps_per_epoch)

    def feed_training(self) -> Feed:
        """Returns the feed of the training split; puts it on the devices where it is resident.

        Raises:
            UsageError: the config has it resident, with several processes.
        """
        data = self.config.data
        return make_feed(
            self.splits.train,
            self.config.train.batch_size,
            self.steps_per_call,
            self.layout,
            data.placement,
            Reading(data.workers, data.augment.random_resized_crop),
        )

    @property
    def trainable(self) -> int:
        """Number of values that the optimizer changes."""
        return sum(row.trainable for row in self.layers)

    @property
    def parameters(self) -> int:
        """Number of parameters with the running statistics, as Keras counts them."""
        return self.trainable + sum(row.running for row in self.layers)

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Digests of what the steps compute, by part; see `flaxlab.run.fingerprint`."""
        plain = models.build(self.config.model, len(self.dataset.class_names))
        beside = _beside_the_network(self.config)
        return {
            **network_fingerprints(plain, beside["preprocess"], self.dataset.image_shape),
            **step_fingerprints(self.optimizer, **beside),
        }

    def create_state(self) -> TrainState:
        """Draws the initial state of the config's seed."""
        return self.draw_state(jax.random.key(self.config.seed))

    def with_seed(self, seed: int) -> Experiment:
        """Returns the same experiment for another seed: its functions are the same objects.

        Programs that are compiled from them serve both.
        """
        config = configs.replaced(self.config, seed=seed)
        return replace(self, config=config, splits=split_for_run(config, self.dataset))

    def penalised(self) -> list[str]:
        """Lists the paths of the penalised kernels; empty without a penalty."""
        if not (self.config.loss.l1 or self.config.loss.l2):
            return []
        return list(penalised_kernels(jax.eval_shape(self.create_state).params))

    def warnings(self) -> list[str]:
        """Says what about this experiment will likely disappoint, and what to change."""
        return [*self._slow(), *self._unsettled(), *self._absent_classes(), *self._reduced()]

    def _slow(self) -> list[str]:
        train = self.config.train
        if train.steps_per_execution == 1 or jax.default_backend() != "cpu":
            return []
        return [
            f"{train.steps_per_execution} steps in one call gain nothing on a CPU, and what"
            " flaxlab's own kernels do not compute (bfloat16, large kernels, fast_kernels=false)"
            " is many times slower in a loop; use --config.train.steps_per_execution=1."
        ]

    def _unsettled(self) -> list[str]:
        momentum = self.config.model.batch_norm_momentum
        steps = self.steps_per_epoch * self.config.train.epochs
        left = momentum**steps
        has_norm = any(row.running for row in self.layers)
        # Of a momentum that the warning itself advises, the power may exceed it by rounding.
        if not has_norm or left <= _SETTLED_SHARE * (1 + 1e-9):
            return []
        change = "train for more steps"
        enough = math.floor(_SETTLED_SHARE ** (1 / steps) * 100) / 100
        if enough > 0:
            change = f"use --config.model.batch_norm_momentum={enough:g} or {change}"
        return [
            f"batch normalization with momentum {momentum:g} cannot settle in {steps} steps: it"
            f" will still keep {100 * left:.3g}% of its initial statistics, and with more than"
            f" {100 * _SETTLED_SHARE:g}% validation lags behind training; {change}."
        ]

    def _reduced(self) -> list[str]:
        stored, shape = self.dataset.stored_shape, self.dataset.image_shape
        if stored is None:
            return []
        # Pictures of different sizes have to be resized: only their colours can be kept.
        *size, channels = stored
        shrunk = any(side > ours for side, ours in zip(size, shape, strict=False))
        if not shrunk and channels <= shape[2]:
            return []
        kept = stored if shrunk else (*shape[:2], channels)
        was = f"{size[0]}x{size[1]}" if size else "of different sizes"
        return [
            f"the pictures of {self.dataset.title} are {was} in {_COLOURS[channels]}, and become"
            f" {shape[0]}x{shape[1]} in {_COLOURS[shape[2]]}; unless that is meant, use"
            f' --config.data.image_shape="{kept}".'
        ]

    def _absent_classes(self) -> list[str]:
        splits, found = self.splits, []
        scored = "test" if splits.test is None else "validation"
        for title, split in (
            ("training", splits.train),
            (scored, splits.validation),
            ("test", splits.test),
        ):
            if split is None:
                continue
            counts = np.bincount(split.labels, minlength=len(self.dataset.class_names))
            absent = [self.dataset.class_names[label] for label in np.flatnonzero(counts == 0)]
            if absent:
                more = ", ..." if len(absent) > _NAMED_CLASSES else ""
                found.append(
                    f"the {title} split, {len(split):,} examples, has no examples of {len(absent)}"
                    f" of the {len(counts)} classes ({', '.join(absent[:_NAMED_CLASSES])}{more});"
                    " use more examples, or leave these classes out."
                )
        return found


def assemble(
    config: ConfigDict, dataset: Dataset, computed_by: Kernels | None = None
) -> Experiment:
    """Builds model, optimizer and steps for a validated config.

    Args:
        config: resolved and validated.
        dataset: what `config.data` names.
        computed_by: the functions that the model computes with; None: those for this backend, as
            `config.train.fast_kernels` has it.

    Raises:
        UsageError: the images are too small for the model, or too few for a holdout or for one
            batch, or the devices cannot share a batch.
    """
    train = config.train
    layout = over_devices(train.parallel, train.devices, train.batch_size)
    splits = split_for_run(config, dataset)
    if train.batch_size > len(splits.train):
        raise UsageError(
            f"config.train.batch_size is {train.batch_size}, but the training split has"
            f" {len(splits.train)} examples; use a batch of at most that many, or more examples"
        )
    plain = models.build(config.model, len(dataset.class_names), layout.axis_name)
    try:
        layers = models.layer_table(plain, dataset.image_shape)
    except ValueError as error:
        raise UsageError(f"the model does not take these images: {error}") from error
    if computed_by is None:
        computed_by = kernels.for_backend(jax.default_backend(), config.train.fast_kernels)
    model = plain.clone(conv=computed_by.conv, max_pool=computed_by.max_pool)
    steps_per_epoch = batches_per_epoch(len(splits.train), config.train.batch_size)
    schedule = make_schedule(config.optimizer, steps_per_epoch, config.train.epochs)
    optimizer = make_optimizer(config.optimizer, schedule)
    beside = _beside_the_network(config)
    return Experiment(
        config=config,
        dataset=dataset,
        splits=splits,
        model=model,
        layers=layers,
        schedule=schedule,
        optimizer=optimizer,
        draw_state=jax.jit(functools.partial(draw_state, model, optimizer, dataset.image_shape)),
        train_step=make_train_step(
            model,
            optimizer,
            axis_name=layout.axis_name,
            skip_nonfinite=config.train.on_nonfinite == "skip",
            **beside,
        ),
        eval_step=make_eval_step(model, beside["preprocess"]),
        layout=layout,
    )


def _beside_the_network(config: ConfigDict) -> dict[str, Any]:
    """Returns the functions of the images and parameters that `make_train_step` takes."""
    on_device = {key: config.data.augment[key] for key in ("flip", "pad_and_crop", "cutout")}
    return {
        "preprocess": functools.partial(scale_pixels, scaling=config.data.scaling),
        "penalty": functools.partial(penalty, l1=config.loss.l1, l2=config.loss.l2),
        "augment": functools.partial(augment, **on_device) if any(on_device.values()) else None,
    }


def split_for_run(config: ConfigDict, dataset: Dataset) -> RunSplits:
    """Applies `config.data.validation`: the test split, or a holdout of the training split."""
    if config.data.validation == "test":
        return RunSplits(dataset.train, dataset.test, None)
    rest, holdout = stratified_split(
        dataset.train.labels, config.data.holdout_fraction, config.seed
    )
    return RunSplits(dataset.train.take(rest), dataset.train.take(holdout), dataset.test)
