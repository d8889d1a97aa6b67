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


def judge_arm(
    difference: Difference | None,
    design: Design,
    outcomes: Outcomes,
    baseline: Outcomes,
) -> tuple[str, str]:
    """Returns the verdict on an arm in a word and in a sentence.

    Args:
        difference: to the baseline; None if there is none.
        design: says which differences count as none.
        outcomes: what became of the arm's runs.
        baseline: what became of the baseline's.
    """
    lost = "; ".join(
        text
        for text in (
            describe_losses(outcomes),
            baseline.lost and f"baseline: {describe_losses(baseline)}",
        )
        if text
    )
    if difference is None:
        text = "no seed in which both it and the baseline learned"
        return NOT_COMPARED, f"{text}; {lost}" if lost else text
    word, text = _words(difference, design)
    return word, f"of the runs that learned: {text}; {lost}" if lost else text


def describe_losses(outcomes: Outcomes) -> str:
    """Says how many runs of an arm learned if not all did, and what the others did."""
    if not outcomes.lost:
        return ""
    return f"{len(outcomes.learned)} of {outcomes.planned} runs learned ({outcomes.lost})"


def _words(difference: Difference, design: Design) -> tuple[str, str]:
    mean, low, high = difference.estimate.mean, difference.estimate.low, difference.estimate.high
    if low is None or high is None:
        return UNDECIDED, f"undecided: {mean * 100:+.1f} points, one seed: no interval and no test"
    at, region = f"at n = {difference.estimate.count}", design.equivalent_within
    inner = difference.inner
    assert inner.low is not None
    assert inner.high is not None
    small = -region < inner.low and inner.high < region
    within = f"within the {region * 100:g} points that count as no difference"
    if low > 0 or high < 0:
        word = BETTER if mean > 0 else WORSE
        points = f"{abs(mean) * 100:.1f}" if abs(mean) >= 0.001 else f"{abs(mean) * 100:.2g}"
        text = f"{word} by {points} points {at}"
        return word, f"{text}, {within}" if small else text
    if small:
        return EQUIVALENT, f"equivalent {at}: {mean * 100:+.1f} points, {within}"
    text = f"undecided {at}: {low * 100:+.1f} to {high * 100:+.1f} points"
    more = difference.more_seeds
    if not more:
        return UNDECIDED, text
    return (
        UNDECIDED,
        f"{text}; {more} more {'seed' if more == 1 else 'seeds'} would show {mean * 100:+.1f}",
    )
