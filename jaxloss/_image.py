"""Losses of images and of their features: smoothness, content, style and edges."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from jaxloss import _check, _rules, _vectors

# Images, and feature maps, are [..., height, width, channels]; one loss an image, and `where` is over images. The
# structural similarities are in `_ssim`.


def total_variation_loss(
    images: Float[ArrayLike, "*batch height width channels"],
    *,
    norm: int = 2,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The total variation: how much neighbouring pixels differ; it smooths an image, squared or, for norm 1, by pieces.

    Formula: Σ |x_{i+1,j} − x_{i,j}|ⁿ + |x_{i,j+1} − x_{i,j}|ⁿ over all neighbours and channels, n = 2 or 1 (anisotropic).
    Derivative of the first term by x_{i+1,j}: 2 (x_{i+1,j} − x_{i,j}) for n = 2; for n = 1 the sign of the difference, 0 at
    the kink.

    Args:
        images: any height and width: one row or column has no neighbours across it.
        norm: n, 1 or 2.
        where: which images count.

    Returns:
        One loss an image: a sum, which grows with the number of pixels.

    Raises:
        TypeError: `images` is not floating point, `norm` is no integer, or `where` is not boolean.
        ValueError: `images` has fewer than three axes, `norm` is neither 1 nor 2, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> image = jnp.array([[0.0, 1.0], [0.5, 3.0]])[..., None]
        >>> print(jaxloss.total_variation_loss(image), jaxloss.total_variation_loss(image, norm=1))
        11.5 6.0

    References:
        Rudin, Osher and Fatemi, Nonlinear Total Variation Based Noise Removal Algorithms, 1992
        Mahendran and Vedaldi, Understanding Deep Image Representations by Inverting Them, 2015 (squared)
    """
    images = _check.floating("images", images)
    where = _check.images("images", images, where)
    if _check.count("norm", norm) not in (1, 2):
        raise ValueError(f"norm must be 1 or 2, got {norm}")
    loss = _rules.call(_absolute_variation if norm == 1 else _squared_variation, _rules.masked(where, images, 3))
    return _rules.masked(where, loss)


# The rules keep the images as they came; autodiff keeps a float32 array or two of differences.
@_rules.recomputed
def _squared_variation(images: Array) -> Array:
    down, across = _differences(_rules.wide(images))
    return jnp.sum(jnp.square(down), axis=(-3, -2, -1)) + jnp.sum(jnp.square(across), axis=(-3, -2, -1))


@_rules.recomputed
def _absolute_variation(images: Array) -> Array:
    down, across = _differences(_rules.wide(images))
    return jnp.sum(_size(down), axis=(-3, -2, -1)) + jnp.sum(_size(across), axis=(-3, -2, -1))


def _size(d: Array) -> Array:
    """|d| with derivative 0 at 0, where that of `jnp.abs` is 1: neighbours that are equal pull at neither."""
    return d * jnp.sign(d)


def _differences(images: Array) -> tuple[Array, Array]:
    """Of each pixel to the one above it, and to the one on its left."""
    return jnp.diff(images, axis=-3), jnp.diff(images, axis=-2)


