"""How long a suite takes with 1, 2, 4 tasks at once, by --launcher=processes.

    python benchmarks/suite_tasks.py --tasks=1,2

Four arms with one seed each, a small network on scikit-learn's digits, programs compiled before.
Numbers of tasks beyond this machine's cores are left out: tasks do not share a core.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, run_command
from flaxlab.errors import RunFailed
from flaxlab.hardware import available_cores

SUITE = [
    "--config=experiments/alexnet_pool.py",
    "--sweep.optimizer.learning_rate=1e-2,3e-3,1e-3,3e-4",
    "--seeds=1",
    "--config.data.name=digits",
    "--config.train.batch_size=64",
    "--config.model.batch_norm_momentum=0.5",
    "--config.model.blocks=(((16, 11),), ((32, 5),), ((32, 3),))",
    "--config.model.head_units=(64, 64)",
    "--config.log.tensorboard=false",
    "--config.log.progress=none",
]


def seconds(epochs: int, *launcher: str) -> float:
    """Returns how long the suite takes, from its command's start to the comparison.

    Raises:
        RunFailed: the suite did not come to its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "flaxlab.suite", *SUITE, *launcher]
        command += [f"--config.train.epochs={epochs}", f"--workdir={Path(folder) / 'runs'}"]
        started = time.perf_counter()
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RunFailed(f"the suite failed: {result.stderr.strip()}")
        return time.perf_counter() - started


def main(arguments: Sequence[str]) -> None:
    """Times the suites, and prints a Markdown table."""
    parser = CommandParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--tasks", default="1,2,4", help="numbers of tasks at once")
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args(arguments)
    cores = len(available_cores())
    counts = [count for count in map(int, options.tasks.split(",")) if count <= cores]
    for count in counts:  # a task with fewer cores compiles programs of its own
        seconds(1, "--launcher=processes", f"--tasks_at_once={count}")
    alone = seconds(options.epochs)
    print(f"| tasks at once, {cores} cores | suite, s | one process / it |\n|---|---|---|")
    print(f"| one process | {alone:.1f} | 1.00 |", flush=True)
    for count in counts:
        found = seconds(options.epochs, "--launcher=processes", f"--tasks_at_once={count}")
        print(f"| {count} | {found:.1f} | {alone / found:.2f} |", flush=True)


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
