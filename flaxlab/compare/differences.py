"""The differences of arms to their baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from flaxlab.compare.noise import DifferenceErrors, difference_errors, pairing
from flaxlab.compare.outcomes import Design, Outcomes
from flaxlab.compare.procedures import (
    ANYTIME,
    PAIRED,
    WELCH,
    difference_interval,
    difference_p,
)
from flaxlab.compare.results import Difference
from flaxlab.compare.runs import Run
from flaxlab.compare.statistics import (
    LEVEL,
    bonferroni,
    cautious_spread,
    seeds_for_sign_flips,
    sign_flip_test,
)

Pairs = Sequence[tuple[Run, Run]]


def differences(
    by_arm: Mapping[str, Mapping[int, Run]],
    outcomes: Mapping[str, Outcomes],
    baseline: str,
    names: Sequence[str],
    comparisons: int,
    design: Design,
) -> dict[str, Difference]:
    """Returns the difference of each arm that has learned with a seed of the baseline's.

    With Welch's test, it may be any seed.

    Args:
        by_arm: {arm: {seed: run}}.
        outcomes: by arm.
        baseline: name of the baseline.
        names: arms to compare with it.
        comparisons: number of arms to correct for.
        design: says what is compared, and by which test.
    """
    found = {}
    for name in names:
        learned = [
            {seed: by_arm[each][seed] for seed in outcomes[each].learned}
            for each in (name, baseline)
        ]
        common = sorted(learned[0].keys() & learned[1].keys())
        if not (all(learned) if design.test == WELCH else common):
            continue
        arm, base = ({seed: design.score(run) for seed, run in side.items()} for side in learned)
        step = max(design.step(run) for side in learned for run in side.values())
        pairs = [(learned[0][seed], learned[1][seed]) for seed in common]
        found[name] = replace(
            estimate_difference(arm, base, step, comparisons, design.test),
            # Predictions are those of the last epoch only, and their errors those of pairs.
            errors=(
                _errors(pairs) if design.outcome == "accuracy" and design.test != WELCH else None
            ),
            pairing=pairing(*([side[seed] for seed in common] for side in (arm, base))),
        )
    return found


def estimate_difference(
    arm: Mapping[int, float],
    baseline: Mapping[int, float],
    step: float,
    comparisons: int,
    test: str = PAIRED,
) -> Difference:
    """Returns what two arms' values say, without what the images of each run say.

    Args:
        arm: values by seed.
        baseline: the same; with a seed in common, unless the test is Welch's.
        step: by how much one image changes a value.
        comparisons: number of arms to correct for.
        test: one of `procedures.TESTS`.
    """
    level = LEVEL / comparisons
    paired = [arm[seed] - baseline[seed] for seed in sorted(arm.keys() & baseline.keys())]
    estimate = difference_interval(test, arm, baseline, level, step)
    flips = None
    if test == PAIRED and len(paired) >= seeds_for_sign_flips(comparisons):
        flips = bonferroni(sign_flip_test(paired), comparisons)
    if test == WELCH:
        spread = unpaired_spread([list(arm.values())], [list(baseline.values())], step)
    else:
        spread = cautious_spread([paired], step)
    return Difference(
        estimate=estimate.clipped(-1.0, 1.0),
        # Each side of an interval that is valid at any time may err by more than half its level.
        inner=difference_interval(
            test, arm, baseline, level if test == ANYTIME else 2 * level, step
        ),
        p=bonferroni(difference_p(test, arm, baseline, step), comparisons),
        sign_flip_p=flips,
        spread=spread,
        level=level,
        test=test,
    )


def unpaired_spread(
    arms: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], step: float
) -> float | None:
    """Returns a spread of the difference of runs with different seeds, see `cautious_spread`."""
    spreads = [cautious_spread(groups, step) for groups in (arms, baseline)]
    known = [spread for spread in spreads if spread is not None]
    return math.hypot(*known) if len(known) == len(spreads) else None


def _errors(pairs: Pairs) -> DifferenceErrors | None:
    labels = pairs[0][0].predictions.labels
    runs = [run for pair in pairs for run in pair]
    if not all(np.array_equal(run.predictions.labels, labels) for run in runs):
        return None  # on other images, where a sweep varied them
    return difference_errors(*(np.array([pair[side].right for pair in pairs]) for side in (0, 1)))
