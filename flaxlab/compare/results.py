"""What a comparison finds out: arms, claims, and what one has to know to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flaxlab.claims import Claim
from flaxlab.compare.runs import Run
from flaxlab.compare.statistics import CONFIDENCE, Difference, Estimate
from flaxlab.compare.verdicts import NOT_TESTED, Judgement, Verdict

LEVEL = 1 - CONFIDENCE


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
class ComparedArm:
    """One arm of a comparison.

    Attributes:
        name: name of the arm.
        runs: by seed.
        changes: its config's differences to the baseline, {path: (baseline, arm)}.
        means: mean and interval of each field of `RunScores`; those of shares within [0, 1].
        prediction: where the accuracy of one further run would lie, within [0, 1].
        difference: accuracy minus the baseline's, paired by seed; None for the baseline and
            without a seed in common.
        t_p: p value of the paired t test, after Holm's correction over the arms.
        sign_flip_p: p value of the sign-flip test, after Holm's correction over the arms.
        verdict: in words.
        reported: what the lab report says; None where it says nothing or used other data.
    """

    name: str
    runs: dict[int, Run]
    changes: dict[str, tuple[Any, Any]]
    means: dict[str, Estimate]
    prediction: Estimate
    difference: Difference | None
    t_p: float | None
    sign_flip_p: float | None
    verdict: str
    reported: Reported | None

    @property
    def first(self) -> Run:
        """The run with the lowest seed."""
        return next(iter(self.runs.values()))

    def confusion(self) -> np.ndarray:
        """Mean counts over the seeds, float64 (classes, classes): rows true."""
        return np.mean([run.confusion() for run in self.runs.values()], axis=0)


@dataclass(frozen=True)
class JudgedClaim:
    """One claim and what the runs say of it.

    Attributes:
        number: number of the claim.
        claim: text and statements.
        judgements: one a statement.
        verdict: on the claim as a whole.
    """

    number: int
    claim: Claim
    judgements: list[Judgement]
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Arms, claims, and what one has to know to read them.

    Attributes:
        title: title of the comparison.
        arms: the baseline first.
        claims: those of the suite, judged; none where no suite is known.
        departures: where the runs' configs were not those of their experiment files,
            {path: (value in the file, values in the runs)}: overrides, such as a reduced
            protocol.
        notes: sentences for the reader: what was left out, and why to be careful.
        command: with which the runs were made, where a suite made them.
    """

    title: str
    arms: list[ComparedArm]
    claims: list[JudgedClaim]
    departures: dict[str, tuple[Any, list[Any]]]
    notes: list[str]
    command: str | None

    @property
    def baseline(self) -> ComparedArm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def tests(self) -> int:
        """Number of arms that are tested against the baseline."""
        return sum(arm.t_p is not None for arm in self.arms)

    @property
    def tested_claims(self) -> list[JudgedClaim]:
        """The claims on which the runs say anything."""
        return [judged for judged in self.claims if judged.verdict.word != NOT_TESTED]
