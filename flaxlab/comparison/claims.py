"""What a report claims of some arms, in a form that several seeds can support or contradict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flaxlab.comparison.statistics import Estimate, mean_interval

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED = (
    "supported",
    "contradicted",
    "undecided",
    "not tested",
)

# {arm: {seed: {quantity: value}}}
Values = Mapping[str, Mapping[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Statement:
    """One inequality: a quantity is larger in one arm than in another, or than a number.

    Attributes:
        quantity: field of `flaxlab.comparison.runs.Scores`.
        larger: an arm, or a number.
        smaller: an arm, or a number.
    """

    quantity: str
    larger: str | float
    smaller: str | float

    @property
    def arms(self) -> list[str]:
        """The arms that it is about."""
        return [side for side in (self.larger, self.smaller) if isinstance(side, str)]


@dataclass(frozen=True)
class Claim:
    """A sentence of a report and the statements that it stands for.

    Attributes:
        text: the claim.
        data: name of the data set that it is about.
        statements: it is supported if all of them are, contradicted if one of them is.
    """

    text: str
    data: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Judgement:
    """What the runs say of a statement.

    Attributes:
        statement: the inequality.
        verdict: SUPPORTED if the interval of the difference is above 0, CONTRADICTED if it is
            below 0, UNDECIDED if it holds 0 or there is none, NOT_TESTED without runs.
        difference: larger - smaller, paired by seed; None without runs.
    """

    statement: Statement
    verdict: str
    difference: Estimate | None


def judge(statement: Statement, values: Values) -> Judgement:
    """Compares the two sides of a statement on the seeds that both have."""
    sides = [
        values.get(side, {}) if isinstance(side, str) else side
        for side in (statement.larger, statement.smaller)
    ]
    seed_sets = [set(side) for side in sides if isinstance(side, Mapping)]
    seeds = sorted(set.intersection(*seed_sets))
    if not seeds:
        return Judgement(statement, NOT_TESTED, None)

    def value(side: float | Mapping[int, Mapping[str, float]], seed: int) -> float:
        return side[seed][statement.quantity] if isinstance(side, Mapping) else side

    differences = [value(sides[0], seed) - value(sides[1], seed) for seed in seeds]
    estimate = mean_interval(differences)
    verdict = UNDECIDED
    if estimate.low is not None and estimate.low > 0:
        verdict = SUPPORTED
    if estimate.high is not None and estimate.high < 0:
        verdict = CONTRADICTED
    return Judgement(statement, verdict, estimate)


def verdict(judgements: Sequence[Judgement]) -> str:
    """Returns the verdict on a claim from those on its statements."""
    verdicts = {judgement.verdict for judgement in judgements}
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    if len(verdicts) == 1:
        return verdicts.pop()
    return UNDECIDED
