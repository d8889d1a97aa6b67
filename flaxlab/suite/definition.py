"""Defines suites: a baseline, the arms to compare with it, and claims about them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flaxlab.claims import Claim
from flaxlab.compare.outcomes import OUTCOMES, Design
from flaxlab.compare.procedures import ANYTIME, PAIRED, TESTS, WELCH
from flaxlab.config.fields import PROTOCOL, require_fields
from flaxlab.errors import UsageError


@dataclass(frozen=True)
class Suite:
    """Experiments to compare with a baseline, paired by seed.

    An experiment is named after its file, without ".py". The file is beside the suite's file, in
    the folder above it, or among flaxlab's own experiments.

    Attributes:
        name: name of the suite and of its folder in runs/.
        baseline: experiment that all arms are compared with.
        arms: the other experiments.
        seeds: number of runs of each arm, unless the command says otherwise.
        fixed: fields, and groups of fields, of the config in which arms must not differ from the
            baseline.
        claims: claims about the arms, by number.
        collapsed_margin: a run has collapsed if its accuracy is above that of guessing by less
            than this share of what guessing leaves: with 0.05, below 14.5% for ten classes of one
            size. It is counted, and left out of means and tests.
        equivalent_within: differences of accuracy up to this share count as none: 0.005 is half a
            point. With 0, no difference is too small to matter.
        factors: {change: arms that make it} of a factorial suite, in which every combination of the
            changes is an arm; a comparison then shows effects and interactions.
        outcome: what the arms are judged by: "accuracy", or "late_accuracy", the mean of the last
            three epochs, which varies less from run to run.
        test: how: "paired", by Student's t over the differences of runs with the same seed;
            "welch", unpaired, for arms whose seeds have nothing in common; "anytime", paired, and
            valid however often seeds are added, which takes more of them.
    """

    name: str
    baseline: str
    arms: tuple[str, ...]
    seeds: int = 5
    fixed: tuple[str, ...] = PROTOCOL
    claims: Mapping[int, Claim] = field(default_factory=dict)
    collapsed_margin: float = 0.05
    equivalent_within: float = 0.0
    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outcome: str = Design.outcome
    test: str = Design.test

    def __post_init__(self) -> None:
        """Checks the values, which come from a user's file.

        Raises:
            UsageError: a value is wrong.
        """
        if not isinstance(self.arms, tuple) or not all(isinstance(arm, str) for arm in self.arms):
            raise UsageError(
                f"the suite's arms are {self.arms!r}; expected a tuple of experiment names"
            )
        if not self.arms:
            raise UsageError("the suite has no arms; add at least one")
        if not isinstance(self.seeds, int) or self.seeds < 1:
            raise UsageError(f"the suite's seeds are {self.seeds!r}; expected a number from 1")
        names = [self.baseline, *self.arms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"the suite has {', '.join(twice)} more than once; list each once")
        if not isinstance(self.fixed, tuple):
            raise UsageError(f"the suite's `fixed` is {self.fixed!r}; expected a tuple of fields")
        require_fields(self.fixed, "`fixed` of the suite")
        for name in ("collapsed_margin", "equivalent_within"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise UsageError(
                    f"the suite's `{name}` is {value!r}; expected a share from 0 to below 1"
                )
        for name, choices in (("outcome", OUTCOMES), ("test", TESTS)):
            if getattr(self, name) not in tuple(choices):
                raise UsageError(
                    f"the suite's `{name}` is {getattr(self, name)!r}; expected one of"
                    f" {', '.join(choices)}"
                )
        if self.factors and self.test == WELCH:
            raise UsageError(
                "a suite with `factors` takes its effects seed by seed, and Welch's test pairs no"
                f' seeds; use test="{PAIRED}" or "{ANYTIME}", or leave the factors out'
            )
        _require_factorial(self.factors, names)
        if not isinstance(self.claims, Mapping) or not all(
            isinstance(number, int) and isinstance(claim, Claim)
            for number, claim in self.claims.items()
        ):
            raise UsageError(
                f"the suite's claims are {self.claims!r}; expected {{number: Claim(...)}}"
            )
        for number, claim in self.claims.items():
            strangers = [arm for arm in claim.arms if arm not in names]
            if strangers:
                raise UsageError(
                    f"claim {number} is about {', '.join(strangers)}; expected arms of the suite:"
                    f" {', '.join(names)}"
                )


def _require_factorial(factors: Mapping[str, tuple[str, ...]], names: Sequence[str]) -> None:
    """Checks that each combination of the factors is one arm, and none of them the baseline."""
    made = [tuple(name in arms for arms in factors.values()) for name in names]
    wanted = set(itertools.product((False, True), repeat=len(factors)))
    whole = len(made) == len(wanted) and set(made) == wanted and not any(made[0])
    if factors and not whole:
        raise UsageError(
            f"the suite's `factors` are {dict(factors)!r}; expected {{change: arms that make it}},"
            " with one arm for each combination of the changes, and the baseline for none"
        )
