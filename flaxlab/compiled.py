"""The folder of compiled programs, which JAX writes and reads."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

import zstandard

_ZSTD = b"\x28\xb5\x2f\xfd"  # how a file that zstd has packed begins

_log = logging.getLogger(__name__)


def remove_cut_programs(folder: Path) -> None:
    """Removes compiled programs that a killed process or a full disk has cut.

    JAX writes them in place and never over one that is there: it would warn of a cut one and
    compile anew at each later start. Each is looked at once: what is older than the last look is
    whole. One that another process is writing at this moment is taken for cut and lost, which
    costs compiling it once more.
    """
    looked, looking = folder / "looked", folder / f"looking.{os.getpid()}"
    removed = 0
    with contextlib.suppress(OSError):  # at worst, JAX warns
        # By the clock of the file system, which may not be this machine's.
        looking.touch()
        last = looked.stat().st_mtime_ns if looked.exists() else 0
        for path in folder.glob("*-cache"):
            if path.stat().st_mtime_ns < last:
                continue
            content = path.read_bytes()
            # What begins otherwise is of a form that is not known here, and JAX's affair.
            if content[: len(_ZSTD)] != _ZSTD[: len(content)]:
                continue
            try:
                zstandard.ZstdDecompressor().decompress(content)
            except zstandard.ZstdError:
                path.unlink(missing_ok=True)
                removed += 1
        looking.replace(looked)
    if removed:
        _log.info("removed %d compiled programs that were only half written", removed)
