"""What the loop around the training step costs: (epoch - steps x step time) / epoch.

    python benchmarks/loop_overhead.py

Epochs of `flaxlab.training.epoch.train_epoch` under a `Watch` alternate with as many bare calls of
its compiled program, `alexnet_pool` at batch 64 on drawn images, so that other work on the machine
meets both.
Prints {"epoch": seconds, "steps": seconds, "overhead": share}, medians, as JSON.
"""

from __future__ import annotations

import functools
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
    from flaxlab.batches.devices import on_device
    from flaxlab.batches.feed import make_feed
    from flaxlab.checkpoints.save import Checkpoints
    from flaxlab.run.hooks import Watch
    from flaxlab.run.profile import Profile
    from flaxlab.training.epoch import EpochPart, train_epoch
    from flaxlab.training.experiment import assemble
    from flaxlab.training.metrics import no_metrics
    from flaxlab.training.programs import compile_programs

    config = alexnet_pool.get_config()
    dataset = draw_dataset(config, STEPS * BATCH)
    experiment = assemble(config, dataset)
    layout = on_device()
    programs = compile_programs(experiment.train_step, experiment.eval_step, layout)
    feed = make_feed(dataset.train, BATCH, 1, layout, config.data.placement)
    state = programs.place(experiment.create_state())
    chunk = next(feed.train_chunks(seed=0, epoch=1))

    def epoch(number: int, watch: Watch) -> float:
        nonlocal state
        after_call = functools.partial(watch.after_call, [])
        started = time.perf_counter()
        state, *_ = train_epoch(
            programs,
            state,
            feed,
            0,
            number,
            EpochPart.none(),
            after_call,
            Profile(None),
            number == 1,
        )
        return time.perf_counter() - started

    def bare() -> float:
        nonlocal state
        totals = programs.place(no_metrics())
        started = time.perf_counter()
        for _ in range(STEPS):
            state, totals = programs.train(state, totals, feed.arrays, chunk)
        jax.block_until_ready(totals)
        return time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder)) as checkpoints:
        watch = Watch(experiment, checkpoints, [], lambda: None, Path(folder) / "history.csv")
        epoch(1, watch), bare()
        pairs = [(epoch(number, watch), bare()) for number in range(2, 2 + rounds)]
    in_epoch, in_steps = (median(seconds) for seconds in zip(*pairs, strict=True))
    overhead = median((whole - steps) / whole for whole, steps in pairs)
    return {"epoch": in_epoch, "steps": in_steps, "overhead": overhead}


if __name__ == "__main__":
    use_huge_pages()
    print(json.dumps(measure()))
