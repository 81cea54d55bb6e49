"""Lovász losses: the intersection over union itself, extended from decisions to errors of any size."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _numerics, _overlap, _reduction, _rules, _softmax, _values

# Arrays are laid out as in `_segmentation`: pixels between the batch and the classes, `where` over pixels. The labels are
# decisions, since the Jaccard index of a set is what is extended.


@_reduction.coupled(event=1)
def lovasz_hinge_loss(
    logits: Float[ArrayLike, "*batch height width classes"],
    labels: Int[ArrayLike, "*batch height width classes"] | Bool[ArrayLike, "*batch height width classes"],
    *,
    axis: int | tuple[int, ...] = (-3, -2),
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """The Lovász hinge: the convex surrogate of the Jaccard loss of a binary segmentation, which weighs pixels by rank.

    Arrays are [..., height, width, classes]: of binary ones take `[..., None]`, of channels in front `jnp.moveaxis`, and of
    volumes `axis=(-4, -3, -2)`.

    Formula: Σ max(0, eᵢ) gᵢ over the pixels in descending order of their hinge errors e = 1 − (2y − 1)z, with gᵢ the
    growth of the Jaccard loss when the i-th pixel joins the mistakes. Derivative: (1 − 2y) gᵢ for eᵢ > 0, else 0, a
    subgradient; the order among equal errors is that of the pixels, on which the value does not depend. The second
    derivative is 0.

    Args:
        logits: the score z of a yes; the last axis is that of classes, each a problem of its own.
        labels: y, 0 or 1, of the shape of `logits`; integers or booleans. Another number and not masked: NaN in loss and
            gradient.
        axis: the axis or axes of the pixels of an image; with that of the batch, the loss is one of the whole batch.
        where: which pixels count; broadcasts to `logits` without its classes.

    Returns:
        One loss an image and class: the shape of `logits` without the pixels. 0 without pixels. With no yes in the
        labels, the largest positive error.

    Raises:
        TypeError: `logits` is not floating point, `labels` are neither integers nor booleans, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range or names the classes.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.array([[2.0, -1.0], [0.5, -3.0]])[..., None]  # height, width and one class
        >>> print(jaxloss.lovasz_hinge_loss(logits, jnp.array([[1, 0], [1, 1]])[..., None]))
        [1.5]

    References:
        Berman, Rannen Triki and Blaschko, The Lovász-Softmax Loss, 2018
    """
    _overlap.same_layout("logits", logits, "labels", labels, axis)
    logits, labels = _check.decisions("logits", logits, labels)
    logits = _check.class_last("logits", logits, -1)
    where = _check.mask(where, logits.shape[:-1], "the pixels")
    axes = _overlap.pixel_axes(axis, logits.ndim)
    where = _overlap.merged_mask(where, logits, axes)
    return _rules.compiled(_hinge, _overlap.pixels_last(logits, axes), _overlap.pixels_last(labels, axes), where)


def _hinge(logits: Array, labels: Array, where: Array | None) -> Array:
    z, y, counts = (jnp.moveaxis(x, -1, -2) for x in _masked(_rules.wide(logits), labels, where))
    yes = y == 1
    errors = jnp.where(yes, 1 - z, 1 + z)
    losses = _softmax.times(_growth(errors, yes, counts), _numerics.positive_part(errors))
    return jnp.sum(losses + _invalid(~yes & (y != 0), z), axis=-1)


@_reduction.coupled(event=1)
def lovasz_softmax_loss(
    predictions: Float[ArrayLike, "*batch height width classes"],
    labels: Int[ArrayLike, "*batch height width"],
    *,
    classes: Literal["present", "all", "each"] = "present",
    from_logits: bool = True,
    axis: int | tuple[int, ...] = (-3, -2),
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"] | Float[Array, "*batch classes"]:
    """The Lovász-softmax loss: the mean over classes of the Jaccard loss, extended to probabilities.

    Predictions are [..., height, width, classes], labels without classes: of channels in
    front take `jnp.moveaxis`, and of volumes `axis=(-4, -3, -2)`.

    Formula: for a class, Σ eᵢ gᵢ over the pixels in descending order of their errors e, 1 − p where the pixel is of the
    class and p elsewhere, with gᵢ the growth of the Jaccard loss when the i-th pixel joins the mistakes. Derivative by p:
    −gᵢ where the pixel is of the class, gᵢ elsewhere, a subgradient; the order among equal errors is that of the pixels,
    on which the value does not depend.

    Args:
        predictions: logits, or probabilities with `from_logits=False`; the classes last, at least two: for one, take two
            logits (0, z), or the hinge.
        labels: the index of the class of each pixel; out of range and not masked: NaN in loss and gradient.
        classes: the mean over the classes that are "present" among the labels of the image, or over "all"; or "each"
            class for itself. The loss of a class that is not present is its largest p.
        from_logits: whether predictions are logits, of a softmax.
        axis: the axis or axes of the pixels of an image; with that of the batch, the loss is one of the whole batch.
        where: which pixels count; broadcasts to `labels`.

    Returns:
        One loss an image, from 0 to 1: the shape of `labels` without the pixels; with classes="each", one an image and
        class. 0 without pixels.

    Raises:
        TypeError: `predictions` is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: `labels` have another shape than `predictions` without its classes, `where` does not broadcast,
            `classes` is none of the three, or `axis` is out of range or names the classes.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.array([[2.0, -1.0], [0.5, -3.0]])
        >>> logits = jnp.stack([jnp.zeros_like(logits), logits], axis=-1)  # height, width and two classes
        >>> print(jaxloss.lovasz_softmax_loss(logits, jnp.array([[1, 0], [1, 1]])))
        0.5

    References:
        Berman, Rannen Triki and Blaschko, The Lovász-Softmax Loss, 2018
    """
    if classes not in ("present", "all", "each"):
        raise ValueError(f'classes must be "present", "all" or "each", got {classes!r}')
    _overlap.enough_axes("predictions", _check.array("predictions", predictions).shape, axis)
    predictions, labels, where = _check.scores_and_classes("predictions", predictions, labels, -1, where)
    if predictions.shape[-1] == 1:
        raise ValueError(f"predictions must have at least two classes, got shape {predictions.shape}")
    if not _check.flag("from_logits", from_logits):
        _values.probabilities(predictions, None if where is None else where[..., None])
    axes = _overlap.pixel_axes(axis, predictions.ndim)
    where = _overlap.merged_mask(where, predictions, axes)
    labels = _overlap.pixels_last(labels[..., None], axes)[..., 0]
    losses, present = _rules.compiled(
        _of_logits if from_logits else _of_probabilities, _overlap.pixels_last(predictions, axes), labels, where
    )
    return losses if classes == "each" else _rules.compiled(_mean, losses, present if classes == "present" else None)


def _of_logits(logits: Array, labels: Array, where: Array | None) -> tuple[Array, Array]:
    z, labels, counts = _masked(_rules.wide(logits), labels[..., None], where)
    return _by_class(*_overlap.probabilities(z), z, labels, counts)


def _of_probabilities(p: Array, labels: Array, where: Array | None) -> tuple[Array, Array]:
    p, labels, counts = _masked(_rules.wide(p), labels[..., None], where)
    return _by_class(p, 1 - p, p, labels, counts)


def _by_class(p: Array, q: Array, predictions: Array, labels: Array, counts: Array) -> tuple[Array, Array]:
    """The loss of each class, and whether it is there."""
    yes = labels == jnp.arange(p.shape[-1])
    errors, yes, counts = (jnp.moveaxis(x, -1, -2) for x in (jnp.where(yes, q, p), yes, counts))
    losses = jnp.sum(errors * _growth(errors, yes, counts), axis=-1)
    outside = (labels < 0) | (labels >= p.shape[-1])
    return losses + jnp.sum(_invalid(outside, predictions), axis=-2), jnp.any(
        (yes | jnp.swapaxes(outside, -1, -2)) & counts, axis=-1
    )


def _invalid(outside: Array, predictions: Array) -> Array:
    """What to add to a loss: 0, or where a label is out of range NaN with a gradient of NaN."""
    return jnp.where(outside, jnp.nan, 0).astype(predictions.dtype) * jnp.where(outside, predictions, 0)


def _mean(losses: Array, present: Array | None) -> Array:
    return jnp.mean(losses, axis=-1) if present is None else _reduction.mean(losses, where=present, axis=-1)


def _masked(predictions: Array, labels: Array, where: Array | None) -> tuple[Array, Array, Array]:
    """Predictions and labels that are harmless where a pixel does not count, and whether it does."""
    if where is None:
        return predictions, labels, jnp.ones(predictions.shape, bool)
    where = where[..., None]
    return jnp.where(where, predictions, 0), jnp.where(where, labels, 0), jnp.broadcast_to(where, predictions.shape)


def _growth(errors: Array, yes: Array, counts: Array) -> Array:
    """By how much the Jaccard loss of the mistakes grows as the pixels join them in descending order of their errors.

    Pixels along the last axis; 0 for those that do not count. A constant: the order, and so the derivative of the loss
    by its errors, does not change with them.
    """
    descending = jnp.where(counts, -jax.lax.stop_gradient(errors), jnp.inf)
    pixels = jax.lax.broadcasted_iota(jnp.int32, errors.shape, errors.ndim - 1)
    kind = jnp.where(counts, jnp.where(yes, 1, 2), 0)
    _, kind, pixels = jax.lax.sort((descending, kind, pixels), num_keys=1)
    found, extra = jnp.cumsum(kind == 1, axis=-1), jnp.cumsum(kind == 2, axis=-1)
    # After i pixels the loss is 1 − (Y − found)/(Y + extra), with Y pixels of a yes. Its steps in closed form, since
    # neighbours differ by 1/Y² where float32 has 1e-7.
    size = found[..., -1:]
    missed, union = (size - found).astype(errors.dtype), (size + extra).astype(errors.dtype)
    before = jnp.where(union > 1, union - 1, 1)
    of_yes = 1 / jnp.where(union > 0, union, 1)
    of_no = jnp.where(union > 1, missed / before * of_yes, 1)
    growth = jnp.where(kind == 1, of_yes, jnp.where(kind == 2, of_no, 0))
    _, growth = jax.lax.sort((pixels, growth), num_keys=1)
    return growth
