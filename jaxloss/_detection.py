"""Detection: losses of the overlap of a predicted box and a true one."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxloss import _check, _numerics, _rules, _values, _vectors
from jaxloss._numerics import positive_part

# Boxes are [..., 4], as x1, y1, x2, y2 with x1 ≤ x2 and y1 ≤ y2, in any unit; a corner that is on the wrong side of the
# other, as by rounding, is taken to be at it. There is one loss a pair of boxes, and `where` is over the pairs. Two boxes
# without area have an intersection over union of 1 if they are the same, else 0.
#
# I is the area of the intersection, U that of the union, and C that of the smallest box around both.


def iou_loss(
    predictions: Float[ArrayLike, "*batch 4"],
    targets: Real[ArrayLike, "*batch 4"] | Bool[ArrayLike, "*batch 4"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The IoU loss of boxes: 1 less the intersection over union; it does not depend on their scale.

    Boxes are corners x1, y1, x2, y2, not a centre, width and height.

    Formula: 1 − I/U, taken as (U − I)/U with U − I from the differences of the corners, which does not cancel. Derivative:
    that of the formula; 0 for boxes that are apart, which learn from the other losses here.

    Args:
        predictions: boxes x1, y1, x2, y2 with x1 ≤ x2 and y1 ≤ y2, as corners; not a centre, width and height.
        targets: the true boxes, of the shape of `predictions`.
        where: which pairs of boxes count; broadcasts to `predictions` without its last axis.

    Returns:
        One loss a pair of boxes, from 0 to 1.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, their last axis is not 4 long, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.iou_loss(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([1.0, 0.0, 3.0, 2.0])))
        0.6666667

    References:
        Yu, Jiang, Wang, Cao and Huang, UnitBox: An Advanced Object Detection Network, 2016
    """
    return _rules.compiled(_iou_loss, *_checked(predictions, targets, where))


def _iou_loss(predictions: Array, targets: Array, where: Array | None) -> Array:
    x, y = _sides(predictions, targets, where)
    return _where(where, _iou(x, y))


