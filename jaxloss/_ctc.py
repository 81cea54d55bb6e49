"""Connectionist temporal classification: the likelihood of a label sequence over all its alignments to the frames.

A path through the frames is in one of 2N + 1 states: in blank n, between labels n − 1 and n, or in label n. Each frame
stays, or goes from a blank to the label after it, from a label to the blank after it, or, if they differ, to the label
after it. α is the probability mass of the paths to a state, kept as mantissa and exponent (`_scaled.py`).
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _ctc_failures, _numerics, _rules, _scaled, _values
from jaxloss._ctc_failures import States
from jaxloss._scaled import Scaled


def ctc_loss(
    logits: Float[ArrayLike, "*batch frames classes"],
    logit_paddings: Float[ArrayLike, "*batch frames"]
    | Int[ArrayLike, "*batch frames"]
    | Bool[ArrayLike, "*batch frames"]
    | Int[ArrayLike, "*batch"],
    labels: Int[ArrayLike, "*batch labels"],
    label_paddings: Float[ArrayLike, "*batch labels"]
    | Int[ArrayLike, "*batch labels"]
    | Bool[ArrayLike, "*batch labels"]
    | Int[ArrayLike, "*batch"],
    *,
    blank_id: int = 0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The CTC loss: of a label sequence that is shorter than the frames, at no known places in them.

    Formula: −log Σ_π Π_t softmax(z_t)[π_t] over all paths π that give the labels once repetitions are merged and then
    blanks removed. Derivative by z_tk: softmax(z_t)_k less the posterior probability that the path is in class k at
    frame t; 0 at padding. Where there is no such path (too few frames, or logits of −inf), or its probability is
    below e^(−1.8e8), the loss is inf and its derivative 0: `where=jnp.isfinite(losses)` in `jaxloss.mean` leaves it out.

    Never negative. In float32 the loss is within 1e-6 of itself, or within 1e-7 a frame where it is less than the frames
    are many, and the gradient within 1e-5 of its norm. So they are where the labels are nearly sure: a loss below log 2
    comes from the probability of failing, within 1e-7 of itself a frame. The backward pass keeps one number a frame and
    state, of 2N + 1 states, beside the inputs.

    Args:
        logits: the score of each class in each frame; a class of −inf cannot occur.
        logit_paddings: 1 for a frame that is padding, wherever it is, and 0 for the others; or the number of frames of
            each sequence, as integers. No gradient goes to it.
        labels: class indices, of which some may repeat; out of range, or `blank_id`, and not padding: NaN in loss and
            gradient.
        label_paddings: 1 for padding, which is to the right of the labels; or the number of labels of each sequence, as
            integers. No gradient goes to it.
        blank_id: the class that stands for no label.
        where: which sequences count.

    Returns:
        One loss a sequence; 0 for no labels and no frames.

    Raises:
        TypeError: `logits` is not floating point, `labels` or `blank_id` are not integers, or `where` is not boolean.
        ValueError: the shapes do not fit, `blank_id` is not a class, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.log(jnp.array([[[0.75, 0.25], [0.5, 0.5]]]))
        >>> loss = jaxloss.ctc_loss(logits, jnp.zeros((1, 2)), jnp.array([[1]]), jnp.zeros((1, 1)))
        >>> print(jnp.exp(-loss))  # ¼ · ½ + ¾ · ½ + ¼ · ½
        [0.625]

    References:
        Graves, Fernández, Gomez and Schmidhuber, Connectionist Temporal Classification, 2006
    """
    arguments, shape, where = problem(logits, logit_paddings, labels, label_paddings, blank_id, where)
    losses = _rules.call(_ctc, *arguments).reshape(shape)
    return _rules.masked(where, losses)


