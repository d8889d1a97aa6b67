"""Do several seeds in one program train faster than one after the other?

    python benchmarks/seeds_in_one_program.py [--experiment=alexnet_pool] [--batch=64] [--seeds=2,4]

Training steps of `flaxlab.training.step`, one a seed: called one after the other, mapped by
`jax.vmap`, and by `jax.lax.map`. The three ways take turns, so that other work on the machine meets
all of them. Prints {seeds: {way: seconds for all seeds, "way / one by one": ratio}} as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from statistics import median

from flaxlab.machine import use_huge_pages

ROOT = Path(__file__).resolve().parents[1]


def measure(name: str, batch_size: int, seeds: int, rounds: int) -> dict[str, float]:
    """Returns the median seconds of each way, and its ratio to the seeds one by one."""
    sys.path.insert(0, str(ROOT))
    import jax
    import numpy as np
    from noise import draw_dataset

    from flaxlab.training.experiment import assemble

    config = importlib.import_module(f"experiments.{name}").get_config()
    config.train.batch_size = batch_size
    dataset = draw_dataset(config, batch_size)
    split = dataset.train
    experiment = assemble(config, dataset)
    batch = jax.device_put(
        {"image": split.images, "label": split.labels, "mask": np.ones(batch_size, bool)}
    )

    def many(way):
        return jax.jit(lambda states: way(lambda s: experiment.train_step(s, batch)[0], states))

    each = [experiment.with_seed(seed).create_state() for seed in range(seeds)]
    stacked = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *each)
    one = jax.jit(lambda state: experiment.train_step(state, batch)[0])
    by_vmap, by_map = many(lambda step, states: jax.vmap(step)(states)), many(jax.lax.map)
    ways = {
        "one by one": lambda: [one(state) for state in each],
        "vmap": lambda: by_vmap(stacked),
        "map": lambda: by_map(stacked),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, run in ways.items():
            started = time.perf_counter()
            jax.block_until_ready(run())
            if turn:  # the first turn compiles
                times[way].append(time.perf_counter() - started)
    found = {way: median(values) for way, values in times.items()}
    ratios = {f"{way} / one by one": found[way] / found["one by one"] for way in ("vmap", "map")}
    return {**found, **ratios}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", default="alexnet_pool")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", default="2,4")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    counts = map(int, options.seeds.split(","))
    found = {
        count: measure(options.experiment, options.batch, count, options.rounds) for count in counts
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    use_huge_pages()
    main()
