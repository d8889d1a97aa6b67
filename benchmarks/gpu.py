"""Measures flaxlab on one GPU in at most nine minutes: its numbers, its speed, its memory.

    python -m benchmarks.gpu --to=build/gpu
    python -m benchmarks.gpu --to=build/gpu --parts=steps,bits
    python -m benchmarks.gpu --to=build/gpu-dry --dry      # the same commands on a CPU, on digits

Each part runs in processes of its own, and its results are kept in gpu.json as soon as they are
there: started again, the command does only what is missing, and what nine minutes did not suffice
for. gpu.md has them as tables. The data set fashion_mnist must be prepared, except with --dry.

    losses   three epochs on digits on the CPU, and on the GPU in float32 and in TensorFloat-32
    steps    milliseconds of a training step
    epochs   the ten epochs of alexnet_pool, with scores and checkpoints
    bits     the same run twice, with and without train.deterministic, and stopped and resumed
    profile  the slowest kernels of the training program, and their share of the time
    memory   what a run says when the GPU's memory is too small for it
    tasks    a sweep of four arms with 1, 2 and 4 tasks on the GPU
    peers    milliseconds of the same steps by Keras and torch.compile, where they are installed
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import PARTS, Bench
from flaxlab import files
from flaxlab.command_line import CommandParser, positive_float, run_command
from flaxlab.errors import RunFailed, UsageError
from flaxlab.run.record import versions


def _device(bench: Bench) -> str:
    code = "import jax; print(jax.devices()[0].device_kind)"
    return bench.python("device", "-c", code, seconds=60).stdout.strip().splitlines()[-1]


def tables(results: Mapping[str, Any]) -> str:
    """Returns gpu.json as Markdown."""
    found = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    texts = [f"{results['device']}; {found}\n"]
    for part in PARTS:
        rows = results["parts"].get(part)
        if rows:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
            texts.append(f"## {part}\n\n{_markdown([columns, ['---'] * len(columns), *cells])}\n")
    return "\n".join(texts)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str]) -> None:
    """Does the parts that are missing, and writes gpu.json and gpu.md."""
    parser = CommandParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--to", type=Path, default=Path("build/gpu"), help="folder of the results")
    parser.add_argument("--parts", default=",".join(PARTS), help="of the list above")
    parser.add_argument(
        "--minutes", type=positive_float, default=9.0, help="after which nothing is started"
    )
    parser.add_argument("--dry", action="store_true", help="try all of it on a CPU")
    options = parser.parse_args(arguments)
    chosen = options.parts.split(",")
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        raise UsageError(f"--parts={','.join(unknown)}; expected some of {', '.join(PARTS)}")
    options.to.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * options.minutes
    bench = Bench(options.to.resolve() / "runs", options.dry, until)
    file = options.to / "gpu.json"
    bench.folder.mkdir(exist_ok=True)
    results = {"device": _device(bench), "versions": versions(), "parts": {}}
    if file.exists():
        before = json.loads(file.read_text())
        if (before["device"], before["versions"]) != (results["device"], results["versions"]):
            raise UsageError(f"{file} is of another device or other versions; use another --to")
        results = before
    failed = []
    for part in chosen:
        if part in results["parts"]:
            continue
        begun, own = time.perf_counter(), replace(bench, folder=bench.folder / part)
        shutil.rmtree(own.folder, ignore_errors=True)  # what a part that failed has left
        own.folder.mkdir()
        try:
            results["parts"][part] = PARTS[part](own)
        except RunFailed as error:
            failed.append(f"{part} ({error})")
        print(f"{part}: {time.perf_counter() - begun:.0f} s", flush=True)
        files.write_text(file, json.dumps(results, indent=2) + "\n")
        files.write_text(options.to / "gpu.md", tables(results))
    print(tables(results))
    if failed:
        raise RunFailed(f"{'; '.join(failed)}; the logs are in {bench.folder}")


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
