"""What the command `flaxlab.main` does, once its options are read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from flaxlab import config as configs
from flaxlab.command_line import open_console
from flaxlab.config.origin import read_origin
from flaxlab.config.read import resolve_config
from flaxlab.data.load import load_dataset
from flaxlab.files import make_folder
from flaxlab.machine import compute_deterministically, keep_compiled_programs
from flaxlab.processes import is_main, require_same
from flaxlab.run.advice import warnings
from flaxlab.run.console import ConsoleProgress, print_experiment
from flaxlab.run.group import Group, join
from flaxlab.run.record import experiment_revision, versions
from flaxlab.run.run import train_and_report
from flaxlab.training.experiment import assemble


def run_experiment(
    config_file: Path,
    overrides: Sequence[str],
    workdir: Path | None,
    show: bool,
    arguments: Sequence[str],
    group: Group | None = None,
    joined: Callable[[], None] = lambda: None,
) -> None:
    """Trains, scores and reports one experiment.

    Args:
        config_file: the experiment file.
        overrides: "--config.FIELD=VALUE" each.
        workdir: run directory; None: runs/ and the experiment's name.
        show: print config and layers, and train nothing.
        arguments: the whole command line, for the report.
        group: the processes that share the run; None: this one is alone.
        joined: called once all of the group are there.

    Raises:
        UsageError: something given is wrong.
        RunFailed: the training did not come to its end, or something could not be saved.
        Interrupted: a signal asked to stop.
    """
    keep_compiled_programs()
    config = resolve_config(config_file, overrides)
    versions(), experiment_revision(config_file)  # now: a commit may follow while the run goes on
    if config.train.deterministic:
        compute_deterministically()
    origin = read_origin(config_file, config)
    if group is not None:
        join(group)
        joined()
    console = open_console(quiet=not is_main())
    if not is_main():
        logging.getLogger("flaxlab").setLevel(logging.WARNING)
    experiment = assemble(config, load_dataset(config.data))
    require_same(configs.to_json(config) + experiment.dataset.fingerprint)
    if show or config.log.progress != "none":
        print_experiment(console, experiment, origin.baseline)
    for warning in warnings(experiment):
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    if show:
        console.print(configs.to_json(config), highlight=False, markup=False, soft_wrap=True)
        return
    workdir = (workdir or Path("runs") / config.name).expanduser()
    make_folder(workdir, "--workdir")
    progress = ConsoleProgress(console, config.log.progress)
    summary = train_and_report(experiment, origin, workdir, progress, arguments)
    if summary is None:
        return
    line = f"validation accuracy {summary['final_val_accuracy']:.4f}"
    if "test_accuracy" in summary:
        line = f"test accuracy {summary['test_accuracy']:.4f} (epoch {summary['best_epoch']})"
    line = f"{line}; report: {workdir / 'report.html'}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
