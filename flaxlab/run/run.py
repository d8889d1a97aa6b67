"""What the command `flaxlab.main` does, once its options are read."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from flaxlab import config as configs
from flaxlab.config.read import baseline_file, load_baseline, resolve_config
from flaxlab.data.load import load_dataset
from flaxlab.errors import GO_ON, RunFailed, UsageError
from flaxlab.machine import compute_deterministically, keep_compiled_programs
from flaxlab.processes import is_main, require_same
from flaxlab.run.console import ConsoleProgress, print_experiment
from flaxlab.run.group import Group, join
from flaxlab.run.lock import locked
from flaxlab.run.observer import Observer
from flaxlab.run.record import experiment_revision, versions
from flaxlab.run.signals import Interruption
from flaxlab.run.sources import sources, write_sources
from flaxlab.training.experiment import Experiment, assemble
from flaxlab.training.loop import fit
from flaxlab.training.programs import Programs


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
    baseline = load_baseline(config_file, config)
    if group is not None:
        join(group)
        joined()
    console = Console(width=None if sys.stdout.isatty() else 120, quiet=not is_main())
    if not is_main():
        logging.getLogger("flaxlab").setLevel(logging.WARNING)
    experiment = assemble(config, load_dataset(config.data))
    require_same(configs.to_json(config) + experiment.dataset.fingerprint)
    if show or config.log.progress != "none":
        print_experiment(console, experiment, baseline)
    for warning in experiment.warnings():
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    if show:
        console.print(configs.to_json(config), highlight=False, markup=False, soft_wrap=True)
        return
    workdir = (workdir or Path("runs") / config.name).expanduser()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--workdir={workdir} cannot be made ({error})") from error
    progress = ConsoleProgress(console, config.log.progress)
    summary = train_and_report(experiment, config_file, workdir, progress, arguments)
    if summary is None:
        return
    line = f"validation accuracy {summary['final_val_accuracy']:.4f}"
    if "test_accuracy" in summary:
        line = f"test accuracy {summary['test_accuracy']:.4f} (epoch {summary['best_epoch']})"
    line = f"{line}; report: {workdir / 'report.html'}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def train_and_report(
    experiment: Experiment,
    file: Path,
    workdir: Path,
    progress: Observer,
    arguments: Sequence[str],
    programs: Programs | None = None,
) -> dict[str, Any] | None:
    """Trains an experiment to its end and writes its whole run directory.

    Of several processes, the first one writes it; all of them must see the same directory.

    Args:
        experiment: see `assemble`.
        file: experiment file; it and what it is built on are kept in `workdir`/source/.
        workdir: the run directory.
        progress: told how the run goes on.
        arguments: those with which `flaxlab.main` does the same.
        programs: see `fit`.

    Returns:
        The contents of summary.json; None in another than the first process.

    Raises:
        UsageError: `workdir` holds a run with another config or other data, or another process
            is at it.
        RunFailed: the training did not come to its end, or something could not be saved.
        Interrupted: a signal asked to stop.
    """
    if not is_main():
        with Interruption() as interruption:
            fit(experiment, workdir, (), programs, lambda: interruption.received)
        return None
    observers: list[Observer] = [progress]
    if experiment.config.log.tensorboard:
        from flaxlab.run.tensorboard import TensorBoardLog

        observers.append(TensorBoardLog(workdir))
    baseline = load_baseline(file, experiment.config)
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        if not any((workdir / "checkpoints").glob("*/[0-9]*")):
            if (workdir / "summary.json").is_file():
                raise UsageError(
                    f"the run in {workdir} is finished and has no checkpoints to start from; take"
                    " another --workdir, or remove its summary.json to make it again"
                )
            # Of the first start alone: a later one may yet be refused for what has changed.
            write_sources(workdir, sources([file, baseline_file(file, experiment.config)]))
        with Interruption() as interruption:
            result = fit(experiment, workdir, observers, programs, lambda: interruption.received)
        # Importing matplotlib and the like can wait until the training is done.
        from flaxlab.run.report import write_report

        try:
            summary = write_report(
                experiment, baseline, result, workdir, arguments, experiment_revision(file)
            )
        except OSError as error:
            raise RunFailed(
                f"the training is done, but its report could not be written ({error}); {GO_ON}"
            ) from error
    if result.unsaved is not None:
        raise RunFailed(
            f"the training is done and reported in {workdir}, but its last state could not be"
            f" saved ({result.unsaved}); make room, and {GO_ON}"
        )
    return summary