def ctc_loss_with_forward_probs(
    logits: Float[ArrayLike, "batch frames classes"],
    logit_paddings: Float[ArrayLike, "batch frames"]
    | Int[ArrayLike, "batch frames"]
    | Bool[ArrayLike, "batch frames"]
    | Int[ArrayLike, "batch"],
    labels: Int[ArrayLike, "batch labels"],
    label_paddings: Float[ArrayLike, "batch labels"]
    | Int[ArrayLike, "batch labels"]
    | Bool[ArrayLike, "batch labels"]
    | Int[ArrayLike, "batch"],
    *,
    blank_id: int = 0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "batch"], Float[Array, "frames batch labels+1"], Float[Array, "frames batch labels"]]:
    """The CTC loss with the forward probabilities that it is computed from, as logarithms.

    Formula: log α(t, s), where α(t, s) is the probability of the frames up to t and of being in state s at t: blank n,
    before label n, or label n. At the last frame, blank n also has the mass of label n − 1. −inf for a state that cannot
    be reached. Derivative: that of `ctc_loss` for the loss; the probabilities are constants (`lax.stop_gradient`).

    Args:
        logits: the score of each class in each frame.
        logit_paddings: 1 for a frame that is padding, and 0 for the others; or the number of frames of each sequence.
        labels: class indices.
        label_paddings: 1 for padding, which is to the right of the labels; or the number of labels of each sequence.
        blank_id: the class that stands for no label.
        where: which sequences count. The probabilities of the others are of no account.

    Returns:
        One loss a sequence; log α of the blanks; log α of the labels.

    Raises:
        TypeError: `logits` is not floating point, `labels` or `blank_id` are not integers, or `where` is not boolean.
        ValueError: the shapes do not fit, `blank_id` is not a class, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.log(jnp.array([[[0.75, 0.25], [0.5, 0.5]]]))
        >>> paddings = jnp.zeros((1, 2)), jnp.zeros((1, 1))
        >>> loss, blank, label = jaxloss.ctc_loss_with_forward_probs(logits, paddings[0], jnp.array([[1]]), paddings[1])
        >>> print(jnp.exp(label[:, 0, 0]))
        [0.25 0.5 ]

    References:
        Graves, Fernández, Gomez and Schmidhuber, Connectionist Temporal Classification, 2006
    """
    if jnp.ndim(logits) != 3:
        raise ValueError(f"logits must have the axes batch, frames and classes, got shape {jnp.shape(logits)}")
    losses = ctc_loss(logits, logit_paddings, labels, label_paddings, blank_id=blank_id, where=where)
    arguments, _, _ = problem(logits, logit_paddings, labels, label_paddings, blank_id, where)
    blank, label = _rules.compiled(_log_forward, *_rules.alike(lax.stop_gradient(arguments)))
    frames = jnp.shape(logits)[1]
    return losses, blank[:frames], label[:frames]


def _log_forward(logits: Array, live: Array, labels: Array, lengths: Array, invalid: Array) -> tuple[Array, Array]:
    top, log_sums = _normalisers(logits, live)
    _, (masses, _) = _scan(logits, live, labels, top)
    passed = jnp.cumsum(log_sums, axis=1).T[..., None]

    blank, label = _scaled.log(masses.blank) - passed, _scaled.log(masses.label) - passed
    ends = jnp.logaddexp(blank[-1:], jnp.pad(label[-1:], ((0, 0), (0, 0), (1, 0)), constant_values=-jnp.inf))
    return jnp.concatenate([blank[:-1], ends]), label


def problem(
    logits: Any, logit_paddings: Any, labels: Any, label_paddings: Any, blank_id: int, where: Any
) -> tuple[tuple[Array, ...], tuple[int, ...], Array | None]:
    """The arguments of `_ctc` with one batch axis, the shape of the batch, and the mask."""
    logits, labels = _check.floating("logits", logits), _check.integer("labels", labels)
    if logits.ndim < 2 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have the axes frames and classes, with a class at least, got shape {logits.shape}")
    *batch, frames, classes = logits.shape
    if labels.ndim != len(batch) + 1 or labels.shape[:-1] != tuple(batch):
        raise ValueError(f"labels must have the shape {tuple(batch)} and an axis more, as logits have, got {labels.shape}")
    where = _check.mask(where, tuple(batch), "the sequences")
    live = _not_padding("logit_paddings", logit_paddings, "the frames of logits", (*batch, frames), where)
    counts = _not_padding("label_paddings", label_paddings, "labels", labels.shape, where)
    blank_id = _check.count("blank_id", blank_id, most=classes - 1)
    if frames == 0:  # the loops need one, be it padding
        logits, live = jnp.zeros((*batch, 1, classes), logits.dtype), jnp.zeros((*batch, 1), bool)
    if where is not None:
        selected = jnp.broadcast_to(where, tuple(batch))[..., None]
        live, counts = live & selected, counts & selected
    inside = (labels >= 0) & (labels < classes) & (labels != blank_id)
    _values.run_time(
        lambda: inside | ~counts, f"labels must be from 0 to {classes - 1}, and not the blank, where they are not padding"
    )
    _values.run_time(lambda: counts[..., 1:] <= counts[..., :-1], "label_paddings must be to the right of the labels")
    _values.run_time(
        lambda: jnp.any(live, axis=-1) | ~jnp.any(counts, axis=-1),
        "logit_paddings must leave a frame to a sequence that has labels: 1 is for padding, 0 for frames",
    )
    invalid = jnp.where(jnp.any(counts & ~inside, axis=-1), jnp.nan, 0).astype(_rules.wide_dtype(logits))
    states = jnp.pad(jnp.where(inside, labels, 0), [(0, 0)] * len(batch) + [(0, 1)], constant_values=blank_id)
    lengths = jnp.sum(counts, axis=-1, dtype=jnp.int32)
    whole = (logits, live, states.astype(jnp.int32), lengths, invalid)
    return tuple(x.reshape(math.prod(batch), *x.shape[len(batch) :]) for x in whole), tuple(batch), where


