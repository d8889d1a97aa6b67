"""From a suite's file, or a sweep over an experiment's fields, to the runs that it asks for."""

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
from flaxlab.compare.suite_file import SuiteRecord
from flaxlab.config import ConfigDict
from flaxlab.config.fields import fixed_differences
from flaxlab.config.read import call_in_file, experiment_file, load_lab_report, resolve_config
from flaxlab.errors import UsageError
from flaxlab.suite.definition import Suite

_LONGEST_FOLDER = 100

Differences = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class PlannedArm:
    """One arm, resolved.

    Attributes:
        name: name of the arm and, as far as a path allows, of its folder.
        file: its experiment file.
        overrides: "--config.FIELD=VALUE" each.
        config: resolved and validated, of the first seed.
        differences: meaningful ones to the baseline, {path: (baseline, arm)}.
    """

    name: str
    file: Path
    overrides: tuple[str, ...]
    config: ConfigDict
    differences: Differences


@dataclass(frozen=True)
class Plan:
    """The runs of a suite: each arm with each seed.

    Attributes:
        name: name of the suite.
        arms: the first one is the baseline.
        seeds: the same for all arms.
        vary: fields of the protocol in which the arms may differ: those that are swept.
        experiment: the swept experiment; None for a suite.
        claims: what is claimed of the arms, by number.
        collapsed_below: see `Suite`.
        equivalent_within: see `Suite`.
    """

    name: str
    arms: tuple[PlannedArm, ...]
    seeds: tuple[int, ...]
    vary: tuple[str, ...]
    experiment: str | None
    claims: Mapping[int, Claim]
    collapsed_below: float = Suite.collapsed_below
    equivalent_within: float = Suite.equivalent_within

    @property
    def baseline(self) -> PlannedArm:
        """The arm that the others are compared with."""
        return self.arms[0]


def plan_suite(file: Path, seeds: int | None, overrides: Sequence[str]) -> Plan:
    """Resolves a suite's file.

    Args:
        file: defines `get_suite()`.
        seeds: number of seeds; None: as the suite has it. They count up from `config.seed`.
        overrides: "--config.FIELD=VALUE" each, for every arm.

    Raises:
        UsageError: an arm differs from the baseline in nothing, or in what the suite declares
            fixed; or a file is missing or wrong.
    """
    suite = call_in_file(file, "get_suite", Suite)
    beside = file.expanduser().resolve().parent
    folders = [beside, beside.parent]

    def arm(name: str, baseline: ConfigDict | None) -> PlannedArm:
        path = experiment_file(name, folders)
        config, given = resolve_config(path, overrides), list(overrides)
        if config.name != name:  # a comparison tells arms apart by the name in the config
            given.append(f"--config.name={name}")
            config = resolve_config(path, given)
        changed = configs.meaningful_differences(baseline, config) if baseline else {}
        if baseline:
            _require_ablation(name, suite, baseline, config, changed)
        return PlannedArm(name, path, tuple(given), config, changed)

    baseline = arm(suite.baseline, None)
    others = [arm(name, baseline.config) for name in suite.arms]
    arms = (baseline, *others)
    _require_distinct(arms)
    given_seeds = _seeds(baseline.config, seeds or suite.seeds)
    return Plan(
        suite.name,
        arms,
        given_seeds,
        (),
        None,
        suite.claims,
        suite.collapsed_below,
        suite.equivalent_within,
    )


def _require_ablation(
    name: str, suite: Suite, baseline: ConfigDict, config: ConfigDict, changed: Differences
) -> None:
    if not changed:
        raise UsageError(
            f"the arm {name} does not differ from the baseline {suite.baseline}: there is nothing"
            " to compare; take it out of the suite, or the --config override that makes them equal"
        )
    touched = fixed_differences(baseline, config, suite.fixed)
    if touched:
        raise UsageError(
            f"the arm {name} differs from the baseline {suite.baseline} in what the suite"
            f" declares fixed ({configs.describe(touched)}); give both the same by --config, or"
            " take the field out of `fixed` in the suite's file"
        )


