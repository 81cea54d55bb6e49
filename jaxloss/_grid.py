"""Grids [B, T, U] by their anti-diagonals t + u, along which recursions over two sequences run."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array


def diagonals(x: Array, fill: float) -> Array:
    """[T + U − 1, B, U]: entry (d, b, u) is that of the grid at (b, d − u, u), or `fill` where that is outside."""
    batch, rows, columns = x.shape
    count = rows + columns - 1
    x = jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, columns)), constant_values=fill)
    # Read with lines that are one shorter, line u begins u places later.
    x = x.reshape(batch, columns * (count + 1))[:, : columns * count]
    return jnp.moveaxis(x.reshape(batch, columns, count), -1, 0)


def from_diagonals(x: Array) -> Array:
    """[B, T, U] from [T + U − 1, B, U]."""
    count, batch, columns = x.shape
    x = jnp.pad(jnp.moveaxis(x, 0, -1).reshape(batch, columns * count), ((0, 0), (0, columns)))
    return jnp.swapaxes(x.reshape(batch, columns, count + 1)[:, :, : count + 1 - columns], 1, 2)
