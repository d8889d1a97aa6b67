"""Defines suites: a baseline, the arms to compare with it, and claims about them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flaxlab.claims import Claim
from flaxlab.compare.procedures import ANYTIME, PAIRED, TESTS, WELCH
from flaxlab.compare.rules import OUTCOMES, Rules
from flaxlab.config.fields import PROTOCOL, require_fields
from flaxlab.errors import UsageError
from flaxlab.suite.designs import Variant


@dataclass(frozen=True)
class Suite(Rules):
    """Experiments to compare with a baseline, paired by seed.

    An experiment is named after its file, without ".py". The file is beside the suite's file, in
    the folder above it, or among flaxlab's own experiments.

    Attributes:
        name: name of the suite and of its folder in runs/.
        baseline: experiment that all arms are compared with, or a `Variant` of one.
        arms: the other experiments, or `Variant`s, which `flaxlab.suite.designs` makes from lists
            of differences.
        seeds: number of runs of each arm, unless the command says otherwise.
        fixed: fields, and groups of fields, of the config in which arms must not differ from the
            baseline.
        claims: claims about the arms, by number.
        tuned: (field, values): each arm also tries these values of the field, with one run each on
            a holdout of the training split, and the arms are compared at their best as well, for
            example ("optimizer.learning_rate", (1e-2, 1e-3, 1e-4)). None: only as given.

    The rules by which the arms are judged are `flaxlab.compare.rules.Rules`.
    """

    name: str
    baseline: str | Variant
    arms: tuple[str | Variant, ...]
    seeds: int = 5
    fixed: tuple[str, ...] = PROTOCOL
    claims: Mapping[int, Claim] = field(default_factory=dict)
    tuned: tuple[str, tuple[Any, ...]] | None = None

    def __post_init__(self) -> None:
        """Checks the values, which come from a user's file.

        Raises:
            UsageError: a value is wrong.
        """
        if not isinstance(self.arms, tuple) or not all(
            isinstance(arm, str | Variant) for arm in self.arms
        ):
            raise UsageError(
                f"the suite's arms are {self.arms!r}; expected a tuple of experiment names, or of"
                " what flaxlab.suite.designs makes"
            )
        if isinstance(self.baseline, Variant) and not self.baseline.of:
            raise UsageError(
                f"the baseline {self.baseline.name} does not say which experiment it varies; name"
                ' it: Variant(..., of="alexnet_pool")'
            )
        if not self.arms:
            raise UsageError("the suite has no arms; add at least one")
        if not isinstance(self.seeds, int) or self.seeds < 1:
            raise UsageError(f"the suite's seeds are {self.seeds!r}; expected a number from 1")
        names = arm_names(self)
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
        if self.tuned is not None and not _are_values(self.tuned):
            raise UsageError(
                f"the suite's `tuned` is {self.tuned!r}; expected a field and two or more values of"
                ' it: ("optimizer.learning_rate", (1e-2, 1e-3, 1e-4))'
            )
        if self.tuned is not None and self.test == ANYTIME:
            raise UsageError(
                'a suite with `tuned` compares its arms twice, and test="anytime" is for one'
                " comparison that goes on; leave one of them out"
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


def _are_values(tuned: Any) -> bool:
    if not isinstance(tuned, tuple) or len(tuned) != 2 or not isinstance(tuned[0], str):
        return False
    values = tuned[1]
    return isinstance(values, tuple) and len(values) > 1 and len({*values}) == len(values)


def arm_names(suite: Suite) -> list[str]:
    """Returns the names of a suite's arms, the baseline first."""
    arms = (suite.baseline, *suite.arms)
    return [arm.name if isinstance(arm, Variant) else arm for arm in arms]


def _require_factorial(factors: Mapping[str, tuple[str, ...]], names: Sequence[str]) -> None:
    """Checks that each combination of the factors is one arm, or a fraction of them that serves.

    A fraction serves if the combination of any two of its arms is an arm as well, so that all
    contrasts are balanced, and no two changes are made by the same arms.
    """
    strangers = sorted({*itertools.chain(*factors.values())} - set(names))
    if strangers:
        raise UsageError(
            f"the suite's `factors` name {', '.join(strangers)}; expected arms of the suite:"
            f" {', '.join(names)}"
        )
    made = [frozenset(name for name, arms in factors.items() if arm in arms) for arm in names]
    once = len(set(made)) == len(made) and not made[0]
    balanced = all(a ^ b in made for a, b in itertools.combinations(made, 2))
    told_apart = len({frozenset(arms) for arms in factors.values()}) == len(factors)
    if factors and not (once and balanced and told_apart and all(factors.values())):
        raise UsageError(
            f"the suite's `factors` are {dict(factors)!r}; expected {{change: arms that make it}},"
            " with one arm for each combination of the changes, or a regular fraction of them, and"
            " the baseline for none"
        )
