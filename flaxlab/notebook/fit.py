"""Trains an experiment from Python, as `flaxlab.main` does from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict, FrozenConfigDict

from flaxlab import models
from flaxlab.command_line import in_notebook, open_console
from flaxlab.config.configure import ExperimentConfig, as_overrides, configure
from flaxlab.config.read import load_experiment
from flaxlab.config.rules import validate
from flaxlab.data.arrays import Arrays, from_arrays
from flaxlab.data.load import load_dataset, take_subsets
from flaxlab.data.shape import with_image_shape
from flaxlab.errors import UsageError
from flaxlab.files import to_path
from flaxlab.machine import set_up_compiler
from flaxlab.notebook.progress import show_progress
from flaxlab.notebook.run import Run
from flaxlab.run.console import print_experiment, print_result
from flaxlab.run.directory import make_run_directory, prepare_run
from flaxlab.run.resume_rules import is_complete
from flaxlab.run.run import train_and_report
from flaxlab.training.experiment import assemble


def fit(
    config: str | Path | ConfigDict,
    workdir: str | Path | None = None,
    data: Arrays | None = None,
    class_names: Sequence[str] | None = None,
) -> Run:
    """See `flaxlab.fit`."""
    set_up_compiler()
    if data is None and class_names is not None:
        raise UsageError("class_names are for arrays in `data`; give these, or leave the names out")
    own = None if data is None else from_arrays(data, class_names)
    chosen = configure(config)
    if own is not None:
        chosen.data.name, chosen.data.image_shape = "arrays", own.image_shape
        validate(chosen)
    resolved = with_image_shape(FrozenConfigDict(chosen))
    folder = to_path(Path("runs") / resolved.name if workdir is None else workdir, "workdir")
    origin = prepare_run(resolved, chosen.file)
    dataset = load_dataset(resolved.data) if own is None else take_subsets(own, resolved.data)
    experiment = assemble(resolved, dataset)
    network = resolved.model.name if models.is_own(resolved.model.name) else None
    run = Run(folder, network, None if own is None else dataset)
    console = open_console()
    if is_complete(folder, experiment):
        line = f"the run in {folder} is finished, with this config and data: nothing is trained"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
        return run
    make_run_directory(folder, "workdir")
    print_experiment(console, experiment, origin.baseline, show=False)
    summary = train_and_report(
        experiment,
        origin,
        folder,
        show_progress(console, resolved.log.progress, in_notebook()),
        command_arguments(chosen, folder),
    )
    if summary is not None:
        print_result(console, summary, folder)
    return run


def command_arguments(config: ExperimentConfig, folder: Path) -> list[str] | None:
    """Returns the arguments with which `flaxlab.main` does the same; None if it cannot."""
    if config.file is None or config.data.name == "arrays":
        return None
    changes = as_overrides(load_experiment(config.file), config)
    return None if changes is None else [f"--config={config.file}", *changes, f"--workdir={folder}"]
