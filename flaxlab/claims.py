"""What somebody claims of the arms of a suite, as inequalities that runs can support or contradict.

A suite's file says what its claims are, `suite.json` keeps them, and `flaxlab.compare` judges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flaxlab.errors import UsageError

# The fields of `flaxlab.compare.runs.RunScores` that a claim may be about, in words.
QUANTITIES = {
    "accuracy": "accuracy",
    "best_accuracy": "best epoch's accuracy",
    "gap": "gap between training and validation accuracy",
    "epochs_to_95": "epochs to 95% of the final accuracy",
    "fall_from_best": "fall from the best to the last epoch",
    "largest_fall": "largest fall from an epoch to the next",
}


@dataclass(frozen=True)
class Statement:
    """One inequality: a quantity is larger in one arm than in another, or than a number.

    Attributes:
        quantity: one of `QUANTITIES`.
        larger: an arm, or a number.
        smaller: an arm, or a number.
        margin: what is added to the larger side: with 0.01, it may be up to one point smaller.
    """

    quantity: str
    larger: str | float
    smaller: str | float
    margin: float = 0.0

    def __post_init__(self) -> None:
        """Checks what a suite's file gives.

        Raises:
            UsageError: there is no such quantity, or neither side is an arm.
        """
        if self.quantity not in QUANTITIES:
            raise UsageError(
                f"a statement is about {self.quantity!r}; expected one of {', '.join(QUANTITIES)}"
            )
        if not self.arms:
            raise UsageError(f"a statement compares {self.larger!r} with {self.smaller!r}; no arm")

    @property
    def arms(self) -> list[str]:
        """The arms that it is about."""
        return [side for side in (self.larger, self.smaller) if isinstance(side, str)]


@dataclass(frozen=True)
class Claim:
    """A sentence and the statements that it stands for.

    Attributes:
        text: the claim.
        data: name of the data set that it is about, as in `config.data.name`.
        statements: all of them together are the claim.
    """

    text: str
    data: str
    statements: tuple[Statement, ...]

    @property
    def arms(self) -> list[str]:
        """The arms that it is about, each once."""
        return list(dict.fromkeys(arm for each in self.statements for arm in each.arms))


def claims_to_json(claims: Mapping[int, Claim]) -> dict[str, Any]:
    """Returns claims, by number, as plain values that JSON can hold."""
    return {str(number): asdict(claim) for number, claim in claims.items()}


def claims_from_json(values: Mapping[str, Any]) -> dict[int, Claim]:
    """Returns the claims that `claims_to_json` wrote, through JSON or not.

    Raises:
        UsageError: a statement is about no quantity.
        KeyError, TypeError, ValueError: the values are of another form.
    """
    return {
        int(number): Claim(
            claim["text"],
            claim["data"],
            tuple(Statement(**statement) for statement in claim["statements"]),
        )
        for number, claim in values.items()
    }