def _not_padding(name: str, paddings: Any, beside: str, shape: tuple[int, ...], where: Array | None) -> Array:
    """Where there is no padding, from paddings of `shape`, or from integer lengths, one a sequence."""
    paddings = _check.array(name, paddings)
    of = _values.left_out(where)
    if jnp.issubdtype(paddings.dtype, jnp.integer) and paddings.shape == shape[:-1]:
        inside = (paddings >= 0) & (paddings <= shape[-1])
        _values.run_time(lambda: inside | of, f"{name} must be from 0 to {shape[-1]} where they are lengths")
        return jnp.arange(shape[-1]) < paddings[..., None]
    if paddings.shape != shape:
        raise ValueError(
            f"beside {beside}, {name} must have the shape {shape}, or be integer lengths of the shape {shape[:-1]}, got "
            f"{paddings.shape} for {shape}; as paddings, lengths n are jnp.arange({shape[-1]}) >= n[..., None]"
        )
    inside = (paddings == 0) | (paddings == 1)
    _values.run_time(lambda: inside | of[..., None], f"{name} must be 1 for padding and 0 for the others")
    return paddings == 0


# --- The recursion --------------------------------------------------------------------------------------------------


class _Masses(NamedTuple):
    """The mass of each state, of the N + 1 blanks and of the N labels."""

    blank: Scaled
    label: Scaled


def may_follow(labels: Array) -> Array:
    """Whether label n may follow label n − 1 without a blank between them. The last column of `labels` is the blank."""
    differs = labels[:, 1:-1] != labels[:, :-2]
    return jnp.concatenate([jnp.zeros_like(labels[:, :-1][:, :1], bool), differs], axis=1)


def _step(masses: _Masses, frame: tuple[Array, Array], skips: Array) -> tuple[_Masses, States]:
    """One frame of the recursion. `frame` has the logits of blank [B, 1] and of the labels [B, N], less the maximum.

    The shares tell where the mass of a state came from. They are in [0, 1], and all that the backward pass needs. Of what
    went to blank n, the share from label n − 1; the others stayed in blank n. Of what went to label n, the share that
    stayed in it; the others came from blank n or, where a label may follow another at once, from blank n and label n − 1
    in the proportion of the share of blank n.
    """
    to_blank, from_label = _scaled.add(masses.blank, _scaled.after(masses.label))
    sources = _scaled.select(skips, *jax.tree.map(lambda x: x[:, :-1], (to_blank, masses.blank)))
    to_label, stayed = _scaled.add(sources, masses.label)
    after = _Masses(_scaled.times_exp(to_blank, frame[0]), _scaled.times_exp(to_label, frame[1]))
    return after, States(from_label, stayed)


# --- The loss -------------------------------------------------------------------------------------------------------


@jax.custom_vjp
def _ctc(logits: Array, live: Array, labels: Array, lengths: Array, invalid: Array) -> Array:
    return _ctc_value(logits, live, labels, lengths) * (1 + invalid)


