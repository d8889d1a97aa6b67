"""Which kernels a traced training program spent its time in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jax.profiler import ProfileData

from flaxlab.errors import RunFailed

_PROGRAM = "jit_train"  # the name that `flaxlab.training.programs` gives to the training program


class Kernel(NamedTuple):
    """One kernel in all its calls.

    Attributes:
        name: as the device has it.
        operation: the operation of the compiled program that it computes; "" where the trace does
            not say.
        calls: how often it ran.
        milliseconds: of all calls together.
    """

    name: str
    operation: str
    calls: int
    milliseconds: float


def read_trace(folder: Path) -> tuple[list[Kernel], float]:
    """Reads the trace that a run with `train.profile` has left in `folder`, its run directory.

    Returns:
        The kernels of the training program, the slowest first, and the milliseconds from the start
        of the first to the end of the last; of a GPU, with copies and whatever else names no
        program. Kernels that ran at the same time count in full, so that on a CPU their
        sum can be longer.

    Raises:
        RunFailed: there is no trace, or no kernel in it.
    """
    spans = defaultdict(list)
    for file in folder.glob("profile/plugins/profile/*/*.xplane.pb"):
        for name, operation, start, duration in _events(file):
            spans[name, operation].append((start, duration))
    if not spans:
        raise RunFailed(f"{folder} has no trace of the training program")
    found = [
        Kernel(name, operation, len(each), sum(duration for _, duration in each) / 1e6)
        for (name, operation), each in spans.items()
    ]
    starts = [start for each in spans.values() for start, _ in each]
    ends = [start + duration for each in spans.values() for start, duration in each]
    found.sort(key=lambda kernel: -kernel.milliseconds)
    return found, (max(ends) - min(starts)) / 1e6


def _events(file: Path) -> Iterator[tuple[str, str, float, float]]:
    for plane in ProfileData.from_file(str(file)).planes:
        on_gpu = plane.name.startswith("/device:GPU")
        for line in plane.lines:
            # The other lines of a GPU sum up what is in its streams.
            if on_gpu and not line.name.startswith("Stream"):
                continue
            for event in line.events:
                stats = dict(event.stats)
                operation = str(stats.get("hlo_op", ""))
                # Not everything in a stream names its program.
                program = stats.get("hlo_module", _PROGRAM if on_gpu else None)
                # The time of a loop is that of the kernels in it.
                nested = operation.split(".")[0] in ("while", "call", "conditional")
                if program == _PROGRAM and not nested:
                    yield event.name, operation, event.start_ns, event.duration_ns
