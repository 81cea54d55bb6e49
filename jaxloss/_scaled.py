"""Numbers as mantissa and exponent, for the masses of paths: no underflow however many factors there are.

A recursion over frames then has products and shifts only, where sums in log space have an exp and a log a state, and
drift. Bit patterns have no derivative: a core that uses these has a rule of its own.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

# Exponents stay above FLOOR; a mass whose exponent is below NEVER, e^(−1.9e8), is that of no path.
FLOOR, NEVER = -(2**29), -(2**28)
# ln 2 in two parts, the first of which has 9 bits less than float32: a small multiple of it has no rounding.
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.42860682030941723e-6


class Scaled(NamedTuple):
    """mantissa · 2^exponent with a mantissa in [1, 8)."""

    mantissa: Array
    exponent: Array


def zeros(shape: tuple[int, ...], dtype: Any) -> Scaled:
    """No mass, wherever."""
    return Scaled(jnp.ones(shape, dtype), jnp.full(shape, FLOOR))


def add(a: Scaled, b: Scaled) -> tuple[Scaled, Array]:
    """a + b, and the share of b in it."""
    top = jnp.maximum(a.exponent, b.exponent)
    dtype = a.mantissa.dtype
    part = b.mantissa * _power(b.exponent - top, dtype)
    total = a.mantissa * _power(a.exponent - top, dtype) + part
    return Scaled(total, top), part / total


def times_exp(a: Scaled, x: Array) -> Scaled:
    """a · e^x for x ≤ 0, with a mantissa in [1, 2)."""
    possible = x > NEVER * math.log(2)
    x = jnp.where(possible, x, 0)
    whole = jnp.round(x * (1 / math.log(2)))
    rest = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    exponent = jnp.maximum(a.exponent + jnp.where(possible, whole.astype(jnp.int32), FLOOR), FLOOR)
    product = a.mantissa * jnp.exp(rest)
    limits = jnp.finfo(product.dtype)
    bits = lax.bitcast_convert_type(product, _integer(product.dtype))
    one = lax.bitcast_convert_type(jnp.ones((), product.dtype), bits.dtype)
    mantissa = lax.bitcast_convert_type((bits & ((1 << limits.nmant) - 1)) | one, product.dtype)
    shift = (bits >> limits.nmant).astype(jnp.int32) + (limits.minexp - 1)
    return Scaled(mantissa, jnp.maximum(exponent + shift, FLOOR))


def log(a: Scaled) -> Array:
    """The logarithm; −inf for no mass."""
    exponent = a.exponent.astype(a.mantissa.dtype)
    value = jnp.log(a.mantissa) + (exponent * _LN2_HIGH + exponent * _LN2_LOW)
    return jnp.where(a.exponent < NEVER, -jnp.inf, value)


def select(condition: Array, a: Any, b: Any) -> Any:
    """a where the condition holds, else b, for masses and whatever goes with them."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def shifted(x: Array, start: Any) -> Array:
    """x shifted to the right by one state, with `start` in the first place."""
    return jnp.concatenate([jnp.full((len(x), 1), start, x.dtype), x], axis=1)


def after(a: Scaled) -> Scaled:
    """Masses shifted to the right by one state, with no mass in the first place."""
    return Scaled(shifted(a.mantissa, 1), shifted(a.exponent, FLOOR))


def _power(exponent: Array, dtype: Any) -> Array:
    """2^exponent for an exponent ≤ 0; 0 where that is below the normal numbers."""
    limits = jnp.finfo(dtype)
    biased = jnp.maximum(exponent - (limits.minexp - 1), 0).astype(_integer(dtype))
    return lax.bitcast_convert_type(biased << limits.nmant, dtype)


def _integer(dtype: Any) -> Any:
    return jnp.int32 if jnp.finfo(dtype).bits == 32 else jnp.int64
