"""Commands and programs in processes of their own: started, waited for, signalled, killed."""

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.helpers.runs import ROOT, SMALL_POOL

_OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")

# Whether glibc and the kernel offer huge pages.
HUGE_PAGES = (
    platform.libc_ver()[0] == "glibc"
    and _OFFERED.exists()
    and "[never]" not in _OFFERED.read_text()
)

EPOCHS = 5
STEPS_PER_EPOCH = 10  # 9 with a holdout

# The small run with more to lose: more epochs, saves inside of them, and events.
TRAINING = [
    *SMALL_POOL,
    f"--config.train.epochs={EPOCHS}",
    "--config.checkpoint.every_steps=3",
    "--config.log.tensorboard=true",
    "--config.log.progress=lines",
]


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    shown: str
    errors: str


class Process:
    """A Python process; it is killed at the end of a `with` block.

    What it says is read when it is waited for, so that it must say little until then.
    """

    def __init__(self, *arguments, environment=None, **options):
        """Starts Python.

        Args:
            *arguments: what follows "python" on its command line.
            environment: variables to set, to remove where None.
            **options: those of `Popen`.
        """
        variables = {**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1", **(environment or {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={key: value for key, value in variables.items() if value is not None},
            **{**pipes, **options},
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self):
        return self._process.pid

    @property
    def alive(self):
        return self._process.poll() is None

    def send(self, number):
        self._process.send_signal(number)

    def watch(self, condition, seconds):
        """Waits until a condition holds, at most so long and while it lives; says if it holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.alive:
            if condition():
                return True
            time.sleep(0.001)
        return bool(condition())

    def wait_for(self, condition, seconds=240.0):
        """Waits until a condition holds; fails if it does not, or the process ends before."""
        if not self.watch(condition, seconds):
            self.send(signal.SIGKILL)
            raise AssertionError(f"in vain: {self.end()}")

    def wait_for_line(self, text):
        """Reads standard output up to a line with `text` in it; returns it."""
        for line in self._process.stdout:
            if text in line:
                return line
        raise AssertionError(f"no line with {text!r}: {self.end()}")

    def kill(self):
        """Kills it; returns whether it was still alive, and what it has shown."""
        alive = self.alive
        self.send(signal.SIGKILL)
        return alive, self.end().shown

    def abandon(self):
        """Kills it, but not for its output, which children that it leaves may still write to."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def end(self, seconds=400.0):
        """Waits for its end."""
        shown, errors = self._process.communicate(timeout=seconds)
        return Ended(self._process.returncode, shown, errors)


def start(command, *arguments, **options):
    """Starts `python -m flaxlab.<command>`; options as `Process` takes them."""
    return Process("-m", f"flaxlab.{command}", *arguments, **options)


def run_code(code, *arguments, **options):
    """Runs Python code to its end, in the root of the project; returns how it ended."""
    return Process("-c", code, *arguments, **{"cwd": ROOT, **options}).end()


class Training(Process):
    """A process of `flaxlab.main` that trains the small run in a directory."""

    def __init__(self, workdir, *overrides):
        self.workdir = Path(workdir)
        super().__init__("-m", "flaxlab.main", *TRAINING, *overrides, f"--workdir={workdir}")
