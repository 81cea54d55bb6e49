"""The recurrent neural network transducer: the likelihood of labels over all their alignments to the frames.

A path goes through the grid of nodes (t, u), frame t after u labels: blank goes to the next frame, a label stays in the
frame. It starts in (0, 0) and ends with a blank from the last frame. The recursion runs over the anti-diagonals t + u,
on which all nodes are known at once, with masses kept as mantissa and exponent (`_scaled.py`).
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _grid, _numerics, _rules, _scaled, _values


def transducer_loss(
    logits: Float[ArrayLike, "*batch frames nodes classes"],
    logit_lengths: Int[ArrayLike, "*batch"],
    labels: Int[ArrayLike, "*batch labels"],
    label_lengths: Int[ArrayLike, "*batch"],
    *,
    blank_id: int = 0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The transducer (RNN-T) loss: as CTC, but a frame may have several labels, and each depends on those before it.

    Formula: −log Σ over the paths from (0, 0) of Π softmax(z_tu)[k], where blank leads from (t, u) to (t + 1, u), label u
    to (t, u + 1), and the last step is the blank at (T − 1, U). Derivative by z_tuk: n_tu softmax(z_tu)_k less the posterior
    probability that the path leaves (t, u) by k, with n_tu that of being there at all; 0 outside the lengths. Where there
    is no path (no frames but labels, logits of −inf), the loss is inf and its derivative 0.

    In float32 the loss is within 1e-6 of itself, or within 1e-7 a step where it is less than the steps are many, and the
    gradient within 1e-5 of its norm. So they are where the labels are nearly sure: a loss below log 2 comes from the
    probability of failing, within 1e-7 of itself a step. The backward pass keeps two numbers a node beside the inputs.

    Args:
        logits: the score z_tuk of each class in frame t after u labels; a class of −inf cannot occur.
        logit_lengths: the number of frames of each sequence.
        labels: class indices; within the length, those out of range give NaN in loss and gradient.
        label_lengths: the number of labels of each sequence.
        blank_id: the class that leads to the next frame.
        where: which sequences count.

    Returns:
        One loss a sequence; 0 for no labels and no frames.

    Raises:
        TypeError: `logits` is not floating point; labels, lengths or `blank_id` are not integers; or `where` is not boolean.
        ValueError: the shapes do not fit, `blank_id` is not a class, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.zeros((2, 2, 4))  # two frames, one label, four classes
        >>> loss = jaxloss.transducer_loss(logits, jnp.array(2), jnp.array([1]), jnp.array(1))
        >>> print(jnp.exp(-loss))  # the label in either frame: 2 · ¼³
        0.03125

    References:
        Graves, Sequence Transduction with Recurrent Neural Networks, 2012
    """
    logits, labels = _check.floating("logits", logits), _check.integer("labels", labels)
    logit_lengths = _check.integer("logit_lengths", logit_lengths)
    label_lengths = _check.integer("label_lengths", label_lengths)
    if logits.ndim < 3 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have the axes frames, labels + 1 and classes, got shape {logits.shape}")
    *batch, frames, nodes, classes = logits.shape
    if labels.shape != (*batch, nodes - 1):
        raise ValueError(f"labels must have the shape {(*batch, nodes - 1)}, as logits have, got {labels.shape}")
    where = _check.mask(where, tuple(batch), "the sequences")
    for name, lengths, most in ("logit_lengths", logit_lengths, frames), ("label_lengths", label_lengths, nodes - 1):
        if lengths.shape != tuple(batch):
            raise ValueError(f"{name} must have the shape {tuple(batch)}, got {lengths.shape}")
        _values.within(name, lengths, 0, most, where)
    blank_id = _check.count("blank_id", blank_id, most=classes - 1)
    logit_lengths, label_lengths = _rules.masked(where, logit_lengths), _rules.masked(where, label_lengths)
    inside = (labels >= 0) & (labels < classes)
    counts = jnp.arange(nodes - 1) < label_lengths[..., None]
    _values.run_time(lambda: inside | ~counts, f"labels must be from 0 to {classes - 1} within label_lengths")
    invalid = jnp.where(jnp.any(counts & ~inside, axis=-1), jnp.nan, 0).astype(_rules.wide_dtype(logits))
    if frames == 0:  # the loops need one, be it outside the lengths
        logits = jnp.zeros((*batch, 1, nodes, classes), logits.dtype)
    arguments = (logits, jnp.where(inside, labels, 0), logit_lengths, label_lengths, invalid)
    flat = (x.reshape(math.prod(batch), *x.shape[len(batch) :]) for x in arguments)
    losses = _rules.call(_transducer, *flat, jnp.asarray(blank_id)).reshape(tuple(batch))
    return _rules.masked(where, losses)


