"""Times the compiled training program of flaxlab on an accelerator; prints a line of JSON a case.

    python -m benchmarks.peers.gpu_flaxlab --seconds=2 alexnet_pool:64:float32:1:fast ...

A case is EXPERIMENT:BATCH:DTYPE:STEPS:KERNELS. STEPS are those of one call; 0: flaxlab's choice.
KERNELS are "fast" (flaxlab's pooling) or "plain" (XLA's). Images are drawn, and resident.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time

import jax

from benchmarks.noise import draw_dataset
from benchmarks.peers.blocks import seconds_of_a_step
from flaxlab.batches.feed import make_feed
from flaxlab.config.find import experiment_file
from flaxlab.data.shape import resolve_config
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import no_metrics
from flaxlab.training.programs import compile_programs


def measure(case: str, seconds: float, examples: int) -> dict[str, object]:
    """Returns the median time of a step, of blocks of about 100, and the temporary memory."""
    name, batch, dtype, steps, kernels = case.split(":")
    overrides = {
        "train.batch_size": batch,
        "model.dtype": dtype,
        "train.devices": 1,
        "train.steps_per_execution": None if steps == "0" else steps,
        "train.fast_kernels": kernels == "fast",
        "data.placement": "resident",
    }
    options = [f"--config.{path}={value}" for path, value in overrides.items() if value is not None]
    config = resolve_config(experiment_file(name, []), options)
    experiment = assemble(config, draw_dataset(config, examples))
    programs = compile_programs(experiment)
    size, stacked = config.train.batch_size, experiment.steps_per_call
    feed = make_feed(experiment.splits.train, size, stacked, experiment.devices, "resident")
    batches = [b for b in feed.train_batches(seed=0, epoch=1) if len(b["mask"]) == stacked]
    state = experiment.devices.put(experiment.create_state())
    totals = experiment.devices.put(no_metrics())
    begun = time.perf_counter()
    train = programs.train.lower(state, totals, batches[0]).compile()
    compiling = time.perf_counter() - begun
    state, totals = jax.block_until_ready(train(state, totals, batches[0]))
    following = itertools.cycle(batches)

    def call() -> None:
        nonlocal state, totals
        state, totals = train(state, totals, next(following))

    step = seconds_of_a_step(call, lambda: jax.block_until_ready(totals), seconds, stacked)
    memory = train.memory_analysis()
    return {
        "case": case,
        "steps a call": stacked,
        "ms": step * 1e3,
        "images/s": size / step,
        "compiling s": compiling,
        "loss": float(totals.loss) / int(totals.count),
        "temporaries MB": memory.temp_size_in_bytes / 1e6,
    }


def main() -> None:
    """Measures the cases of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--examples", type=int, default=60_000)
    options = parser.parse_args()
    for case in options.cases:
        print(json.dumps(measure(case, options.seconds, options.examples)), flush=True)


if __name__ == "__main__":
    main()
