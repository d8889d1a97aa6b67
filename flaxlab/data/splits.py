"""Chooses and splits examples, each class by its share."""

from __future__ import annotations

import math

import numpy as np
from ml_collections import ConfigDict

from flaxlab.data.dataset import Dataset, RunSplits, Split
from flaxlab.errors import UsageError

# Subsets, and test splits of data that have none, are the same in every run.
_FIXED_SEED = 0
_TEST_FRACTION = 0.2


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
        UsageError: there are fewer than `count` examples.
    """
    if count > len(labels):
        raise UsageError(
            f"{count} examples were asked for, but there are only {len(labels)}; ask for fewer"
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


def cut_test_split(split: Split) -> tuple[Split, Split]:
    """Returns (the rest, a stratified fifth), as the training and the test split of one split."""
    train, test = stratified_split(split.labels, _TEST_FRACTION, _FIXED_SEED)
    return split.take(train), split.take(test)


def describe_test_split(own: bool) -> str:
    """Returns in words whether data have a test split of their own, or `cut_test_split` made it."""
    return "split as they are" if own else "a fixed stratified fifth is the test split"


def subset(split: Split, examples: int | None) -> Split:
    """Returns a stratified part of a split with this number of examples; None: all of it."""
    if examples is None or examples == len(split):
        return split
    return split.take(stratified_choice(split.labels, examples, _FIXED_SEED))


def split_for_run(data: ConfigDict, dataset: Dataset, seed: int) -> RunSplits:
    """Applies `config.data.validation`: the test split, or a holdout of the training split.

    Args:
        data: `config.data`.
        dataset: the data set of the run.
        seed: seed of the run, which determines the holdout.
    """
    if data.validation == "test":
        return RunSplits(dataset.train, dataset.test, None)
    rest, holdout = stratified_split(dataset.train.labels, data.holdout_fraction, seed)
    return RunSplits(dataset.train.take(rest), dataset.train.take(holdout), dataset.test)
