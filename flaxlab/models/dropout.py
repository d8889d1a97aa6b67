"""Dropout of single values, of whole channels or of regions."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Of a network without branches.
DROPOUTS = ("element", "channel", "region")


class Dropout(nn.Module):
    """Sets a share of the values to zero and scales up the others.

    "element" is equal to `flax.linen.Dropout` to the bit. Under `pmap`, with `axis_name`, each
    device draws the mask of the whole batch and takes its own part of it: the values that are
    dropped do not depend on the number of devices, as they do not with sharded arrays. Nor do they
    depend on `jax_enable_x64`, as they do with `flax.linen.Dropout`: a step in float64 drops the
    same values.

    Attributes:
        rate: share of the values, in [0, 1).
        axis_name: the mapped axis that cuts the batch, if there is one.
        kind: what is dropped together. "element": nothing, each value is drawn by itself
            (Srivastava et al., 2014); "channel": a channel of an example (Tompson et al., 2015);
            "region": a square of a channel (Ghiasi et al., 2018, there DropBlock); "example": an
            example, which makes sense for one of several branches (Huang et al., 2016).
        region: side of the squares, in pixels; at most the image's.
    """

    rate: float
    axis_name: str | None = None
    kind: str = "element"
    region: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps `x` (N, ..., C) to the same shape; in training by a "dropout" key, else itself."""
        if not train:
            return x
        keep = 1.0 - self.rate
        if self.kind == "region":
            mask = self._without_regions(x)
            # Overlapping squares drop fewer values than the rate says: the mask is counted.
            kept = jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)
            scaled = (x * (mask.size / kept)).astype(x.dtype)
            return lax.select(self._own(mask, x.shape[0]), scaled, jnp.zeros_like(x))
        ones = (1,) * (x.ndim - 2)
        shapes = {"element": x.shape[1:], "channel": (*ones, x.shape[-1]), "example": (*ones, 1)}
        mask = self._own(self._draw(keep, x, shapes[self.kind]), x.shape[0])
        return lax.select(jnp.broadcast_to(mask, x.shape), x / keep, jnp.zeros_like(x))

    def _draw(self, share: float, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draws True with probability `share` in the given shape for each example of the batch."""
        own = x.shape[0]
        examples = own if self.axis_name is None else own * lax.axis_size(self.axis_name)
        # With a Python float, JAX would draw in float64 under `jax_enable_x64`.
        return jax.random.bernoulli(self.make_rng("dropout"), np.float32(share), (examples, *shape))

    def _own(self, mask: jax.Array, own: int) -> jax.Array:
        """Returns this device's part of the mask of the whole batch."""
        if self.axis_name is None:
            return mask
        return lax.dynamic_slice_in_dim(mask, lax.axis_index(self.axis_name) * own, own)

    def _without_regions(self, x: jax.Array) -> jax.Array:
        """Draws squares that lie inside the images, and returns the mask of what is left."""
        height, width, channels = x.shape[1:]
        side = min(self.region, height, width)
        places = (height - side + 1, width - side + 1)
        # Ghiasi et al. (2018), equation 1: each value lies in up to side**2 squares.
        share = self.rate / side**2 * (height * width) / (places[0] * places[1])
        corners = self._draw(min(share, 1.0), x, (*places, channels))
        padded = jnp.pad(corners, ((0, 0), (side - 1,) * 2, (side - 1,) * 2, (0, 0)))
        dropped = lax.reduce_window(
            padded, False, lax.bitwise_or, (1, side, side, 1), (1, 1, 1, 1), "VALID"
        )
        return ~dropped
