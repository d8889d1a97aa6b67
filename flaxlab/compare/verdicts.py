"""What several seeds say of a claim: they support it, contradict it, or leave it undecided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flaxlab.claims import Statement
from flaxlab.compare.statistics import CONFIDENCE, Estimate, holm, mean_interval, t_test

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED = (
    "supported",
    "contradicted",
    "undecided",
    "not tested",
)

# {arm: {seed: {quantity: value}}}
Values = Mapping[str, Mapping[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Judgement:
    """What the runs say of a statement.

    Attributes:
        statement: the inequality.
        difference: larger + margin - smaller, paired by seed; None without runs.
        p: two-sided p value of the paired t test; None with fewer than two pairs. Against a
            number it is 0 where all seeds give the same other value: a network that has
            collapsed does.
    """

    statement: Statement
    difference: Estimate | None
    p: float | None

    @property
    def tested(self) -> bool:
        """Whether there are runs of the arms that it is about."""
        return self.difference is not None


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a claim.

    Attributes:
        word: SUPPORTED, CONTRADICTED, UNDECIDED or NOT_TESTED.
        p: after Holm's correction over the claims; None where nothing is tested.
    """

    word: str
    p: float | None


def judge(statement: Statement, values: Values) -> Judgement:
    """Compares the two sides of a statement on the seeds that both have."""
    sides = [
        values.get(side, {}) if isinstance(side, str) else side
        for side in (statement.larger, statement.smaller)
    ]
    seed_sets = [set(side) for side in sides if isinstance(side, Mapping)]
    seeds = sorted(set.intersection(*seed_sets))
    if not seeds:
        return Judgement(statement, None, None)

    def value(side: float | Mapping[int, Mapping[str, float]], seed: int) -> float:
        return side[seed][statement.quantity] if isinstance(side, Mapping) else side

    differences = [
        value(sides[0], seed) + statement.margin - value(sides[1], seed) for seed in seeds
    ]
    p = t_test(differences)
    if p is not None and len(seed_sets) == 1 and len(set(differences)) == 1 and differences[0]:
        p = 0.0
    return Judgement(statement, mean_interval(differences), p)


def decide(claims: Sequence[Sequence[Judgement]]) -> list[Verdict]:
    """Decides on claims, each given by the judgements on its statements.

    A claim holds if all its statements do: its p value is their largest one, where all differences
    have the right sign (an intersection-union test). It fails if one of them fails: the p value
    of that is the smallest one of a wrong sign, times their number (Bonferroni). The smaller of
    the two counts, after Holm's correction over the claims.
    """
    p_values: list[float | None] = []
    supports: list[bool] = []
    for judgements in claims:
        support, contradiction = _support(judgements), _contradiction(judgements)
        supports.append(support < contradiction)
        # Where a part is not tested, a claim can only fail: without a sign of that, no test.
        complete = all(each.p is not None for each in judgements)
        p_values.append(min(support, contradiction) if complete or contradiction < 1 else None)
    return [
        Verdict(_word(judgements, supported, p), p)
        for judgements, supported, p in zip(claims, supports, holm(p_values), strict=True)
    ]


def _word(judgements: Sequence[Judgement], supported: bool, p: float | None) -> str:
    if not any(each.tested for each in judgements):
        return NOT_TESTED
    if p is None or p >= 1 - CONFIDENCE:
        return UNDECIDED
    return SUPPORTED if supported else CONTRADICTED


def _support(judgements: Sequence[Judgement]) -> float:
    return max(
        each.p if each.p is not None and each.difference and each.difference.mean > 0 else 1.0
        for each in judgements
    )


def _contradiction(judgements: Sequence[Judgement]) -> float:
    wrong = [
        each.p
        for each in judgements
        if each.p is not None and each.difference and each.difference.mean < 0
    ]
    return min(1.0, len(judgements) * min(wrong, default=1.0))
