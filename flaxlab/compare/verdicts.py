"""What the runs say of a claim and of each of its parts: supported, contradicted, or undecided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flaxlab.claims import Claim, Collapses, Statement
from flaxlab.compare.outcomes import Outcomes
from flaxlab.compare.procedures import PAIRED, WELCH, difference_interval, difference_p, share_p
from flaxlab.compare.statistics import LEVEL, Estimate, bonferroni, hochberg

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED = (
    "supported",
    "contradicted",
    "undecided",
    "not tested",
)


@dataclass(frozen=True)
class ArmValues:
    """What a claim may be about, of one arm.

    Attributes:
        values: {seed: {quantity: value}} of the runs that learned.
        outcomes: what became of all of its runs.
        steps: how finely each quantity is measured, see `statistics.spread_of`; 0 where unnamed.
    """

    values: Mapping[int, Mapping[str, float]]
    outcomes: Outcomes
    steps: Mapping[str, float]


@dataclass(frozen=True)
class Judgement:
    """What the runs say of a part of a claim.

    Attributes:
        statement: the part.
        holds: whether the figures point its way; None without figures.
        p: p value that the opposite could give these figures; None without a test.
        difference: larger + margin - smaller, paired by seed; None without runs that say both.
        share: (runs that did not learn, runs that ended) for `Collapses`; None without runs.
        lost: arms of which not all runs learned, and what became of them: "NAME: 1 failed".
    """

    statement: Statement | Collapses
    holds: bool | None = None
    p: float | None = None
    difference: Estimate | None = None
    share: tuple[int, int] | None = None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a claim or a part of it.

    Attributes:
        word: SUPPORTED, CONTRADICTED, UNDECIDED or NOT_TESTED.
        p: after the correction for the parts and the claims; None where nothing is tested.
    """

    word: str
    p: float | None


@dataclass(frozen=True)
class JudgedClaim:
    """One claim and what the runs say of it.

    Attributes:
        number: number of the claim.
        claim: text and statements.
        judgements: one a part.
        parts: the verdict on each part.
        verdict: on the claim as a whole.
        level: at which its parts are tested, before the correction for their number.
        test: by which, one of `procedures.TESTS`.
    """

    number: int
    claim: Claim
    judgements: Sequence[Judgement]
    parts: Sequence[Verdict]
    verdict: Verdict
    level: float
    test: str

    @property
    def lost(self) -> list[str]:
        """Its arms of which not all runs learned, and what became of them, each once."""
        return list(dict.fromkeys(text for each in self.judgements for text in each.lost))


def judge(
    statement: Statement | Collapses, arms: Mapping[str, ArmValues], test: str = PAIRED
) -> Judgement:
    """Returns what the runs say of a part of a claim, by itself and one of `procedures.TESTS`."""
    lost = tuple(
        f"{arm}: {arms[arm].outcomes.lost}"
        for arm in statement.arms
        if arm in arms and arms[arm].outcomes.lost
    )
    if isinstance(statement, Collapses):
        return _judge_share(statement, arms, test, lost)
    larger, smaller = (
        _side(each, statement.quantity, arms) for each in (statement.larger, statement.smaller)
    )
    if larger is None or smaller is None:
        return Judgement(statement, lost=lost)
    if test != WELCH and not larger.keys() & smaller.keys():
        return Judgement(statement, lost=lost)
    raised = {seed: value + statement.margin for seed, value in larger.items()}
    step = max(arms[arm].steps.get(statement.quantity, 0.0) for arm in statement.arms)
    estimate = difference_interval(test, raised, smaller, LEVEL, step)
    p = difference_p(test, raised, smaller, step)
    return Judgement(statement, estimate.mean > 0, p, difference=estimate, lost=lost)


def _side(
    side: str | float, quantity: str, arms: Mapping[str, ArmValues]
) -> Mapping[int, float] | None:
    """Returns the values of a side by seed; None if its runs do not have the quantity."""
    if not isinstance(side, str):
        return {seed: side for arm in arms.values() for seed in arm.values}
    rows = arms[side].values if side in arms else {}
    return {seed: row[quantity] for seed, row in rows.items() if quantity in row} or None


def _judge_share(
    statement: Collapses, arms: Mapping[str, ArmValues], test: str, lost: tuple[str, ...]
) -> Judgement:
    outcomes = arms[statement.arm].outcomes if statement.arm in arms else None
    if outcomes is None or not outcomes.ended:
        return Judgement(statement, lost=lost)
    hits, count = outcomes.did_not_learn, outcomes.ended
    at_most, at_least = share_p(test, hits, count, statement.share)
    holds = hits / count > statement.share
    p = at_most if holds else at_least
    return Judgement(statement, holds, p, share=(hits, count), lost=lost)


def decide(
    claims: Mapping[int, Claim],
    arms: Mapping[str, Mapping[str, ArmValues]],
    test: str = PAIRED,
) -> list[JudgedClaim]:
    """Returns the verdict on each claim and on each of its parts.

    Each claim about data that there are runs on gets an equal part of the 5% (Bonferroni), and
    shares it among its parts by Hochberg's method: all of them are decided if the largest p value
    is small enough, and fewer if it is not. A claim is supported if all of its parts are, and
    contradicted if one of them is.

    Args:
        claims: by number.
        arms: by data set and name.
        test: one of `procedures.TESTS`.
    """
    count = sum(claim.data in arms for claim in claims.values())
    found = []
    for number, claim in claims.items():
        known = arms.get(claim.data, {})
        judgements = [judge(statement, known, test) for statement in claim.statements]
        with_p = [each.p for each in judgements if each.p is not None]
        adjusted = iter(bonferroni(p, count) for p in hochberg(with_p))
        parts = [_verdict(each, None if each.p is None else next(adjusted)) for each in judgements]
        level = LEVEL / max(count, 1)
        found.append(JudgedClaim(number, claim, judgements, parts, _together(parts), level, test))
    return found


def _verdict(judgement: Judgement, p: float | None) -> Verdict:
    if judgement.holds is None:
        return Verdict(NOT_TESTED, None)
    if p is None or p >= LEVEL:
        return Verdict(UNDECIDED, p)
    return Verdict(SUPPORTED if judgement.holds else CONTRADICTED, p)


def _together(parts: Sequence[Verdict]) -> Verdict:
    known = [part.p for part in parts if part.p is not None]
    wrong = [part.p for part in parts if part.word == CONTRADICTED and part.p is not None]
    if wrong:
        return Verdict(CONTRADICTED, min(wrong))
    if all(part.word == NOT_TESTED for part in parts):
        return Verdict(NOT_TESTED, None)
    if all(part.word == SUPPORTED for part in parts):
        return Verdict(SUPPORTED, max(known))
    return Verdict(UNDECIDED, max(known) if len(known) == len(parts) else None)
