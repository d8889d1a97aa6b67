"""What became of every run that was planned: it learned, collapsed, failed, or is not there.

A comparison of the runs that went well says nothing of those that did not, so they are counted and
shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flaxlab.compare.runs import Run, Unfinished
from flaxlab.compare.statistics import share_interval


@dataclass(frozen=True)
class Design:
    """What was fixed before the first run.

    Attributes:
        arms: names of the arms, the baseline first; () if no suite says.
        seeds: of each arm; () if no suite says.
        collapsed_below: an accuracy below so many times that of guessing is a collapse.
        equivalent_within: differences of accuracy up to this share count as none; 0: none does.
        looks: with how many seeds the arms were compared before seeds were added.
    """

    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    collapsed_below: float = 1.5
    equivalent_within: float = 0.0
    looks: tuple[int, ...] = ()

    def is_collapse(self, accuracy: float, classes: int) -> bool:
        """Returns whether an accuracy is no better than guessing."""
        return accuracy < self.collapsed_below / classes


@dataclass(frozen=True)
class Outcomes:
    """The seeds of one arm by what became of their runs.

    Attributes:
        learned: finished, and better than guessing.
        collapsed: finished, and not.
        failed: ended by an error, such as a loss that is not finite.
        unfinished: stopped, or under way.
        missing: planned, and not there.
    """

    learned: tuple[int, ...]
    collapsed: tuple[int, ...]
    failed: tuple[int, ...]
    unfinished: tuple[int, ...]
    missing: tuple[int, ...]

    @property
    def planned(self) -> int:
        """Number of runs that were planned or begun."""
        return sum(map(len, vars(self).values()))

    @property
    def ended(self) -> int:
        """Number of runs that came to an end, good or bad."""
        return len(self.learned) + len(self.collapsed) + len(self.failed)

    @property
    def did_not_learn(self) -> int:
        """Number of runs that collapsed or failed."""
        return len(self.collapsed) + len(self.failed)

    @property
    def lost(self) -> str:
        """What became of the runs that did not learn, in words; "" if all learned."""
        words = {
            "collapsed": self.collapsed,
            "failed": self.failed,
            "not finished": self.unfinished,
            "missing": self.missing,
        }
        return ", ".join(f"{len(seeds)} {word}" for word, seeds in words.items() if seeds)

    @property
    def share(self) -> tuple[float, float] | None:
        """Exact 95% interval of the share of runs that do not learn; None if none has ended."""
        return share_interval(self.did_not_learn, self.ended) if self.ended else None


def outcomes_of(
    runs: Mapping[int, Run],
    unfinished: Sequence[Unfinished],
    planned: Sequence[int],
    design: Design,
) -> Outcomes:
    """Sorts the seeds of an arm.

    Args:
        runs: its finished runs, by seed.
        unfinished: its runs that are not finished.
        planned: seeds that it should have.
        design: says what a collapse is.
    """
    collapsed = {
        seed for seed, run in runs.items() if design.is_collapse(run.scores.accuracy, run.classes)
    }
    begun = {int(each.config.seed): each for each in unfinished if each.config.seed not in runs}
    failed = {seed for seed, each in begun.items() if each.failed}
    return Outcomes(
        learned=tuple(sorted(runs.keys() - collapsed)),
        collapsed=tuple(sorted(collapsed)),
        failed=tuple(sorted(failed)),
        unfinished=tuple(sorted(begun.keys() - failed)),
        missing=tuple(sorted(set(planned) - runs.keys() - begun.keys())),
    )
