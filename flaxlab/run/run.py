"""Trains in a run directory, from wherever its run stands to the last file of the report."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flaxlab import config as configs
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.command_line import open_console
from flaxlab.config.find import find_experiment
from flaxlab.data.load import load_dataset
from flaxlab.data.shape import resolve_config
from flaxlab.errors import GO_ON, Diverged, RunFailed
from flaxlab.lock import locked
from flaxlab.machine import set_up_compiler
from flaxlab.processes import explain_lost_process, is_main, require_same
from flaxlab.run.console import ConsoleProgress, print_experiment, print_result
from flaxlab.run.directory import (
    begin_directory,
    make_run_directory,
    prepare_run,
    record_failure,
    write_config,
)
from flaxlab.run.hooks import RunHooks, Stop
from flaxlab.run.memory import explain_out_of_memory
from flaxlab.run.origin import Origin
from flaxlab.run.reporter import Reporter
from flaxlab.run.result import RunResult, score_result
from flaxlab.run.resume import find_start
from flaxlab.run.signals import Interruption
from flaxlab.run.tracking import finish_trackers, make_trackers
from flaxlab.training.experiment import Experiment, assemble
from flaxlab.training.loop import fit
from flaxlab.training.programs import Programs, compile_programs


def run_experiment(
    config_file: Path,
    overrides: Sequence[str],
    workdir: Path | None,
    show: str | None,
    arguments: Sequence[str],
    join: Callable[[], None] = lambda: None,
) -> None:
    """Does what `flaxlab.main` does with its options: trains, scores and reports one experiment.

    Args:
        config_file: the experiment file.
        overrides: "--config.FIELD=VALUE" each.
        workdir: run directory; None: runs/ and the experiment's name.
        show: what to print instead of training: "layers", what would run and the table of layers,
            or "config", the resolved config, for which at most a data shape is read. None: train.
        arguments: the whole command line, for the report.
        join: waits for the other processes of the run.

    Raises:
        UsageError, RunFailed, Interrupted: see `train_and_report`; or the config or data is wrong.
    """
    set_up_compiler()
    config_file = find_experiment(config_file)
    config = resolve_config(config_file, overrides)
    if show == "config":
        print(configs.to_json(config))
        return
    origin = prepare_run(config, config_file)
    join()
    console = open_console(quiet=not is_main())
    if not is_main():
        logging.getLogger("flaxlab").setLevel(logging.WARNING)
    experiment = assemble(config, load_dataset(config.data))
    require_same(configs.to_json(config) + experiment.dataset.fingerprint)
    print_experiment(console, experiment, origin.baseline, show is not None)
    if show:
        return
    workdir = (workdir or Path("runs") / config.name).expanduser()
    make_run_directory(workdir, "--workdir")
    progress = ConsoleProgress(console, config.log.progress)
    summary = train_and_report(experiment, origin, workdir, progress, arguments)
    if summary is not None:
        print_result(console, summary, workdir)


def train_and_report(
    experiment: Experiment,
    origin: Origin,
    workdir: Path,
    progress: Reporter,
    arguments: Sequence[str] | None,
    programs: Programs | None = None,
) -> dict[str, Any] | None:
    """Trains an experiment to its end and writes its whole run directory.

    With several processes the first one writes; all must see the same directory.

    Args:
        experiment: see `assemble`.
        origin: the experiment file and what it says.
        workdir: the run directory.
        progress: shows the progress of the run.
        arguments: those with which `flaxlab.main` does the same; None: it cannot.
        programs: see `train`.

    Returns:
        The contents of summary.json; None except in the first process.

    Raises:
        UsageError: `workdir` holds a run with another config or other data, or another process
            is using it.
        RunFailed: the training could not be completed, or something could not be saved.
        Interrupted: a signal asked to stop.
    """
    reporters: list[Reporter] = [progress] if is_main() else []
    if is_main() and experiment.config.log.tensorboard:
        from flaxlab.run.tensorboard import TensorBoardLog

        reporters.append(TensorBoardLog(workdir))
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        if is_main():
            opened.enter_context(locked(workdir))
        trackers = make_trackers(experiment, origin, workdir) if is_main() else []
        reporters += [opened.enter_context(tracker) for tracker in trackers]
        begin_directory(workdir, experiment, origin)
        with Interruption() as interruption:
            try:
                result = train(
                    experiment, workdir, reporters, programs, lambda: interruption.received
                )
            except Diverged:
                record_failure(workdir)  # a result, which a comparison counts
                raise
        if not is_main():
            return None
        # Importing matplotlib can wait until the training is done.
        from flaxlab.run.report import write_report

        try:
            summary = write_report(experiment, origin, result, workdir, arguments)
        except OSError as error:
            raise RunFailed(
                f"the training is done, but its report could not be written ({error}); {GO_ON}"
            ) from error
        finish_trackers(trackers, summary, workdir)
    if result.unsaved is not None:
        raise RunFailed(
            f"the training is done and reported in {workdir}, but its last state could not be"
            f" saved ({result.unsaved}); make room, and {GO_ON}"
        )
    return summary


def train(
    experiment: Experiment,
    workdir: Path,
    reporters: Sequence[Reporter] = (),
    programs: Programs | None = None,
    stop: Stop = lambda: None,
) -> RunResult:
    """Trains to the end of `config.train.epochs`, from wherever the run in `workdir` stands.

    After each epoch: score the validation split, add a row to the history, save if that is due. A
    run that was stopped and started again ends with the same bits as one that never stopped. At
    the end it is scored, see `score_result`.

    Args:
        experiment: what to train, see `assemble`.
        workdir: run directory; gets checkpoints/, config.json, history.csv and steps.csv.
        reporters: show the progress of the run.
        programs: those of an earlier run that differs only in its seed; None: compiles new ones.
        stop: tells whether to save and stop, see `Stop`.

    Raises:
        UsageError: `workdir` holds a run with another config or other data.
        RunFailed: a loss or gradient was NaN or infinite, the device ran out of memory, or
            another process of this run was lost. Saved checkpoints are kept.
        Interrupted: `stop` returned a signal; the state is saved.
    """
    programs = programs or compile_programs(experiment)
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        explain_lost_process(),
        explain_out_of_memory(experiment.config),
        Checkpoints(workdir / "checkpoints", experiment.config.checkpoint.keep) as checkpoints,
    ):
        feeds = experiment.feeds()
        start, part = find_start(experiment, checkpoints)
        write_config(workdir, experiment, start.history)
        hooks = RunHooks(experiment, start, part, checkpoints, reporters, stop, workdir)
        try:
            state, history, scores = fit(experiment, programs, feeds, start, hooks)
            hooks.after_last_epoch(state)
        finally:
            hooks.end()
        return score_result(experiment, programs, state, history, scores, checkpoints, hooks)
