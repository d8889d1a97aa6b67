"""What a suite is: a baseline, its arms, and what all of them have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flaxlab import config as configs
from flaxlab.config import ConfigDict, default_config
from flaxlab.errors import UsageError

# In the folder of a suite's runs: its baseline, arms, seeds and command.
SUITE_FILE = "suite.json"

# What an ablation leaves alone: a difference here is another protocol and no other network.
PROTOCOL = ("data", "optimizer", "train")


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


def require_fields(paths: Iterable[str], what: str) -> None:
    """Raises a `UsageError` if a path is neither a field of the config nor a group of them."""
    fields = [f"{path}." for path, _ in configs.flatten(default_config())]
    for path in paths:
        if not any(field.startswith(f"{path}.") for field in fields):
            raise UsageError(f"{what}: there is no field {path} in flaxlab/config/default.py")


def fixed_differences(
    old: ConfigDict, new: ConfigDict, fixed: Iterable[str], vary: Iterable[str] = ()
) -> dict[str, tuple[object, object]]:
    """Returns {path: (old, new)} of the meaningful differences in fields that are fixed.

    Args:
        old: one config.
        new: another.
        fixed: fields, or groups of fields, that must agree.
        vary: fields, or groups of fields, of those that need not.
    """
    return {
        path: pair
        for path, pair in configs.meaningful_differences(old, new).items()
        if _in(path, fixed) and not _in(path, vary)
    }


def _in(path: str, groups: Iterable[str]) -> bool:
    return any(path == group or path.startswith(f"{group}.") for group in groups)
