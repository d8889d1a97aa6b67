"""The parts of benchmarks/gpu.py: each runs flaxlab's commands, and returns the rows of a table."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trace import read_trace
from flaxlab import files
from flaxlab.errors import RunFailed

_QUIET = ["--config.log.progress=none", "--config.log.tensorboard=false"]
_FEW = ["--config.data.train_examples=6400", "--config.data.test_examples=1000"]
_FLAXLAB = (
    "alexnet_pool:64:float32:1:plain",
    "alexnet_pool:64:float32:0:plain",
    "alexnet_pool:64:float32:0:fast",
    "alexnet_pool:64:bfloat16:0:fast",
    "alexnet_pool:512:bfloat16:0:plain",
    "alexnet_pool:512:bfloat16:0:fast",
    "vgg_default:64:float32:0:fast",
    "vgg_default:512:bfloat16:0:fast",
)
_PEERS = ("alexnet_pool:64:float32", "alexnet_pool:512:bfloat16", "vgg_default:512:bfloat16")
_TASKS = (1, 2, 4)
_SLOWEST = 15


@dataclass(frozen=True)
class Bench:
    """What every part needs.

    Attributes:
        folder: for run directories and logs.
        dry: whether everything runs on the CPU, with digits.
        until: when the time is over, as `time.monotonic` counts.
    """

    folder: Path
    dry: bool
    until: float

    @property
    def platform(self) -> str:
        """The value of JAX_PLATFORMS for a run on the device that is measured."""
        return "cpu" if self.dry else "cuda"

    @property
    def experiment(self) -> list[str]:
        """The options of flaxlab.main for the experiment that most parts run."""
        return [f"--config=experiments/{'digits_small' if self.dry else 'alexnet_pool'}.py"]

    def python(
        self, name: str, *command: str, seconds: float, good: tuple[int, ...] = (0,), **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `python COMMAND`; its output goes to NAME.log too.

        Raises:
            RunFailed: it took longer than `seconds`, or than there is time; or its exit code is not
                among `good`.
        """
        seconds = min(seconds, self.until - time.monotonic())
        if seconds <= 0:
            raise RunFailed("the time is over; start the same command again")
        env = {"JAX_PLATFORMS": self.platform} | env
        try:
            done = subprocess.run(
                [sys.executable, *command],
                env=os.environ | env,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailed(f"{name} took more than {seconds:.0f} s") from error
        files.write_text(self.folder / f"{name}.log", done.stdout + done.stderr)
        if done.returncode not in good:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise RunFailed(f"{name} ended with code {done.returncode}: {' '.join(last)[:300]}")
        return done

    def train(self, name: str, *options: str, seconds: float = 120, **env: str) -> Path:
        """Trains in a new process; returns the run directory."""
        command = ["-m", "flaxlab.main", *self.experiment, *_QUIET]
        place = f"--workdir={self.folder / name}"
        self.python(name, *command, place, *options, seconds=seconds, **env)
        return self.folder / name


def losses(bench: Bench) -> list[dict[str, Any]]:
    """Compares the losses of each epoch, and the predictions, with those of the CPU."""
    digits = ["--config=experiments/digits_small.py", "--config.train.epochs=3"]
    precision = "--config.train.matmul_precision"
    expected = bench.train("cpu", *digits, JAX_PLATFORMS="cpu")
    rows = []
    ways = {"float32": "float32", "the device's default": "default"}
    for name, value in list(ways.items())[: 1 if bench.dry else 2]:
        run = bench.train(value, *digits, f"{precision}={value}")
        ours, theirs = (_column(each, "train_loss") for each in (run, expected))
        logits = [_logits(each) for each in (run, expected)]
        rows.append(
            {
                "products in": name,
                **{f"loss {n}: relative difference": d for n, d in enumerate(ours / theirs - 1, 1)},
                "same class": float(np.mean(logits[0].argmax(1) == logits[1].argmax(1))),
            }
        )
    return rows


def steps(bench: Bench) -> list[dict[str, Any]]:
    """Times training steps."""
    cases = ("digits_small:32:float32:0:fast",) if bench.dry else _FLAXLAB
    options = ["--seconds=0.1", "--examples=320"] if bench.dry else ["--seconds=2"]
    program = ["-m", "benchmarks.peers.gpu_flaxlab", *options]
    rows = []
    for number, case in enumerate(cases):
        rows += _json_lines(bench.python(f"{number}", *program, case, seconds=120).stdout)
    return rows


def peers(bench: Bench) -> list[dict[str, Any]]:
    """Times the same steps by Keras and by torch.compile, where they are installed.

    Where one fails, or is still compiling when its time is over, its row says so.
    """
    cases = ("digits_small:32:float32",) if bench.dry else _PEERS
    seconds = "--seconds=0.1" if bench.dry else "--seconds=2"
    scripts = {"Keras on JAX": "gpu_keras.py"} if find_spec("keras") else {}
    if find_spec("torch") and not bench.dry:
        scripts["torch.compile"] = "gpu_torch.py"
    if not scripts:
        raise RunFailed("neither Keras nor PyTorch is installed; pip install keras, or torch")
    rows: list[dict[str, Any]] = []
    for (name, script), case in itertools.product(scripts.items(), cases):
        command = [str(Path(__file__).parent / "peers" / script), seconds, case]
        try:
            shown = bench.python(f"{len(rows)}", *command, seconds=120, KERAS_BACKEND="jax")
        except RunFailed as error:
            if time.monotonic() >= bench.until:
                raise
            rows.append({"by": name, "case": case, "failed": str(error)})
        else:
            rows += [{"by": name, **each} for each in _json_lines(shown.stdout)]
    return rows


def epochs(bench: Bench) -> list[dict[str, Any]]:
    """Times whole runs: of the protocol, and in the fastest way."""
    ways: dict[str, list[str]] = {"batch 64, float32": []}
    if not bench.dry:
        ways["batch 512, bfloat16"] = [
            "--config.train.batch_size=512",
            "--config.model.dtype=bfloat16",
        ]
    rows = []
    for name, options in ways.items():
        begun = time.perf_counter()
        run = bench.train(f"{len(rows)}", *options, seconds=150)
        seconds = _column(run, "seconds")
        rows.append(
            {
                "run": name,
                "seconds of the epochs": float(seconds.sum()),
                "of the first": float(seconds[0]),
                "of the others": float(np.median(seconds[1:])),
                "of the command": time.perf_counter() - begun,
                "accuracy": float(_column(run, "val_accuracy")[-1]),
            }
        )
    return rows


def bits(bench: Bench) -> list[dict[str, Any]]:
    """Says whether a run has the same bits when it is repeated, and when it is interrupted."""
    few = [*([] if bench.dry else _FEW), "--config.train.epochs=2"]
    few.append("--config.train.steps_per_execution=5")
    rows = []
    for value in ("true",) if bench.dry else ("false", "true"):
        options = [*few, f"--config.train.deterministic={value}"]
        first, second = (bench.train(f"{value}-{n}", *options) for n in (1, 2))
        rows.append({"train.deterministic": value, "twice": _same(first, second)})
        stopped = bench.folder / f"{value}-stopped"
        midway = [*options, "--config.checkpoint.every_steps=5"]
        _train_until_saved(bench, stopped, midway)
        rows[-1]["stopped and resumed"] = _same(first, bench.train(stopped.name, *options))
    return rows


def _train_until_saved(bench: Bench, workdir: Path, options: Sequence[str]) -> None:
    """Trains until a checkpoint within an epoch is there, and stops with SIGTERM."""
    command = ["-m", "flaxlab.main", *bench.experiment, *_QUIET, *options]
    process = subprocess.Popen(
        [sys.executable, *command, f"--workdir={workdir}"],
        env=os.environ | {"JAX_PLATFORMS": bench.platform},
        stderr=subprocess.DEVNULL,
    )
    patience = min(time.monotonic() + 90, bench.until)
    while process.poll() is None and time.monotonic() < patience:
        if any((workdir / "checkpoints" / "midway").glob("[0-9]*")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(timeout=60)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise RunFailed(f"{workdir.name} did not stop within a minute") from error
    if code != 128 + signal.SIGTERM:
        raise RunFailed(f"{workdir.name} was to be stopped, but ended with code {code}")


def profile(bench: Bench) -> list[dict[str, Any]]:
    """Returns the kernels that take the most time in ten calls of five steps, and their sum."""
    few = [*([] if bench.dry else _FEW), "--config.train.epochs=2"]
    run = bench.train(
        "profile", *few, "--config.train.steps_per_execution=5", "--config.train.profile=true"
    )
    kernels, span = read_trace(run)
    total = sum(kernel.milliseconds for kernel in kernels)
    rows = [
        {**kernel._asdict(), "share of the time": kernel.milliseconds / span}
        for kernel in kernels[:_SLOWEST]
    ]
    calls = sum(kernel.calls for kernel in kernels)
    all_of_them = {"name": f"all {len(kernels)}", "calls": calls, "milliseconds": total}
    return [*rows, {**all_of_them, "share of the time": total / span}]


def memory(bench: Bench) -> list[dict[str, Any]]:
    """Returns what a run says that needs more memory than it may take."""
    if bench.dry:
        return [{"exit code": None, "stderr": "a CPU has no limit to exceed"}]
    large = [*_FEW, "--config.train.batch_size=3200", f"--workdir={bench.folder / 'memory'}"]
    command = ["-m", "flaxlab.main", *bench.experiment, *_QUIET, *large]
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.01"}
    shown = bench.python("memory", *command, seconds=90, good=(0, 1, 2), **share)
    lines = [line for line in shown.stderr.splitlines() if line.strip()]
    return [{"exit code": shown.returncode, "lines": len(lines), "stderr": " ".join(lines)[-400:]}]


def tasks(bench: Bench) -> list[dict[str, Any]]:
    """Times a suite of four arms with some of its tasks at once on the GPU."""
    rates = "1e-3,8e-4" if bench.dry else "1e-3,8e-4,6e-4,4e-4"
    swept = f"--sweep.optimizer.learning_rate={rates}"
    options = [swept, "--seeds=1", *_QUIET, "--launcher=processes"]
    options += ["--config.train.epochs=1"] if bench.dry else ["--config.train.epochs=4"]
    rows = []
    for count in _TASKS[:1] if bench.dry else _TASKS:
        share = [] if bench.dry else [f"--tasks_per_gpu={count}"]
        begun = time.perf_counter()
        workdir = f"--workdir={bench.folder / f'tasks-{count}'}"
        command = ["-m", "flaxlab.suite", *bench.experiment, *options, *share, workdir]
        bench.python(f"{count}", *command, seconds=240)
        rows.append({"tasks on the GPU": count, "seconds": time.perf_counter() - begun})
    return rows


PARTS: Mapping[str, Callable[[Bench], list[dict[str, Any]]]] = {
    "losses": losses,
    "steps": steps,
    "epochs": epochs,
    "bits": bits,
    "profile": profile,
    "memory": memory,
    "tasks": tasks,
    "peers": peers,
}


def _column(run: Path, name: str) -> np.ndarray:
    with (run / "history.csv").open() as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


def _logits(run: Path) -> np.ndarray:
    return np.asarray(np.load(run / "predictions.npz")["logits"])


def _same(run: Path, other: Path) -> bool:
    same = np.array_equal(_logits(run), _logits(other))
    return same and np.array_equal(_column(run, "train_loss"), _column(other, "train_loss"))


def _json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
