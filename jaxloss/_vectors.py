"""Lengths, directions and angles of vectors, along the last axis, scaled so that no square leaves the range.

Their rules are `jax.custom_jvp`, as those of `_numerics`, with a derivative at the zero vector, which has no direction.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _numerics


def power_of_two(x: Array) -> Array:
    """A power of two near the largest |x| along the last axis, which stays: x over it and its squares are in range.

    Dividing by it is exact. It is a constant: what is scaled by it is scaled back.
    """
    limits = jnp.finfo(x.dtype)
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0)
    largest = jnp.clip(largest, limits.tiny, 1 / limits.tiny)
    return lax.stop_gradient(lax.reduce_precision(largest, limits.nexp, 0))


@jax.custom_jvp
def unit(x: Array) -> Array:
    """x / ‖x‖ along the last axis. The zero vector stays, with derivative 0: it has no direction."""
    scaled = x / power_of_two(x)
    length = jnp.sqrt(jnp.sum(jnp.square(scaled), axis=-1, keepdims=True))
    return scaled / jnp.where(length == 0, 1, length)


# The tangent without its part along x. JAX's own derivative would be NaN at 0.
@unit.defjvp
def _unit_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    u, length = unit(x), norm(x)[..., None]
    across = dx - u * jnp.sum(u * dx, axis=-1, keepdims=True)
    return u, jnp.where(length == 0, 0, across / jnp.where(length == 0, 1, length))


@jax.custom_jvp
def norm(x: Array) -> Array:
    """The Euclidean length along the last axis, without overflow or underflow of the squares; derivative 0 at 0."""
    scale = power_of_two(x)
    return scale[..., 0] * jnp.sqrt(jnp.sum(jnp.square(x / scale), axis=-1))


# JAX's own derivative of the square root is inf at 0, and makes NaN of it.
norm.defjvps(lambda dx, _, x: jnp.sum(unit(x) * dx, axis=-1))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def power_norm(x: Array, degree: float) -> Array:
    """(Σ |x|^degree)^(1/degree) along the last axis for a degree from 1 to inf, scaled as `norm`; derivative 0 at 0."""
    if degree == 2:
        return norm(x)
    if degree == 1:
        return jnp.sum(jnp.abs(x), axis=-1)
    if degree == math.inf:
        return jnp.max(jnp.abs(x), axis=-1, initial=0)
    scale = power_of_two(x)
    return scale[..., 0] * jnp.sum(jnp.abs(x / scale) ** degree, axis=-1) ** (1 / degree)


# The derivative as a power of a ratio from 0 to 1. JAX's own multiplies powers of the sum that are out of range.
@power_norm.defjvp
def _power_norm_jvp(degree: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    length = power_norm(x, degree)
    slope = unit(x) if degree == 2 else power_slope(x, length, degree)
    return length, jnp.sum(slope * dx, axis=-1)


def power_slope(x: Array, length: Array, degree: float) -> Array:
    """The derivative by x of the `power_norm` of a vector with x in it; for degree inf the largest share it evenly."""
    if degree == 2:
        return _numerics.direction(x, length[..., None])
    if degree == 1:
        return jnp.sign(x)
    if degree == math.inf:
        largest = (jnp.abs(x) == length[..., None]) & (x != 0)
        return jnp.sign(x) * largest / jnp.maximum(jnp.sum(largest, axis=-1, keepdims=True, dtype=x.dtype), 1)
    # A component of 0 has a slope of 0, and below degree 2 no second derivative: 0 stands for it.
    zero = x == 0
    ratio = jnp.where(zero, 1, jnp.abs(x)) / jnp.where(length == 0, 1, length)[..., None]
    return jnp.where(zero, 0, jnp.sign(x) * ratio ** (degree - 1))


@jax.custom_jvp
def minus_product(b: Array, t: Array, a: Array) -> Array:
    """b − t a, with the digits that the rounding of t a would cost where the two nearly cancel."""
    # Both factors in halves, so that each of the four products is exact.
    limits = jnp.finfo(b.dtype)
    t_high, a_high = (lax.reduce_precision(x, limits.nexp, limits.nmant // 2) for x in (t, a))
    t_low, a_low = t - t_high, a - a_high
    return ((b - t_high * a_high) - t_high * a_low - t_low * a_high) - t_low * a_low


minus_product.defjvps(
    lambda db, _, b, t, a: db,
    lambda dt, _, b, t, a: -dt * a,
    lambda da, _, b, t, a: -t * da,
)


def across(a: Array, b: Array) -> Array:
    """The part of b/‖b‖ at right angles to a, with all its digits where the two are nearly parallel; neither is 0."""
    a, b = a / power_of_two(a), b / power_of_two(b)
    square = jnp.sum(jnp.square(a), axis=-1, keepdims=True)
    rest = minus_product(b, jnp.sum(a * b, axis=-1, keepdims=True) / square, a)
    rest = rest - (jnp.sum(a * rest, axis=-1, keepdims=True) / square) * a  # what the rounding of the factor has left
    return rest / jnp.sqrt(jnp.sum(jnp.square(b), axis=-1, keepdims=True))


def _turn(a: Array, b: Array, da: Array, db: Array) -> Array:
    """How the cosine of the angle between a and b changes with both: 0 where one of them is 0."""
    missing = (norm(a) == 0) | (norm(b) == 0)
    a, b = (jnp.where(missing[..., None], 1, x) for x in (a, b))
    terms = across(a, b) / norm(a)[..., None] * da + across(b, a) / norm(b)[..., None] * db
    return jnp.where(missing, 0, jnp.sum(terms, axis=-1))


@jax.custom_jvp
def cosine(a: Array, b: Array) -> Array:
    """The cosine of the angle between two vectors along the last axis; 0 with derivative 0 where one of them is 0."""
    return jnp.clip(jnp.sum(unit(a) * unit(b), axis=-1), -1, 1)


@jax.custom_jvp
def cosine_complement(a: Array, b: Array) -> Array:
    """1 − cosine(a, b), from sin² where the difference would cancel; 1 with derivative 0 where a vector is 0."""
    near = cosine(a, b) > 0
    cos = jnp.where(near, cosine(a, b), 0)
    a_near, b_near = (jnp.where(near[..., None], x, 1) for x in (a, b))
    sin_squared = jnp.sum(jnp.square(across(a_near, b_near)), axis=-1)
    return jnp.where(near, sin_squared / (1 + cos), 1 - cosine(a, b))


# The projection that JAX's own derivatives make, b/‖b‖ − cos · a/‖a‖, cancels where the vectors are nearly parallel.
@cosine.defjvp
def _cosine_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return cosine(*primals), _turn(*primals, *tangents)


@cosine_complement.defjvp
def _cosine_complement_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return cosine_complement(*primals), -_turn(*primals, *tangents)
