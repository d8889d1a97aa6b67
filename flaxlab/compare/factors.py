"""Effects and interactions of a factorial suite, in which arms change several things at once.

Every combination of changes is an arm, so that a change is seen with and without the others. Seeds
are the blocks of the design: each effect is a contrast of one seed's runs, and its interval is that
of the contrasts (Box, Hunter and Hunter, "Statistics for Experimenters", 2005).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from flaxlab.compare.outcomes import Design, Outcomes
from flaxlab.compare.procedures import difference_interval, difference_p
from flaxlab.compare.runs import Run
from flaxlab.compare.statistics import LEVEL, Estimate, bonferroni


@dataclass(frozen=True)
class Effect:
    """What one change does to the outcome, or what several do beyond their own effects.

    Attributes:
        factors: names of the changes; several: their interaction.
        estimate: for one change, the outcome with it minus without it, averaged over all
            combinations of the others; for two, by how much the effect of one is larger where the
            other is made; and so on. With the simultaneous interval of all effects.
        aliases: what the same contrast holds besides, (weight, factors) each, where only a fraction
            of the combinations is run: the estimate is the effect of `factors`, plus that of each
            alias times its weight.
        p: two-sided p value over the seeds, by the suite's test, times the number of effects; None
            for one seed.
    """

    factors: tuple[str, ...]
    aliases: tuple[tuple[float, tuple[str, ...]], ...]
    estimate: Estimate
    p: float | None


def effects(
    by_arm: Mapping[str, Mapping[int, Run]],
    outcomes: Mapping[str, Outcomes],
    design: Design,
) -> list[Effect]:
    """Returns the effects of a factorial design, single ones first.

    Args:
        by_arm: {arm: {seed: run}}.
        outcomes: by arm.
        design: names factors and arms, and says what is compared and how.

    Returns:
        One effect fewer than there are arms, 2**k - 1 of k factors in all combinations; none
        without factors, without an arm, or without a seed with which all arms have learned.
    """
    changed = set(itertools.chain(*design.factors.values()))
    whole = changed < set(design.arms) <= by_arm.keys()  # and not some folders of a suite
    if not design.factors or not whole:
        return []
    seeds = sorted(set.intersection(*(set(outcomes[arm].learned) for arm in design.arms)))
    if not seeds:
        return []
    step = max(design.step(by_arm[arm][seed]) for arm in design.arms for seed in seeds)
    groups = contrasts(design)
    found = []
    for group, aliases in groups.items():
        signs = {arm: contrast_sign(arm, group, design.factors) for arm in design.arms}
        scale = len(design.arms) / 2 ** len(group)
        values = {
            seed: sum(sign * design.score(by_arm[arm][seed]) for arm, sign in signs.items()) / scale
            for seed in seeds
        }
        nothing = dict.fromkeys(values, 0.0)
        estimate = difference_interval(design.test, values, nothing, LEVEL / len(groups), step)
        p = difference_p(design.test, values, nothing, step)
        # Each further change is a difference of two such effects.
        most = 2.0 ** (len(group) - 1)
        estimate = estimate.clipped(-most, most)
        found.append(Effect(group, aliases, estimate, bonferroni(p, len(groups))))
    return found


def contrasts(
    design: Design,
) -> dict[tuple[str, ...], tuple[tuple[float, tuple[str, ...]], ...]]:
    """Returns {factors: aliases, see `Effect`} for each contrast of the arms.

    With all combinations of the factors no contrast has an alias. In a fraction, groups of factors
    whose signs agree in all arms, or are opposite in all, have one contrast: that of the smallest.
    """
    found: dict[tuple[int, ...], tuple[str, ...]] = {}
    aliases: dict[tuple[str, ...], tuple[tuple[float, tuple[str, ...]], ...]] = {}
    for size in range(1, len(design.factors) + 1):
        for group in itertools.combinations(design.factors, size):
            signs = [contrast_sign(arm, group, design.factors) for arm in design.arms]
            if len(set(signs)) == 1:
                continue  # it is what defines the fraction
            turned = tuple(signs[0] * sign for sign in signs)
            first = found.setdefault(turned, group)
            if first == group:
                aliases[group] = ()
                continue
            # Each factor of an interaction halves the contrast once more.
            sign = signs[0] * contrast_sign(design.arms[0], first, design.factors)
            weight = sign * 2.0 ** (len(first) - len(group))
            aliases[first] = (*aliases[first], (weight, group))
    return aliases


def contrast_sign(arm: str, group: tuple[str, ...], factors: Mapping[str, tuple[str, ...]]) -> int:
    """Returns 1 or -1, with which an arm enters the contrast of some factors."""
    return math.prod(1 if arm in factors[factor] else -1 for factor in group)
