"""CTC where the labels are likely: −log(1 − Q), from the probability Q of failing, which 1 − Q has lost to rounding.

From the state of a path, the class of a frame decides the next state; a class that leads to none has failed, and so has a
path that ends in a state which is not an end. All probabilities here are sums of what is not negative, so that they are
right in relative terms, however small. The states are those of `_ctc.py`, and their masses α are divided by their sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxloss import _scaled


class States(NamedTuple):
    """One number a state: of the N + 1 blanks, [B, N + 1], and of the N labels, [B, N]."""

    blank: Array
    label: Array


class Sums(NamedTuple):
    """What the recursions need of a frame, [B], beside the logits of the labels.

    Σ e^(z − top) over all classes; and of the classes that are not blank, the two most probable ones, e^(z − top) of
    them, and Σ e^(z − top) of the others.
    """

    top: Array
    total: Array
    first: Array
    second: Array
    of_first: Array
    of_second: Array
    of_others: Array


class Moves(NamedTuple):
    """The probabilities of a frame: of blank, [B, 1], of each label, and of failing from each state."""

    blank: Array
    label: Array
    failing: States


def sums(z: Array, top: Array, labels: Array) -> Sums:
    """The sums of one frame, whose largest logit is `top`. The last column of `labels` is the blank."""
    # Of the logits alone, and each power once: no array of their size is kept.
    classes = jnp.arange(z.shape[-1], dtype=jnp.int32)
    among = classes == labels[:, -1:]
    blank = jnp.max(jnp.where(among, z, -jnp.inf), axis=-1)
    first, of_first = _largest(jnp.where(among, -jnp.inf, z), classes)
    among |= classes == first[:, None]
    second, of_second = _largest(jnp.where(among, -jnp.inf, z), classes)
    among |= classes == second[:, None]
    others = jnp.sum(jnp.where(among, 0, jnp.exp(z - top[:, None])), axis=-1)
    blank, of_first, of_second = (jnp.exp(x - top) for x in (blank, of_first, of_second))
    total = others + of_second + of_first + blank
    dead = ~(total > 0)  # no class can occur: all paths through the frame fail
    return Sums(top, jnp.where(dead, 1, total), first, second, of_first, of_second, jnp.where(dead, 1, others))


def _largest(z: Array, classes: Array) -> tuple[Array, Array]:
    """The first class that has the largest logit, and that logit."""
    largest = jnp.max(z, axis=-1)
    return jnp.min(jnp.where(z == largest[:, None], classes, classes[-1]), axis=-1), largest


def moves(z: Array, at: Sums, labels: Array, lengths: Array, skips: Array) -> Moves:
    """The probabilities of one frame, whose logits of the labels are `z`, [B, N + 1], and whose sums are `at`, [B].

    A state goes on by blank and by one or two labels. The other classes are added up: those that are neither blank nor
    the first nor the second class, less the labels among them, and the first and the second unless they are the labels.
    """
    inside = jnp.arange(labels.shape[1]) < lengths[:, None]
    weights = jnp.exp(z - at.top[:, None])
    spoken = jnp.where(inside, weights, 0)
    is_first, is_second = (inside & (labels == k[:, None]) for k in (at.first, at.second))
    smaller = jnp.where(is_first | is_second, 0, spoken)
    # Of label n, the label after it, where that may follow at once.
    follows = jnp.concatenate([skips[:, 1:], jnp.zeros_like(skips[:, :1])], axis=1)
    next_first, next_second = (follows & x[:, 1:] for x in (is_first, is_second))
    next_smaller = jnp.where(follows, smaller[:, 1:], 0)

    def others(small: Array, first: Array, second: Array) -> Array:
        kept = jnp.where(first, 0, at.of_first[:, None]) + jnp.where(second, 0, at.of_second[:, None])
        return (jnp.maximum(at.of_others[:, None] - small, 0) + kept) / at.total[:, None]

    of_label = others(smaller[:, :-1] + next_smaller, is_first[:, :-1] | next_first, is_second[:, :-1] | next_second)
    failing = States(others(smaller, is_first, is_second), of_label)
    return Moves(weights[:, -1:] / at.total[:, None], spoken[:, :-1] / at.total[:, None], failing)


def start(labels: Array, dtype: Any) -> States:
    """All mass in blank 0."""
    blank = jnp.zeros(labels.shape, dtype).at[:, 0].set(1)
    return States(blank, jnp.zeros_like(blank[:, 1:]))


def ends(lengths: Array, states: States) -> States:
    """Where a path must end."""
    n = jnp.arange(states.blank.shape[-1])
    return States(n == lengths[:, None], n[1:] == lengths[:, None])


def last(ends: States, ended: Array, likely: Array) -> States:
    """What the backward pass starts from: where the labels are likely, the probability of failing after the last frame.

    Elsewhere it is the occupancy of the states in the last frame, of which `ended` is that of the last label.
    """
    occupied = States(1 - ended[:, None], ended[:, None])
    return States(*(jnp.where(likely, 1 - end, jnp.where(end, x, 0)) for end, x in zip(ends, occupied, strict=True)))


def forward(mass: States, move: Moves, skips: Array) -> tuple[States, Array]:
    """The masses after a frame, and the share that failed in it."""
    failed = sum(jnp.sum(x * y, axis=1) for x, y in zip(mass, move.failing, strict=True))
    to_blank = mass.blank + _scaled.shifted(mass.label, 0)
    to_label = mass.label + jnp.where(skips, to_blank[:, :-1], mass.blank[:, :-1])
    blank, label = move.blank * to_blank, move.label * to_label
    total = jnp.sum(blank, axis=1, keepdims=True) + jnp.sum(label, axis=1, keepdims=True)
    total = jnp.where(total > 0, total, 1)
    return States(blank / total, label / total), jnp.minimum(failed, 1)


def backward(q: States, move: Moves, skips: Array) -> States:
    """The probabilities of failing from each state before a frame, from those after it."""
    by_label = move.label * q.label
    by_next = jnp.pad(jnp.where(skips, by_label, 0)[:, 1:], ((0, 0), (0, 1)))
    blank = move.failing.blank + move.blank * q.blank + jnp.pad(by_label, ((0, 0), (0, 1)))
    return States(blank, move.failing.label + move.blank * q.blank[:, 1:] + by_label + by_next)


class Slopes(NamedTuple):
    """The derivative by the logits of one frame, where it is not the probability p of a class.

    That of the four classes `classes` is `slopes`, [B, 4], in the place of p. From it and from the others, `occupied` is to
    be taken off, [B, N + 1], of the class of each label and, in the last column, of blank.
    """

    classes: Array
    slopes: Array
    occupied: Array


def slopes(
    mass: States, q: States, before: States, move: Moves, z: Array, at: Sums, labels: Array, lengths: Array, skips: Array
) -> Slopes:
    """The derivative of −log(1 − Q) by the logits of a frame, from the masses before it and the failures on both sides.

    By the logit of class c it is p_c (Q_c − Q) / (1 − Q), where Q_c is the probability of failing with c in this frame:
    Σ_s α_s q(s, c), with q(s, c) = 1 for a class that fails. For a class that hardly ever fails, that is a sum over the
    few states from which it does. Where Q < ½, label n − 1, blank n and label n, for some n, have the mass 1 − Q or more,
    since what follows leads to an end from these alone. For the classes that go on from them, all terms are differences of
    failures; the mass of the other states is no more than Q, and what goes on from them may be subtracted.
    """
    states, classes = labels.shape[1], jnp.where(jnp.arange(labels.shape[1]) < lengths[:, None], labels, z.shape[-1])
    label, earlier = jnp.pad(mass.label, ((0, 0), (0, 1))), _scaled.shifted(mass.label, 0)
    n = jnp.argmax(mass.blank + label + earlier, axis=1)[:, None]

    def around(x: Array, fill: Any) -> Array:
        """Those of label n − 1, n and n + 1, of an array that ends with label N − 1 or with a column more."""
        x = jnp.pad(x[:, : states - 1], ((0, 0), (1, 2)), constant_values=fill)
        return jnp.take_along_axis(x, n + jnp.arange(3), axis=1)

    def at_n(x: Array) -> Array:
        return jnp.take_along_axis(x, n, axis=1)

    three, after = around(classes, z.shape[-1]), around(q.label, 1)
    heavy = at_n(earlier), at_n(mass.blank), at_n(label)
    blank = labels[:, -1:]
    after_blank, after_next = at_n(q.blank), at_n(jnp.pad(q.blank[:, 1:], ((0, 0), (0, 1))))

    by_label, failed = around(move.label, 0), around(move.failing.label, 1)

    def more(c: Array, i: int, of_label: bool, by_blank: Array, failed: Array) -> Array:
        """q(s, c) − q(s) as Σ_k p_k (q(s, c) − q(s, k)), of a state before label i or, if it is a label, in it."""
        ways = [
            (three[:, k : k + 1], by_label[:, k : k + 1], after[:, k : k + 1]) for k in ((i, i + 1) if of_label else (i,))
        ]
        if of_label:  # the next label if it is another one
            ways[1] = ways[1][0], jnp.where(ways[0][0] == ways[1][0], 0, ways[1][1]), ways[1][2]
        ways.append((blank, move.blank, by_blank))
        q_c = jnp.ones(c.shape, by_blank.dtype)
        for k, _, q_k in reversed(ways):  # the first one last: what stays does not go on
            q_c = jnp.where(c == k, q_k, q_c)
        return sum(p_k * (q_c - q_k) for _, p_k, q_k in ways) - failed * (1 - q_c)

    c = jnp.concatenate([blank, three], axis=1)
    of_heavy = (
        heavy[0] * more(c, 0, True, after_blank, failed[:, :1])
        + heavy[1] * more(c, 1, False, after_blank, at_n(move.failing.blank))
        + heavy[2] * more(c, 1, True, after_next, failed[:, 1:2])
    )
    index = jnp.arange(states)
    light = States(jnp.where(index == n, 0, mass.blank), jnp.where((index == n) | (index + 1 == n), 0, label)[:, :-1])
    q_now = sum(jnp.sum(x * y, axis=1, keepdims=True) for x, y in zip(mass, before, strict=True))
    of_light = sum(jnp.sum(x * (1 - y), axis=1, keepdims=True) for x, y in zip(light, before, strict=True))
    chance = jnp.exp(_take(z, c) - at.top[:, None]) / at.total[:, None]
    succeeding = 1 - q_now
    slope = chance * (of_heavy + of_light) / succeeding

    to_label = light.blank[:, :-1] + light.label + jnp.where(skips, _scaled.shifted(light.label, 0)[:, :-1], 0)
    to_label *= move.label * (1 - q.label)
    to_blank = jnp.sum(light.blank * (1 - q.blank), axis=1) + jnp.sum(light.label * (1 - q.blank[:, 1:]), axis=1)
    occupied = jnp.concatenate([to_label, move.blank * to_blank[:, None]], axis=1)
    return Slopes(c, slope, occupied / succeeding)


def _take(z: Array, c: Array) -> Array:
    return jnp.take_along_axis(z, jnp.minimum(c, z.shape[-1] - 1), axis=1)