@jax.custom_vjp
def _transducer(z: Array, labels: Array, frames: Array, lengths: Array, invalid: Array, blank: Array) -> Array:
    return _transducer_value(z, labels, frames, lengths, blank) * (1 + invalid)


def _valid(z: Array, frames: Array, lengths: Array) -> Array:
    """Whether a node is inside the lengths."""
    rows = jnp.arange(z.shape[1])[None, :, None] < frames[:, None, None]
    return rows & (jnp.arange(z.shape[2]) <= lengths[:, None, None])


def _log_probs(z: Array, labels: Array, frames: Array, lengths: Array, blank: Array) -> tuple[Array, Array, Array]:
    """The log-probabilities of blank and of the next label at each node, by diagonals, and the log-sum-exp of each node."""
    valid = _valid(z, frames, lengths)
    z = jnp.where(valid[..., None], _rules.wide(z), 0)
    dead = jnp.max(z, axis=-1, keepdims=True) == -jnp.inf  # no class can occur: no path leaves the node
    lse = jax.nn.logsumexp(jnp.where(dead, 0, z), axis=-1)
    of_blank = jnp.take_along_axis(z, blank.reshape(1, 1, 1, 1), axis=3)[..., 0] - lse
    of_label = jnp.take_along_axis(z[:, :, :-1], labels[:, None, :, None], axis=3)[..., 0] - lse[:, :, :-1]
    of_blank = jnp.where(valid, of_blank, -jnp.inf)
    of_label = jnp.where(valid[:, :, 1:], of_label, -jnp.inf)
    padded = jnp.pad(of_label, ((0, 0), (0, 0), (0, 1)), constant_values=-jnp.inf)
    return _grid.diagonals(of_blank, -jnp.inf), _grid.diagonals(padded, -jnp.inf)[:, :, :-1], lse


def _at_end(d: Array, frames: Array, lengths: Array, states: int) -> Array:
    """Where the last node of each sequence is on diagonal d, [B, U + 1]."""
    return (d == frames - 1 + lengths)[:, None] & (jnp.arange(states) == lengths[:, None])


def _forward(
    z: Array, labels: Array, frames: Array, lengths: Array, blank: Array, *, keeping: bool
) -> tuple[Array, tuple[Array, Array | None, Array]]:
    """The loss, and what its slope needs: the log-sum-exps, one number a node by diagonals, and one a sequence.

    The one of a node is the share that a label brings of the mass that comes to it, and the one of a sequence 0. Where the
    loss is below log 2, they are the mass that comes to the node, and 1 − Q of `_failures`.
    """
    of_blank, of_label, lse = _log_probs(z, labels, frames, lengths, blank)
    depth, batch, states = of_blank.shape
    none = _scaled.zeros((batch, states), lse.dtype)
    start = none._replace(exponent=none.exponent.at[:, 0].set(0))
    # No frames and no labels: the empty path.
    empty = ((frames == 0) & (lengths == 0))[:, None]
    end = none._replace(exponent=jnp.where(empty & (jnp.arange(states) == 0), 0, none.exponent))

    def body(carry: Any, at: Any) -> tuple[Any, Array]:
        masses, end = carry
        d, of_blank, of_label = at
        onward = _scaled.times_exp(masses, of_blank)
        spoken = _scaled.times_exp(jax.tree.map(lambda x: x[:, :-1], masses), of_label)
        end = _scaled.select(_at_end(d, frames, lengths, states), onward, end)
        masses, share = _scaled.add(onward, _scaled.after(spoken))
        return (masses, end), share

    carry, lse = _rules.alike(((start, end), lse))
    (_, end), shares = lax.scan(body, carry, (jnp.arange(depth), of_blank, of_label))
    at_length = jax.tree.map(lambda x: jnp.take_along_axis(x, lengths[:, None], axis=1)[:, 0], end)
    # Below 0 there is rounding alone.
    loss = jnp.maximum(-_scaled.log(at_length), 0)
    loss = jnp.where(jnp.any(jnp.isnan(lse), axis=(1, 2)), jnp.nan, loss)
    # Where a label is the blank, a class does not decide the next node.
    ambiguous = jnp.any((labels == blank) & (jnp.arange(states - 1) < lengths[:, None]), axis=1)
    likely = (loss < math.log(2)) & ~ambiguous
    q, kept = _failures(z, labels, frames, lengths, blank, likely, shares if keeping else None)
    return jnp.where(likely, -jnp.log1p(-q), loss), (lse, kept, jnp.where(likely, 1 - q, 0))


