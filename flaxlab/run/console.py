"""What a run prints on the terminal: a table of layers, a live bar, one line an epoch."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from flaxlab import config as configs
from flaxlab import models
from flaxlab.config import ConfigDict
from flaxlab.run.advice import penalised_paths, warnings
from flaxlab.run.hooks import whereabouts
from flaxlab.run.reporter import Reporter
from flaxlab.run.steps import StepRow
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Row


def print_experiment(
    console: Console, experiment: Experiment, baseline: ConfigDict, show: bool
) -> None:
    """Prints what is about to run, then warnings.

    Args:
        console: where to print.
        experiment: the experiment.
        baseline: config of the experiment that this one is compared with.
        show: print all of it even if `config.log.progress` is "none", which otherwise leaves only
            the warnings.
    """
    line = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    config = experiment.config
    if show or config.log.progress != "none":
        line(config.name, style="bold")
        for key, value in _description(experiment, baseline).items():
            line(f"  {key:<11} {value}")
        console.print(_layers(experiment))
        line("MFLOP: forward pass of one image, multiply and add counted as two", style="dim")
        penalised = ", ".join(penalised_paths(experiment))
        if penalised:
            line(f"penalised (L1 {config.loss.l1:g}, L2 {config.loss.l2:g}): {penalised}")
    for warning in warnings(experiment):
        line(f"warning: {warning}", style="yellow")


def _description(experiment: Experiment, baseline: ConfigDict) -> dict[str, Any]:
    config, splits = experiment.config, experiment.splits
    protocol = "test split"
    if splits.test is not None:
        protocol = f"holdout of {len(splits.validation):,}; test split scored once at the end"
    count, processes = experiment.devices.count, jax.process_count()
    devices = f"{count} x {jax.devices()[0].device_kind}"
    if processes > 1:
        devices += f" in {processes} processes"
    if count > 1:
        devices += f", {config.train.parallel}"
    changed = configs.meaningful_differences(baseline, config)
    heading = {"changes": f"to {baseline.name}"} if changed else {}
    return {
        "data": f"{experiment.dataset.title}: {experiment.dataset.origin}",
        "examples": f"{len(splits.train):,} training,"
        f" {len(splits.test or splits.validation):,} test",
        "validation": protocol,
        "training": f"epochs {config.train.epochs} of {experiment.steps_per_epoch} steps,"
        f" batch {config.train.batch_size}, {config.optimizer.name}"
        f" {config.optimizer.learning_rate:g}, seed {config.seed}, {configs.dtype_of(config)}",
        "devices": devices,
        **heading,
        **{f"  {path}": f"{old} -> {new}" for path, (old, new) in changed.items()},
    }


def _layers(experiment: Experiment) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    # Where the terminal is narrow, the settings take a second line, and nothing is cut off.
    table.add_column("layer", no_wrap=True)
    for name in ("kind", "settings", "output"):
        table.add_column(name)
    for name in ("parameters", "MFLOP"):
        table.add_column(name, justify="right")
    for row in experiment.layers:
        size = row.trainable + row.running
        table.add_row(
            row.path,
            row.kind,
            row.settings,
            " x ".join(map(str, row.shape)),
            f"{size:,}" if size else "",
            f"{row.flops / 1e6:,.1f}" if row.flops else "",
        )
    total = sum(row.flops for row in experiment.layers)
    table.add_section()
    empty = ("", "", "")
    parameters = models.count_parameters(experiment.layers)
    table.add_row("total", *empty, f"{parameters:,}", f"{total / 1e6:,.1f}")
    table.add_row("trainable", *empty, f"{models.count_trainable(experiment.layers):,}", "")
    return table


def print_result(console: Console, summary: dict[str, Any], workdir: Path) -> None:
    """Prints the accuracy in a run's summary, and where its report is."""
    line = f"validation accuracy {summary['final_val_accuracy']:.4f}"
    if "test_accuracy" in summary:
        line = f"test accuracy {summary['test_accuracy']:.4f} (epoch {summary['best_epoch']})"
    line += f"; report: {workdir / 'report.html'}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


class ConsoleProgress(Reporter):
    """Shows the progress of a run: a live bar during the epoch and a line after it."""

    def __init__(self, console: Console, style: str) -> None:
        """Prints to `console`; `style` is `config.log.progress`."""
        self._console = console
        self._lines = style != "none"
        self._bar: Progress | None = None
        if style == "bar" or (style == "auto" and console.is_terminal):
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[running]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
        self._task: TaskID | None = None

    def run_started(self, experiment: Experiment, epochs: int, steps: int) -> None:
        """Prints where an earlier start of the run stopped."""
        self._experiment = experiment
        self._epochs_before = epochs
        self._started = time.perf_counter()
        if (epochs or steps) and self._lines:
            self._console.print(f"resuming after {whereabouts(epochs, steps)}", highlight=False)
        if self._bar is not None:
            self._bar.start()

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Moves the bar."""
        if self._bar is None:
            return
        text = f"loss {running['loss']:.4f} accuracy {running['accuracy']:.4f}"
        if self._task is None:
            total = self._experiment.steps_per_epoch
            self._task = self._bar.add_task(
                f"epoch {epoch}", total=total, completed=step, running=text
            )
        else:
            self._bar.update(self._task, completed=step, running=text)

    def steps_written(self, rows: Sequence[StepRow]) -> None:
        """Does nothing: the bar shows the means of the epoch so far."""

    def epoch_done(self, row: Row) -> None:
        """Prints the line of the epoch."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        epochs = self._experiment.config.train.epochs
        each = (time.perf_counter() - self._started) / (row.epoch - self._epochs_before)
        penalty = f" penalty {row.penalty:.4f}" if row.penalty else ""
        line = (
            f"epoch {row.epoch:>{len(str(epochs))}}/{epochs}"
            f"  train loss {row.train_loss:.4f} accuracy {row.train_accuracy:.4f}{penalty}"
            f"  validation loss {row.val_loss:.4f} accuracy {row.val_accuracy:.4f}"
            f"  {row.images_per_second:,.0f} images/s"
            f"  ETA {clock(each * (epochs - row.epoch))}"
        )
        if self._lines:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def run_done(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()


def clock(seconds: float) -> str:
    """Returns a time as m:ss, or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
