"""One display for all runs of a suite: what runs, how far everything is, and when it will end."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from flaxlab.run.console import clock
from flaxlab.run.hooks import whereabouts
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Row

_BACKWARD = 2  # the backward pass costs about two forward passes


def epoch_work(experiment: Experiment) -> float:
    """Returns about the FLOPs of one epoch with its validation, to weigh one arm by another."""
    images = (1 + _BACKWARD) * len(experiment.splits.train) + len(experiment.splits.validation)
    return images * sum(row.flops for row in experiment.layers)


class SuiteDisplay:
    """A live bar over all runs of a suite, and a line after each.

    How long the rest takes is estimated by FLOPs, since the arms are not equally large.
    """

    def __init__(self, console: Console, style: str, runs: int, finished: int, work: float) -> None:
        """Prepares the display.

        Args:
            console: where to print.
            style: as `config.log.progress`.
            runs: number of all runs of the suite.
            finished: number of those that are complete.
            work: work of the unfinished ones, see `epoch_work`.
        """
        self._console = console
        self._lines = style != "none"
        self._runs, self._number = runs, finished
        self._total = work
        # Of this process: what earlier ones did says nothing of the speed.
        self._done = self._skipped = 0.0
        self._started = time.perf_counter()
        self._bar: Progress | None = None
        if style == "bar" or (style == "auto" and console.is_terminal):
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f}%  ETA {task.fields[eta]}"),
                console=console,
                transient=True,
            )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._bar is not None and self._total:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self._total, eta="?")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Prints a line above the bar, unless nothing is to be shown."""
        if self._lines:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _numbered(self, name: str) -> str:
        self._number += 1
        return f"[{self._number:>{len(str(self._runs))}}/{self._runs}] {name}"

    def _say_finished(self, name: str, summary: dict[str, Any], seconds: float) -> None:
        accuracy = f"validation accuracy {summary['final_val_accuracy']:.4f}"
        if "test_accuracy" in summary:
            accuracy = f"test accuracy {summary['test_accuracy']:.4f}"
        self.say(
            f"{name}: {accuracy} (best {summary['best_val_accuracy']:.4f})"
            f"  {clock(seconds)}  ETA {self._remaining()}"
        )

    def _move(self, done: float, text: str) -> None:
        self._done = done
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, description=text, eta=self._remaining())

    def _remaining(self) -> str:
        here = self._done - self._skipped
        if here <= 0:
            return "?"
        elapsed = time.perf_counter() - self._started
        return clock(elapsed / here * (self._total - self._done))


class SuiteProgress(SuiteDisplay):
    """Observes runs that this process does one after the other."""

    _before = 0.0  # work of the runs that are over

    def run_begins(self, name: str) -> None:
        """Says which run is next."""
        self._name = self._numbered(name)
        self._begun = time.perf_counter()
        self._move_in_run(0.0)

    def run_started(self, experiment: Experiment, epochs: int, steps: int) -> None:
        """Counts what an earlier start of the run has done."""
        self._epoch_work = epoch_work(experiment)
        self._epochs = experiment.config.train.epochs
        self._steps = experiment.steps_per_epoch
        self._skipped += (epochs + steps / self._steps) * self._epoch_work
        if epochs or steps:
            self.say(f"{self._name}: resuming after {whereabouts(epochs, steps)}")

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Moves the bar."""
        share = (epoch - 1 + step / self._steps) * self._epoch_work
        self._move_in_run(share, f"epoch {epoch}/{self._epochs} accuracy {running['accuracy']:.4f}")

    def epoch_done(self, row: Row) -> None:
        """Moves the bar."""
        self._move_in_run(row.epoch * self._epoch_work, f"epoch {row.epoch}/{self._epochs}")

    def run_done(self) -> None:
        """Nothing: a run is over when its report is written."""

    def run_ends(self, work: float, summary: dict[str, Any] | None) -> None:
        """Prints the line of a run.

        Args:
            work: work of the whole run.
            summary: the run's summary; None if it failed.
        """
        self._before += work
        self._move_in_run(0.0)
        if summary is not None:
            self._say_finished(self._name, summary, time.perf_counter() - self._begun)

    def _move_in_run(self, work: float, text: str = "") -> None:
        self._move(self._before + work, f"{self._name} {text}")
