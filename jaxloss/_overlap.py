"""The overlap of predicted and true pixels: what the segmentation losses are made of.

Arrays are [..., pixels, K], the classes last; one class is a yes against a no. With p a predicted probability, q = 1 − p
and t its target, the losses are ratios of three sums over the pixels, one each an example and class:

    TP = Σ p t,  FP = Σ p (1 − t),  FN = Σ q t.

All terms are positive: the losses tend to 0 without cancellation, as 1 − 2 TP/(Σ p + Σ t) would not. The difference of
two logits is rounded, though, and where it is d, e^−d is off by half as many ulp as d is large: no more is asked here.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _check, _exponentials, _numerics, _rules, _values


def checked(
    predictions: Any, targets: Any, axis: Any, where: Any, from_logits: bool
) -> tuple[Array, Array, Array | None, int]:
    """Predictions and targets of one shape as [..., pixels, K], the mask as [..., pixels], and how many axes pixels have.

    They stay apart, in a rule on arrays of the given shape: XLA then writes the gradient over what the rule keeps.
    """
    same_layout("predictions", predictions, "targets", targets, axis)
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    predictions = _check.class_last("predictions", predictions, -1)
    where = _check.mask(where, predictions.shape[:-1], "the pixels")
    _one_class_a_pixel(predictions, targets, where, from_logits)
    if not _check.flag("from_logits", from_logits):
        _values.probabilities(predictions, None if where is None else where[..., None])
    axes = pixel_axes(axis, predictions.ndim)
    where = _mask_last(where, predictions, axes)
    where = None if where is None else where[..., 0]
    return _last(predictions, axes), _last(targets, axes), where, len(axes)


def same_layout(name: str, predictions: Any, other_name: str, targets: Any, axis: Any) -> None:
    """ValueError for what shapes show to be laid out otherwise, with the way out."""
    shape, other = _check.array(name, predictions).shape, _check.array(other_name, targets).shape
    enough_axes(name, shape, axis)
    if other == shape[:-1] and shape:
        way = "[..., None]" if shape[-1] == 1 else f" made one-hot, jax.nn.one_hot({other_name}, {shape[-1]})"
        raise ValueError(f"{other_name} must have the shape of {name}, {shape}, got {other}: take {other_name}{way}")


def enough_axes(name: str, shape: tuple[int, ...], axis: Any) -> None:
    """ValueError for an image without an axis of classes, as `axis` shows by default."""
    if axis == (-3, -2) and len(shape) < 3:
        raise ValueError(
            f"{name} must be [..., height, width, classes], got shape {shape}: of one class take {name}[..., None], and of "
            "pixels in a row name their axis, as axis=-2"
        )


def _one_class_a_pixel(predictions: Array, targets: Array, where: Array | None, from_logits: bool) -> None:
    """Checks for targets that are no shares, and pixels of two classes at once among which a softmax is to choose.

    It looks at decisions alone, 0 or 1 throughout a pixel: that of shares is not 1 may be the truth of an annotation.
    """
    _values.run_time(
        lambda: jnp.all((targets >= 0) & (targets <= 1), axis=-1) | _values.left_out(where),
        "targets must be shares of the classes, from 0 to 1: of class indices take jax.nn.one_hot",
    )
    if from_logits and predictions.shape[-1] != 1:

        def one_or_undecided() -> Array:
            decided = jnp.all((targets == 0) | (targets == 1), axis=-1)
            return ~decided | (jnp.sum(targets == 1, axis=-1) <= 1) | _values.left_out(where)

        _values.run_time(
            one_or_undecided,
            "targets must name at most one class a pixel along the last axis, that of the classes of a softmax: of binary "
            "[..., height, width] take [..., None]; move channels from the front to the end with jnp.moveaxis; of classes "
            "that overlap take [..., None] and axis=(-4, -3)",
        )


def pixel_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes of the pixels, of which none is that of the classes."""
    axes = _check.axes(axis, ndim)
    if axis is None or ndim - 1 in axes:
        raise ValueError(f"axis must name the pixel axes, and not the last one, of the classes, got {axis}")
    return axes


def _last(x: Array, axes: tuple[int, ...]) -> Array:
    """x, whose classes are last, with the pixel axes moved before them."""
    return jnp.moveaxis(x, axes, range(x.ndim - 1 - len(axes), x.ndim - 1))


def _merged(x: Array, axes: int) -> Array:
    """x with the pixel axes, which are before the classes, made one."""
    batch = x.shape[: x.ndim - 1 - axes]
    return x.reshape(*batch, math.prod(x.shape[len(batch) : -1]), x.shape[-1])


