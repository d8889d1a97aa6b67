"""A run of Weights & Biases: in wandb/ of the run directory, for `wandb sync`, or at its server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from flaxlab import config as configs
from flaxlab.run.tracking import Point, TrackedRun

# Read when the package is imported: W&B would write its own lines between those of a run, and
# report its errors to a server.
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_MODE", "offline")
if os.environ["WANDB_MODE"] == "offline":
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

_LONGEST_TAG = 64  # characters that the server takes


class WandbRun:
    """A `Tracker`. $WANDB_MODE, $WANDB_PROJECT and the like say where it is; offline without."""

    def open(self, run: TrackedRun, known: str | None) -> str:
        """See `Tracker`."""
        offline = os.environ["WANDB_MODE"] == "offline"
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "flaxlab"),
            dir=run.folder,
            id=known or uuid.uuid4().hex[:12],
            resume="allow",
            name=run.name,
            group=run.suite or None,
            job_type=run.job,
            tags=[text[:_LONGEST_TAG] for text in run.tags.values()],
            config=None if run.config is None else configs.to_dict(run.config),
            allow_val_change=True,  # a resumed run may have more epochs
            reinit="create_new",  # of no concern to other runs of the process
            settings=wandb.Settings(
                console="off",
                save_code=False,
                # Measuring the machine asks a server about it.
                x_disable_stats=offline,
                x_disable_machine_info=offline,
            ),
        )
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("step", hidden=True)
        for name in ("loss/*", "accuracy/*", "learning_rate", "images_per_second"):
            self._run.define_metric(name, step_metric="epoch")
        self._run.define_metric("steps/*", step_metric="step")
        return self._run.id

    def log(self, points: Sequence[Point]) -> None:
        """See `Tracker`."""
        for point in points:
            self._run.log({**point.values, point.axis: point.at}, step=point.step)

    def finish(self, scores: Mapping[str, float], paths: Sequence[Path]) -> None:
        """See `Tracker`."""
        self._run.summary.update(dict(scores))
        for path in paths:
            self._run.save(path, base_path=path.parent, policy="now", glob=False)

    def close(self, failed: bool) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=int(failed))
