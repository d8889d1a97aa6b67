"""Stratified choices of examples: each class keeps its share."""

from __future__ import annotations

import math

import numpy as np
from ml_collections import ConfigDict

from flaxlab.data.dataset import Dataset, RunSplits
from flaxlab.errors import UsageError


def stratified_choice(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses `count` examples at random, each class by its share of `labels`.

    Shares are rounded by largest remainder, ties going to the smaller label, so that exactly
    `count` examples are chosen.

    Args:
        labels: int (N,).
        count: how many to choose, at most N.
        seed: determines the choice.

    Returns:
        Indices into `labels`, int64 (count,), ascending.

    Raises:
        UsageError: fewer than `count` examples are there.
    """
    if count > len(labels):
        raise UsageError(
            f"{count} examples asked for, but there are only {len(labels)}; ask for fewer"
        )
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * count / len(labels)
    quotas = np.floor(shares).astype(int)
    by_remainder = np.argsort(-(shares - quotas), kind="stable")
    quotas[by_remainder[: count - quotas.sum()]] += 1
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(classes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits into (the rest, a stratified `fraction`, rounded up): ascending, disjoint indices.

    Raises:
        UsageError: one of the two parts would be empty.
    """
    count = math.ceil(len(labels) * fraction)
    if not 0 < count < len(labels):
        raise UsageError(
            f"a fraction of {fraction} of {len(labels)} examples leaves one part empty;"
            " choose another fraction or more examples"
        )
    part = stratified_choice(labels, count, seed)
    return np.setdiff1d(np.arange(len(labels)), part), part


def split_for_run(data: ConfigDict, dataset: Dataset, seed: int) -> RunSplits:
    """Applies `config.data.validation`: the test split, or a holdout of the training split.

    Args:
        data: `config.data`.
        dataset: what it names.
        seed: seed of the run, which determines the holdout.
    """
    if data.validation == "test":
        return RunSplits(dataset.train, dataset.test, None)
    rest, holdout = stratified_split(dataset.train.labels, data.holdout_fraction, seed)
    return RunSplits(dataset.train.take(rest), dataset.train.take(holdout), dataset.test)
