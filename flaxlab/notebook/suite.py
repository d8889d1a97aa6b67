"""Runs a suite from Python, and shows what comes of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from flaxlab.command_line import CommandParser, open_console
from flaxlab.compare import pictures, tables
from flaxlab.compare.command import print_comparison, read_comparison
from flaxlab.compare.results import Comparison
from flaxlab.compare.spreadsheet import to_rows
from flaxlab.config.configure import (
    ExperimentConfig,
    as_overrides,
    to_options,
)
from flaxlab.config.find import find_experiment, find_suite
from flaxlab.config.read import load_experiment
from flaxlab.errors import UsageError
from flaxlab.files import to_path
from flaxlab.notebook.pictures import Picture
from flaxlab.notebook.shown import Page, link, table
from flaxlab.suite.command import run
from flaxlab.suite.options import add_options, read_options
from flaxlab.suite.sweeps import parse_sweep


@dataclass(frozen=True)
class Compared:
    """The arms of a comparison: printed as the command does, and in a notebook as a table.

    Attributes:
        comparison: all that was found out.
        page: comparison.html, which shows all of it.
    """

    comparison: Comparison
    page: Page

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row for each arm, the baseline's first: shares, not percent, as in comparison.csv.

        `pandas.DataFrame(compared.table)` makes a table of them.
        """
        return to_rows(self.comparison)

    def plot(self) -> Picture:
        """Returns the picture of the accuracy of every seed of every arm."""
        return Picture(pictures.dots(self.comparison.arms))

    def __repr__(self) -> str:
        text = io.StringIO()
        print_comparison(open_console(file=text), self.comparison)
        return f"{text.getvalue()}comparison: {self.page.path}"

    def _repr_html_(self) -> str:
        found = tables.accuracy_table(self.comparison)
        rows = [[cell.line for cell in row] for row in found.rows]
        return table(found.header, rows) + link(self.page.path)


@dataclass(frozen=True)
class SuiteRuns:
    """The runs of a suite, which `flaxlab.open_run` opens one by one: folder / ARM / seed_N.

    Attributes:
        folder: the folder of the suite.
    """

    folder: Path

    def compare(self) -> Compared:
        """Returns the comparison of the finished runs, as `python -m flaxlab.compare` makes it."""
        return Compared(read_comparison([self.folder]), self.report())

    def report(self) -> Page:
        """Returns the page of the comparison, as the suite has last written it."""
        return Page(self.folder / "comparison.html")


def run_suite(
    suite: str | Path | ConfigDict,
    workdir: str | Path | None,
    seeds: int | None,
    sweep: Mapping[str, Sequence[Any]] | None,
    overrides: Mapping[str, Any],
) -> SuiteRuns:
    """See `flaxlab.run_suite`."""
    if {"data", "class_names"} & overrides.keys():
        raise UsageError(
            "a suite takes no arrays, since its runs are also made by other processes; save them by"
            " np.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...) and give"
            ' **{"data.name": "npz", "data.file": FILE}'
        )
    sweeps = _sweep_options(sweep)
    file, changes = _experiment(suite) if sweeps else (_suite(suite), [])
    folder = [] if workdir is None else [f"--workdir={to_path(workdir, 'workdir')}"]
    count = [] if seeds is None else [f"--seeds={seeds}"]
    arguments = [f"--config={file}", *folder, *count, *sweeps, *changes, *to_options(overrides)]
    parser = CommandParser(prog="python -m flaxlab.suite", allow_abbrev=False)
    add_options(parser)
    return SuiteRuns(run(read_options(parser, arguments)))


def _suite(given: str | Path | ConfigDict) -> Path:
    if isinstance(given, ConfigDict):
        raise UsageError("a config is an experiment, and a suite of it needs sweep={FIELD: values}")
    return find_suite(given)


def _experiment(given: str | Path | ConfigDict) -> tuple[Path, list[str]]:
    """Returns the file of an experiment, and the options that make a config of it."""
    if not isinstance(given, ConfigDict):
        return find_experiment(given), []
    file = given.file if isinstance(given, ExperimentConfig) else None
    changes = None if file is None else as_overrides(load_experiment(file), given)
    if file is None or changes is None:
        raise UsageError(
            "a sweep takes a config that options can make of an experiment's file; write this one"
            " into a file, and give its path"
        )
    return file, changes


def _sweep_options(sweep: Mapping[str, Sequence[Any]] | None) -> list[str]:
    if not isinstance(sweep, Mapping | None):
        raise UsageError(
            f"sweep is of the type {type(sweep).__name__}; expected {{dotted path: values}}"
        )
    return [_sweep_option(path, values) for path, values in (sweep or {}).items()]


def _sweep_option(path: str, values: Any) -> str:
    found = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        raise UsageError(
            f"the values of {path} in sweep are of the type {type(values).__name__}; expected a"
            " list of two or more"
        )
    texts = [to_options({path: value})[0].partition("=")[2] for value in found]
    option = f"--sweep.{path}={','.join(texts)}"
    if len(parse_sweep(option)[1]) != len(texts):
        raise UsageError(f"a value of {path} in sweep has a comma: {option}; give a tuple instead")
    return option
