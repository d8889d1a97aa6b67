"""Describes what this process may use of its machine: cores, memory, the processor."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from flaxlab.texts import count_text

# Prefixes of the flags in /proc/cpuinfo of x86 and ARM, widest first.
_VECTORS = ("amx", "avx512", "avx2", "avx", "sve", "asimd")


def available_cores() -> frozenset[int]:
    """Returns the cores that this process may use."""
    if sys.platform == "linux":
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def describe_machine() -> str:
    """Returns the processor and this process's cores: "2 cores of AMD EPYC 7B13 (avx2)"."""
    return f"{count_text(len(available_cores()), 'core')} of {processor_name()}"


def processor_name() -> str:
    """Returns the processor with its widest vectors, for example "AMD EPYC 7B13 (avx2)".

    A virtual machine may call old and new processors by one name, but XLA compiles other code for
    wider vectors, which is faster and rounds differently.
    """
    name = _cpu_information("model name") or platform.processor() or platform.machine()
    flags = processor_flags().split()
    for vectors in _VECTORS:
        if any(flag.startswith(vectors) for flag in flags):
            return f"{name} ({vectors})"
    return name


def xla_threads(devices: int = 1) -> int:
    """Returns the number of threads with which XLA computes on a CPU.

    One for each core, or as many as the variables PJRT_NPROC or NPROC say. With another number,
    some matrix products add up in another order and round differently.

    Args:
        devices: number of CPU devices that JAX has, each of which gets at least one thread.
    """
    given = os.environ.get("PJRT_NPROC", os.environ.get("NPROC", ""))
    threads = int(given) if given.isdecimal() else len(available_cores())
    return max(threads, devices)


def available_memory(root: Path = Path("/")) -> int:
    """Returns how many bytes this process may use: the machine's memory, or its control group's.

    Slurm and containers limit a job's memory by a control group, of version 1 or 2. The groups
    around it can have lower limits (https://docs.kernel.org/admin-guide/cgroup-v2.html).

    Args:
        root: folder that holds proc/ and sys/.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return machine
    limits = [machine]
    for _, controllers, path in (line.split(":", 2) for line in groups):
        if controllers == "":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents[: len(group.parents) - len(top.parents)]):
            try:
                limit = (folder / name).read_text().strip()
            except OSError:  # in a container, this is the path of the group outside it
                continue
            limits += [int(limit)] if limit.isdecimal() else []
    return min(limits)


def processor_flags() -> str:
    """Returns the names of what the processor can do, as Linux has them; elsewhere its name."""
    return _cpu_information("flags", "Features") or platform.processor()


def _cpu_information(*keys: str) -> str:
    """Returns the first processor's value of one of `keys` in /proc/cpuinfo; "" without one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(keys)), "")
