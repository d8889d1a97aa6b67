"""Time and memory of `flaxlab.inspect` on a large checkpoint.

    python benchmarks/inspect_memory.py [--megabytes=800] [--largest=64,128,256]

Saves a drawn tree as flaxlab does, its arrays in chunks, and as other projects do by Orbax's
defaults, each array in one piece. Then runs the command in processes of its own: the listing, and
the statistics. Prints seconds and peak memory of each beside what the goal is: a listing in 3
seconds, and the largest array plus 300 MB for the statistics.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MB = 1_000_000


def save(folder: Path, megabytes: int, largest: int, by: str) -> None:
    """Saves float32 arrays of `largest` megabytes each, `megabytes` in all."""
    rng = np.random.default_rng(0)
    count, rows = megabytes // largest, largest * MB // 4 // 1000
    tree = {
        "params": {f"layer{n}": rng.standard_normal((rows, 1000), np.float32) for n in range(count)}
    }
    if by == "flaxlab":
        from flaxlab.checkpoints.folder import StepManager

        manager = StepManager(folder, 1, {})
        manager.save(1, tree, {})
        manager.close()
    else:
        import orbax.checkpoint as ocp

        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder, tree)


def measure(*arguments: str) -> dict[str, float]:
    """Returns seconds and peak memory, in MB, of `python -m flaxlab.inspect ARGUMENTS`."""
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True,"
        " stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", program, sys.executable, "-m", "flaxlab.inspect", *arguments]
    started = time.perf_counter()
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": int(result.stdout) * 1024 / MB}


def compare(megabytes: int, largest: int, by: str) -> dict[str, dict[str, float]]:
    """Saves a checkpoint and measures the listing and the statistics of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        # In a process of its own: its memory is not to be inherited.
        program = (
            "import sys; from pathlib import Path;"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r});"
            "from inspect_memory import save;"
            "save(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])"
        )
        arguments = [str(path), str(megabytes), str(largest), by]
        subprocess.run([sys.executable, "-c", program, *arguments], check=True)
        return {
            "listing": {**measure(str(path)), "goal_seconds": 3},
            "stats": {**measure(str(path), "--stats"), "goal_mb": largest + 300},
        }


def main() -> None:
    """Saves, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=800)
    parser.add_argument("--largest", default="64,128,256", help="megabytes of an array, in turn")
    options = parser.parse_args()
    for largest in map(int, options.largest.split(",")):
        for by in ("flaxlab", "orbax"):
            found = compare(options.megabytes, largest, by)
            print(json.dumps({"largest": largest, "saved_by": by, **found}), flush=True)


if __name__ == "__main__":
    main()
