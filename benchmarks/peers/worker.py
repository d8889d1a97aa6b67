"""What every worker does: read a job, prepare its step, and time one step whenever it is asked.

The parent writes one JSON object a line: first the job, then {"do": "step"} or {"do": "matmul"} as
often as it likes, at last {"do": "stop"}. The worker answers each with one line. Only one worker
of a benchmark computes at a time; the others wait for their next line.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Prepared(NamedTuple):
    """A training step that is ready to run.

    Attributes:
        step: takes one optimizer step and returns its loss, when all of it is computed.
        parameters: number of trainable values.
        version: the framework's name and version.
        matmul: multiplies two square float32 matrices of `job["matmul_side"]` rows; None where
            another worker of the same run does it.
    """

    step: Callable[[], float]
    parameters: int
    version: str
    matmul: Callable[[], Any] | None = None


def run_worker(prepare: Callable[[dict[str, Any], np.ndarray, np.ndarray], Prepared]) -> None:
    """Serves one job on standard input and output; whatever else prints goes to standard error.

    Args:
        prepare: maps (job, images uint8 (N, H, W, C), labels int32 (N,)) to the step.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    job = json.loads(sys.stdin.readline())
    rng = np.random.default_rng(0)
    shape = (job["batch_size"], *job["image_shape"])
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    labels = rng.integers(0, job["classes"], job["batch_size"]).astype(np.int32)
    prepared = prepare(job, images, labels)
    started = time.perf_counter()
    first_loss = prepared.step()
    answer(
        parameters=prepared.parameters,
        version=prepared.version,
        first_step_seconds=time.perf_counter() - started,
        first_loss=first_loss,
        can_multiply=prepared.matmul is not None,
    )
    for line in sys.stdin:
        order = json.loads(line)["do"]
        if order == "stop":
            break
        act = prepared.step if order == "step" else prepared.matmul
        started = time.perf_counter()
        act()
        answer(seconds=time.perf_counter() - started)
    answer(peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
