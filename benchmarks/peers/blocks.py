"""What the peers on an accelerator share: the network and the batch of a case, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from flaxlab import config as configs
from flaxlab.config import ConfigDict
from flaxlab.config.find import experiment_file
from flaxlab.config.read import load_experiment
from flaxlab.data.shape import image_shape

_STEPS_A_BLOCK = 100
_FEWEST_BLOCKS = 3


class Case(NamedTuple):
    """What a peer builds and trains on.

    Attributes:
        job: for `build` in keras_step.py and torch_step.py.
        optimizer: `config.optimizer` of the experiment.
        images: uint8 (N, H, W, C), drawn.
        labels: int32 (N,), drawn.
    """

    job: dict[str, Any]
    optimizer: ConfigDict
    images: np.ndarray
    labels: np.ndarray


def prepare_case(experiment: str, size: int) -> Case:
    """Returns the network of one of flaxlab's experiments, and a batch of `size` drawn images."""
    config = load_experiment(experiment_file(experiment, []))
    shape = image_shape(config.data)
    job = {"model": configs.to_dict(config.model), "image_shape": shape, "classes": 10}
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, *shape), dtype=np.uint8)
    return Case(job, config.optimizer, images, rng.integers(0, 10, size).astype(np.int32))


def seconds_of_a_step(
    call: Callable[[], object], wait: Callable[[], object], seconds: float, steps: int = 1
) -> float:
    """Returns the median time of a step, of blocks of about 100 steps.

    Args:
        call: starts the next `steps` steps, and need not wait for them.
        wait: returns when all of them are done.
        seconds: after which no further block begins, once there are three.
        steps: of one call.
    """
    blocks: list[float] = []
    calls = max(1, _STEPS_A_BLOCK // steps)
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(blocks) < _FEWEST_BLOCKS:
        block = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        blocks.append((time.perf_counter() - block) / calls / steps)
    return median(blocks)