def pixels_last(x: Array, axes: tuple[int, ...]) -> Array:
    """[..., pixels, K], for the classes last: the pixel axes moved before them and made one."""
    return _merged(_last(x, axes), len(axes))


def merged_mask(where: Array | None, predictions: Array, axes: tuple[int, ...]) -> Array | None:
    """The mask as [..., pixels]."""
    where = _mask_last(where, predictions, axes)
    return None if where is None else _merged(where, len(axes))[..., 0]


def _mask_last(where: Array | None, predictions: Array, axes: tuple[int, ...]) -> Array | None:
    """The mask with the pixel axes moved as those of the predictions, and an axis for the classes."""
    return None if where is None else _last(jnp.broadcast_to(where, predictions.shape[:-1])[..., None], axes)


def losses(predictions: Array, axes: int) -> jax.ShapeDtypeStruct:
    """What an option that is one number an example and class broadcasts to."""
    return jax.ShapeDtypeStruct((*examples(predictions, axes).shape, predictions.shape[-1]), predictions.dtype)


def examples(predictions: Array, axes: int) -> jax.ShapeDtypeStruct:
    """What an option that is one number an example broadcasts to."""
    return jax.ShapeDtypeStruct(predictions.shape[: predictions.ndim - 1 - axes], predictions.dtype)


def options(predictions: Array, where: Array | None, axes: int, **values: Any) -> list[Any]:
    """Options ≥ 0 that broadcast to the losses, harmless in an example without a pixel that counts."""
    some = examples_mask(where, axes)
    shape = losses(predictions, axes)
    checked = (_check.option(name, value, shape, minimum=0, where=some) for name, value in values.items())
    return [_rules.harmless(some, x) for x in checked]


def examples_mask(where: Array | None, axes: int) -> Array | None:
    """Which examples have a pixel that counts, with an axis for the classes."""
    some = _rules.of_examples(where, axes)
    return None if some is None else some[..., None]


def sizes(targets: Array, where: Array | None, axes: int, like: Array) -> Array:
    """Σ t over the pixels."""
    return jnp.sum(_merged(_rules.masked(where, targets.astype(like.dtype), 1), axes), axis=-2)


def sums(
    predictions: Array, targets: Array, where: Array | None, axes: int, from_logits: bool, squared: bool = False
) -> Any:
    """TP and FP + FN, or if squared TP and Σ (p − t)²."""
    return _rules.call(_sums("squared" if squared else "plain", from_logits, axes), predictions, targets, where)


def sums_apart(predictions: Array, targets: Array, where: Array | None, axes: int, from_logits: bool) -> Any:
    """TP, FP and FN."""
    return _rules.call(_sums("apart", from_logits, axes), predictions, targets, where)


@functools.cache
def _sums(kind: str, from_logits: bool, axes: int) -> Any:
    """The sums as a `jax.custom_vjp` function that keeps no more than its arguments.

    Probabilities are as large as the logits, and autodiff would keep several arrays of their size in float32.
    """
    value = functools.partial(_sums_value, kind, from_logits, axes)

    @jax.custom_vjp
    def rule(*args: Any) -> Any:
        return value(*args)[0]

    def fwd(predictions: Array, targets: Array, where: Array | None) -> tuple[Any, Any]:
        total, x = value(predictions, targets, where)
        kept = x if _keeps_probabilities(predictions, targets) else predictions
        return total, (kept, targets, where)

    rule.defvjp(fwd, functools.partial(_rules.compiled, functools.partial(_sums_bwd, kind, from_logits, axes)))
    return rule


def _keeps_probabilities(predictions: Array, targets: Array) -> bool:
    """Whether probabilities are kept in place of the logits: it saves time, and in float32 it costs no memory."""
    return predictions.dtype == _rules.wide_dtype(predictions, targets)


def _sums_value(kind: str, from_logits: bool, axes: int, predictions: Array, targets: Array, where: Array | None) -> Any:
    x, t = _prepared(from_logits, predictions, targets, where)
    p, q = _probability(from_logits, x), _complement(from_logits, x)
    if kind == "plain":
        terms = (p * t, p * (1 - t) + q * t)
    elif kind == "squared":
        terms = (p * t, jnp.square(_difference(from_logits, x, t)))
    else:
        terms = (p * t, p * (1 - t), q * t)
    return _numerics.sums(-2, *(_merged(term, axes) for term in terms)), x


