"""Tells Weights & Biases and MLflow how a run goes: extras, which work offline by default."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from flaxlab import files
from flaxlab.config import ConfigDict
from flaxlab.errors import UsageError
from flaxlab.run.history import read_history, values_of_epoch
from flaxlab.run.origin import Origin
from flaxlab.run.reporter import Reporter
from flaxlab.run.steps import STEPS_FILE, StepRow, read_steps, values_of_steps
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Row

# Endings of the fields of a summary that a tracker gets.
_SCORES = ("accuracy", "loss", "best_epoch", "parameters_total", "images_per_second", "seconds")
_FILES = ("report.html", "curves.png", "confusion_matrix.png", "samples.png", "mistakes.png")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker shows of a run beside its points.

    Attributes:
        name: name of the run.
        job: the experiment, an arm in a suite.
        suite: the suite that it belongs to; "" for a run alone.
        tags: tags by name.
        folder: run directory; keeps what continues the tracker's run.
        store: folder of a local store; a suite has one for all of its runs.
        config: the resolved config; None for the comparison of a suite.
    """

    name: str
    job: str
    suite: str
    tags: Mapping[str, str]
    folder: Path
    store: Path
    config: ConfigDict | None = None


@dataclass(frozen=True)
class Point:
    """Values of a row.

    Attributes:
        step: number of steps that the run has taken.
        axis: what charts show the values over, "epoch" or "step".
        at: the epoch, or the step.
        values: by name.
    """

    step: int
    axis: str
    at: int
    values: Mapping[str, float]


class Tracker(Protocol):
    """A tracker's own library; may raise anything."""

    def open(self, run: TrackedRun, known: str | None) -> str:
        """Begins a run, or goes on with the one whose id is known; returns the id of the run."""

    def log(self, points: Sequence[Point]) -> None:
        """Adds points, in the order of their steps."""

    def finish(self, scores: Mapping[str, float], paths: Sequence[Path]) -> None:
        """Adds the last numbers, and files."""

    def close(self, failed: bool) -> None:
        """Ends the run, which may be continued."""


def require_trackers(names: Iterable[str]) -> None:
    """Raises a `UsageError` if the package of one of these trackers is not installed."""
    for name in names:
        found = importlib.util.find_spec(name)
        # W&B writes to a folder of its own name, which Python takes for a package.
        if found is None or found.origin is None:
            raise UsageError(
                f"config.log.trackers has {name!r}, which is not installed; install it with"
                f" pip install 'flaxlab[{name}]', or leave it out"
            )


def make_trackers(experiment: Experiment, origin: Origin, workdir: Path) -> list[TrackerLog]:
    """Returns a reporter for each of `config.log.trackers`."""
    config, suite = experiment.config, origin.suite_name
    tags = {"experiment": config.name, "suite": suite, "suite_digest": origin.suite}
    run = TrackedRun(
        name=f"{config.name} seed {config.seed}",
        job=config.name,
        suite=suite,
        tags={key: text for key, text in tags.items() if text},
        folder=workdir,
        store=workdir.parents[1] if suite else workdir,
        config=config,
    )
    return [TrackerLog(name, run) for name in config.log.trackers]


def track_comparison(names: Iterable[str], suite: str, digest: str, folder: Path) -> None:
    """Adds the comparison that a suite has written to its folder, as a run beside its runs."""
    tags = {"suite": suite, "suite_digest": digest}
    run = TrackedRun(f"{suite} comparison", "comparison", suite, tags, folder, folder)
    for name in names:
        with TrackerLog(name, run) as log:
            log.finish({}, sorted(folder.glob("comparison*.*")))


@dataclass(frozen=True)
class _State:
    """What a run directory keeps of a tracker's run, so that a later start continues it.

    Attributes:
        id: the tracker's; None: there is no run yet.
        epoch: the last epoch that it has.
        step: the last row of steps.csv that it has.
        finished: whether it has the last numbers.
    """

    id: str | None = None
    epoch: int = 0
    step: int = 0
    finished: bool = False