# --- Where the labels are likely ------------------------------------------------------------------------------------
# The loss is then −log(1 − Q), with Q the probability of failing: 1 − Q has lost Q to rounding. Whatever is neither blank
# nor the next label has failed, and the node decides where these two lead: Q is a sum of what is not negative.


class _Nodes(NamedTuple):
    """The probabilities of each node by diagonals, [T + U, B, U + 1], 0 outside the lengths.

    They are those of blank and of the next label, where these lead on, and of all other classes.
    """

    blank: Array
    label: Array
    failing: Array


def _lead_on(d: Array, frames: Array, lengths: Array, states: int) -> tuple[Array, Array]:
    """Whether blank leads to a node or to the end, and whether a label does, from the nodes of diagonal d, [B, U + 1]."""
    u = jnp.arange(states)
    return (d - u < frames[:, None] - 1) | (u == lengths[:, None]), u < lengths[:, None]


def _nodes(z: Array, labels: Array, frames: Array, lengths: Array, blank: Array, likely: Array) -> _Nodes:
    """The probabilities of the nodes, if any sequence is likely."""

    def all_of_them() -> _Nodes:
        valid = _valid(z, frames, lengths)
        wide = jnp.where(valid[..., None], _rules.wide(z), 0)
        top = jnp.max(wide, axis=-1)
        top = jnp.where(top == -jnp.inf, 0, top)
        t, u = jnp.arange(z.shape[1])[:, None], jnp.arange(z.shape[2])
        leads = (t + 1 < frames[:, None, None]) | (u == lengths[:, None, None]), u < lengths[:, None, None]
        is_blank, is_label = _classes_that_lead(z, labels, blank)
        on = (is_blank & leads[0][..., None]) | (is_label & leads[1][..., None])
        failing = jnp.sum(jnp.where(on, 0, jnp.exp(wide - top[..., None])), axis=-1)
        by_blank = jnp.take_along_axis(wide, blank.reshape(1, 1, 1, 1), axis=3)[..., 0]
        by_label = jnp.take_along_axis(wide, jnp.pad(labels, ((0, 0), (0, 1)))[:, None, :, None], axis=3)[..., 0]
        by_blank, by_label = (jnp.where(on, jnp.exp(x - top), 0) for on, x in zip(leads, (by_blank, by_label), strict=True))
        total = failing + by_blank + by_label
        dead = ~(total > 0)  # no class can occur: all paths through the node fail
        total, failing = jnp.where(dead, 1, total), jnp.where(dead, 1, failing)
        return _Nodes(*(_grid.diagonals(jnp.where(valid, x / total, 0), 0) for x in (by_blank, by_label, failing)))

    kinds = jax.eval_shape(all_of_them)
    none, _ = _rules.alike((jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), kinds), z))
    return lax.cond(jnp.any(likely), all_of_them, lambda: none)


def _classes_that_lead(z: Array, labels: Array, blank: Array) -> tuple[Array, Array]:
    """Whether a class is blank, and whether it is the next label."""
    classes = jnp.arange(z.shape[-1])
    next_label = jnp.pad(labels, ((0, 0), (0, 1)), constant_values=-1)[:, None, :, None]
    return classes == blank, classes == next_label


