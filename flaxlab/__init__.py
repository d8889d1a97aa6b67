"""flaxlab: the ablation laboratory for convolutional networks in functional JAX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flaxlab.machine import avoid_wrong_fusions

__version__ = "0.1.0"

avoid_wrong_fusions()


def load(
    run: str | Path, step: str | int | None = None, model: str | None = None
) -> tuple[Any, dict[str, Any], Any]:
    """Loads a trained model: `model, variables, config = flaxlab.load("runs/mine")`.

    Args:
        run: a run directory, its checkpoints, or one step.
        step: "latest", "best" or a number; None: the one whose accuracy the run reports.
        model: where a network of your own is, "FILE.py:Class" or "package.module:Class"; None: in
            the module that the run names. Code in the run directory is never run.

    Returns:
        The linen module, its variables {"params", "batch_stats"} as nested dicts of float32 NumPy
        arrays, and the resolved config. `model.apply(variables, images, train=False)` returns the
        logits of float images (N, H, W, C) that are scaled as `config.data.scaling` says.

    Raises:
        flaxlab.errors.UsageError: there is no such checkpoint, it is damaged, or it was not
            written by flaxlab, or its network has to be named.
    """
    # Commands import this package first: it must not import JAX.
    from flaxlab.run.load import load_stored

    stored = load_stored(Path(run), None if step is None else str(step), model)
    return stored.model, stored.variables, stored.config
