"""Claims about the arms of a suite, as statements that runs can support or contradict.

A suite's file says what its claims are, `suite.json` keeps them, and `flaxlab.compare` judges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from flaxlab.errors import UsageError


class Quantity(NamedTuple):
    """A field of `flaxlab.compare.runs.RunScores` that a claim may be about.

    Attributes:
        words: what it is called.
        scale: what a value is multiplied by before it is shown.
        unit: unit of what is shown.
    """

    words: str
    scale: float = 100
    unit: str = "points"


QUANTITIES = {
    "accuracy": Quantity("accuracy"),
    "best_accuracy": Quantity("test accuracy of the epoch that a holdout chose"),
    "late_accuracy": Quantity("mean accuracy of the last three epochs"),
    "mean_accuracy": Quantity("mean accuracy of all epochs"),
    "late_spread": Quantity("spread between late epochs"),
    "gap": Quantity("training minus validation accuracy, both without dropout"),
    "cross_entropy": Quantity("cross entropy", 1, "nats"),
    "calibration_error": Quantity("calibration error"),
}


@dataclass(frozen=True)
class Statement:
    """One inequality: a quantity is larger in one arm than in another, or than a number.

    Attributes:
        quantity: a key of `QUANTITIES`.
        larger: an arm, or a number.
        smaller: an arm, or a number.
        margin: added to the larger side: with 0.01, it may be up to one point smaller.
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
class Collapses:
    """More than a share of an arm's runs collapse: they end no better than guessing.

    What counts as no better than guessing is fixed in the suite, see `Suite.collapsed_margin`.

    Attributes:
        arm: the arm that has these runs.
        share: in (0, 1). That all runs collapse cannot be shown by any number of runs.
    """

    arm: str
    share: float = 0.5

    def __post_init__(self) -> None:
        """Checks what a suite's file gives.

        Raises:
            UsageError: the share is not one.
        """
        if not 0 < self.share < 1:
            raise UsageError(
                f"a statement says that more than {self.share} of the runs collapse; expected a"
                " share above 0 and below 1"
            )

    @property
    def arms(self) -> list[str]:
        """The arm that it is about, as a list."""
        return [self.arm]


@dataclass(frozen=True)
class Claim:
    """A sentence and the statements that it stands for.

    Attributes:
        text: the claim.
        data: name of the data set that it is about, as in `config.data.name`.
        statements: its parts; it holds if all of them do.
        note: what a reader has to know to take it for no more than it is; "" for nothing.
    """

    text: str
    data: str
    statements: tuple[Statement | Collapses, ...]
    note: str = ""

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
        KeyError, TypeError, ValueError: the values have another form.
    """
    return {
        int(number): Claim(
            claim["text"],
            claim["data"],
            tuple(
                Collapses(**each) if "arm" in each else Statement(**each)
                for each in claim["statements"]
            ),
            claim["note"],
        )
        for number, claim in values.items()
    }