def _failures(
    z: Array, labels: Array, frames: Array, lengths: Array, blank: Array, likely: Array, kept: Array | None
) -> tuple[Array, Array | None]:
    """The probability of failing; and `kept`, where `likely`, with the mass that comes to each node in it.

    Where no sequence of the batch is likely, the loop ends at once.
    """
    nodes = _nodes(z, labels, frames, lengths, blank, likely)
    depth, batch, states = nodes.blank.shape

    def body(d: Array, carry: Any) -> Any:
        mass, failed, kept = carry
        if kept is not None:
            kept = kept.at[d].set(jnp.where(likely[:, None], mass, kept[d]))
        failed = failed.at[d].set(jnp.sum(mass * nodes.failing[d], axis=1))
        return mass * nodes.blank[d] + _scaled.shifted((mass * nodes.label[d])[:, :-1], 0), failed, kept

    start = jnp.zeros((batch, states), nodes.blank.dtype).at[:, 0].set(1)
    carry = _rules.alike((start, jnp.zeros((depth, batch), start.dtype), kept, nodes, likely))[:3]
    _, failed, kept = lax.fori_loop(0, jnp.where(jnp.any(likely), depth, 0), body, carry)
    return jnp.sum(failed, axis=0), kept


class _Factors(NamedTuple):
    """By diagonals, what multiplies the probabilities of a node: that of blank, of the next label, and of other classes."""

    blank: Array
    label: Array
    others: Array


def _with_failures(
    factors: _Factors, nodes: _Nodes, mass: Array, succeeding: Array, frames: Array, lengths: Array
) -> _Factors:
    """The factors with those of the likely sequences in them: mass (q of where the class leads − q) / (1 − Q).

    q is the probability of failing from a node, and 1 of a class that fails.
    """
    depth, batch, states = mass.shape
    likely = succeeding > 0
    scale = 1 / jnp.where(likely, succeeding, 1)[:, None]

    def body(i: Array, carry: Any) -> Any:
        q, factors = carry
        d = depth - 1 - i
        by_blank, by_label = _lead_on(d, frames, lengths, states)
        after_blank = jnp.where(by_blank, jnp.where(_at_end(d, frames, lengths, states), 0, q), 1)
        after_label = jnp.where(by_label, jnp.pad(q[:, 1:], ((0, 0), (0, 1))), 1)
        q = nodes.failing[d] + nodes.blank[d] * after_blank + nodes.label[d] * after_label
        here = _Factors(*(scale * mass[d] * x for x in (after_blank - q, after_label - q, 1 - q)))
        return q, jax.tree.map(lambda x, y: x.at[d].set(jnp.where(likely[:, None], y, x[d])), factors, here)

    start = _rules.alike((jnp.zeros((batch, states), mass.dtype), factors, nodes, succeeding))[:2]
    return lax.fori_loop(0, jnp.where(jnp.any(likely), depth, 0), body, start)[1]


# --- The loss -------------------------------------------------------------------------------------------------------


@jax.custom_jvp
def _transducer_value(z: Array, labels: Array, frames: Array, lengths: Array, blank: Array) -> Array:
    return _forward(z, labels, frames, lengths, blank, keeping=False)[0]


# Bit patterns have no derivative, so that JAX's own are taken of the recursion in log space. It serves `autodiff` and
# second derivatives.
@_transducer_value.defjvp
def _transducer_value_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    z, *rest = primals
    _, tangent = jax.jvp(lambda z: _log_space(z, *rest), (z,), (tangents[0],))
    return _transducer_value(*primals), tangent


@jax.custom_jvp
def _transducer_value_and_shares(
    z: Array, labels: Array, frames: Array, lengths: Array, blank: Array
) -> tuple[Array, tuple[Array, Array | None, Array]]:
    return _forward(z, labels, frames, lengths, blank, keeping=True)


# What is kept for `_transducer_slope` has no tangent: that function has one of its own, from the logits.
@_transducer_value_and_shares.defjvp
def _transducer_value_and_shares_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> Any:
    _, tangent = _transducer_value_jvp(primals, tangents)
    loss, kept = _transducer_value_and_shares(*primals)
    return (loss, kept), (tangent, jax.tree.map(jnp.zeros_like, kept))


