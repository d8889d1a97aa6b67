"""Simulates how often verdicts of a comparison are wrong, and how often they find what is there.

    python benchmarks/error_rates.py                 # 2,000 studies of each kind: 15 minutes
    python benchmarks/error_rates.py --studies=500

A study has a baseline and five arms that share its seeds; the correlation of an arm with the
baseline over the seeds is 0.6, as measured between AlexNets with common layers. Spreads are in
points: each run's accuracy has one of a point. Differences, intervals and verdicts are those of
`flaxlab.compare`, by the functions that its page calls.

Prints a table in Markdown, which stands in docs/statistics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from flaxlab.compare.arm_verdict import judge_arm
from flaxlab.compare.differences import estimate_difference
from flaxlab.compare.outcomes import Design, Outcomes
from flaxlab.compare.results import BETTER, EQUIVALENT, WORSE
from flaxlab.compare.statistics import smallest_detectable

ARMS, CLASSES, IMAGES = 5, 10, 10_000
LEVEL_OF_BASELINE, POINT = 0.85, 0.01
CORRELATION = 0.6
COLLAPSED = 0.1  # both the accuracy of guessing and the share of runs that end so
REGION = 0.005
SEEDS = (3, 5, 10)


Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws with mean 0 and standard deviation 1."""
    return rng.standard_normal(shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws with a long tail below, as of runs that end in a bad epoch."""
    return 1 - rng.exponential(size=shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws from Student's t with three degrees of freedom, scaled to the standard deviation 1."""
    return rng.standard_t(3, size=shape) / np.sqrt(3)


def study(
    rng: np.random.Generator,
    seeds: int,
    draw: Draw,
    effects: np.ndarray,
    spreads: np.ndarray,
    collapsing: bool,
) -> np.ndarray:
    """Returns the accuracies of a study, (arms and baseline, seeds), the baseline first."""
    common, own = draw(rng, (1, seeds)), draw(rng, (ARMS + 1, seeds))
    noise = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own
    values = LEVEL_OF_BASELINE + effects[:, None] + POINT * spreads[:, None] * noise
    if collapsing:
        values = np.where(rng.random(values.shape) < COLLAPSED, 1 / CLASSES, values)
    return np.round(np.clip(values, 0, 1) * IMAGES) / IMAGES


def judge_study(accuracies: np.ndarray, design: Design) -> list[str]:
    """Returns the verdict of a comparison of these runs on each arm."""
    learned = [
        [
            seed
            for seed, value in enumerate(row)
            if not design.is_collapse(float(value), 1 / CLASSES)
        ]
        for row in accuracies
    ]
    verdicts = []
    for row, found in zip(accuracies[1:], learned[1:], strict=True):
        common = sorted(set(found) & set(learned[0]))
        values = [float(row[seed] - accuracies[0, seed]) for seed in common]
        difference = estimate_difference(values, 1 / IMAGES, ARMS) if values else None
        sides = [_outcomes(seeds, accuracies.shape[1]) for seeds in (found, learned[0])]
        word, _ = judge_arm(difference, design, *sides)
        verdicts.append(word)
    return verdicts


def _outcomes(learned: list[int], seeds: int) -> Outcomes:
    rest = tuple(sorted(set(range(seeds)) - set(learned)))
    return Outcomes(tuple(learned), rest, (), (), (), ())


def rates(
    rng: np.random.Generator,
    studies: int,
    seeds: int,
    draw: Draw,
    spreads: np.ndarray,
    collapsing: bool,
) -> dict[str, float]:
    """Returns shares of studies, or of arms in them, for one kind of runs."""
    design = Design(equivalent_within=REGION)
    nothing = np.zeros(ARMS + 1)
    wrong = 0
    for _ in range(studies):
        verdicts = judge_study(study(rng, seeds, draw, nothing, spreads, collapsing), design)
        wrong += any(word in (BETTER, WORSE) for word in verdicts)
    # Differences that this many seeds find with a power of 80%, by the plan.
    spread = POINT * np.sqrt(2 * (1 - CORRELATION))
    effect = smallest_detectable(spread, seeds, 0.05 / ARMS)
    effects = np.array([0.0, *[effect] * ARMS])
    edge = np.array([0.0, *[REGION] * ARMS])
    found = same = 0
    for _ in range(studies):
        verdicts = judge_study(study(rng, seeds, draw, effects, spreads, collapsing), design)
        found += verdicts.count(BETTER)
        verdicts = judge_study(study(rng, seeds, draw, edge, spreads, collapsing), design)
        same += EQUIVALENT in verdicts
    return {
        "wrong": wrong / studies,
        "effect": effect,
        "found": found / studies / ARMS,
        "same": same / studies,
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="of each kind")
    options = parser.parse_args()
    equal, unequal = np.ones(ARMS + 1), np.array([1.0, 0.5, 0.5, 1.0, 2.0, 3.0])
    quiet = np.array([0.1, *[1.0] * ARMS])
    kinds = {
        "normal": (normal, equal, False),
        "normal, spreads 0.5 to 3": (normal, unequal, False),
        "skewed arms, a quiet baseline": (skewed, quiet, False),
        "heavy tails": (heavy, equal, False),
        "normal, a tenth of the runs collapse": (normal, equal, True),
    }
    header = (
        "runs",
        "seeds",
        "a false difference in a study",
        "difference, points",
        "arms found better",
        "a false equivalence at the edge",
    )
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for name, (draw, spreads, collapsing) in kinds.items():
        for seeds in SEEDS:
            rng = np.random.default_rng(seeds)
            found = rates(rng, options.studies, seeds, draw, spreads, collapsing)
            cells = (
                name,
                str(seeds),
                f"{found['wrong']:.3f}",
                f"{100 * found['effect']:.2f}",
                f"{found['found']:.2f}",
                f"{found['same']:.3f}",
            )
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
