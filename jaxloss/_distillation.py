"""Distillation: the divergence of two distributions that are both given as logits."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxloss import _check, _numerics, _rules
from jaxloss._exponentials import at_label, difference_error, finite, first_maximum, shifted_exp


def softmax_kl_divergence(
    logits: Float[ArrayLike, "*batch classes"],
    target_logits: Float[ArrayLike, "*batch classes"],
    *,
    temperature: Float[ArrayLike, "..."] = 1.0,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The Kullback-Leibler divergence of softmax distributions, from logits: distillation, and the anchor of fine-tuning.

    Never negative; 0 with zero gradients for equal logits; and with all its digits for logits that are nearly equal.

    Formula: Σₖ pₖ (log pₖ − log qₖ) with p = softmax(t/T) of the target logits and q = softmax(z/T) of the logits, taken
    near 0 as log(1 + Σₖ pₖ (e^−cₖ − 1 + cₖ)) with c = (t − z)/T less its mean under p. Derivative by z: (q − p)/T; by t:
    p c/T. Hinton's distillation multiplies by T², so that the gradient does not fade as T grows: the caller's factor.

    Args:
        logits: z, unnormalised log-probabilities, in nats; −inf for a class that cannot occur.
        target_logits: t, the same of the distribution to come to, of the shape of `logits`; differentiable.
        temperature: T > 0, divides both; broadcasts to the examples, differentiable.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example, in nats. It is inf where a class has a target and cannot occur; the gradient by z is then
        q − p as ever, and the one by t is 0.

    Raises:
        TypeError: `logits`, `target_logits` or `temperature` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `temperature` or `where` does not broadcast, `temperature` is not positive, or
            `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.softmax_kl_divergence(jnp.array([1.0, 0.0]), jnp.array([2.0, 0.0])))
        0.0671307

    References:
        Kullback and Leibler, On Information and Sufficiency, 1951
        Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015
    """
    logits, target_logits = _check.pair("logits", logits, "target_logits", target_logits)
    logits = _check.class_last("logits", logits, axis)
    target_logits = _check.class_last("target_logits", target_logits, axis)
    where = _check.mask(where, logits.shape[:-1], "the examples")
    temperature = _check.optional("temperature", temperature, _check.examples(logits), unused=1, above=0, where=where)
    return _rules.call(_softmax_kl, logits, target_logits, temperature, where)


# The rule keeps the logits as they came, where autodiff keeps a dozen arrays of their size in float32. In digits: by z,
# autodiff has the rounding errors of q and of p, the rule those of their difference. And at classes that cannot occur
# it has no 0 · inf.
@jax.custom_vjp
def _softmax_kl(logits: Array, target_logits: Array, temperature: Any, where: Any) -> Array:
    return _softmax_kl_value(logits, target_logits, temperature, where)


class _Parts(NamedTuple):
    """What value and gradients are made of: [..., K], and [...] for the divergence and `impossible`."""

    divergence: Array
    p: Array
    q: Array
    c: Array  # log(p/q) less its mean under p
    log_ratio: Array  # log(p/q)
    both: Array  # whether a class can occur in both
    impossible: Array  # whether there is a class with a target that cannot occur


