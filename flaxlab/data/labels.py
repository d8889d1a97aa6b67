"""Labels of examples, and the names of their classes, checked wherever they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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


def to_class_names(given: Any, what: str) -> tuple[str, ...]:
    """Returns the names of classes.

    Args:
        given: a sequence or an array (classes,) of at least two distinct strings, none empty.
        what: what the names are, for messages.

    Raises:
        UsageError: they are something else.
    """
    names = given.tolist() if getattr(given, "ndim", None) == 1 else given
    if not isinstance(names, Sequence) or isinstance(names, str | bytes):
        raise UsageError(
            f"{what} is of the type {type(given).__name__}; expected a list of strings, one for"
            " each class"
        )
    strange = [name for name in names if not isinstance(name, str) or not name.strip()]
    if strange:
        raise UsageError(
            f"{what} has {strange[0]!r} among the names; expected strings that are not empty"
        )
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise UsageError(f"{what} has {name!r} {times} times; give each class a name of its own")
    if len(names) < 2:
        raise UsageError(f"{what} has {len(names)} names; expected at least two classes")
    return tuple(map(str, names))
