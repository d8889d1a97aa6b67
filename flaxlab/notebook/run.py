"""A run as Python code sees it: what its directory holds, read when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.config.rules import complete
from flaxlab.data.arrays import to_pixels
from flaxlab.data.dataset import Dataset
from flaxlab.data.load import load_dataset
from flaxlab.errors import UsageError
from flaxlab.evaluate.command import score_stored
from flaxlab.files import to_path
from flaxlab.lock import locked
from flaxlab.notebook.pictures import Picture, image
from flaxlab.notebook.shown import Page, facts, link
from flaxlab.pages import plots, style
from flaxlab.predict.prediction import predict_images
from flaxlab.run.history import best_row, from_csv
from flaxlab.run.load import StoredModel, load_stored
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import Row
from flaxlab.training.state import TrainState

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A run in its directory; a notebook shows its numbers, curves and a link to its report.

    Attributes:
        folder: the run directory.
        network: where a network of one's own is, as `flaxlab.load` takes it; None: where the run
            says, if that is an installed module.
        dataset: the data of the run, if they are only in memory; else None: they are loaded.
    """

    folder: Path
    network: str | None = None
    dataset: Dataset | None = field(default=None, repr=False, compare=False)

    @property
    def config(self) -> ConfigDict:
        """The resolved config of the run, frozen."""
        return self._parsed("config.json", _to_config)

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of the finished run, see `flaxlab.run.report.summarize`."""
        return self._parsed("summary.json", _to_dict)

    @property
    def history(self) -> list[Row]:
        """A row for each epoch; `pandas.DataFrame(run.history)` makes a table of them."""
        return self._parsed("history.csv", from_csv)

    @property
    def state(self) -> TrainState:
        """The state after the last saved step: parameters, batch statistics, optimizer and key.

        Raises:
            UsageError: there is none, or the network or the data cannot be loaded.
        """
        config = self._stored("latest").config
        experiment = assemble(config, self._dataset(config))
        with (
            locked(self.folder),
            Checkpoints(self.folder / "checkpoints", config.checkpoint.keep) as checkpoints,
        ):
            newest = checkpoints.newest()
            if newest is None:
                raise UsageError(f"no intact checkpoint is left in {self.folder}")
            return newest.restore(experiment.devices.put(experiment.create_state()))

    def plot(self) -> Picture:
        """Returns the picture of accuracy and loss over the epochs.

        Raises:
            UsageError: no epoch is done.
        """
        if not self.history:
            raise UsageError(
                f"no epoch of the run in {self.folder} is done: nothing is to be drawn"
            )
        return Picture(plots.curves(self.history, self.config.name, None))

    def report(self) -> Page:
        """Returns the report of the finished run."""
        self._read("summary.json")
        return Page(self.folder / "report.html")

    def evaluate(self, batch_stats: str = "running") -> dict[str, Any]:
        """Scores the test split with the state that the run reports, as `flaxlab.evaluate` does.

        Args:
            batch_stats: the statistics of batch normalization, "running", "batch" or "recomputed".

        Returns:
            "accuracy", a share; "loss", in nats; "examples"; and "classes", precision, recall, F1
            and number of examples of each.

        Raises:
            UsageError: the model or the data cannot be loaded.
        """
        stored = self._stored()
        dataset = self._dataset(stored.config)
        (result,) = score_stored(stored, stored.config, dataset, [batch_stats]).results
        return result

    def predict(self, images: Any) -> np.ndarray:
        """Returns the probability of each class for some images, float64 (N, classes).

        Args:
            images: (N, H, W) or (N, H, W, C), of the size of the run's: uint8, or floats in [0, 1],
                which are rounded to 256 levels.

        Raises:
            UsageError: they are not such images, or the model cannot be loaded.
        """
        stored = self._stored()
        pixels, _ = to_pixels(images, "images")
        shape = tuple(stored.config.data.image_shape)
        if pixels.shape[1:] != shape:
            raise UsageError(f"the images are {pixels.shape[1:]}, and the model takes {shape}")
        return predict_images(stored, pixels)

    def _stored(self, step: str | None = None) -> StoredModel:
        return load_stored(self.folder, step, self.network)

    def _dataset(self, config: ConfigDict) -> Dataset:
        return load_dataset(config.data) if self.dataset is None else self.dataset

    def _parsed(self, name: str, parse: Callable[[str], T]) -> T:
        text = self._read(name)
        try:
            return parse(text)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(
                f"{self.folder / name} is damaged ({error}); fetch the file again, or train anew"
            ) from error

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except (FileNotFoundError, NotADirectoryError) as error:
            what = "is not finished" if (self.folder / "config.json").exists() else "is not there"
            raise UsageError(f"the run in {self.folder} {what}: it has no {name}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.folder / name} cannot be read ({error})") from error

    def _repr_html_(self) -> str:
        config, history = self.config, self.history
        found = self.summary if self._has("summary.json") else {}
        done, epochs = len(history), config.train.epochs
        values = {
            "run": config.name,
            "data": found.get("dataset", config.data.name),
            "seed": str(config.seed),
            "epochs": str(done) if found else f"{done} of {epochs}, not finished",
        }
        if found:
            values["parameters"] = f"{found['parameters_total']:,}"
        if "test_accuracy" in found:
            values["test accuracy"] = f"{found['test_accuracy']:.4f}"
        picture = ""
        if history:
            values["validation accuracy"] = f"{history[-1].val_accuracy:.4f}"
            values["best validation accuracy"] = f"{best_row(history).val_accuracy:.4f}"
            picture = image(style.png(self.plot().figure), "accuracy and loss over the epochs")
        report = link(self.folder / "report.html") if self._has("report.html") else ""
        return facts(values) + picture + report

    def _has(self, name: str) -> bool:
        return (self.folder / name).is_file()


def _to_dict(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError(f"{type(found).__name__}, not an object")
    return found


def _to_config(text: str) -> ConfigDict:
    return complete(configs.from_dict(_to_dict(text)))


def open_run(folder: str | Path, model: str | None = None) -> Run:
    """See `flaxlab.open_run`."""
    run = Run(to_path(folder, "the run"), model)
    _ = run.config  # says so now if it is none
    return run
