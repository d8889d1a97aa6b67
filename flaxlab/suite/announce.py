"""Prints what a suite is about to do: its arms, its outlook, and warnings about them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flaxlab import config as configs
from flaxlab.run.advice import warnings
from flaxlab.run.fingerprint import fingerprints
from flaxlab.suite.plan import Plan
from flaxlab.suite.runs import SuiteRun
from flaxlab.suite.seeds import describe_power, read_pilot
from flaxlab.training.experiment import Experiment


def print_plan(console: Console, plan: Plan) -> None:
    """Prints each arm's differences from the baseline, and what all arms have in common."""
    table = Table("arm", "difference from the baseline", box=None, pad_edge=False)
    swept: set[str] = set()
    for arm in plan.arms:
        changed = plan.differences(arm)
        swept |= changed.keys()
        lines = [f"{path}: {old} -> {new}" for path, (old, new) in changed.items()]
        table.add_row(escape(arm.name), escape("\n".join(lines)) or "(the baseline)")
    config = plan.baseline.config
    fields = {
        "data.name": config.data.name,
        "train.epochs": f"epochs {config.train.epochs}",
        "train.batch_size": f"batch {config.train.batch_size}",
        "optimizer.name": config.optimizer.name,
        "optimizer.learning_rate": f"learning rate {config.optimizer.learning_rate:g}",
    }
    common = [text for path, text in fields.items() if path not in swept]
    print_line(console, plan.name, style="bold")
    console.print(table)
    if plan.tuned is not None:
        path, values = plan.tuned
        print_line(
            console,
            f"tuned: each arm also at the best of {path}={', '.join(map(str, values))}, chosen"
            f" by {len(plan.arms) * len(values)} runs on a holdout",
        )
    for number, claim in plan.claims.items():
        print_line(console, f"claim {number}: {claim.text}")
    seeds = f"seeds {plan.seeds[0]} to {plan.seeds[-1]}"
    print_line(console, f"in common: {', '.join([*common, seeds])}")


def print_outlook(
    console: Console,
    plan: Plan,
    left: Sequence[SuiteRun],
    workdir: Path,
    options: argparse.Namespace,
) -> None:
    """Prints what the seeds can show, and how many tasks the runs make."""
    pilot = read_pilot(plan, workdir)
    if pilot is not None:
        print_line(console, describe_power(plan, pilot))
    if options.launcher != "none":
        from flaxlab.suite.launchers.task import make_tasks

        print_line(console, f"{len(make_tasks(left, options.seeds_per_task, workdir))} tasks")


def print_warnings(console: Console, runs: Sequence[SuiteRun]) -> None:
    """Prints what about the arms will probably disappoint, each warning once."""
    experiments = {run.arm.name: run.experiment for run in runs}
    arms: dict[str, list[str]] = {}
    for arm, experiment in experiments.items():
        for warning in warnings(experiment):
            arms.setdefault(warning, []).append(arm)
    for warning, names in arms.items():
        print_line(console, f"warning ({', '.join(names)}): {warning}", style="yellow")
    for arm, other, fields in arms_alike(experiments):
        line = f"warning ({arm}): it computes what {other} computes: {fields} changes nothing here."
        print_line(console, line, style="yellow")


# Fields that change what the steps compute, or have no effect.
_TRACED = ("model.", "optimizer.", "loss.")


def arms_alike(experiments: Mapping[str, Experiment]) -> list[tuple[str, str, str]]:
    """Returns (arm, earlier arm, fields) for each arm that computes what an earlier one computes.

    An example is another kind of dropout where nothing is dropped: the fields differ, the steps do
    not.

    Args:
        experiments: the experiment of each arm, by name.
    """
    found = []
    computing: dict[str, list[str]] = {}
    for name, experiment in experiments.items():
        earlier = computing.setdefault(json.dumps(fingerprints(experiment)), [])
        for other in earlier:
            before, after = experiments[other].config, experiment.config
            changed = configs.meaningful_differences(before, after)
            if all(path.startswith(_TRACED) for path in changed):
                found.append((name, other, ", ".join(changed)))
                break
        earlier.append(name)
    return found


def print_line(console: Console, line: str, style: str | None = None) -> None:
    """Prints a line as it is, however wide the terminal."""
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
