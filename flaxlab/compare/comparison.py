"""Compares the arms of an ablation with their baseline, paired by seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flaxlab import config as configs
from flaxlab.claims import Claim
from flaxlab.compare.results import LEVEL, ComparedArm, Comparison, JudgedClaim, Reported
from flaxlab.compare.runs import SHARES, Run, group_by_arm
from flaxlab.compare.statistics import (
    Difference,
    Estimate,
    holm,
    mean_interval,
    paired_difference,
    prediction_interval,
)
from flaxlab.compare.verdicts import decide, judge
from flaxlab.config import ConfigDict
from flaxlab.data.catalog import is_original
from flaxlab.errors import UsageError
from flaxlab.run.fingerprint import TRACERS


def compare(
    runs: Sequence[Run],
    baseline: str | None,
    title: str,
    notes: Sequence[str] = (),
    command: str | None = None,
    order: Sequence[str] = (),
    vary: Sequence[str] = (),
    claims: Mapping[int, Claim] | None = None,
) -> Comparison:
    """Compares finished runs of one protocol.

    Args:
        runs: runs of one or several arms.
        baseline: name of the arm to compare with; None: the one that the others' configs name.
        title: title of the comparison.
        notes: sentences to pass on.
        command: with which the runs were made.
        order: names of arms that come first, in this order, after the baseline.
        vary: fields of the protocol in which the runs may differ.
        claims: claims to judge, by number.

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
        claims=judge_claims(claims or {}, by_arm),
        departures=_departures(by_arm, vary),
        notes=[*notes, *_cautions(arms)],
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
) -> ComparedArm:
    scores = [run.scores.as_dict() for run in seeds.values()]
    first = next(iter(seeds.values()))
    prediction = prediction_interval([each["accuracy"] for each in scores]).clipped()
    means = {key: mean_interval([each[key] for each in scores]) for key in scores[0]}
    shares = {key: means[key].clipped() for key in SHARES}
    return ComparedArm(
        name=name,
        runs=seeds,
        changes=configs.differences_but_seed(baseline, first.config),
        means={**means, **shares},
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
    if t_p is None:
        return "one seed in common with the baseline: no interval and no test"
    if t_p < LEVEL:
        points = f"{abs(mean) * 100:.1f}" if abs(mean) >= 0.001 else f"{abs(mean) * 100:.2g}"
        return f"{'better' if mean > 0 else 'worse'} by {points} points at n = {count}"
    if difference.detectable is None:
        same = "the same accuracy" if mean == 0 else "the same difference"
        return f"no detectable difference: {same} in all {count} seeds"
    could = f"could have seen {difference.detectable * 100:.1f} points"
    if difference.detectable > 1:
        could = "could have seen no difference under 100 points"
    return f"no detectable difference at n = {count}; {could}"


def _reported(run: Run, prediction: Estimate) -> Reported | None:
    reported, data = run.lab_report, run.config.data.name
    # What it states is of the last epoch, which a run with a holdout does not report.
    if run.config.data.validation != "test":
        return None
    if reported is None or reported.data != data:
        return None
    if not is_original(data, run.summary["dataset"]):
        return None
    inside = prediction.contains(reported.final_accuracy)
    return Reported(reported.final_accuracy, reported.best_accuracy, inside)


def judge_claims(
    claims: Mapping[int, Claim], by_arm: Mapping[str, dict[int, Run]]
) -> list[JudgedClaim]:
    """Returns each claim with the verdict of the runs that are there, {arm: {seed: run}}."""
    judgements = []
    for claim in claims.values():
        values = {
            name: {seed: run.scores.as_dict() for seed, run in seeds.items()}
            for name, seeds in by_arm.items()
            if next(iter(seeds.values())).config.data.name == claim.data
        }
        judgements.append([judge(statement, values) for statement in claim.statements])
    return [
        JudgedClaim(number, claim, judged, verdict)
        for (number, claim), judged, verdict in zip(
            claims.items(), judgements, decide(judgements), strict=True
        )
    ]


def _departures(
    by_arm: Mapping[str, dict[int, Run]], vary: Sequence[str]
) -> dict[str, tuple[Any, list[Any]]]:
    found: dict[str, tuple[Any, list[Any]]] = {}
    for seeds in by_arm.values():
        for path, (old, new) in (next(iter(seeds.values())).departures or {}).items():
            if path not in vary:
                values = found.setdefault(path, (old, []))[1]
                if new not in values:
                    values.append(new)
    return found


def _made_by_different_code(arm: ComparedArm) -> bool:
    """Says whether runs differ in what they computed, as far as the same versions can tell."""
    known: dict[str, set[str]] = {}
    for run in arm.runs.values():
        if "fingerprints" in run.summary:
            versions = {key: run.summary["versions"].get(key) for key in TRACERS}
            known.setdefault(str(versions), set()).add(str(run.summary["fingerprints"]))
    return any(len(found) > 1 for found in known.values())


def _cautions(arms: Sequence[ComparedArm]) -> list[str]:
    runs = [run for arm in arms for run in arm.runs.values()]
    notes = []
    for key, what in (("device", "devices"), ("versions", "versions of the software")):
        if len({str(run.summary[key]) for run in runs}) > 1:
            notes.append(f"The runs were made with different {what}.")
    for arm in arms:
        if _made_by_different_code(arm):
            notes.append(f"The runs of {arm.name} were made by different code: see fingerprints.")
    if any(run.departures is None for run in runs):
        notes.append(
            "Runs of an older version do not say whether they have the protocol of their"
            " experiment file."
        )
    single = [arm.name for arm in arms if len(arm.runs) == 1]
    if single:
        notes.append(f"One seed only, so no interval and no test: {', '.join(single)}.")
    pairs = {arm.name: arm.difference.estimate.count for arm in arms if arm.difference}
    for arm in arms:
        most = max(len(arm.runs), len(arms[0].runs))
        if arm.name in pairs and pairs[arm.name] < most:
            notes.append(
                f"{arm.name} has {pairs[arm.name]} of {most} seeds in common with {arms[0].name}:"
                " the difference is of those, the accuracy of all."
            )
    fewest = min((count for count in pairs.values() if count > 1), default=None)
    if fewest is not None and 2 / 2**fewest > LEVEL:
        notes.append(
            f"With {fewest} seeds the sign-flip test cannot give less than p ="
            f" {2 / 2**fewest:g}: it needs {math.ceil(1 - math.log2(LEVEL))} to reach"
            f" {LEVEL:.2f} even without a correction."
        )
    if len({tuple(run.summary["classes"]) for run in runs}) > 1:
        notes.append("The arms have different classes: the pictures of the classes are left out.")
    return notes
