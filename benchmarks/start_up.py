"""Seconds from a command's start to its first epoch, of one step: a first start and later ones.

    python benchmarks/start_up.py

The command is `flaxlab.main` with `alexnet_pool` on the embedded digits, 64 training images and 10
test images: one training step and one evaluation step, both compiled in the first start and taken
from the cache in the second. Each start has a fresh run directory; the cache is a temporary one.
Prints {"first_start": seconds, "second_start": median seconds of the later starts} as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]


def seconds_to_first_epoch(cache: Path, workdir: Path) -> float:
    """Starts the command; returns the seconds until it prints the line of its first epoch."""
    command = [sys.executable, "-m", "flaxlab.main", "--config=experiments/alexnet_pool.py"]
    command += ["--config.data.name=digits", "--config.data.train_examples=64"]
    command += ["--config.data.test_examples=10", "--config.train.epochs=1"]
    command += [f"--workdir={workdir}", "--config.log.progress=lines"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    started, seconds = time.perf_counter(), None
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout or ():
        if line.startswith("epoch 1/1") and seconds is None:
            seconds = time.perf_counter() - started
    if process.wait() or seconds is None:
        raise SystemExit(f"the command failed: {' '.join(command)}")
    return seconds


def measure(later_starts: int = 3) -> dict[str, float]:
    """Returns {"first_start": seconds, "second_start": median seconds of the later ones}."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = [
            seconds_to_first_epoch(Path(folder) / "cache", Path(folder) / str(start))
            for start in range(1 + later_starts)
        ]
    return {"first_start": seconds[0], "second_start": median(seconds[1:])}


if __name__ == "__main__":
    print(json.dumps(measure()))
