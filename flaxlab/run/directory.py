"""Prepares a run and its directory: its config, and the Python files that the config comes from."""

from __future__ import annotations

import ast
import functools
import logging
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab import files, models
from flaxlab.config.find import own_experiments
from flaxlab.config.read import baseline_file
from flaxlab.errors import UsageError
from flaxlab.machine import compute_deterministically
from flaxlab.processes import is_main
from flaxlab.run.origin import Origin, read_origin
from flaxlab.run.record import remember_revisions
from flaxlab.run.tracking import require_trackers
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import finished
from flaxlab.training.metrics import History

_LIBRARIES = tuple(
    Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")
)

# What ended a run, for a reader and for a comparison, which counts it.
FAILURE_FILE = "failure.txt"

# What a suite writes to its folder before its first run.
SUITE_FILE = "suite.json"

_log = logging.getLogger(__name__)


def prepare_run(config: ConfigDict, file: Path | None) -> Origin:
    """Does what must precede the arrays of a run, and returns what its experiment file says.

    Args:
        config: resolved and validated.
        file: the experiment file; None for a config that was made in Python.

    Raises:
        UsageError: the file, or that of its baseline, does not exist or fails, or a module that it
            imports has changed since this process imported it; or a tracker is not installed.
    """
    require_trackers(config.log.trackers)
    if file is not None:
        require_unchanged_imports(file)
    remember_revisions([] if file is None else [file])
    if config.train.deterministic:
        compute_deterministically()
    return read_origin(file, config)


def make_run_directory(workdir: Path, option: str) -> None:
    """Makes the directory of a run, unless its files would mix with those of a suite.

    Args:
        workdir: the run directory.
        option: the option that names it, for the message: "--workdir".

    Raises:
        UsageError: it is the folder of a suite, or inside one and not where a suite's run is,
            ARM/seed_N; or it cannot be made.
    """
    suite = suite_around(workdir)
    if suite is not None:
        inside = workdir.resolve().relative_to(suite).as_posix()
        if not re.fullmatch(r"[^/]+/seed_\d+", inside):
            where = "is" if inside == "." else "is inside"
            raise UsageError(
                f"{option}={workdir} {where} the folder of a suite ({suite / SUITE_FILE} is there),"
                f" whose runs are in ARM/seed_N; use another {option}"
            )
    files.make_folder(workdir, option)


def suite_around(folder: Path) -> Path | None:
    """Returns the nearest folder of a suite among `folder` and those above it, if there is one."""
    whole = folder.resolve()
    return next((each for each in (whole, *whole.parents) if (each / SUITE_FILE).is_file()), None)


def begin_directory(workdir: Path, experiment: Experiment, origin: Origin) -> None:
    """Writes source/ when a run starts for the first time; only in the first process.

    A later start may still be refused, because these very files have changed.

    Raises:
        UsageError: a finished run without checkpoints is there.
    """
    if not is_main() or any((workdir / "checkpoints").glob("*/[0-9]*")):
        return
    if (workdir / "summary.json").is_file():
        raise UsageError(
            f"the run in {workdir} is finished and has no checkpoints to start from; use another"
            " --workdir, or remove its summary.json to run it again"
        )
    network = models.source_file(experiment.config.model.name)
    found = [network]
    if origin.file is not None:
        found = [origin.file, baseline_file(origin.file, experiment.config), network]
    write_sources(workdir, sources(file for file in found if file is not None))


def write_config(workdir: Path, experiment: Experiment, history: History) -> None:
    """Writes config.json, and removes what no longer holds; only in the first process."""
    if not is_main():
        return
    train = experiment.config.train
    files.remove_leftovers(workdir)
    (workdir / FAILURE_FILE).unlink(missing_ok=True)
    files.write_text(workdir / "config.json", configs.to_json(experiment.config) + "\n")
    if not finished(train, history):
        # A summary marks a run as complete, and this one is not.
        (workdir / "summary.json").unlink(missing_ok=True)
    elif len(history) < train.epochs:
        _log.info(
            "this run stopped early after epoch %d, since none was better in %d epochs: nothing is"
            " left to train",
            len(history),
            train.early_stopping_patience,
        )


def record_failure(workdir: Path) -> None:
    """Writes the traceback of the exception that is being handled to failure.txt."""
    if is_main():
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_text(workdir / FAILURE_FILE, traceback.format_exc())


def sources(starts: Iterable[Path]) -> list[Path]:
    """Lists Python files and all that they import, except flaxlab and installed libraries.

    Args:
        starts: files that have been run, so that their imports are in `sys.modules`.
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
            if file and _belongs_to_the_user(Path(file).resolve()):
                yield Path(file).resolve()


def _belongs_to_the_user(file: Path) -> bool:
    if file.suffix != ".py":
        return False
    if file.is_relative_to(own_experiments().resolve()):  # wherever they are installed
        return file.name != "__init__.py"
    flaxlab = Path(__file__).resolve().parents[1]
    return not any(file.is_relative_to(folder) for folder in (flaxlab, *_LIBRARIES))


def require_unchanged_imports(start: Path) -> None:
    """Refuses modules of the user that are not what this process has imported.

    Python runs an imported module once. In a notebook, a run would compute what it was, and record
    what it is.

    Args:
        start: an experiment file that has been run.

    Raises:
        UsageError: a module that it imports has changed since the first run of this process.
    """
    for path in sources([start]):
        if path != start.expanduser().resolve() and _as_imported(path) != path.read_bytes():
            raise UsageError(
                f"{path} has changed since this process imported it; restart the kernel, or start"
                " Python again"
            )


@functools.cache
def _as_imported(path: Path) -> bytes:
    return path.read_bytes()


def write_sources(workdir: Path, paths: Iterable[Path]) -> None:
    """Copies files to `workdir`/source/, with a number after a name that is already taken."""
    folder = workdir / "source"
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for path in paths:
        name = path.name
        while name in taken:
            name = f"{path.stem}_{len(taken)}{path.suffix}"
        taken.add(name)
        files.write_bytes(folder / name, path.read_bytes())
