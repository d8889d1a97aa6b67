"""Simulates how often verdicts of a comparison are wrong, and how often they find what is there.

    python benchmarks/error_rates.py                 # 2,000 studies of each kind: half an hour
    python benchmarks/error_rates.py --studies=500

A study has a baseline and five arms that share its seeds; the correlation of an arm with the
baseline over the seeds is 0.6, as measured between AlexNets with common layers. Spreads are in
points: each run's accuracy has one of a point. Differences, intervals and verdicts are those of
`flaxlab.compare`, by the functions that its page calls.

Prints three tables in Markdown, which stand in docs/statistics.md: verdicts on arms, verdicts on
claims, and what becomes of both kinds of suite when seeds are added.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from flaxlab.claims import Claim, Collapses, Statement
from flaxlab.compare.arm_verdict import arm_verdict
from flaxlab.compare.differences import estimate_difference
from flaxlab.compare.outcomes import Design, Outcomes
from flaxlab.compare.procedures import ANYTIME, PAIRED, smallest_detectable
from flaxlab.compare.results import BETTER, EQUIVALENT, UNDECIDED, WORSE
from flaxlab.compare.verdicts import CONTRADICTED, SUPPORTED, ArmValues, decide

ARMS, CLASSES, IMAGES = 5, 10, 10_000
LEVEL_OF_BASELINE, POINT = 0.85, 0.01
CORRELATION = 0.6
COLLAPSED = 0.1  # both the accuracy of guessing and the share of runs that end so
REGION = 0.005
SEEDS = (3, 5, 10)
LOOKS, MOST = (3, 5, 8, 10), 20


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
    effects: np.ndarray,
    draw: Draw = normal,
    spreads: np.ndarray | None = None,
    collapsing: bool = False,
) -> np.ndarray:
    """Returns the accuracies of a study, (arms and baseline, seeds), the baseline first."""
    spreads = np.ones(ARMS + 1) if spreads is None else spreads
    common, own = draw(rng, (1, seeds)), draw(rng, (ARMS + 1, seeds))
    noise = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own
    values = LEVEL_OF_BASELINE + effects[:, None] + POINT * spreads[:, None] * noise
    if collapsing:
        values = np.where(rng.random(values.shape) < COLLAPSED, 1 / CLASSES, values)
    return np.round(np.clip(values, 0, 1) * IMAGES) / IMAGES


def judge_study(accuracies: np.ndarray, design: Design) -> list[str]:
    """Returns the verdict of a comparison of these runs on each arm."""
    learned = [
        {
            seed: float(value)
            for seed, value in enumerate(row)
            if not design.is_collapse(float(value), 1 / CLASSES)
        }
        for row in accuracies
    ]
    verdicts = []
    for arm in learned[1:]:
        difference = None
        if arm.keys() & learned[0].keys():
            difference = estimate_difference(arm, learned[0], 1 / IMAGES, ARMS, design.test)
        verdicts.append(arm_verdict(difference, design))
    return verdicts


def _outcomes(learned: Sequence[int], seeds: int) -> Outcomes:
    rest = tuple(sorted(set(range(seeds)) - set(learned)))
    return Outcomes(tuple(learned), rest, (), (), (), ())


def rates_of_arms(
    rng: np.random.Generator,
    studies: int,
    seeds: int,
    draw: Draw,
    spreads: np.ndarray,
    collapsing: bool,
) -> list[float]:
    """Returns shares of studies, or of arms in them, for one kind of runs, and the difference."""
    design = Design(equivalent_within=REGION)
    kind = draw, spreads, collapsing
    wrong = found = same = 0
    for _ in range(studies):
        verdicts = judge_study(study(rng, seeds, _effects(0.0), *kind), design)
        wrong += any(word in (BETTER, WORSE) for word in verdicts)
    # Differences that this many seeds find with a power of 80%, by the plan.
    spread = POINT * np.sqrt(2 * (1 - CORRELATION))
    effect = smallest_detectable(spread, seeds, 0.05 / ARMS) or np.inf
    for _ in range(studies):
        found += judge_study(study(rng, seeds, _effects(effect), *kind), design).count(BETTER)
        same += EQUIVALENT in judge_study(study(rng, seeds, _effects(REGION), *kind), design)
    return [wrong / studies, 100 * effect, found / studies / ARMS, same / studies]


def _effects(effect: float) -> np.ndarray:
    return np.array([0.0, *[effect] * ARMS])


def rates_of_claims(
    rng: np.random.Generator, studies: int, seeds: int, margin: float
) -> list[float]:
    """Returns how often claims are judged, if their parts hold by `margin`; 0: at their edge.

    Returns:
        Shares of studies: in which any of three claims is supported, and in which the first, about
        one arm, the second, about five, and the third, about the share that collapses, is; and in
        which any is contradicted.
    """
    parts = tuple(Statement("accuracy", f"arm{index}", "baseline") for index in range(ARMS))
    claims = {
        1: Claim("", "data", parts[:1]),
        2: Claim("", "data", parts),
        3: Claim("", "data", (Collapses("dead"),)),
    }
    names = ["baseline", *(f"arm{index}" for index in range(ARMS))]
    counts = np.zeros(5)
    for _ in range(studies):
        accuracies = study(rng, seeds, _effects(margin))
        steps = {"accuracy": 1 / IMAGES}
        arms = {
            name: ArmValues(
                {seed: {"accuracy": float(value)} for seed, value in enumerate(row)},
                _outcomes(range(seeds), seeds),
                steps,
            )
            for name, row in zip(names, accuracies, strict=True)
        }
        share = 0.5 + 0.45 * (margin > 0)
        healthy = np.flatnonzero(rng.random(seeds) >= share).tolist()
        arms["dead"] = ArmValues({}, _outcomes(healthy, seeds), steps)
        words = [judged.verdict.word for judged in decide(claims, {"data": arms})]
        supported = [word == SUPPORTED for word in words]
        counts += [any(supported), *supported, CONTRADICTED in words]
    return (counts / studies).tolist()


def rates_of_looking(
    rng: np.random.Generator, studies: int, effect: float, test: str, looks: Sequence[int]
) -> list[float]:
    """Returns what becomes of arms that get seeds until they are decided.

    Returns:
        Share of studies with an arm called better or worse; share of arms called better; mean
        number of seeds of an arm.
    """
    design = Design(test=test)
    any_called = better = used = 0
    for _ in range(studies):
        accuracies, called = study(rng, max(looks), _effects(effect)), {}
        for count in looks:
            verdicts = judge_study(accuracies[:, :count], design)
            for arm, word in enumerate(verdicts):
                if word != UNDECIDED and arm not in called:
                    called[arm] = word, count
            if len(called) == ARMS:
                break
        any_called += any(word in (BETTER, WORSE) for word, _ in called.values())
        better += sum(word == BETTER for word, _ in called.values())
        used += sum(called[arm][1] if arm in called else max(looks) for arm in range(ARMS))
    return [any_called / studies, better / studies / ARMS, used / studies / ARMS]


def print_row(cells: Sequence[object]) -> None:
    """Prints a row of a table in Markdown."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def print_header(*cells: str) -> None:
    """Prints the first two lines of a table in Markdown."""
    print()
    print_row(cells)
    print("|" + "---|" * len(cells), flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="of each kind")
    studies = parser.parse_args().studies
    equal, unequal = np.ones(ARMS + 1), np.array([1.0, 0.5, 0.5, 1.0, 2.0, 3.0])
    quiet = np.array([0.1, *[1.0] * ARMS])
    kinds = {
        "normal": (normal, equal, False),
        "normal, spreads 0.5 to 3": (normal, unequal, False),
        "skewed arms, a quiet baseline": (skewed, quiet, False),
        "heavy tails": (heavy, equal, False),
        "normal, a tenth of the runs collapse": (normal, equal, True),
    }
    print_header(
        "runs",
        "seeds",
        "a false difference in a study",
        "difference, points",
        "arms found better",
        "a false equivalence at the edge",
    )
    for name, kind in kinds.items():
        for seeds in SEEDS:
            wrong, effect, found, same = rates_of_arms(
                np.random.default_rng(seeds), studies, seeds, *kind
            )
            print_row([name, seeds, f"{wrong:.3f}", f"{effect:.2f}", f"{found:.2f}", f"{same:.3f}"])
    print_header(
        "parts hold by",
        "seeds",
        "any claim supported",
        "that on one arm",
        "on five arms",
        "on collapse",
        "any contradicted",
    )
    for margin, words in ((0.0, "nothing: all at their edge"), (0.03, "3 points; 95% collapse")):
        for seeds in SEEDS:
            claims = rates_of_claims(np.random.default_rng(seeds), studies, seeds, margin)
            print_row([words, seeds, *(f"{share:.3f}" for share in claims)])
    print_header(
        "test",
        "looks at",
        "true difference, points",
        "arms called better or worse in a study",
        "arms called better",
        "seeds of an arm",
    )
    ways = (
        ("paired", PAIRED, LOOKS, "3, 5, 8, 10 seeds"),
        ("anytime", ANYTIME, range(3, MOST + 1), f"each of 3 to {MOST} seeds"),
    )
    for name, test, looks, words in ways:
        for effect in (0.0, 1.0, 2.0, 5.0):
            rng = np.random.default_rng(0)
            # Half as many: each has up to 18 comparisons.
            called, better, used = rates_of_looking(rng, studies // 2, effect * POINT, test, looks)
            print_row([name, words, f"{effect:g}", f"{called:.3f}", f"{better:.2f}", f"{used:.1f}"])


if __name__ == "__main__":
    main()