@dataclass
class TrackerLog(Reporter):
    """Reports a run to one tracker.

    A resumed run continues the tracker's, which gets no row twice, unless the process was killed
    between sending it and noting that; rows that it has missed are taken from the run directory.
    A tracker that fails is warned of once and left alone; the training goes on.

    Attributes:
        name: "wandb" or "mlflow".
        run: what it shows.
    """

    name: str
    run: TrackedRun
    _tracker: Tracker | None = field(default=None, init=False)
    _failed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._file = self.run.folder / f"{self.name}.json"
        self._state = _State()
        if self._file.is_file():
            self._attempt(self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if (tracker := self._tracker) is not None:
            self._attempt(lambda: tracker.close(failed=kind is not None))

    @property
    def opened(self) -> bool:
        """Whether there was anything to report since the run was started."""
        return self._tracker is not None

    def run_started(self, experiment: Experiment, epochs: int, steps: int) -> None:
        """Begins the tracker's run, or goes on with it and reports what it has missed."""
        self._steps_per_epoch = experiment.steps_per_epoch
        if not (epochs or steps):
            self._state = _State()  # a run from the beginning is another run
        if not self._state.finished:
            missed = [
                *map(self._epoch_point, read_history(self.run.folder / "history.csv")),
                *map(_steps_point, read_steps(self.run.folder / STEPS_FILE)),
            ]
            self._report(sorted(missed, key=lambda point: (point.step, point.axis == "epoch")))

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Does nothing: the rows of steps.csv are reported."""

    def steps_written(self, rows: Sequence[StepRow]) -> None:
        """Reports the rows."""
        self._report([_steps_point(row) for row in rows])

    def epoch_done(self, row: Row) -> None:
        """Reports the row."""
        self._report([self._epoch_point(row)])

    def run_done(self) -> None:
        """Does nothing: the scores follow, see `finish`."""

    def finish(self, scores: Mapping[str, float], paths: Sequence[Path]) -> None:
        """Reports the last numbers, and files; opens the tracker's run if it is not open."""

        def do() -> None:
            self._open().finish(scores, paths)
            self._keep(replace(self._state, finished=True))

        self._attempt(do)

    def _report(self, points: Sequence[Point]) -> None:
        def do() -> None:
            tracker = self._open()
            new = [point for point in points if point.at > getattr(self._state, point.axis)]
            if new:
                tracker.log(new)
                last = asdict(self._state) | {point.axis: point.at for point in new}
                self._keep(_State(**last | {"finished": False}))

        self._attempt(do)

    def _open(self) -> Tracker:
        if self._tracker is None:
            tracker = _make(self.name)
            found = tracker.open(self.run, self._state.id)
            self._tracker = tracker
            if found != self._state.id:
                self._keep(_State(found))
        return self._tracker

    def _keep(self, state: _State) -> None:
        self._state = state
        files.write_text(self._file, json.dumps(asdict(state)) + "\n")

    def _read(self) -> None:
        self._state = _State(**json.loads(self._file.read_text()))

    def _attempt(self, do: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            do()
        except Exception as error:  # whatever it is, the training goes on
            self._failed = True
            text = " ".join(f"{type(error).__name__}: {error}".split())
            _log.warning("warning: %s gets no more of this run (%s)", self.name, text)

    def _epoch_point(self, row: Row) -> Point:
        return Point(row.epoch * self._steps_per_epoch, "epoch", row.epoch, values_of_epoch(row))


def finish_trackers(
    trackers: Iterable[TrackerLog], summary: Mapping[str, Any], workdir: Path
) -> None:
    """Gives each tracker that follows a run its scores, its pictures and its report.

    Args:
        trackers: those of the run.
        summary: the contents of summary.json.
        workdir: the run directory.
    """
    numbers = {key: value for key, value in summary.items() if isinstance(value, int | float)}
    last = {key: value for key, value in numbers.items() if key.endswith(_SCORES)}
    for tracker in trackers:
        if tracker.opened:
            tracker.finish(last, [workdir / name for name in _FILES])


def _steps_point(row: StepRow) -> Point:
    return Point(row.step, "step", row.step, values_of_steps(row))


def _make(name: str) -> Tracker:
    if name == "wandb":
        from flaxlab.run.wandb_run import WandbRun

        return WandbRun()
    from flaxlab.run.mlflow_run import MlflowRun

    return MlflowRun()
