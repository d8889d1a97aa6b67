"""The rules by which a suite judges its arms, fixed before its first run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flaxlab.compare.procedures import PAIRED
from flaxlab.compare.run_scores import LATE
from flaxlab.compare.runs import Run

# What arms may be judged by, and in words.
OUTCOMES = {
    "accuracy": "accuracy",
    "late_accuracy": "mean accuracy of the last three epochs",
}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How the arms of a suite are judged.

    Attributes:
        collapsed_margin: a run has collapsed if its accuracy is above that of guessing by less
            than this share of what guessing leaves: with 0.05, below 14.5% for ten classes of one
            size. It is counted, and left out of means and tests.
        equivalent_within: differences of accuracy up to this share count as none: 0.005 is half a
            point. With 0, no difference is too small to matter.
        factors: {change: arms that make it} of a factorial suite, in which every combination of the
            changes is an arm, or a fraction of them; a comparison then shows effects and
            interactions.
        outcome: what the arms are judged by: "accuracy", or "late_accuracy", the mean of the last
            three epochs, which varies less from run to run.
        test: how: "paired", by Student's t over the differences of runs with the same seed;
            "welch", unpaired, for arms whose seeds have nothing in common; "anytime", paired, and
            valid however often seeds are added, which takes more of them.
    """

    collapsed_margin: float = 0.05
    equivalent_within: float = 0.0
    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outcome: str = "accuracy"
    test: str = PAIRED

    @property
    def rules(self) -> dict[str, Any]:
        """The rules alone, by name, as any class that has them takes them."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(Rules)}

    def is_collapse(self, accuracy: float, guessing: float) -> bool:
        """Returns whether an accuracy is hardly better than that of guessing."""
        return accuracy < guessing + self.collapsed_margin * (1 - guessing)

    def score(self, run: Run) -> float:
        """Returns the number that a run is judged by."""
        return float(getattr(run.scores, self.outcome))

    def step(self, run: Run) -> float:
        """Returns how finely that number is measured, see `accuracy_step`."""
        return accuracy_step(run, 1 if self.outcome == "accuracy" else LATE)


def accuracy_step(run: Run, epochs: int = 1) -> float:
    """Returns how finely the mean accuracy of up to `epochs` epochs is measured.

    One image; of several epochs less, since their rounding errors cancel in part. See
    `statistics.spread_of`.
    """
    epochs = min(epochs, len(run.history["epoch"]))
    return 1 / (int(run.summary["test_examples"]) * math.sqrt(epochs))
