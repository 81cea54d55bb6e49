"""Special functions of the likelihoods, without the cancellation that their textbook formulas have.

log Γ is never taken: its differences cancel, and XLA's is wrong near its zeros. What it is made of are Stirling's main
terms, which the likelihoods combine into entropies (`half_deviance`), and a small rest (`binet`). All of them are plain
formulas that JAX may differentiate to any order, unless a rule follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxloss import _numerics

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _series(float32: int, float64: int, dtype: jnp.dtype, coefficient: Callable[[int], float]) -> list[float]:
    """As many coefficients, from the 0th, as the dtype can see."""
    return [coefficient(j) for j in range(float64 if dtype == np.float64 else float32)]


def along_new_axis(numbers: Iterable[float], like: Array) -> Array:
    """Numbers along a new leading axis: a sum over it is one fused loop, and compiles faster than its terms one by one."""
    return jnp.asarray(list(numbers), like.dtype).reshape(-1, *[1] * like.ndim)


# --- Entropies ------------------------------------------------------------------------------------------------------

# Where |x − e| is less than this part of x + e, the textbook formula cancels, and a series in that part converges.
_NEAR = 0.43


def _part(x: Array, e: Array, difference: Array) -> tuple[Array, Array]:
    """v = (x − e)/(x + e), and whether it is small; all is halved so that the sum is finite."""
    total = 0.5 * x + 0.5 * e
    v = 0.5 * difference / jnp.where(total > 0, total, 1)
    return v, jnp.abs(v) < _NEAR


@jax.custom_jvp
def half_deviance(x: Array, e: Array, difference: Array) -> Array:
    """x log(x/e) − x + e for x, e ≥ 0: what e is off x, in nats. It is 0 for x = e, and e for x = 0.

    `difference` is x − e, which some callers know better than by a subtraction of rounded numbers. With
    v = (x − e)/(x + e), log(x/e) is 2 atanh v, and the result v(x − e) + 2x(v³/3 + v⁵/5 + ...): Loader, Fast and Accurate
    Computation of Binomial Probabilities, 2000.
    """
    v, near = _part(x, e, difference)
    square = v * v
    rest = _numerics.polynomial(_series(10, 24, x.dtype, lambda j: 1 / (2 * j + 3)), square)
    close = v * (difference + x * (2 * square * rest))
    apart = x * log_ratio(jnp.where(x > 0, x, 1), e, difference) - difference
    return jnp.where(x == 0, e, jnp.where(near, close, apart))


def log_ratio(x: Array, e: Array, difference: Array) -> Array:
    """log(x/e), with all digits for x near e, and for any x > 0 and e ≥ 0."""
    _, near = _part(x, e, difference)
    t = jnp.where(near, difference, 0) / jnp.where(near & (e > 0), e, 1)
    limits = jnp.finfo(x.dtype)
    ratio = x / jnp.where(near, 1, e)
    usual = ~near & (ratio >= limits.tiny) & (ratio <= limits.max)
    # Two logarithms only where the ratio leaves the range: elsewhere their difference would cancel.
    apart = jnp.log(x) - jnp.log(jnp.minimum(jnp.where(near | usual, 1, e), limits.max))
    return jnp.where(near, jnp.log1p(t), jnp.where(usual, jnp.log(jnp.where(usual, ratio, 1)), apart))


def excess(x: Array, e: Array, difference: Array) -> Array:
    """(e − x)/e, which is 1 for x = 0, whatever e, and for an infinite e."""
    none, usable = (x == 0) | (e == jnp.inf), (e > 0) & (e < jnp.inf)
    at_zero = 1 - jnp.where(usable, _numerics.ratio(x, jnp.where(usable, e, 1)), 0)
    return jnp.where(none, at_zero, -difference / jnp.where(none, 1, e))


# The slope by x at 0 is −inf, but no NaN where x is a constant.
half_deviance.defjvps(
    lambda dx, _, x, e, difference: dx * _numerics.within_range(log_ratio(x, e, difference)),
    lambda de, _, x, e, difference: de * excess(x, e, difference),
    None,
)


# --- The gamma function ---------------------------------------------------------------------------------------------

# Binet's function for large x, in powers of 1/x²: B₂ₙ/(2n(2n − 1)).
_BINET = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400, 43867 / 244188]


def binet(x: Array) -> Array:
    """μ(x) = log Γ(x) − (x − ½) log x + x − ½ log 2π for x > 0: what Stirling's formula leaves, about 1/(12x).

    From μ(x) = μ(x + 1) + (x + ½) log(1 + 1/x) − 1, a step of which every term is positive, up to where Stirling's
    series converges.
    """
    wide = x.dtype == jnp.float64
    steps = 10 if wide else 4
    w = 1 / (x + steps)
    total = w * _numerics.polynomial(_BINET[: 9 if wide else 6], w * w)
    total = total + jnp.sum(_binet_step(x + along_new_axis(range(1, steps), x)), axis=0)
    small = x < 1
    below = jnp.where(small, jnp.maximum(x, jnp.finfo(x.dtype).tiny), 1)
    first = (below + 0.5) * (jnp.log1p(below) - jnp.log(below)) - 1
    return total + jnp.where(small, first, _binet_step(jnp.where(small, 1, x)))


def _binet_step(x: Array) -> Array:
    """(x + ½) log(1 + 1/x) − 1 for x ≥ 1: with v = 1/(2x + 1) it is atanh(v)/v − 1 = v²/3 + v⁴/5 + ..."""
    v = 1 / (2 * x + 1)
    return v * v * _numerics.polynomial(_series(9, 19, x.dtype, lambda j: 1 / (2 * j + 3)), v * v)


def binet_slope(x: Array) -> Array:
    """μ′(x), which is the digamma function less log x − 1/(2x)."""
    return jax.jvp(binet, (x,), (jnp.ones_like(x),))[1]


def digamma(x: Array) -> Array:
    """d log Γ(x)/dx for x > 0, within a few ulp of its terms."""
    return jnp.log(x) - 0.5 / x + binet_slope(x)


def stirling_excess(n: Array) -> Array:
    """log Γ(n + 1) − n log n + n for n ≥ 0, about ½ log 2πn; 0 at 0."""
    some = jnp.where(n > 0, n, 1)
    rest = 0.5 * jnp.log1p(some) + binet(1 + some) + HALF_LOG_2PI
    return jnp.where(n > 0, rest - half_deviance(some, some + 1, -jnp.ones_like(some)), 0)


def _poisson_slope(x: Array, e: Array, difference: Array) -> Array:
    """ψ(x + 1) − log e, with all digits for large x near e; the largest number for e = 0."""
    large, usable = x >= 1, (e > 0) & (e < jnp.inf)
    some = jnp.where(large, x, 1)
    far = log_ratio(some, jnp.where(large, e, 1), jnp.where(large, difference, 0)) + 0.5 / some + binet_slope(some)
    log_e = jnp.where(usable, jnp.log(jnp.where(usable, e, 1)), jnp.where(e > 0, 1, -1) * jnp.finfo(e.dtype).max)
    return jnp.where(large, _numerics.within_range(far), digamma(jnp.where(large, 1, x) + 1) - log_e)


# The slopes of the two terms by x at 0 are −inf and inf.
@jax.custom_jvp
def poisson(x: Array, e: Array, difference: Array) -> Array:
    """log Γ(x + 1) − x log e + e for x, e ≥ 0, with `difference` as in `half_deviance`."""
    return half_deviance(x, e, difference) + stirling_excess(x)


poisson.defjvps(
    lambda dx, _, x, e, difference: dx * _poisson_slope(x, e, difference),
    lambda de, _, x, e, difference: de * excess(x, e, difference),
    None,
)


# --- Tails ----------------------------------------------------------------------------------------------------------


@jax.custom_jvp
def log1p_square(w: Array) -> Array:
    """log(1 + w²), without overflow of the square."""
    a = jnp.abs(w)
    far = a > 1e10
    return jnp.where(far, 2 * jnp.log(jnp.where(far, a, 1)), jnp.log1p(jnp.square(jnp.where(far, 0, a))))


def cauchy_slope(w: Array) -> Array:
    """w/(1 + w²), half the derivative of log(1 + w²), without overflow of the square."""
    large = jnp.abs(w) > 1
    inner, outer = jnp.where(large, 0, w), jnp.where(large, w, 1)
    return jnp.where(large, 1 / (outer + 1 / outer), inner / (1 + inner * inner))


log1p_square.defjvps(lambda dw, _, w: dw * (2 * cauchy_slope(w)))


def inverse_scale(variance: Array) -> Array:
    """A power of two near 1/√variance, as a constant: the variance times its square is near 1."""
    limits = jnp.finfo(variance.dtype)
    inverse = jnp.clip(lax.rsqrt(variance), 2.0 ** (limits.minexp // 2), 2.0 ** (-limits.minexp // 2))
    return lax.stop_gradient(lax.reduce_precision(inverse, limits.nexp, 0))


# --- The Bessel function I₀ -----------------------------------------------------------------------------------------


def _hankel(terms: int) -> list[float]:
    """The coefficients of √(2πκ) I₀(κ) e^−κ in powers of 1/κ, without the 1 in front."""
    coefficients = [1 / 8]
    for k in range(2, terms + 1):
        coefficients.append(coefficients[-1] * (2 * k - 1) ** 2 / (8 * k))
    return coefficients


def log_i0e(kappa: Array) -> Array:
    """log(I₀(κ) e^−κ) for κ ≥ 0, finite for any κ; its derivative is I₁/I₀ − 1 without the subtraction.

    Up to κ = 10 (float64: 30) the mean of e^(−2κ sin² θ) over equal steps, which for a periodic integrand is the integral
    to all digits, and all of whose terms are positive; beyond, Hankel's series in 1/κ.
    """
    limit, steps, terms = (30, 52, 26) if kappa.dtype == jnp.float64 else (10, 24, 12)
    near, far = jnp.minimum(kappa, limit), jnp.maximum(kappa, limit)
    squares = along_new_axis((math.sin(math.pi * j / steps) ** 2 for j in range(1, steps // 2)), kappa)
    others = 2 * jnp.sum(jnp.exp(-2 * squares * near), axis=0) + jnp.exp(-2 * near)
    small = jnp.log((1 + others) / steps)
    w = 1 / far
    large = jnp.log1p(w * _numerics.polynomial(_hankel(terms), w)) - (0.5 * jnp.log(far) + HALF_LOG_2PI)
    return jnp.where(kappa < limit, small, large)


# The rule saves the derivative at x = y, where that of the absolute value is 0.
@jax.custom_jvp
def log1p_ratio(x: Array, y: Array) -> Array:
    """log((1 + x)/(1 + y)), without cancellation near x = y."""
    r = x - y
    return jnp.sign(r) * jnp.log1p(jnp.abs(r) / (1 + jnp.minimum(x, y)))


log1p_ratio.defjvps(lambda dx, _, x, y: dx / (1 + x), lambda dy, _, x, y: -dy / (1 + y))
