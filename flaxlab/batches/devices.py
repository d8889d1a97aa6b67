"""The devices of a run: a mesh with one axis, along which each batch is split.

The state is whole on every device; of a batch, each device has its share of the examples. With
several processes, each one reads the examples of its own devices and no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxlab.batches.pmap import split_batches
from flaxlab.errors import UsageError

AXIS = "data"


@dataclass(frozen=True)
class Devices:
    """The devices that compute a run together, and where arrays lie on them.

    Attributes:
        mesh: its one axis is called "data"; the devices of a process stand side by side.
        mapped: whether programs run under `pmap`, see `flaxlab.batches.pmap`.
    """

    mesh: Mesh
    mapped: bool = False

    @property
    def count(self) -> int:
        """Number of devices."""
        return self.mesh.size

    @property
    def axis_name(self) -> str | None:
        """The axis over which `pmap` maps; None where arrays are global."""
        return AXIS if self.mapped else None

    @property
    def replicated(self) -> NamedSharding:
        """Sharding that keeps a whole copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def rows(self) -> NamedSharding:
        """Sharding that splits a batch (B, ...) by example."""
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    @property
    def accelerated(self) -> bool:
        """Whether they are GPUs or TPUs, which compute while the host does something else."""
        return self.mesh.devices.flat[0].platform != "cpu"

    @property
    def shared(self) -> bool:
        """Whether other processes take part."""
        return not self.replicated.is_fully_addressable

    def columns(self, batch_size: int) -> slice:
        """Returns which examples of each batch this process reads."""
        own = [device.process_index == jax.process_index() for device in self.mesh.devices.flat]
        share = batch_size // self.count
        first = own.index(True)
        return slice(first * share, (first + sum(own)) * share)

    def put(self, tree: Any) -> Any:
        """Puts whole arrays on every device.

        Args:
            tree: the same in all processes; of NumPy arrays, or of arrays on a device of this
                process, or on the devices of the mesh already.
        """
        if self.shared:  # `device_put` does not reach the devices of other processes
            return jax.jit(_unchanged, out_shardings=self.replicated)(tree)
        return jax.device_put(tree, self.replicated)

    def put_batches(
        self, batches: Mapping[str, np.ndarray], batch_size: int
    ) -> dict[str, jax.Array]:
        """Puts the examples of several batches on their devices.

        Args:
            batches: arrays (K, b, ...) of any dtype: of each of K batches, the examples that
                `columns` names.
            batch_size: size of the whole batches, B.

        Returns:
            Arrays (K, B, ...), split along B; under `pmap` (devices, K, B / devices, ...).
        """
        if self.mapped:
            return jax.device_put(split_batches(batches, self.count), self.rows)
        by_example = NamedSharding(self.mesh, PartitionSpec(None, AXIS))
        if not self.shared:
            return jax.device_put(dict(batches), by_example)
        return {
            key: jax.make_array_from_process_local_data(
                by_example, array, (len(array), batch_size, *array.shape[2:])
            )
            for key, array in batches.items()
        }


def _unchanged(tree: Any) -> Any:
    """A function of the module: `jit` would compile a new one at each call."""
    return tree


def one_device(device: jax.Device | None = None) -> Devices:
    """Returns one device of this process; None: its first one."""
    return Devices(Mesh(np.array([device or jax.local_devices()[0]]), (AXIS,)))


def find_devices(parallel: str, devices: int | None, batch_size: int) -> Devices:
    """Returns the devices of a run.

    Args:
        parallel: "sharded" or "pmap", see `config.train.parallel`.
        devices: number of devices; None: all that the processes of the run have.
        batch_size: size of the batches that the devices share.

    Raises:
        UsageError: there are fewer devices, they cannot share a batch evenly, or the option is not
            available with several processes.
    """
    present = jax.devices()
    if jax.process_count() > 1 and (devices is not None or parallel == "pmap"):
        given = "train.parallel=pmap" if devices is None else f"train.devices={devices}"
        raise UsageError(
            f"config.{given}, but this run has {jax.process_count()} processes, and several always"
            " use all their devices, sharded; leave that field at its default"
        )
    if devices is not None and devices > len(present):
        raise UsageError(
            f"config.train.devices is {devices}, but there are {len(present)} devices"
            f" ({present[0].platform}); use at most that many"
        )
    count = devices or len(present)
    if batch_size % count:
        low = batch_size // count * count
        choices = f"{low} or {low + count}" if low else f"{count}"
        fewer = max(n for n in range(1, count + 1) if batch_size % n == 0)
        instead = "" if jax.process_count() > 1 else f", or --config.train.devices={fewer}"
        raise UsageError(
            f"config.train.batch_size is {batch_size}, which {count} devices cannot share evenly;"
            f" use {choices}{instead}"
        )
    return Devices(Mesh(np.array(present[:count]), (AXIS,)), parallel == "pmap")
