"""The overlap of predicted and true pixels: what the segmentation losses are made of.

Arrays are [..., pixels, K], the classes last; one class is a yes against a no. With p a predicted probability, q = 1 − p
and t its target, the losses are ratios of three sums over the pixels, one each an example and class:

    TP = Σ p t,  FP = Σ p (1 − t),  FN = Σ q t.

All terms are positive: the losses tend to 0 without cancellation, as 1 − 2 TP/(Σ p + Σ t) would not. The difference of
two logits is rounded, though, and where it is d, e^−d is off by half as many ulp as d is large: no more is asked here.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _check, _exponentials, _numerics, _rules


def checked(predictions: Any, targets: Any, axis: Any, where: Any, from_logits: bool) -> tuple[Array, Array, Array | None]:
    """Predictions and targets of one shape as [..., pixels, K], and the mask as [..., pixels]."""
    predictions, targets = _check.binary("predictions", predictions, targets, "targets")
    predictions = _check.class_last("predictions", predictions, -1)
    where = _check.mask(where, predictions.shape[:-1], "the pixels")
    if not from_logits:
        _check.probabilities(predictions, None if where is None else where[..., None])
    axes = pixel_axes(axis, predictions.ndim)
    return pixels_last(predictions, axes), pixels_last(targets, axes), merged_mask(where, predictions, axes)


def pixel_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes of the pixels, of which none is that of the classes."""
    axes = _check.axes(axis, ndim)
    if axis is None or ndim - 1 in axes:
        raise ValueError(f"axis must name the pixel axes, and not the last one, of the classes, got {axis}")
    return axes


def pixels_last(x: Array, axes: tuple[int, ...]) -> Array:
    """[..., pixels, K], for the classes last: the pixel axes moved before them and made one."""
    batch = x.ndim - 1 - len(axes)
    x = jnp.moveaxis(x, axes, range(batch, x.ndim - 1))
    return x.reshape(*x.shape[:batch], math.prod(x.shape[batch:-1]), x.shape[-1])


def merged_mask(where: Array | None, predictions: Array, axes: tuple[int, ...]) -> Array | None:
    """The mask as [..., pixels]."""
    if where is None:
        return None
    where = jnp.broadcast_to(where, predictions.shape[:-1])
    return pixels_last(where[..., None], axes)[..., 0]


def losses(predictions: Array) -> jax.ShapeDtypeStruct:
    """What an option that is one number an example and class broadcasts to."""
    *batch, _, classes = predictions.shape
    return jax.ShapeDtypeStruct((*batch, classes), predictions.dtype)


def examples(predictions: Array) -> jax.ShapeDtypeStruct:
    """What an option that is one number an example broadcasts to."""
    return jax.ShapeDtypeStruct(predictions.shape[:-2], predictions.dtype)


def options(predictions: Array, where: Array | None, **values: Any) -> list[Any]:
    """Options ≥ 0 that broadcast to the losses, harmless in an example without a pixel that counts."""
    where = examples_mask(where)
    checked = (_check.option(name, value, losses(predictions), minimum=0, where=where) for name, value in values.items())
    return [_rules.harmless(where, x) for x in checked]


def examples_mask(where: Array | None) -> Array | None:
    """Which examples have a pixel that counts, with an axis for the classes."""
    some = _rules.of_examples(where)
    return None if some is None else some[..., None]


def sizes(targets: Array, where: Array | None, like: Array) -> Array:
    """Σ t over the pixels."""
    return jnp.sum(_rules.masked(where, targets.astype(like.dtype), 1), axis=-2)


def sums(predictions: Array, targets: Array, where: Array | None, from_logits: bool, squared: bool = False) -> Any:
    """TP, FP and FN. If squared: TP, Σ (p − t)² and 0."""
    return _rules.call(_sums(from_logits, squared), predictions, targets, where)


@functools.cache
def _sums(from_logits: bool, squared: bool) -> Any:
    """The sums as a `jax.custom_vjp` function that keeps its arguments alone.

    Probabilities are as large as the logits, and autodiff would keep several arrays of their size in float32.
    """
    value = functools.partial(_sums_value, from_logits, squared)

    @jax.custom_vjp
    def rule(*args: Any) -> Any:
        return value(*args)

    def fwd(*args: Any) -> tuple[Any, Any]:
        return value(*args), args

    rule.defvjp(fwd, functools.partial(_rules.compiled, functools.partial(_sums_bwd, from_logits, squared)))
    return rule


# On CPU, XLA makes one fast pass of a sum over the pixels and all that leads to it, the softmax included, if it is
# arithmetic alone, without a comparison, and goes by rows of some hundred pixels. What passes have in common, even a
# constant, it would store, which takes longer than to compute it again: the barriers hide that their inputs are the same,
# the leading axes that the shapes are.


