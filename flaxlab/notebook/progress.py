"""The progress of a run in the output of a notebook's cell: a bar above a line for each epoch."""

from __future__ import annotations

import html
from typing import Any

from rich.console import Console

from flaxlab.run.console import ConsoleProgress
from flaxlab.run.reporter import Reporter
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Row


def show_progress(console: Console, style: str, in_notebook: bool) -> Reporter:
    """Returns what shows the progress of a run here.

    Args:
        console: where lines are printed.
        style: `config.log.progress`.
        in_notebook: whether the outputs of cells can show a bar.
    """
    if in_notebook and style in ("auto", "bar"):
        return NotebookProgress(console)
    return ConsoleProgress(console, style)


class NotebookProgress(ConsoleProgress):
    """Prints a line for each epoch, and moves a bar, which is removed at the end of the run.

    IPython shows the bar: those of Rich and tqdm need ipywidgets.
    """

    def __init__(self, console: Console) -> None:
        """Prints to `console`, whose output the cell shows."""
        super().__init__(console, "lines")
        self._handle: Any = None

    def run_started(self, experiment: Experiment, epochs: int, steps: int) -> None:
        """Shows an empty bar."""
        from IPython.display import HTML, display

        super().run_started(experiment, epochs, steps)
        self._handle = display(HTML(""), display_id=True)
        self._show("starting", epochs, 0)

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Moves the bar."""
        text = f"loss {running['loss']:.4f} accuracy {running['accuracy']:.4f}"
        self._show(f"epoch {epoch}, step {step}: {text}", epoch - 1, step)

    def epoch_done(self, row: Row) -> None:
        """Prints the line of the epoch, and moves the bar."""
        super().epoch_done(row)
        self._show(f"epoch {row.epoch} done", row.epoch, 0)

    def run_done(self) -> None:
        """Removes the bar."""
        from IPython.display import HTML

        self._handle.update(HTML(""))

    def _show(self, text: str, epochs: int, steps: int) -> None:
        from IPython.display import HTML

        per_epoch = self._experiment.steps_per_epoch
        total = self._experiment.config.train.epochs * per_epoch
        bar = f'<progress value="{epochs * per_epoch + steps}" max="{total}"></progress>'
        self._handle.update(HTML(f"{bar} {html.escape(text)}"))
