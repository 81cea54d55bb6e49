"""Distances of distributions that know how far apart their values are: transport, kernels and energies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxloss import _check, _reduction, _rules, _vectors


def wasserstein_distance_1d(
    predictions: Float[ArrayLike, "*batch bins"],
    targets: Real[ArrayLike, "*batch bins"] | Bool[ArrayLike, "*batch bins"],
    *,
    positions: Float[ArrayLike, "..."] | None = None,
    from_samples: bool = False,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The Wasserstein-1 or earth mover's distance on a line: the least mass times way that makes one into the other.

    Formula: of histograms Σₖ |Pₖ − Yₖ| (xₖ₊₁ − xₖ) with the cumulated masses P and Y and the positions x of the bins; of
    samples the mean of |p₍ᵢ₎ − y₍ᵢ₎| in order of size. Derivative: by the mass of bin j: Σ over k ≥ j of
    sign(Pₖ − Yₖ) (xₖ₊₁ − xₖ); by a sample: sign(p₍ᵢ₎ − y₍ᵢ₎)/n; both with sign 0 = 0 at ties. Symmetric. A histogram's
    P − Y is summed from the differences; it is within a few units in the last place of Σₖ |pₖ − yₖ|.

    This is transport on a line, where it has a closed form. For point clouds, other costs and entropic transport, see the
    package ott-jax.

    Args:
        predictions: the mass of each bin, with one total for both histograms; or, `from_samples`, n values in any order.
        targets: the same of the other distribution, of the shape of `predictions`.
        positions: x, ascending, where the bins are: one number a bin, or what broadcasts to `predictions`,
            differentiable. None: 0, 1, 2, ...; for bins of one width the distance is that times the width.
        from_samples: whether the arguments are samples.
        axis: the axis of the bins or of the samples.
        where: which examples count.

    Returns:
        One loss an example, in the unit of the positions or of the samples.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `positions` is no number, or `where` is not boolean.
        ValueError: the shapes differ, `positions` or `where` does not broadcast, `positions` are given for samples, or
            `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.wasserstein_distance_1d(jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 0.5, 0.5])))
        1.5
        >>> print(jaxloss.wasserstein_distance_1d(jnp.array([3.0, 1.0]), jnp.array([1.5, 3.5]), from_samples=True))
        0.5

    References:
        Vallender, Calculation of the Wasserstein Distance Between Probability Distributions on the Line, 1974
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    given = predictions
    predictions = _check.class_last("predictions", predictions, axis)
    targets = _check.class_last("targets", targets, axis)
    where = _check.mask(where, predictions.shape[:-1], "the examples")
    if _check.flag("from_samples", from_samples):
        if positions is not None:
            raise ValueError("positions must be None with from_samples=True: they are those of the bins of histograms")
        return _rules.call(_of_samples, predictions, targets, where)
    if positions is not None and jnp.ndim(positions) > 1:  # else it is one number a bin, whichever axis they are on
        wide = _check.option("positions", positions, given, of="predictions")
        positions = jnp.moveaxis(jnp.broadcast_to(wide, given.shape), axis, -1)
    positions = _check.optional("positions", positions, predictions, of="predictions")
    return _rules.call(_of_histograms, predictions, targets, positions, where)


def _masked_pair(x: Array, y: Array, where: Any) -> tuple[Array, Array]:
    """Both in float32 or wider, and 0 where `where` leaves a row out."""
    return _rules.masked(where, _rules.wide(x, y), 1), _rules.masked(where, _rules.wide(y, x), 1)


def _size(x: Array) -> Array:
    """|x|, with derivative 0 at 0."""
    return x * lax.stop_gradient(jnp.sign(x))


# All losses here are recomputed for the backward pass, which keeps the inputs as they came.
@_rules.recomputed
def _of_samples(p: Array, y: Array, where: Any) -> Array:
    p, y = _masked_pair(p, y, where)
    return jnp.mean(_size(jnp.sort(p, axis=-1) - jnp.sort(y, axis=-1)), axis=-1)


@_rules.recomputed
def _of_histograms(p: Array, y: Array, positions: Any, where: Any) -> Array:
    p, y = _masked_pair(p, y, where)
    # Without the last: what the totals differ by has nowhere to go.
    ahead = _size(jnp.cumsum(p - y, axis=-1)[..., :-1])
    if positions is not None:
        positions = jnp.broadcast_to(positions.astype(ahead.dtype), p.shape)
        positions = _rules.masked(where, positions, 1)
        ahead = ahead * jnp.diff(positions, axis=-1)
    return jnp.sum(ahead, axis=-1)


@_reduction.coupled(event=1, axis=-2)
def maximum_mean_discrepancy(
    predictions: Float[ArrayLike, "*batch samples dim"],
    targets: Real[ArrayLike, "*batch samples dim"] | Bool[ArrayLike, "*batch samples dim"],
    *,
    bandwidth: Float[ArrayLike, "..."] = 1.0,
    unbiased: bool = False,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The squared maximum mean discrepancy of two samples under a Gaussian kernel: 0 only for equal distributions.

    Formula: mean k(xᵢ, xⱼ) + mean k(yᵢ, yⱼ) − 2 mean k(xᵢ, yⱼ) with k(a, b) = exp(−‖a − b‖²/(2σ²)); unbiased, the first two
    means are over i ≠ j, and the estimate may be negative. The square, not its root, which has a kink at 0. Derivative
    of k(a, b) by a: −k(a, b) (a − b)/σ². For several bandwidths, add the losses. It is a difference of means up to 1:
    within 4 units in the last place of 1.

    Memory: blocks of a few megabytes in the place of n × n × D differences. The backward pass keeps the inputs alone.

    Args:
        predictions: n samples x of D numbers.
        targets: n samples y, of the shape of `predictions`.
        bandwidth: σ > 0, in the unit of the samples; broadcasts to the examples, differentiable. The median distance of
            the samples is a common choice.
        unbiased: whether to leave out the pairs of a sample with itself.
        where: which samples count, of x and y alike; broadcasts to `predictions` without its last axis.

    Returns:
        One loss an example, from 0 to 2; 0 where no sample counts, or, unbiased, one.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `bandwidth` is no number, or `where` is not boolean.
        ValueError: the shapes differ or have no sample axis, `bandwidth` or `where` does not broadcast, or `bandwidth`
            is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [2.0]])
        >>> print(jaxloss.maximum_mean_discrepancy(x, y))
        0.196735

    References:
        Gretton et al., A Kernel Two-Sample Test, 2012
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    _check.samples("predictions", predictions)
    where = _check.mask(where, predictions.shape[:-1], "the samples")
    batch = _check.examples(predictions[..., 0])
    bandwidth = _check.option("bandwidth", bandwidth, batch, above=0, where=_rules.of_examples(where))
    rule = _unbiased_discrepancy if _check.flag("unbiased", unbiased) else _biased_discrepancy
    return _rules.call(rule, predictions, targets, bandwidth, where)


def _discrepancy(x: Array, y: Array, bandwidth: Array, where: Any, *, unbiased: bool) -> Array:
    x, y = _masked_pair(x, y, where)
    bandwidth = _rules.harmless(_rules.of_examples(where), bandwidth)
    scale = 0.5**0.5 / bandwidth.astype(x.dtype)[..., None, None]

    def kernel(difference: Array) -> Array:
        return jnp.exp(-jnp.sum(jnp.square(difference), axis=-1))

    x, y = (_rules.call(_rounded, z * scale) for z in (x, y))
    return _within_less_across(kernel, x, y, where, unbiased=unbiased)


_BLOCK = 2**19  # numbers in a block of differences: 2 MB in float32


def _within_less_across(kernel: Callable[[Array], Array], x: Array, y: Array, where: Any, *, unbiased: bool) -> Array:
    """mean k(xᵢ − xⱼ) + mean k(yᵢ − yⱼ) − 2 mean k(xᵢ − yⱼ), the first two over i ≠ j if unbiased."""
    n = x.shape[-2]

    def kernels(a: Array, b: Array) -> Array:
        return kernel(_rules.call(_rounded, a - b))

    counts = jnp.ones(x.shape[:-1], bool) if where is None else jnp.broadcast_to(where, x.shape[:-1])

    # Row by row, each recomputed for its gradient, so that only a block of differences is there at a time. Pair by pair
    # what equal samples have in common goes first: their distance and its gradient are exactly 0.
    @_rules.recomputed
    def row(own_x: Array, own_y: Array, own: Array, x: Array, y: Array, counts: Array) -> tuple[Array, ...]:
        # Broadcast by hand, so that the gradients of a pair's distances meet before they are summed.
        own_x, own_y = (jnp.broadcast_to(z[..., None, :], x.shape) for z in (own_x, own_y))
        pairs = counts & (jnp.arange(n) != own) if unbiased else counts
        x_to_y, y_to_x = kernels(own_x, y), kernels(own_y, x)
        excess = (kernels(own_x, x) - x_to_y) + (kernels(own_y, y) - y_to_x)
        if not unbiased:
            return (jnp.sum(jnp.where(pairs, excess, 0), axis=-1),)
        across = x_to_y + y_to_x
        itself = jnp.where(counts & ~pairs, across, 0)
        return tuple(jnp.sum(terms, axis=-1) for terms in (jnp.where(pairs, excess, 0), jnp.where(pairs, across, 0), itself))

    rows = (jnp.moveaxis(x, -2, 0), jnp.moveaxis(y, -2, 0), jnp.arange(n))
    size = max(1, _BLOCK // max(x.size, 1))

    def of_row(own: tuple[Array, Array, Array]) -> tuple[Array, ...]:
        return _rules.call(row, *own, x, y, counts)

    sums = jax.vmap(of_row)(rows) if size >= n else lax.map(of_row, rows, batch_size=size)
    excess, *rest = (jnp.sum(jnp.where(counts, jnp.moveaxis(s, 0, -1), 0), axis=-1) for s in sums)
    number = jnp.maximum(jnp.sum(counts, axis=-1).astype(x.dtype), 1)
    if not unbiased:
        return excess / jnp.square(number)
    across, itself = rest  # of i ≠ j, of i = j
    others = jnp.maximum(number - 1, 1)
    difference = excess / (number * others) + (across / others - itself) / jnp.square(number)
    return jnp.where(number > 1, difference, 0)


@jax.custom_vjp
def _rounded(x: Array) -> Array:
    """`x`, rounded before it is added to another, and its gradient: XLA leaves one of two products in a sum unrounded."""
    return _selected(x)


@jax.custom_jvp
def _selected(x: Array) -> Array:
    return jnp.where(x == 0, 0, x)


_selected.defjvps(lambda tangent, _, x: tangent)
_rounded.defvjp(lambda x: (_selected(x), None), lambda _, cotangent: (_selected(cotangent),))


def _never_negative(x: Array) -> Array:
    """What only rounding takes below 0, with the gradient that it has."""
    return x + lax.stop_gradient(jnp.where(x < 0, -x, 0))


@_rules.recomputed
def _biased_discrepancy(x: Array, y: Array, bandwidth: Array, where: Any) -> Array:
    return _never_negative(_discrepancy(x, y, bandwidth, where, unbiased=False))


@_rules.recomputed
def _unbiased_discrepancy(x: Array, y: Array, bandwidth: Array, where: Any) -> Array:
    return _discrepancy(x, y, bandwidth, where, unbiased=True)


@_reduction.coupled(event=1, axis=-2)
def energy_distance(
    predictions: Float[ArrayLike, "*batch samples dim"],
    targets: Real[ArrayLike, "*batch samples dim"] | Bool[ArrayLike, "*batch samples dim"],
    *,
    unbiased: bool = False,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The energy distance of two samples: as the discrepancy with −‖a − b‖ for a kernel, so that no bandwidth is chosen.

    Formula: 2 mean ‖xᵢ − yⱼ‖ − mean ‖xᵢ − xⱼ‖ − mean ‖yᵢ − yⱼ‖; unbiased, the last two means are over i ≠ j, and the
    estimate may be negative. The square of what scipy calls so, whose root has a kink at 0. Derivative of ‖a − b‖ by a:
    (a − b)/‖a − b‖, and 0 where they coincide. It is a difference of means: within 4 units in the last place of the
    mean ‖xᵢ − yⱼ‖.

    Memory: blocks of a few megabytes in the place of n × n × D differences. The backward pass keeps the inputs alone.

    Args:
        predictions: n samples x of D numbers.
        targets: n samples y, of the shape of `predictions`.
        unbiased: whether to leave out the pairs of a sample with itself.
        where: which samples count, of x and y alike; broadcasts to `predictions` without its last axis.

    Returns:
        One loss an example, in the unit of the samples; 0 where no sample counts, or, unbiased, one.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ or have no sample axis, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.energy_distance(jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [2.0]])))
        0.5

    References:
        Székely and Rizzo, Energy Statistics: A Class of Statistics Based on Distances, 2013
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    _check.samples("predictions", predictions)
    where = _check.mask(where, predictions.shape[:-1], "the samples")
    rule = _unbiased_energy if _check.flag("unbiased", unbiased) else _biased_energy
    return _rules.call(rule, predictions, targets, where)


def _energy(x: Array, y: Array, where: Any, *, unbiased: bool) -> Array:
    x, y = _masked_pair(x, y, where)
    return -_within_less_across(_vectors.norm, x, y, where, unbiased=unbiased)


@_rules.recomputed
def _biased_energy(x: Array, y: Array, where: Any) -> Array:
    return _never_negative(_energy(x, y, where, unbiased=False))


@_rules.recomputed
def _unbiased_energy(x: Array, y: Array, where: Any) -> Array:
    return _energy(x, y, where, unbiased=True)
