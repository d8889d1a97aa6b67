"""What a suite is: a baseline, its arms, and what all of them have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flaxlab import config as configs
from flaxlab.config import ConfigDict

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
