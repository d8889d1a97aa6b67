"""Assembles everything that a run needs from a config and a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab import kernels, models
from flaxlab.batches.augment import augment, scale_pixels
from flaxlab.batches.devices import Devices, find_devices
from flaxlab.batches.feed import Feed
from flaxlab.batches.order import batches_per_epoch
from flaxlab.batches.run_feeds import Feeds, eval_feed, make_feeds, steps_per_call
from flaxlab.batches.targets import soft_targets
from flaxlab.data.dataset import Dataset, RunSplits, Split
from flaxlab.data.splits import split_for_run
from flaxlab.errors import UsageError
from flaxlab.kernels import Kernels
from flaxlab.kernels.precision import with_precision
from flaxlab.models.batch_statistics import momenta_of
from flaxlab.training.optimizer import (
    MomentsStep,
    averaged,
    make_average,
    make_moments_step,
    make_optimizer,
    make_schedule,
)
from flaxlab.training.penalty import penalty
from flaxlab.training.state import TrainState, create_state
from flaxlab.training.step import EvalStep, TrainStep, make_eval_step, make_train_step


@dataclass(frozen=True, eq=False)
class Experiment:
    """One experiment, ready to run; nothing has been computed yet.

    Attributes:
        config: resolved and validated.
        dataset: the data set.
        splits: the examples of this run.
        model: the linen module.
        layers: one row for each layer of the model.
        schedule: learning rate as a function of the number of steps taken.
        optimizer: the Optax transformation.
        train_step: pure (state, batch) -> (state, metrics).
        eval_step: pure (state, batch) -> (metrics, logits).
        moments_step: pure (state, batch) -> (moments, logits), for the statistics of batch
            normalization; None: those that training keeps are scored.
        devices: the devices that share each batch.
    """

    config: ConfigDict
    dataset: Dataset
    splits: RunSplits
    model: nn.Module
    layers: list[models.LayerRow]
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    train_step: TrainStep
    eval_step: EvalStep
    moments_step: MomentsStep | None
    devices: Devices

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch."""
        return batches_per_epoch(len(self.splits.train), self.config.train.batch_size)

    @property
    def steps_per_call(self) -> int:
        """Number of steps in one call of the training program; see `flaxlab.batches.run_feeds`."""
        return steps_per_call(self.config, self.splits.train, self.devices)

    def feeds(self) -> Feeds:
        """Returns the feeds of a run, see `flaxlab.batches.run_feeds`."""
        averages = self.moments_step is not None
        return make_feeds(self.config, self.splits, self.devices, with_statistics=averages)

    def eval_feed(self, split: Split) -> Feed:
        """Returns the feed for scoring a split, see `flaxlab.batches.run_feeds`."""
        return eval_feed(self.config, split, self.devices)

    def create_state(self) -> TrainState:
        """Returns the initial state, drawn with the seed of the config."""
        shape = self.dataset.image_shape
        state = create_state(self.model, self.optimizer, shape, self.config.seed)
        return state if make_average(self.config) is None else averaged(state)

    def with_seed(self, seed: int) -> Experiment:
        """Returns the same experiment for another seed.

        Its functions are the same objects, so both can share compiled programs.
        """
        config = configs.replaced(self.config, seed=seed)
        return replace(self, config=config, splits=split_for_run(config.data, self.dataset, seed))


def assemble(
    config: ConfigDict,
    dataset: Dataset,
    computed_by: Kernels | None = None,
    schedule: optax.Schedule | None = None,
) -> Experiment:
    """Builds model, optimizer and steps for a validated config.

    Args:
        config: resolved and validated; a `data.image_shape` of None becomes that of the data set.
        dataset: what `config.data` names.
        computed_by: functions that compute the model's layers; None: those that suit the backend
            and `config.train.fast_kernels`.
        schedule: learning rate by the number of steps taken; None: that of `config.optimizer`.

    Raises:
        UsageError: the images are too small for the model, or too few for a holdout or for one
            batch, or the devices cannot share a batch.
    """
    if config.data.image_shape is None:
        config = configs.replaced(config, data={"image_shape": dataset.image_shape})
    train, image_shape, classes = config.train, dataset.image_shape, len(dataset.class_names)
    devices = find_devices(train.parallel, train.devices, train.batch_size)
    splits = split_for_run(config.data, dataset, config.seed)
    if train.batch_size > len(splits.train):
        raise UsageError(
            f"config.train.batch_size is {train.batch_size}, but the training split has"
            f" {len(splits.train)} examples; use a batch of at most that many, or more examples"
        )
    plain = models.build(config.model, classes, devices.axis_name)
    try:
        layers = models.layer_table(plain, image_shape)
    except ValueError as error:
        raise UsageError(f"the model does not take these images: {error}") from error
    if models.is_own(config.model.name):
        models.require_logits(plain, image_shape, classes)
    computed_by = computed_by or kernels.for_backend(jax.default_backend(), train.fast_kernels)
    model = models.computed_by(plain, **computed_by._asdict())
    steps_per_epoch = batches_per_epoch(len(splits.train), train.batch_size)
    schedule = schedule or make_schedule(config.optimizer, steps_per_epoch, train.epochs)
    optimizer = make_optimizer(config.optimizer, schedule, steps_per_epoch)
    parts = step_parts(config, classes, devices.axis_name)
    skip = train.on_nonfinite == "skip"
    train_step = make_train_step(
        model, optimizer, axis_name=devices.axis_name, skip_nonfinite=skip, **parts
    )
    eval_step = make_eval_step(model, parts["preprocess"], config.data.test_flips)
    moments_step = None
    if parts["average"] is not None and momenta_of(plain, image_shape):
        moments_step = make_moments_step(model, parts["preprocess"])
        moments_step = with_precision(moments_step, train.matmul_precision)
    return Experiment(
        config=config,
        dataset=dataset,
        splits=splits,
        model=model,
        layers=layers,
        schedule=schedule,
        optimizer=optimizer,
        train_step=with_precision(train_step, train.matmul_precision),
        eval_step=with_precision(eval_step, train.matmul_precision),
        moments_step=moments_step,
        devices=devices,
    )


def step_parts(
    config: ConfigDict, num_classes: int, axis_name: str | None = None
) -> dict[str, Any]:
    """Returns what the config says of a step: arguments of `make_train_step`, by name."""
    changes = config.data.augment
    softened = {"label_smoothing": config.loss.label_smoothing, "mixup": changes.mixup}
    soften = partial(soft_targets, num_classes=num_classes, axis_name=axis_name, **softened)
    on_device = {key: changes[key] for key in ("flip", "pad_and_crop", "cutout")}
    return {
        "preprocess": partial(scale_pixels, scaling=config.data.scaling),
        "penalty": partial(penalty, l1=config.loss.l1, l2=config.loss.l2),
        "augment": partial(augment, **on_device) if any(on_device.values()) else None,
        "soften": soften if any(softened.values()) else None,
        "sam_radius": config.optimizer.sam_radius,
        "average": make_average(config),
    }
