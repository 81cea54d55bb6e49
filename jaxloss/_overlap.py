"""The overlap of predicted and true pixels: what the segmentation losses are made of.

Arrays are [..., pixels, K], the classes last; one class is a yes against a no. With p a predicted probability, q = 1 − p
and t its target, the losses are ratios of three sums over the pixels, one each an example and class:

    TP = Σ p t,  FP = Σ p (1 − t),  FN = Σ q t.

All terms are positive: the losses tend to 0 without cancellation, as 1 − 2 TP/(Σ p + Σ t) would not.
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


def options(predictions: Array, **values: Any) -> list[Array | None]:
    """Options ≥ 0 that broadcast to the losses."""
    return [_check.option(name, value, losses(predictions), minimum=0) for name, value in values.items()]


def sizes(targets: Array, where: Array | None, like: Array) -> Array:
    """Σ t over the pixels."""
    t = targets.astype(like.dtype)
    return jnp.sum(t if where is None else jnp.where(where[..., None], t, 0), axis=-2)


def sums(predictions: Array, targets: Array, where: Array | None, from_logits: bool, squared: bool = False) -> Any:
    """TP, FP and FN. If squared: TP, Σ (p − t)² and 0."""
    return _rules.call(_sums(from_logits, squared), predictions, targets, where)


@functools.cache
def _sums(from_logits: bool, squared: bool) -> Any:
    """The sums as a `jax.custom_vjp` function that keeps its arguments alone.

    Probabilities are as large as the logits, and autodiff would keep several arrays of their size in float32. On CPU, XLA
    would also write some in each pass: there, both passes go over the pixels in blocks that fit its cache.
    """
    whole = functools.partial(_sums_of, from_logits, squared)
    # Without rules, so that the value itself can be differentiated forward.
    plain = _rules.autodiff(whole)

    def value(*args: Any) -> Any:
        return lax.platform_dependent(*args, cpu=functools.partial(_sums_by_blocks, plain), default=plain)

    @jax.custom_vjp
    def rule(*args: Any) -> Any:
        return value(*args)

    def fwd(*args: Any) -> tuple[Any, Any]:
        return value(*args), args

    def bwd(args: Any, cotangents: Any) -> tuple[Any, ...]:
        gradients: list[Any] = [None, None, None]
        for i in (0, 1):
            if jnp.issubdtype(args[i].dtype, jnp.floating):  # each alone: XLA drops the one that is not asked for
                pullback = functools.partial(_pullback, whole, i)
                by_blocks = functools.partial(_pullback_by_blocks, pullback, i)
                gradients[i] = lax.platform_dependent(cotangents, *args, cpu=by_blocks, default=pullback)
        return tuple(gradients)

    rule.defvjp(fwd, functools.partial(_rules.compiled, bwd))
    return rule


def _sums_of(from_logits: bool, squared: bool, predictions: Array, targets: Array, where: Array | None) -> Any:
    z, t = _rules.wide(predictions, targets), _rules.wide(targets, predictions)
    if where is not None:
        z, t = jnp.where(where[..., None], z, 0), jnp.where(where[..., None], t, 0)
    p, q = probabilities(z) if from_logits else (z, 1 - z)

    def total(x: Array) -> Array:
        return jnp.sum(x if where is None else jnp.where(where[..., None], x, 0), axis=-2)

    if squared:
        wrong = total(jnp.square(jnp.where(t > 0.5, (1 - t) - q, p - t)))
        return total(p * t), wrong, jnp.zeros_like(wrong)
    return total(p * t), total(p * (1 - t)), total(q * t)


def _pullback(function: Callable[..., Any], i: int, cotangents: Any, *args: Any) -> Array:
    """The cotangent of the i-th argument. Of all: else the rules inside would not allow forward mode by the others."""
    return jax.vjp(function, *args)[1](cotangents)[i]


# --- Blocks of pixels -----------------------------------------------------------------------------------------------


_BLOCK = 2**17  # numbers: half a MB of float32


def _blocks(predictions: Array) -> tuple[int, int]:
    """How many pixels are a block, and how many blocks there are without the rest."""
    *batch, pixels, classes = predictions.shape
    fitting = max(_BLOCK // max(math.prod(batch) * classes, 1), 1)
    size = 2 ** (fitting.bit_length() - 1)  # most images have such a divisor, and then there is no rest
    return size, pixels // size if pixels > size else 0


def _block(args: Any, start: Any, size: int) -> Any:
    """The arguments at some of the pixels, which come after as many axes of the batch in each of them."""
    axis = args[0].ndim - 2
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size, axis), args)


def _sums_by_blocks(function: Callable[..., Any], *args: Any) -> Any:
    size, count = _blocks(args[0])
    rest = args[0].shape[-2] - count * size
    if not count:
        return function(*args)
    first = function(*_block(args, count * size, rest))

    def add(i: Array, total: Any) -> Any:
        return jax.tree.map(jnp.add, total, function(*_block(args, i * size, size)))

    return lax.fori_loop(0, count, add, first)


def _pullback_by_blocks(pullback: Callable[..., Array], i: int, cotangents: Any, *args: Any) -> Array:
    size, count = _blocks(args[0])
    if not count:
        return pullback(cotangents, *args)
    axis = args[0].ndim - 2

    def put(gradient: Array, start: Any, size: int) -> Array:
        return lax.dynamic_update_slice_in_dim(gradient, pullback(cotangents, *_block(args, start, size)), start, axis)

    gradient = put(jnp.zeros_like(args[i]), count * size, args[0].shape[-2] - count * size)
    return lax.fori_loop(0, count, lambda j, gradient: put(gradient, j * size, size), gradient)


# --- Probabilities --------------------------------------------------------------------------------------------------


def probabilities(logits: Array) -> tuple[Array, Array]:
    """p and 1 − p, each without a subtraction, for logits in float32 or wider: softmax, or sigmoid of one class."""
    if logits.shape[-1] == 1:
        return _numerics.sigmoid(logits), _numerics.sigmoid(-logits)
    return _rules.call(_softmax, logits)


@jax.custom_vjp
def _softmax(z: Array) -> tuple[Array, Array]:
    return _softmax_value(z)


def _softmax_value(z: Array) -> tuple[Array, Array]:
    m = _exponentials.finite(_exponentials.maximum(z, None)[..., None])
    e = _exponentials.shifted_exp(_exponentials.finite(z), m)
    # Z − 1 without the subtraction: the largest e, or one of several, is the 1. Then Z − e_k is a sum of two terms ≥ 0.
    largest = jnp.where(e == 1, e, 0)
    rest = jnp.sum(e - largest, axis=-1, keepdims=True) + (jnp.sum(largest, axis=-1, keepdims=True) - 1)
    scale = 1 / (1 + rest)
    return e * scale, (rest + (1 - e)) * scale


def _softmax_fwd(z: Array) -> tuple[tuple[Array, Array], Array]:
    p, q = _softmax_value(z)
    return (p, q), p


# With a the cotangent of p less that of q: p_k Σ_j p_j (a_k − a_j). Less their value at the largest p, the a are 0 where
# a_k − Σ_j p_j a_j would cancel.
def _softmax_bwd(p: Array, cotangents: tuple[Array, Array]) -> tuple[Array]:
    a = cotangents[0] - cotangents[1]
    largest = jnp.where(p == jnp.max(p, axis=-1, keepdims=True), p, 0)
    a = a - jnp.sum(a * largest, axis=-1, keepdims=True) / jnp.sum(largest, axis=-1, keepdims=True)
    return (p * (a - jnp.sum(a * p, axis=-1, keepdims=True)),)


_softmax.defvjp(_softmax_fwd, functools.partial(_rules.compiled, _softmax_bwd))
