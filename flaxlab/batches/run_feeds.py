"""The feeds of a run: its splits in batches, and how many of them one call of a program takes."""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import ConfigDict

from flaxlab.batches.devices import Devices
from flaxlab.batches.feed import Feed, Reading, make_feed, place
from flaxlab.batches.order import batches_per_epoch, epoch_order
from flaxlab.data.dataset import RunSplits, Split

# On an accelerator: steps of a call, so that steps of a millisecond do not wait for the host, and
# examples of a batch that is only scored.
_MOST_STEPS = 100
_SCORED_AT_ONCE = 512
# Examples over which batch statistics are estimated: more change them little, see
# `flaxlab.models.batch_statistics`.
_STATISTICS_EXAMPLES = 10_000


class Feeds(NamedTuple):
    """The batches of the training split and of the split that is scored after each epoch.

    And those of training examples over which the statistics of averages are estimated, if any are.
    """

    train: Feed
    validation: Feed
    statistics: Feed | None = None


def make_feeds(
    config: ConfigDict, splits: RunSplits, devices: Devices, with_statistics: bool
) -> Feeds:
    """Returns the feeds of a run; puts the training split on the devices if it is resident.

    Args:
        config: the whole config of the run.
        splits: the examples of the run.
        devices: the devices that share each batch.
        with_statistics: whether batch statistics are estimated.

    Raises:
        UsageError: the config asks for a resident split, with several processes.
    """
    train = make_feed(
        splits.train,
        config.train.batch_size,
        steps_per_call(config, splits.train, devices),
        devices,
        config.data.placement,
        _reading(config),
    )
    statistics = _statistics_feed(config, splits.train, devices) if with_statistics else None
    return Feeds(train, eval_feed(config, splits.validation, devices), statistics)


def steps_per_call(config: ConfigDict, split: Split, devices: Devices) -> int:
    """Returns the number of steps in one call of the training program.

    The last call of an epoch may take fewer. Where the config leaves it open: 1, but on an
    accelerator that holds all examples the largest divisor of an epoch's steps up to 100, or up to
    the steps between two checkpoints, so that no shorter call has to be compiled; half of that
    limit where the divisor is below a sixth of it.
    """
    per_epoch = batches_per_epoch(len(split), config.train.batch_size)
    steps, between = config.train.steps_per_execution, config.checkpoint.every_steps
    if steps is None and devices.accelerated:
        placement = place(split, devices, config.data.placement, _reading(config))
        if placement == "resident":
            steps = _divisor(per_epoch, min(_MOST_STEPS, between or _MOST_STEPS))
    return min(steps or 1, per_epoch)


def _divisor(steps: int, most: int) -> int:
    """Returns the largest divisor of `steps` up to `most`; half of that if it is a small one."""
    most = min(steps, most)
    divisor = max(n for n in range(1, most + 1) if steps % n == 0)
    return divisor if divisor >= most // 6 else most // 2


def _reading(config: ConfigDict) -> Reading:
    return Reading(config.data.workers, config.data.augment.random_resized_crop)


def eval_feed(
    config: ConfigDict, split: Split, devices: Devices, batch_size: int | None = None
) -> Feed:
    """Returns the feed for scoring a split.

    On an accelerator, where the split fits, all of it lies there and is scored in one call:
    otherwise the accelerator would wait for the host.

    Args:
        config: the whole config of the run.
        split: the examples.
        devices: the devices that share each batch.
        batch_size: examples of a batch; None: those of training, or more in such a call.
    """
    size = config.train.batch_size
    placement = place(split, devices, config.data.placement)
    if not devices.accelerated or devices.mapped or placement != "resident":
        return make_feed(split, batch_size or size, 1, devices, "streamed")
    size = batch_size or scoring_batch(size)
    return make_feed(split, size, batches_per_epoch(len(split), size), devices, "resident")


def scoring_batch(size: int) -> int:
    """Returns the batch for scoring on an accelerator: about 512, a multiple of the training's."""
    return size * max(1, _SCORED_AT_ONCE // size)


def _statistics_feed(config: ConfigDict, split: Split, devices: Devices) -> Feed:
    """Returns the feed of some training examples in whole batches, in a random order.

    The order matters, since each batch is normalized by itself: a split may be sorted by class.
    It is that of epoch 0, which is not trained.
    """
    size = config.train.batch_size
    batches = max(min(len(split), _STATISTICS_EXAMPLES) // size, 1)
    chosen = epoch_order(len(split), config.seed, 0)[: batches * size]
    return eval_feed(config, split.take(chosen), devices, size)