def _normalisers(logits: Array, live: Array) -> tuple[Array, Array]:
    """The largest logit of each frame, and the logarithm of Σ e^(z − largest); 0 for padding."""
    z = _rules.wide(logits)
    top = jnp.where(live, jnp.max(z, axis=-1), 0)
    dead = ~live | (top == -jnp.inf)  # no class can occur: all paths through the frame are impossible
    top = jnp.where(dead, 0, top)
    return top, jnp.log(jnp.where(dead, 1, jnp.sum(jnp.exp(z - top[..., None]), axis=-1)))


def _scan(logits: Array, live: Array, labels: Array, top: Array) -> tuple[_Masses, Any]:
    """The masses after the last frame; and after each frame, with the shares of its step, [T, B, states]."""
    frames, skips = jnp.arange(logits.shape[1]), may_follow(labels)
    blank = _scaled.zeros(labels.shape, top.dtype)
    # Before the first frame, all mass is in blank 0.
    start = _Masses(blank._replace(exponent=blank.exponent.at[:, 0].set(0)), jax.tree.map(lambda x: x[:, 1:], blank))
    start, top = _rules.alike((start, top))

    def body(masses: _Masses, at: tuple[Array, Array, Array]) -> tuple[_Masses, Any]:
        t, top, live = at
        x = _of_labels(logits, t, labels) - top[:, None]
        after, shares = _step(masses, (x[:, -1:], x[:, :-1]), skips)
        stays = States(jnp.zeros_like(shares.blank), jnp.ones_like(shares.label))
        after, shares = _scaled.select(live[:, None], (after, shares), (masses, stays))
        return after, (after, shares)

    return lax.scan(body, start, (frames, top.T, live.T))


def _of_labels(logits: Array, t: Array, labels: Array) -> Array:
    """The logits of the labels and of blank in frame t, [B, N + 1]."""
    z = lax.dynamic_index_in_dim(logits, t, axis=1, keepdims=False)
    return _rules.wide(jnp.take_along_axis(z, labels, axis=1))


def _row(logits: Array, t: Array) -> Array:
    return _rules.wide(lax.dynamic_index_in_dim(logits, t, axis=1, keepdims=False))


def _failures(
    logits: Array, live: Array, labels: Array, lengths: Array, top: Array, likely: Array, kept: States | None
) -> tuple[Array, States | None]:
    """The loss from the probability of failing; and `kept`, where `likely`, with the masses before each frame in it.

    Where no sequence of the batch is likely, the loop ends at once.
    """
    skips = may_follow(labels)

    def body(t: Array, carry: Any) -> Any:
        mass, failed, kept = carry
        if kept is not None:
            kept = jax.tree.map(lambda x, a: x.at[t].set(jnp.where(likely[:, None], a, x[t])), kept, mass)
        row = _row(logits, t)
        sums = _ctc_failures.sums(row, top[:, t], labels)
        move = _ctc_failures.moves(jnp.take_along_axis(row, labels, axis=1), sums, labels, lengths, skips)
        after, share = _ctc_failures.forward(mass, move, skips)
        failed = failed.at[:, t].set(jnp.where(live[:, t], share, 0))
        return _scaled.select(live[:, t, None], after, mass), failed, kept

    carry = _rules.alike((_ctc_failures.start(labels, top.dtype), jnp.zeros_like(top), kept, top, live, likely))[:3]
    last, failed, kept = lax.fori_loop(0, jnp.where(jnp.any(likely), logits.shape[1], 0), body, carry)
    ends = _ctc_failures.ends(lengths, last)
    outside = sum(jnp.sum(jnp.where(end, 0, x), axis=1) for end, x in zip(ends, last, strict=True))
    return _sum_of_frames(-jnp.log1p(-failed)) - jnp.log1p(-jnp.minimum(outside, 1)), kept


def _total(masses: _Masses, lengths: Array, log_sums: Array) -> tuple[Array, Array]:
    """The loss, and the share of the paths that end in the last label rather than in the blank after it."""
    ends = masses.blank, _scaled.after(masses.label)
    ends = jax.tree.map(lambda x: jnp.take_along_axis(x, lengths[:, None], axis=1)[:, 0], ends)
    total, ended = _scaled.add(*ends)
    # Below 0 there is rounding alone.
    return jnp.maximum(_sum_of_frames(log_sums) - _scaled.log(total), 0), ended


def _sum_of_frames(x: Array) -> Array:
    """Σ over the frames, by halves: of thousands of numbers one after another, the rounding errors would add up."""
    while x.shape[1] > 1:
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2)))
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]
    return x[:, 0]


