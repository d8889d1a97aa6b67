"""Compares the arms of an ablation with their baseline, paired by seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.claims import CLAIMS
from flaxlab import config as configs
from flaxlab.command_line import experiment_file, load_experiment
from flaxlab.comparison.claims import decide, judge
from flaxlab.comparison.results import LEVEL, Arm, Comparison, JudgedClaim, Reported
from flaxlab.comparison.runs import Run, group_by_arm
from flaxlab.comparison.statistics import (
    Difference,
    Estimate,
    holm,
    mean_interval,
    paired_difference,
    prediction_interval,
)
from flaxlab.config import ConfigDict
from flaxlab.data.catalog import is_original
from flaxlab.errors import UsageError


def compare(
    runs: Sequence[Run],
    baseline: str | None,
    title: str,
    notes: Sequence[str] = (),
    command: str | None = None,
    order: Sequence[str] = (),
) -> Comparison:
    """Compares finished runs of one protocol.

    Args:
        runs: of one or several arms.
        baseline: name of the arm to compare with; None: the one that the others' configs name.
        title: of the comparison.
        notes: sentences to pass on.
        command: with which the runs were made.
        order: names of arms that come first, in this order, after the baseline.

    Raises:
        UsageError: there is no such baseline, or arms or runs are the same.
    """
    by_arm = group_by_arm(runs)
    chosen = _choose_baseline(by_arm, baseline)
    names = list(dict.fromkeys([chosen, *(name for name in order if name in by_arm), *by_arm]))
    reference = by_arm[chosen]
    tested = sum(len(by_arm[name].keys() & reference.keys()) > 1 for name in names[1:])
    differences = {
        name: _difference(by_arm[name], reference, LEVEL / max(tested, 1)) for name in names[1:]
    }
    paired = [difference for difference in differences.values() if difference is not None]
    t_ps = holm([difference.t_p for difference in paired])
    flip_ps = holm([difference.sign_flip_p for difference in paired])
    adjusted = dict(
        zip(
            [name for name, difference in differences.items() if difference is not None],
            zip(t_ps, flip_ps, strict=True),
            strict=True,
        )
    )
    arms = [
        _arm(
            name,
            by_arm[name],
            next(iter(reference.values())).config,
            differences.get(name),
            *adjusted.get(name, (None, None)),
            is_baseline=name == chosen,
        )
        for name in names
    ]
    return Comparison(
        title=title,
        arms=arms,
        claims=_judge_claims(by_arm),
        departures=_departures(by_arm),
        notes=[*notes, *_cautions(by_arm)],
        command=command,
    )


def _choose_baseline(by_arm: Mapping[str, dict[int, Run]], wanted: str | None) -> str:
    if wanted is not None and wanted not in by_arm:
        raise UsageError(f"no finished run is of {wanted}; --baseline takes {_either(by_arm)}")
    if wanted is not None:
        return wanted
    if len(by_arm) == 1:
        return next(iter(by_arm))
    named = Counter(
        run.config.baseline for seeds in by_arm.values() for run in list(seeds.values())[:1]
    )
    candidates = [name for name, _ in named.most_common() if name in by_arm]
    if not candidates:
        raise UsageError(f"which arm is the baseline? Say --baseline={_either(by_arm)}")
    return candidates[0]


def _either(by_arm: Mapping[str, object]) -> str:
    return " or ".join(f'"{name}"' if " " in name else name for name in by_arm)


def _difference(
    seeds: Mapping[int, Run], reference: Mapping[int, Run], level: float
) -> Difference | None:
    common = sorted(seeds.keys() & reference.keys())
    if not common:
        return None
    return paired_difference(
        [seeds[seed].scores.accuracy for seed in common],
        [reference[seed].scores.accuracy for seed in common],
        level,
    )


def _arm(
    name: str,
    seeds: dict[int, Run],
    baseline: ConfigDict,
    difference: Difference | None,
    t_p: float | None,
    sign_flip_p: float | None,
    is_baseline: bool,
) -> Arm:
    scores = [run.scores.as_dict() for run in seeds.values()]
    first = next(iter(seeds.values()))
    changes = configs.meaningful_differences(baseline, first.config)
    prediction = prediction_interval([each["accuracy"] for each in scores])
    return Arm(
        name=name,
        runs=seeds,
        changes={path: pair for path, pair in changes.items() if path != "seed"},
        means={key: mean_interval([each[key] for each in scores]) for key in scores[0]},
        prediction=prediction,
        difference=difference,
        t_p=t_p,
        sign_flip_p=sign_flip_p,
        verdict="the baseline" if is_baseline else _verdict(difference, t_p),
        reported=_reported(first, prediction),
    )


def _verdict(difference: Difference | None, t_p: float | None) -> str:
    if difference is None:
        return "no seed in common with the baseline"
    count, mean = difference.estimate.count, difference.estimate.mean
    if difference.detectable == 0 and mean == 0:
        return "the same in every seed"
    if t_p is None or difference.detectable is None:
        return "one seed: no interval and no test"
    if t_p < LEVEL:
        return f"{'better' if mean > 0 else 'worse'} by {abs(mean) * 100:.1f} points"
    could = f"could have seen {difference.detectable * 100:.1f} points"
    if difference.detectable > 1:
        could = "could have seen none"
    return f"no detectable difference at n = {count}; {could}"


def _reported(run: Run, prediction: Estimate) -> Reported | None:
    reported, data = run.config.reported, run.config.data.name
    if reported.final_accuracy is None or reported.data != data:
        return None
    if not is_original(data, run.summary["dataset"]):
        return None
    inside = prediction.contains(reported.final_accuracy)
    return Reported(reported.final_accuracy, reported.best_accuracy, inside)


def _judge_claims(by_arm: Mapping[str, dict[int, Run]]) -> list[JudgedClaim]:
    judgements = []
    for claim in CLAIMS.values():
        values = {
            name: {seed: run.scores.as_dict() for seed, run in seeds.items()}
            for name, seeds in by_arm.items()
            if next(iter(seeds.values())).config.data.name == claim.data
        }
        judgements.append([judge(statement, values) for statement in claim.statements])
    return [
        JudgedClaim(number, claim, judged, verdict)
        for (number, claim), judged, verdict in zip(
            CLAIMS.items(), judgements, decide(judgements), strict=True
        )
    ]


def _departures(by_arm: Mapping[str, dict[int, Run]]) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for seeds in by_arm.values():
        config = next(iter(seeds.values())).config
        if not config.name.isidentifier():
            continue  # an arm of a sweep
        file = experiment_file(config.name, [])
        if file.is_file():
            changed = configs.meaningful_differences(load_experiment(file), config)
            found.update({path: pair for path, pair in changed.items() if path != "seed"})
    return found


def _cautions(by_arm: Mapping[str, dict[int, Run]]) -> list[str]:
    runs = [run for seeds in by_arm.values() for run in seeds.values()]
    notes = []
    for key, what in (("device", "devices"), ("versions", "versions of the software")):
        if len({str(run.summary[key]) for run in runs}) > 1:
            notes.append(f"The runs were made with different {what}.")
    counts = {name: len(seeds) for name, seeds in by_arm.items()}
    if min(counts.values()) == 1:
        single = ", ".join(name for name, count in counts.items() if count == 1)
        notes.append(f"One seed only, so no interval and no test: {single}.")
    fewest = min((count for count in counts.values() if count > 1), default=None)
    if fewest is not None and 2 / 2**fewest > LEVEL:
        notes.append(
            f"With {fewest} seeds the sign-flip test cannot give less than p ="
            f" {2 / 2**fewest:g}: it needs {math.ceil(1 - math.log2(LEVEL))} to reach"
            f" {LEVEL:.2f} even without a correction."
        )
    return notes
