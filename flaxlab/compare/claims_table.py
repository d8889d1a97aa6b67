"""Claims as a table and as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from flaxlab.claims import QUANTITIES, Collapses
from flaxlab.compare.cells import Cell, Table, p_text
from flaxlab.compare.procedures import share_limits
from flaxlab.compare.verdicts import NOT_TESTED, JudgedClaim, Judgement, Verdict


def claims_table(claims: Sequence[JudgedClaim]) -> Table:
    """Each claim with its verdict, and each of its parts with its own."""
    rows = []
    for judged in claims:
        parts = "; ".join(part_texts(judged))
        text = f"{judged.claim.text} {judged.claim.note}".strip()
        rows.append(
            [
                Cell(str(judged.number), judged.number),
                Cell(text, text),
                Cell(claim_verdict_text(judged), judged.verdict.word),
                Cell(parts, parts),
            ]
        )
    return Table(("claim", "what it says", "verdict", "its parts"), rows)


def verdict_text(verdict: Verdict) -> str:
    """Writes a verdict with its p value."""
    return verdict.word if verdict.p is None else f"{verdict.word} (p {p_text(verdict.p)})"


def claim_verdict_text(judged: JudgedClaim) -> str:
    """Writes the verdict on a claim, and of which runs it is if not all of them learned."""
    text = verdict_text(judged.verdict)
    if not judged.lost:
        return text
    of = "no run that learned" if judged.verdict.word == NOT_TESTED else "of the runs that learned"
    return f"{text}, {of} ({'; '.join(judged.lost)})"


def part_texts(judged: JudgedClaim) -> list[str]:
    """Writes each part of a claim with its figures and its own verdict, in one line each."""
    return [
        f"{statement_text(judgement, judged.level, judged.test)}: {verdict_text(part)}"
        for judgement, part in zip(judged.judgements, judged.parts, strict=True)
    ]


def statement_text(judgement: Judgement, level: float, test: str) -> str:
    """Writes a part of a claim with the measured figures in one line.

    Args:
        judgement: the part.
        level: level of the test of a share, and so of the bound that is shown.
        test: one of `procedures.TESTS`.
    """
    statement = judgement.statement
    lost = f" ({'; '.join(judgement.lost)})" if judgement.lost else ""
    if isinstance(statement, Collapses):
        text = f"more than {statement.share:.0%} of the runs of {statement.arm} collapse"
        if judgement.share is None:
            return text + lost
        hits, count = judgement.share
        low, high = share_limits(test, hits, count, level)
        bound = f"at least {low:.0%}" if judgement.holds else f"at most {high:.0%}"
        return f"{text}: {hits} of {count} did, so {bound} do{lost}"
    quantity = QUANTITIES[statement.quantity]
    larger, smaller = _side(statement.larger), _side(statement.smaller)
    if statement.margin:
        larger += f" + {statement.margin * quantity.scale:g} {quantity.unit}"
    text = f"{quantity.words}: {larger} > {smaller}"
    estimate = judgement.difference
    if estimate is None:
        return text + lost
    # Without an interval: it would not be the corrected one by which the part is decided.
    figure = ("{:+.1f}" if quantity.scale > 1 else "{:+.3f}").format(estimate.mean * quantity.scale)
    return f"{text}: {figure} {quantity.unit}, n = {estimate.count}{lost}"


def _side(side: str | float) -> str:
    return side if isinstance(side, str) else f"{side:.0%}"
