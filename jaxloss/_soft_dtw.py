"""Soft dynamic time warping: the cost of aligning two sequences, as a soft minimum over all alignments.

An alignment goes through the grid of pairs (i, j) from (0, 0) to the last, by steps down, right and diagonally. The
recursion runs over the anti-diagonals i + j, on which all pairs are known at once, with the masses e^(−cost/γ) of the
alignments kept as mantissa and exponent (`_scaled.py`).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real

from jaxloss import _check, _grid, _numerics, _rules, _scaled, _values


def soft_dtw_loss(
    predictions: Float[ArrayLike, "*batch steps features"],
    targets: Real[ArrayLike, "*batch steps2 features"] | Bool[ArrayLike, "*batch steps2 features"],
    *,
    gamma: Float[ArrayLike, "..."] = 1.0,
    prediction_lengths: Int[ArrayLike, "*batch"] | None = None,
    target_lengths: Int[ArrayLike, "*batch"] | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The soft-DTW cost of two sequences: the squared error under the best alignments in time; it may be negative.

    Formula: −γ log Σ_A e^(−⟨A, D⟩/γ) over the alignments A, with D_ij = ‖x_i − y_j‖²; it tends to the least ⟨A, D⟩ as γ
    tends to 0. Derivative by D_ij: the posterior probability E_ij that the alignment goes through (i, j), so by x_i:
    Σ_j 2 E_ij (x_i − y_j); by γ: (loss − ⟨E, D⟩)/γ, which is less the entropy of the alignments.

    A loss above γ · 1.8e8 is inf, with derivative 0. The backward pass keeps three numbers a pair. For a loss that is 0
    for equal sequences, take `soft_dtw_divergence`.

    Args:
        predictions: a sequence of vectors x_i.
        targets: a sequence of vectors y_j, of any length.
        gamma: γ > 0, the softness, in the unit of D; broadcasts to the batch.
        prediction_lengths: how many of the steps count, the first ones; None for all.
        target_lengths: the same of the targets.
        where: which pairs of sequences count.

    Returns:
        One loss a pair of sequences, in the data's unit squared.

    Raises:
        TypeError: `predictions` is not floating point, `targets` no numbers, lengths no integers, or `where` not boolean.
        ValueError: the shapes do not fit, a sequence has no steps, `gamma` is not above 0, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> late = jnp.array([[0.0], [0.0], [1.0], [2.0]])
        >>> print(jaxloss.soft_dtw_loss(late, jnp.array([[0.0], [1.0], [2.0]]), gamma=0.01).round(3))
        -0.0

    References:
        Cuturi and Blondel, Soft-DTW: a Differentiable Loss Function for Time-Series, 2017
    """
    flat, gamma, ends, batch, where = _checked(predictions, targets, gamma, prediction_lengths, target_lengths, where)
    costs = _rules.call(_costs, *flat, *ends)
    return _rules.masked(where, _aligned(costs, gamma, *ends).reshape(batch))


