"""Runs Python files that a user names: experiments, suites and networks."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from flaxlab.errors import UsageError

# Begins the names of the modules that files become here, which Python itself would not find.
PREFIX = "flaxlab_file_"


def run_file(path: Path, what: str = "experiment file") -> ModuleType:
    """Runs a Python file and returns it as a module; what has been run before is not run again.

    Args:
        path: the file.
        what: what kind of file it is, for messages.

    Raises:
        UsageError: there is no such file, it is not a Python file, or it fails; the message names
            the line.
    """
    path = path.expanduser().resolve()
    main = sys.modules["__main__"]
    if path == Path(getattr(main, "__file__", None) or "").resolve():
        return main
    if not path.is_file():
        near = difflib.get_close_matches(
            path.name, [file.name for file in path.parent.glob("*.py")]
        )
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise UsageError(f"there is no {what} {path}{hint}")
    content = hashlib.sha256(f"{path}\n".encode() + path.read_bytes()).hexdigest()[:16]
    name = f"{PREFIX}{path.stem}_{content}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look up the types of their fields
    try:
        with naming_the_line(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def naming_the_line(path: Path) -> Iterator[None]:
    """Turns whatever the code of a user's file raises into a `UsageError` that names its line."""
    path = path.expanduser().resolve()
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [str(frame.lineno) for frame in frames if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else ", ".join(lines[-1:])
        raise UsageError(f"{path}, line {line}: {type(error).__name__}: {error}") from error
