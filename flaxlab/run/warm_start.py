"""Starting from what another run has learned, as far as it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from flaxlab.checkpoints.find import choose, find_saved, require_intact
from flaxlab.checkpoints.read import read_collection
from flaxlab.errors import UsageError
from flaxlab.training.state import TrainState


class WarmStart(NamedTuple):
    """A state with values of another run, and what became of each of its arrays.

    Attributes:
        state: the new one.
        taken: paths of the arrays that are the other run's.
        left: for each other array, its path and why it was left as it was drawn.
        unused: paths of the other run's arrays that have no place here.
    """

    state: TrainState
    taken: list[str]
    left: list[str]
    unused: list[str]


def warm_start(state: TrainState, source: Path, step: str) -> WarmStart:
    """Replaces parameters and running statistics by those of another run, by path and shape.

    The optimizer starts anew.

    Args:
        state: as drawn.
        source: any checkpoint with "params", see `find_saved`.
        step: which, see `choose`.

    Raises:
        UsageError: there is no such checkpoint, it is damaged, or nothing in it fits: no kernel,
            for biases and statistics alone are nothing that was learned.
    """
    saved = choose(find_saved(source), step)
    require_intact(saved)
    tree = saved.trees.get("state", next(iter(saved.trees.values())))
    taken, left, unused = [], [], []
    kernels = 0
    replaced: dict[str, Any] = {}
    for collection in ("params", "batch_stats"):
        own = flatten_dict(getattr(state, collection), sep="/")
        theirs = flatten_dict(read_collection(tree, collection), sep="/")
        for path, value in own.items():
            other, name = theirs.get(path), f"{collection}/{path}"
            if other is None:
                left.append(f"{name} (not there)")
            elif other.shape != value.shape:
                left.append(f"{name} (there {other.shape}, here {value.shape})")
            else:
                own[path] = jax.numpy.asarray(np.asarray(other), value.dtype)
                taken.append(name)
                kernels += collection == "params" and value.ndim > 1
        unused += [f"{collection}/{path}" for path in theirs if path not in own]
        replaced[collection] = unflatten_dict(own, sep="/")
    if not kernels:
        example = next(note for note in left if "/kernel (" in note)
        raise UsageError(
            f"nothing in {saved.folder} fits config.train.init_from: no kernel has path and shape"
            f" of one of this model, for example {example}"
        )
    return WarmStart(state.replace(**replaced), taken, left, unused)
