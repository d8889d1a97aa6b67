"""What became of every run that was planned: it learned, collapsed, failed, or is not there.

A comparison of the runs that went well says nothing of those that did not, so they are counted and
shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flaxlab.compare.rules import Rules
from flaxlab.compare.runs import Run, Unfinished
from flaxlab.compare.statistics import share_interval


@dataclass(frozen=True)
class Design(Rules):
    """What was fixed before the first run: the rules, and which runs were planned.

    Attributes:
        arms: names of the arms, the baseline first; () if no suite says.
        seeds: seeds of each arm; () if no suite says.
        looks: with how many seeds the arms were compared before seeds were added.
        at_most: number of seeds of an arm that are added until it is decided; None: none are.
    """

    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    looks: tuple[int, ...] = ()
    at_most: int | None = None


@dataclass(frozen=True)
class Outcomes:
    """The seeds of one arm by what became of their runs.

    Attributes:
        learned: finished, and better than guessing.
        collapsed: finished, and not.
        diverged: ended by a loss or gradient that was NaN or infinite.
        failed: ended by another error, such as a full disk, which says nothing of the network.
        unfinished: stopped, or under way.
        missing: planned, and not there.
    """

    learned: tuple[int, ...]
    collapsed: tuple[int, ...]
    diverged: tuple[int, ...]
    failed: tuple[int, ...]
    unfinished: tuple[int, ...]
    missing: tuple[int, ...]

    @property
    def planned(self) -> int:
        """Number of runs that were planned or begun."""
        return sum(map(len, vars(self).values()))

    @property
    def ended(self) -> int:
        """Number of runs that say whether the network learns."""
        return len(self.learned) + self.did_not_learn

    @property
    def did_not_learn(self) -> int:
        """Number of runs that collapsed or diverged."""
        return len(self.collapsed) + len(self.diverged)

    @property
    def lost(self) -> str:
        """What became of the runs that did not learn, in words; "" if all learned."""
        words = {
            "collapsed": self.collapsed,
            "diverged": self.diverged,
            "failed": self.failed,
            "not finished": self.unfinished,
            "missing": self.missing,
        }
        return ", ".join(f"{len(seeds)} {word}" for word, seeds in words.items() if seeds)

    @property
    def share(self) -> tuple[float, float] | None:
        """Exact 95% interval of the share of runs that do not learn; None if none has ended."""
        return share_interval(self.did_not_learn, self.ended) if self.ended else None


def scored_runs(runs: Mapping[int, Run], outcomes: Outcomes) -> dict[int, Run]:
    """Returns the runs whose means are shown, by seed: those that learned; if none did, all."""
    return {seed: runs[seed] for seed in outcomes.learned or runs}


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
        seed for seed, run in runs.items() if design.is_collapse(run.scores.accuracy, run.guessing)
    }
    begun = {int(each.config.seed): each for each in unfinished if each.config.seed not in runs}
    diverged = {seed for seed, each in begun.items() if each.ended_by == "divergence"}
    failed = {seed for seed, each in begun.items() if each.ended_by == "error"}
    return Outcomes(
        learned=tuple(sorted(runs.keys() - collapsed)),
        collapsed=tuple(sorted(collapsed)),
        diverged=tuple(sorted(diverged)),
        failed=tuple(sorted(failed)),
        unfinished=tuple(sorted(begun.keys() - diverged - failed)),
        missing=tuple(sorted(set(planned) - runs.keys() - begun.keys())),
    )
