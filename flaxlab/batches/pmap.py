"""The older way to use several devices: `pmap` runs a program on each of them.

Arrays get a leading axis for the devices, and what has to be the same on all of them is added up
over a named axis, inside the program. `jit` with sharded arrays needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np


def shard_batches(
    batches: Iterable[Mapping[str, np.ndarray]], devices: int
) -> Iterator[dict[str, np.ndarray]]:
    """Gives each array a leading device axis, (B, ...) to (devices, B / devices, ...).

    Raises:
        ValueError: the batch size is not a multiple of `devices`.
    """
    for batch in batches:
        size = len(batch["label"])
        if size % devices:
            raise ValueError(f"a batch of {size} does not divide among {devices} devices")
        yield split_batches(batch, devices, axis=0)


def split_batches(batches: Mapping[str, Any], devices: int, axis: int = 1) -> dict[str, np.ndarray]:
    """Gives arrays a leading device axis in place of a share of the examples.

    By default K batches, (K, B, ...) to (devices, K, B / devices, ...).

    Args:
        batches: arrays of any dtype.
        devices: number of devices, of which B is a multiple.
        axis: the axis of the examples.
    """
    return {
        key: np.stack(np.split(np.asarray(array), devices, axis)) for key, array in batches.items()
    }


def map_program(
    program: Callable[..., Any],
    out_axes: Any,
    axis_name: str,
    devices: list[jax.Device],
    **options: Any,
) -> Callable[..., Any]:
    """Returns a program that runs on each device with its share of the batches.

    Args:
        program: (state, totals, batches) -> outputs, as `flaxlab.training.programs` has them. The
            state, the totals and resident arrays are given to all devices whole.
        out_axes: for each output None, where it is the same on all devices, or 0.
        axis_name: the axis that the program adds up over.
        devices: those that share each batch.
        **options: of `jax.pmap`.
    """

    def on_each(state: Any, totals: Any, resident: Any, batches: Any) -> Any:
        return program(state, totals, {"resident": resident, **batches})

    mapped = jax.pmap(
        on_each,
        axis_name=axis_name,
        devices=devices,
        in_axes=(None, None, None, 0),
        out_axes=out_axes,
        **options,
    )

    def run(state: Any, totals: Any, batches: Mapping[str, Any]) -> Any:
        rest = {key: array for key, array in batches.items() if key != "resident"}
        # What is still on the host has no device axis yet.
        on_host = {key: array for key, array in rest.items() if isinstance(array, np.ndarray)}
        split = {**rest, **split_batches(on_host, len(devices))}
        return mapped(state, totals, batches.get("resident", {}), split)

    return run