def plan_sweep(
    file: Path, seeds: int | None, overrides: Sequence[str], sweeps: Sequence[str]
) -> Plan:
    """Makes an arm of each combination of values of some fields of one experiment.

    Args:
        file: an experiment file.
        seeds: number of seeds; None: 5. They count up from `config.seed`.
        overrides: "--config.FIELD=VALUE" each, for every arm.
        sweeps: "--sweep.FIELD=VALUE,VALUE,..." each; commas in brackets do not part values.

    Raises:
        UsageError: a sweep is malformed, or a field or value is wrong.
    """
    axes = [_parse_sweep(sweep) for sweep in sweeps]
    own = resolve_config(file, overrides)
    short = _shortest([path for path, _ in axes])
    arms = []
    for values in itertools.product(*(values for _, values in axes)):
        chosen = [f"--config.{path}={value}" for (path, _), value in zip(axes, values, strict=True)]
        config = resolve_config(file, [*overrides, *chosen])
        resolved = dict(configs.flatten(config))
        name = " ".join(f"{short[path]}={resolved[path]}" for path, _ in axes)
        # The name stands in the config, so that runs of two arms are told apart by it.
        named = [*overrides, *chosen, f"--config.name={name}"]
        arms.append(PlannedArm(name, file, tuple(named), resolve_config(file, named), {}))
    # The experiment's own values are the baseline where they are among the arms.
    arms.sort(key=lambda arm: bool(configs.meaningful_differences(own, arm.config)))
    first = arms[0].config
    arms = [
        PlannedArm(
            **{**vars(arm), "differences": configs.meaningful_differences(first, arm.config)}
        )
        for arm in arms
    ]
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


def _shortest(paths: Sequence[str]) -> dict[str, str]:
    """Maps each path to its last part, where that is no other's as well."""
    last = [path.rsplit(".", 1)[-1] for path in paths]
    return {
        path: part if last.count(part) == 1 else path
        for path, part in zip(paths, last, strict=True)
    }


def _parse_sweep(argument: str) -> tuple[str, list[str]]:
    found = re.fullmatch(r"--sweep\.([\w.]+)=(.+)", argument)
    if found is None:
        raise UsageError(
            f"{argument} is no sweep; expected --sweep.FIELD=VALUE,VALUE,..., for example"
            " --sweep.optimizer.learning_rate=1e-2,1e-3"
        )
    values = _split_outside_brackets(found[2])
    if found[1] == "seed":
        raise UsageError("every arm gets the same seeds; give their number by --seeds=N")
    if len(values) < 2 or not all(values):
        raise UsageError(f"{argument} does not have two or more values, with commas between them")
    return found[1], values


def _split_outside_brackets(text: str) -> list[str]:
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _seeds(config: ConfigDict, count: int) -> tuple[int, ...]:
    if config.seed + count > 2**32:
        raise UsageError(
            f"{count} seeds from config.seed={config.seed} go beyond 2**32 - 1; start with a lower"
        )
    return tuple(range(config.seed, config.seed + count))


def suite_record(plan: Plan, command: str) -> SuiteRecord:
    """Returns what a comparison has to know of a plan whose runs `command` makes."""
    return SuiteRecord(
        name=plan.name,
        baseline=plan.baseline.name,
        # What the lab report measured, it measured with the experiment's own values.
        arms={
            arm.name: None if plan.experiment else load_lab_report(arm.file) for arm in plan.arms
        },
        seeds=plan.seeds,
        vary=plan.vary,
        experiment=plan.experiment,
        claims=plan.claims,
        collapsed_below=plan.collapsed_below,
        equivalent_within=plan.equivalent_within,
        command=command,
    )


def folder_name(arm: str) -> str:
    """Returns the name of an arm's folder: the arm's own, or one that no shell stumbles over.

    Where the two differ, the end of it tells apart what would become the same.
    """
    plain = re.sub(r"[^\w.=+-]+", "_", arm).strip("_.")[:_LONGEST_FOLDER]
    if plain == arm:
        return arm
    return f"{plain}_{hashlib.sha256(arm.encode()).hexdigest()[:6]}"
