"""What a suite is: a baseline, its arms, and what all of them have in common."""

from __future__ import annotations

from dataclasses import dataclass

from flaxlab.config.fields import PROTOCOL, require_fields
from flaxlab.errors import UsageError

# In the folder of a suite's runs: its baseline, arms, seeds and command.
SUITE_FILE = "suite.json"


@dataclass(frozen=True)
class Arm:
    """One experiment of a suite.

    Attributes:
        experiment: name of its file, without ".py": beside the suite's file, in the folder above
            it, or among flaxlab's own.
        claim: number of what the lab report says of it, see `experiments/claims.py`; None if it
            says nothing.
    """

    experiment: str
    claim: int | None = None


@dataclass(frozen=True)
class Suite:
    """Experiments that are compared with a baseline, paired by seed.

    Attributes:
        name: names its run directory.
        baseline: the experiment that all arms are compared with.
        arms: the others.
        seeds: number of runs of each arm, unless the command says otherwise.
        fixed: fields and groups of fields of the config in which no arm may differ from the
            baseline.
    """

    name: str
    baseline: str
    arms: tuple[Arm, ...]
    seeds: int = 5
    fixed: tuple[str, ...] = PROTOCOL

    def __post_init__(self) -> None:
        """Checks what a file gives: it is the user's input.

        Raises:
            UsageError: says which value is wrong and what it takes.
        """
        if not isinstance(self.arms, tuple) or not all(isinstance(arm, Arm) for arm in self.arms):
            raise UsageError(f"arms of the suite are {self.arms!r}; expected a tuple of Arm(...)")
        if not self.arms:
            raise UsageError("the suite has no arms; give it at least one")
        if not isinstance(self.seeds, int) or self.seeds < 1:
            raise UsageError(f"seeds of the suite are {self.seeds!r}; expected a number from 1")
        names = [self.baseline, *(arm.experiment for arm in self.arms)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"the suite has {', '.join(twice)} more than once; give each once")
        if not isinstance(self.fixed, tuple):
            raise UsageError(f"fixed of the suite is {self.fixed!r}; expected a tuple of fields")
        require_fields(self.fixed, "fixed of the suite")
