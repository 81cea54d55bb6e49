"""Reductions over examples: masked, weighted, and across devices."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxloss import _check, _rules


def sum(  # noqa: A001 - the field's name, used as jaxloss.sum
    losses: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
    weights: Float[ArrayLike, "..."] | None = None,
    axis: int | tuple[int, ...] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Float[Array, "..."]:
    """The sum of the losses that `where` selects, weighted if asked for.

    Formula: Σᵢ wᵢ lᵢ over the selected i. Derivative: wᵢ for a selected loss, 0 for one left out.

    Args:
        losses: one number an example (or a pixel, a token, ...), any shape; booleans are 0 and 1.
        where: which of them count; broadcasts to `losses`. What is left out counts as exactly 0, NaN or not; for
            a gradient that is free of its NaN too, give the loss itself the same `where`.
        weights: a factor a loss; broadcasts to `losses`.
        axis: the axis or axes to sum over; None means all.
        axis_name: the mesh axis or axes of `shard_map`, or the axis of `vmap`, to sum over as well.

    Returns:
        The sum, in float32 or wider; 0 where nothing is selected.

    Raises:
        TypeError: `losses` or `weights` is no number, or `where` is not boolean.
        ValueError: `where` or `weights` does not broadcast to the shape of `losses`, or an axis is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.sum(jnp.array([1.0, 2.0, jnp.nan]), where=jnp.array([True, True, False])))
        3.0
    """
    total, _ = _total_and_weight(losses, where, weights, axis, axis_name)
    return total


def mean(
    losses: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
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
        losses: one number an example (or a pixel, a token, ...), any shape; booleans are 0 and 1.
        where: which of them count; broadcasts to `losses`. What is left out counts as exactly 0, NaN or not; for
            a gradient that is free of its NaN too, give the loss itself the same `where`.
        weights: a factor a loss; broadcasts to `losses`.
        axis: the axis or axes to average over; None means all.
        axis_name: the mesh axis or axes of `shard_map`, or the axis of `vmap`, to average over as well: numerator and
            denominator are summed across devices, so that every device holds the mean of the whole batch.

    Returns:
        The mean, in float32 or wider.

    Raises:
        TypeError: `losses` or `weights` is no number, or `where` is not boolean.
        ValueError: `where` or `weights` does not broadcast to the shape of `losses`, or an axis is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.mean(jnp.array([1.0, 2.0, jnp.nan]), where=jnp.array([True, True, False])))
        1.5
    """
    total, weight = _total_and_weight(losses, where, weights, axis, axis_name)
    empty = weight == 0
    return jnp.where(empty, 0, total / jnp.where(empty, 1, weight))


def mean_loss(
    loss: Callable[..., Any],
    *args: Any,
    where: Bool[ArrayLike, "..."] | None = None,
    weights: Float[ArrayLike, "..."] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    **options: Any,
) -> Float[Array, ""]:
    """The mean of a loss over what `where` selects, which the loss and the mean both get: one mask that none forgets.

    Formula: Σᵢ wᵢ lᵢ / Σᵢ wᵢ over the selected losses lᵢ of `loss(*args, **options, where=where)`, 0 where nothing is.
    Derivative: wᵢ / Σⱼ wⱼ times that of a selected loss. Where a loss is one of many items, as Dice of pixels and a ranking
    of a list, it is selected if any of its items is.

    Args:
        loss: a function of this package that gives one loss an element or an example, a `functools.partial` of one, or your
            own whose `where` broadcasts to its losses.
        args: its arguments.
        where: what counts, as `loss` takes it.
        weights: a factor a loss; broadcasts to the losses.
        axis_name: the mesh axis or axes of `shard_map`, or the axis of `vmap`, to average over as well, as in `mean`. A loss
            that has an `axis_name` of its own, of the vocabulary, takes it from `functools.partial(loss, axis_name=...)`.
        options: the options of `loss`, its `axis` for instance. One of the name `weights` goes into a partial as well.

    Returns:
        The mean, in float32 or wider.

    Raises:
        TypeError: what `loss` raises; `weights` is not floating point, or `where` is not boolean.
        ValueError: what `loss` raises; `weights` does not broadcast to the losses, or `where` does not to those of a loss of
            your own.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> where = jnp.array([True, True, False])
        >>> print(jaxloss.mean_loss(jaxloss.squared_error, jnp.array([1.0, 2.0, jnp.nan]), jnp.zeros(3), where=where))
        2.5
    """
    if where is None:
        return mean(loss(*args, **options), weights=weights, axis_name=axis_name)
    losses = loss(*args, **options, where=where)
    return mean(losses, where=_selected(loss, args, options, where, losses), weights=weights, axis_name=axis_name)


# The losses of which one is of many items of the mask: how many trailing axes of the first argument belong to an item, and
# the axes of that argument that an example's items lie along; None stands for the option `axis`.
_COUPLED: dict[Any, tuple[int, int | None]] = {}


def coupled(*, event: int, axis: int | None = None) -> Callable[[Any], Any]:
    """Declares a loss that couples the items of its mask, for `mean_loss`."""

    def declare(loss: Any) -> Any:
        _COUPLED[loss] = event, axis
        return loss

    return declare


def _selected(loss: Any, args: tuple[Any, ...], options: dict[str, Any], where: Any, losses: Array) -> Any:
    """The mask over losses, of that over items."""
    while isinstance(loss, functools.partial | jax.stages.Wrapped):
        if isinstance(loss, functools.partial):
            args, options = (*loss.args, *args), {**loss.keywords, **options}
            loss = loss.func
        else:
            loss = getattr(loss, "__wrapped__", None)
    if not inspect.isfunction(loss) or loss not in _COUPLED:
        if inspect.isfunction(loss) and inspect.unwrap(loss) in _COUPLED:
            raise ValueError(
                f"loss must be {inspect.unwrap(loss).__name__} itself, or a partial or jitted form of it, since each of its "
                "losses is of many items of `where`; transform the mean_loss, or give mean the mask of the examples"
            )
        return where
    event, axis = _COUPLED[loss]
    call = inspect.signature(loss).bind(*args, **options)
    call.apply_defaults()
    items = jnp.shape(next(iter(call.arguments.values())))
    axes = _check.axes(call.arguments["axis"] if axis is None else axis, len(items))
    where = jnp.any(jnp.broadcast_to(where, items[: len(items) - event]), axis=axes)
    return where.reshape(where.shape + (1,) * (losses.ndim - where.ndim))  # one for all classes


def _total_and_weight(losses: Any, where: Any, weights: Any, axis: Any, axis_name: Any) -> tuple[Array, Array]:
    losses = _check.number("losses", losses)
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
