"""Compares the arms of an ablation with their baseline, paired by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxlab import config as configs
from flaxlab.claims import Claim
from flaxlab.compare.arm_verdict import arm_verdict, describe_losses, describe_verdict
from flaxlab.compare.cautions import cautions
from flaxlab.compare.differences import differences
from flaxlab.compare.factors import effects
from flaxlab.compare.noise import spread_between_runs
from flaxlab.compare.outcomes import (
    Design,
    Outcomes,
    outcomes_of,
    scored_runs,
)
from flaxlab.compare.procedures import PAIRED
from flaxlab.compare.results import BASELINE, ComparedArm, Comparison, Difference, Reported
from flaxlab.compare.rules import accuracy_step
from flaxlab.compare.run_scores import GAPS, LATE, SHARES
from flaxlab.compare.runs import Run, Unfinished, group_by_arm
from flaxlab.compare.statistics import Estimate, mean_interval, prediction_interval
from flaxlab.compare.verdicts import ArmValues, JudgedClaim, decide
from flaxlab.data.catalog import is_original
from flaxlab.errors import UsageError


def compare(
    runs: Sequence[Run],
    baseline: str | None,
    title: str,
    *,
    unfinished: Sequence[Unfinished] = (),
    design: Design | None = None,
    notes: Sequence[str] = (),
    command: str | None = None,
    order: Sequence[str] = (),
    vary: Sequence[str] = (),
    claims: Mapping[int, Claim] | None = None,
) -> Comparison:
    """Compares the runs of one protocol.

    Args:
        runs: the finished ones, of one or several arms.
        baseline: name of the arm to compare with; None: the one that the others' configs name.
        title: title of the comparison.
        unfinished: runs that were begun and are not finished.
        design: what was fixed before the runs; None: no suite says.
        notes: sentences to pass on.
        command: with which the runs were made.
        order: names of arms that come first, in this order, after the baseline.
        vary: fields of the protocol in which the runs may differ.
        claims: claims to judge, by number.

    Raises:
        UsageError: there is no such baseline, or arms or runs are the same.
    """
    by_arm, planned = group_by_arm(runs), design or Design()
    chosen = _choose_baseline(by_arm, baseline)
    names = list(dict.fromkeys([chosen, *(name for name in order if name in by_arm), *by_arm]))
    outcomes = arm_outcomes(by_arm, unfinished, planned)
    comparisons = len({*names, *planned.arms}) - 1
    to_baseline = differences(by_arm, outcomes, chosen, names[1:], comparisons, planned)
    first = next(iter(by_arm[chosen].values()))
    arms = []
    for name in names:
        found, difference = outcomes[name], to_baseline.get(name)
        word = arm_verdict(difference, planned)
        verdict = describe_verdict(difference, planned, found, outcomes[chosen])
        if name == chosen:
            word, verdict = BASELINE, ", ".join(filter(None, [BASELINE, describe_losses(found)]))
        arms.append(_arm(name, by_arm[name], found, first, planned, difference, word, verdict))
    return Comparison(
        title=title,
        arms=arms,
        absent={
            name: each for name, each in outcomes.items() if name not in by_arm and each.planned
        },
        design=planned,
        comparisons=max(comparisons, 1),
        effects=effects(by_arm, outcomes, planned),
        claims=judge_claims(claims or {}, by_arm, outcomes, planned.test),
        departures=_departures(by_arm, vary),
        notes=[*notes, *cautions(arms, planned)],
        command=command,
    )


def arm_outcomes(
    by_arm: Mapping[str, dict[int, Run]], unfinished: Sequence[Unfinished], design: Design
) -> dict[str, Outcomes]:
    """Returns what became of the runs of each arm, those without a finished run included."""
    names = [*by_arm, *(each.config.name for each in unfinished), *design.arms]
    return {
        name: outcomes_of(
            by_arm.get(name, {}),
            [each for each in unfinished if each.config.name == name],
            design.seeds if name in design.arms else (),
            design,
        )
        for name in dict.fromkeys(names)
    }


def _choose_baseline(by_arm: Mapping[str, dict[int, Run]], wanted: str | None) -> str:
    if wanted is not None and wanted not in by_arm:
        raise UsageError(f"arm {wanted} has no finished run; choose --baseline={_either(by_arm)}")
    if wanted is not None:
        return wanted
    if len(by_arm) == 1:
        return next(iter(by_arm))
    named = Counter(
        run.config.baseline or run.config.name
        for seeds in by_arm.values()
        for run in list(seeds.values())[:1]
    )
    candidates = [name for name, _ in named.most_common() if name in by_arm]
    if not candidates:
        raise UsageError(f"which arm is the baseline? Say --baseline={_either(by_arm)}")
    return candidates[0]


def _either(by_arm: Mapping[str, object]) -> str:
    return " or ".join(f'"{name}"' if " " in name else name for name in by_arm)


def _arm(
    name: str,
    runs: dict[int, Run],
    outcomes: Outcomes,
    baseline: Run,
    design: Design,
    difference: Difference | None,
    word: str,
    verdict: str,
) -> ComparedArm:
    scored = list(scored_runs(runs, outcomes).values())
    scores = [run.scores.as_dict() for run in scored]
    means = {
        key: mean_interval([each[key] for each in scores])
        for key in scores[0]
        if all(key in each for each in scores)
    }
    shares = {key: means[key].clipped() for key in SHARES if key in means}
    shares |= {key: means[key].clipped(-1.0, 1.0) for key in GAPS if key in means}
    prediction = prediction_interval([each["accuracy"] for each in scores]).clipped()
    right = [run.right for run in scored]
    return ComparedArm(
        name=name,
        runs=runs,
        outcomes=outcomes,
        changes=configs.differences_but_seed(baseline.config, scored[0].config),
        means={**means, **shares},
        prediction=prediction,
        spread=spread_between_runs(np.array(right)) if outcomes.learned else None,
        difference=difference,
        word=word,
        verdict=verdict,
        reported=_reported(scored[0], prediction, design, outcomes),
    )


def _reported(
    run: Run, prediction: Estimate, design: Design, outcomes: Outcomes
) -> Reported | None:
    reported, data = run.lab_report, run.config.data.name
    # What it states is of the last epoch, which a run with a holdout does not report.
    if run.config.data.validation != "test":
        return None
    if reported is None or reported.data != data:
        return None
    if not is_original(data, run.summary["dataset"]):
        return None
    inside = prediction.contains(reported.final_accuracy)
    if outcomes.collapsed and (not outcomes.learned or not inside):
        inside = design.is_collapse(reported.final_accuracy, run.guessing)
    return Reported(reported.final_accuracy, reported.best_accuracy, inside)


def judge_claims(
    claims: Mapping[int, Claim],
    by_arm: Mapping[str, dict[int, Run]],
    outcomes: Mapping[str, Outcomes],
    test: str = PAIRED,
) -> list[JudgedClaim]:
    """Returns each claim with the verdict of the runs that are there, {arm: {seed: run}}.

    Arms on other data than a claim's do not count for it.
    """
    values: dict[str, dict[str, ArmValues]] = {}
    for name, runs in by_arm.items():
        data = next(iter(runs.values())).config.data.name
        values.setdefault(data, {})[name] = _claim_values(runs, outcomes[name])
    return decide(claims, values, test)


def _claim_values(runs: Mapping[int, Run], outcomes: Outcomes) -> ArmValues:
    values = {}
    for seed in outcomes.learned:
        values[seed] = runs[seed].scores.as_dict()
        # The best of several epochs on the images that choose it is too good, and the more so the
        # more the curve wobbles: only other images can score it.
        del values[seed]["best_accuracy"]
        if runs[seed].config.data.validation == "holdout":
            values[seed]["best_accuracy"] = runs[seed].scores.accuracy
    shortest = min(runs.values(), key=lambda run: len(run.history["epoch"]))
    steps = dict.fromkeys(("accuracy", "best_accuracy", "gap"), accuracy_step(shortest))
    steps["late_accuracy"] = accuracy_step(shortest, LATE)
    steps["mean_accuracy"] = accuracy_step(shortest, len(shortest.history["epoch"]))
    return ArmValues(values, outcomes, steps)


def _departures(
    by_arm: Mapping[str, dict[int, Run]], vary: Sequence[str]
) -> dict[str, tuple[Any, list[Any]]]:
    found: dict[str, tuple[Any, list[Any]]] = {}
    runs = [next(iter(seeds.values())) for seeds in by_arm.values()]
    fields = [dict(configs.flatten(run.config)) for run in runs]
    for run in runs:
        for path, (old, new) in (run.departures or {}).items():
            if path not in vary and not _is_compared(path, runs, fields):
                values = found.setdefault(path, (old, []))[1]
                if new not in values:
                    values.append(new)
    return found


def _is_compared(path: str, runs: Sequence[Run], fields: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether the arms differ in a field, and their experiment files do not."""
    ours = [each.get(path) for each in fields]
    files = [
        (run.departures or {}).get(path, (value,))[0] for run, value in zip(runs, ours, strict=True)
    ]
    return any(value != ours[0] for value in ours) and all(value == files[0] for value in files)