def _parts(logits: Array, target_logits: Array, temperature: Any, where: Any) -> _Parts:
    z = _scores(logits, target_logits, temperature, where)
    t = _scores(target_logits, logits, temperature, where)
    both = (t != -jnp.inf) & (z != -jnp.inf)
    (e_t, sum_t, from_max_t), (e_z, sum_z, from_max_z) = _exponentials(t), _exponentials(z)
    p, q = e_t / sum_t, e_z / sum_z

    # d = t − z, less its value at the most probable class of p, so that what both logits or all classes have in common
    # does not cost digits; each difference with its rounding error. By quarters, so that none of them overflows.
    t4, z4 = jnp.where(both, 0.25 * t, 0), jnp.where(both, 0.25 * z, 0)
    d4 = t4 - z4
    error = difference_error(t4, z4, d4)
    top = first_maximum(t)
    at_top = lax.stop_gradient(at_label(d4, top))[..., None]
    error = error - lax.stop_gradient(at_label(error, top))[..., None]
    above = d4 - at_top
    above = jnp.where(both, above + (difference_error(d4, at_top, above) + error), 0)
    mean = jnp.sum(p * above, axis=-1, keepdims=True)
    c = jnp.where(both, _numerics.within_range(4 * (above - mean)), 0)
    d = jnp.where(both, _numerics.within_range(4 * above), 0)

    # Σ p (e^−c − 1 + c), and p e^−c as exp(z − max z) times a number a row: it has a value where p is 0.
    top_z = lax.stop_gradient(at_label(jnp.where(both, from_max_z, 0), top))[..., None]
    product = e_z * (jnp.exp(jnp.minimum(4 * mean - top_z, 80)) / sum_t)
    total = jnp.sum(jnp.where(both, _numerics.weighted_excess(p, -c, product), product), axis=-1)
    # Far apart, the sum is that of a few large terms, or overflows, and log p − log q no longer cancels.
    near = total < 0.65
    log_p, log_q = from_max_t - jnp.log(sum_t), from_max_z - jnp.log(sum_z)
    difference = jnp.where(both, log_p - log_q, 0)
    far = jnp.sum(p * difference, axis=-1)
    divergence = jnp.where(near, jnp.log1p(jnp.where(near, total, 0)), far)

    # log(p/q) is d + log Σ p e^−d. While that sum is near 1, it has the digits of the gradient; far from it, the logs have.
    moved = e_z * (jnp.exp(jnp.minimum(-top_z, 80)) / sum_t) - p
    small = both & (jnp.abs(d) < 1)
    moved = jnp.sum(jnp.where(small, p * jnp.expm1(-jnp.where(small, d, 0)), moved), axis=-1, keepdims=True)
    little = jnp.abs(moved) < 0.4
    log_ratio = jnp.where(little, d + jnp.log1p(jnp.where(little, moved, 0)), difference)
    impossible = jnp.any((t > -jnp.inf) & (z == -jnp.inf), axis=-1)
    return _Parts(divergence, p, q, c, log_ratio, both, impossible)


def _scores(logits: Array, others: Array, temperature: Any, where: Any) -> Array:
    """The logits over the temperature, in float32 or wider, with inf as the largest number."""
    s = _rules.masked(where, _rules.wide(logits, others), 1)
    temperature = _rules.harmless(where, temperature)
    return finite(s if temperature is None else s / temperature[..., None].astype(s.dtype))


def _exponentials(s: Array) -> tuple[Array, Array, Array]:
    """exp(s − max s), its sum, and s − max s, which is above −inf."""
    m = lax.stop_gradient(jnp.maximum(jnp.max(s, axis=-1, keepdims=True), jnp.finfo(s.dtype).min))
    e = shifted_exp(s, m)
    return e, jnp.sum(e, axis=-1, keepdims=True), _numerics.within_range(s - m)


def _softmax_kl_value(logits: Array, target_logits: Array, temperature: Any, where: Any) -> Array:
    parts = _parts(logits, target_logits, temperature, where)
    return jnp.where(parts.impossible, jnp.inf, parts.divergence)


def _softmax_kl_fwd(logits: Array, target_logits: Array, temperature: Any, where: Any) -> tuple[Array, Any]:
    return _softmax_kl_value(logits, target_logits, temperature, where), (logits, target_logits, temperature, where)


def _softmax_kl_bwd(residuals: Any, cotangent: Array) -> tuple[Any, ...]:
    logits, target_logits, temperature, where = residuals
    logits, target_logits = lax.optimization_barrier((logits, target_logits))
    _, p, q, c, log_ratio, both, impossible = _parts(logits, target_logits, temperature, where)
    cotangent = _rules.masked(where, cotangent)
    divisor = 1 if temperature is None else _rules.harmless(where, temperature).astype(cotangent.dtype)
    factor = (cotangent / divisor)[..., None]
    # q − p by the larger of the two: neither overflows, and nothing cancels.
    more = log_ratio >= 0
    difference = jnp.where(more, p, -q) * jnp.expm1(jnp.where(more, -log_ratio, log_ratio))
    by_z = factor * jnp.where(both, difference, q - p)
    by_t = factor * jnp.where(impossible[..., None], 0, p * c)
    by_temperature = None
    if temperature is not None:
        _, pullback = jax.vjp(lambda T: _softmax_kl_value(logits, target_logits, T, where), temperature)
        (by_temperature,) = pullback(cotangent)
    return by_z.astype(logits.dtype), by_t.astype(target_logits.dtype), by_temperature, None


_softmax_kl.defvjp(_softmax_kl_fwd, functools.partial(_rules.compiled, _softmax_kl_bwd))
