"""Times one training step of flaxlab, PyTorch and Keras, side by side on this machine's CPU.

    python -m venv .venv-peers
    .venv-peers/bin/pip install -r benchmarks/requirements-peers.txt
    python benchmarks/step_time.py                    # in flaxlab's environment with [dev]
    python benchmarks/step_time.py --ours             # flaxlab's own rows, without the peers
    python benchmarks/step_time.py --float32          # without the rows in bfloat16

A step is all of it: pixels to floats, forward, backward, Adam, in float32, on the same batch of
noise. For each network one process of each peer is started, and they take turns, so that whatever
else the machine does meets all of them. A turn begins with a step that is not timed: after a pause,
memory and caches are another's. Figures are medians over all timed steps. The
peak of the machine is the best product of two 2048 x 2048 matrices that PyTorch or JAX reached in
the same run. FLOP are those of the layers' direct sums, three times the forward pass: an algorithm
that needs fewer products can pass the peak. Memory is a process's largest resident set.

Writes everything to benchmarks/step_time.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / "peers"
NETWORKS = ("alexnet_default", "alexnet_pool", "vgg_default")
MATMUL_SIDE = 2048
# Shares of PyTorch's time that a step should take at most: at batches of up to 64, and above.
_SMALL_BATCH = 64
_STEP_GOALS = (
    {"alexnet_default": 0.55, "alexnet_pool": 0.65, "vgg_default": 0.55},
    {"alexnet_default": 0.45, "alexnet_pool": 0.60, "vgg_default": 0.50},
)
OURS = "flaxlab"
_BFLOAT16 = "bfloat16"
_PAUSE = 0.2  # seconds in which the threads of the one before stop looking for work


@dataclass(frozen=True)
class Peer:
    """How a worker is started.

    Attributes:
        name: in the tables.
        script: in benchmarks/peers.
        variant: passed to the script.
        environment: added to the process's.
        own_environment: whether it runs in the peers' virtual environment.
    """

    name: str
    script: str
    variant: str
    environment: dict[str, str]
    own_environment: bool = True


_FUSED = {"XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type=+reduce"}
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
_TENSORFLOW = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
ALL = (
    Peer(OURS, "flaxlab_step.py", "fast", {}, False),
    Peer("flaxlab, plain lax", "flaxlab_step.py", "plain", {}, False),
    # Without the flag that `import flaxlab` sets: what keeping XLA right costs.
    Peer("flaxlab, XLA's fused reductions", "flaxlab_step.py", "fast", _FUSED, False),
    Peer("PyTorch, channels_last", "torch_step.py", "channels_last", {}),
    Peer("PyTorch, channels_first", "torch_step.py", "channels_first", {}),
    Peer("PyTorch, channels_last, huge pages", "torch_step.py", "channels_last", _HUGE_PAGES),
    # Less precise than the others, and so no rivals.
    Peer(f"{_BFLOAT16}: PyTorch, products", "torch_step.py", "bf16", {}),
    Peer(f"{_BFLOAT16}: PyTorch, autocast", "torch_step.py", "autocast", {}),
    Peer("Keras on TensorFlow", "keras_step.py", "ops", _TENSORFLOW),
    Peer("Keras on TensorFlow, huge pages", "keras_step.py", "ops", {**_TENSORFLOW, **_HUGE_PAGES}),
    Peer("Keras on JAX", "keras_step.py", "xla", {"KERAS_BACKEND": "jax"}, False),
)


class Worker:
    """A peer's process: it answers each order with one line of JSON."""

    def __init__(self, peer: Peer, python: Path, job: dict[str, Any]) -> None:
        """Starts the process, which prepares its step and takes a first one."""
        self.peer = peer
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [python, PEERS / peer.script],
            cwd=ROOT,
            env={**_environment(), **peer.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.first = self._ask({**job, "variant": peer.variant})
        self.seconds: list[float] = []

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            code = self._process.wait()
            self._errors.seek(0)
            raise SystemExit(f"{self.peer.name} failed ({code}):\n{self._errors.read()[-2000:]}")
        return json.loads(answer)

    def turn(self, steps: int) -> None:
        """Takes `steps` timed steps after one that is not."""
        time.sleep(_PAUSE)
        self._ask({"do": "step"})
        self.seconds += [self._ask({"do": "step"})["seconds"] for _ in range(steps)]

    def matmul(self) -> float:
        """Returns the seconds of one matrix product."""
        return self._ask({"do": "matmul"})["seconds"]

    def stop(self) -> int:
        """Ends the process; returns the bytes of its largest resident set."""
        peak = self._ask({"do": "stop"})["peak_bytes"]
        self._process.wait()
        return peak


def measure(network: str, peers: list[Peer], options: argparse.Namespace) -> dict[str, Any]:
    """Times one network with all `peers`; returns its figures as JSON can hold them."""
    config_module = importlib.import_module(f"experiments.{network}")
    from flaxlab import config as configs
    from flaxlab import models
    from flaxlab.data.shape import image_shape

    config = config_module.get_config()
    shape, batch = image_shape(config.data), options.batch_size
    layers = models.layer_table(models.build(config.model, 10), shape)
    job = {
        "model": configs.to_dict(config.model),
        "optimizer": configs.to_dict(config.optimizer),
        "image_shape": shape,
        "classes": 10,
        "batch_size": batch,
        "matmul_side": MATMUL_SIDE,
    }
    workers = []
    for peer in peers:
        python = options.peers_python if peer.own_environment else Path(sys.executable)
        workers.append(Worker(peer, python, job))
        print(f"{network}: {peer.name} ready", file=sys.stderr)
    parameters = {worker.first["parameters"] for worker in workers}
    if len(parameters) != 1:
        raise SystemExit(f"the peers' networks differ: {parameters} parameters")
    products = []
    for number in range(options.rounds):
        first = number % len(workers)
        for worker in workers[first:] + workers[:first]:
            worker.turn(options.steps)
            if worker.first["can_multiply"]:
                products += [worker.matmul() for _ in range(3)]
    flop = 3 * batch * sum(row.flops for row in layers)
    peak = 2 * MATMUL_SIDE**3 / min(products)
    rows = {}
    for worker in workers:
        seconds = median(worker.seconds)
        rows[worker.peer.name] = {
            "version": worker.first["version"],
            "step_seconds": seconds,
            "all_step_seconds": worker.seconds,
            "images_per_second": batch / seconds,
            "flops": flop / seconds,
            "share_of_peak": flop / seconds / peak,
            "compile_seconds": worker.first["first_step_seconds"] - seconds,
            "peak_bytes": worker.stop(),
        }
    return {"batch_size": batch, "flop": flop, "peak_flops": peak, "peers": rows}


def table(network: str, result: dict[str, Any]) -> str:
    """Returns the figures of one network as a Markdown table."""
    ours = result["peers"][OURS]
    lines = [
        f"### {network}, batch {result['batch_size']}: {result['flop'] / 1e9:.0f} GFLOP a step,"
        f" matmul peak {result['peak_flops'] / 1e9:.0f} GFLOP/s",
        "",
        "| | step, ms | flaxlab / it | images/s | GFLOP/s | of peak | compile, s | memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["peers"].items():
        lines.append(
            f"| {name} | {row['step_seconds'] * 1e3:,.0f}"
            f" | {ours['step_seconds'] / row['step_seconds']:.2f}"
            f" | {row['images_per_second']:,.0f} | {row['flops'] / 1e9:,.0f}"
            f" | {row['share_of_peak']:.0%} | {row['compile_seconds']:.1f}"
            f" | {row['peak_bytes'] / 1e6:,.0f} |"
        )
    return "\n".join(lines)


def reach(results: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Returns (figure, value, goal) for each goal that the results tell something about."""
    rows = []
    for network in NETWORKS:
        if network not in results["networks"]:
            continue
        peers = results["networks"][network]["peers"]
        goal = _STEP_GOALS[results["networks"][network]["batch_size"] > _SMALL_BATCH][network]

        def ratio(key: str, rival: str, peers: dict[str, Any] = peers) -> float:
            return peers[OURS][key] / min(
                row[key] for name, row in peers.items() if name.startswith(rival)
            )

        rows += [
            (f"{network}: step / best PyTorch", ratio("step_seconds", "PyTorch"), goal),
            (f"{network}: step / best Keras", ratio("step_seconds", "Keras"), 0.60),
            (f"{network}: memory / best PyTorch", ratio("peak_bytes", "PyTorch"), 1.1),
        ]
    rows.append(("loop overhead", results["loop"]["overhead"], 0.01))
    rows.append(("second start to first epoch, s", results["start"]["second_start"], 5))
    return rows


def main() -> None:
    """Measures, prints the tables, and writes them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--rounds", type=int, default=4, help="turns of each peer")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--peers_python", type=Path, default=ROOT / ".venv-peers/bin/python")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/step_time.json")
    parser.add_argument("--ours", action="store_true", help="flaxlab's own rows alone")
    parser.add_argument(
        "--float32",
        action="store_true",
        help="no rows in bfloat16, which take half an hour on a processor without it",
    )
    options = parser.parse_args()
    peers = [peer for peer in ALL if not options.ours or peer.script == "flaxlab_step.py"]
    if options.float32:
        peers = [peer for peer in peers if not peer.name.startswith(_BFLOAT16)]
    if not options.ours and not options.peers_python.exists():
        parser.error(f"{options.peers_python} is missing: see the first lines of --help")
    sys.path.insert(0, str(ROOT))
    from flaxlab.hardware import describe_machine

    results = {
        "machine": f"{describe_machine()}, {platform.system()}",
        "networks": {name: measure(name, peers, options) for name in options.networks},
    }
    if not options.ours:
        results["start"] = _measured_by("start_up.py")
        results["loop"] = _measured_by("loop_overhead.py")
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{results['machine']}; medians of {options.rounds} turns of {options.steps} steps\n")
    for name, result in results["networks"].items():
        print(table(name, result), end="\n\n")
    if options.ours:
        return
    print("| figure | measured | goal | |\n|---|---|---|---|")
    for name, value, goal in reach(results):
        print(f"| {name} | {value:.3g} | {goal:g} | {'reached' if value <= goal else 'missed'} |")


def _environment() -> dict[str, str]:
    """Returns the environment without a cache that would leave nothing to compile.

    And without the flags that importing flaxlab has set: each peer sets its own.
    """
    ours = ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    return {**kept, "PYTHONPATH": str(ROOT)}


def _measured_by(script: str) -> dict[str, Any]:
    command = [sys.executable, ROOT / "benchmarks" / script]
    done = subprocess.run(
        command, env=_environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
