"""Runs a suite from Python, and shows what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxlab.command_line import CommandParser
from flaxlab.compare import pictures, tables
from flaxlab.compare.command import read_comparison
from flaxlab.compare.results import Comparison
from flaxlab.compare.spreadsheet import to_rows
from flaxlab.config.configure import find_experiment
from flaxlab.notebook.pictures import Picture
from flaxlab.notebook.shown import Page, link, table
from flaxlab.suite.command import run
from flaxlab.suite.options import add_options, read_options


@dataclass(frozen=True)
class Compared:
    """The arms of a comparison; a notebook shows their table with the verdicts.

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
    suite: str | Path,
    workdir: str | Path | None,
    seeds: int | None,
    sweep: Mapping[str, Sequence[Any]],
    overrides: Mapping[str, Any],
) -> SuiteRuns:
    """See `flaxlab.run_suite`."""
    given = {"workdir": workdir, "seeds": seeds}
    arguments = [
        f"--config={find_experiment(suite) if sweep else suite}",
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
        *(f"--sweep.{path}={','.join(map(str, values))}" for path, values in sweep.items()),
        *(f"--config.{path}={value}" for path, value in overrides.items()),
    ]
    parser = CommandParser(prog="python -m flaxlab.suite", allow_abbrev=False)
    add_options(parser)
    return SuiteRuns(run(read_options(parser, arguments)))