@jax.custom_jvp
def _ctc_value(logits: Array, live: Array, labels: Array, lengths: Array) -> Array:
    return _value_and_kept(logits, live, labels, lengths, keeping=False)[0]


def _value_and_kept(logits: Array, live: Array, labels: Array, lengths: Array, *, keeping: bool) -> tuple[Array, Any]:
    """The loss and what its slope needs of the recursions.

    That is the shares or, where the loss is below log 2, as `likely` says, the masses before each frame. Where no sequence
    of the batch is likely, the second recursion does not run.
    """
    top, log_sums = _normalisers(logits, live)
    masses, (_, shares) = _scan(logits, live, labels, top)
    loss, ended = _total(masses, lengths, log_sums)
    likely = loss < math.log(2)

    small, kept = _failures(logits, live, labels, lengths, top, likely, shares if keeping else None)
    loss = jnp.where(likely, small, loss)
    return loss, (top, log_sums, kept, ended, likely.astype(loss.dtype))


# Bit patterns have no derivative, so that JAX's own are taken of the recursion in log space. It serves `autodiff` and
# second derivatives.
@_ctc_value.defjvp
def _ctc_value_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    logits, *rest = primals
    _, tangent = jax.jvp(lambda z: _log_space(z, *rest), (logits,), (tangents[0],))
    return _ctc_value(*primals), tangent


@jax.custom_jvp
def _ctc_value_and_shares(logits: Array, live: Array, labels: Array, lengths: Array) -> tuple[Array, Any]:
    return _value_and_kept(logits, live, labels, lengths, keeping=True)


# What is kept for `_ctc_slope` has no tangent: that function has one of its own, from the logits.
@_ctc_value_and_shares.defjvp
def _ctc_value_and_shares_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> Any:
    _, tangent = _ctc_value_jvp(primals, tangents)
    loss, kept = _ctc_value_and_shares(*primals)
    return (loss, kept), (tangent, jax.tree.map(jnp.zeros_like, kept))


@jax.custom_jvp
def _ctc_slope(cotangent: Array, logits: Array, live: Array, labels: Array, lengths: Array, kept: Any) -> Array:
    """The cotangent of the logits: that of the loss times (probability − occupancy), frame by frame, from the last.

    The occupancy of a class is the posterior probability that the path is in one of its states. It is carried backward
    along the shares: products and sums of numbers in [0, 1], where α and β would have a logarithm each. Where the labels
    are likely, the probability of failing from each state is carried in the place of the occupancy of each state.
    """
    top, log_sums, kept, ended, likely = kept
    skips, likely = may_follow(labels), likely[:, None] > 0
    scale = jnp.where(live, cotangent[:, None], 0)
    probabilities = jnp.exp((_rules.wide(logits) - top[..., None]) - log_sums[..., None])
    slope = scale[..., None] * jnp.where(live[..., None], probabilities, 0)

    def at(kept: States, t: Any) -> States:
        return jax.tree.map(lambda x: x[t], kept)

    def less_occupied(slope: Array, t: Array, scale: Array, occupied: Array) -> Array:
        occupied = jnp.where(live[:, t, None], scale[:, None] * occupied, 0)  # of padding, whatever it holds
        return jax.vmap(lambda row, k, x: row.at[t, k].add(-x))(slope, labels, occupied)

    def occupied_and_before(states: States, kept: States) -> tuple[Array, States]:
        occupied = jnp.concatenate([states.label, jnp.sum(states.blank, axis=1, keepdims=True)], axis=1)
        return occupied, _occupied_before(states, kept, skips)

    def by_shares(i: Array, carry: Any) -> Any:
        slope, states = carry
        t = frames - 1 - i
        occupied, before = occupied_and_before(states, at(kept, t))
        return less_occupied(slope, t, scale[:, t], occupied), before

    def by_either(i: Array, carry: Any) -> Any:
        slope, states = carry
        t = frames - 1 - i
        row, mass, present = _row(logits, t), at(kept, t), live[:, t, None]
        sums = _ctc_failures.sums(row, top[:, t], labels)
        move = _ctc_failures.moves(jnp.take_along_axis(row, labels, axis=1), sums, labels, lengths, skips)
        failing = _scaled.select(present, _ctc_failures.backward(states, move, skips), states)
        exact = _ctc_failures.slopes(mass, states, failing, move, row, sums, labels, lengths, skips)
        classes = jnp.where(likely & present, exact.classes, row.shape[1])  # out of range: dropped
        slopes = scale[:, t, None] * exact.slopes
        slope = jax.vmap(lambda s, k, x: s.at[t, k].set(x, mode="drop"))(slope, classes, slopes)
        occupied, before = _scaled.select(likely, (exact.occupied, failing), occupied_and_before(states, mass))
        return less_occupied(slope, t, scale[:, t], occupied), before

    # One of the two loops ends at once.
    frames = logits.shape[1]
    last = _ctc_failures.last(_ctc_failures.ends(lengths, at(kept, 0)), ended, likely)
    count = jnp.where(jnp.any(likely), frames, 0)
    carry = lax.fori_loop(0, frames - count, by_shares, (slope, last))
    return lax.fori_loop(0, count, by_either, carry)[0].astype(logits.dtype)


