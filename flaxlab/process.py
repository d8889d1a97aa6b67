"""What a command sets in its own process, before it computes: an import must not do that."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import sys
from pathlib import Path

_log = logging.getLogger(__name__)

_HUGE_PAGES = "glibc.malloc.hugetlb"
_GLIBC_WITH_HUGE_PAGES = (2, 35)


def use_huge_pages() -> None:
    """Starts this command again, once, with huge pages for large arrays where glibc offers them.

    XLA on a CPU takes the memory for a step's intermediate values anew in each step: in pages of
    4 KiB, that makes a step of the lab report's networks 15 to 20% slower than in pages of 2 MiB.
    glibc reads this setting only when a process starts. Nothing happens on other systems, where
    the kernel never gives huge pages, or where the user has set it
    (GLIBC_TUNABLES=glibc.malloc.hugetlb=0 turns it off).
    """
    library, version = platform.libc_ver()
    given = os.environ.get("GLIBC_TUNABLES", "")
    if (
        not sys.executable
        or library != "glibc"
        or _numbers(version) < _GLIBC_WITH_HUGE_PAGES
        or _HUGE_PAGES in given
    ):
        return
    offered = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    try:
        if "[never]" in offered.read_text():
            return
    except OSError:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [given, f"{_HUGE_PAGES}=1"]))
    sys.stdout.flush()
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:  # slower, and no reason to stop
        os.environ["GLIBC_TUNABLES"] = given


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def keep_compiled_programs() -> None:
    """Keeps what XLA compiles in the user's cache folder, so that a second start compiles nothing.

    The folder belongs to one kind of processor and one version of XLA: machine code of another
    may not run. Where the user has set JAX_COMPILATION_CACHE_DIR, that is used as it is set;
    JAX_ENABLE_COMPILATION_CACHE=false turns everything off.
    """
    import jax
    import jaxlib

    from flaxlab.files import cache_folder

    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    machine = f"{platform.machine()} {_processor_flags()} {jaxlib.__version__}"
    name = hashlib.sha256(machine.encode()).hexdigest()[:16]
    folder = cache_folder() / "compiled" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("compiled programs are not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _processor_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
