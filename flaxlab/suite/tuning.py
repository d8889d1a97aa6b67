"""Fair tuning: each arm tries the same values of a field, and is compared at its best as well.

An ablation "as given" trains all arms with one value, which may suit the baseline alone. Here every
arm gets the same small budget to choose its own: one run of each value, scored on a holdout of the
training split. The test split has no part in the choice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flaxlab import config as configs
from flaxlab.compare.results import Comparison
from flaxlab.compare.runs import ended_by
from flaxlab.data.shape import resolve_config
from flaxlab.errors import RunFailed
from flaxlab.suite.plan import Plan, PlannedArm
from flaxlab.suite.runs import run_folder


@dataclass(frozen=True)
class Trials:
    """What the trials of an arm have shown.

    Attributes:
        accuracies: {value: accuracy on the holdout, of the best epoch}; None if the run diverged.
        own: the value that the arm has as given.
    """

    accuracies: Mapping[Any, float | None]
    own: Any

    @property
    def best(self) -> Any:
        """The value with the highest accuracy; of several, the arm's own, or the first."""
        reached = {value: found for value, found in self.accuracies.items() if found is not None}
        highest = max(reached.values())
        best = [value for value, found in reached.items() if found == highest]
        return self.own if self.own in best else best[0]


def trials_of(plan: Plan) -> Plan:
    """Returns the plan of the trials: each arm with each value, the first seed, on a holdout."""
    assert plan.tuned is not None
    path, values = plan.tuned
    arms = [
        _changed(arm, trial_name(plan, arm, value), {path: value, "data.validation": "holdout"})
        for arm in plan.arms
        for value in values
    ]
    return replace(
        plan,
        name=f"{plan.name}_tuning",
        arms=tuple(arms),
        seeds=plan.seeds[:1],
        vary=(*plan.vary, path),
        claims={},
        factors={},
        tuned=None,
    )


def trial_name(plan: Plan, arm: PlannedArm, value: Any) -> str:
    """Returns the name of an arm's trial of a value."""
    assert plan.tuned is not None
    return f"{arm.name} {plan.tuned[0].rsplit('.', 1)[-1]}={value}"


def read_trials(plan: Plan, folder: Path) -> dict[str, Trials]:
    """Returns what the trials in `folder` have shown, by arm.

    Raises:
        RunFailed: a trial is not finished for another reason than divergence, or all of an arm
            diverged.
    """
    assert plan.tuned is not None
    path, values = plan.tuned
    trials = iter(trials_of(plan).arms)
    found, unfinished = {}, []
    for arm in plan.arms:
        accuracies: dict[Any, float | None] = {}
        for value in values:
            run = run_folder(folder, next(trials), plan.seeds[0])
            accuracies[value] = _accuracy(run)
            if accuracies[value] is None and not _diverged(run):
                unfinished.append(str(run))
        if not unfinished and not any(each is not None for each in accuracies.values()):
            raise RunFailed(f"{arm.name} diverged with each of {path}={values}; give other values")
        found[arm.name] = Trials(accuracies, dict(configs.flatten(arm.config))[path])
    if unfinished:
        raise RunFailed(
            f"trials did not finish: {', '.join(unfinished)}; start the same command again"
        )
    return found


def _accuracy(run: Path) -> float | None:
    summary = run / "summary.json"
    if not summary.is_file():
        return None
    return float(json.loads(summary.read_text())["best_val_accuracy"])


def _diverged(run: Path) -> bool:
    return ended_by(run) == "divergence"


def plan_at_best(plan: Plan, trials: Mapping[str, Trials]) -> Plan:
    """Returns the plan with each arm at the value that did best in its trials."""
    assert plan.tuned is not None
    path, _ = plan.tuned
    arms = [_changed(arm, arm.name, {path: trials[arm.name].best}) for arm in plan.arms]
    return replace(
        plan,
        name=f"{plan.name}_at_best",
        arms=tuple(arms),
        vary=tuple(dict.fromkeys([*plan.vary, path])),
        tuned=None,
    )


def _changed(arm: PlannedArm, name: str, fields: Mapping[str, Any]) -> PlannedArm:
    changed = {"name": name, **fields} if name != arm.config.name else fields
    overrides = [*arm.overrides, *(f"--config.{path}={value}" for path, value in changed.items())]
    return PlannedArm(name, arm.file, tuple(overrides), resolve_config(arm.file, overrides))


def take_over(plan: Plan, best: Plan, given: Path, at_best: Path) -> None:
    """Copies the finished runs of arms whose own value is the best one: they are the same runs.

    Args:
        plan: the arms as given.
        best: the arms at their best.
        given: folder of the former.
        at_best: folder of the latter.
    """
    for arm, tuned in zip(plan.arms, best.arms, strict=True):
        if configs.meaningful_differences(arm.config, tuned.config):
            continue
        for seed in plan.seeds:
            source, target = run_folder(given, arm, seed), run_folder(at_best, tuned, seed)
            if (source / "summary.json").is_file() and not target.exists():
                partial = target.with_name(f".{target.name}")
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(source, partial)
                partial.rename(target)


def other_trials(plan: Plan, folder: Path) -> list[str]:
    """Returns the names of trials in `folder` that have ended and that the plan no longer has.

    They were made when the suite's file had other values or arms.
    """
    planned = {arm.name for arm in trials_of(plan).arms}
    configs_of = folder.glob("*/seed_*/config.json")
    ended = [
        each for each in configs_of if _accuracy(each.parent) is not None or _diverged(each.parent)
    ]
    return sorted({json.loads(each.read_text())["name"] for each in ended} - planned)


def describe_trials(
    plan: Plan, trials: Mapping[str, Trials], others: Sequence[str] = ()
) -> list[str]:
    """Returns which value each arm chose, from which accuracies, and what it has cost.

    Args:
        plan: the plan of the suite.
        trials: what its trials have shown, by arm.
        others: names of trials of an earlier grid, see `other_trials`.
    """
    assert plan.tuned is not None
    path, values = plan.tuned
    chosen = []
    for name, each in trials.items():
        found = ", ".join(
            f"{value}: {'diverged' if accuracy is None else f'{accuracy:.1%}'}"
            for value, accuracy in each.accuracies.items()
        )
        chosen.append(f"{name} {each.best} ({found})")
    epochs = sum(arm.config.train.epochs for arm in plan.arms) * len(values)
    said = [
        f"Tuned on a holdout of the training split, {path} of each arm: {'; '.join(chosen)}.",
        f"The budget of the tuning: {len(plan.arms) * len(values)} runs, {epochs} epochs in all,"
        " the same for each arm.",
    ]
    if others:
        said.append(
            "Tried as well, before the suite's file was changed, and in neither the choice nor the"
            f" budget: {', '.join(others)}."
        )
    return said


def other_verdicts(comparison: Comparison | None, title: str) -> str:
    """Returns the verdicts of the other comparison of the same arms, under a title."""
    if comparison is None:
        return f"{title}: not compared, since runs failed."
    said = "; ".join(f"{arm.name}: {arm.verdict}" for arm in comparison.arms[1:])
    return f"{title}: {said or 'no arm beside the baseline has finished'}."
