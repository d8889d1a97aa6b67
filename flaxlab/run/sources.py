"""The Python files that made a run's config: its experiment file and what that is built on."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from flaxlab import files
from flaxlab.config.read import own_experiments

SOURCE_FOLDER = "source"

_LIBRARIES = tuple(
    Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")
)


def sources(starts: Iterable[Path]) -> list[Path]:
    """Lists the files and all that they import, but for flaxlab and installed libraries.

    Args:
        starts: Python files that have been run; what they import is in `sys.modules`.
    """
    found: dict[Path, None] = {}
    waiting = [path.expanduser().resolve() for path in starts]
    while waiting:
        path = waiting.pop(0)
        if path not in found:
            found[path] = None
            waiting += _imported(path)
    return list(found)


def _imported(path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            file = getattr(sys.modules.get(name), "__file__", None)
            if file and _is_of_the_user(Path(file).resolve()):
                yield Path(file).resolve()


def _is_of_the_user(file: Path) -> bool:
    if file.suffix != ".py":
        return False
    if file.is_relative_to(own_experiments().resolve()):  # wherever it is installed
        return file.name != "__init__.py"
    flaxlab = Path(__file__).resolve().parents[1]
    return not any(file.is_relative_to(folder) for folder in (flaxlab, *_LIBRARIES))


def write_sources(workdir: Path, paths: Iterable[Path]) -> None:
    """Copies files to `workdir`/source/; of two with the same name the second gets a number."""
    folder = workdir / SOURCE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for path in paths:
        name = path.name
        while name in taken:
            name = f"{path.stem}_{len(taken)}{path.suffix}"
        taken.add(name)
        files.write_bytes(folder / name, path.read_bytes())
