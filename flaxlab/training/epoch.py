"""One epoch of training: the program is called until every example has counted once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax

from flaxlab.batches.feed import Feed
from flaxlab.errors import RunFailed
from flaxlab.run.profile import Profile
from flaxlab.training.metrics import (
    Metrics,
    first_nonfinite_step,
    from_numbers,
    means,
    no_metrics,
    to_numbers,
)
from flaxlab.training.programs import Programs, Underway
from flaxlab.training.state import TrainState

ADVICE = "the checkpoints of earlier epochs are kept. Try a lower --config.optimizer.learning_rate"


@dataclass(frozen=True)
class EpochPart:
    """How far an epoch has come.

    Attributes:
        steps: taken in it.
        totals: their metrics.
        seconds: that they took.
    """

    steps: int
    totals: Metrics
    seconds: float

    @classmethod
    def none(cls) -> EpochPart:
        """Returns the beginning of an epoch."""
        return cls(0, no_metrics(), 0.0)

    @classmethod
    def from_json(cls, found: dict) -> EpochPart:
        """Reads back what `to_json` returned."""
        return cls(found["steps"], from_numbers(found["totals"]), found["seconds"])

    def to_json(self) -> dict:
        """Returns plain numbers; waits for the device."""
        return {"steps": self.steps, "totals": to_numbers(self.totals), "seconds": self.seconds}


def train_epoch(
    programs: Programs,
    state: TrainState,
    feed: Feed,
    seed: int,
    epoch: int,
    begun: EpochPart,
    after_call: Callable[[TrainState, EpochPart], None],
    profile: Profile,
    compiles: bool,
) -> tuple[TrainState, EpochPart, float]:
    """Runs the training steps of one epoch.

    Args:
        programs: compiled.
        state: where to start from; its memory is taken.
        feed: feed of the training split.
        seed: seed of the run.
        epoch: from 1.
        begun: what an earlier start of the run has done of it.
        after_call: told of each call of the program; the state that it is given is valid until it
            returns. May raise to end the epoch.
        profile: told of each call.
        compiles: whether the first call has to compile. It is then waited for and left out of the
            speed, where there is a second one.

    Returns:
        The state, the whole epoch, and the speed in images per second: of this process, or of an
        earlier one if that had taken all steps.
    """
    totals, steps = programs.place(begun.totals), begun.steps
    underway = Underway(jax.default_backend())
    images = untimed_images = 0
    started = timed_from = time.perf_counter()
    with contextlib.closing(feed.train_chunks(seed, epoch, begun.steps)) as chunks:
        for chunk in chunks:
            if compiles and images > 0 and not untimed_images:
                jax.block_until_ready(totals)
                timed_from, untimed_images = time.perf_counter(), images
            profile.before_call(totals)
            state, totals = programs.train(state, totals, feed.arrays, chunk)
            images += int(chunk["mask"].sum())
            steps += len(chunk["mask"])
            underway.add(totals.count)
            seconds = begun.seconds + time.perf_counter() - started
            after_call(state, EpochPart(steps, totals, seconds))
    jax.block_until_ready(totals)
    ended = time.perf_counter()
    seconds = begun.seconds + ended - started
    if images:
        speed = (images - untimed_images) / (ended - timed_from)
    else:
        speed = len(feed.split) / seconds
    return state, EpochPart(steps, totals, seconds), speed


def finite_means(totals: Metrics, epoch: int, skips: bool) -> dict[str, float]:
    """Returns the means of an epoch or a part of it.

    Args:
        totals: its metrics.
        epoch: from 1.
        skips: whether steps that are not finite are skipped.

    Raises:
        RunFailed: the loss or a gradient of a step was NaN or infinite, and is not skipped.
    """
    step = first_nonfinite_step(totals)
    if step is not None and not skips:
        raise RunFailed(
            f"the loss or a gradient was NaN or infinite in step {step + 1} (epoch {epoch});"
            f" {ADVICE}, or --config.train.on_nonfinite=skip"
        )
    return means(totals)
