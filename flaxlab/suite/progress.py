"""Shows the progress of all runs of a suite, and estimates the remaining time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from flaxlab.run.console import clock
from flaxlab.run.hooks import whereabouts
from flaxlab.run.reporter import Reporter
from flaxlab.run.steps import StepRow
from flaxlab.suite.runs import SuiteRun, epoch_work
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Row


class SuiteProgress(Reporter):
    """A live bar over all runs of a suite, and a line for each finished run.

    As a `Reporter`, it follows the runs of this process. The remaining time is estimated from
    FLOPs, since arms differ in size.
    """

    def __init__(self, console: Console, style: str, runs: Sequence[SuiteRun]) -> None:
        """Prepares the display.

        Args:
            console: where to print.
            style: a value of `config.log.progress`.
            runs: all runs of the suite.
        """
        self._console, self._style = console, style
        self._runs, self._number = len(runs), sum(run.finished for run in runs)
        self._total = sum(run.work for run in runs if not run.finished)
        self._ended = self._done = self._skipped = 0.0
        self._started = time.perf_counter()
        shown = style == "bar" or (style == "auto" and console.is_terminal)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%  ETA {task.fields[eta]}"),
            console=console,
            transient=True,
            disable=not shown or not self._total,
        )
        self._task = self._bar.add_task("starting", total=self._total, eta="?")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Prints a line above the bar, unless the style is "none"."""
        if self._style != "none":
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def skip(self, work: float) -> None:
        """Leaves work that was done earlier out of the estimate of this process's speed."""
        self._skipped += work

    def show(self, work: float, text: str) -> None:
        """Moves the bar to `work` done in the runs that have not ended, and describes them."""
        self._done = self._ended + work
        self._bar.update(self._task, completed=self._done, description=text, eta=self._remaining())

    def run_begins(self, run: SuiteRun) -> None:
        """Numbers and names the run that comes next."""
        self._number += 1
        self._name = f"[{self._number:>{len(str(self._runs))}}/{self._runs}] {run}"
        self.show(0.0, self._name)

    def run_started(self, experiment: Experiment, epochs: int, steps: int) -> None:
        """Skips what an earlier start of the run has done."""
        self._experiment = experiment
        self.skip((epochs + steps / experiment.steps_per_epoch) * epoch_work(experiment))
        if epochs or steps:
            self.say(f"{self._name}: resuming after {whereabouts(epochs, steps)}")

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Moves the bar."""
        epochs = epoch - 1 + step / self._experiment.steps_per_epoch
        self._show_epoch(epochs, epoch, f" accuracy {running['accuracy']:.4f}")

    def steps_written(self, rows: Sequence[StepRow]) -> None:
        """Does nothing: the bar shows the means of the epoch so far."""

    def epoch_done(self, row: Row) -> None:
        """Moves the bar."""
        self._show_epoch(row.epoch, row.epoch)

    def run_done(self) -> None:
        """Does nothing: a run ends once its report is written."""

    def run_ends(self, run: SuiteRun, summary: dict[str, Any] | None) -> None:
        """Prints a line about the run that began last; none if it failed, without a summary."""
        self._ended += run.work
        self.show(0.0, self._name)
        if summary is None:
            return
        accuracy = f"validation accuracy {summary['final_val_accuracy']:.4f}"
        if "test_accuracy" in summary:
            accuracy = f"test accuracy {summary['test_accuracy']:.4f}"
        self.say(
            f"{self._name}: {accuracy} (best {summary['best_val_accuracy']:.4f})"
            f"  {clock(summary['seconds'])}  ETA {self._remaining()}"
        )

    def _show_epoch(self, done: float, epoch: int, text: str = "") -> None:
        of = self._experiment.config.train.epochs
        work = done * epoch_work(self._experiment)
        self.show(work, f"{self._name} epoch {epoch}/{of}{text}")

    def _remaining(self) -> str:
        here = self._done - self._skipped
        if here <= 0:
            return "?"
        elapsed = time.perf_counter() - self._started
        return clock(elapsed / here * (self._total - self._done))
