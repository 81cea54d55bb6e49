"""Reductions over examples: masked, weighted, and across devices."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxloss import _check, _rules


def sum(  # noqa: A001 - the field's name, used as jaxloss.sum
    losses: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
    weights: Float[ArrayLike, "..."] | None = None,
    axis: int | tuple[int, ...] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Float[Array, "..."]:
    """The sum of the losses that `where` selects, weighted if asked for.

    Formula: Σᵢ wᵢ lᵢ over the selected i. Derivative: wᵢ for a selected loss, 0 for one left out.

    Args:
        losses: one number an example (or a pixel, a token, ...), any shape.
        where: which of them count; broadcasts to `losses`. What is left out counts as exactly 0, NaN or not; for
            a gradient that is free of its NaN too, give the loss itself the same `where`.
        weights: a factor a loss; broadcasts to `losses`.
        axis: the axis or axes to sum over; None means all.
        axis_name: the mesh axis or axes of `shard_map`, or the axis of `vmap`, to sum over as well.

    Returns:
        The sum, in float32 or wider; 0 where nothing is selected.

    Raises:
        TypeError: `losses` or `weights` is not floating point, or `where` is not boolean.
        ValueError: `where` or `weights` does not broadcast to the shape of `losses`, or an axis is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.sum(jnp.array([1.0, 2.0, jnp.nan]), where=jnp.array([True, True, False])))
        3.0
    """
    total, _ = _total_and_weight(losses, where, weights, axis, axis_name)
    return total


def mean(
    losses: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
    weights: Float[ArrayLike, "..."] | None = None,
    axis: int | tuple[int, ...] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Float[Array, "..."]:
    """The mean of the losses that `where` selects, weighted if asked for: 0, not NaN, where nothing is selected.

    Formula: Σᵢ wᵢ lᵢ / Σᵢ wᵢ over the selected i, as numpy's average. Derivative: wᵢ / Σⱼ wⱼ for a selected loss, 0 for
    one left out and where nothing is selected. For a denominator that does not depend on the weights, take
    `mean(weights * losses)`; for one that several batches share, divide `sum` by it.

    Args:
        losses: one number an example (or a pixel, a token, ...), any shape.
        where: which of them count; broadcasts to `losses`. What is left out counts as exactly 0, NaN or not; for
            a gradient that is free of its NaN too, give the loss itself the same `where`.
        weights: a factor a loss; broadcasts to `losses`.
        axis: the axis or axes to average over; None means all.
        axis_name: the mesh axis or axes of `shard_map`, or the axis of `vmap`, to average over as well: numerator and
            denominator are summed across devices, so that every device holds the mean of the whole batch.

    Returns:
        The mean, in float32 or wider.

    Raises:
        TypeError: `losses` or `weights` is not floating point, or `where` is not boolean.
        ValueError: `where` or `weights` does not broadcast to the shape of `losses`, or an axis is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.mean(jnp.array([1.0, 2.0, jnp.nan]), where=jnp.array([True, True, False])))
        1.5
    """
    total, weight = _total_and_weight(losses, where, weights, axis, axis_name)
    empty = weight == 0
    return jnp.where(empty, 0, total / jnp.where(empty, 1, weight))


def _total_and_weight(losses: Any, where: Any, weights: Any, axis: Any, axis_name: Any) -> tuple[Array, Array]:
    losses = _check.floating("losses", losses)
    where = _check.mask(where, losses.shape, "losses")
    weights = _check.optional("weights", weights, losses)
    axes = _check.axes(axis, losses.ndim)
    dtype = _rules.wide_dtype(losses, weights)
    terms = losses.astype(dtype)
    counts = jnp.ones((), dtype) if weights is None else weights.astype(dtype)
    counts = jnp.broadcast_to(counts, losses.shape)
    terms, counts = _rules.masked(where, terms), _rules.masked(where, counts)
    if weights is not None:
        terms = terms * counts
    total, weight = jnp.sum(terms, axes), jnp.sum(counts, axes)
    if axis_name is None:
        return total, weight
    return lax.psum(total, axis_name), lax.psum(weight, axis_name)
