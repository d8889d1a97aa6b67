"""Advice about an experiment before it runs: warnings, and which kernels are penalised."""

from __future__ import annotations

import math

import jax
import numpy as np

from flaxlab.training.experiment import Experiment
from flaxlab.training.penalty import penalised_kernels

# Running statistics keep momentum**steps of their initial values, a variance of 1 where activations
# may have one of a few thousandths. Measured on four networks with momenta from 0.9 to 0.99: with
# running statistics that keep 1%, validation accuracy is 22 points (up to 63) below what each
# batch's own statistics give; with 0.5% 10 (up to 36), with 0.3% 3 (up to 14), with 0.2% and less
# 1 to 2, which is noise.
_SETTLED_SHARE = 0.002

# Statistics with less forget a batch after the next one or two.
_LOWEST_MOMENTUM = 0.5

_NAMED_CLASSES = 5  # at most, in a warning

_COLOURS = {1: "grey", 3: "colour"}


def penalised_paths(experiment: Experiment) -> list[str]:
    """Returns the paths of the penalised kernels; empty without a penalty."""
    if not (experiment.config.loss.l1 or experiment.config.loss.l2):
        return []
    return list(penalised_kernels(jax.eval_shape(experiment.create_state).params))


def warnings(experiment: Experiment) -> list[str]:
    """Returns what about an experiment will probably disappoint, and what to change."""
    return [
        *_slow(experiment),
        *_unsettled(experiment),
        *_absent_classes(experiment),
        *_reduced(experiment),
    ]


def _slow(experiment: Experiment) -> list[str]:
    train = experiment.config.train
    if train.steps_per_execution in (None, 1) or jax.default_backend() != "cpu":
        return []
    return [
        f"On a CPU, {train.steps_per_execution} steps in one call are no faster than one, and what"
        " flaxlab's own kernels do not compute (bfloat16, large kernels, fast_kernels=false)"
        " becomes many times slower; use --config.train.steps_per_execution=1."
    ]


def _unsettled(experiment: Experiment) -> list[str]:
    if experiment.moments_step is not None:  # the running statistics are not those it scores with
        return []
    momentum = max((layer.momentum for layer in experiment.layers), default=0.0)
    steps = experiment.steps_per_epoch * experiment.config.train.epochs
    left = momentum**steps
    # The power of a momentum that this warning itself advises may exceed the share by rounding.
    if left <= _SETTLED_SHARE * (1 + 1e-9):
        return []
    change = "train for more epochs"
    enough = math.floor(_SETTLED_SHARE ** (1 / steps) * 100) / 100
    if enough >= _LOWEST_MOMENTUM and "batch_norm_momentum" in experiment.config.model:
        change = f"use --config.model.batch_norm_momentum={enough:g} or {change}"
    return [
        f"batch normalization with momentum {momentum:g} cannot settle in {steps} steps: it"
        f" will still keep {100 * left:.3g}% of its initial statistics, and with more than"
        f" {100 * _SETTLED_SHARE:g}% validation lags behind training; {change}."
    ]


def _absent_classes(experiment: Experiment) -> list[str]:
    splits, names, found = experiment.splits, experiment.dataset.class_names, []
    scored = "test" if splits.test is None else "validation"
    titled = {"training": splits.train, scored: splits.validation}
    if splits.test is not None:
        titled["test"] = splits.test
    for title, split in titled.items():
        counts = np.bincount(split.labels, minlength=len(names))
        absent = [names[label] for label in np.flatnonzero(counts == 0)]
        if absent:
            more = ", ..." if len(absent) > _NAMED_CLASSES else ""
            found.append(
                f"the {title} split, {len(split):,} examples, has no examples of {len(absent)}"
                f" of the {len(counts)} classes ({', '.join(absent[:_NAMED_CLASSES])}{more});"
                " use more examples, or leave these classes out."
            )
    return found


def _reduced(experiment: Experiment) -> list[str]:
    stored, shape = experiment.dataset.stored_shape, experiment.dataset.image_shape
    if stored is None:
        return []
    # Pictures of different sizes must be resized: only their colours can be kept.
    *size, channels = stored
    shrunk = any(side > ours for side, ours in zip(size, shape, strict=False))
    if not shrunk and channels <= shape[2]:
        return []
    kept = stored if shrunk else (*shape[:2], channels)
    was = f"{size[0]}x{size[1]}" if size else "of different sizes"
    return [
        f"the pictures of {experiment.dataset.title} are {was} in {_COLOURS[channels]}, and become"
        f" {shape[0]}x{shape[1]} in {_COLOURS[shape[2]]}; to keep more of them, use"
        f' --config.data.image_shape="{kept}".'
    ]
