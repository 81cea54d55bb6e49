"""Grids [B, T, U] by their anti-diagonals t + u, along which recursions over two sequences run."""

import jax.numpy as jnp
from jaxtyping import Array


def diagonals(x: Array, fill: float) -> Array:
    """[T + U − 1, B, U]: entry (d, b, u) is that of the grid at (b, d − u, u), or `fill` where that is outside."""
    batch, rows, columns = x.shape
    x = jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, columns)), constant_values=fill)
    # Read with lines that are one shorter, line u begins u places later.
    x = x.reshape(batch, -1)[:, : columns * (rows + columns - 1)]
    return jnp.moveaxis(x.reshape(batch, columns, -1), -1, 0)


def from_diagonals(x: Array) -> Array:
    """[B, T, U] from [T + U − 1, B, U]."""
    length, batch, columns = x.shape
    x = jnp.pad(jnp.moveaxis(x, 0, -1).reshape(batch, -1), ((0, 0), (0, columns)))
    return jnp.swapaxes(x.reshape(batch, columns, -1)[:, :, : length + 1 - columns], 1, 2)