def _prepared(from_logits: bool, predictions: Array, targets: Array, where: Array | None) -> tuple[Array, Array]:
    """The probabilities, as `_held` if they are of logits, and t in float32 or wider; all 0 in a masked pixel."""
    z, t = (_rules.masked(where, _rules.wide(*x), 1) for x in ((predictions, targets), (targets, predictions)))
    if not from_logits:
        return z, t
    return _rules.masked(where, lax.optimization_barrier(_held(z)), 1), t


def _difference(from_logits: bool, x: Array, t: Array) -> Array:
    """p − t, without a digit of 1 − p lost where both are near 1."""
    return x - (jnp.floor(x) + t) if from_logits else x - t


def _sums_bwd(kind: str, from_logits: bool, axes: int, residuals: Any, cotangents: Any) -> tuple[Any, Any, None]:
    kept, targets, where = residuals
    if _keeps_probabilities(kept, targets):
        # The barrier: XLA would store what the two passes have in common, which takes longer than to compute it again.
        x, t = lax.optimization_barrier(kept), _rules.masked(where, _rules.wide(targets, kept), 1)
    else:
        x, t = _prepared(from_logits, kept, targets, where)
    cotangents = [jnp.expand_dims(c, range(-1 - axes, -1)) for c in cotangents]
    p, right, wrong = _probability(from_logits, x), cotangents[0], cotangents[1]
    if kind == "apart":
        _, extra, missing = cotangents
        by_p = (right - missing) * t + extra * (1 - t)
        by_t = (right - extra) * p + missing * _complement(from_logits, x)
    elif kind == "plain":
        by_p = (right - 2 * wrong) * t + wrong
        by_t = right * p + wrong * (_complement(from_logits, x) - p)
    else:
        pull = 2 * wrong * _difference(from_logits, x, t)
        by_p, by_t = right * t + pull, right * p - pull
    by_z = _pullback(x, by_p) if from_logits else by_p
    by_z = _rules.masked(where, by_z, 1).astype(kept.dtype)
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        return by_z, None, None
    return by_z, _rules.masked(where, by_t, 1).astype(targets.dtype), None


# --- Probabilities --------------------------------------------------------------------------------------------------


def probabilities(logits: Array) -> tuple[Array, Array]:
    """p and 1 − p, each without a subtraction, for logits in float32 or wider: softmax, or sigmoid of one class."""
    x = _held(logits)
    return _probability(True, x), _complement(True, x)


# One number holds p and 1 − p with all their digits: p where it is at most ½, and −(1 − p) above.


def _held(z: Array) -> Array:
    if z.shape[-1] == 1:
        above = z > 0
        small = _numerics.sigmoid(jnp.where(above, -z, z))
        return jnp.where(above, _negative(small), small)
    e = _exp(z)
    # Z − 1 without the subtraction: the largest e, or one of several, is the 1. Then Z − e_k is a sum of two terms ≥ 0.
    others, largest = _numerics.sums(-1, e - jnp.floor(e), jnp.floor(e))
    rest = (others + (largest - 1))[..., None]
    rest, inverse = lax.optimization_barrier((rest, 1 / (1 + rest)))
    p = e * inverse
    return jnp.where(p > 0.5, _negative((rest + (1 - e)) * inverse), p)


def _negative(x: Array) -> Array:
    """−x for x ≥ 0, and below 0 for 0 too."""
    return -jnp.maximum(x, jnp.finfo(x.dtype).tiny)


def _probability(from_logits: bool, x: Array) -> Array:
    return x - jnp.floor(x) if from_logits else x


def _complement(from_logits: bool, x: Array) -> Array:
    """1 − p."""
    return (1 + jnp.floor(x)) - x if from_logits else 1 - x


def _exp(z: Array) -> Array:
    """exp(z − m) with m the largest z of a pixel; 1 where both are inf. It has the rounding error of z − m."""
    z = _exponentials.finite(z)
    return jnp.exp(z - lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True)))


def _pullback(x: Array, by_p: Array) -> Array:
    """The cotangent of the logits: p_k (a_k − Σ_j p_j a_j) for that of the probabilities, a."""
    p = _probability(True, x)
    if x.shape[-1] == 1:
        return by_p * p * _complement(True, x)
    # Less the a of a class above ½, so that for this class, and near it, nothing cancels: p + ⌊x⌋ is x.
    less, mean = _numerics.sums(-1, jnp.floor(x) * by_p, x * by_p)
    return p * ((by_p + less[..., None]) - mean[..., None])
