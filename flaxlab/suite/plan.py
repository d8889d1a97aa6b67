"""Plans the runs of a suite, or of a sweep over fields of an experiment."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxlab import config as configs
from flaxlab.claims import Claim
from flaxlab.compare.rules import Rules
from flaxlab.compare.suite_file import SuiteRecord
from flaxlab.config import ConfigDict
from flaxlab.config.fields import fixed_differences
from flaxlab.config.find import experiment_file
from flaxlab.config.read import call_in_file, load_lab_report
from flaxlab.data.shape import resolve_config
from flaxlab.errors import UsageError
from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import Variant, shortest
from flaxlab.suite.sweeps import parse_sweep

_LONGEST_FOLDER = 100


@dataclass(frozen=True)
class PlannedArm:
    """One arm, resolved.

    Attributes:
        name: name of the arm and, as far as a path allows, of its folder.
        file: experiment file.
        overrides: "--config.FIELD=VALUE" each.
        config: resolved and validated config, with the first seed.
    """

    name: str
    file: Path
    overrides: tuple[str, ...]
    config: ConfigDict


@dataclass(frozen=True)
class Plan(Rules):
    """The runs of a suite, each arm with each seed, and the rules by which they are judged.

    Attributes:
        name: name of the suite.
        arms: the arms; the first one is the baseline.
        seeds: seeds of every arm.
        vary: fields in which the arms may depart from their files: those that are swept, and those
            that variants change.
        experiment: name of the swept experiment; None for a suite.
        claims: claims about the arms, by number.
        at_most: number of seeds of an arm that are added until it is decided; None: none are.
        tuned: see `Suite`.
    """

    name: str
    arms: tuple[PlannedArm, ...]
    seeds: tuple[int, ...]
    vary: tuple[str, ...]
    experiment: str | None
    claims: Mapping[int, Claim]
    at_most: int | None = None
    tuned: tuple[str, tuple[Any, ...]] | None = None

    @property
    def baseline(self) -> PlannedArm:
        """The arm that the others are compared with."""
        return self.arms[0]

    def differences(self, arm: PlannedArm) -> dict[str, tuple[Any, Any]]:
        """Returns {path: (baseline, arm)} for the differences that matter to an arm's numbers."""
        return configs.meaningful_differences(self.baseline.config, arm.config)


def plan_suite(file: Path, seeds: int | None, overrides: Sequence[str]) -> Plan:
    """Returns the plan of a suite.

    Args:
        file: the suite's file, which defines `get_suite()`.
        seeds: number of seeds, counted up from `config.seed`; None: the suite's own number.
        overrides: "--config.FIELD=VALUE" each, for every arm.

    Raises:
        UsageError: an arm does not differ from the baseline, or differs in a fixed field; or a
            file is missing or wrong.
    """
    suite = call_in_file(file, "get_suite", Suite)
    beside = file.expanduser().resolve().parent
    arms = tuple(
        _plan_suite_arm(arm, suite, [beside, beside.parent], overrides)
        for arm in (suite.baseline, *suite.arms)
    )
    variants = [arm for arm in (suite.baseline, *suite.arms) if isinstance(arm, Variant)]
    plan = Plan(
        name=suite.name,
        arms=arms,
        seeds=_seeds(arms[0].config, seeds or suite.seeds),
        vary=tuple(dict.fromkeys(path for arm in variants for path in arm.changes)),
        experiment=None,
        claims=suite.claims,
        tuned=suite.tuned,
        **suite.rules,
    )
    for arm, planned in zip(suite.arms, plan.arms[1:], strict=True):
        if isinstance(arm, Variant):
            _require_values(plan, arm)
        _require_ablation(plan, planned, suite.fixed, arm)
    if suite.outcome != "accuracy" and plan.baseline.config.data.validation == "holdout":
        raise UsageError(
            f'the suite has outcome="{suite.outcome}", and its arms data.validation=holdout, where'
            " epochs are scored by the images that choose one of them; use the accuracy, or"
            " --config.data.validation=test"
        )
    _require_distinct(plan.arms)
    _require_tunable(plan)
    return plan


def _require_tunable(plan: Plan) -> None:
    """Checks the field that arms tune, and each of its values in each arm."""
    if plan.tuned is None:
        return
    path, values = plan.tuned
    if path in (*plan.vary, "seed", "name", "data.validation"):
        raise UsageError(
            f"the suite's `tuned` is about {path}, in which arms differ or which trials need; tune"
            " another field"
        )
    for arm, value in itertools.product(plan.arms, values):
        resolve_config(arm.file, [*arm.overrides, f"--config.{path}={value}"])


def _plan_suite_arm(
    arm: str | Variant, suite: Suite, folders: Sequence[Path], overrides: Sequence[str]
) -> PlannedArm:
    if isinstance(arm, str):
        return _plan_arm(arm, experiment_file(arm, folders), overrides)
    changes, experiment, baseline = dict(arm.changes), arm.of, suite.baseline
    if not experiment and isinstance(baseline, Variant):
        changes, experiment = {**baseline.changes, **changes}, baseline.of
    elif not experiment:
        experiment = str(baseline)
    chosen = [f"--config.{path}={value}" for path, value in changes.items()]
    return _plan_arm(arm.name, experiment_file(experiment, folders), [*overrides, *chosen])


