"""Plans how many seeds a suite needs, by the spread of its finished runs or a stated one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flaxlab.claims import Statement
from flaxlab.compare.cells import Cell
from flaxlab.compare.cells import Table as CellTable
from flaxlab.compare.differences import unpaired_spread
from flaxlab.compare.outcomes import Design, outcomes_of
from flaxlab.compare.procedures import (
    MOST_SEEDS,
    POWER,
    WELCH,
    seeds_needed,
    smallest_detectable,
)
from flaxlab.compare.runs import Run, find_runs
from flaxlab.compare.statistics import LEVEL, cautious_spread
from flaxlab.config import LabReport
from flaxlab.config.read import load_lab_report
from flaxlab.errors import UsageError
from flaxlab.suite.plan import Plan


@dataclass(frozen=True)
class Pilot:
    """What runs that are there say about those to come.

    Attributes:
        pairs: number of seeds in which an arm and the baseline have learned, by arm.
        spread: standard deviation of a seed's difference to the baseline: the upper 80%
            confidence limit of the one that is pooled over the arms.
        hours: mean time of a run, by arm; arms without a run are left out.
    """

    pairs: Mapping[str, int]
    spread: float
    hours: Mapping[str, float]


def read_pilot(plan: Plan, workdir: Path) -> Pilot | None:
    """Returns what the finished runs of a suite say.

    Returns:
        The pilot; None if no arm shares two seeds with the baseline.

    Raises:
        UsageError: a run cannot be read.
    """
    if not list(workdir.glob("*/*/summary.json")):
        return None
    runs, _ = find_runs([workdir])
    design = Design(**plan.rules)
    finished: dict[str, dict[int, Run]] = {arm.name: {} for arm in plan.arms}
    for run in runs:
        if run.config.name in finished:
            finished[run.config.name][run.seed] = run
    by_arm = {
        name: {seed: found[seed] for seed in outcomes_of(found, (), (), design).learned}
        for name, found in finished.items()
    }
    baseline, *others = by_arm.values()
    groups = [
        [design.score(arm[seed]) - design.score(baseline[seed]) for seed in arm.keys() & baseline]
        for arm in others
    ]
    step = design.step(runs[0])
    # Differences to the same baseline.
    spread = cautious_spread(groups, step, correlation=0.5)
    if plan.test == WELCH:
        scores = [[design.score(run) for run in found.values()] for found in by_arm.values()]
        spread = unpaired_spread(scores[1:], scores[:1], step)
    if spread is None:
        return None
    names = [arm.name for arm in plan.arms[1:]]
    return Pilot(
        pairs=dict(zip(names, map(len, groups), strict=True)),
        spread=spread,
        hours={
            name: float(np.mean([run.scores.seconds for run in found.values()])) / 3600
            for name, found in by_arm.items()
            if found
        },
    )


def describe_power(plan: Plan, pilot: Pilot) -> str:
    """Says in one line what the planned seeds can show."""
    count, arms = len(plan.seeds), len(plan.arms) - 1
    runs = sum(pilot.pairs.values())
    basis = f"by a spread of up to {pilot.spread * 100:.2f} points in {runs} pairs of finished runs"
    if count < 2:
        return f"one seed shows no difference ({basis})"
    smallest = smallest_detectable(pilot.spread, count, LEVEL / arms, test=plan.test)
    if smallest is None:
        return f"{count} seeds show no difference, however large ({basis})"
    return f"{count} seeds show differences from {smallest * 100:.1f} points ({basis})"


def print_seeds(console: Console, plan: Plan, pilot: Pilot | None, points: float) -> None:
    """Prints how many seeds each arm and each claim needs, and the time that they take.

    Args:
        console: where to print.
        plan: the suite.
        pilot: the spread to plan with.
        points: a difference that is to be found with a power of 80%.

    Raises:
        UsageError: there is no pilot.
    """
    if pilot is None:
        raise UsageError(
            "--plan needs the spread of differences between runs: two finished seeds of an arm and"
            " the baseline in --workdir, or --spread=POINTS"
        )
    wanted = points / 100
    said = {arm.name: load_lab_report(arm.file) for arm in plan.arms}
    for table in (_arms_table(plan, pilot, wanted, said), _claims_table(plan, pilot, wanted, said)):
        if table.rows:
            printed = Table(*table.header, box=None, pad_edge=False)
            for row in table.rows:
                printed.add_row(*(escape(cell.line) for cell in row))
            console.print(printed)
    line = (
        f"seeds that find a true difference of {points:g} points with a power of 80%, at a spread"
        f" of {pilot.spread * 100:.2f} points, after the correction for all arms or claims; for a"
        " claim, all of its parts together"
    )
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _arms_table(
    plan: Plan, pilot: Pilot, wanted: float, said: Mapping[str, LabReport | None]
) -> CellTable:
    baseline, level = plan.baseline, LEVEL / (len(plan.arms) - 1)
    base = said[baseline.name]
    seeds = seeds_needed(wanted, pilot.spread, level, test=plan.test)
    rows = []
    for arm in plan.arms[1:]:
        hours, report = Cell("", None), said[arm.name]
        if seeds and arm.name in pilot.hours and baseline.name in pilot.hours:
            needed = seeds * (pilot.hours[arm.name] + pilot.hours[baseline.name])
            hours = Cell(f"{needed:.1f}", needed)
        reported = Cell("", None)
        if report is not None and base is not None and plan.experiment is None:
            effect = report.final_accuracy - base.final_accuracy
            reported = _seeds_cell(
                seeds_needed(effect, pilot.spread, level, test=plan.test), f"{effect * 100:+.2f}"
            )
        rows.append([Cell(arm.name, arm.name), _seeds_cell(seeds), hours, reported])
    header = (
        "arm",
        "seeds",
        "hours, baseline included",
        "seeds for the lab report's difference",
    )
    known = any(row[-1].value is not None for row in rows)
    shown = len(header) if known else -1
    return CellTable(header[:shown], [row[:shown] for row in rows])


def _claims_table(
    plan: Plan, pilot: Pilot, wanted: float, said: Mapping[str, LabReport | None]
) -> CellTable:
    rows: list[Sequence[Cell]] = []
    for number, claim in plan.claims.items():
        parts = len(claim.statements)
        about = [
            each
            for each in claim.statements
            if isinstance(each, Statement) and each.quantity == plan.outcome
        ]
        # Arms that differ by what is wanted, within a part's margin.
        stated = [abs(each.margin - wanted) if each.margin else wanted for each in about]
        reported = [
            effect for each in about if (effect := _reported_effect(each, said)) is not None
        ]
        # All parts have to be found: each with a power that leaves 80% for the claim.
        power, level = 1 - (1 - POWER) / parts, LEVEL / len(plan.claims)
        needed = partial(
            seeds_needed, spread=pilot.spread, level=level, power=power, test=plan.test
        )
        cells = [_claim_cell(effects, parts, needed) for effects in (stated, reported)]
        hours = Cell("", None)
        if isinstance(cells[0].value, int) and all(arm in pilot.hours for arm in claim.arms):
            taken = cells[0].value * sum(pilot.hours[arm] for arm in claim.arms)
            hours = Cell(f"{taken:.1f}", taken)
        cells.insert(1, hours)
        rows.append([Cell(f"claim {number}", number), *cells, Cell(claim.text, "")])
    header = ["claim", "seeds", "hours", "seeds by the lab report's numbers", "what it says"]
    if not any(said.values()):
        header, rows = [*header[:3], header[4]], [[*row[:3], row[4]] for row in rows]
    return CellTable(header, rows)


def _reported_effect(statement: Statement, said: Mapping[str, LabReport | None]) -> float | None:
    """Returns by how much a part holds by the report's numbers; None if it does not have both."""
    sides = [
        said.get(side) if isinstance(side, str) else side
        for side in (statement.larger, statement.smaller)
    ]
    larger, smaller = (
        side.final_accuracy if isinstance(side, LabReport) else side for side in sides
    )
    if larger is None or smaller is None:
        return None
    return larger + statement.margin - smaller


def _claim_cell(
    effects: Sequence[float], parts: int, needed: Callable[[float], int | None]
) -> Cell:
    """Returns the seeds for those of a claim's parts whose effects are known."""
    if not effects:
        return Cell("not planned", None)
    note = "" if len(effects) == parts else "for its accuracies alone"
    if min(effects) <= 0:
        return Cell("it would not hold", None, note)
    # The smallest effect takes the most seeds.
    return _seeds_cell(needed(min(effects)), note)


def _seeds_cell(seeds: int | None, note: str = "") -> Cell:
    if seeds is None:
        return Cell(f"more than {MOST_SEEDS:,}", MOST_SEEDS, note)
    return Cell(str(seeds), seeds, note)
