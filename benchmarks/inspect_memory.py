"""Time and memory of `flaxlab.inspect` on a large checkpoint.

    python benchmarks/inspect_memory.py [--megabytes=800] [--largest=64]

Saves a drawn tree by Orbax, then runs the command in processes of its own: the listing, and the
statistics, which read one array at a time. Prints seconds and peak memory of each beside what the
goal is: a listing in 3 seconds, and the largest array plus 300 MB for the statistics.
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


def save(folder: Path, megabytes: int, largest: int) -> None:
    """Saves float32 arrays of `largest` megabytes each, `megabytes` in all."""
    import orbax.checkpoint as ocp

    rng = np.random.default_rng(0)
    count, rows = megabytes // largest, largest * MB // 4 // 1000
    params = {f"layer{n}": rng.standard_normal((rows, 1000), np.float32) for n in range(count)}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, {"params": params})


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


def main() -> None:
    """Saves, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=800)
    parser.add_argument("--largest", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        # In a process of its own: its memory is not to be inherited.
        program = (
            "import sys; from pathlib import Path;"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r});"
            "from inspect_memory import save;"
            "save(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))"
        )
        arguments = [str(path), str(options.megabytes), str(options.largest)]
        subprocess.run([sys.executable, "-c", program, *arguments], check=True)
        found = {
            "listing": {**measure(str(path)), "goal_seconds": 3},
            "stats": {**measure(str(path), "--stats"), "goal_mb": options.largest + 300},
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