def _require_values(plan: Plan, arm: Variant) -> None:
    """Checks that the baseline has the values from which an arm's design says that it departs."""
    baseline = dict(configs.flatten(plan.baseline.config))
    for path, value in arm.from_.items():
        found = baseline.get(path)
        if found != value:
            raise UsageError(
                f"the baseline {plan.baseline.name} has {path}={found!r}, but the design of the arm"
                f" {arm.name} starts from {value!r}; give the design the baseline's"
                " value, or take another baseline"
            )


def _plan_arm(name: str, file: Path, overrides: Sequence[str]) -> PlannedArm:
    """Returns an arm whose config has its name, by which a comparison tells arms apart."""
    config = resolve_config(file, overrides)
    if config.name != name:
        overrides = [*overrides, f"--config.name={name}"]
        config = resolve_config(file, overrides)
    return PlannedArm(name, file, tuple(overrides), config)


def _require_ablation(
    plan: Plan, arm: PlannedArm, fixed: Sequence[str], given: str | Variant
) -> None:
    baseline = plan.baseline
    asked_for = tuple(given.changes) if isinstance(given, Variant) else ()
    if not plan.differences(arm):
        raise UsageError(
            f"the arm {arm.name} does not differ from the baseline {baseline.name}, so there is"
            " nothing to compare; remove it from the suite, or remove the --config override that"
            " makes the two equal"
        )
    touched = fixed_differences(baseline.config, arm.config, fixed, asked_for)
    if touched:
        raise UsageError(
            f"the arm {arm.name} differs from the baseline {baseline.name} in what the suite"
            f" declares fixed ({configs.describe(touched)}); give both the same value by --config,"
            " or remove the field from `fixed` in the suite's file"
        )


def plan_sweep(
    file: Path, seeds: int | None, overrides: Sequence[str], sweeps: Sequence[str]
) -> Plan:
    """Returns a plan with an arm for each combination of values of some fields.

    Args:
        file: an experiment file.
        seeds: number of seeds, counted up from `config.seed`; None: 5.
        overrides: "--config.FIELD=VALUE" each, for every arm.
        sweeps: "--sweep.FIELD=VALUE,VALUE,..." each; commas inside brackets separate no values.

    Raises:
        UsageError: a sweep is malformed, or a field or value is wrong.
    """
    axes = [parse_sweep(sweep) for sweep in sweeps]
    own = resolve_config(file, overrides)
    short = shortest([path for path, _ in axes])
    arms = []
    for values in itertools.product(*(values for _, values in axes)):
        chosen = [f"--config.{path}={value}" for (path, _), value in zip(axes, values, strict=True)]
        given = [*overrides, *chosen]
        resolved = dict(configs.flatten(resolve_config(file, given)))
        name = " ".join(f"{short[path]}={resolved[path]}" for path, _ in axes)
        arms.append(_plan_arm(name, file, given))
    # An arm with the experiment's own values, if there is one, is the baseline.
    arms.sort(key=lambda arm: bool(configs.meaningful_differences(own, arm.config)))
    _require_distinct(arms)
    swept = tuple(path for path, _ in axes)
    name = f"{own.name}_{'_'.join(short.values())}"
    return Plan(name, tuple(arms), _seeds(own, seeds or 5), swept, own.name, {})


def _require_distinct(arms: Sequence[PlannedArm]) -> None:
    for index, arm in enumerate(arms):
        for other in arms[:index]:
            if not configs.meaningful_differences(other.config, arm.config):
                raise UsageError(
                    f"the arms {other.name} and {arm.name} would give the same runs: they differ"
                    " in nothing that changes a number; leave one out"
                )


def more_seeds(plan: Plan, count: int) -> tuple[int, ...]:
    """Returns `count` seeds, counted up from the plan's first one.

    Raises:
        UsageError: they go beyond the largest seed.
    """
    return _seeds(plan.baseline.config, count)


def _seeds(config: ConfigDict, count: int) -> tuple[int, ...]:
    if config.seed + count > 2**32:
        raise UsageError(
            f"{count} seeds from config.seed={config.seed} go beyond 2**32 - 1; start lower"
        )
    return tuple(range(config.seed, config.seed + count))


def suite_record(plan: Plan, command: str) -> SuiteRecord:
    """Returns what a comparison needs to know about a plan whose runs `command` makes."""
    return SuiteRecord(
        name=plan.name,
        baseline=plan.baseline.name,
        # The lab report measured with the experiment's own values only.
        arms={
            arm.name: load_lab_report(arm.file) if arm.name == arm.file.stem else None
            for arm in plan.arms
        },
        seeds=plan.seeds,
        vary=plan.vary,
        experiment=plan.experiment,
        claims=plan.claims,
        looks=(),
        command=command,
        at_most=plan.at_most,
        **plan.rules,
    )


def folder_name(arm: str) -> str:
    """Returns the name of an arm's folder: the arm's own, with `_` for unusual characters.

    A changed name ends in a hash, so that no two arms share a folder.
    """
    plain = re.sub(r"[^\w.=+-]+", "_", arm).strip("_.")[:_LONGEST_FOLDER]
    if plain == arm:
        return arm
    return f"{plain}_{hashlib.sha256(arm.encode()).hexdigest()[:6]}"