def giou_loss(
    predictions: Float[ArrayLike, "*batch 4"],
    targets: Real[ArrayLike, "*batch 4"] | Bool[ArrayLike, "*batch 4"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The generalised IoU loss of boxes: it also draws boxes together that are apart.

    Boxes are corners x1, y1, x2, y2, not a centre, width and height.

    Formula: 1 − I/U + (C − U)/C, from terms ≥ 0 that do not cancel. Derivative: that of the formula.

    Args:
        predictions: boxes x1, y1, x2, y2 with x1 ≤ x2 and y1 ≤ y2, as corners; not a centre, width and height.
        targets: the true boxes, of the shape of `predictions`.
        where: which pairs of boxes count; broadcasts to `predictions` without its last axis.

    Returns:
        One loss a pair of boxes, from 0 to 2. Without C, the second term is 0.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, their last axis is not 4 long, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.giou_loss(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([2.0, 2.0, 4.0, 4.0])))
        1.5

    References:
        Rezatofighi et al., Generalized Intersection over Union: A Metric and a Loss for Bounding Box Regression, 2019
    """
    return _rules.compiled(_giou_loss, *_checked(predictions, targets, where))


def _giou_loss(predictions: Array, targets: Array, where: Array | None) -> Array:
    x, y = _sides(predictions, targets, where)
    # Where the boxes meet, C − U is what remains in the four corners: a rectangle between a side of each box, unless one
    # of them is the outer one in both directions. Where they are apart, nothing cancels.
    corners = (
        positive_part(-x.low * y.low)
        + positive_part(-x.high * y.high)
        + positive_part(x.low * y.high)
        + positive_part(x.high * y.low)
    )
    around = x.around * y.around
    apart = 1 - _ratio(x.first * y.first + x.second * y.second, around)
    empty = jnp.where((x.both > 0) & (y.both > 0), _ratio(corners, around), jnp.where(around > 0, apart, 0))
    return _where(where, _iou(x, y) + empty)


def diou_loss(
    predictions: Float[ArrayLike, "*batch 4"],
    targets: Real[ArrayLike, "*batch 4"] | Bool[ArrayLike, "*batch 4"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The distance IoU loss of boxes: it also draws their centres together, faster than the generalised IoU loss.

    Boxes are corners x1, y1, x2, y2, not a centre, width and height.

    Formula: 1 − I/U + d²/c², with d the distance of the centres and c the diagonal of the smallest box around both.
    Derivative: that of the formula.

    Args:
        predictions: boxes x1, y1, x2, y2 with x1 ≤ x2 and y1 ≤ y2, as corners; not a centre, width and height.
        targets: the true boxes, of the shape of `predictions`.
        where: which pairs of boxes count; broadcasts to `predictions` without its last axis.

    Returns:
        One loss a pair of boxes, from 0 to 2. Without c, the second term is 0.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, their last axis is not 4 long, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.diou_loss(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([2.0, 2.0, 4.0, 4.0])))
        1.25

    References:
        Zheng et al., Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression, 2020
    """
    return _rules.compiled(_diou_loss, *_checked(predictions, targets, where))


def _diou_loss(predictions: Array, targets: Array, where: Array | None) -> Array:
    x, y = _sides(predictions, targets, where)
    return _where(where, _iou(x, y) + _distance(x, y))


def ciou_loss(
    predictions: Float[ArrayLike, "*batch 4"],
    targets: Real[ArrayLike, "*batch 4"] | Bool[ArrayLike, "*batch 4"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The complete IoU loss of boxes: the distance IoU loss, and a term for the ratio of their sides.

    Boxes are corners x1, y1, x2, y2, not a centre, width and height.

    Formula: 1 − I/U + d²/c² + αv, with v = 4/π² (arctan(w'/h') − arctan(w/h))² of the widths and heights of the two boxes
    and α = v/((1 − I/U) + v). Derivative: that of the formula with α held constant, as in the paper; within 12 units in
    the last place of float32, since v is the square of a difference of angles.

    Args:
        predictions: boxes x1, y1, x2, y2 with x1 ≤ x2 and y1 ≤ y2, as corners; not a centre, width and height.
        targets: the true boxes, of the shape of `predictions`.
        where: which pairs of boxes count; broadcasts to `predictions` without its last axis.

    Returns:
        One loss a pair of boxes, from 0 to 3. A box that is a point has no ratio of sides: v is 0.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, their last axis is not 4 long, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.ciou_loss(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([0.0, 0.0, 4.0, 2.0])))
        0.55324817

    References:
        Zheng et al., Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression, 2020
    """
    return _rules.compiled(_ciou_loss, *_checked(predictions, targets, where))


def _ciou_loss(predictions: Array, targets: Array, where: Array | None) -> Array:
    x, y = _sides(predictions, targets, where)
    iou = _iou(x, y)
    # The difference of the two angles as one arctan, which has no ratio of lengths that may be 0.
    x, y = _same_scale(x, y)
    # x₂y₁ − x₁y₂ by the differences of the sides: of boxes alike, two products that XLA may round apart would not be 0.
    sine = x.second * (y.first - y.second) - (x.first - x.second) * y.second
    cosine = x.first * x.second + y.first * y.second
    point = (sine == 0) & (cosine == 0)
    angle = jnp.where(point, 0, jnp.arctan2(jnp.where(point, 0, sine), jnp.where(point, 1, cosine)))
    v = 4 / np.pi**2 * jnp.square(angle)
    alpha = jax.lax.stop_gradient(_numerics.share(v, iou))
    return _where(where, iou + _distance(x, y) + alpha * v)


class _Side(NamedTuple):
    """The lengths that a pair of boxes has along one axis, over a power of two near the largest."""

    first: Array  # of the prediction
    second: Array  # of the target
    low: Array  # from the lower end of the target to that of the prediction
    high: Array
    both: Array  # what they share; ≤ 0 if they are apart
    around: Array  # of both together
    scale: Array


def _checked(predictions: Any, targets: Any, where: Any) -> tuple[Array, Array, Array | None]:
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    if predictions.shape[-1:] != (4,):
        raise ValueError(f"predictions must be boxes of 4 numbers, x1, y1, x2, y2, got shape {predictions.shape}")
    where = _check.mask(where, predictions.shape[:-1], "the boxes")
    _corners("predictions", predictions, where)
    _corners("targets", targets, where)
    return predictions, targets, where


def _corners(name: str, boxes: Array, where: Array | None) -> None:
    """Checks for boxes whose second corner is before the first, beyond rounding."""

    def inside() -> Array:
        first, second = jnp.split(_rules.wide(boxes), 2, axis=-1)
        rounding = 4 * jnp.finfo(first.dtype).eps * jnp.maximum(jnp.abs(first), jnp.abs(second))
        return ~jnp.any(first - second > rounding, axis=-1) | _values.left_out(where)

    _values.run_time(
        inside,
        f"{name} must be boxes x1, y1, x2, y2 with x1 ≤ x2 and y1 ≤ y2: of centres and sizes make "
        "jnp.concatenate([centre - size / 2, centre + size / 2], axis=-1)",
    )


def _sides(predictions: Array, targets: Array, where: Array | None) -> tuple[_Side, _Side]:
    p, t = _rules.wide(predictions, targets), _rules.wide(targets, predictions)
    p, t = _rules.masked(where, p, 1), _rules.masked(where, t, 1)
    return _side(p[..., 0], p[..., 2], t[..., 0], t[..., 2]), _side(p[..., 1], p[..., 3], t[..., 1], t[..., 3])


def _side(low: Array, high: Array, true_low: Array, true_high: Array) -> _Side:
    high, true_high = jnp.where(high < low, low, high), jnp.where(true_high < true_low, true_low, true_high)
    around = jnp.maximum(high, true_high) - jnp.minimum(low, true_low)
    scale = jnp.where(around > 0, _vectors.power_of_two(around[..., None])[..., 0], 1)
    both = jnp.minimum(high, true_high) - jnp.maximum(low, true_low)
    return _Side(
        (high - low) / scale,
        (true_high - true_low) / scale,
        (low - true_low) / scale,
        (high - true_high) / scale,
        both / scale,
        around / scale,
        scale,
    )


def _same_scale(x: _Side, y: _Side) -> tuple[_Side, _Side]:
    """Both axes over the larger of their scales: for what compares lengths of the two."""
    scale = jnp.maximum(x.scale, y.scale)
    return _scaled(x, scale), _scaled(y, scale)


def _scaled(side: _Side, scale: Array) -> _Side:
    factor = side.scale / scale
    return jax.tree.map(lambda length: length * factor, side)._replace(scale=scale)


def _iou(x: _Side, y: _Side) -> Array:
    """1 − I/U."""
    meet = (x.both > 0) & (y.both > 0)
    both = jnp.where(meet, x.both * y.both, 0)
    # What a box has beyond the other: its area less that of the intersection, as a sum of two strips.
    first = _beyond(meet, x.first, y.first, _reach(x.low, x.high), _reach(y.low, y.high), y.both)
    second = _beyond(meet, x.second, y.second, _reach(-x.low, -x.high), _reach(-y.low, -y.high), y.both)
    same = (x.low == 0) & (x.high == 0) & (y.low == 0) & (y.high == 0)
    loss = jnp.where(both + first + second > 0, _numerics.share(first + second, both), jnp.where(same, 0, 1))
    return jnp.where(jnp.isnan(x.around + y.around), jnp.nan, loss)  # not to be lost in comparisons


def _reach(low: Array, high: Array) -> Array:
    """How far a side goes beyond another that it meets, at both ends, from the differences of the ends."""
    return positive_part(-low) + positive_part(high)


def _beyond(meet: Array, width: Array, height: Array, more_width: Array, more_height: Array, shared_height: Array) -> Array:
    return jnp.where(meet, width * more_height + more_width * shared_height, width * height)


def _distance(x: _Side, y: _Side) -> Array:
    """d²/c²."""
    x, y = _same_scale(x, y)
    squared = jnp.square(x.low + x.high) + jnp.square(y.low + y.high)
    return _ratio(squared, 4 * (jnp.square(x.around) + jnp.square(y.around)))


def _ratio(x: Array, y: Array) -> Array:
    """x / y, 0 at 0 / 0."""
    return x / jnp.where(y == 0, 1, y)


def _where(where: Array | None, losses: Array) -> Array:
    return _rules.masked(where, losses)
