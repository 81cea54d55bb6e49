"""Metric learning from pairs and triplets of vectors: cosines, contrastive, triplet and ranking losses."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _numerics, _rules, _softmax, _vectors
from jaxloss._rules import partials

# Every loss here is of pairs or triplets of vectors: one number for each, and `where` is over them. Two vectors that
# coincide, and a vector of zeros, have no direction between them or of their own: the derivative there is 0.


def cosine_similarity(
    predictions: Float[ArrayLike, "*batch dim"],
    targets: Float[ArrayLike, "*batch dim"],
    *,
    epsilon: Float[ArrayLike, "..."] = 0.0,
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The cosine of the angle between two vectors: how much they agree in direction. Its negative is a loss.

    Formula: ⟨p, y⟩ / (‖p‖ ‖y‖); 0 if one of them is the zero vector. Derivative by p: the part of y/‖y‖ at right angles
    to p, over ‖p‖; 0 where one of them is the zero vector. Vectors of any length neither overflow nor vanish.

    Args:
        predictions: the vectors p.
        targets: the vectors y, of the shape of `predictions`.
        epsilon: the least that the squares of ‖p‖ and ‖y‖ count as in the denominator, ≥ 0, differentiable.
        axis: the axis or axes of the vectors; None means all.
        where: which pairs count, not which components.

    Returns:
        One number a pair, from −1 to 1, within 8 ulp of the largest term of ⟨p, y⟩.

    Raises:
        TypeError: `predictions`, `targets` or `epsilon` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `epsilon` or `where` does not broadcast, `epsilon` is negative, or `axis` is out
            of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.cosine_similarity(jnp.array([3e20, 4e20]), jnp.array([1e-25, 0.0])))
        0.6

    References:
        Salton, Wong and Yang, A Vector Space Model for Automatic Indexing, 1975
    """
    a, b, epsilon, where = _pair_of_vectors(predictions, targets, epsilon, axis, where)
    return _rules.call(_cosine_similarity, a, b, epsilon, where)


def cosine_distance(
    predictions: Float[ArrayLike, "*batch dim"],
    targets: Float[ArrayLike, "*batch dim"],
    *,
    epsilon: Float[ArrayLike, "..."] = 0.0,
    axis: int | tuple[int, ...] | None = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """One minus the cosine of the angle between two vectors, with all its digits where they are nearly parallel.

    Formula: 1 − ⟨p, y⟩ / (‖p‖ ‖y‖), for less than a right angle taken as sin²/(1 + cos); 1 if one of them is the zero
    vector. Derivative by p: minus the part of y/‖y‖ at right angles to p, over ‖p‖; 0 where one is the zero vector.

    Args:
        predictions: the vectors p.
        targets: the vectors y, of the shape of `predictions`.
        epsilon: the least that the squares of ‖p‖ and ‖y‖ count as in the denominator, ≥ 0, differentiable.
        axis: the axis or axes of the vectors; None means all.
        where: which pairs count, not which components.

    Returns:
        One number a pair, from 0 to 2. Without `epsilon`, within 8 ulp, and the gradient within 8 ulp of its largest
        component for angles from 1e-6 on.

    Raises:
        TypeError: `predictions`, `targets` or `epsilon` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `epsilon` or `where` does not broadcast, `epsilon` is negative, or `axis` is out
            of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.cosine_distance(jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-4])))
        5e-09

    References:
        Salton, Wong and Yang, A Vector Space Model for Automatic Indexing, 1975
    """
    a, b, epsilon, where = _pair_of_vectors(predictions, targets, epsilon, axis, where)
    return _rules.call(_cosine_distance, a, b, epsilon, where)


def _pair_of_vectors(a: Any, b: Any, epsilon: Any, axis: Any, where: Any) -> tuple[Array, Array, Any, Any]:
    a, b = _check.pair("predictions", a, "targets", b)
    a, b = _check.vectors_last(a, axis), _check.vectors_last(b, axis)
    epsilon = _check.optional("epsilon", epsilon, _check.examples(a), unused=0, minimum=0, where=where)
    return a, b, epsilon, _check.mask(where, a.shape[:-1], "the pairs")


# The losses below keep their arguments alone for the backward pass: no float32 copy, no difference, no unit vectors.


@_rules.recomputed
def _cosine_similarity(a: Array, b: Array, epsilon: Any, where: Any) -> Array:
    a, b = _wide_and_masked(where, a, b)
    epsilon = _rules.harmless(where, epsilon)
    return _rules.masked(where, _vectors.cosine(a, b) if epsilon is None else _bounded_cosine(a, b, epsilon))


@_rules.recomputed
def _cosine_distance(a: Array, b: Array, epsilon: Any, where: Any) -> Array:
    a, b = _wide_and_masked(where, a, b)
    epsilon = _rules.harmless(where, epsilon)
    return _rules.masked(where, _vectors.cosine_complement(a, b) if epsilon is None else 1 - _bounded_cosine(a, b, epsilon))


def _bounded_cosine(a: Array, b: Array, epsilon: Array) -> Array:
    none = epsilon == 0
    least = jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, epsilon)))
    a, b = (_divided(x, jnp.maximum(_vectors.norm(x), least)[..., None]) for x in (a, b))
    return jnp.sum(a * b, axis=-1)


