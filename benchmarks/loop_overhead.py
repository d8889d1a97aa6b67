"""What the loop around the training step costs: (epoch - steps x step time) / epoch.

    python benchmarks/loop_overhead.py

Epochs of `flaxlab.training.loop.train_epoch` with a run's hooks alternate with as many bare calls
of its compiled program, `alexnet_pool` at batch 64 on drawn images, so that other work on the
machine meets both.
Prints {"epoch": seconds, "steps": seconds, "overhead": share}, medians, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from flaxlab.machine import use_huge_pages

ROOT = Path(__file__).resolve().parents[1]
STEPS, BATCH = 12, 64


def measure(rounds: int = 5) -> dict[str, float]:
    """Returns {"epoch": seconds, "steps": seconds, "overhead": share}, medians of `rounds`."""
    sys.path.insert(0, str(ROOT))
    import jax
    from noise import draw_dataset

    from experiments import alexnet_pool
    from flaxlab.batches.devices import one_device
    from flaxlab.batches.feed import make_feed
    from flaxlab.checkpoints.save import Checkpoints
    from flaxlab.run.hooks import RunHooks
    from flaxlab.run.resume import Part
    from flaxlab.training.experiment import assemble
    from flaxlab.training.loop import Progress, Start, train_epoch
    from flaxlab.training.metrics import no_metrics
    from flaxlab.training.programs import compile_programs

    config = alexnet_pool.get_config()
    dataset = draw_dataset(config, STEPS * BATCH)
    experiment = assemble(config, dataset)
    devices = one_device()
    programs = compile_programs(experiment, devices)
    feed = make_feed(dataset.train, BATCH, 1, devices, config.data.placement)
    state = devices.put(experiment.create_state())
    batches = next(feed.train_batches(seed=0, epoch=1))

    def epoch(number: int, hooks: RunHooks) -> float:
        nonlocal state
        started = time.perf_counter()
        beginning = Progress.beginning(number)
        state, _ = train_epoch(programs.train, state, feed, 0, beginning, hooks)
        return time.perf_counter() - started

    def bare() -> float:
        nonlocal state
        totals = devices.put(no_metrics())
        started = time.perf_counter()
        for _ in range(STEPS):
            state, totals = programs.train(state, totals, batches)
        jax.block_until_ready(totals)
        return time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder)) as checkpoints:
        hooks = RunHooks(
            experiment,
            Start(state, [], Progress.beginning(1)),
            Part(),
            checkpoints,
            [],
            lambda: None,
            Path(folder),
        )
        epoch(1, hooks), bare()
        pairs = [(epoch(number, hooks), bare()) for number in range(2, 2 + rounds)]
    in_epoch, in_steps = (median(seconds) for seconds in zip(*pairs, strict=True))
    overhead = median((whole - steps) / whole for whole, steps in pairs)
    return {"epoch": in_epoch, "steps": in_steps, "overhead": overhead}


if __name__ == "__main__":
    use_huge_pages()
    print(json.dumps(measure()))
