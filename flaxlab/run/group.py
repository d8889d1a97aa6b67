"""Which processes make up a run: by options, or as Slurm, Open MPI or Kubernetes started them."""

from __future__ import annotations

import argparse
import importlib.util
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from flaxlab.errors import UsageError

# How long a process that is lost may go unnoticed where the network says nothing.
LOST_AFTER = 60  # seconds

# How long the others wait at the end for the first process, which writes the report.
_REPORT_SECONDS = 3600


@dataclass(frozen=True)
class Group:
    """How a process of a run finds the others.

    Attributes:
        launcher: who started the processes: "options", "Slurm", "Open MPI" or "Kubernetes".
        coordinator: HOST:PORT, on the machine of process 0; None: as JAX finds it for `launcher`.
        processes: number of them; None: likewise.
        process: the number of this one, from 0; None: likewise.
        seconds: how long the others are waited for.
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
        "One run on several machines: the same command in each process. Slurm, Open MPI and"
        " Kubernetes say themselves which processes there are; elsewhere, these options do.",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="a free port of process 0")
    group.add_argument("--num_processes", type=int, metavar="N", help="1: alone, in any case")
    group.add_argument("--process_id", type=int, metavar="I", help="0 to N - 1")
    group.add_argument(
        "--join_seconds",
        type=int,
        default=300,
        metavar="S",
        help="how long to wait for the others; default 300",
    )


def find_group(options: argparse.Namespace, environment: Mapping[str, str]) -> Group | None:
    """Returns the group that this process belongs to; None if it is alone.

    Args:
        options: see `add_options`.
        environment: the variables of this process.

    Raises:
        UsageError: the options do not describe a group, or Open MPI alone does not.
    """
    given = (options.coordinator, options.num_processes, options.process_id)
    if options.join_seconds < 1:
        raise UsageError(f"--join_seconds is {options.join_seconds}; expected at least 1")
    if options.num_processes == 1:
        return None
    launcher = _launcher(environment)
    started = _number(environment, "OMPI_COMM_WORLD_SIZE")
    if launcher is None and started > 1:
        # Open MPI from version 5 on, which JAX cannot ask for the first process.
        if options.coordinator is None:
            raise UsageError(
                f"Open MPI started {started} processes, but this version of it does not tell where"
                " the first one is; give --coordinator=HOST:PORT, with a free port of its machine"
            )
        rank = _number(environment, "OMPI_COMM_WORLD_RANK")
        given = (
            options.coordinator,
            started if options.num_processes is None else options.num_processes,
            rank if options.process_id is None else options.process_id,
        )
    if given == (None, None, None):
        return Group(launcher, None, None, None, options.join_seconds) if launcher else None
    if launcher is None and None in given:
        raise UsageError(
            "several processes need all of --coordinator=HOST:PORT, --num_processes=N and"
            " --process_id=I (no Slurm, Open MPI or Kubernetes was found that knows them)"
        )
    _require_right(*given)
    return Group(launcher or "options", *given, options.join_seconds)


def _require_right(coordinator: str | None, processes: int | None, process: int | None) -> None:
    found = re.fullmatch(r".+:(\d{1,5})", coordinator) if coordinator else None
    if coordinator and not (found and 0 < int(found[1]) < 2**16):
        raise UsageError(
            f"--coordinator={coordinator} is no address; expected HOST:PORT with a port from 1 to"
            " 65535, for example node1:29500"
        )
    if processes is not None and processes < 1:
        raise UsageError(f"--num_processes is {processes}; expected a number from 1")
    if process is not None and (process < 0 or process >= (processes or process + 1)):
        raise UsageError(
            f"--process_id is {process}; expected 0 to {(processes or 1) - 1}, each in one process"
        )


def _launcher(environment: Mapping[str, str]) -> str | None:
    """Returns who started several processes, of those that JAX can ask for the others."""
    step = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    # In the batch script itself, outside of srun, there is no step.
    if all(name in environment for name in step) and _number(environment, "SLURM_NTASKS") > 1:
        return "Slurm"
    launched = "OMPI_MCA_orte_hnp_uri" in environment
    if launched and _number(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    indexed = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys()
    if indexed and importlib.util.find_spec("kubernetes"):
        return "Kubernetes"
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else 0


def join(group: Group) -> None:
    """Waits until all processes of the group are there. JAX must not have computed anything yet.

    Where they do not come together in time, JAX ends the process: see `flaxlab.run.guard`.

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
    signal.signal(signal.SIGTERM, term)  # JAX hears it as well, for a service that is not used
