"""What the command `flaxlab.compare` does, once its options are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flaxlab.compare import page
from flaxlab.compare.claims_table import claim_verdict_text
from flaxlab.compare.comparison import compare
from flaxlab.compare.latex import to_latex
from flaxlab.compare.outcomes import Design
from flaxlab.compare.results import Comparison
from flaxlab.compare.runs import find_runs, require_one_protocol
from flaxlab.compare.spreadsheet import to_csv
from flaxlab.compare.suite_file import (
    SuiteRecord,
    changes_after_the_start,
    merge_claims,
    read_suite_file,
)
from flaxlab.compare.tables import accuracy_table, difference_title
from flaxlab.config.fields import require_fields
from flaxlab.errors import UsageError
from flaxlab.files import make_folder
from flaxlab.run.directory import SUITE_FILE


def compare_folders(
    console: Console,
    folders: Sequence[Path],
    to: Path,
    baseline: str | None = None,
    vary: Sequence[str] = (),
    form: str = "table",
    picture_form: str = "png",
) -> Comparison:
    """Compares the finished runs in some folders and writes comparison.* to `to`.

    Args:
        console: where to print `form`.
        folders: see `read_comparison`.
        to: folder to write to.
        baseline: see `read_comparison`.
        vary: see `read_comparison`.
        form: what to print: "table", with notes, verdicts and the path of the page, or nothing but
            "csv" or "latex".
        picture_form: see `page.write`.

    Raises:
        UsageError: the runs cannot be compared.
    """
    comparison = read_comparison(folders, baseline, vary)
    make_folder(to, "--to")
    written = page.write(comparison, to, picture_form)
    if form != "table":
        text = to_csv(comparison) if form == "csv" else to_latex(comparison)
        console.file.write(text)
        return comparison
    print_comparison(console, comparison)
    console.print(f"comparison: {written}", highlight=False, markup=False, soft_wrap=True)
    return comparison


def read_comparison(
    folders: Sequence[Path], baseline: str | None = None, vary: Sequence[str] = ()
) -> Comparison:
    """Returns the comparison of the finished runs in some folders.

    A folder that a suite made says which arm is the baseline, what was swept, and what is claimed.

    Args:
        folders: with runs at any depth.
        baseline: name of the arm to compare with; None: see `compare`.
        vary: fields of the protocol in which the runs may differ.

    Raises:
        UsageError: the runs cannot be compared.
    """
    require_fields(vary, "--vary")
    runs, unfinished = find_runs(folders)
    found = _find_suites(folders)
    suites = list(found.values())
    claims, remarks = merge_claims(suites)
    if not suites:
        remarks = ["No claims are judged: no suite.json in these folders says what they are."]
    for place, each in found.items():
        of_suite = [run for run in runs if run.folder.resolve().is_relative_to(place)]
        digests = {str(x.folder): x.summary["suite"] for x in of_suite if x.summary.get("suite")}
        remarks += changes_after_the_start(each, digests)
    vary = [*vary, *(field for suite in suites for field in suite.vary)]
    require_one_protocol(runs, vary)
    suite = suites[0] if len(suites) == 1 else None
    design = _common_rules(suites)
    if suite is not None:
        begun = {run.config.name for run in runs} | {each.config.name for each in unfinished}
        whole = any((folder / SUITE_FILE).is_file() for folder in folders)
        # Of arms that nobody asked for, none is missing.
        arms = tuple(arm for arm in suite.arms if whole or arm in begun)
        design = replace(suite.design, arms=arms)
        if baseline is None and suite.baseline in arms:
            baseline = suite.baseline
    return compare(
        runs,
        baseline,
        title=suite.name if suite else " and ".join(f.resolve().name for f in folders),
        unfinished=unfinished,
        design=design,
        notes=[
            *(note for suite in suites for note in suite.notes),
            *map(str, unfinished),
            *remarks,
        ],
        command=suite.command if suite else None,
        order=[arm for each in suites for arm in each.arms],
        vary=vary,
        claims=claims,
    )


def _common_rules(suites: Sequence[SuiteRecord]) -> Design:
    """Returns a design without arms and seeds, by which the runs of all suites can be judged.

    Raises:
        UsageError: the suites have different rules.
    """
    found = [Design(**{**suite.rules, "factors": {}}) for suite in suites]
    if any(rules != found[0] for rules in found):
        raise UsageError(
            f"the suites {' and '.join(suite.name for suite in suites)} judge their runs by"
            " different rules (collapsed_margin, equivalent_within, outcome or test); compare them"
            " one by one"
        )
    return found[0] if found else Design()


def _find_suites(folders: Sequence[Path]) -> dict[Path, SuiteRecord]:
    """Returns the suites that the runs in some folders are of, by their own folders.

    A folder may be that of a suite, of one of its arms or runs, or hold several suites.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        whole = folder.resolve()
        places = [
            whole,
            *list(whole.parents)[:2],
            *(file.parent for file in whole.rglob(SUITE_FILE)),
        ]
        found |= dict.fromkeys(place for place in places if (place / SUITE_FILE).is_file())
    records = {place: read_suite_file(place) for place in found}
    return {place: record for place, record in records.items() if record is not None}


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints the notes, the table of the arms, and the verdicts on arms and claims."""
    for note in comparison.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    if comparison.departures:
        line = f"not the protocol of the experiment files: {comparison.departures_text}"
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    table = accuracy_table(comparison)
    shown = ("arm", "runs that learned", "accuracy, % [95%]", difference_title(comparison.design))
    columns = [table.header.index(title) for title in shown]
    printed = Table(*(table.header[index] for index in columns), box=None, pad_edge=False)
    for row in table.rows:
        printed.add_row(*(escape(row[index].line) for index in columns))
    console.print(printed)
    lines = [f"{row[0].text}: {row[-1].text}" for row in table.rows]
    for judged in comparison.tested_claims:
        verdict = claim_verdict_text(judged)
        lines.append(f"claim {judged.number}, {verdict}: {judged.claim.text}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
