"""Finds the processes that share a run: by options, or as Slurm, Open MPI or Kubernetes says."""

from __future__ import annotations

import argparse
import importlib.util
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from flaxlab.command_line import positive_number
from flaxlab.errors import UsageError

# Seconds without a heartbeat after which a process counts as lost.
LOST_AFTER = 60

# How long the other processes wait at the end for the first one, which writes the report.
_REPORT_SECONDS = 3600


@dataclass(frozen=True)
class Group:
    """How one process of a run finds the others.

    Attributes:
        launcher: what started the processes: "options", "Slurm", "Open MPI" or "Kubernetes".
        coordinator: HOST:PORT on the machine of process 0; None: JAX asks the launcher.
        processes: their number; None: JAX asks the launcher.
        process: number of this process, from 0; None: JAX asks the launcher.
        seconds: how long to wait for the others.
    """

    launcher: str
    coordinator: str | None
    processes: int | None
    process: int | None
    seconds: int

    def __str__(self) -> str:
        count = self.processes or "the"
        where = f" at {self.coordinator}" if self.coordinator else f" that {self.launcher} started"
        return f"{count} processes{where}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `find_group` reads."""
    group = parser.add_argument_group(
        "several processes",
        "One run on several machines: the same command in each process. Processes that Slurm,"
        " Open MPI or Kubernetes started find each other; elsewhere, these options are needed.",
    )
    add = group.add_argument
    add("--coordinator", type=_address, metavar="HOST:PORT", help="a free port of process 0")
    add(
        "--num_processes",
        type=positive_number,
        metavar="N",
        help="number of processes in the run; 1 runs alone, whatever started it",
    )
    add("--process_id", type=int, metavar="I", help="0 to N - 1")
    add(
        "--join_seconds",
        type=positive_number,
        default=300,
        metavar="S",
        help="how long to wait for the others; default 300",
    )


def _address(text: str) -> str:
    found = re.fullmatch(r".+:(\d{1,5})", text)
    if not (found and 0 < int(found[1]) < 2**16):
        raise argparse.ArgumentTypeError(
            f"{text} is not an address; expected HOST:PORT with a port from 1 to 65535, for"
            " example node1:29500"
        )
    return text


def find_group(options: argparse.Namespace, environment: Mapping[str, str]) -> Group | None:
    """Returns the group that this process belongs to; None if it runs alone.

    Args:
        options: see `add_options`.
        environment: the environment variables of this process.

    Raises:
        UsageError: the options do not describe a group, or Open MPI needs some that are missing.
    """
    coordinator, processes = options.coordinator, options.num_processes
    process = options.process_id
    if processes == 1:
        return None
    launcher = _launcher(environment)
    started = _number(environment, "OMPI_COMM_WORLD_SIZE")
    if launcher is None and started > 1:
        # From version 5 on, Open MPI does not tell JAX where the first process is.
        if coordinator is None:
            raise UsageError(
                f"Open MPI started {started} processes, but this version does not say where the"
                " first one is; give --coordinator=HOST:PORT, with a free port of its machine"
            )
        processes = processes or started
        if process is None:
            process = _number(environment, "OMPI_COMM_WORLD_RANK")
    given = (coordinator, processes, process)
    if launcher is None and given == (None, None, None):
        return None
    if launcher is None and None in given:
        raise UsageError(
            "several processes need all of --coordinator=HOST:PORT, --num_processes=N and"
            " --process_id=I (neither Slurm, Open MPI nor Kubernetes started this process)"
        )
    if process is not None and not 0 <= process < (processes or process + 1):
        raise UsageError(
            f"--process_id is {process}; expected 0 to {(processes or 1) - 1}, each in one process"
        )
    return Group(launcher or "options", *given, options.join_seconds)


def _launcher(environment: Mapping[str, str]) -> str | None:
    """Returns what started several processes, if JAX can ask it for the others."""
    # The batch script itself, outside of srun, has no step.
    step = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"}
    if step <= environment.keys() and _number(environment, "SLURM_NTASKS") > 1:
        return "Slurm"
    several = _number(environment, "OMPI_COMM_WORLD_SIZE") > 1
    if several and "OMPI_MCA_orte_hnp_uri" in environment:
        return "Open MPI"
    indexed = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys()
    if indexed and importlib.util.find_spec("kubernetes"):
        return "Kubernetes"
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else 0


def join(group: Group) -> None:
    """Waits until all processes of the group are there; call it before JAX computes anything.

    If they do not come together in time, JAX aborts the process: see `flaxlab.run.guard`.

    Raises:
        UsageError: JAX does not find the group.
    """
    import jax

    term = signal.getsignal(signal.SIGTERM)
    try:
        jax.distributed.initialize(
            coordinator_address=group.coordinator,
            num_processes=group.processes,
            process_id=group.process,
            initialization_timeout=group.seconds,
            heartbeat_timeout_seconds=LOST_AFTER,
            shutdown_timeout_seconds=_REPORT_SECONDS,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise UsageError(f"{group} did not come together ({error})") from error
    signal.signal(signal.SIGTERM, term)  # JAX replaces the handler
