"""Finds the files of experiments and suites, which may be named without folder and suffix."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from flaxlab.errors import UsageError
from flaxlab.files import to_path

# Where an experiment that is named without a folder is looked for, before flaxlab's own.
PLACES = (Path(), Path("experiments"))

IS_EXPERIMENT = (
    "it is an experiment; run it by python -m flaxlab.main, or sweep a field of it by"
    " --sweep.FIELD=VALUE,VALUE (in Python: sweep={FIELD: values})"
)
IS_SUITE = "it is a suite; run it by python -m flaxlab.suite (in Python: flaxlab.run_suite)"


def find_experiment(given: str | Path) -> Path:
    """Returns the file of an experiment that is given by its path, or by its name alone.

    Raises:
        UsageError: it is no path and no name, or there is no experiment of that name. Loading
            shows whether there is a file at a path.
    """
    return _find(to_path(given, "the experiment"), "experiment", f": {IS_SUITE}")


def find_suite(given: str | Path) -> Path:
    """Returns the file of a suite that is given by its path, or by its name alone.

    Raises:
        UsageError: see `find_experiment`.
    """
    return _find(to_path(given, "the suite"), "suite", f": {IS_EXPERIMENT}")


def _find(path: Path, kind: str, if_other: str) -> Path:
    if path.suffix == ".py" or len(path.parts) != 1:
        return path
    experiments = [*PLACES, own_experiments()]
    suites = [Path(), *(folder / "suites" for folder in experiments[1:])]
    here, there = (suites, experiments) if kind == "suite" else (experiments, suites)
    if not _existing(path.name, here) and _existing(path.name, there):
        raise UsageError(f"there is no {kind} {path}{if_other}")
    return _file_named(path.name, kind, here)


def experiment_file(name: str, folders: Sequence[Path]) -> Path:
    """Returns the file of the experiment `name`, in `folders` or else among flaxlab's own.

    Raises:
        UsageError: there is none, or `name` cannot be the name of a file.
    """
    return _file_named(name, "experiment", [*folders, own_experiments()])


def _file_named(name: str, kind: str, folders: Sequence[Path]) -> Path:
    if not name.isidentifier():
        raise UsageError(
            f"{name!r} is not the name of an experiment or a suite; expected the name of its file,"
            " without its folder and without .py"
        )
    if found := _existing(name, folders):
        return found[0]
    names = {file.stem for folder in folders for file in folder.glob("[!_]*.py")}
    near = difflib.get_close_matches(name, sorted(names), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    where = dict.fromkeys(str(folder.resolve()) for folder in folders if folder.is_dir())
    raise UsageError(f"there is no {kind} file {name}.py in {', '.join(where)}{hint}")


def _existing(name: str, folders: Sequence[Path]) -> list[Path]:
    return [file for folder in folders if (file := folder / f"{name}.py").is_file()]


def own_experiments() -> Path:
    """Returns the folder of flaxlab's own experiments, wherever it is installed."""
    # Not by an import: experiments import this package.
    found = importlib.util.find_spec("experiments")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])
