"""The differences of arms to their baseline, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from flaxlab.compare.noise import DifferenceErrors, difference_errors, pairing
from flaxlab.compare.outcomes import Outcomes
from flaxlab.compare.results import Difference
from flaxlab.compare.runs import Run
from flaxlab.compare.statistics import (
    LEVEL,
    bonferroni,
    cautious_spread,
    mean_interval,
    seeds_for_sign_flips,
    seeds_needed,
    sign_flip_test,
    smallest_detectable,
    t_test,
)

Pairs = Sequence[tuple[Run, Run]]


def accuracy_step(run: Run) -> float:
    """Returns by how much one image more changes the accuracy of a run."""
    return 1 / int(run.summary["test_examples"])


def differences(
    by_arm: Mapping[str, Mapping[int, Run]],
    outcomes: Mapping[str, Outcomes],
    baseline: str,
    names: Sequence[str],
    comparisons: int,
) -> dict[str, Difference]:
    """Returns the difference of each arm that has learned with a seed of the baseline's.

    Args:
        by_arm: {arm: {seed: run}}.
        outcomes: by arm.
        baseline: name of the baseline.
        names: arms to compare with it.
        comparisons: number of arms to correct for.
    """
    pairs: dict[str, Pairs] = {}
    for name in names:
        seeds = sorted(set(outcomes[name].learned) & set(outcomes[baseline].learned))
        if seeds:
            pairs[name] = [(by_arm[name][seed], by_arm[baseline][seed]) for seed in seeds]
    values = {
        name: [arm.scores.accuracy - base.scores.accuracy for arm, base in found]
        for name, found in pairs.items()
    }
    return {
        name: replace(
            estimate_difference(
                values[name], max(accuracy_step(run) for pair in found for run in pair), comparisons
            ),
            errors=_errors(found),
            pairing=pairing(*([pair[side].scores.accuracy for pair in found] for side in (0, 1))),
        )
        for name, found in pairs.items()
    }


def estimate_difference(values: Sequence[float], step: float, comparisons: int) -> Difference:
    """Returns what paired differences of accuracy say, without what the images of each run say.

    Args:
        values: one a seed, at least one.
        step: by how much one image changes an accuracy.
        comparisons: number of arms to correct for.
    """
    count, level = len(values), LEVEL / comparisons
    estimate = mean_interval(values, 1 - level, step)
    flips = None
    if count >= seeds_for_sign_flips(comparisons):
        images = [round(value / step) for value in values]
        flips = bonferroni(sign_flip_test(images), comparisons)
    spread, seeds = cautious_spread(values, step), None
    if spread:
        seeds = seeds_needed(estimate.mean, spread, level)
    return Difference(
        estimate=estimate.clipped(-1.0, 1.0),
        inner=mean_interval(values, 1 - 2 * level, step),
        p=bonferroni(t_test(values, step), comparisons),
        sign_flip_p=flips,
        detectable=smallest_detectable(spread, count, level) if spread else None,
        more_seeds=None if seeds is None else max(0, seeds - count),
    )


def _errors(pairs: Pairs) -> DifferenceErrors | None:
    labels = pairs[0][0].predictions.labels
    runs = [run for pair in pairs for run in pair]
    if not all(np.array_equal(run.predictions.labels, labels) for run in runs):
        return None  # on other images, where a sweep varied them
    return difference_errors(*(np.array([pair[side].right for pair in pairs]) for side in (0, 1)))
