"""Trains in a run directory, from wherever the run there stands to its last file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxlab import config as configs
from flaxlab import files
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.config.origin import Origin
from flaxlab.config.read import baseline_file
from flaxlab.errors import GO_ON, RunFailed, UsageError
from flaxlab.lock import locked
from flaxlab.processes import explain_lost_process, is_main
from flaxlab.run.history import best_row
from flaxlab.run.hooks import RunHooks, Stop
from flaxlab.run.memory import explain_out_of_memory
from flaxlab.run.profile import Profile
from flaxlab.run.record import experiment_revision
from flaxlab.run.reporter import Reporter
from flaxlab.run.resume import find_start
from flaxlab.run.signals import Interruption
from flaxlab.run.sources import sources, write_sources
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Scores, finished, fit, score
from flaxlab.training.metrics import History
from flaxlab.training.programs import Programs, compile_programs
from flaxlab.training.state import TrainState

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What `train` returns.

    Attributes:
        state: after the last epoch.
        history: one row an epoch.
        test_scores: on the test split: after the last epoch, or, with a holdout, the best
            epoch's.
        test_epoch: the epoch that these scores are of.
        programs: the compiled programs of this process.
        unsaved: why the last state could not be saved; None if it is.
    """

    state: TrainState
    history: History
    test_scores: Scores
    test_epoch: int
    programs: Programs
    unsaved: str | None


def train(
    experiment: Experiment,
    workdir: Path,
    reporters: Sequence[Reporter] = (),
    programs: Programs | None = None,
    stop: Stop = lambda: None,
) -> RunResult:
    """Trains to the end of `config.train.epochs`, from wherever the run in `workdir` stands.

    After each epoch: score the validation split, add a row to the history, save. A run that was
    stopped and started again ends with the same bits as one that never stopped.

    Args:
        experiment: what to train, see `assemble`.
        workdir: run directory; "checkpoints/", "config.json", "history.csv" are written there.
        reporters: told how the run goes on.
        programs: those of an earlier run of the same experiment with another seed; None:
            compiled anew.
        stop: asked after each call of a program whether to save and stop, and by which signal.

    Raises:
        UsageError: `workdir` holds a run with another config or other data.
        RunFailed: a loss or gradient was NaN or infinite, or the device ran out of memory; the
            checkpoints that are saved are kept. Or another process of this run was lost.
        Interrupted: `stop` said so; the state is saved.
    """
    config = experiment.config
    programs = programs or compile_programs(
        experiment.train_step, experiment.eval_step, experiment.devices
    )
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        explain_lost_process(),
        explain_out_of_memory(config),
        Checkpoints(workdir / "checkpoints", config.checkpoint.keep) as checkpoints,
        Profile(workdir / "profile" if config.train.profile else None) as profile,
    ):
        feeds = experiment.feeds()
        start, seconds = find_start(experiment, checkpoints)
        _begin_files(workdir, experiment, start.history)
        hooks = RunHooks(
            experiment,
            start,
            seconds,
            checkpoints,
            reporters,
            stop,
            profile,
            workdir / "history.csv",
        )
        try:
            state, history, scores = fit(experiment, programs, feeds, start, hooks)
            hooks.after_last_epoch(state)
        finally:
            hooks.end()
        epoch, scored, feed = len(history), state, feeds.validation
        test = experiment.splits.test
        if test is not None:
            # Else the validation split is the test split, and was scored after the last epoch.
            epoch, scores = best_row(history).epoch, None
            best = checkpoints.restore_best(state, epoch * experiment.steps_per_epoch)
            scored, feed = experiment.devices.put(best), experiment.eval_feed(test)
        if scores is None:
            scores = score(programs.evaluate, scored, feed, hooks)
        return RunResult(state, history, scores, epoch, programs, checkpoints.failure)


def _begin_files(workdir: Path, experiment: Experiment, history: History) -> None:
    if not is_main():
        return
    train = experiment.config.train
    files.remove_leftovers(workdir)
    files.write_text(workdir / "config.json", configs.to_json(experiment.config) + "\n")
    if not finished(train, history):
        # A summary says that a run is complete; this one is about to go on.
        (workdir / "summary.json").unlink(missing_ok=True)
    elif len(history) < train.epochs:
        _log.info(
            "this run stopped early after epoch %d, for want of a better one in %d: nothing is"
            " left to train",
            len(history),
            train.early_stopping_patience,
        )


def train_and_report(
    experiment: Experiment,
    origin: Origin,
    workdir: Path,
    progress: Reporter,
    arguments: Sequence[str],
    programs: Programs | None = None,
) -> dict[str, Any] | None:
    """Trains an experiment to its end and writes its whole run directory.

    Of several processes, the first one writes it; all of them must see the same directory.

    Args:
        experiment: see `assemble`.
        origin: what its experiment file says; the file and what it is built on are kept in
            `workdir`/source/.
        workdir: the run directory.
        progress: told how the run goes on.
        arguments: those with which `flaxlab.main` does the same.
        programs: see `train`.

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
            train(experiment, workdir, (), programs, lambda: interruption.received)
        return None
    reporters: list[Reporter] = [progress]
    if experiment.config.log.tensorboard:
        from flaxlab.run.tensorboard import TensorBoardLog

        reporters.append(TensorBoardLog(workdir))
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        if not any((workdir / "checkpoints").glob("*/[0-9]*")):
            if (workdir / "summary.json").is_file():
                raise UsageError(
                    f"the run in {workdir} is finished and has no checkpoints to start from; take"
                    " another --workdir, or remove its summary.json to make it again"
                )
            # Of the first start alone: a later one may yet be refused for what has changed.
            write_sources(
                workdir, sources([origin.file, baseline_file(origin.file, experiment.config)])
            )
        with Interruption() as interruption:
            result = train(experiment, workdir, reporters, programs, lambda: interruption.received)
        # Importing matplotlib and the like can wait until the training is done.
        from flaxlab.run.report import write_report

        try:
            summary = write_report(
                experiment, origin, result, workdir, arguments, experiment_revision(origin.file)
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
