"""Sets up a process before it computes.

`import flaxlab` calls only `avoid_wrong_fusions`. The rest is for commands: an import should not
have such effects.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import logging
import mmap
import os
import platform
import sys
from pathlib import Path

_log = logging.getLogger(__name__)

_HUGE_PAGES = "glibc.malloc.hugetlb"
_YNN_FUSIONS = "xla_cpu_experimental_ynn_fusion_type"
_GLIBC_WITH_HUGE_PAGES = (2, 35)
# Those by which JAX decides whether to look for a GPU (jax/_src/hardware_utils.py); /dev/dxg: WSL.
_NVIDIA_DEVICES = ("nvidia0", "nvidiactl", "dxg")
_NVIDIA_VENDOR = "0x10de"  # https://pci-ids.ucw.cz/read/PC/10de
_GPU_CHECK, _NO_GPU = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "flaxlab found no GPU"
_COMPILED = "/jax/core/compile/backend_compile_duration"  # jax/_src/dispatch.py
_LONG_COMPILATION = 1.0  # seconds; a shorter one leaves little memory behind
_ZSTD = b"\x28\xb5\x2f\xfd"  # the first bytes of a file that zstd compressed


def avoid_wrong_fusions() -> None:
    """Stops XLA from fusing reductions with the products before them on a CPU.

    jaxlib 0.10.2 and 0.12.0.1 fuse the two in YNNPACK, and some such programs compute wrong numbers
    (https://github.com/jax-ml/jax/issues/39103): tests/test_canary.py has two. YNNPACK still
    computes the products. Does nothing if the user has set this flag, or if jaxlib does not know
    it, since XLA ends a process that sets an unknown flag. XLA reads the flag when JAX makes its
    first array; if that has already happened, a warning says so.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _YNN_FUSIONS in flags or not _xla_knows(_YNN_FUSIONS):
        return
    flag = f"--{_YNN_FUSIONS}=-reduce"
    if _has_made_arrays():
        _log.warning(
            "warning: JAX had started before flaxlab was imported, and may compute some programs"
            " wrongly on a CPU; import flaxlab first, or set XLA_FLAGS=%s",
            flag,
        )
    _add_xla_flag(flag)


def _add_xla_flag(flag: str) -> None:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def _has_made_arrays() -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bridge.backends_are_initialized()


def _xla_knows(flag: str) -> bool:
    """Returns whether XLA's library contains the name of a flag; searching it takes 10 ms."""
    found = importlib.util.find_spec("jaxlib")
    folders = (found and found.submodule_search_locations) or []
    for library in (file for folder in folders for file in Path(folder).glob("*jax_common.*")):
        with (
            library.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code,
        ):
            if code.find(flag.encode()) >= 0:
                return True
    return False


def use_huge_pages() -> None:
    """Restarts this command, once, with huge pages for large arrays if glibc offers them.

    On a CPU, XLA allocates a step's intermediate values again in each step: in pages of 4 KiB, a
    step of the lab report's networks is 15 to 20% slower than in pages of 2 MiB. glibc reads the
    setting only when a process starts. Does nothing on other systems, if the kernel never gives
    huge pages, or if the user has set it (GLIBC_TUNABLES=glibc.malloc.hugetlb=0 turns it off).
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
    except OSError:  # slower, but no reason to stop
        os.environ["GLIBC_TUNABLES"] = given


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def set_up_compiler() -> None:
    """Keeps what XLA compiles on the disk, and in memory nothing that it no longer needs."""
    keep_compiled_programs()
    return_compilers_memory()


@functools.cache  # once in a process: JAX would call each function that it is given
def return_compilers_memory() -> None:
    """Gives the system back the memory that XLA's compiler has freed, after each long compilation.

    Otherwise glibc keeps it for the threads that compiled, for as long as the process lives: 300 MB
    after a step of the lab report's networks. A program that is read from the cache counts as one
    that was compiled. Does nothing with another C library.
    """
    import jax.monitoring

    if platform.libc_ver()[0] != "glibc":
        return
    trim = ctypes.CDLL(None).malloc_trim

    def after(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _COMPILED and duration_secs > _LONG_COMPILATION:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(after)


def keep_compiled_programs() -> None:
    """Keeps what XLA compiles in the user's cache folder, so that a second start compiles nothing.

    Each kind of processor and each version of XLA has its own folder, since machine code for one
    may not run on another. If the user has set JAX_COMPILATION_CACHE_DIR, JAX uses that folder;
    JAX_ENABLE_COMPILATION_CACHE=false turns the cache off.
    """
    import jax
    import jaxlib

    from flaxlab.files import cache_folder
    from flaxlab.hardware import processor_flags

    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    machine = f"{platform.machine()} {processor_flags()} {jaxlib.__version__}"
    name = hashlib.sha256(machine.encode()).hexdigest()[:16]
    folder = cache_folder() / "compiled" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("compiled programs are not kept: %s", error)
        return
    remove_cut_programs(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def remove_cut_programs(folder: Path) -> None:
    """Removes compiled programs that a killed process or a full disk left incomplete.

    JAX writes them in place and never overwrites one: at each later start it would warn of an
    incomplete one and compile again. Each file is checked once: files older than the last check
    are complete. A file that another process is writing at this moment is removed too; it will be
    compiled once more.
    """
    import zstandard

    checked, checking = folder / "checked", folder / f"checking.{os.getpid()}"
    removed = 0
    with contextlib.suppress(OSError):  # at worst, JAX warns
        # The times of files are those of the file system, which may have another clock.
        checking.touch()
        last = checked.stat().st_mtime_ns if checked.exists() else 0
        for path in folder.glob("*-cache"):
            if path.stat().st_mtime_ns < last:
                continue
            content = path.read_bytes()
            # Any other beginning means a format that only JAX knows.
            if content[: len(_ZSTD)] != _ZSTD[: len(content)]:
                continue
            try:
                zstandard.ZstdDecompressor().decompress(content)
            except zstandard.ZstdError:
                path.unlink(missing_ok=True)
                removed += 1
        checking.replace(checked)
    if removed:
        _log.info("removed %d incomplete compiled programs", removed)


def compute_deterministically() -> None:
    """Restricts XLA on a GPU to operations that give the same bits each time.

    XLA reads this setting when JAX makes its first array. If that has already happened, as in an
    experiment file that makes one, a warning says so.
    """
    flag = "--xla_gpu_deterministic_ops=true"
    if flag in os.environ.get("XLA_FLAGS", ""):
        return
    if _has_made_arrays():  # the next run says so too: XLA never reads the flag
        _log.warning(
            "warning: JAX had started before train.deterministic was read, so a GPU may give other"
            " bits each time; set XLA_FLAGS=%s, or make no arrays before: in a notebook, restart"
            " the kernel and train first",
            flag,
        )
        return
    _add_xla_flag(flag)


def take_gpu_memory_as_needed() -> None:
    """Stops JAX from taking three quarters of a GPU's memory at its first array.

    For commands that only look, beside a training that needs the memory. Does nothing if the user
    has set how much JAX takes (https://docs.jax.dev/en/latest/gpu_memory_allocation.html).
    """
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def skip_gpu_check_without_gpu(root: Path = Path("/")) -> None:
    """Stops JAX's CUDA plugin from checking NVIDIA's libraries if there is no NVIDIA GPU.

    JAX computes on the CPU there, whatever the check says; but the plugin logs a traceback at each
    start. With a GPU, also one whose driver is missing, the traceback stays. Does nothing if the
    user has set JAX_SKIP_CUDA_CONSTRAINTS_CHECK; what a process on another machine has set, as one
    that submits to a cluster, is undone.

    Args:
        root: folder that holds dev/ and sys/.
    """
    if os.environ.get(_GPU_CHECK) == _NO_GPU:
        del os.environ[_GPU_CHECK]
    vendors = (root / "sys/bus/pci/devices").glob("*/vendor")
    with contextlib.suppress(OSError):  # then there may be one
        if any((root / "dev" / name).exists() for name in _NVIDIA_DEVICES):
            return
        if any(path.read_text().strip() == _NVIDIA_VENDOR for path in vendors):
            return
        os.environ.setdefault(_GPU_CHECK, _NO_GPU)
