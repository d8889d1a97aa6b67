"""The host stays close to the devices, so that a signal ends a run within two steps."""

import dataclasses
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlab.checkpoints.find import find_saved
from flaxlab.errors import Interrupted
from flaxlab.run.run import train
from flaxlab.run.timing import Throttle
from flaxlab.training.experiment import assemble
from flaxlab.training.programs import compile_programs
from tests.helpers.runs import small_config, small_dataset

ASKED_AFTER = 10


def test_a_run_saves_within_two_steps_of_a_signal(tmp_path):
    experiment = assemble(small_config(), small_dataset(train=400))

    def slow_step(state, batch):
        state, metrics = experiment.train_step(state, batch)
        work = jax.lax.fori_loop(0, 20, lambda _, x: x @ x / 128, jnp.ones((128, 128)))
        return state, metrics.replace(penalty=metrics.penalty + 0 * work.sum())

    slow = dataclasses.replace(experiment, train_step=slow_step)
    programs = compile_programs(slow)
    results = []

    def counted(*arguments):
        state, totals = programs.train(*arguments)
        results.append(totals.loss)
        return state, totals

    def stop():
        """Asks to stop once ten steps are computed, however many calls are queued."""
        return signal.SIGTERM if sum(r.is_ready() for r in results) >= ASKED_AFTER else None

    with pytest.raises(Interrupted):
        train(slow, tmp_path, programs=programs._replace(train=counted), stop=stop)
    saved = max(found.step for found in find_saved(tmp_path))
    assert ASKED_AFTER <= saved <= ASKED_AFTER + 2


class Result:
    """What a call returns: it is ready when the clock says so."""

    def __init__(self, clock, seconds):
        self._clock = clock
        clock["busy_until"] = max(clock["now"], clock["busy_until"]) + seconds
        self._done = clock["busy_until"]

    def is_ready(self):
        return self._clock["now"] >= self._done

    def block_until_ready(self):
        self._clock["now"] = max(self._clock["now"], self._done)
        return self


@pytest.mark.parametrize(
    ("platform", "seconds", "most"), [("cpu", 0.001, 1), ("gpu", 0.001, 500), ("gpu", 0.4, 1)]
)
def test_one_call_is_queued_on_a_cpu_and_half_a_second_of_calls_on_a_gpu(
    monkeypatch, platform, seconds, most
):
    clock = {"now": 0.0, "busy_until": 0.0}
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    throttle, ahead = Throttle(platform), []
    for _ in range(3000):
        clock["now"] += 0.0001  # what a call costs the host
        throttle.add(Result(clock, seconds))
        ahead.append((clock["busy_until"] - clock["now"]) / seconds)
    assert max(ahead[1000:]) <= most + 1
    assert np.mean(ahead[1000:]) > 0.9 * most
