"""Labels of examples, checked before their dtype is changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from flaxlab.errors import UsageError

MOST_CLASSES = 100_000  # more are no labels of classes: each has a name, and an output


def to_array(values: Any, name: str) -> np.ndarray:
    """Returns values as an array; `name` says in messages what they are.

    Raises:
        UsageError: they are none, such as images of several sizes in a list.
    """
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{name} is not an array ({reason}); expected one of numbers") from error


def to_labels(labels: Any, count: int, name: str) -> np.ndarray:
    """Returns labels as int32 (N,).

    Args:
        labels: integers from 0 and below `MOST_CLASSES`, (N,) or (N, 1).
        count: number of images, N.
        name: what the labels are, for messages.

    Raises:
        UsageError: they have another shape, dtype or range.
    """
    found = to_array(labels, name)
    if found.shape not in ((count,), (count, 1)):
        raise UsageError(
            f"{name} is an array of shape {found.shape}, but there are {count} images; expected"
            f" one label each, ({count},)"
        )
    if not np.issubdtype(found.dtype, np.integer):
        raise UsageError(f"{name} are not labels; expected integers from 0, got {found.dtype}")
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= MOST_CLASSES:
        raise UsageError(
            f"{name} has labels from {low} to {high}; expected integers from 0, of at most"
            f" {MOST_CLASSES:,} classes"
        )
    return found.reshape(count).astype(np.int32)