def soft_dtw_divergence(
    predictions: Float[ArrayLike, "*batch steps features"],
    targets: Real[ArrayLike, "*batch steps2 features"] | Bool[ArrayLike, "*batch steps2 features"],
    *,
    gamma: Float[ArrayLike, "..."] = 1.0,
    prediction_lengths: Int[ArrayLike, "*batch"] | None = None,
    target_lengths: Int[ArrayLike, "*batch"] | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The soft-DTW divergence: 0 for equal sequences and, up to rounding, positive for others.

    Formula: s(x, y) − ½ s(x, x) − ½ s(y, y), with s the soft-DTW cost. Derivative: by those of the three.

    Args:
        predictions: a sequence of vectors x_i.
        targets: a sequence of vectors y_j, of any length.
        gamma: γ > 0, the softness, in the unit of the squared error; broadcasts to the batch.
        prediction_lengths: how many of the steps count, the first ones; None for all.
        target_lengths: the same of the targets.
        where: which pairs of sequences count.

    Returns:
        One divergence a pair of sequences, in the data's unit squared. It is a difference of costs: its error is a few
        ulp of the largest of them.

    Raises:
        TypeError: `predictions` is not floating point, `targets` no numbers, lengths no integers, or `where` not boolean.
        ValueError: the shapes do not fit, a sequence has no steps, `gamma` is not above 0, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> print(jaxloss.soft_dtw_divergence(x, x))
        0.0

    References:
        Blondel, Mensch and Vert, Differentiable Divergences Between Time Series, 2021
    """
    flat, gamma, ends, batch, where = _checked(predictions, targets, gamma, prediction_lengths, target_lengths, where)
    rows, columns = ends
    across, of_predictions, of_targets = _rules.call(_costs_of_both, *flat, rows, columns)
    own = _aligned(of_predictions, gamma, rows, rows) + _aligned(of_targets, gamma, columns, columns)
    return _rules.masked(where, (_aligned(across, gamma, rows, columns) - 0.5 * own).reshape(batch))


def _checked(predictions: Any, targets: Any, gamma: Any, rows: Any, columns: Any, where: Any) -> Any:
    predictions, targets = _check.floating("predictions", predictions), _check.number("targets", targets)
    shape, other = predictions.shape, targets.shape
    if len(shape) < 2 or 0 in shape[-2:]:
        raise ValueError(f"predictions must have the axes steps and features, neither of them empty, got shape {shape}")
    batch = tuple(shape[:-2])
    if len(other) != len(shape) or other[:-2] != batch or other[-1] != shape[-1] or other[-2] == 0:
        raise ValueError(f"targets must have the shape {(*batch, 'steps', shape[-1])}, with a step at least, got {other}")
    where = _check.mask(where, batch, "the sequences")
    gamma = _check.option("gamma", gamma, jax.ShapeDtypeStruct(batch, predictions.dtype), above=0, where=where)
    ends = _lengths("prediction_lengths", rows, shape, where), _lengths("target_lengths", columns, other, where)
    gamma = jnp.broadcast_to(_rules.harmless(where, gamma), batch)
    given = _rules.masked(where, predictions, 2), _rules.masked(where, targets, 2), gamma, *ends
    x, y, gamma, *lengths = (a.reshape(math.prod(batch), *a.shape[len(batch) :]) for a in given)
    return (x, y), gamma, lengths, batch, where


def _lengths(name: str, lengths: Any, shape: tuple[int, ...], where: Array | None) -> Array:
    """How many steps count of each sequence."""
    if lengths is None:
        return jnp.full(shape[:-2], shape[-2])
    lengths = _check.integer(name, lengths)
    if lengths.shape != shape[:-2]:
        raise ValueError(f"{name} must have the shape {shape[:-2]}, got {lengths.shape}")
    if where is not None:
        lengths = jnp.where(where, lengths, 1)
    _values.within(name, lengths, 1, shape[-2], None)
    return lengths


def _aligned(costs: Array, gamma: Array, rows: Array, columns: Array) -> Array:
    dtype = _rules.wide_dtype(costs, gamma)
    return _rules.call(_soft_dtw, costs.astype(dtype), gamma.astype(dtype), rows, columns)


# Recomputed: autodiff would keep all differences, [B, N, M, features].
@_rules.recomputed
def _costs(x: Array, y: Array, rows: Array, columns: Array) -> Array:
    return _distances(x, y, rows, columns)


@_rules.recomputed  # in one, so that the cotangents from the three costs are summed before they are rounded
def _costs_of_both(x: Array, y: Array, rows: Array, columns: Array) -> tuple[Array, Array, Array]:
    x, y = _rules.wide(x, y), _rules.wide(y, x)
    return _distances(x, y, rows, columns), _distances(x, x, rows, rows), _distances(y, y, columns, columns)


def _distances(x: Array, y: Array, rows: Array, columns: Array) -> Array:
    """The squared distances of all pairs, 0 outside the lengths whatever is there."""
    x, y = _rules.wide(x, y), _rules.wide(y, x)
    x = jnp.where((jnp.arange(x.shape[1]) < rows[:, None])[..., None], x, 0)
    y = jnp.where((jnp.arange(y.shape[1]) < columns[:, None])[..., None], y, 0)
    return jnp.sum(jnp.square(x[:, :, None] - y[:, None]), axis=-1)


@jax.custom_vjp
def _soft_dtw(costs: Array, gamma: Array, rows: Array, columns: Array) -> Array:
    return _soft_dtw_value(costs, gamma, rows, columns)


def _exponents(costs: Array, gamma: Array) -> Array:
    """−D/γ by diagonals, −inf outside the grid."""
    return _grid.diagonals(-costs / gamma[:, None, None], -jnp.inf)


def _at_end(d: Array, rows: Array, columns: Array, width: int) -> Array:
    """Where the last pair is on diagonal d, [B, M]."""
    return (d == rows + columns - 2)[:, None] & (jnp.arange(width) == columns[:, None] - 1)


def _forward(costs: Array, gamma: Array, rows: Array, columns: Array) -> tuple[Array, Array, Array]:
    """The loss and, of the mass that comes to each pair, the share of a step right, and of the rest that of one down."""
    x = _exponents(costs, gamma)
    depth, batch, width = x.shape
    none = _scaled.zeros((batch, width), x.dtype)
    # Before the first pair, all mass is at the corner above and left of it.
    corner = none._replace(exponent=none.exponent.at[:, 0].set(0))

    def body(carry: Any, at: Any) -> tuple[Any, Any]:
        masses, corner, end = carry
        d, x = at
        left = _scaled.after(jax.tree.map(lambda x: x[:, :-1], masses))
        above, down = _scaled.add(corner, masses)
        total, right = _scaled.add(above, left)
        new = _scaled.times_exp(total, x)
        return (new, left, _scaled.select(_at_end(d, rows, columns, width), new, end)), (right, down)

    carry, x = _rules.alike(((none, corner, none), x))
    (_, _, end), (right, down) = lax.scan(body, carry, (jnp.arange(depth), x))
    mass = jax.tree.map(lambda x: jnp.take_along_axis(x, columns[:, None] - 1, axis=1)[:, 0], end)
    # A cost that is NaN counts as no mass.
    loss = jnp.where(jnp.any(jnp.isnan(costs), axis=(1, 2)), jnp.nan, -gamma * _scaled.log(mass))
    return loss, right, down


@jax.custom_jvp
def _soft_dtw_value(costs: Array, gamma: Array, rows: Array, columns: Array) -> Array:
    return _forward(costs, gamma, rows, columns)[0]


# Bit patterns have no derivative, so that JAX's own are taken of the recursion in log space. It serves `autodiff` and
# second derivatives.
@_soft_dtw_value.defjvp
def _soft_dtw_value_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    costs, gamma, *ends = primals
    _, tangent = jax.jvp(lambda d, g: _log_space(d, g, *ends), (costs, gamma), tangents[:2])
    return _soft_dtw_value(*primals), tangent


@jax.custom_jvp
def _soft_dtw_value_and_shares(costs: Array, gamma: Array, rows: Array, columns: Array) -> tuple[Array, Any]:
    loss, right, down = _forward(costs, gamma, rows, columns)
    return loss, (right, down)


# What is kept for `_soft_dtw_slopes` has no tangent: that function has one of its own, from the costs.
@_soft_dtw_value_and_shares.defjvp
def _soft_dtw_value_and_shares_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> Any:
    _, tangent = _soft_dtw_value_jvp(primals, tangents)
    loss, kept = _soft_dtw_value_and_shares(*primals)
    return (loss, kept), (tangent, jax.tree.map(jnp.zeros_like, kept))


@jax.custom_jvp
def _soft_dtw_slopes(
    cotangent: Array, costs: Array, gamma: Array, rows: Array, columns: Array, kept: Any
) -> tuple[Array, Array]:
    """The cotangents of the costs and of γ, from the posterior probability that the alignment goes through each pair.

    It is carried backward along the shares, by products and sums of numbers in [0, 1].
    """
    right, down = kept
    depth, batch, width = right.shape

    def to_left(x: Array) -> Array:
        return jnp.pad(x[:, 1:], ((0, 0), (0, 1)))

    def body(carry: tuple[Array, Array], at: Any) -> tuple[tuple[Array, Array], Array]:
        """What arrives on this diagonal from the next one, and from the one after that."""
        near, far = carry
        d, right, down = at
        here = near + _at_end(d, rows, columns, width)
        others = here * (1 - right)
        return (others * down + to_left(here * right) + far, to_left(others * (1 - down))), here

    nothing = jnp.zeros((batch, width), right.dtype)
    carry, _ = _rules.alike(((nothing, nothing), right))
    _, through = lax.scan(body, carry, (jnp.arange(depth), right, down), reverse=True)
    # By γ it is less the entropy of the alignments, a sum over the pairs where (loss − ⟨E, D⟩)/γ would cancel.
    information = _information(right) + (1 - right) * _information(down)
    return cotangent[:, None, None] * _grid.from_diagonals(through), cotangent * jnp.sum(through * information, axis=(0, 2))


def _information(share: Array) -> Array:
    """p log p + (1 − p) log (1 − p)."""
    return _numerics.xlogy(share, share) + _numerics.xlogy(1 - share, 1 - share)


@_soft_dtw_slopes.defjvp
def _soft_dtw_slopes_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    cotangent, costs, gamma, rows, columns, _ = primals

    def slopes(cotangent: Array, costs: Array, gamma: Array) -> tuple[Array, Array]:
        _, pullback = jax.vjp(lambda d, g: _log_space(d, g, rows, columns), costs, gamma)
        by_costs, by_gamma = pullback(cotangent)
        return by_costs, by_gamma

    return _soft_dtw_slopes(*primals), jax.jvp(slopes, (cotangent, costs, gamma), tangents[:3])[1]


def _soft_dtw_fwd(costs: Array, gamma: Array, rows: Array, columns: Array) -> tuple[Array, Any]:
    loss, kept = _soft_dtw_value_and_shares(costs, gamma, rows, columns)
    return loss, (costs, gamma, rows, columns, kept, loss < jnp.inf)


# Saves the logarithms and exponentials of each pair and, for small γ, the digits: a rounding of the cost so far is
# divided by γ in log space.
def _soft_dtw_bwd(residuals: Any, cotangent: Array) -> tuple[Array, Array, None, None]:
    costs, gamma, rows, columns, kept, possible = residuals
    cotangent = jnp.where(possible, cotangent, 0)
    by_costs, by_gamma = _soft_dtw_slopes(cotangent, costs, gamma, rows, columns, kept)
    return by_costs, by_gamma, None, None


_soft_dtw.defvjp(_soft_dtw_fwd, functools.partial(_rules.compiled, _soft_dtw_bwd))


def _log_space(costs: Array, gamma: Array, rows: Array, columns: Array) -> Array:
    """The loss by sums of logarithms, which JAX can differentiate."""
    never = -1e30  # the logarithm of no mass in place of −inf, whose derivatives would be NaN
    x = jnp.maximum(_exponents(costs, gamma), never)
    depth, batch, width = x.shape
    none = jnp.full((batch, width), never, x.dtype)

    def body(carry: Any, at: Any) -> tuple[Any, None]:
        masses, corner, end = carry
        d, x = at
        left = _scaled.shifted(masses[:, :-1], never)
        new = _numerics.log_add_exp(_numerics.log_add_exp(corner, masses), left) + x
        return (new, left, jnp.where(_at_end(d, rows, columns, width), new, end)), None

    carry, x = _rules.alike(((none, none.at[:, 0].set(0), none), x))
    (_, _, end), _ = lax.scan(body, carry, (jnp.arange(depth), x))
    return -gamma * jnp.take_along_axis(end, columns[:, None] - 1, axis=1)[:, 0]
