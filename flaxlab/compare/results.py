"""What a comparison finds out: arms, claims, and what one has to know to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flaxlab.compare.factors import Effect
from flaxlab.compare.noise import DifferenceErrors, Pairing, SpreadBetweenRuns
from flaxlab.compare.outcomes import Design, Outcomes, scored_runs
from flaxlab.compare.procedures import seeds_needed, smallest_detectable
from flaxlab.compare.runs import Run
from flaxlab.compare.statistics import Estimate
from flaxlab.compare.verdicts import NOT_TESTED, JudgedClaim

BASELINE, BETTER, WORSE, EQUIVALENT, UNDECIDED, NOT_COMPARED = (
    "the baseline",
    "better",
    "worse",
    "equivalent",
    "undecided",
    "not compared",
)


@dataclass(frozen=True)
class Reported:
    """What the lab report says of an arm, against our runs.

    Attributes:
        final: its validation accuracy after the last epoch.
        best: that of its best epoch; None where it states none.
        inside: whether `final` lies in our prediction interval for one run; None without one.
    """

    final: float
    best: float | None
    inside: bool | None


@dataclass(frozen=True)
class Difference:
    """An arm's outcome minus the baseline's, by the suite's test.

    Attributes:
        estimate: mean with its simultaneous interval: those of all arms hold their true values at
            once in 95% of comparisons.
        inner: the same mean with the interval of the test of equivalence, which is wrong on one
            side only and so may be narrower.
        p: two-sided p value, times the number of arms. Below 0.05 if and only if the interval
            leaves out 0; None for one seed.
        sign_flip_p: p value of the sign-flip test, times the same number; None where there are too
            few seeds for it to be significant, and for a suite with another test than the paired
            one.
        spread: standard deviation of one seed's difference, cautiously estimated for plans, see
            `cautious_spread`; None for one seed.
        level: significance level of the two-sided test of one arm.
        test: one of `procedures.TESTS`.
        errors: standard errors; None for one seed, for runs on different images, and where the
            outcome or the test is not that of pairs of last epochs.
        pairing: how much pairing narrows the interval; None where it cannot be told.
    """

    estimate: Estimate
    inner: Estimate
    p: float | None
    sign_flip_p: float | None
    spread: float | None
    level: float
    test: str
    errors: DifferenceErrors | None = None
    pairing: Pairing | None = None

    @property
    def detectable(self) -> float | None:
        """The smallest true difference that these seeds find with a power of 80%.

        None for one seed, or where so few seeds find none.
        """
        if not self.spread:
            return None
        return smallest_detectable(self.spread, self.estimate.count, self.level, test=self.test)

    @property
    def more_seeds(self) -> int | None:
        """How many more seeds would detect a true difference as large as this, with the same power.

        None for one seed, or if it takes too many.
        """
        if not self.spread:
            return None
        needed = seeds_needed(self.estimate.mean, self.spread, self.level, test=self.test)
        return None if needed is None else max(0, needed - self.estimate.count)


@dataclass(frozen=True)
class ComparedArm:
    """One arm of a comparison.

    Attributes:
        name: name of the arm.
        runs: the finished ones, by seed.
        outcomes: what became of all of its runs.
        changes: its config's differences to the baseline, {path: (baseline, arm)}.
        means: mean and interval of each field of `RunScores` over `scored`; those of shares within
            [0, 1], those of gaps within [-1, 1].
        prediction: where the accuracy of one further run that learns would lie, within [0, 1].
        spread: between its runs; None where fewer than two learned.
        difference: to the baseline; None for the baseline and without a seed in common.
        word: the verdict: BETTER, WORSE, EQUIVALENT, UNDECIDED, NOT_COMPARED or BASELINE.
        verdict: the verdict in a sentence, with what became of the runs.
        reported: what the lab report says; None where it says nothing or used other data.
    """

    name: str
    runs: dict[int, Run]
    outcomes: Outcomes
    changes: dict[str, tuple[Any, Any]]
    means: dict[str, Estimate]
    prediction: Estimate
    spread: SpreadBetweenRuns | None
    difference: Difference | None
    word: str
    verdict: str
    reported: Reported | None

    @property
    def first(self) -> Run:
        """The run with the lowest seed."""
        return next(iter(self.runs.values()))

    @property
    def scored(self) -> dict[int, Run]:
        """The runs that learned, by seed; all of them if none did."""
        return scored_runs(self.runs, self.outcomes)

    def confusion(self) -> np.ndarray:
        """Mean counts over `scored`, float64 (classes, classes): rows true."""
        return np.mean([run.confusion() for run in self.scored.values()], axis=0)


@dataclass(frozen=True)
class Comparison:
    """Arms, claims, and what one has to know to read them.

    Attributes:
        title: title of the comparison.
        arms: the baseline first.
        absent: planned arms without a finished run, and what became of their runs.
        design: what was fixed before the runs.
        comparisons: number of arms for which intervals and p values are corrected.
        effects: those of a factorial suite; none of others.
        claims: those of the suite, judged; none where no suite is known.
        departures: where the runs' configs were not those of their experiment files,
            {path: (value in the file, values in the runs)}: overrides, such as a reduced
            protocol, but not those that make the arms different.
        notes: sentences for the reader: what was left out, and why to be careful.
        command: with which the runs were made, where a suite made them.
    """

    title: str
    arms: list[ComparedArm]
    absent: dict[str, Outcomes]
    design: Design
    comparisons: int
    effects: list[Effect]
    claims: list[JudgedClaim]
    departures: dict[str, tuple[Any, list[Any]]]
    notes: list[str]
    command: str | None

    @property
    def baseline(self) -> ComparedArm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def tested(self) -> bool:
        """Whether any arm is tested against the baseline."""
        return any(arm.difference is not None and arm.difference.p is not None for arm in self.arms)

    @property
    def tested_claims(self) -> list[JudgedClaim]:
        """The claims on which the runs say anything."""
        return [each for each in self.claims if each.verdict.word != NOT_TESTED or each.lost]

    @property
    def losses(self) -> bool:
        """Whether any run that was planned or begun did not learn, or is not there."""
        return bool(self.absent) or any(arm.outcomes.lost for arm in self.arms)

    @property
    def departures_text(self) -> str:
        """In one line, where the runs are not those of the experiment files; "" if they are."""
        return "; ".join(
            f"{path}: {' or '.join(map(str, values))} instead of {file}"
            for path, (file, values) in self.departures.items()
        )
