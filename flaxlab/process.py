"""What a command sets in its own process, before it computes: an import must not do that."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_HUGE_PAGES = "glibc.malloc.hugetlb"
_GLIBC_WITH_HUGE_PAGES = (2, 35)

# The least recently used programs make room; those of an experiment take a few MB.
_COMPILED_BYTES = 2**30


def use_huge_pages() -> None:
    """Starts this command again, once, with huge pages for large arrays where glibc offers them.

    XLA on a CPU takes the memory for a step's intermediate values anew in each step: in pages of
    4 KiB, that makes a step of the lab report's networks 15 to 20% slower than in pages of 2 MiB.
    glibc reads this setting only when a process starts. Nothing happens on other systems, where
    the kernel never gives huge pages, or where the user has set it.
    """
    library, version = platform.libc_ver()
    given = os.environ.get("GLIBC_TUNABLES", "")
    if library != "glibc" or _numbers(version) < _GLIBC_WITH_HUGE_PAGES or _HUGE_PAGES in given:
        return
    offered = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    try:
        if "[never]" in offered.read_text():
            return
    except OSError:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [given, f"{_HUGE_PAGES}=1"]))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def keep_compiled_programs() -> None:
    """Keeps what XLA compiles in the user's cache folder, so that a second start compiles nothing.

    JAX_COMPILATION_CACHE_DIR or an earlier `jax.config.update` take precedence;
    JAX_ENABLE_COMPILATION_CACHE=false turns it off.
    """
    import jax

    from flaxlab.files import cache_folder

    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        # JAX's own bound of one second leaves out the dozen small programs of a start.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
        jax.config.update("jax_compilation_cache_max_size", _COMPILED_BYTES)
