"""What a reader should know before believing a comparison, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from flaxlab.compare.outcomes import Design
from flaxlab.compare.procedures import ANYTIME, WELCH
from flaxlab.compare.results import ComparedArm
from flaxlab.run.fingerprint import TRACERS

_NO_PLAN = (
    "No single suite says how many runs were planned: runs that failed and were removed, or seeds"
    " that were tried and left out, cannot be seen here."
)
_LOOKING = (
    "If you look at the results before adding seeds, you will find differences that are not there"
    " more often than 5% of the time."
)


def cautions(arms: Sequence[ComparedArm], design: Design) -> list[str]:
    """Returns what speaks against taking the arms' figures for more than they are."""
    runs = [run for arm in arms for run in arm.runs.values()]
    notes = [] if design.seeds else [_NO_PLAN]
    for key, what in (("device", "devices"), ("versions", "versions of the software")):
        if len({str(run.summary[key]) for run in runs}) > 1:
            notes.append(f"The runs were made with different {what}.")
    for arm in arms:
        if _made_by_different_code(arm):
            notes.append(f"The runs of {arm.name} were made by different code: see fingerprints.")
    if any(run.departures is None for run in runs):
        notes.append(
            "Runs of an older version do not say whether they have the protocol of their"
            " experiment file."
        )
    single = [arm.name for arm in arms if len(arm.runs) == 1]
    if single:
        notes.append(f"One seed only, so no interval and no test: {', '.join(single)}.")
    for arm in arms[1:]:
        pairs = arm.difference.estimate.count if arm.difference else 0
        most = max(len(arm.outcomes.learned), len(arms[0].outcomes.learned))
        if 0 < pairs < most and design.test != WELCH:
            notes.append(
                f"{arm.name} has {pairs} of {most} seeds in common with {arms[0].name}: only these"
                " count for the difference, and all for the accuracies."
            )
    extra = {seed for arm in arms for seed in arm.runs} - set(design.seeds)
    if design.test == ANYTIME:
        pass  # its seeds may be added at will
    elif design.looks:
        counts = ", ".join(map(str, design.looks))
        notes.append(f"Seeds were added after the arms had been compared with {counts}. {_LOOKING}")
    elif design.seeds and extra:
        names = ", ".join(map(str, sorted(extra)))
        notes.append(f"The suite did not plan seed {names}. {_LOOKING}")
    if len({tuple(run.summary["classes"]) for run in runs}) > 1:
        notes.append("The arms have different classes: the pictures of the classes are left out.")
    return notes


def _made_by_different_code(arm: ComparedArm) -> bool:
    """Returns whether runs computed different things, where the same versions made them."""
    known: dict[str, set[str]] = {}
    for run in arm.runs.values():
        if "fingerprints" in run.summary:
            versions = {key: run.summary["versions"].get(key) for key in TRACERS}
            known.setdefault(str(versions), set()).add(str(run.summary["fingerprints"]))
    return any(len(found) > 1 for found in known.values())
