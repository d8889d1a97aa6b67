"""flaxlab: the ablation laboratory for convolutional networks in functional JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxlab.machine import avoid_wrong_fusions

# Commands import this package first: it must not import JAX, so functions import what they need.
if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from flaxlab.config.configure import ExperimentConfig
    from flaxlab.notebook.run import Run
    from flaxlab.notebook.suite import SuiteRuns

__version__ = "0.1.0"
__all__ = ["configure", "fit", "load", "open_run", "run_suite"]

avoid_wrong_fusions()


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def configure(experiment: str | Path | ConfigDict, **overrides: Any) -> ExperimentConfig:
    """Returns the config of an experiment, validated: `configure("alexnet_pool")`.

    Args:
        experiment: an experiment file; the name of an experiment in this folder, in experiments/
            or among flaxlab's own; or a config, of which a copy is made.
        **overrides: values by dotted path, `**{"train.epochs": 3}`.

    Returns:
        A config whose fields may be changed. It knows its experiment file, `config.file`.

    Raises:
        flaxlab.errors.UsageError: there is no such experiment or field, or a value is wrong.
    """
    from flaxlab.config.configure import configure

    return configure(experiment, overrides)


def fit(
    config: str | Path | ConfigDict,
    workdir: str | Path | None = None,
    *,
    data: tuple[Any, Any, Any, Any] | None = None,
    class_names: Sequence[str] | None = None,
) -> Run:
    """Trains an experiment, scores it, and writes its report, as `python -m flaxlab.main` does.

    A run that was interrupted resumes where it stopped. One that is finished is not trained again,
    and a line says so.

    Args:
        config: what `configure` returns or takes.
        workdir: the run directory; None: runs/ and the experiment's name.
        data: arrays of your own (x_train, y_train, x_test, y_test): images (N, H, W) or
            (N, H, W, C), C 1 or 3, as uint8 or as floats in [0, 1], which are rounded to 256
            levels; labels as integers from 0. They replace `config.data.name` and `image_shape`.
        class_names: the name of each label in `data`, distinct strings; None: the numbers.

    Raises:
        flaxlab.errors.UsageError: the config or the data is wrong, or `workdir` holds a run with
            another config, on other data, with other names, or of other code.
        flaxlab.errors.RunFailed: the loss was NaN or infinite, or something could not be saved.
        KeyboardInterrupt: the cell was interrupted; the state is saved, and the next call resumes.
    """
    from flaxlab.notebook.fit import fit

    return fit(config, workdir, data, class_names)


def open_run(run: str | Path, model: str | None = None) -> Run:
    """Returns a run that `fit`, a command or a suite has left: `open_run("runs/alexnet_pool")`.

    Args:
        run: the run directory.
        model: where a network of your own is, see `load`.

    Raises:
        flaxlab.errors.UsageError: there is no run.
    """
    from flaxlab.notebook.run import open_run

    return open_run(run, model)


def run_suite(
    suite: str | Path | ConfigDict,
    workdir: str | Path | None = None,
    *,
    seeds: int | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    **overrides: Any,
) -> SuiteRuns:
    """Runs each arm of a suite with each seed, as `python -m flaxlab.suite` does.

    Runs that are finished are not repeated, and an interrupted one resumes where it stopped.

    Args:
        suite: a suite file, or the name of a suite in this folder, in experiments/suites/ or among
            flaxlab's own; with `sweep`, what `configure` takes, but no config without a file.
        workdir: the folder of the runs; None: runs/ and the name of the suite.
        seeds: runs of each arm; None: the suite's own number, or 5.
        sweep: {dotted path: two or more values}; the arms are their combinations.
        **overrides: values for every arm by dotted path, `**{"train.epochs": 3}`.

    Raises:
        flaxlab.errors.UsageError: the suite's file or a value is wrong, or `workdir` holds runs
            with another config or on other data.
        flaxlab.errors.RunFailed: some runs failed; the others are complete and compared.
        KeyboardInterrupt: the cell was interrupted; the state of the run is saved.
    """
    from flaxlab.notebook.suite import run_suite

    return run_suite(suite, workdir, seeds, sweep, overrides)


def load(
    run: str | Path, step: str | int | None = None, model: str | None = None
) -> tuple[Any, dict[str, Any], Any]:
    """Loads a trained model: `model, variables, config = flaxlab.load("runs/mine")`.

    Args:
        run: a run directory, its checkpoints, or one step.
        step: "latest", "best" or a number; None: the one whose accuracy the run reports.
        model: where a network of your own is, "FILE.py:Class" or "package.module:Class"; None: in
            the module that the run names. Code in the run directory is never run.

    Returns:
        The linen module, its variables {"params", "batch_stats"} as nested dicts of float32 NumPy
        arrays, and the resolved config. `model.apply(variables, images, train=False)` returns the
        logits of float images (N, H, W, C) that are scaled as `config.data.scaling` says.

    Raises:
        flaxlab.errors.UsageError: there is no such checkpoint, it is damaged, or it was not
            written by flaxlab, or its network has to be named.
    """
    from flaxlab.files import to_path
    from flaxlab.run.load import load_stored

    stored = load_stored(to_path(run, "the run"), None if step is None else str(step), model)
    return stored.model, stored.variables, stored.config
