"""One training step on several devices and in several processes, at a fixed global batch.

    python benchmarks/scaling.py [--network=alexnet_pool] [--batch=64] [--steps=5]

On a CPU, devices are played by XLA (`--xla_force_host_platform_device_count`), and several
processes have one device each and talk over Gloo: all of them share this machine's cores, so what
is seen is not a speed-up but what the cutting and the adding up cost. Each row is measured in
processes of its own, one after the other; the first row is what the others are compared with.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]

# (processes, devices of each, way)
ROWS = [
    (1, 1, "sharded"),
    (1, 2, "sharded"),
    (1, 2, "pmap"),
    (1, 4, "sharded"),
    (1, 8, "sharded"),
    (1, 8, "pmap"),
    (2, 1, "sharded"),
    (4, 1, "sharded"),
]


def time_steps(job: dict) -> dict[str, float]:
    """Returns {"step": seconds, "memory": MB at the peak}, in a process of a row.

    Args:
        job: {"network", "batch", "steps", "way"} and, with several processes, {"coordinator",
            "processes", "process"}.
    """
    sys.path.insert(0, str(ROOT))
    import importlib
    import resource

    import jax
    from noise import draw_dataset

    from flaxlab.batches.feed import make_feed
    from flaxlab.machine import set_up_compiler
    from flaxlab.training.experiment import assemble
    from flaxlab.training.metrics import no_metrics
    from flaxlab.training.programs import compile_programs

    set_up_compiler()
    if job["processes"] > 1:
        jax.distributed.initialize(job["coordinator"], job["processes"], job["process"])
    config = importlib.import_module(f"experiments.{job['network']}").get_config()
    config.train.batch_size = job["batch"]
    config.train.parallel = job["way"]
    dataset = draw_dataset(config, job["batch"])
    experiment = assemble(config, dataset)
    devices = experiment.devices
    programs = compile_programs(experiment)
    feed = make_feed(dataset.train, job["batch"], 1, devices, "streamed")
    (batches,) = feed.train_batches(seed=0, epoch=1)
    state = devices.put(experiment.create_state())
    seconds = []
    for _ in range(2 + job["steps"]):  # the first compiles, the second warms up
        totals = devices.put(no_metrics())
        started = time.perf_counter()
        state, totals = programs.train(state, totals, batches)
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"step": median(seconds[2:]), "memory": peak}


def measure(processes: int, devices: int, way: str, options: argparse.Namespace) -> dict:
    """Returns the step's seconds, of process 0, and the peak memory of all processes together."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        coordinator = f"localhost:{found.getsockname()[1]}"
    count = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {count}"}
    job = {
        "network": options.network,
        "batch": options.batch,
        "steps": options.steps,
        "way": way,
        "coordinator": coordinator,
        "processes": processes,
    }
    started = [
        subprocess.Popen(
            [sys.executable, __file__, f"--job={json.dumps({**job, 'process': number})}"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    found_all = [json.loads(one.communicate()[0].splitlines()[-1]) for one in started]
    return {"step": found_all[0]["step"], "memory": sum(one["memory"] for one in found_all)}


def main() -> None:
    """Measures each row and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="alexnet_pool")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(time_steps(json.loads(options.job))))
        return
    print("| processes x devices | way | step, ms | step / first | memory of all, MB |")
    print("|---|---|---|---|---|")
    first = None
    for processes, devices, way in ROWS:
        found = measure(processes, devices, way, options)
        first = first or found["step"]
        print(
            f"| {processes} x {devices} | {way} | {1000 * found['step']:,.0f} |"
            f" {found['step'] / first:.2f} | {found['memory']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
