"""How the steps of an accelerator are timed: many of them between two waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

_STEPS_A_BLOCK = 100
_FEWEST_BLOCKS = 3


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
