"""How the runs of a suite are started: in this process, or as tasks of several."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flaxlab.command_line import positive_number
from flaxlab.errors import UsageError

LAUNCHERS = ("none", "processes", "slurm")

# A task is told two minutes before its time is over: it needs some of it for itself.
_LEAST_MINUTES = 5
_SLURM_FLAGS = ("partition", "time", "gpus", "cpus", "memory")
_OWN_FLAGS = {
    "array": "the suite makes the array; --tasks_at_once=N limits it",
    "signal": "a task is told of its end by SIGUSR2",
    "output": "logs lie in WORKDIR/tasks",
    "error": "logs lie in WORKDIR/tasks",
    "requeue": "a task puts itself back into the queue",
}


@dataclass(frozen=True)
class Resources:
    """What one task gets from Slurm.

    Attributes:
        minutes: until a task is told to save and goes back into the queue.
        partition: the cluster's partition; None: its default.
        gpus: None: none are asked for.
        cpus: cores; None: the cluster's default.
        memory: as sbatch takes it, "16G"; None: the cluster's default.
        others: further options of sbatch, {name: value}; a value of True is an option without
            one.
    """

    minutes: int = 240
    partition: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    memory: str | None = None
    others: Mapping[str, str | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class LaunchOptions:
    """How the runs of a suite are started.

    Attributes:
        launcher: one of `LAUNCHERS`; "none" is this process, one run after the other.
        tasks_at_once: None: with "processes", one for each visible GPU, or one; with "slurm", as
            many as the cluster has room for.
        seeds_per_task: None: all seeds of an arm, which then compiles once and reads its data
            once.
        resources: what Slurm gives a task.
    """

    launcher: str = "none"
    tasks_at_once: int | None = None
    seeds_per_task: int | None = None
    resources: Resources = field(default_factory=Resources)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `read_options` reads."""
    parser.add_argument(
        "--launcher",
        default="none",
        choices=LAUNCHERS,
        help="none: run by run in this process; processes: tasks on this machine, one for each"
        " GPU; slurm: a job array. A task is an arm with its seeds. Needs flaxlab[slurm]",
    )
    parser.add_argument(
        "--tasks_at_once",
        type=positive_number,
        metavar="N",
        help="most tasks at a time; default: one for each GPU, or one; with slurm, all",
    )
    parser.add_argument(
        "--seeds_per_task",
        type=positive_number,
        metavar="N",
        help="default: all of an arm, which then compiles once",
    )
    slurm = parser.add_argument_group("what a task of --launcher=slurm gets")
    slurm.add_argument("--partition", help="default: the cluster's")
    slurm.add_argument(
        "--time",
        type=positive_number,
        metavar="MINUTES",
        help="until a task saves and goes back into the queue; default 240",
    )
    slurm.add_argument("--gpus", type=positive_number, metavar="N", help="default: none")
    slurm.add_argument("--cpus", type=positive_number, metavar="N", help="default: the cluster's")
    slurm.add_argument("--memory", metavar="SIZE", help="for example 16G; default: the cluster's")
    slurm.add_argument(
        "--slurm.KEY",
        metavar="VALUE",
        help="any option of sbatch, for example --slurm.account=lab --slurm.qos=low",
    )


def read_options(options: argparse.Namespace, others: Sequence[str]) -> LaunchOptions:
    """Checks and gathers what the command line says.

    Args:
        options: as parsed, see `add_options`.
        others: "--slurm.KEY=VALUE" each, or "--slurm.KEY".

    Raises:
        UsageError: an option is not for this launcher, or its value is wrong.
    """
    for name in ("tasks_at_once", "seeds_per_task"):
        if options.launcher == "none" and getattr(options, name) is not None:
            raise UsageError(
                f"--{name} is for tasks; give --launcher=processes or --launcher=slurm as well"
            )
    given = [name for name in _SLURM_FLAGS if getattr(options, name) is not None]
    if options.launcher != "slurm" and (given or others):
        flag = f"--{given[0]}" if given else others[0].split("=")[0]
        raise UsageError(
            f"{flag} is for --launcher=slurm; without it, tasks take what this machine has"
            " (CUDA_VISIBLE_DEVICES says which GPUs)"
        )
    if options.time is not None and options.time < _LEAST_MINUTES:
        raise UsageError(
            f"--time={options.time} is too short: a task is told to save two minutes before its"
            f" end; give at least {_LEAST_MINUTES} minutes"
        )
    if options.memory is not None and not re.fullmatch(r"[1-9]\d*[KMGT]?", options.memory):
        raise UsageError(
            f"--memory={options.memory} is no size; expected a number of megabytes, or with a"
            " unit, for example 16G"
        )
    resources = Resources(
        minutes=options.time or Resources.minutes,
        partition=options.partition,
        gpus=options.gpus,
        cpus=options.cpus,
        memory=options.memory,
        others=dict(map(_parse_other, others)),
    )
    return LaunchOptions(options.launcher, options.tasks_at_once, options.seeds_per_task, resources)


def _parse_other(argument: str) -> tuple[str, str | bool]:
    found = re.fullmatch(r"--slurm\.([a-z][a-z_-]*)(?:=(.+))?", argument)
    if found is None:
        raise UsageError(
            f"{argument} is no option of sbatch; expected --slurm.KEY=VALUE, for example"
            " --slurm.account=lab"
        )
    key = found[1].replace("_", "-")
    if key in _OWN_FLAGS:
        raise UsageError(f"--slurm.{key} cannot be set: {_OWN_FLAGS[key]}")
    instead = {"mem": "memory", "cpus-per-task": "cpus", "gpus-per-node": "gpus"}.get(key, key)
    if instead in _SLURM_FLAGS:
        raise UsageError(f"--slurm.{key} has an option of its own; give --{instead}=VALUE")
    return key, found[2] or True
