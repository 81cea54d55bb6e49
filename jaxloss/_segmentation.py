"""Segmentation: losses of the overlap of predicted and true regions, in which a small region counts like a large one."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _exponentials, _numerics, _overlap, _rules

# Predictions and targets are [..., height, width, K], the classes last; `axis` names the pixels and `where` is over them.
# There is one loss an example and class: a mean with weights, or without a background, is the caller's. Classes that
# overlap are each one of its own: give them `predictions[..., None]` and `axis=(-4, -3)`.
#
# p is the predicted probability and t the target of a pixel. Every loss is wrong/(wrong + right), in which no sum
# cancels: see `_overlap`.


def dice_loss(
    predictions: Float[ArrayLike, "*batch height width classes"],
    targets: Float[ArrayLike, "*batch height width classes"] | Int[ArrayLike, "*batch height width classes"],
    *,
    smooth: Float[ArrayLike, "..."] = 1.0,
    squared: bool = False,
    from_logits: bool = True,
    axis: int | tuple[int, ...] = (-3, -2),
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """The Dice loss: 1 less the F1 score of the pixels, with probabilities in place of decisions.

    Formula: 1 − (2Σtp + s)/(Σt + Σp + s), taken as Σ(p(1−t) + t(1−p)) / D, with the sums over pixels and D the
    denominator. Derivative by p: (1 − 2t − loss)/D. If squared: 1 − (2Σtp + s)/(Σt² + Σp² + s), which is 0 at p = t for
    soft targets too. In optax s counts double: its `smooth=1` is 2 here.

    Args:
        predictions: logits, or probabilities with `from_logits=False`; the classes last, one alone is a yes against a no.
        targets: the share of the class in each pixel, 0 to 1, of the shape of `predictions`; may be integers or booleans.
        smooth: s, in pixels, ≥ 0; broadcasts to the losses, differentiable. At 0, a class that is neither there nor
            predicted has loss 0 and gradient 0.
        squared: whether the denominator takes the squares.
        from_logits: whether predictions are logits, of a softmax, or for one class of a sigmoid. Of float32 logits that are
            up to d apart, a softmax gives 8 + d ulp: their differences are rounded.
        axis: the axis or axes of the pixels, which the overlap is summed over.
        where: which pixels count; broadcasts to `predictions` without its classes.

    Returns:
        One loss an example and class, from 0 to 1: the shape of `predictions` without the pixels.

    Raises:
        TypeError: `predictions` or `smooth` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `smooth` or `where` does not broadcast, `smooth` is negative, or `axis` is out of
            range or names the classes.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.array([[2.0, -1.0], [0.5, -3.0]])[..., None]  # height, width and one class
        >>> print(jaxloss.dice_loss(logits, logits > 0))
        [0.16870838]

    References:
        Milletari, Navab and Ahmadi, V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation,
            2016
    """
    predictions, targets, where, axes = _overlap.checked(predictions, targets, axis, where, from_logits)
    (smooth,) = _overlap.options(predictions, where, axes, smooth=smooth)
    sums = _overlap.sums(predictions, targets, where, axes, from_logits, _check.flag("squared", squared))
    return _rules.compiled(_dice, sums, smooth)


def _dice(sums: Any, smooth: Array) -> Array:
    right, wrong = sums
    return _numerics.share(wrong, 2 * right + smooth.astype(right.dtype))


def jaccard_loss(
    predictions: Float[ArrayLike, "*batch height width classes"],
    targets: Float[ArrayLike, "*batch height width classes"] | Int[ArrayLike, "*batch height width classes"],
    *,
    smooth: Float[ArrayLike, "..."] = 1.0,
    squared: bool = False,
    from_logits: bool = True,
    axis: int | tuple[int, ...] = (-3, -2),
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """The Jaccard loss: 1 less the intersection over union of the pixels, with probabilities in place of decisions.

    Formula: 1 − (Σtp + s)/(Σt + Σp − Σtp + s), taken as Σ(p(1−t) + t(1−p)) / D, with the sums over pixels and D the
    denominator. Derivative by p: (1 − 2t − loss·(1−t))/D. If squared: 1 − (Σtp + s)/(Σt² + Σp² − Σtp + s), which is 0 at
    p = t for soft targets too.

    Args:
        predictions: logits, or probabilities with `from_logits=False`; the classes last, one alone is a yes against a no.
        targets: the share of the class in each pixel, 0 to 1, of the shape of `predictions`; may be integers or booleans.
        smooth: s, in pixels, ≥ 0; broadcasts to the losses, differentiable. At 0, a class that is neither there nor
            predicted has loss 0 and gradient 0.
        squared: whether the denominator takes the squares.
        from_logits: whether predictions are logits, of a softmax, or for one class of a sigmoid. Of float32 logits that are
            up to d apart, a softmax gives 8 + d ulp: their differences are rounded.
        axis: the axis or axes of the pixels, which the overlap is summed over.
        where: which pixels count; broadcasts to `predictions` without its classes.

    Returns:
        One loss an example and class, from 0 to 1: the shape of `predictions` without the pixels.

    Raises:
        TypeError: `predictions` or `smooth` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `smooth` or `where` does not broadcast, `smooth` is negative, or `axis` is out of
            range or names the classes.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.array([[2.0, -1.0], [0.5, -3.0]])[..., None]  # height, width and one class
        >>> print(jaxloss.jaccard_loss(logits, logits > 0))
        [0.2451812]

    References:
        Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, 2016
    """
    predictions, targets, where, axes = _overlap.checked(predictions, targets, axis, where, from_logits)
    (smooth,) = _overlap.options(predictions, where, axes, smooth=smooth)
    sums = _overlap.sums(predictions, targets, where, axes, from_logits, _check.flag("squared", squared))
    return _rules.compiled(_jaccard, sums, smooth)


def _jaccard(sums: Any, smooth: Array) -> Array:
    right, wrong = sums
    return _numerics.share(wrong, right + smooth.astype(right.dtype))


def tversky_loss(
    predictions: Float[ArrayLike, "*batch height width classes"],
    targets: Float[ArrayLike, "*batch height width classes"] | Int[ArrayLike, "*batch height width classes"],
    *,
    alpha: Float[ArrayLike, "..."] = 0.3,
    beta: Float[ArrayLike, "..."] = 0.7,
    smooth: Float[ArrayLike, "..."] = 1.0,
    from_logits: bool = True,
    axis: int | tuple[int, ...] = (-3, -2),
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """The Tversky loss: a Dice loss that weighs false positives and false negatives apart.

    Formula: 1 − (TP + s)/(TP + α FP + β FN + s) with TP = Σtp, FP = Σ(1−t)p and FN = Σt(1−p) over the pixels, taken as
    (α FP + β FN)/D. Derivative by p: (α(1−t) − βt − loss·(t + α(1−t) − βt))/D. α = β = 1 is the Jaccard loss; α = β = ½
    the Dice loss, with half its s. β > α, as by default, finds more of a small region, at the price of false alarms.

    Args:
        predictions: logits, or probabilities with `from_logits=False`; the classes last, one alone is a yes against a no.
        targets: the share of the class in each pixel, 0 to 1, of the shape of `predictions`; may be integers or booleans.
        alpha: the weight of false positives, ≥ 0; broadcasts to the losses, differentiable.
        beta: the weight of false negatives, ≥ 0; broadcasts to the losses, differentiable.
        smooth: s, in pixels, ≥ 0; broadcasts to the losses, differentiable. At 0, a class that is neither there nor
            predicted has loss 0 and gradient 0.
        from_logits: whether predictions are logits, of a softmax, or for one class of a sigmoid. Of float32 logits that are
            up to d apart, a softmax gives 8 + d ulp: their differences are rounded.
        axis: the axis or axes of the pixels, which the overlap is summed over.
        where: which pixels count; broadcasts to `predictions` without its classes.

    Returns:
        One loss an example and class, from 0 to 1: the shape of `predictions` without the pixels.

    Raises:
        TypeError: `predictions` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, an option or `where` does not broadcast, an option is negative, or `axis` is out of
            range or names the classes.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.array([[2.0, -1.0], [0.5, -3.0]])[..., None]  # height, width and one class
        >>> print(jaxloss.tversky_loss(logits, logits > 0))
        [0.15025379]

    References:
        Salehi, Erdogmus and Gholipour, Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep
            Networks, 2017
    """
    predictions, targets, where, axes = _overlap.checked(predictions, targets, axis, where, from_logits)
    options = _overlap.options(predictions, where, axes, alpha=alpha, beta=beta, smooth=smooth)
    return _rules.compiled(_tversky, _overlap.sums_apart(predictions, targets, where, axes, from_logits), *options)


def _tversky(sums: Any, alpha: Array, beta: Array, smooth: Array) -> Array:
    right, extra, missing = sums
    alpha, beta, smooth = (x.astype(right.dtype) for x in (alpha, beta, smooth))
    return _numerics.share(alpha * extra + beta * missing, right + smooth)


def focal_tversky_loss(
    predictions: Float[ArrayLike, "*batch height width classes"],
    targets: Float[ArrayLike, "*batch height width classes"] | Int[ArrayLike, "*batch height width classes"],
    *,
    alpha: Float[ArrayLike, "..."] = 0.3,
    beta: Float[ArrayLike, "..."] = 0.7,
    gamma: Float[ArrayLike, "..."] = 4 / 3,
    smooth: Float[ArrayLike, "..."] = 1.0,
    from_logits: bool = True,
    axis: int | tuple[int, ...] = (-3, -2),
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """The focal Tversky loss: a power of the Tversky loss that turns to the classes which are still hard.

    Formula: T^(1/γ) with T the Tversky loss of α, β and s. Derivative: T^(1/γ − 1)/γ times that of T; 0 at T = 0, where
    it is infinite for γ > 1. The paper calls α the weight of false negatives; here it is β, as in the Tversky loss.

    Args:
        predictions: logits, or probabilities with `from_logits=False`; the classes last, one alone is a yes against a no.
        targets: the share of the class in each pixel, 0 to 1, of the shape of `predictions`; may be integers or booleans.
        alpha: the weight of false positives, ≥ 0; broadcasts to the losses, differentiable.
        beta: the weight of false negatives, ≥ 0; broadcasts to the losses, differentiable.
        gamma: γ > 0; above 1, what is nearly right is pushed on; broadcasts to the losses, differentiable.
        smooth: s, in pixels, ≥ 0; broadcasts to the losses, differentiable. At 0, a class that is neither there nor
            predicted has loss 0 and gradient 0.
        from_logits: whether predictions are logits, of a softmax, or for one class of a sigmoid. Of float32 logits that are
            up to d apart, a softmax gives 8 + d ulp: their differences are rounded.
        axis: the axis or axes of the pixels, which the overlap is summed over.
        where: which pixels count; broadcasts to `predictions` without its classes.

    Returns:
        One loss an example and class, from 0 to 1: the shape of `predictions` without the pixels.

    Raises:
        TypeError: `predictions` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, an option or `where` does not broadcast or is out of its domain, or `axis` is out of
            range or names the classes.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.array([[2.0, -1.0], [0.5, -3.0]])[..., None]  # height, width and one class
        >>> print(jaxloss.focal_tversky_loss(logits, logits > 0))
        [0.2413343]

    References:
        Abraham and Khan, A Novel Focal Tversky Loss Function with Improved Attention U-Net for Lesion Segmentation, 2018
    """
    predictions, targets, where, axes = _overlap.checked(predictions, targets, axis, where, from_logits)
    options = _overlap.options(predictions, where, axes, alpha=alpha, beta=beta, smooth=smooth)
    some = _overlap.examples_mask(where, axes)
    gamma = _rules.harmless(some, _check.option("gamma", gamma, _overlap.losses(predictions, axes), above=0, where=some))
    sums = _overlap.sums_apart(predictions, targets, where, axes, from_logits)
    return _rules.compiled(_focal_tversky, sums, *options, gamma)


def _focal_tversky(sums: Any, alpha: Array, beta: Array, smooth: Array, gamma: Array) -> Array:
    loss = _tversky(sums, alpha, beta, smooth)
    right = loss <= 0  # below, where a probability is a rounding error above 1
    return jnp.where(right, 0, _root(jnp.where(right, 1, loss), gamma.astype(loss.dtype)))


def _root(x: Array, degree: Array) -> Array:
    """x^(1/degree) for 0 < x ≤ 1 within 4 ulp; from a rounded 1/degree it would have as many as |log x| wrong."""
    whole, rest = _exponentials.log_in_parts(x)
    limits = jnp.finfo(x.dtype)
    power = lax.reduce_precision(1 / degree, limits.nexp, 7)  # times `whole`, it is exact
    coarse = lax.reduce_precision(degree, limits.nexp, 11)
    remainder = (1 - power * coarse) - power * (degree - coarse)
    # Else XLA makes one exponential of the two.
    large = lax.reduce_precision(jnp.exp(power * whole), limits.nexp, limits.nmant)
    return large * jnp.exp((remainder * whole + rest) / degree)


def generalized_dice_loss(
    predictions: Float[ArrayLike, "*batch height width classes"],
    targets: Float[ArrayLike, "*batch height width classes"] | Int[ArrayLike, "*batch height width classes"],
    *,
    smooth: Float[ArrayLike, "..."] = 0.0,
    from_logits: bool = True,
    axis: int | tuple[int, ...] = (-3, -2),
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The generalised Dice loss: one Dice loss of all classes together, in which the rare ones weigh as much as the others.

    Formula: 1 − (2Σwₖtp + s)/(Σwₖ(t + p) + s) over pixels and classes k, with wₖ = (m/Tₖ)², Tₖ = Σt the size of a class
    and m that of the smallest which is there; taken as Σwₖ(p(1−t) + t(1−p)) / D. Derivative by p: (wₖ(1 − 2t) − loss·wₖ)/D.
    At s = 0 the weights are as good as the paper's 1/Tₖ². A class that is not there has the weight of the smallest.

    Args:
        predictions: logits, or probabilities with `from_logits=False`; the classes last, one alone is a yes against a no.
        targets: the share of the class in each pixel, 0 to 1, of the shape of `predictions`; may be integers or booleans.
        smooth: s, in pixels, ≥ 0; one an example, differentiable. At 0, an example with no
            target and no prediction has loss 0 and gradient 0.
        from_logits: whether predictions are logits, of a softmax, or for one class of a sigmoid. Of float32 logits that are
            up to d apart, a softmax gives 8 + d ulp: their differences are rounded.
        axis: the axis or axes of the pixels, which the overlap is summed over.
        where: which pixels count; broadcasts to `predictions` without its classes.

    Returns:
        One loss an example, from 0 to 1: the shape of `predictions` without the pixels and the classes.

    Raises:
        TypeError: `predictions` or `smooth` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `smooth` or `where` does not broadcast, `smooth` is negative, or `axis` is out of
            range or names the classes.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.array([[2.0, -1.0], [0.5, -3.0]])[..., None]  # height, width and one class
        >>> print(jaxloss.generalized_dice_loss(logits, logits > 0))
        0.21287723

    References:
        Sudre, Li, Vercauteren, Ourselin and Cardoso, Generalised Dice Overlap as a Deep Learning Loss Function for Highly
            Unbalanced Segmentations, 2017
    """
    predictions, targets, where, axes = _overlap.checked(predictions, targets, axis, where, from_logits)
    some = _rules.of_examples(where, axes)
    one_each = _overlap.examples(predictions, axes)
    smooth = _rules.harmless(some, _check.option("smooth", smooth, one_each, minimum=0, where=some))
    sums = _overlap.sums(predictions, targets, where, axes, from_logits)
    return _rules.compiled(_generalized_dice, sums, _overlap.sizes(targets, where, axes, sums[0]), smooth)


def _generalized_dice(sums: Any, sizes: Array, smooth: Array) -> Array:
    right, wrong = sums
    there = sizes > 0
    smallest = jnp.min(jnp.where(there, sizes, jnp.inf), axis=-1, keepdims=True)
    smallest = jnp.where(jnp.isinf(smallest), 1, smallest)
    weights = jnp.square(smallest / jnp.where(there, sizes, smallest))
    wrong = jnp.sum(weights * wrong, axis=-1)
    return _numerics.share(wrong, 2 * jnp.sum(weights * right, axis=-1) + smooth.astype(wrong.dtype))