def _sums_value(from_logits: bool, squared: bool, predictions: Array, targets: Array, where: Array | None) -> Any:
    z, t, one = _prepared(predictions, targets, where)

    def total(of_pixels: Callable[..., Array], axes: int) -> Array:
        of_rows = of_pixels(from_logits, *_in_rows((z, t, one), axes))
        return jnp.sum(of_rows, axis=(-3, -2)).reshape(z.shape[:-2] + z.shape[-1:])

    if squared:
        wrong = total(_squared_error, 1)
        return total(_right, 2), wrong, jnp.zeros_like(wrong)
    return total(_right, 1), total(_extra, 1), total(_missing, 2)


def _in_rows(inputs: Any, axes: int) -> Any:
    """[..., pixels, K] as [1, ..., rows, pixels of a row, K], with so many leading axes."""

    def rows(x: Array) -> Array:
        if x.ndim == 0:
            return x
        *batch, pixels, classes = x.shape
        row = max(n for n in range(1, 513) if pixels % n == 0)
        return x.reshape((1,) * axes + (*batch, pixels // row, row, classes))

    return lax.optimization_barrier(jax.tree.map(rows, inputs))


def _prepared(predictions: Array, targets: Array, where: Array | None) -> tuple[Array, Array, Array]:
    """z and t in float32 or wider, and 1; all 0 in a masked pixel."""
    z, t = _rules.wide(predictions, targets), _rules.wide(targets, predictions)
    one = jnp.ones((), z.dtype) if where is None else where[..., None].astype(z.dtype)
    return _rules.masked(where, z, 1), _rules.masked(where, t, 1), one


def _right(from_logits: bool, z: Array, t: Array, one: Array) -> Array:
    return _probability(from_logits, z) * t


def _extra(from_logits: bool, z: Array, t: Array, one: Array) -> Array:
    return _probability(from_logits, z) * (one - t)


def _missing(from_logits: bool, z: Array, t: Array, one: Array) -> Array:
    return _complement(from_logits, z) * t


def _squared_error(from_logits: bool, z: Array, t: Array, one: Array) -> Array:
    return one * jnp.square(_difference(from_logits, z, t))


def _difference(from_logits: bool, z: Array, t: Array) -> Array:
    """p − t, from the side where it does not cancel."""
    return jnp.where(t > 0.5, (1 - t) - _complement(from_logits, z), _probability(from_logits, z) - t)


def _sums_bwd(from_logits: bool, squared: bool, residuals: Any, cotangents: Any) -> tuple[Any, Any, None]:
    predictions, targets, where = residuals
    z, t, one = _in_rows(_prepared(predictions, targets, where), 0)
    right, extra, missing = (x[..., None, None, :] for x in cotangents)
    if squared:
        pull = 2 * extra * _difference(from_logits, z, t)
        by_p, by_t = right * t + pull, right * _probability(from_logits, z) - pull
    else:
        by_p = (right - missing) * t + extra * (one - t)
        by_t = (right - extra) * _probability(from_logits, z) + missing * _complement(from_logits, z)
    by_z = one * (_pullback(z, by_p) if from_logits else by_p)
    by_t = (one * by_t).astype(targets.dtype).reshape(targets.shape) if jnp.issubdtype(targets.dtype, jnp.floating) else None
    return by_z.astype(predictions.dtype).reshape(predictions.shape), by_t, None


# --- Probabilities --------------------------------------------------------------------------------------------------


def probabilities(logits: Array) -> tuple[Array, Array]:
    """p and 1 − p, each without a subtraction, for logits in float32 or wider: softmax, or sigmoid of one class."""
    return _probability(True, logits), _complement(True, logits)


def _probability(from_logits: bool, z: Array) -> Array:
    if not from_logits:
        return z
    if z.shape[-1] == 1:
        return _numerics.sigmoid(z)
    e = _exp(z)
    return e / jnp.sum(e, axis=-1, keepdims=True)


def _complement(from_logits: bool, z: Array) -> Array:
    """1 − p."""
    if not from_logits:
        return 1 - z
    if z.shape[-1] == 1:
        return _numerics.sigmoid(-z)
    e = _exp(z)
    # Z − 1 without the subtraction: the largest e, or one of several, is the 1. Then Z − e_k is a sum of two terms ≥ 0.
    largest = jnp.floor(e)
    rest = jnp.sum(e - largest, axis=-1, keepdims=True) + (jnp.sum(largest, axis=-1, keepdims=True) - 1)
    return (rest + (1 - e)) / (1 + rest)


def _exp(z: Array) -> Array:
    """exp(z − m) with m the largest z of a pixel; 1 where both are inf. It has the rounding error of z − m."""
    z = _exponentials.finite(z)
    return jnp.exp(z - lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True)))


def _pullback(z: Array, by_p: Array) -> Array:
    """The cotangent of the logits: p_k (a_k − Σ_j p_j a_j) for that of the probabilities, a."""
    p = _probability(True, z)
    if z.shape[-1] == 1:
        return by_p * p * _complement(True, z)
    # Less their mean, which for a sure pixel is the a of its class, the a are 0 where the difference would cancel.
    by_p = by_p - jnp.sum(p * by_p, axis=-1, keepdims=True)
    return p * (by_p - jnp.sum(p * by_p, axis=-1, keepdims=True))