@jax.custom_jvp
def _transducer_slope(
    cotangent: Array, z: Array, labels: Array, frames: Array, lengths: Array, blank: Array, kept: Any
) -> Array:
    """The cotangent of the logits, from the posterior probability that the path leaves each node by blank or by label.

    It is carried backward along the shares, by products and sums of numbers in [0, 1].
    """
    lse, shares, succeeding = kept
    depth, batch, states = shares.shape
    likely = succeeding > 0

    def body(arrived: Array, at: Any) -> tuple[Array, tuple[Array, Array]]:
        d, share = at
        spoken = (arrived * share)[:, 1:]
        onward = arrived * (1 - share) + _at_end(d, frames, lengths, states)
        return onward + jnp.pad(spoken, ((0, 0), (0, 1))), (onward, spoken)

    nothing, _ = _rules.alike((jnp.zeros((batch, states), shares.dtype), shares))
    _, (onward, spoken) = lax.scan(body, nothing, (jnp.arange(depth), shares), reverse=True)
    spoken = jnp.pad(spoken, ((0, 0), (0, 0), (0, 1)))
    nodes = _nodes(z, labels, frames, lengths, blank, likely)
    visits = onward + spoken
    factors = _with_failures(_Factors(visits, visits, visits), nodes, shares, succeeding, frames, lengths)
    factors = jax.tree.map(lambda x: _grid.from_diagonals(x)[..., None], factors)
    onward, spoken = (_grid.from_diagonals(jnp.where(likely[:, None], 0, x))[..., None] for x in (onward, spoken))
    is_blank, is_label = _classes_that_lead(z, labels, blank)
    probabilities = jnp.exp(_rules.wide(z) - lse[..., None])
    left = jnp.where(is_blank, onward, 0) + jnp.where(is_label, spoken, 0)
    factor = jnp.where(is_blank, factors.blank, jnp.where(is_label, factors.label, factors.others))
    slope = cotangent[:, None, None, None] * (factor * probabilities - left)
    return jnp.where(_valid(z, frames, lengths)[..., None], slope, 0).astype(z.dtype)


@_transducer_slope.defjvp
def _transducer_slope_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    cotangent, z, *rest, _ = primals

    def slope(cotangent: Array, z: Array) -> Array:
        _, pullback = jax.vjp(lambda z: _log_space(z, *rest), z)
        return pullback(cotangent)[0]

    return _transducer_slope(*primals), jax.jvp(slope, (cotangent, z), tangents[:2])[1]


def _transducer_fwd(
    z: Array, labels: Array, frames: Array, lengths: Array, invalid: Array, blank: Array
) -> tuple[Array, Any]:
    loss, kept = _transducer_value_and_shares(z, labels, frames, lengths, blank)
    return loss * (1 + invalid), (z, labels, frames, lengths, invalid, blank, kept, loss < jnp.inf)


# Saves the logarithms and exponentials of each node, and the digits that they lose over long sequences.
def _transducer_bwd(residuals: Any, cotangent: Array) -> tuple[Array, None, None, None, None, None]:
    z, labels, frames, lengths, invalid, blank, kept, possible = residuals
    cotangent = jnp.where(possible, cotangent, 0) + invalid
    return _transducer_slope(cotangent, z, labels, frames, lengths, blank, kept), None, None, None, None, None


_transducer.defvjp(_transducer_fwd, functools.partial(_rules.compiled, _transducer_bwd))


def _log_space(z: Array, labels: Array, frames: Array, lengths: Array, blank: Array) -> Array:
    """The loss by sums of logarithms, which JAX can differentiate."""
    never = -1e30  # a log-probability in place of −inf, whose derivatives would be NaN
    of_blank, of_label = _log_probs(z, labels, frames, lengths, blank)[:2]
    of_blank, of_label = jnp.maximum(of_blank, never), jnp.maximum(of_label, never)
    depth, batch, states = of_blank.shape
    start = jnp.full((batch, states), never, of_blank.dtype).at[:, 0].set(0)
    empty = ((frames == 0) & (lengths == 0))[:, None]
    end = jnp.where(empty & (jnp.arange(states) == 0), 0, jnp.full_like(start, never))

    def body(carry: Any, at: Any) -> tuple[Any, None]:
        masses, end = carry
        d, of_blank, of_label = at
        onward = masses + of_blank
        end = jnp.where(_at_end(d, frames, lengths, states), onward, end)
        return (_numerics.log_add_exp(onward, _scaled.shifted(masses[:, :-1] + of_label, never)), end), None

    carry, of_blank = _rules.alike(((start, end), of_blank))
    (_, end), _ = lax.scan(body, carry, (jnp.arange(depth), of_blank, of_label))
    total = jnp.take_along_axis(end, lengths[:, None], axis=1)[:, 0]
    return jnp.where(total < never / 2, jnp.inf, -total)
