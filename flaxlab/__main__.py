"""Lists the commands, or runs one: `python -m flaxlab inspect` is `python -m flaxlab.inspect`.

The console script `flaxlab` does the same.
"""

from __future__ import annotations

import ast
import difflib
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import run_command
from flaxlab.errors import UsageError


def main() -> None:
    """Runs the command that the first argument names, as `python -m flaxlab.NAME` does."""
    # A console script's path begins with its own folder; `python -m` would put this one there.
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    if sys.argv[1:2] and sys.argv[1] in command_files():
        name = sys.argv.pop(1)
        runpy.run_module(f"flaxlab.{name}", run_name="__main__", alter_sys=True)
    else:
        run_command(_list_commands, sys.argv[1:])


def command_files() -> dict[str, Path]:
    """Returns the file of each command: `main.py`, and `__main__.py` of each package that has one.

    The commands are in alphabetical order.
    """
    folder = Path(__file__).parent
    found = {"main": folder / "main.py"}
    found |= {path.parent.name: path for path in folder.glob("*/__main__.py")}
    return dict(sorted(found.items()))


def summary(file: Path) -> str:
    """Returns the first line of a module's docstring, without importing the module."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0]


def _list_commands(arguments: Sequence[str]) -> None:
    files = command_files()
    if arguments and arguments[0] not in ("-h", "--help"):
        near = difflib.get_close_matches(arguments[0], files, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(files)}"
        raise UsageError(f"there is no command {arguments[0]}; {hint}")
    width = max(map(len, files))
    print("usage: python -m flaxlab.COMMAND, or flaxlab COMMAND; with --help for its options\n")
    for name, file in files.items():
        print(f"  {name:{width}}  {summary(file)}")


if __name__ == "__main__":
    main()
