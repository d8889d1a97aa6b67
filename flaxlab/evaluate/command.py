"""Scores a stored model and prints the scores, for the command `flaxlab.evaluate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from rich.table import Table

from flaxlab.command_line import open_console
from flaxlab.config.read import apply_overrides
from flaxlab.data.dataset import Dataset
from flaxlab.data.load import load_dataset
from flaxlab.data.splits import split_for_run
from flaxlab.errors import UsageError
from flaxlab.evaluate.evaluation import KINDS, evaluate_stored
from flaxlab.run.load import StoredModel
from flaxlab.scores import class_scores, confusion_matrix


class Scored(NamedTuple):
    """The scores of a stored model on a data set.

    Attributes:
        dataset: the data set.
        results: for each kind of statistics "batch_stats", the kind; "accuracy", a share; "loss",
            in nats; "examples"; and "classes", precision, recall, F1 and number of each.
    """

    dataset: Dataset
    results: list[dict[str, Any]]


def evaluate(
    stored: StoredModel,
    overrides: Sequence[str],
    kinds: Sequence[str],
    batch_size: int | None,
    form: str,
) -> None:
    """Scores a stored model and prints the scores.

    Args:
        stored: the model.
        overrides: "--config.data.FIELD=VALUE" each.
        kinds: kinds of statistics, see `evaluate_stored`.
        batch_size: number of images at a time; None: see `evaluate_stored`.
        form: "table" or "json".

    Raises:
        UsageError: the model does not fit these data and options.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--batch_stats={kind} is unknown; expected {', '.join(KINDS)}")
    config = ConfigDict(stored.config)
    if any(override.startswith("--config.data.name") for override in overrides):
        # The run's subsets do not apply to other data.
        config.data.train_examples = config.data.test_examples = None
    config = apply_overrides(config, overrides)
    dataset, results = score_stored(stored, config, load_dataset(config.data), kinds, batch_size)
    if form == "json":
        about = {"checkpoint": str(stored.saved.folder), "epoch": stored.epoch}
        print(json.dumps({**about, "dataset": dataset.title, "results": results}, indent=2))
        return
    console = open_console()
    console.print(
        f"{config.name}, epoch {stored.epoch} ({stored.saved.folder}), on"
        f" {results[0]['examples']:,} test examples of {dataset.title}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if dataset.class_names != stored.class_names:
        note = "note: the class names differ from those of training; classes are matched by number"
        console.print(note, style="yellow")
    table = Table("statistics", "accuracy", "cross entropy, nats", box=None, pad_edge=False)
    for result in results:
        table.add_row(result["batch_stats"], f"{result['accuracy']:.4f}", f"{result['loss']:.4f}")
    console.print(table)
    first = results[0]
    table = Table("class", "precision", "recall", "F1", "examples", box=None, pad_edge=False)
    for name, scores in first["classes"].items():
        numbers = [f"{scores[key]:.4f}" for key in ("precision", "recall", "f1")]
        table.add_row(name, *numbers, str(scores["support"]))
    console.print(table)


def score_stored(
    stored: StoredModel,
    config: ConfigDict,
    dataset: Dataset,
    kinds: Sequence[str],
    batch_size: int | None = None,
) -> Scored:
    """Scores a stored model on the test split of a data set.

    Args:
        stored: the model.
        config: the run's, or one that differs in `config.data`.
        dataset: what `config.data` names.
        kinds: kinds of statistics, see `evaluate_stored`.
        batch_size: number of images at a time; None: see `evaluate_stored`.

    Raises:
        UsageError: the model does not fit the data, or the kinds of statistics.
    """
    if len(dataset.class_names) != len(stored.class_names):
        raise UsageError(
            f"{dataset.title} has {len(dataset.class_names)} classes, the model has"
            f" {len(stored.class_names)}; use data with as many"
        )
    if dataset.image_shape != tuple(stored.config.data.image_shape):
        raise UsageError(
            f"the images of {dataset.title} are {dataset.image_shape}, the model takes"
            f" {tuple(stored.config.data.image_shape)}; set --data.image_shape to that"
        )
    if config.data.scaling != stored.config.data.scaling:
        raise UsageError(f"the model was trained with data.scaling={stored.config.data.scaling}")
    splits = split_for_run(config.data, dataset, config.seed)
    test = splits.test or splits.validation
    results: list[dict[str, Any]] = []
    for kind in kinds:
        # With the config of these data, which may ask for another placement.
        evaluated = replace(stored, config=config)
        found = evaluate_stored(
            evaluated, test, splits.train, kind, batch_size, config.data.test_flips
        )
        scores = class_scores(
            confusion_matrix(test.labels, found.predicted, len(dataset.class_names))
        )
        classes = {
            name: {"precision": precision, "recall": recall, "f1": f1, "support": int(support)}
            for name, precision, recall, f1, support in zip(
                dataset.class_names, *(column.tolist() for column in scores), strict=True
            )
        }
        results.append(
            {
                "batch_stats": kind,
                "accuracy": found.accuracy,
                "loss": found.loss,
                "examples": len(test),
                "classes": classes,
            }
        )
    return Scored(dataset, results)