def gradient_difference_loss(
    predictions: Float[ArrayLike, "*batch height width channels"],
    targets: Float[ArrayLike, "*batch height width channels"],
    *,
    alpha: Float[ArrayLike, "..."] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The gradient difference loss: edges should be as strong as in the target; it sharpens what a squared error blurs.

    Formula: Σ ||y_{i,j} − y_{i−1,j}| − |p_{i,j} − p_{i−1,j}||^α + the same along the width, over all neighbours and
    channels. Derivative: with e = |Δp| − |Δy| for two neighbours, α |e|^(α−1) sign e · sign Δp by Δp, which is 0 at both
    kinks: a flat prediction is not moved by this loss alone. By α: |e|^α log |e|, 0 at e = 0.

    Args:
        predictions: images of any height and width.
        targets: the shape of `predictions`.
        alpha: α ≥ 1; one number, or one an image. Differentiable.
        where: which images count.

    Returns:
        One loss an image: a sum, which grows with the number of pixels.

    Raises:
        TypeError: `predictions`, `targets` or `alpha` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ or have fewer than three axes, `alpha` is below 1, or `alpha` or `where` does not
            broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> edge = jnp.array([[0.0, 1.0], [0.0, 1.0]])[..., None]
        >>> print(jaxloss.gradient_difference_loss(0.5 * edge, edge), jaxloss.gradient_difference_loss(1 - edge, edge))
        1.0 0.0

    References:
        Mathieu, Couprie and LeCun, Deep Multi-Scale Video Prediction beyond Mean Square Error, 2016
    """
    predictions, targets, where = _check.two_images(predictions, targets, where)
    batch = jax.ShapeDtypeStruct(predictions.shape[:-3], predictions.dtype)
    alpha = _check.option("alpha", alpha, batch, minimum=1, where=where)
    predictions, targets = (_rules.masked(where, x, 3) for x in (predictions, targets))
    loss = _rules.call(_gradient_difference, predictions, targets, alpha)
    return _rules.masked(where, loss)


# The rule keeps the images as they came; autodiff keeps ten float32 arrays.
@_rules.recomputed
def _gradient_difference(predictions: Array, targets: Array, alpha: Array) -> Array:
    p, y, alpha = (_rules.wide(x, predictions, targets, alpha) for x in (predictions, targets, alpha))
    loss = jnp.zeros((), p.dtype)
    for step, true_step in zip(_differences(p), _differences(y), strict=True):
        e = _size(_size(step) - _size(true_step))
        zero = e == 0
        power = jnp.where(zero, 1, e) ** alpha[..., None, None, None]
        loss = loss + jnp.sum(jnp.where(zero, 0, power), axis=(-3, -2, -1))
    return loss


def style_loss(
    predictions: Float[ArrayLike, "*batch height width channels"],
    targets: Float[ArrayLike, "*batch height width channels"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The style loss of one layer of a network: compares which features occur together, wherever they occur.

    Formula: Σ_{kl} (G_kl − A_kl)² / (4 c² (h w)²) with the Gram matrices G = FᵀF of the predicted and A = HᵀH of the
    target's features over their h w positions, as Gatys et al. normalise it; the weighted sum over layers is the caller's.
    Derivative by F: F (G − A) / (c h w)². G − A is formed as the symmetric part of (F − H)ᵀ(F + H), which does not cancel
    between similar features: equal ones give exactly 0.

    Args:
        predictions: a layer's features of the predicted images.
        targets: its features of the style images, of the shape of `predictions`.
        where: which images count.

    Returns:
        One loss an image.

    Raises:
        TypeError: `predictions` or `targets` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ or have fewer than three axes, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> features = jnp.array([[[1.0, 0.0], [0.0, 2.0]]])
        >>> print(jaxloss.style_loss(features, features[:, ::-1]), jaxloss.style_loss(0 * features, features))
        0.0 0.265625

    References:
        Gatys, Ecker and Bethge, Image Style Transfer Using Convolutional Neural Networks, 2016
    """
    predictions, targets, where = _check.two_images(predictions, targets, where)
    predictions, targets = (_rules.masked(where, x, 3) for x in (predictions, targets))
    loss = _rules.call(_style, predictions, targets)
    return _rules.masked(where, loss)


# The rule keeps the features as they came; autodiff keeps their sum and difference in float32.
@_rules.recomputed
def _style(predictions: Array, targets: Array) -> Array:
    *batch, height, width, channels = predictions.shape
    p, y = (_rules.wide(x, predictions, targets).reshape(*batch, height * width, channels) for x in (predictions, targets))
    product = jnp.matmul(jnp.swapaxes(p - y, -1, -2), p + y, precision="highest")
    # half of the symmetric part's double, and half of it again for the 4
    scaled = (product + jnp.swapaxes(product, -1, -2)) * (0.25 / max(height * width * channels, 1))
    return jnp.sum(jnp.square(scaled), axis=(-2, -1))


def perceptual_loss(
    predictions: PyTree[Float[ArrayLike, "..."]],
    targets: PyTree[Float[ArrayLike, "..."]],
    *,
    weights: PyTree[Float[ArrayLike, "..."]] | None = None,
    normalize: bool = False,
    batch_axes: int = 1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The perceptual loss: compares images by the features that a network sees in them, in place of their pixels.

    Formula: Σ_l Σ w_l (φ_l(p) − φ_l(y))² over layers l and all of a layer's features; Johnson's 1/(h w c) is for the
    weights. With `normalize`, as LPIPS: each vector of channels, the last axis, is first divided by its length (a zero
    vector stays), and a layer's positions are averaged, not summed: Σ_l mean_ij Σ_c w_lc (φ̂_lijc(p) − φ̂_lijc(y))².
    Derivative by φ_l(p): 2 w_l (φ_l(p) − φ_l(y)); with `normalize`, that by φ̂_l(p) without its part along φ_l(p), over
    ‖φ_l(p)‖, 0 at the zero vector. Unit vectors are rounded to 1e-7, so that the distance of nearly parallel ones is lost
    below about 1e-14.

    Args:
        predictions: the features of the predicted images: any pytree, such as a list of layers, of arrays that share their
            leading axes, those of the batch, and have any others after them; [batch, height, width, channels] mostly.
        targets: the features of the target images, of the same structure and shapes.
        weights: a pytree of the structure of `predictions`: for each layer a number or an array that broadcasts to its
            features, such as one number a channel; 1 by default. Differentiable.
        normalize: whether to compare directions of channel vectors, averaged over positions.
        batch_axes: how many leading axes are the batch's: 0 for the features of one image.
        where: which examples count; broadcasts to the batch.

    Returns:
        One loss an example.

    Raises:
        TypeError: features or weights are not floating point, `batch_axes` is no integer, or `where` is not boolean.
        ValueError: the structures, shapes or batches differ, there are no features, a layer has no axis of channels to
            normalize, or `weights` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> def features(images):  # of a network: edges, and brightness
        ...     return {"edges": jnp.diff(images, axis=2), "mean": images.mean((1, 2))}
        >>> black, edge = jnp.zeros((1, 2, 2, 1)), jnp.array([[0.0, 1.0], [0.0, 1.0]])[None, ..., None]
        >>> print(jaxloss.perceptual_loss(features(black), features(edge), weights={"edges": 0.5, "mean": 1.0}))
        [1.25]

    References:
        Johnson, Alahi and Fei-Fei, Perceptual Losses for Real-Time Style Transfer and Super-Resolution, 2016
        Zhang, Isola, Efros, Shechtman and Wang, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018
    """
    layers, structure = jax.tree.flatten_with_path(predictions)
    if not layers:
        raise ValueError(f"predictions must hold at least one array of features, got {structure}")
    others = _leaves("targets", targets, structure)
    factors = [1.0] * len(layers) if weights is None else _leaves("weights", weights, structure)
    axes, normalize = _check.count("batch_axes", batch_axes), _check.flag("normalize", normalize)
    # Of one example, so that the rules need not know which axes are the batch's.
    distance = functools.partial(_rules.call, _distance_of_directions if normalize else _squared_distance)
    for _ in range(axes):
        distance = jax.vmap(distance, in_axes=(0, 0, None))
    batch = jnp.shape(layers[0][1])[:axes]
    where = _check.mask(where, batch, "the examples")
    loss = jnp.zeros((), jnp.float32)
    for (path, p), y, weight in zip(layers, others, factors, strict=True):
        layer = jax.tree_util.keystr(path)
        p, y = _check.pair(f"predictions{layer}", p, f"targets{layer}", y)
        if p.ndim < axes + normalize or p.shape[:axes] != batch:
            end = " and an axis of channels" if normalize else ""
            raise ValueError(f"predictions{layer} must have {axes} batch axes, {batch}{end}, got shape {p.shape}")
        features = jax.ShapeDtypeStruct(p.shape[axes:], p.dtype)
        weight = _check.optional(f"weights{layer}", weight, features, of=f"a feature map of predictions{layer}")
        loss = loss + distance(*(_rules.masked(where, x, x.ndim - axes) for x in (p, y)), weight)
    return _rules.masked(where, loss)


def _leaves(name: str, tree: Any, structure: Any) -> list[Any]:
    """The leaves of a tree; ValueError unless it has the structure of the predictions."""
    leaves, own = jax.tree.flatten(tree)
    if own != structure:
        raise ValueError(f"{name} must have the structure of predictions, {structure}, got {own}")
    return leaves


# The rules keep the features as they came; autodiff keeps one float32 array of their size, or six.
@_rules.recomputed
def _squared_distance(p: Array, y: Array, weight: Array) -> Array:
    p, y, weight = (_rules.wide(x, p, y, weight) for x in (p, y, weight))
    return jnp.sum(weight * jnp.square(p - y))


@_rules.recomputed
def _distance_of_directions(p: Array, y: Array, weight: Array) -> Array:
    p, y, weight = (_rules.wide(x, p, y, weight) for x in (p, y, weight))
    positions = max(p.size // max(p.shape[-1], 1), 1)
    return jnp.sum(weight * jnp.square(_vectors.unit(p) - _vectors.unit(y))) / positions
