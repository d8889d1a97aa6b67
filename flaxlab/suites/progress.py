"""One display for all runs of a suite: what runs, how far everything is, and when it will end."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from flaxlab.console import clock, whereabouts
from flaxlab.training.experiment import Experiment
from flaxlab.training.history import History

_BACKWARD = 2  # the backward pass costs about two forward passes


def epoch_work(experiment: Experiment) -> float:
    """Returns about the FLOPs of one epoch with its validation, to weigh one arm by another."""
    images = (1 + _BACKWARD) * len(experiment.splits.train) + len(experiment.splits.validation)
    return images * sum(row.flops for row in experiment.layers)


class SuiteProgress:
    """Observes the runs of a suite: a live bar over all, and a line after each run.

    How long the rest takes is estimated by FLOPs, since the arms are not equally large.
    """

    def __init__(self, console: Console, style: str, runs: int, finished: int, work: float) -> None:
        """Prepares the display.

        Args:
            console: where to print.
            style: as `config.log.progress`.
            runs: number of all runs of the suite.
            finished: number of those that are complete.
            work: of those that are not, see `epoch_work`.
        """
        self._console = console
        self._lines = style != "none"
        self._runs, self._number = runs, finished
        self._total, self._before = work, 0.0
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

    def __enter__(self) -> SuiteProgress:
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

    def run_begins(self, name: str) -> None:
        """Says which run is next."""
        self._number += 1
        self._name = f"[{self._number:>{len(str(self._runs))}}/{self._runs}] {name}"
        self._begun = time.perf_counter()
        self._move(0.0)

    def run_started(self, experiment: Experiment, history: History, steps: int) -> None:
        """Counts what an earlier start of the run has done."""
        self._epoch_work = epoch_work(experiment)
        self._epochs = experiment.config.train.epochs
        self._steps = experiment.steps_per_epoch
        self._skipped += (len(history) + steps / self._steps) * self._epoch_work
        if (history or steps) and self._lines:
            self._print(f"{self._name}: resuming after {whereabouts(history, steps)}")

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Moves the bar."""
        share = (epoch - 1 + step / self._steps) * self._epoch_work
        text = f"epoch {epoch}/{self._epochs} accuracy {running['accuracy']:.4f}"
        self._move(share, text)

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Moves the bar."""
        self._move(row["epoch"] * self._epoch_work, f"epoch {row['epoch']}/{self._epochs}")

    def run_done(self) -> None:
        """Nothing: a run is over when its report is written."""

    def run_ends(self, work: float, summary: dict[str, Any] | None) -> None:
        """Prints the line of a run.

        Args:
            work: of the whole run.
            summary: of the run; None if it failed.
        """
        self._before += work
        self._move(0.0)
        if summary is None or not self._lines:
            return
        accuracy = f"validation accuracy {summary['final_val_accuracy']:.4f}"
        if "test_accuracy" in summary:
            accuracy = f"test accuracy {summary['test_accuracy']:.4f}"
        self._print(
            f"{self._name}: {accuracy} (best {summary['best_val_accuracy']:.4f})"
            f"  {clock(time.perf_counter() - self._begun)}  ETA {self._remaining()}"
        )

    def _move(self, in_run: float, text: str = "") -> None:
        self._done = self._before + in_run
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                completed=self._done,
                description=f"{self._name} {text}",
                eta=self._remaining(),
            )

    def _remaining(self) -> str:
        here = self._done - self._skipped
        if here <= 0:
            return "?"
        elapsed = time.perf_counter() - self._started
        return clock(elapsed / here * (self._total - self._done))

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
