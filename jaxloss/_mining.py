"""Metric learning from a batch: each embedding is an anchor, and its labels or its partner say what belongs with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _numerics, _rules, _vectors

# Every loss of a batch here gives one number an anchor. `where` is over the embeddings: what it leaves out is no anchor,
# and nothing that an anchor is compared with. An anchor that has nothing to compare with has loss 0 and no gradient.

# How many similarities are held at a time, for as many anchors as that allows: 1 MB, which stays in the cache.
_ENTRIES = 2**18


def batch_hard_triplet_loss(
    embeddings: Float[ArrayLike, "batch dim"],
    labels: Int[ArrayLike, " batch"],
    *,
    squared: bool = False,
    margin: Float[ArrayLike, "..."] | None = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    """The triplet loss of each embedding with the farthest of its class and the nearest of all others.

    Formula: max(0, maxₚ d(a, p) − minₙ d(a, n) + m), p ≠ a of a's class and n of another; with `margin=None` the soft
    margin log(1 + e^(d(a, p) − d(a, n))). Derivative: that of the distances to the two, as in `triplet_margin_loss`; of
    several equally far, to the first. 0 where an anchor has no p or no n.

    Memory does not grow with the square of the batch: the two are found from blocks of inner products, and only their
    indices are kept.

    Args:
        embeddings: one vector an example. They are not normalised.
        labels: the class of each, any integers.
        squared: whether the distances are squared.
        margin: m ≥ 0, in the unit of the distance, squared or not; broadcasts to the anchors, differentiable. None is the
            soft margin.
        where: which embeddings there are, as anchors and as what they are compared with.

    Returns:
        One loss an anchor; within 4 ulp of the larger distance. Of two whose squared distances are within 1e-6 of the
        largest square in the batch, measured from its mean, either may be taken.

    Raises:
        TypeError: `embeddings` or `margin` is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: the shapes do not belong together, `margin` or `where` does not broadcast, or `margin` is negative.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> embeddings = jnp.array([[0.0], [2.0], [3.0]])
        >>> print(jaxloss.batch_hard_triplet_loss(embeddings, jnp.array([0, 0, 1])))
        [0. 2. 0.]

    References:
        Hermans, Beyer and Leibe, In Defense of the Triplet Loss for Person Re-Identification, 2017
    """
    embeddings, labels, where = _labelled(embeddings, labels, where)
    margin = _check.optional("margin", margin, _check.examples(embeddings), minimum=0, where=where)
    return _rules.compiled(_batch_hard(_check.flag("squared", squared)), embeddings, labels, margin, where)


def _labelled(embeddings: Any, labels: Any, where: Any) -> tuple[Array, Array, Any]:
    embeddings = _check.vectors("embeddings", embeddings, least=1)
    labels = _check.integer("labels", labels)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"labels must have the shape of the batch, {embeddings.shape[:1]}, got {labels.shape}")
    return embeddings, labels, _check.mask(where, labels.shape, "the batch")


def _there(labels: Array, where: Any) -> Array:
    """Which embeddings there are."""
    return jnp.broadcast_to(True if where is None else where, labels.shape)


@functools.cache
def _batch_hard(squared: bool) -> Any:
    @_rules.recomputed
    def of_the_hardest(x: Array, positives: Array, negatives: Array, found: Array, margin: Any, there: Array) -> Array:
        x = jnp.where(there[:, None], _rules.wide(x), 0)

        def distance(others: Array) -> Array:
            r = jnp.where(found[:, None], x - x[others], 0)
            return jnp.sum(jnp.square(r), axis=-1) if squared else _vectors.norm(r)

        behind = distance(positives) - distance(negatives)
        loss = _numerics.softplus(behind) if margin is None else _numerics.positive_part(behind + margin)
        return jnp.where(found, loss, 0)

    def losses(x: Array, labels: Array, margin: Any, where: Any) -> Array:
        there = _there(labels, where)
        hardest = _hardest(lax.stop_gradient(x), labels, there)
        return _rules.call(of_the_hardest, x, *hardest, margin, there)

    return losses


def _hardest(x: Array, labels: Array, there: Array) -> tuple[Array, Array, Array]:
    """The farthest of each anchor's own class, the nearest of the others, and whether it has both."""
    x = jnp.where(there[:, None], _rules.wide(x), 0)
    x = x / _vectors.power_of_two(x.reshape(-1))
    # Squares from the mean are small where distances are: fewer digits go in |y|² − 2⟨x, y⟩.
    x = jnp.where(there[:, None], x - jnp.sum(x, axis=0) / jnp.maximum(jnp.sum(there), 1), 0)
    squares = jnp.sum(jnp.square(x), axis=-1)

    def of_block(rows: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x_rows, label_rows, index = rows
        distances = squares - 2 * _products(x_rows, x)  # less the anchor's own square
        same, other = _sides(label_rows, index, labels, there)
        found = jnp.any(same, axis=-1) & jnp.any(other, axis=-1)
        farthest, nearest = jnp.where(same, distances, -jnp.inf), jnp.where(other, -distances, -jnp.inf)
        return _first_maximum(farthest), _first_maximum(nearest), found

    positives, negatives, found = _by_blocks(of_block, (x, labels, jnp.arange(len(x))))
    return positives, negatives, found & there


def _first_maximum(x: Array) -> Array:
    """The column of each row's maximum: as argmax, which takes twice the time on CPU."""
    columns = x.shape[-1]
    is_maximum = x == jnp.max(x, axis=-1, keepdims=True)
    return jnp.min(jnp.where(is_maximum, jnp.arange(columns), columns - 1), axis=-1)


def _products(rows: Array, columns: Array) -> Array:
    return jnp.matmul(rows, columns.T, precision=lax.Precision.HIGHEST)


def _sides(label_rows: Array, index: Array, labels: Array, there: Array) -> tuple[Array, Array]:
    """Which of the batch have an anchor's label, itself apart, and which have another."""
    same = label_rows[:, None] == labels
    itself = index[:, None] == jnp.arange(len(labels))
    return same & ~itself & there, ~same & there


def _by_blocks(of_block: Callable[[Any], Any], rows: Any) -> Any:
    """`of_block(rows)`, made for a block of rows at a time. It gives arrays with one entry a row."""
    count = len(jax.tree.leaves(rows)[0])
    size = max(_ENTRIES // count, 16)
    if count <= size:
        return of_block(rows)
    blocks = -(-count // size)

    def split(x: Array) -> Array:
        padding = [(0, blocks * size - count)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(blocks, size, *x.shape[1:])

    return jax.tree.map(lambda x: x.reshape(-1)[:count], lax.map(of_block, jax.tree.map(split, rows)))


def _log1p_sum_exp(z: Array, among: Array) -> Array:
    """log(1 + Σ e^z) over the entries `among` of each row, with all digits where the sum is tiny."""
    z = jnp.where(among, z, -jnp.inf)
    m = lax.stop_gradient(jnp.max(z, axis=-1, initial=0))
    total = jnp.sum(jnp.exp(z - m[:, None]), axis=-1)
    return m + jnp.log1p(total + jnp.expm1(-m))


def n_pairs_loss(
    anchors: Float[ArrayLike, "batch dim"],
    positives: Float[ArrayLike, "batch dim"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    """The N-pair loss: among all positives of the batch, each anchor should point to its own.

    Formula: log(1 + Σ_{j≠i} e^(⟨aᵢ, pⱼ⟩ − ⟨aᵢ, pᵢ⟩)), which is the cross-entropy of the inner products. Derivative by aᵢ:
    Σ_{j≠i} wⱼ (pⱼ − pᵢ) with w the softmax of the products; by the positives wⱼ aᵢ and −Σ wⱼ aᵢ. The vectors are not
    normalised; the paper adds a small multiple of their squared lengths, which is the caller's.

    Args:
        anchors: one vector of each pair, one pair a class.
        positives: the other one, of the shape of `anchors`.
        where: which pairs there are, as anchors and as what they are compared with.

    Returns:
        One loss an anchor, in nats, with an error of 8 ulp of the largest ‖aᵢ‖‖pⱼ‖; 0 where there is one pair alone.

    Raises:
        TypeError: `anchors` or `positives` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ or are not [batch, dim], or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.n_pairs_loss(jnp.eye(2), jnp.eye(2)))
        [0.31326 0.31326]

    References:
        Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, 2016
    """
    anchors, positives = _check.pair("anchors", anchors, "positives", positives)
    anchors, positives = _check.vectors("anchors", anchors, least=1), _check.vectors("positives", positives, least=1)
    return _rules.compiled(_n_pairs, anchors, positives, _check.mask(where, anchors.shape[:1], "the batch"))


def _n_pairs(anchors: Array, positives: Array, where: Any) -> Array:
    there = jnp.broadcast_to(True if where is None else where, anchors.shape[:1])

    @_rules.recomputed  # a block of products is made again for the backward pass
    def of_block(rows: Any, p: Array, there: Array) -> Array:
        a_rows, p_rows, index = rows
        z = _products(a_rows, p) - jnp.sum(a_rows * p_rows, axis=-1, keepdims=True)
        return _log1p_sum_exp(z, (index[:, None] != jnp.arange(len(p))) & there)

    a, p = (jnp.where(there[:, None], _rules.wide(x, anchors, positives), 0) for x in (anchors, positives))
    rows = a, p, jnp.arange(len(a))
    return jnp.where(there, _by_blocks(lambda rows: _rules.call(of_block, rows, p, there), rows), 0)


def multi_similarity_loss(
    embeddings: Float[ArrayLike, "batch dim"],
    labels: Int[ArrayLike, " batch"],
    *,
    alpha: Float[ArrayLike, ""] = 2.0,
    beta: Float[ArrayLike, ""] = 50.0,
    base: Float[ArrayLike, ""] = 0.5,
    epsilon: Float[ArrayLike, ""] | None = 0.1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    """The multi-similarity loss: weighs each pair by its own similarity and by how it compares with the anchor's others.

    Formula: log(1 + Σₚ e^(−α(s(a, p) − λ)))/α + log(1 + Σₙ e^(β(s(a, n) − λ)))/β with s the cosine, p ≠ a of a's class and
    n of another. Pairs are mined first: p counts if s(a, p) < maxₙ s(a, n) + ε, and n if s(a, n) > minₚ s(a, p) − ε, so
    that an anchor without a positive or a negative has loss 0. Derivative by s(a, p) and s(a, n): minus, and plus, the
    share of its exponential in 1 + Σ.

    Args:
        embeddings: one vector an example; its length does not matter.
        labels: the class of each, any integers.
        alpha: α > 0, differentiable.
        beta: β > 0, differentiable.
        base: λ, from −1 to 1, differentiable. The paper's text has 1, the authors' code ½.
        epsilon: ε ≥ 0, the margin of mining, without a gradient; None takes all pairs, and a sum of none is 0.
        where: which embeddings there are, as anchors and as what they are compared with.

    Returns:
        One loss an anchor. An error of 1 ulp in a cosine is one of β ulp in its term.

    Raises:
        TypeError: `embeddings` or an option is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: the shapes do not belong together, an option is out of its domain, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> embeddings = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> print(jaxloss.multi_similarity_loss(embeddings, jnp.array([0, 0, 1])))
        [0.86373 0.86373 0.     ]

    References:
        Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, 2019
    """
    embeddings, labels, where = _labelled(embeddings, labels, where)
    row = jax.ShapeDtypeStruct((), embeddings.dtype)
    alpha = _check.option("alpha", alpha, row, above=0)
    beta = _check.option("beta", beta, row, above=0)
    base = _check.option("base", base, row, minimum=-1, maximum=1)
    epsilon = _check.optional("epsilon", epsilon, row, minimum=0)
    return _rules.compiled(_by_cosines(_multi_similarity), embeddings, labels, where, (alpha, beta, base, epsilon))


@functools.cache
def _by_cosines(formula: Callable[..., Array]) -> Any:
    """The losses of all anchors from a formula of their cosines [rows, batch] and of which are alike, and which not."""

    @_rules.recomputed  # a block of cosines is made again for the backward pass
    def of_block(rows: Any, units: Array, labels: Array, there: Array, options: Any) -> Array:
        unit_rows, label_rows, index = rows
        same, other = _sides(label_rows, index, labels, there)
        return formula(_products(unit_rows, units), same, other, *options)

    def losses(x: Array, labels: Array, where: Any, options: Any) -> Array:
        there = _there(labels, where)
        units = _vectors.unit(jnp.where(there[:, None], _rules.wide(x), 0))
        rows = units, labels, jnp.arange(len(labels))
        return jnp.where(there, _by_blocks(lambda rows: _rules.call(of_block, rows, units, labels, there, options), rows), 0)

    return losses


def _multi_similarity(s: Array, same: Array, other: Array, alpha: Array, beta: Array, base: Array, epsilon: Any) -> Array:
    if epsilon is not None:
        nearest = jnp.max(s, axis=-1, keepdims=True, where=other, initial=-jnp.inf)
        farthest = jnp.min(s, axis=-1, keepdims=True, where=same, initial=jnp.inf)
        same, other = same & ~(s >= nearest + epsilon), other & ~(s <= farthest - epsilon)
    pull, push = _log1p_sum_exp(-alpha * (s - base), same), _log1p_sum_exp(beta * (s - base), other)
    return pull / alpha + push / beta


def circle_loss(
    embeddings: Float[ArrayLike, "batch dim"],
    labels: Int[ArrayLike, " batch"],
    *,
    margin: Float[ArrayLike, ""] = 0.4,
    gamma: Float[ArrayLike, ""] = 80.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, " batch"]:
    """The circle loss: each cosine is pulled to its optimum in proportion to how far it is from it.

    Formula: log(1 + Σₙ e^(γ αₙ (sₙ − m)) · Σₚ e^(−γ αₚ (sₚ − 1 + m))) with s the cosines of an anchor with the others of
    its class, p, and with those of others, n; αₚ = max(0, 1 + m − sₚ) and αₙ = max(0, m + sₙ) are constants to the
    derivative. Derivative by sₙ: γ αₙ times its share in the sum over n, times 1 − e^−loss; by sₚ likewise, negative. An
    anchor without p or without n has loss 0.

    Args:
        embeddings: one vector an example; its length does not matter.
        labels: the class of each, any integers.
        margin: m, from 0 to 1; differentiable where it stands in sₙ − m and sₚ − 1 + m. The paper has 0.25 for faces.
        gamma: γ > 0, the scale, differentiable. The paper has 256 for faces.
        where: which embeddings there are, as anchors and as what they are compared with.

    Returns:
        One loss an anchor. An error of 1 ulp in a cosine is one of γ(1 + m) ulp in its exponential.

    Raises:
        TypeError: `embeddings` or an option is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: the shapes do not belong together, an option is out of its domain, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> embeddings = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> print(jaxloss.circle_loss(embeddings, jnp.array([0, 0, 1]), gamma=1.0))
        [1.44795 1.44795 0.     ]

    References:
        Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, 2020
    """
    embeddings, labels, where = _labelled(embeddings, labels, where)
    row = jax.ShapeDtypeStruct((), embeddings.dtype)
    margin = _check.option("margin", margin, row, minimum=0, maximum=1)
    gamma = _check.option("gamma", gamma, row, above=0)
    return _rules.compiled(_by_cosines(_circle), embeddings, labels, where, (margin, gamma))


def _circle(s: Array, same: Array, other: Array, margin: Array, gamma: Array) -> Array:
    missing = lax.stop_gradient(jnp.maximum(1 + margin - s, 0))
    excess = lax.stop_gradient(jnp.maximum(s + margin, 0))
    pull, push = (
        _log_sum_exp(-gamma * missing * (s - (1 - margin)), same),
        _log_sum_exp(gamma * excess * (s - margin), other),
    )
    found = jnp.any(same, axis=-1) & jnp.any(other, axis=-1)
    return jnp.where(found, _numerics.softplus(jnp.where(found, pull + push, 0)), 0)


def _log_sum_exp(z: Array, among: Array) -> Array:
    """log Σ e^z over the entries `among` of each row, and 0 where there are none."""
    z = jnp.where(among, z, -jnp.inf)
    m = lax.stop_gradient(jnp.max(z, axis=-1))
    none = jnp.isneginf(m)
    m = jnp.where(none, 0, m)
    total = jnp.sum(jnp.exp(z - m[:, None]), axis=-1)
    return m + jnp.log(jnp.where(none, 1, total))
