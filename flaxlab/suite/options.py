"""Options of `flaxlab.suite`."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxlab.command_line import positive_float, positive_number
from flaxlab.errors import UsageError

# Of `--until=decided`.
_FIRST_SEEDS, _MOST_SEEDS = 3, 20
# A task is told to save two minutes before its time is over.
_MINUTES, _LEAST_MINUTES = 240, 5
# Options for Slurm, and the options of sbatch that they set.
_SLURM_OPTIONS = {
    "partition": "partition",
    "time": "time",
    "gpus": "gpus-per-node",
    "cpus": "cpus-per-task",
    "memory": "mem",
}
_OWN_OPTIONS = {"array", "signal", "output", "error", "requeue"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `read_options` reads."""
    parser.add_argument(
        "--config",
        required=True,
        type=Path,
        help="suite file, or its name; with --sweep, an experiment's",
    )
    parser.add_argument("--workdir", type=Path, help="folder of the runs; default runs/NAME")
    count: dict[str, Any] = {"type": positive_number, "metavar": "N"}
    parser.add_argument("--seeds", help="runs of each arm; default: the suite's, 5", **count)
    parser.add_argument(
        "--until",
        choices=("decided",),
        help="start with 3 seeds (or --seeds), then add one at a time to each arm that is neither"
        " better, worse nor equivalent, using a test that stays valid when you look after every"
        " seed; claims are judged at the end, on all runs",
    )
    parser.add_argument(
        "--at_most", help=f"most seeds of any arm, with --until; default {_MOST_SEEDS}", **count
    )
    parser.add_argument(
        "--arms",
        metavar="NAME,NAME",
        help="do the runs of these arms only, and leave the others for later; default: all arms",
    )
    parser.add_argument("--show", action="store_true", help="print the arms and train nothing")
    parser.add_argument(
        "--plan",
        type=positive_float,
        metavar="POINTS",
        help="train nothing; print how many seeds detect a difference of accuracy of POINTS with a"
        " power of 80%%, given the spread of the runs in WORKDIR or --spread",
    )
    parser.add_argument(
        "--spread",
        type=positive_float,
        metavar="POINTS",
        help="standard deviation of the differences between paired runs, for --plan",
    )
    parser.add_argument(
        "--launcher",
        default="none",
        choices=("none", "processes", "slurm"),
        help="none: one run after the other in this process; processes: tasks on this machine, one"
        " (or --tasks_per_gpu) for each GPU; slurm: a job array. A task is an arm with its seeds."
        " Needs flaxlab[slurm]",
    )
    parser.add_argument(
        "--tasks_at_once",
        help="maximum number of tasks to run at once; default: as many as the GPUs take (one"
        " without a GPU), or all with slurm",
        **count,
    )
    parser.add_argument(
        "--tasks_per_gpu",
        help="processes that share a GPU, and its memory; default 1. More keep it busy while one of"
        " them compiles or writes",
        **count,
    )
    parser.add_argument(
        "--seeds_per_task", help="default: all of an arm, which then compiles once", **count
    )
    slurm = parser.add_argument_group("what a task of --launcher=slurm gets")
    slurm.add_argument("--partition", help="default: the cluster's")
    slurm.add_argument(
        "--time",
        help=f"minutes until a task saves and goes back into the queue; default {_MINUTES}",
        **count,
    )
    slurm.add_argument("--gpus", help="default: none", **count)
    slurm.add_argument("--cpus", help="default: the cluster's", **count)
    slurm.add_argument("--memory", metavar="SIZE", help="for example 16G; default: the cluster's")
    slurm.add_argument(
        "--slurm.KEY",
        metavar="VALUE",
        help="any option of sbatch, for example --slurm.account=lab --slurm.qos=low",
    )


def read_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options of a command line.

    Args:
        parser: with the options that `add_options` adds.
        arguments: the command line, without the program.

    Returns:
        What the parser reads, and `command`, the whole command line; `sweeps`,
        "--sweep.FIELD=VALUE,VALUE" each; `overrides`, "--config.FIELD=VALUE" each; `sbatch`,
        {option of sbatch: its value, or True}: what Slurm gives a task.

    Raises:
        UsageError: an option is wrong, or does not belong to the launcher.
    """
    options, rest = parser.parse_known_args(arguments)
    options.command = shlex.join(["python", "-m", "flaxlab.suite", *arguments])
    options.sweeps = [each for each in rest if each.startswith("--sweep")]
    options.overrides = [each for each in rest if not each.startswith(("--sweep", "--slurm"))]
    for_sbatch = [each for each in rest if each.startswith("--slurm")]
    if options.launcher != "processes" and options.tasks_per_gpu is not None:
        raise UsageError("--tasks_per_gpu is for --launcher=processes; add that, or leave it out")
    for name in ("tasks_at_once", "seeds_per_task"):
        if options.launcher == "none" and getattr(options, name) is not None:
            raise UsageError(f"--{name} is for tasks; add --launcher=processes or --launcher=slurm")
    if options.spread is not None and options.plan is None:
        raise UsageError("--spread is for --plan=POINTS; add that, or leave it out")
    if options.arms is not None and (options.until or options.sweeps or options.plan):
        raise UsageError(
            "--arms is for the arms of a suite file; leave it out, or the other option"
        )
    if options.until is None and options.at_most is not None:
        raise UsageError("--at_most is for --until=decided; add that, or use --seeds")
    if options.until is not None:
        options.seeds = options.seeds or _FIRST_SEEDS
        options.at_most = options.at_most or _MOST_SEEDS
        if options.at_most < options.seeds:
            raise UsageError(
                f"--at_most={options.at_most} is less than the {options.seeds} seeds to start with;"
                " give more, or fewer --seeds"
            )
    given = {name: vars(options)[name] for name in _SLURM_OPTIONS if vars(options)[name]}
    of_slurm = [*(f"--{name}" for name in given), *for_sbatch]
    if options.launcher != "slurm" and of_slurm:
        raise UsageError(
            f"{of_slurm[0]} is for --launcher=slurm; without it, tasks use what this machine has"
            " (CUDA_VISIBLE_DEVICES chooses the GPUs)"
        )
    if options.time is not None and options.time < _LEAST_MINUTES:
        raise UsageError(
            f"--time={options.time} is too short: a task is told to save two minutes before its"
            f" end; give at least {_LEAST_MINUTES} minutes"
        )
    # --requeue lets Slurm restart a task after a preemption, or with its node.
    options.sbatch = {"requeue": True, "time": _MINUTES, **dict(map(_parse_sbatch, for_sbatch))}
    options.sbatch |= {_SLURM_OPTIONS[name]: value for name, value in given.items()}
    return options


def _parse_sbatch(argument: str) -> tuple[str, str | bool]:
    found = re.fullmatch(r"--slurm\.([a-z][a-z_-]*)(?:=(.+))?", argument)
    if found is None:
        raise UsageError(
            f"{argument} is not an option of sbatch; expected --slurm.KEY=VALUE, for example"
            " --slurm.account=lab"
        )
    key = found[1].replace("_", "-")
    if key in {*_OWN_OPTIONS, *_SLURM_OPTIONS, *_SLURM_OPTIONS.values()}:
        instead = ", ".join(f"--{name}" for name in _SLURM_OPTIONS)
        raise UsageError(
            f"--slurm.{key} cannot be set, since the suite sets it; use {instead} or"
            " --tasks_at_once"
        )
    return key, found[2] or True
