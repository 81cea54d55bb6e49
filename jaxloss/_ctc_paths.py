"""Paths of connectionist temporal classification: the labels that a network says, and where they are in the frames."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _ctc, _rules, _scaled


def ctc_greedy_decode(
    logits: Float[ArrayLike, "*batch frames classes"],
    logit_paddings: Float[ArrayLike, "*batch frames"]
    | Int[ArrayLike, "*batch frames"]
    | Bool[ArrayLike, "*batch frames"]
    | Int[ArrayLike, "*batch"],
    *,
    blank_id: int = 0,
) -> tuple[Int[Array, "*batch frames"], Bool[Array, "*batch frames"]]:
    """The labels of the best class of each frame: repetitions merged, then blanks removed.

    Args:
        logits: the score of each class in each frame.
        logit_paddings: 1 for a frame that is padding, and 0 for the others; or the number of frames of each sequence.
        blank_id: the class that stands for no label.

    Returns:
        Labels, to the left, and label paddings, as `ctc_loss` takes them. Padding holds `blank_id`.

    Raises:
        TypeError: `logits` is not floating point.
        ValueError: the shapes do not fit, or `blank_id` is not a class.

    Example:
        >>> import jax, jax.numpy as jnp, jaxloss
        >>> logits = jax.nn.one_hot(jnp.array([0, 1, 1, 0, 1, 2]), 3)
        >>> labels, paddings = jaxloss.ctc_greedy_decode(logits, jnp.zeros(6))
        >>> print(labels[~paddings])
        [1 1 2]

    References:
        Graves, Fernández, Gomez and Schmidhuber, Connectionist Temporal Classification, 2006, section 3.2
    """
    none = jnp.zeros((*jnp.shape(logits)[:-2], 0), jnp.int32)
    (z, live, _, _, _), batch, _ = _ctc.problem(logits, logit_paddings, none, none, blank_id, None)
    best = jnp.argmax(z, axis=-1).astype(jnp.int32)
    frames = jnp.arange(best.shape[1])
    # The frame before, padding left out; blank before the first.
    latest = lax.cummax(jnp.where(live, frames, -1), axis=1)
    earlier = _scaled.shifted(latest, -1)[:, :-1]
    previous = jnp.where(earlier < 0, blank_id, jnp.take_along_axis(best, jnp.maximum(earlier, 0), axis=1))
    starts = live & (best != blank_id) & (best != previous)
    place = jnp.where(starts, jnp.cumsum(starts, axis=1) - 1, best.shape[1])  # out of range: dropped
    labels = jax.vmap(lambda row, i, x: row.at[i].set(x, mode="drop"))(jnp.full_like(best, blank_id), place, best)
    paddings = frames >= jnp.sum(starts, axis=1, keepdims=True)
    shape = *batch, jnp.shape(logits)[-2]
    return labels[:, : shape[-1]].reshape(shape), paddings[:, : shape[-1]].reshape(shape)


def ctc_forced_alignment(
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
) -> Int[Array, "*batch frames"]:
    """The most probable path of a label sequence through the frames, by Viterbi's algorithm.

    Formula: argmax_π Π_t softmax(z_t)[π_t] over the paths π of `ctc_loss`.

    Args:
        logits: the score of each class in each frame.
        logit_paddings: 1 for a frame that is padding, and 0 for the others; or the number of frames of each sequence.
        labels: class indices.
        label_paddings: 1 for padding, which is to the right of the labels; or the number of labels of each sequence.
        blank_id: the class that stands for no label.

    Returns:
        For each frame the position n of its label, `labels[n]`, or −1 for blank and for padding. All −1 where the labels
        have no path, or one of them is no class.

    Raises:
        TypeError: `logits` is not floating point, or `labels` are not integers.
        ValueError: the shapes do not fit, or `blank_id` is not a class.

    Example:
        >>> import jax, jax.numpy as jnp, jaxloss
        >>> logits = jax.nn.one_hot(jnp.array([0, 1, 1, 0, 1, 2]), 3)
        >>> print(jaxloss.ctc_forced_alignment(logits, jnp.zeros(6), jnp.array([1, 1, 2]), jnp.zeros(3)))
        [-1  0  0 -1  1  2]

    References:
        Graves, Fernández, Gomez and Schmidhuber, Connectionist Temporal Classification, 2006
    """
    arguments, batch, _ = _ctc.problem(logits, logit_paddings, labels, label_paddings, blank_id, None)
    shape = *batch, jnp.shape(logits)[-2]
    return _rules.compiled(_viterbi, *_rules.alike(arguments))[:, : shape[-1]].reshape(shape)


def _viterbi(logits: Array, live: Array, labels: Array, lengths: Array, invalid: Array) -> Array:
    never = -jnp.inf
    log_probs = jnp.where(live[..., None], jax.nn.log_softmax(_rules.wide(logits), axis=-1), 0)
    log_probs = jnp.take_along_axis(log_probs, labels[:, None, :], axis=2)
    skips = _ctc.may_follow(labels)

    def forward(carry: tuple[Array, Array], at: tuple[Array, Array]) -> Any:
        """The best path to each state, and for each whether it came from another one, and from which."""
        blank, label = carry
        log_probs, live = at
        before = _scaled.shifted(label, never)
        to_blank = jnp.maximum(blank, before)
        source = jnp.where(skips, to_blank[:, :-1], blank[:, :-1])
        new = to_blank + log_probs[:, -1:], jnp.maximum(label, source) + log_probs[:, :-1]
        live = live[:, None]
        new = _scaled.select(live, new, carry)
        return new, ((before > blank) & live, (source > label) & live)

    blank = jnp.full_like(labels, never, dtype=log_probs.dtype)
    (blank, label), moves = lax.scan(forward, (blank.at[:, 0].set(0), blank[:, 1:]), (jnp.swapaxes(log_probs, 0, 1), live.T))

    def at(x: Array, n: Array) -> Array:
        return jnp.take_along_axis(x, n[:, None], axis=1)[:, 0]

    def back(state: tuple[Array, Array], at_frame: Any) -> tuple[tuple[Array, Array], Array]:
        """Blank n or, if `spoken`, label n."""
        n, spoken = state
        (to_blank, to_label), live = at_frame
        left = at(to_label, n) & spoken
        # From label n to blank n or past it, as the best path to blank n goes; from blank n to label n − 1.
        passed = at(to_blank, n) & jnp.where(spoken, left & at(skips, n), True)
        return (n - passed, passed | (spoken & ~left)), jnp.where(spoken & live, n, -1)

    ends = at(blank, lengths), at(_scaled.shifted(label, never), lengths)
    spoken = ends[1] > ends[0]
    # A column more, so that n = N has one too.
    padded = [jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((0, 1),)) for x in (moves[1], skips)]
    skips = padded[1]
    _, path = lax.scan(back, (lengths - spoken, spoken), ((moves[0], padded[0]), live.T), reverse=True)
    possible = (jnp.maximum(*ends) > never) & (invalid == 0)
    return jnp.where(possible[:, None], path.T, -1)
