"""The Kullback-Leibler divergence of two softmax distributions, each of hidden states against a weight, by blocks.

Notation as in `_linear`, with t for the scores of the teacher and p for its distribution, q for the student's. A first
pass gives the log-sum-exp of both, and so r = log p − log q of each class; a second one Σ p (e^−r − 1 + r), which is
Σ p r as both sum to 1, and of which no term is negative. It also tells how far from 1 rounding has left their sums.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _numerics, _rules
from jaxloss._exponentials import difference_error
from jaxloss._linear import (
    Blocks,
    Head,
    class_axis,
    gradients,
    highest,
    operand,
    over_blocks,
    scores_of,
    summed,
)


class Sums(NamedTuple):
    """What the scores of a head come to, a number a token each."""

    m: Array  # the highest, a constant
    total: Array  # Σ exp(s − m)


class Terms(NamedTuple):
    """What the divergence and its gradients are made of, a number a token each."""

    value: Array
    student: Sums
    teacher: Sums
    log_ratio: Array  # log(Σ exp(t − max t)/Σ exp(s − max s))


class Parts(NamedTuple):
    """What there is of each class."""

    p: Array
    q: Array
    r: Array  # log(p/q), 0 where one of them cannot be
    both: Array  # whether the class can occur in both


# The rule saves bytes: it keeps its arguments and a few numbers a token, and makes the scores of both again by blocks. In
# digits: by the student, autodiff has the rounding errors of q and of p, the rule those of their difference.
@jax.custom_vjp
def divergence(student: Head, teacher: Head, where: Any, blocks: tuple[Blocks, Blocks]) -> Array:
    """Σ p (log p − log q) of each token, 0 in a masked one. The blocks are of the student's weight and of the teacher's."""
    return _divergence_value(student, teacher, where, blocks)


def _divergence_value(*args: Any) -> Array:
    return _terms(*args).value


def _prepared(head: Head, where: Any) -> Head:
    return head._replace(hidden=operand(head.hidden, head.weight, where))


def _terms(student: Head, teacher: Head, where: Any, blocks: tuple[Blocks, Blocks]) -> Terms:
    dtype = _rules.wide_dtype(student.hidden, student.weight, teacher.hidden, teacher.weight)
    heads = list(zip((_prepared(student, where), _prepared(teacher, where)), blocks, strict=True))
    classes = student.weight.shape[class_axis(blocks[0])]

    def scores_of_both(start: Any, columns: int) -> tuple[Array, ...]:
        return tuple(scores_of(head, start, columns, of_head).astype(dtype) for head, of_head in heads)

    def of_sums(sums: tuple[Sums, ...], start: Any, columns: int) -> tuple[Sums, ...]:
        return tuple(_with_block(*x) for x in zip(sums, scores_of_both(start, columns), strict=True))

    zero = jnp.zeros(student.hidden.shape[:-1], dtype)
    least = Sums(jnp.full_like(zero, jnp.finfo(dtype).min), zero)
    start, zero, *_ = _rules.alike(((least, least), zero, student, teacher))
    of_student, of_teacher = (_of_all_devices(x, blocks[0]) for x in over_blocks(of_sums, start, classes, blocks[0]))
    terms = Terms(zero, of_student, of_teacher, jnp.log(of_teacher.total / of_student.total))

    def of_value(carry: tuple[Array, ...], start: Any, columns: int) -> tuple[Array, ...]:
        s, t = scores_of_both(start, columns)
        parts = _parts(s, t, terms)
        excess = jnp.where(parts.both, _numerics.weighted_excess(parts.p, -parts.r, parts.q), parts.q)
        impossible = jnp.any((t != -jnp.inf) & (s == -jnp.inf), axis=-1)
        more = jnp.sum(excess, axis=-1), jnp.sum(_less_teacher(parts), axis=-1), impossible.astype(dtype)
        return jax.tree.map(jnp.add, carry, more)

    value, moved, impossible = summed(over_blocks(of_value, (zero, zero, zero), classes, blocks[0]), blocks[0])
    # Σ q − Σ p is 0 but for the rounding errors of both sums, which would be far above nearly equal log p and log q.
    error = lax.stop_gradient(jnp.log1p(moved))
    value = value - _numerics.excess(error)
    value = jnp.where(impossible > 0, jnp.inf, jnp.where(value < 0, 0, value))
    return Terms(_rules.masked(where, value), of_student, of_teacher, terms.log_ratio - error)


def _with_block(sums: Sums, s: Array) -> Sums:
    m = lax.stop_gradient(jnp.maximum(sums.m, jnp.max(s, axis=-1)))
    return Sums(m, sums.total * jnp.exp(sums.m - m) + jnp.sum(jnp.exp(s - m[..., None]), axis=-1))


def _of_all_devices(sums: Sums, blocks: Blocks) -> Sums:
    m = highest(sums.m, blocks)
    return Sums(m, summed(sums.total * jnp.exp(sums.m - m), blocks))


def _parts(s: Array, t: Array, terms: Terms) -> Parts:
    """Of a block of classes, from the scores of the student and of the teacher."""
    of_student, of_teacher = jax.tree.map(lambda x: x[..., None], (terms.student, terms.teacher))
    both = (s != -jnp.inf) & (t != -jnp.inf)
    # (t − max t) − (s − max s), with the rounding errors of its differences: nearly equal scores are to be so after it,
    # however far from 0 they are. By quarters, so that none of the differences overflows.
    d, error = _difference(0.25 * jnp.where(both, t, 0), 0.25 * jnp.where(both, s, 0))
    shift, shift_error = _difference(0.25 * of_teacher.m, 0.25 * of_student.m)
    d, last_error = _difference(d, shift)
    r = 4 * (d + (last_error + error - shift_error)) - terms.log_ratio[..., None]
    return Parts(
        jnp.exp(t - of_teacher.m) / of_teacher.total,
        jnp.exp(s - of_student.m) / of_student.total,
        jnp.where(both, _numerics.within_range(r), 0),
        both,
    )


def _difference(x: Array, y: Array) -> tuple[Array, Array]:
    """x − y, rounded, and its rounding error, a constant."""
    d = x - y
    return d, lax.stop_gradient(difference_error(x, y, d))


def _less_teacher(parts: Parts) -> Array:
    """q − p by the larger of the two: neither overflows, and nothing cancels."""
    p, q, r, both = parts
    more = r >= 0
    difference = jnp.where(more, p, -q) * jnp.expm1(jnp.where(more, -r, r))
    return jnp.where(both, difference, q - p)


def _divergence_fwd(*args: Any) -> tuple[Array, Any]:
    terms = _terms(*args)
    return terms.value, (args, terms)


def _divergence_bwd(residuals: Any, cotangent: Array) -> tuple[Any, ...]:
    (student, teacher, where, blocks), terms = residuals
    # Else XLA would keep from the forward pass what the two have in common: the smaller block that is in no loop.
    student, teacher = lax.optimization_barrier((student, teacher))
    held = _rules.masked(where, cotangent), terms
    heads = _prepared(student, where), _prepared(teacher, where)
    # Two loops: of a teacher that is not trained, nobody asks for the second, and XLA leaves it out.
    of_student, _ = gradients(_by_student, held, heads[0], None, blocks[0], (heads[1], blocks[1]))
    of_teacher, _ = gradients(_by_teacher, held, heads[1], None, blocks[1], (heads[0], blocks[0]))
    return _narrow(of_student, student, where), _narrow(of_teacher, teacher, where), None, None


def _narrow(head_bar: Head, head: Head, where: Any) -> Head:
    return head_bar._replace(hidden=_rules.masked(where, head_bar.hidden, 1).astype(head.hidden.dtype))


def _by_student(held: tuple[Array, Terms, Array], s: Array, _: None, places: Array) -> tuple[Array, None]:
    """q − p for a block of scores."""
    cotangent, terms, t = held
    difference = _less_teacher(_parts(s.astype(cotangent.dtype), t.astype(cotangent.dtype), terms))
    return (cotangent[..., None] * difference).astype(s.dtype), None


def _by_teacher(held: tuple[Array, Terms, Array], t: Array, _: None, places: Array) -> tuple[Array, None]:
    """p (r − Σ p r) for a block of scores, 0 where the divergence is infinite."""
    cotangent, terms, s = held
    p, _, r, _ = _parts(s.astype(cotangent.dtype), t.astype(cotangent.dtype), terms)
    infinite = (terms.value == jnp.inf)[..., None]
    slope = p * _numerics.within_range(r - jnp.where(infinite, 0, terms.value[..., None]))
    return (cotangent[..., None] * jnp.where(infinite, 0, slope)).astype(t.dtype), None


divergence.defvjp(_divergence_fwd, functools.partial(_rules.compiled, _divergence_bwd))
