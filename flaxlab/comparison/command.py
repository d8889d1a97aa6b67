"""What the command `flaxlab.compare` does, once its options are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flaxlab.comparison import page
from flaxlab.comparison.comparison import compare
from flaxlab.comparison.results import Comparison
from flaxlab.comparison.runs import find_runs, require_one_protocol
from flaxlab.comparison.tables import accuracy_table, verdict_text
from flaxlab.errors import UsageError
from flaxlab.suites.definition import SUITE_FILE


def compare_folders(
    console: Console,
    folders: Sequence[Path],
    to: Path,
    baseline: str | None = None,
    vary: Sequence[str] = (),
) -> Comparison:
    """Compares the finished runs in some folders and writes comparison.* to `to`.

    A folder that a suite made says which arm is the baseline and what was swept.

    Args:
        console: where to print the verdicts.
        folders: with runs at any depth.
        to: folder to write to.
        baseline: name of the arm to compare with; None: see `compare`.
        vary: fields of the protocol in which the runs may differ.

    Raises:
        UsageError: the runs cannot be compared.
    """
    runs, unfinished = find_runs(folders)
    suites = [suite for suite in map(_read_suite, folders) if suite is not None]
    require_one_protocol(runs, [*vary, *(field for suite in suites for field in suite["vary"])])
    if baseline is None and len(suites) == 1:
        known = {run.config.name for run in runs}
        baseline = suites[0]["baseline"] if suites[0]["baseline"] in known else None
    comparison = compare(
        runs,
        baseline,
        title=suites[0]["name"] if len(suites) == 1 else " and ".join(f.name for f in folders),
        notes=unfinished,
        command=suites[0]["command"] if len(suites) == len(folders) == 1 else None,
        order=[arm for suite in suites for arm in suite["arms"]],
    )
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--to={to} cannot be made ({error})") from error
    written = page.write(comparison, to)
    _print(console, comparison)
    console.print(f"comparison: {written}", highlight=False, markup=False, soft_wrap=True)
    return comparison


def _read_suite(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / SUITE_FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{folder / SUITE_FILE} cannot be read ({error}); remove it") from error


def _print(console: Console, comparison: Comparison) -> None:
    for note in comparison.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    if comparison.departures:
        changed = ", ".join(f"{path}={new}" for path, (_, new) in comparison.departures.items())
        line = f"not the protocol of the experiment files: {changed}"
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    table = accuracy_table(comparison)
    shown = [0, 2, 4, 8]
    printed = Table(*(table.header[index] for index in shown), box=None, pad_edge=False)
    for row in table.rows:
        printed.add_row(*(row[index].text for index in shown))
    console.print(printed)
    for judged in comparison.tested_claims:
        line = f"claim {judged.number}, {verdict_text(judged)}: {judged.claim.text}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
