"""How the numbers of a comparison were made, as the checklists of conferences ask for it."""

from __future__ import annotations

from flaxlab.compare.outcomes import Design
from flaxlab.compare.procedures import ANYTIME, PAIRED, WELCH
from flaxlab.compare.results import Comparison
from flaxlab.compare.rules import OUTCOMES
from flaxlab.compare.runs import computed_on
from flaxlab.compare.statistics import LEVEL
from flaxlab.texts import count_text

_TESTS = {
    PAIRED: "Two-sided paired t test",
    WELCH: "Two-sided, unpaired t test (Welch)",
    ANYTIME: "Two-sided paired t test that is valid at any time (arXiv 2310.03722)",
}


def sheet(comparison: Comparison) -> dict[str, str]:
    """Returns {topic: sentence}: samples, randomness, choices, tests, exclusions, machines.

    The topics are those of the NeurIPS paper checklist (2021) and of Pineau and others,
    "Improving Reproducibility in Machine Learning Research", arXiv 2003.12206.
    """
    design, arms = comparison.design, comparison.arms
    runs = [run for arm in arms for run in arm.runs.values()]
    first = comparison.baseline.first
    holdout = first.config.data.validation == "holdout"
    left_out = [f"{arm.name}: {arm.outcomes.lost}" for arm in arms if arm.outcomes.lost]
    left_out += [f"{name}: {each.lost}" for name, each in comparison.absent.items()]
    machines = {computed_on(run) for run in runs}
    rule = "fixed by the suite" if design.seeds else "flaxlab's own"
    return {
        "Runs": f"{len(runs)} finished, of {len(arms)} arms; planned: {_planned(design)}.",
        "What is random": "A run's seed draws the initial values, the order of the examples and"
        " the dropout masks. The data split is the same for all runs"
        + (" of a seed." if holdout else ".")
        + ("" if design.test == WELCH else " Arms are paired by seed."),
        "Outcome": "Accuracy on the "
        + (
            "test split, at the epoch that a holdout of the training split chose."
            if holdout
            else "test split after the last epoch. flaxlab chose nothing on it."
        )
        + _judged_by(design)
        + " Other quantities are described, and tested only where a claim names them.",
        "Tests": f"{_TESTS[design.test]}, {count_text(comparison.comparisons, 'comparison')} with"
        f" {comparison.baseline.name}, family-wise error rate {LEVEL:.2f} by Bonferroni's"
        " correction. Tests of claims are described with the claims.",
        "Looks": _looks(design),
        "Left out of means and tests": "; ".join(left_out) or "None of the runs found here.",
        "Rules": f"Collapsed: does not exceed the accuracy of guessing by at least"
        f" {design.collapsed_margin:.0%} of the gap between guessing and 100% ({rule})."
        " Diverged: a loss or gradient was NaN or infinite. Failed: any other error."
        + (
            f" Equivalent: within {design.equivalent_within * 100:g} points."
            if design.equivalent_within
            else " No difference was declared too small to matter."
        ),
        "Machines": "; ".join(sorted(machines)) + ".",
        "Time": f"{sum(run.scores.seconds for run in runs) / 3600:.1f} hours of training.",
    }


def _planned(design: Design) -> str:
    if not design.seeds:
        return "not recorded"
    if design.at_most is None:
        return f"{len(design.seeds)} an arm"
    return f"{len(design.seeds)} an arm, then one at a time until decided, {design.at_most} at most"


def _judged_by(design: Design) -> str:
    if design.outcome == "accuracy":
        return ""
    return f" The arms are judged by the {OUTCOMES[design.outcome]}."


def _looks(design: Design) -> str:
    if design.test == ANYTIME:
        return "Seeds may be added after any comparison: the test allows it."
    if design.looks:
        return f"Seeds were added after comparisons with {', '.join(map(str, design.looks))}."
    return "No seeds were added after a comparison, as far as the suite knows."
