"""Ends a command that cannot go on with one line on stderr and an exit code, never a traceback.

So a traceback always means a bug in flaxlab itself.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from flaxlab.errors import GO_ON, Interrupted, RunFailed, UsageError
from flaxlab.machine import skip_gpu_check_without_gpu

if TYPE_CHECKING:
    from rich.console import Console

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_SIGNAL = 128  # plus the number of the signal, as in shells

_PIPED_COLUMNS = 160


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports a wrong argument as a `UsageError`.

    Its help keeps the line breaks of descriptions and examples.
    """

    def __init__(self, **options: Any) -> None:
        """Takes what `ArgumentParser` takes, by name."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Raises `UsageError` where argparse would print its usage text and exit."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def run_command(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> NoReturn:
    """Runs `command(arguments)` and exits.

    The code is 0 for done, 1 for failed, 2 for wrong input, 130 for SIGINT, 143 for SIGTERM and
    140 for SIGUSR2. It is 1 without a line if nobody reads what the command prints.
    """
    prepare_process([signal.SIGTERM, signal.SIGUSR2])
    try:
        command(arguments)
        sys.stdout.flush()
    except UsageError as error:
        _exit(f"error: {error}", EXIT_USAGE)
    except RunFailed as error:
        _exit(f"failed: {error}", EXIT_FAILED)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        # What is still in the buffer has to go somewhere when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except OSError as error:
        # The file cannot be read or written; an error that names no file is a bug.
        if error.filename is None:
            raise
        _exit(f"error: {error.filename}: {error.strerror}", EXIT_USAGE)
    except Interrupted as error:
        _exit(f"interrupted: {error}", EXIT_SIGNAL + error.signal)
    except KeyboardInterrupt:
        _exit(f"interrupted: {GO_ON}", EXIT_SIGNAL + signal.SIGINT)
    sys.exit(0)


def add_stored_model(parser: CommandParser) -> None:
    """Adds the arguments `run`, `step` and `model`, which say what `load_stored` is to load."""
    parser.add_argument("run", type=Path, help="a run directory, its checkpoints, or one step")
    parser.add_argument(
        "--step", help="latest, best or a number; default: the one whose accuracy the run reports"
    )
    parser.add_argument(
        "--model",
        metavar="FILE.py:CLASS",
        help="the run's network, if it is your own and not in an installed module",
    )


def positive_number(text: str) -> int:
    """Returns the value of an option that takes whole numbers from 1; a type for `add_argument`.

    Raises:
        argparse.ArgumentTypeError: the text is not such a number.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


def positive_float(text: str) -> float:
    """Returns the value of an option that takes numbers above 0; a type for `add_argument`.

    Raises:
        argparse.ArgumentTypeError: the text is not such a number.
    """
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 < value < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text} is not a number above 0")


def open_console(**options: Any) -> Console:
    """Returns a console on stdout: as wide as the terminal, or 160 columns elsewhere.

    In a notebook it prints plain text: Rich would make an output of its own of each line.

    Args:
        **options: other options of `rich.console.Console`.
    """
    # Rich takes a tenth of a second to import: wrong options are reported before.
    from rich.console import Console

    if in_notebook():
        options = {"force_jupyter": False, "force_terminal": False, **options}
    return Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS, **options)


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython and ipython.get_ipython(), "kernel")


def prepare_process(signals: Iterable[signal.Signals]) -> None:
    """Sends flaxlab's log to stderr as plain lines, and makes `signals` raise `Interrupted`.

    Where there is no GPU, JAX says nothing of it; see `skip_gpu_check_without_gpu`.
    If a checkpoint is damaged, Orbax raises the error of the first read. The errors of the other
    reads, which are still running, are hidden.
    """
    skip_gpu_check_without_gpu()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("flaxlab")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # reads that nothing waits for
    sys.unraisablehook = _report_unraisable
    for number in signals:
        signal.signal(number, _interrupt)


def _interrupt(received: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(received, GO_ON)


def _report_unraisable(problem: sys.UnraisableHookArgs) -> None:
    if isinstance(problem.exc_value, Interrupted):
        # The signal arrived in a destructor, which cannot raise: send it again.
        again = threading.Timer(0.05, os.kill, (os.getpid(), problem.exc_value.signal))
        again.daemon = True
        again.start()
    # A read was still running when Orbax closed its event loop.
    elif str(problem.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(problem)


def _reader_is_gone() -> bool:
    """Returns whether stdout is a pipe whose reader has ended, such as `head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _exit(message: str, code: int) -> NoReturn:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)
