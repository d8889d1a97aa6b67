"""One epoch of training: the program is called, now and then its running metrics are read."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import jax

from flaxlab.data.feed import Feed
from flaxlab.errors import RunFailed
from flaxlab.training.engine import Programs
from flaxlab.training.metrics import Metrics, first_nonfinite_step, means, no_metrics
from flaxlab.training.profile import Profile
from flaxlab.training.state import TrainState

# Reading the running metrics makes the host wait for the device: not more often than this.
_TICK_SECONDS = 0.5

ADVICE = "the checkpoints of earlier epochs are kept. Try a lower --config.optimizer.learning_rate"


def train_epoch(
    programs: Programs,
    state: TrainState,
    feed: Feed,
    seed: int,
    epoch: int,
    tick: Callable[[int, int, dict[str, float]], None],
    profile: Profile,
    compiles: bool,
) -> tuple[TrainState, dict[str, float]]:
    """Runs the training steps of one epoch.

    Args:
        programs: compiled.
        state: whose memory is taken.
        feed: of the training split.
        seed: of the run.
        epoch: from 1.
        tick: told now and then (epoch, steps taken in it, their running means).
        profile: told of each call.
        compiles: whether the first call has to compile. It is then waited for and left out of the
            speed, where there is a second one.

    Returns:
        The state, and the means over the epoch with "images_per_second".

    Raises:
        RunFailed: the loss of a step was NaN or infinite.
    """
    totals = programs.place(no_metrics())
    steps = images = untimed_images = 0
    timed_from = ticked = time.perf_counter()
    with contextlib.closing(feed.train_chunks(seed, epoch)) as chunks:
        for chunk in chunks:
            if compiles and images > 0 and not untimed_images:
                jax.block_until_ready(totals)
                timed_from, untimed_images = time.perf_counter(), images
            profile.before_call(totals)
            state, totals = programs.train(state, totals, feed.arrays, chunk)
            images += int(chunk["mask"].sum())
            steps += len(chunk["mask"])
            if time.perf_counter() - ticked > _TICK_SECONDS:
                _require_finite(totals, epoch)
                tick(epoch, steps, means(totals))
                ticked = time.perf_counter()
    _require_finite(totals, epoch)
    speed = (images - untimed_images) / (time.perf_counter() - timed_from)
    return state, {**means(totals), "images_per_second": speed}


def _require_finite(totals: Metrics, epoch: int) -> None:
    step = first_nonfinite_step(totals)
    if step is not None:
        raise RunFailed(
            f"the loss was NaN or infinite in step {step + 1} (epoch {epoch}); {ADVICE}"
        )
