"""What a suite is: a baseline, its arms, what they have in common, and what is claimed of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flaxlab.claims import Claim
from flaxlab.config.fields import PROTOCOL, require_fields
from flaxlab.errors import UsageError


@dataclass(frozen=True)
class Suite:
    """Experiments that are compared with a baseline, paired by seed.

    Attributes:
        name: names its run directory.
        baseline: the experiment that all arms are compared with. An experiment is named after its
            file, without ".py": beside the suite's file, in the folder above it, or among
            flaxlab's own.
        arms: the other experiments.
        seeds: number of runs of each arm, unless the command says otherwise.
        fixed: fields and groups of fields of the config in which no arm may differ from the
            baseline.
        claims: what is claimed of the arms, by number.
        collapsed_below: a run whose accuracy is below so many times that of guessing has
            collapsed; it is counted, and left out of means and tests.
        equivalent_within: differences of accuracy up to this share count as none: 0.005 is half a
            point. With 0, no difference is too small to matter.
    """

    name: str
    baseline: str
    arms: tuple[str, ...]
    seeds: int = 5
    fixed: tuple[str, ...] = PROTOCOL
    claims: Mapping[int, Claim] = field(default_factory=dict)
    collapsed_below: float = 1.5
    equivalent_within: float = 0.0

    def __post_init__(self) -> None:
        """Checks what a file gives: it is the user's input.

        Raises:
            UsageError: says which value is wrong and what it takes.
        """
        if not isinstance(self.arms, tuple) or not all(isinstance(arm, str) for arm in self.arms):
            raise UsageError(
                f"arms of the suite are {self.arms!r}; expected a tuple of names of experiments"
            )
        if not self.arms:
            raise UsageError("the suite has no arms; give it at least one")
        if not isinstance(self.seeds, int) or self.seeds < 1:
            raise UsageError(f"seeds of the suite are {self.seeds!r}; expected a number from 1")
        names = [self.baseline, *self.arms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"the suite has {', '.join(twice)} more than once; give each once")
        if not isinstance(self.fixed, tuple):
            raise UsageError(f"fixed of the suite is {self.fixed!r}; expected a tuple of fields")
        require_fields(self.fixed, "fixed of the suite")
        for name, value, most in (
            ("collapsed_below", self.collapsed_below, float("inf")),
            ("equivalent_within", self.equivalent_within, 1.0),
        ):
            if not isinstance(value, int | float) or not 0 <= value < most:
                raise UsageError(f"{name} of the suite is {value!r}; expected a number from 0")
        if not isinstance(self.claims, Mapping) or not all(
            isinstance(number, int) and isinstance(claim, Claim)
            for number, claim in self.claims.items()
        ):
            raise UsageError(
                f"claims of the suite are {self.claims!r}; expected {{number: Claim(...)}}"
            )
        for number, claim in self.claims.items():
            strangers = [arm for arm in claim.arms if arm not in names]
            if strangers:
                raise UsageError(
                    f"claim {number} is about {', '.join(strangers)}; expected arms of the suite:"
                    f" {', '.join(names)}"
                )
