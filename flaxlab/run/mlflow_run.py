"""A run of MLflow: in mlruns/ of the run directory or suite, or where $MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from flaxlab import config as configs
from flaxlab.lock import one_at_a_time
from flaxlab.run.tracking import Point, TrackedRun

# Read when the package is imported: MLflow would report its use to a server, and takes folders
# for stores only if it is told to.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

# What a server takes at once (https://mlflow.org/docs/latest/rest-api.html, "Log Batch").
_PARAMS, _METRICS, _CHARACTERS = 100, 1000, 6000

T = TypeVar("T")


class MlflowRun:
    """A `Tracker`."""

    def open(self, run: TrackedRun, known: str | None) -> str:
        """See `Tracker`. A run that is not in the store begins anew."""
        local = (run.store / "mlruns").absolute().as_uri()
        with one_at_a_time(run.store / ".mlflow"):  # the tasks of a suite make one experiment
            self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or local)
            found = self._client.get_experiment_by_name(run.suite or run.job)
            if found is None:
                experiment = self._client.create_experiment(run.suite or run.job)
            else:
                experiment = found.experiment_id
        if known is not None and self._continues(known):
            self._id = known
            return known
        created = self._client.create_run(experiment, run_name=run.name, tags=dict(run.tags))
        self._id = created.info.run_id
        fields = configs.flatten(run.config) if run.config is not None else ()
        params = [Param(path, str(value)[:_CHARACTERS]) for path, value in fields]
        for some in _batches(params, _PARAMS):
            self._client.log_batch(self._id, params=some)
        return self._id

    def _continues(self, known: str) -> bool:
        try:
            self._client.update_run(known, status="RUNNING")
        except MlflowException:
            return False
        return True

    def log(self, points: Sequence[Point]) -> None:
        """See `Tracker`."""
        self._log([(name, x, point.at) for point in points for name, x in point.values.items()])

    def _log(self, values: Sequence[tuple[str, float, int]]) -> None:
        now = int(time.time() * 1000)
        for some in _batches([Metric(name, x, now, at) for name, x, at in values], _METRICS):
            self._client.log_batch(self._id, metrics=some)

    def finish(self, scores: Mapping[str, float], paths: Sequence[Path]) -> None:
        """See `Tracker`."""
        self._log([(name, x, 0) for name, x in scores.items()])
        for path in paths:
            self._client.log_artifact(self._id, str(path))

    def close(self, failed: bool) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


def _batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[begin : begin + size] for begin in range(0, len(items), size)]
