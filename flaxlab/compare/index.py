"""A page of all runs in some folders, whatever their protocols."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from rich.console import Console

from flaxlab import files
from flaxlab.compare.cells import Cell, Table, points_cell
from flaxlab.compare.runs import Run, Unfinished, find_runs
from flaxlab.config import ConfigDict
from flaxlab.files import make_folder
from flaxlab.pages.render import render
from flaxlab.pages.sparkline import sparkline
from flaxlab.texts import count_text

_HEADER = (
    "run",
    "validation accuracy",
    "reported accuracy, %",
    "best epoch, %",
    "training, %",
    "cross entropy, nats",
    "epochs",
    "experiment",
    "seed",
    "data",
    "parameters",
    "seconds",
    "other than in its file",
)


def index_runs(console: Console, folders: Sequence[Path], to: Path) -> None:
    """Writes index.html to `to`, and prints where it is.

    Args:
        console: where to print.
        folders: with runs at any depth.
        to: folder to write to; links lead from there to the reports of the runs.

    Raises:
        UsageError: there is no finished run, or one cannot be read.
    """
    runs, unfinished = find_runs(folders)
    make_folder(to, "--to")
    page = to / "index.html"
    files.write_text(page, _page(runs, unfinished, folders, to))
    console.print(f"index: {page}", highlight=False, markup=False, soft_wrap=True)


def _page(
    runs: Sequence[Run], unfinished: Sequence[Unfinished], folders: Sequence[Path], to: Path
) -> str:
    rows = [*map(_row, runs), *map(_unfinished_row, unfinished)]
    places = [*(run.folder for run in runs), *(run.folder for run in unfinished)]
    names = [_name(place, folders) for place in places]
    reports = [place / "report.html" for place in places]
    number = count_text(len(runs), "finished run")
    left = f", and {count_text(len(unfinished), 'run')} not finished" if unfinished else ""
    return render(
        "index.html.j2",
        {},
        title=" and ".join(folder.resolve().name for folder in folders),
        summary=f"{number}{left}.",
        table=Table(
            _HEADER,
            [[Cell(name, name), *row] for name, row in zip(names, rows, strict=True)],
        ),
        links=[_link(path, to) if path.is_file() else "" for path in reports],
        curves=[*_curves(runs), *("" for _ in unfinished)],
    )


def _name(place: Path, folders: Sequence[Path]) -> str:
    """Returns a run directory below the folder it was found in; with that, if there are several."""
    whole = place.resolve()
    folder = next(each.resolve() for each in folders if whole.is_relative_to(each.resolve()))
    alone = len(folders) == 1 and whole != folder
    return whole.relative_to(folder if alone else folder.parent).as_posix()


def _link(path: Path, to: Path) -> str:
    return quote(Path(os.path.relpath(path.resolve(), to.resolve())).as_posix())


def _curves(runs: Sequence[Run]) -> list[Markup]:
    """Returns the validation accuracy of each run over its epochs, all on one scale."""
    curves = [run.history["val_accuracy"].tolist() for run in runs]
    values = [value for curve in curves for value in curve]
    low, high, steps = min(values), max(values), max(map(len, curves))
    return [
        sparkline(curve, low, high, steps, f"from {curve[0]:.1%} to {curve[-1]:.1%}")
        for curve in curves
    ]


def _row(run: Run) -> list[Cell]:
    scores, parameters = run.scores, run.summary["parameters_total"]
    changed = "; ".join(f"{path}={value}" for path, (_, value) in (run.departures or {}).items())
    return [
        Cell("", scores.final_accuracy),
        points_cell(scores.accuracy),
        points_cell(scores.best_accuracy),
        points_cell(scores.train_accuracy),
        Cell(f"{scores.cross_entropy:.4f}", scores.cross_entropy),
        Cell(str(len(run.history["epoch"])), len(run.history["epoch"])),
        *_what(run.config, run.summary["dataset"]),
        Cell(f"{parameters:,}", parameters),
        Cell(f"{scores.seconds:,.0f}", scores.seconds),
        Cell(changed, changed),
    ]


def _unfinished_row(run: Unfinished) -> list[Cell]:
    state = {"divergence": "diverged", "error": "failed"}.get(run.ended_by, "not finished")
    empty = Cell("", None)
    return [
        Cell(state, None),
        *[empty] * 4,
        Cell(str(run.epochs), run.epochs),
        *_what(run.config, run.config.data.name),
        *[empty] * 3,
    ]


def _what(config: ConfigDict, data: str) -> list[Cell]:
    return [Cell(config.name, config.name), Cell(str(config.seed), config.seed), Cell(data, data)]