def _occupied_before(occupied: States, shares: States, skips: Array) -> States:
    """The occupancies of the frame before, along the shares."""
    left = occupied.label * (1 - shares.label)
    to_label = jnp.where(skips, left * shares.blank[:, :-1], 0)
    from_blank = occupied.blank * shares.blank
    label = occupied.label * shares.label + from_blank[:, 1:] + jnp.pad(to_label[:, 1:], ((0, 0), (0, 1)))
    return States((occupied.blank - from_blank) + jnp.pad(left - to_label, ((0, 0), (0, 1))), label)


@_ctc_slope.defjvp
def _ctc_slope_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    cotangent, logits, *rest, _ = primals

    def slope(cotangent: Array, logits: Array) -> Array:
        _, pullback = jax.vjp(lambda z: _log_space(z, *rest), logits)
        return pullback(cotangent)[0]

    return _ctc_slope(*primals), jax.jvp(slope, (cotangent, logits), tangents[:2])[1]


def _ctc_fwd(logits: Array, live: Array, labels: Array, lengths: Array, invalid: Array) -> tuple[Array, Any]:
    loss, kept = _ctc_value_and_shares(logits, live, labels, lengths)
    return loss * (1 + invalid), (logits, live, labels, lengths, invalid, kept, loss < jnp.inf)


# Saves the logarithms and exponentials of each state and frame, and the digits that they lose: JAX's own derivative of
# the log-space recursion is a thousand times less accurate after some hundred frames, and keeps four arrays, not one.
def _ctc_bwd(residuals: Any, cotangent: Array) -> tuple[Array, None, None, None, None]:
    logits, live, labels, lengths, invalid, kept, possible = residuals
    cotangent = jnp.where(possible, cotangent, 0) + invalid
    return _ctc_slope(cotangent, logits, live, labels, lengths, kept), None, None, None, None


_ctc.defvjp(_ctc_fwd, functools.partial(_rules.compiled, _ctc_bwd))


def _log_space(logits: Array, live: Array, labels: Array, lengths: Array) -> Array:
    """The loss by sums of logarithms, which JAX can differentiate."""
    never = -1e30  # a log-probability in place of −inf, whose derivatives would be NaN
    z = _rules.wide(jnp.where(live[..., None], logits, 0))
    log_probs = jnp.maximum(jax.nn.log_softmax(z, axis=-1), never)
    log_probs = jnp.take_along_axis(log_probs, labels[:, None, :], axis=2)
    skips = may_follow(labels)
    start = jnp.full(labels.shape, never, z.dtype)

    def body(carry: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        blank, label = carry
        log_probs, live = at
        to_blank = _numerics.log_add_exp(blank, _scaled.shifted(label, never))
        to_label = _numerics.log_add_exp(label, jnp.where(skips, to_blank[:, :-1], blank[:, :-1]))
        new = to_blank + log_probs[:, -1:], to_label + log_probs[:, :-1]
        return _scaled.select(live[:, None], new, carry), None

    start, log_probs = _rules.alike(((start.at[:, 0].set(0), start[:, 1:]), log_probs))
    (blank, label), _ = lax.scan(body, start, (jnp.swapaxes(log_probs, 0, 1), live.T))
    ends = _numerics.log_add_exp(blank, _scaled.shifted(label, never))
    total = jnp.take_along_axis(ends, lengths[:, None], axis=1)[:, 0]
    return jnp.where(total < never / 2, jnp.inf, -total)
