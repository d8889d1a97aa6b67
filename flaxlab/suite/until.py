"""Adds seeds to the arms of a suite, one at a time, until each of them is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flaxlab.compare.command import read_comparison
from flaxlab.compare.procedures import ANYTIME, WELCH
from flaxlab.compare.results import NOT_COMPARED, UNDECIDED, Comparison
from flaxlab.errors import UsageError
from flaxlab.suite.plan import Plan
from flaxlab.suite.runs import SuiteRun


def for_any_time(plan: Plan, at_most: int) -> Plan:
    """Returns the plan with the test that stays valid when one looks after every seed.

    Args:
        plan: with the seeds to start with.
        at_most: number of seeds of an arm.

    Raises:
        UsageError: the suite's file asks for Welch's test.
    """
    if plan.test == WELCH:
        raise UsageError(
            f'--until=decided compares seed by seed, and the suite has test="{WELCH}"; leave one of'
            " them out"
        )
    return replace(plan, test=ANYTIME, at_most=at_most)


def run_until_decided(
    possible: Sequence[SuiteRun],
    begun: Sequence[SuiteRun],
    workdir: Path,
    do: Callable[[Sequence[SuiteRun]], dict[Path, str]],
    say: Callable[[str], None],
) -> dict[Path, str]:
    """Does one more run of each undecided arm, and of the baseline, until none is left.

    Only verdicts on arms count: claims and effects are judged by the runs that are there then.

    All arms take their seeds in the same order, so that it does not matter which arm comes first,
    or whether the command was stopped and started again.

    Args:
        possible: the runs that may be done, arm by arm, the baseline's first.
        begun: those that every arm has, and that should have ended.
        workdir: folder of the suite, with the runs that are finished.
        do: does some runs, see `do_runs`.
        say: prints a line.

    Returns:
        {run directory: reason} for the runs that failed. After a failure that is not the network's,
        no further runs are begun.

    Raises:
        UsageError: the runs cannot be compared.
    """
    reasons: dict[Path, str] = {}
    following = list(begun)
    decided: set[str] = set()
    while True:
        comparison = read_comparison([workdir])
        for arm in comparison.arms[1:]:
            if arm.word not in (UNDECIDED, NOT_COMPARED) and arm.name not in decided:
                decided.add(arm.name)
                say(f"{arm.name}: {arm.verdict}")
        ended = _ended(comparison)
        if any(run.seed not in ended[run.arm.name] for run in following):
            return reasons
        following = next_runs(possible, undecided(comparison), ended)
        if not following:
            return reasons
        say(f"one more seed: {'; '.join(map(str, following))}")
        reasons |= do(following)


def undecided(comparison: Comparison) -> list[str]:
    """Returns the undecided arms that more seeds may decide, so none that has never learned."""
    if not comparison.baseline.outcomes.learned:
        return []
    return [
        arm.name
        for arm in comparison.arms[1:]
        if arm.word in (UNDECIDED, NOT_COMPARED) and arm.outcomes.learned
    ]


def _ended(comparison: Comparison) -> dict[str, set[int]]:
    """Returns the seeds of each arm whose run says what its network does."""
    outcomes = {arm.name: arm.outcomes for arm in comparison.arms} | comparison.absent
    return {
        name: {*each.learned, *each.collapsed, *each.diverged} for name, each in outcomes.items()
    }


def next_runs(
    possible: Sequence[SuiteRun], arms: Sequence[str], ended: Mapping[str, set[int]]
) -> list[SuiteRun]:
    """Returns the next run of each arm, and the runs of the baseline that they are compared with.

    Args:
        possible: the runs that may be done, arm by arm, the baseline's first, seeds ascending.
        arms: names of the arms that need a run.
        ended: seeds that have been run, by arm.
    """
    left = [run for run in possible if run.seed not in ended.get(run.arm.name, ())]
    following: dict[str, SuiteRun] = {}
    for run in left:
        if run.arm.name in arms:
            following.setdefault(run.arm.name, run)
    baseline, seeds = possible[0].arm.name, {run.seed for run in following.values()}
    shared = [run for run in left if run.arm.name == baseline and run.seed in seeds]
    return [*shared, *following.values()]