def _divided(x: Array, length: Array) -> Array:
    """x / length, and 0 with derivative 0 where the length is 0."""
    none = length == 0
    return jnp.where(none, 0, x / jnp.where(none, 1, length))


def _wide_and_masked(where: Any, *vectors: Array) -> tuple[Array, ...]:
    """The vectors in the dtype of the losses; zeros for what `where` leaves out."""
    return tuple(_rules.masked(where, _rules.wide(x, *vectors), 1) for x in vectors)


def cosine_embedding_loss(
    embeddings: Float[ArrayLike, "*batch dim"],
    others: Float[ArrayLike, "*batch dim"],
    labels: Float[ArrayLike, "*batch"] | Int[ArrayLike, "*batch"],
    *,
    margin: Float[ArrayLike, "..."] = 0.0,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Pulls pairs that belong together into one direction, and pushes others apart until their cosine is the margin.

    Formula: 1 − cos for label 1, max(0, cos − m) for label −1; in between, weighted by (1 + y)/2 and (1 − y)/2.
    Derivative by the vectors: that of ∓`cosine_similarity`; 0 at the kink and where one is the zero vector.

    Args:
        embeddings: one vector of each pair.
        others: the other one, of the shape of `embeddings`.
        labels: 1 for a pair that belongs together, −1 for one that does not; may be integers.
        margin: m, from −1 to 1; broadcasts to the pairs, differentiable.
        axis: the axis of the vectors; `labels` are without it.
        where: which pairs count.

    Returns:
        One loss a pair, from 0 to 2.

    Raises:
        TypeError: `embeddings`, `others` or `margin` is not floating point, or `where` is not boolean.
        ValueError: the shapes do not belong together, `margin` or `where` does not broadcast, `margin` is out of its
            domain, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> a, b = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[0.6, 0.8], [0.6, 0.8]])
        >>> print(jaxloss.cosine_embedding_loss(a, b, jnp.array([1, -1]), margin=0.5))
        [0.4 0.1]

    References:
        Weston et al., Deep Learning via Semi-Supervised Embedding, 2008, whose formula is of distances; this is torch's
    """
    a, b, labels, where = _labelled_pairs(embeddings, others, labels, axis, where)
    margin = _check.option("margin", margin, _check.examples(a), minimum=-1, maximum=1, where=where)
    return _rules.call(_cosine_embedding, a, b, labels, margin, where)


def _labelled_pairs(a: Any, b: Any, labels: Any, axis: Any, where: Any) -> tuple[Array, Array, Array, Any]:
    a, b = _check.pair("embeddings", a, "others", b)
    a, b = _check.vectors_last(a, axis), _check.vectors_last(b, axis)
    return a, b, _check.pair_labels(labels, a), _check.mask(where, a.shape[:-1], "the pairs")


@_rules.recomputed
def _cosine_embedding(a: Array, b: Array, labels: Array, margin: Array, where: Any) -> Array:
    a, b = _wide_and_masked(where, a, b)
    together = 0.5 * (1 + _labels_like(a, labels, where))
    apart = _numerics.positive_part(_vectors.cosine(a, b) - margin)
    return _rules.masked(where, together * _vectors.cosine_complement(a, b) + (1 - together) * apart)


def _labels_like(a: Array, labels: Array, where: Any) -> Array:
    return _rules.masked(where, labels.astype(a.dtype))


def contrastive_loss(
    embeddings: Float[ArrayLike, "*batch dim"],
    others: Float[ArrayLike, "*batch dim"],
    labels: Float[ArrayLike, "*batch"] | Int[ArrayLike, "*batch"] | Bool[ArrayLike, "*batch"],
    *,
    margin: Float[ArrayLike, "..."] = 1.0,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The contrastive loss of siamese networks: pulls similar pairs together, pushes others a margin apart.

    Formula: y d² + (1 − y) max(0, m − d)² with d the Euclidean distance; the paper's factor ½ is the caller's. Derivative
    by the first vector: 2(y d − (1 − y) max(0, m − d)) u, with u the unit vector from the second to it; u = 0 where the
    two coincide. The difference is formed first, and then its length, so that close pairs keep their digits.

    Args:
        embeddings: one vector of each pair.
        others: the other one, of the shape of `embeddings`.
        labels: y, 1 for a similar pair, 0 for another, or in between; may be integers or booleans.
        margin: m ≥ 0, in the unit of the distance; broadcasts to the pairs, differentiable.
        axis: the axis of the vectors; `labels` are without it.
        where: which pairs count.

    Returns:
        One loss a pair, in the unit of the distance squared; within 4 ulp, or of m² where d is close to m.

    Raises:
        TypeError: `embeddings`, `others` or `margin` is not floating point, or `where` is not boolean.
        ValueError: the shapes do not belong together, `margin` or `where` does not broadcast, `margin` is negative, or
            `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> a, b = jnp.zeros((2, 2)), jnp.array([[0.0, 0.5], [0.0, 0.5]])
        >>> print(jaxloss.contrastive_loss(a, b, jnp.array([1, 0]), margin=2.0))
        [0.25 2.25]

    References:
        Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006
    """
    a, b, labels, where = _labelled_pairs(embeddings, others, labels, axis, where)
    margin = _check.option("margin", margin, _check.examples(a), minimum=0, where=where)
    return _rules.call(_contrastive, a, b, labels, margin, where)


