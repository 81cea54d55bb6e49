"""Structural similarity of images [..., height, width, channel], at one scale and at several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxloss import _check, _rules

# Both losses are one minus a similarity, and neither is computed so: from the sum and the difference of the two images,
# every part of what is lacking to 1 is a ratio of terms ≥ 0, which is exactly 0 for equal images.


def ssim_loss(
    predictions: Float[ArrayLike, "*batch height width channels"],
    targets: Float[ArrayLike, "*batch height width channels"],
    *,
    data_range: Float[ArrayLike, "..."] = 1.0,
    sigma: float = 1.5,
    window_size: int = 11,
    k1: Float[ArrayLike, "..."] = 0.01,
    k2: Float[ArrayLike, "..."] = 0.03,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """One minus the structural similarity: compares local means, contrasts and patterns in place of single pixels.

    Formula: 1 − mean of (2 μ_p μ_y + C₁)(2 σ_py + C₂) / ((μ_p² + μ_y² + C₁)(σ_p² + σ_y² + C₂)) over the channels and all
    positions at which the window lies inside the image, with C = (k L)², and means, variances and covariance of the
    population under a Gaussian window. Taken as a + b (1 − a) with a = (μ_p − μ_y)²/(μ_p² + μ_y² + C₁) and
    b = Var(p − y)/(σ_p² + σ_y² + C₂), which does not cancel between similar images. Derivative: by JAX, through that form;
    0 for equal images. As scikit-image's `structural_similarity` with `gaussian_weights=True` and
    `use_sample_covariance=False`.

    A variance is a mean of squares less a squared mean, both about the mean of the whole image: its rounding error is that
    of (local mean − image mean)², which for black beside white is up to 1e-4 of C₂ at a position. In photographs that leaves
    the loss within 2e-6 of itself, however small, and the gradient within 1e-4 of its largest component.

    Args:
        predictions: images, at least `window_size` high and wide.
        targets: the shape of `predictions`.
        data_range: L, the distance from the smallest to the largest possible value, > 0: 1 for images in [0, 1], 2 for
            [−1, 1], 255 for bytes; one number, or one an image. Differentiable, as k1 and k2 are.
        sigma: the standard deviation of the window, in pixels, > 0; a plain number.
        window_size: its width in pixels, odd; scikit-image takes 2·round(3.5 σ) + 1.
        k1: steadies the ratio of the means, > 0; one number, or one an image.
        k2: steadies the ratio of the variances, > 0; one number, or one an image.
        where: which images count.

    Returns:
        One loss an image, from 0 to 2.

    Raises:
        TypeError: images or an option are not floating point, `window_size` is no integer, or `where` is not boolean.
        ValueError: the shapes differ, the images are no images or smaller than the window, an option is out of its domain,
            or an option or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> ramp = jnp.linspace(0.0, 1.0, 16 * 16).reshape(16, 16, 1)
        >>> print(jaxloss.ssim_loss(jnp.stack([ramp, ramp]), jnp.stack([ramp, ramp**2])))
        [0.         0.2208]

    References:
        Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment: From Error Visibility to Structural Similarity, 2004
    """
    predictions, targets, where = _check.two_images(predictions, targets, where)
    window, c1, c2 = _constants(predictions, data_range, sigma, window_size, k1, k2, where)
    _fits(predictions, window, 1)
    predictions, targets = (_rules.masked(where, x, 3) for x in (predictions, targets))
    loss = _rules.call(_ssim, predictions, targets, window, c1, c2)
    return _rules.masked(where, loss)


def ms_ssim_loss(
    predictions: Float[ArrayLike, "*batch height width channels"],
    targets: Float[ArrayLike, "*batch height width channels"],
    *,
    data_range: Float[ArrayLike, "..."] = 1.0,
    weights: Float[ArrayLike, "scales"] | Sequence[float] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333),
    sigma: float = 1.5,
    window_size: int = 11,
    k1: Float[ArrayLike, "..."] = 0.01,
    k2: Float[ArrayLike, "..."] = 0.03,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """One minus the structural similarity at several scales: insensitive to the distance an image is looked at from.

    Formula: 1 − mean over the channels of Π_j cs_j^w_j · ssim_M^w_M: the contrast and structure term
    (2 σ_py + C₂)/(σ_p² + σ_y² + C₂) of the scales before the last, and the whole similarity of the last, each averaged over
    all positions at which the window lies inside the image. Each scale is the one before averaged over squares of 2 × 2
    pixels; an odd row or column at the end is left out. Taken as −expm1(Σ_j w_j log1p(−(1 − cs_j))), each 1 − cs_j as in
    `ssim_loss`, whose error bound holds. Derivative: by JAX, through that form; 0 for equal images, and 0 in a channel where
    a term of non-zero weight is not positive: there its power is taken as 0.

    Args:
        predictions: images, at least `window_size` · 2^(scales − 1) pixels high and wide: 176 by default.
        targets: the shape of `predictions`.
        data_range: L, the distance from the smallest to the largest possible value, > 0: 1 for images in [0, 1], 2 for
            [−1, 1], 255 for bytes; one number, or one an image. Differentiable, as k1, k2 and `weights` are.
        weights: the exponent of each scale, ≥ 0, the finest first; Wang's by default, which sum to 1.
        sigma: the standard deviation of the window, in pixels of each scale, > 0; a plain number.
        window_size: its width in pixels, odd.
        k1: steadies the ratio of the means, > 0; one number, or one an image.
        k2: steadies the ratio of the variances, > 0; one number, or one an image.
        where: which images count.

    Returns:
        One loss an image, from 0 to 1.

    Raises:
        TypeError: images or an option are not floating point, `window_size` is no integer, or `where` is not boolean.
        ValueError: the shapes differ, the images are no images or too small for that many scales, an option is out of its
            domain, or an option or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> ramp = jnp.linspace(0.0, 1.0, 176 * 176).reshape(176, 176, 1)
        >>> print(jaxloss.ms_ssim_loss(jnp.stack([ramp, ramp]), jnp.stack([ramp, ramp**2])))
        [0.         0.0748]

    References:
        Wang, Simoncelli and Bovik, Multiscale Structural Similarity for Image Quality Assessment, 2003
    """
    predictions, targets, where = _check.two_images(predictions, targets, where)
    exponents = _check.option("weights", weights, predictions, minimum=0, shape=np.shape(weights))
    if exponents.ndim != 1 or exponents.size == 0:
        raise ValueError(f"weights must be one number a scale, got shape {exponents.shape}")
    window, c1, c2 = _constants(predictions, data_range, sigma, window_size, k1, k2, where)
    _fits(predictions, window, exponents.size)
    predictions, targets = (_rules.masked(where, x, 3) for x in (predictions, targets))
    loss = _rules.call(_ms_ssim, predictions, targets, window, c1, c2, exponents)
    return _rules.masked(where, loss)


def _constants(
    images: Array, data_range: Any, sigma: Any, window_size: Any, k1: Any, k2: Any, where: Any
) -> tuple[Array, ...]:
    """The Gaussian window along one axis, and C₁ and C₂, which broadcast to images with their channels first."""
    size = _check.count("window_size", window_size)
    if size % 2 == 0:
        raise ValueError(f"window_size must be odd, got {size}")
    batch = jax.ShapeDtypeStruct(images.shape[:-3], images.dtype)
    if not isinstance(sigma, int | float | np.floating | np.integer):
        raise TypeError(f"sigma must be a plain number, got {sigma!r}")
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    window = np.exp(-0.5 * np.square((np.arange(size) - size // 2) / sigma))
    scale = _check.option("data_range", data_range, batch, above=0, where=where)
    ratios = _check.option("k1", k1, batch, above=0, where=where), _check.option("k2", k2, batch, above=0, where=where)
    scale, *ratios = (_rules.harmless(where, x) for x in (scale, *ratios))
    c1, c2 = (jnp.square(k * scale)[..., None, None, None] for k in ratios)
    return jnp.asarray(window / np.sum(window)), c1, c2


def _fits(images: Array, window: Array, scales: int) -> None:
    """ValueError unless the images are as large as the window at the last scale."""
    smallest = window.size * 2 ** (scales - 1)
    if min(images.shape[-3:-1]) < smallest:
        raise ValueError(
            f"predictions must be at least {smallest} pixels high and wide, for a window of {window.size} and {scales} "
            f"scale(s), got shape {images.shape} for [..., height, width, channels]"
        )


# The rules keep the images as they came. Autodiff keeps more than ten float32 arrays of their size, and is not faster.
@_rules.recomputed
def _ssim(x: Array, y: Array, window: Array, c1: Array, c2: Array) -> Array:
    loss, _ = _dissimilarities(*_sum_and_difference(x, y, c1, c2), window, c1, c2)
    return jnp.mean(loss, axis=-1)


@_rules.recomputed
def _ms_ssim(x: Array, y: Array, window: Array, c1: Array, c2: Array, weights: Array) -> Array:
    s, d = _sum_and_difference(x, y, c1, c2, weights)
    exponent, dead = jnp.zeros((), s.dtype), jnp.zeros((), bool)
    for j in range(weights.size):
        if j > 0:
            s, d = _halved(s), _halved(d)
        whole, of_contrast = _dissimilarities(s, d, window, c1, c2)
        lacking = whole if j == weights.size - 1 else of_contrast
        positive = ~(lacking >= 1)
        exponent = exponent + weights[j] * jnp.log1p(-jnp.where(positive, lacking, 0))
        dead |= ~positive & (weights[j] > 0)
    return jnp.mean(jnp.where(dead, 1, -jnp.expm1(exponent)), axis=-1)


def _sum_and_difference(x: Array, y: Array, *options: Array) -> tuple[Array, Array]:
    """p + y and p − y with the channels first, in float32 or wider."""
    x, y = (jnp.moveaxis(_rules.wide(z, x, y, *options), -1, -3) for z in (x, y))
    return x + y, x - y


def _halved(z: Array) -> Array:
    """The means of squares of 2 × 2 pixels."""
    *batch, height, width = z.shape
    z = z[..., : height // 2 * 2, : width // 2 * 2].reshape(*batch, height // 2, 2, width // 2, 2)
    return jnp.mean(z, axis=(-3, -1))


def _dissimilarities(s: Array, d: Array, window: Array, c1: Array, c2: Array) -> tuple[Array, Array]:
    """1 − SSIM and 1 − its contrast and structure term, a mean over the positions for each channel."""
    mean_s, variance_s = _moments(s, window)
    mean_d, variance_d = _moments(d, window)
    # With μ_p² + μ_y² = (μ_s² + μ_d²)/2 and 2 μ_p μ_y = (μ_s² − μ_d²)/2; likewise for the variances and the covariance.
    squared_s, squared_d = 0.5 * mean_s * mean_s, 0.5 * mean_d * mean_d
    of_means = 1 / (squared_s + squared_d + c1)
    of_contrast = variance_d / (0.5 * (variance_s + variance_d) + c2)
    loss = 2 * squared_d * of_means + of_contrast * ((squared_s - squared_d + c1) * of_means)
    return jnp.mean(loss, axis=(-2, -1)), jnp.mean(of_contrast, axis=(-2, -1))


def _moments(z: Array, window: Array) -> tuple[Array, Array]:
    """The local means and variances, about the mean of the image: a shift changes no derivative."""
    centre = lax.stop_gradient(jnp.mean(z, axis=(-2, -1), keepdims=True))
    z = z - centre
    mean = _blurred(z, window)
    return centre + mean, _blurred(z * z, window) - mean * mean


def _blurred(z: Array, window: Array) -> Array:
    """The windowed means at all positions inside the image: two banded matrix products, many times a convolution's speed."""
    rows, columns = (_band(window.astype(z.dtype), n) for n in z.shape[-2:])
    return jnp.matmul(rows, jnp.matmul(z, columns.T, precision="highest"), precision="highest")


def _band(window: Array, size: int) -> Array:
    """The matrix that slides the window along an axis."""
    offset = np.arange(size) - np.arange(size - window.size + 1)[:, None]
    inside = (offset >= 0) & (offset < window.size)
    return jnp.where(inside, window[np.where(inside, offset, 0)], 0)
