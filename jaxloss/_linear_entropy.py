"""The entropy of the softmax of hidden states against a vocabulary, and its gradient by blocks.

Notation as in `_linear`. One class of the highest score, the top, is set apart: with m its score, r = Σ exp(s − m) and
g = Σ exp(s − m)(m − s) over the others, the entropy is log(1 + r) + g/(1 + r), of which a tiny one keeps its digits.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _numerics, _rules
from jaxloss._linear import (
    Blocks,
    Head,
    class_axis,
    gradients,
    highest,
    operand,
    over_blocks,
    scores_of,
    shared,
    summed,
    without,
)


class Sums(NamedTuple):
    """What the classes up to some block come to, a number a token each."""

    m: Array  # the highest score, a constant
    top: Array  # the same, with its gradient
    rest: Array
    gaps: Array


def _joined(a: Sums, b: Sums) -> Sums:
    """The sums over the classes of both: the lower top becomes one of the others."""
    m = jnp.maximum(a.m, b.m)
    lower = jnp.where(a.m >= b.m, b.m, a.m)
    rest, gaps = (x + y for x, y in zip(_raised(a, m), _raised(b, m), strict=True))
    gap = _numerics.within_range(jnp.where(a.m >= b.m, m - b.top, m - a.top))
    e = jnp.where(lower > jnp.finfo(m.dtype).min, jnp.exp(-gap), 0)
    return Sums(m, jnp.where(a.m >= b.m, a.top, b.top), rest + e, gaps + e * gap)


def _raised(sums: Sums, m: Array) -> tuple[Array, Array]:
    """The sums over the others, for a shift that is not lower."""
    by = _numerics.within_range(m - sums.m)
    return sums.rest * jnp.exp(-by), (sums.gaps + sums.rest * by) * jnp.exp(-by)


def _of_block(s: Array) -> Sums:
    place = jnp.argmax(s, axis=-1)
    top = jnp.maximum(jnp.take_along_axis(s, place[..., None], axis=-1)[..., 0], jnp.finfo(s.dtype).min)
    m = lax.stop_gradient(top)
    others = without(s, place, top)
    e = jnp.exp(others - m[..., None])
    gaps = jnp.sum(e * jnp.where(others > -jnp.inf, m[..., None] - jnp.where(others > -jnp.inf, others, 0), 0), axis=-1)
    return Sums(m, top, jnp.sum(e, axis=-1), gaps)


# The rule saves bytes: it keeps its arguments and two numbers a token. Autodiff would keep every block of the scores.
@jax.custom_vjp
def entropy(hidden: Array, weight: Array, bias: Any, soft_cap: Any, temperature: Any, where: Any, blocks: Blocks) -> Array:
    """−Σ p log p of each token, 0 in a masked one."""
    return _entropy_value(hidden, weight, bias, soft_cap, temperature, where, blocks)


def _entropy_value(*args: Any) -> Array:
    value, _ = _entropy_and_lse(*args)
    return value


def _head(hidden: Array, weight: Array, bias: Any, soft_cap: Any, temperature: Any, where: Any) -> Head:
    return Head(operand(hidden, weight, where), weight, bias, soft_cap, temperature)


def _entropy_and_lse(
    hidden: Array, weight: Array, bias: Any, soft_cap: Any, temperature: Any, where: Any, blocks: Blocks
) -> tuple[Array, Array]:
    head = _head(hidden, weight, bias, soft_cap, temperature, where)

    def step(sums: Sums, start: Any, columns: int) -> Sums:
        return _joined(sums, _of_block(scores_of(head, start, columns, blocks)))

    zero = jnp.zeros(hidden.shape[:-1], _rules.wide_dtype(hidden, weight))
    least = jnp.full_like(zero, jnp.finfo(zero.dtype).min)
    sums = shared(Sums(least, least, zero, zero), hidden, weight, blocks)
    sums = _of_all_devices(over_blocks(step, sums, weight.shape[class_axis(blocks)], blocks), blocks)
    d = sums.top - sums.m  # 0, but not its derivatives
    log_total = jnp.log1p(sums.rest + jnp.expm1(d))
    value = log_total + (sums.gaps - d * jnp.exp(d)) / (sums.rest + jnp.exp(d))
    return _rules.masked(where, value), _rules.masked(where, sums.m + log_total)


def _of_all_devices(sums: Sums, blocks: Blocks) -> Sums:
    """The sums over all classes: of the highest tops of several devices, the first one's is the top."""
    if blocks.axis_name is None:
        return sums
    m, device = highest(sums.m, blocks), lax.axis_index(blocks.axis_name)
    is_first = device == lax.pmin(jnp.where(sums.m == m, device, lax.axis_size(blocks.axis_name)), blocks.axis_name)
    gap = _numerics.within_range(m - sums.top)
    e = jnp.where(is_first, 0, jnp.exp(-gap))
    rest, gaps = _raised(sums, m)
    top, rest, gaps = summed((jnp.where(is_first, sums.top, 0), rest + e, gaps + e * gap), blocks)
    return Sums(m, top, rest, gaps)


def _entropy_fwd(*args: Any) -> tuple[Array, Any]:
    value, lse = _entropy_and_lse(*args)
    return value, (args, value, lse)


def _entropy_bwd(residuals: Any, cotangent: Array) -> tuple[Any, ...]:
    (hidden, weight, bias, soft_cap, temperature, where, blocks), value, lse = residuals
    head = _head(hidden, weight, bias, soft_cap, temperature, where)
    bar, _ = gradients(_slopes, (_rules.masked(where, cotangent), value, lse), head, None, blocks)
    x_bar = _rules.masked(where, bar.hidden, 1)
    return x_bar.astype(hidden.dtype), bar.weight, bar.bias, bar.soft_cap, bar.temperature, None, None


def _slopes(held: tuple[Array, Array, Array], s: Array, _: None, places: Array) -> tuple[Array, None]:
    """−p (log p + H) for a block of scores."""
    cotangent, value, lse = (x[..., None] for x in held)
    there = s > -jnp.inf
    gap = jnp.where(there, lse - jnp.where(there, s, 0), 0)
    return cotangent * jnp.exp(s - lse) * (gap - value), None


entropy.defvjp(_entropy_fwd, functools.partial(_rules.compiled, _entropy_bwd))