@_rules.recomputed
def _contrastive(a: Array, b: Array, labels: Array, margin: Array, where: Any) -> Array:
    a, b = _wide_and_masked(where, a, b)
    margin = _rules.harmless(where, margin)
    y, r = _labels_like(a, labels, where), a - b
    together, missing = jnp.sum(jnp.square(r), axis=-1), _numerics.positive_part(margin - _vectors.norm(r))
    return _rules.masked(where, _softmax.times(y, together) + (1 - y) * jnp.square(missing))


def triplet_margin_loss(
    anchors: Float[ArrayLike, "*batch dim"],
    positives: Float[ArrayLike, "*batch dim"],
    negatives: Float[ArrayLike, "*batch dim"],
    *,
    norm_degree: float = 2,
    squared: bool = False,
    margin: Float[ArrayLike, "..."] = 1.0,
    eps: Float[ArrayLike, "..."] = 0.0,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The triplet loss: an anchor should be closer to its positive than to its negative, by a margin.

    Formula: max(0, d(a, p) − d(a, n) + m) with d(x, y) = (Σ |x − y|^k + ε)^(1/k) and k the degree; `squared` takes d² in
    place of d, which is FaceNet's form. Derivative by p and n: ±u, the derivative of the length of the difference, which
    for k = 2 is the unit vector; by a, minus both. 0 at the kink, and from a distance of 0.

    Args:
        anchors: the vectors a.
        positives: the vectors p that belong with them, of the shape of `anchors`.
        negatives: the vectors n that do not, of the shape of `anchors`.
        norm_degree: k, a plain number from 1 to inf.
        squared: whether the distances are squared.
        margin: m ≥ 0, in the unit of the distance, squared or not; broadcasts to the triplets, differentiable.
        eps: ε ≥ 0, differentiable; 0 for k = inf. It is 1e-6 in optax, where it keeps the gradient of a zero distance
            finite; that needs none here. It rounds off every distance below ε^(1/k).
        axis: the axis of the vectors.
        where: which triplets count.

    Returns:
        One loss a triplet, within 4 ulp of the largest of its three terms; the derivatives of the distances within 8 ulp
        of the largest component, and 2k ulp for k > 4.

    Raises:
        TypeError: a vector, `margin` or `eps` is not floating point, `norm_degree` is not a plain number, or `where` is
            not boolean.
        ValueError: the shapes differ, an option or `where` does not broadcast or is out of its domain, or `axis` is out
            of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> a, p, n = jnp.array([0.0, 0.0]), jnp.array([0.6, 0.8]), jnp.array([0.3, 0.4])
        >>> print(jaxloss.triplet_margin_loss(a, p, n, margin=0.25))
        0.75

    References:
        Schroff, Kalenichenko and Philbin, FaceNet: A Unified Embedding for Face Recognition and Clustering, 2015
        Balntas et al., Learning Local Feature Descriptors with Triplets and Shallow Convolutional Neural Networks, 2016
    """
    anchors, positives = _check.pair("anchors", anchors, "positives", positives)
    anchors, negatives = _check.pair("anchors", anchors, "negatives", negatives)
    a, p, n = (_check.vectors_last(x, axis) for x in (anchors, positives, negatives))
    degree = _check.norm_degree("norm_degree", norm_degree)
    where = _check.mask(where, a.shape[:-1], "the triplets")
    margin = _check.option("margin", margin, _check.examples(a), minimum=0, where=where)
    eps = _check.optional("eps", eps, _check.examples(a), unused=0, minimum=0, where=where)
    if degree == math.inf and eps is not None:
        raise ValueError("eps must be 0 for norm_degree=inf: there is no sum to add it to")
    return _rules.call(_triplet(degree, _check.flag("squared", squared)), a, p, n, margin, eps, where)


@functools.cache
def _triplet(degree: float, squared: bool) -> Any:
    def distance(r: Array, eps: Any) -> Array:
        if squared and degree == 2:
            return jnp.sum(jnp.square(r), axis=-1) + (0 if eps is None else eps)
        length = _vectors.power_norm(r, degree) if eps is None else _raised_norm(r, eps.astype(r.dtype), degree)
        return jnp.square(length) if squared else length

    @_rules.recomputed
    def loss(a: Array, p: Array, n: Array, margin: Array, eps: Any, where: Any) -> Array:
        a, p, n = _wide_and_masked(where, a, p, n)
        margin, eps = _rules.harmless(where, margin), _rules.harmless(where, eps)
        return _rules.masked(where, _numerics.positive_part((distance(a - p, eps) - distance(a - n, eps)) + margin))

    return loss


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _raised_norm(r: Array, eps: Array, degree: float) -> Array:
    """(Σ |r|^degree + ε)^(1/degree) along the last axis: ε is the power of one more component."""
    least = jnp.broadcast_to((eps ** (1 / degree))[..., None], (*r.shape[:-1], 1))
    return _vectors.power_norm(jnp.concatenate([r, least], axis=-1), degree)


# At ε = 0, JAX's own derivative would be 0 · inf.
@_raised_norm.defjvp
def _raised_norm_jvp(degree: float, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (r, eps), (dr, deps) = primals, tangents
    length = _raised_norm(r, eps, degree)
    none = (length == 0) & (degree > 1)  # at degree 1 there is no kink in ε
    by_eps = _numerics.within_range(jnp.where(none, 1, length) ** (1 - degree) / degree)
    return length, jnp.sum(_vectors.power_slope(r, length, degree) * dr, axis=-1) + jnp.where(none, 0, by_eps) * deps


def margin_ranking_loss(
    scores: Float[ArrayLike, "*shape"],
    others: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"],
    *,
    margin: Float[ArrayLike, "..."] = 0.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The hinge loss of a pair of scores: the one that should rank higher must lead by the margin.

    Formula: max(0, m − y(s − t)). Derivative by s: −y where the loss is positive, else 0, also at the kink; by t: y there.

    Args:
        scores: one score of each pair, s, any shape.
        others: the other one, t, of the shape of `scores`.
        labels: y, 1 where s should be the higher one, −1 where t should; of the shape of `scores`; may be integers.
        margin: m, in the unit of the scores; broadcasts, differentiable.
        where: which pairs count; broadcasts to `scores`.

    Returns:
        One loss a pair, in the unit of the scores.

    Raises:
        TypeError: `scores`, `others` or `margin` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `margin` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.margin_ranking_loss(jnp.array([2.0, 2.0]), jnp.array([1.0, 1.0]), jnp.array([1, -1]), margin=0.5))
        [0.  1.5]

    References:
        Herbrich, Graepel and Obermayer, Large Margin Rank Boundaries for Ordinal Regression, 2000
    """
    scores, others = _check.pair("scores", scores, "others", others)
    scores, labels = _check.binary("scores", scores, labels)
    margin = _check.option("margin", margin, scores)
    return _margin_ranking(scores, others, labels, margin, where=_check.mask(where, scores.shape, "scores"))


def _violated(s: Array, t: Array, y: Array, margin: Array) -> Array:
    return jax.lax.stop_gradient((margin - y * (s - t) > 0).astype(s.dtype))


@partials(
    lambda s, t, y, margin: -y * _violated(s, t, y, margin),
    lambda s, t, y, margin: y * _violated(s, t, y, margin),
    lambda s, t, y, margin: jnp.where(_violated(s, t, y, margin) == 0, 0, t - s),
    _violated,
)
def _margin_ranking(s: Array, t: Array, y: Array, margin: Array) -> Array:
    return jnp.maximum(0, margin - y * (s - t))
