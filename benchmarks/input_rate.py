"""How many images a second each way of the data brings to the device, and what memory it takes.

    python benchmarks/input_rate.py [--images=4000] [--seconds=3]

Class folders of JPEG pictures are generated in three sizes. Each row is measured in a process of
its own: the files are decoded (but for grain), one pass of batches of 128 warms up, and then whole
batches are counted as they reach the device, nothing being computed on it. "peak" is the memory
of that process and its workers, "first" the seconds to the first batch from files that no cache
has decoded. Then the memory of `streamed` and `grain` against the number of images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BATCH = 128
WAYS = [("resident", 0), ("streamed", 0), ("grain", 0), ("grain", 2)]


def rate(folder: str, side: int, placement: str, workers: int, seconds: float) -> dict:
    """Returns {"rate": images a second, "first": seconds, "peak": MB} in this process."""
    sys.path.insert(0, str(ROOT))
    import resource

    import jax

    from flaxlab.batches.devices import one_device
    from flaxlab.batches.feed import Reading, make_feed, take_batch
    from flaxlab.config import default_config
    from flaxlab.data.load import load_dataset

    config = default_config()
    config.data.name = "folder"
    config.data.folder = folder
    config.data.image_shape = (side, side, 3)
    config.data.placement = placement
    devices = one_device()
    read = jax.jit(lambda batches: take_batch(batches, 0, devices))
    jax.block_until_ready(jax.numpy.zeros(1))
    started = time.perf_counter()
    split = load_dataset(config.data).train
    feed = make_feed(split, BATCH, 1, devices, placement, Reading(workers))
    first, images, counted_from = None, 0, None
    for epoch in range(1, 10**6):
        for batches in feed.train_batches(0, epoch):
            jax.block_until_ready(read(batches))
            now = time.perf_counter()
            first = first or now - started
            if epoch > 1 and counted_from is None:
                counted_from = now  # of the second pass, the first batch is not counted
            elif epoch > 1:
                images += BATCH
        if counted_from and time.perf_counter() - counted_from > seconds:
            break
    used = [resource.getrusage(who).ru_maxrss for who in (0, resource.RUSAGE_CHILDREN)]
    return {
        "rate": images / (now - counted_from),
        "first": first,
        "peak": (used[0] + workers * used[1]) * 1024 / 1e6,
    }


def measured(*arguments: object) -> dict:
    """Runs `rate` in a process of its own, with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        result = subprocess.run(
            [sys.executable, __file__, f"--job={json.dumps(arguments)}"],
            env={**os.environ, "XDG_CACHE_HOME": cache},
            check=True,
            capture_output=True,
            text=True,
        )
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Measures and prints two Markdown tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=4000, help="most for the memory; a quarter for the rates"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="that are counted, at least")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(rate(*json.loads(options.job))))
        return
    sys.path.insert(0, str(ROOT))
    from benchmarks.generate_pictures import write_folders

    with tempfile.TemporaryDirectory() as made:
        print("| JPEG | way | images/s | first batch, s | peak, MB |")
        print("|---|---|---|---|---|")
        for side in (28, 32, 224):
            folder = Path(made) / f"of_{side}"
            write_folders(folder, 10, options.images // 40, side)
            for placement, workers in WAYS:
                found = measured(str(folder), side, placement, workers, options.seconds)
                name = f"{placement}, {workers} workers" if workers else placement
                print(
                    f"| {side}x{side} | {name} | {found['rate']:,.0f} | {found['first']:.1f} |"
                    f" {found['peak']:,.0f} |",
                    flush=True,
                )
        print()
        print("| images of 224x224 | decoded, MB | streamed, peak MB | grain, peak MB |")
        print("|---|---|---|---|")
        for share in (4, 2, 1):
            count = options.images // share
            folder = Path(made) / f"memory_{count}"
            write_folders(folder, 10, count // 10, 224)
            peaks = [
                measured(str(folder), 224, placement, 0, 0.0)["peak"]
                for placement in ("streamed", "grain")
            ]
            decoded = count * 224 * 224 * 3 / 1e6
            print(f"| {count:,} | {decoded:,.0f} | {peaks[0]:,.0f} | {peaks[1]:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
