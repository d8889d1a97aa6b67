"""The verdict on one arm: better, worse, equivalent or undecided, and of which runs."""

from __future__ import annotations

from flaxlab.compare.outcomes import Design, Outcomes
from flaxlab.compare.results import (
    BETTER,
    EQUIVALENT,
    NOT_COMPARED,
    UNDECIDED,
    WORSE,
    Difference,
)
from flaxlab.texts import count_text


def arm_verdict(difference: Difference | None, design: Design) -> str:
    """Returns the verdict on an arm in a word.

    Args:
        difference: to the baseline; None if there is none.
        design: says which differences count as none.
    """
    if difference is None:
        return NOT_COMPARED
    low, high = difference.estimate.low, difference.estimate.high
    if low is not None and high is not None and (low > 0 or high < 0):
        return BETTER if difference.estimate.mean > 0 else WORSE
    return EQUIVALENT if _is_small(difference, design) else UNDECIDED


def _is_small(difference: Difference, design: Design) -> bool:
    low, high = difference.inner.low, difference.inner.high
    if low is None or high is None:
        return False
    return -design.equivalent_within < low and high < design.equivalent_within


def describe_verdict(
    difference: Difference | None, design: Design, outcomes: Outcomes, baseline: Outcomes
) -> str:
    """Returns the verdict on an arm in a sentence.

    Args:
        difference: to the baseline; None if there is none.
        design: says which differences count as none.
        outcomes: what became of the arm's runs.
        baseline: what became of the baseline's.
    """
    losses = describe_losses(outcomes), baseline.lost and f"baseline: {describe_losses(baseline)}"
    lost = "; ".join(filter(None, losses))
    if difference is None:
        text = "no seed in which both it and the baseline learned"
        return f"{text}; {lost}" if lost else text
    text = _describe(difference, design)
    return f"of the runs that learned: {text}; {lost}" if lost else text


def describe_losses(outcomes: Outcomes) -> str:
    """Says how many runs of an arm learned if not all did, and what the others did."""
    if not outcomes.lost:
        return ""
    return f"{len(outcomes.learned)} of {outcomes.planned} runs learned ({outcomes.lost})"


def _describe(difference: Difference, design: Design) -> str:
    word, estimate = arm_verdict(difference, design), difference.estimate
    at, seen = f"at n = {estimate.count}", f"{estimate.mean * 100:+.1f}"
    if estimate.low is None or estimate.high is None:
        test = " and no test" if difference.p is None else ""
        return f"undecided: {seen} points, {estimate.no_interval}{test}"
    within = f"within the {design.equivalent_within * 100:g} points that count as no difference"
    if word in (BETTER, WORSE):
        points = abs(estimate.mean) * 100
        text = f"{word} by {points:.1f}" if points >= 0.1 else f"{word} by {points:.2g}"
        small = _is_small(difference, design)
        return f"{text} points {at}, {within}" if small else f"{text} points {at}"
    if word == EQUIVALENT:
        return f"equivalent {at}: {seen} points, {within}"
    text = f"undecided {at}: {estimate.low * 100:+.1f} to {estimate.high * 100:+.1f} points"
    more = difference.more_seeds
    if not more:
        return text
    return f"{text}; detecting a difference of {seen} would take {count_text(more, 'more seed')}"
