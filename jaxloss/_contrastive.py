"""Contrastive losses: an example is to be more similar to its positives than to the rest of the batch."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _numerics, _rules, _vectors
from jaxloss._similarities import (
    Block,
    block,
    both_pulls,
    both_sums,
    entropy,
    negative_weight,
    only,
    over_rows,
    product,
    row_and_column_pulls,
    shifted_sum,
)

# Every function here takes batches [n, features] and returns one loss an example, in float32 or wider. `where`, one
# boolean an example, says which are there at all: the others are neither anchors nor negatives. The n × n similarities
# are made by `block_size` rows at a time. A row is a cross-entropy, log(1 + Σ exp(negative − positive)), so that a tiny
# loss keeps its digits. Cosines are right to about 2^-23, and a similarity is a cosine over the temperature t: expect
# 2^-22 / t of absolute error in a loss, beside a few units in its last place. Products are in full float32 everywhere.


def ntxent(
    embeddings: Float[ArrayLike, "n features"],
    labels: Int[ArrayLike, " n"],
    *,
    temperature: Float[ArrayLike, ""] = 0.07,
    block_size: int | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, " n"]:
    """NT-Xent, the loss of SimCLR: each positive of an anchor competes with all that have another label.

    Formula: with s_ij = cos(xᵢ, xⱼ)/t, the mean over the positives p of anchor i (the others of its label) of
    log(1 + Σ_k exp(s_ik − s_ip)), k over the other labels. Derivative by s_ip: −q/|P|, with q the share of the negatives
    beside p. optax's value is the mean over pairs: `jaxloss.mean(ntxent(...), weights=<number of positives>)`.

    Args:
        embeddings: one vector an example, of any length: only directions count; a zero vector has cosine 0 with all.
        labels: who belongs together, such as [0, 0, 1, 1] for two views each of two images; any integers.
        temperature: t > 0; differentiable.
        block_size: how many anchors to take at a time; None means 256, fewer in a large batch.
        where: which examples are there.

    Returns:
        One loss an anchor; 0, with zero gradient, for one without a positive or without a negative.

    Raises:
        TypeError: `embeddings` or `temperature` is not floating point, `labels` are not integers, `block_size` is not an
            integer, or `where` is not boolean.
        ValueError: `embeddings` are not [n, features], `labels` not [n], `temperature` or `block_size` is not positive, or
            `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> views = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 1.0]])
        >>> print(jaxloss.ntxent(views, jnp.array([0, 0, 1, 1]), temperature=0.5))
        [0.26407242 0.80786633 0.80786633 0.26407242]

    References:
        Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual Representations, 2020
    """
    return _by_labels(_ntxent, embeddings, labels, temperature, block_size, where)


def supervised_contrastive_loss(
    embeddings: Float[ArrayLike, "n features"],
    labels: Int[ArrayLike, " n"],
    *,
    temperature: Float[ArrayLike, ""] = 0.1,
    block_size: int | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, " n"]:
    """SupCon: as `ntxent`, but the positives of an anchor compete with each other as well.

    Formula: with s_ij = cos(xᵢ, xⱼ)/t, the mean over the positives p of anchor i (the others of its label) of
    log Σ_{a≠i} exp(s_ia) − s_ip: L_out of the paper. Derivative by s_ia: softmax(s_i)_a, less 1/|P| for a positive. With
    one positive an anchor it is `ntxent`; with more it is at least log |P|.

    Args:
        embeddings: one vector an example, of any length: only directions count; a zero vector has cosine 0 with all.
        labels: the class of each example; any integers.
        temperature: t > 0; differentiable. The authors' code has a further factor t/0.07.
        block_size: how many anchors to take at a time; None means 256, fewer in a large batch.
        where: which examples are there.

    Returns:
        One loss an anchor; 0, with zero gradient, for one without a positive.

    Raises:
        TypeError: `embeddings` or `temperature` is not floating point, `labels` are not integers, `block_size` is not an
            integer, or `where` is not boolean.
        ValueError: `embeddings` are not [n, features], `labels` not [n], `temperature` or `block_size` is not positive, or
            `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> vectors = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> print(jaxloss.supervised_contrastive_loss(vectors, jnp.array([0, 0, 0, 1]), temperature=1.0))
        [0.861995 0.861995 0.861995 0.      ]

    References:
        Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu and Krishnan, Supervised Contrastive Learning, 2020
    """
    return _by_labels(_supervised, embeddings, labels, temperature, block_size, where)


def _by_labels(rule: Any, embeddings: Any, labels: Any, temperature: Any, block_size: Any, where: Any) -> Array:
    embeddings = _check.vectors("embeddings", embeddings)
    labels = _check.groups("embeddings", embeddings, labels)
    temperature = _check.option("temperature", temperature, embeddings, above=0, shape=())
    n = embeddings.shape[0]
    where = _check.mask(where, (n,), "the examples")
    return _rules.call(rule, embeddings, labels, temperature, where, block(block_size, n, n))


def _directions(x: Array, where: Any, *others: Any) -> Array:
    """Unit vectors in float32 or wider; zero vectors where there is no example."""
    return _vectors.unit(_as_they_are(x, where, *others))


def _present(where: Any, n: int) -> Array:
    return jnp.broadcast_to(jnp.asarray(True) if where is None else where, (n,))


def _mean_of(x: Array, counted: Array) -> Array:
    """The mean of the counted entries of each row; 0 where there are none."""
    return jnp.sum(jnp.where(counted, x, 0), -1) / jnp.maximum(jnp.sum(counted, -1), 1).astype(x.dtype)


class _Rows(NamedTuple):
    """Some rows of the similarities: which are of positives, and which of negatives."""

    similarities: Array
    positive: Array
    negative: Array


def _labelled_vectors(embeddings: Array, temperature: Array, where: Any) -> tuple[Array, Array]:
    units = _directions(embeddings, where, temperature)
    return units / temperature, units


def _rows(rows: tuple[Array, ...], units: Array, labels: Array, where: Any) -> _Rows:
    vectors, own_labels, own_index = rows
    present = _present(where, len(labels))
    same = own_labels[:, None] == labels
    positive = same & (own_index[:, None] != jnp.arange(len(labels))) & present
    return _Rows(product(vectors, units.T), positive, ~same & present)


# The rule keeps the embeddings as they came and two numbers a row: the normalised ones, and all that is n × n, is made
# again, and once, where autodiff through the blocks makes it twice.
@jax.custom_vjp
def _ntxent(embeddings: Array, labels: Array, temperature: Array, where: Any, block: Block) -> Array:
    return _ntxent_value(embeddings, labels, temperature, where, block)


def _ntxent_value(embeddings: Array, labels: Array, temperature: Array, where: Any, block: Block) -> Array:
    losses, _ = _ntxent_sums(embeddings, labels, temperature, where, block)
    return losses


def _ntxent_sums(embeddings: Array, labels: Array, temperature: Array, where: Any, block: Block) -> Any:
    def of_rows(*rows: Array) -> Any:
        s, positive, negative = _rows(rows, units, labels, where)
        m, total = shifted_sum(only(negative, s))
        gap = jnp.where(positive, m[:, None] - s, 0)
        return _mean_of(entropy(gap, total[:, None]), positive), (m, total)

    vectors, units = _labelled_vectors(embeddings, temperature, where)
    losses, sums = over_rows(of_rows, (vectors, labels, jnp.arange(len(labels))), block)
    return _rules.masked(where, losses), sums


def _ntxent_fwd(embeddings: Array, labels: Array, temperature: Array, where: Any, block: Block) -> tuple[Array, Any]:
    losses, sums = _ntxent_sums(embeddings, labels, temperature, where, block)
    return losses, (embeddings, labels, temperature, where, block, sums)


def _ntxent_bwd(residuals: Any, cotangent: Array) -> tuple[Any, ...]:
    embeddings, labels, temperature, where, block, sums = residuals

    def slopes(rows: tuple[Array, ...], m: Array, total: Array, cotangent: Array) -> Array:
        s, positive, negative = _rows(rows, units, labels, where)
        weight = negative_weight(jnp.where(positive, m[:, None] - s, 0), total[:, None])
        pull = (cotangent / jnp.maximum(jnp.sum(positive, -1), 1))[:, None]
        by_total = pull * jnp.sum(jnp.where(positive, weight, 0), -1, keepdims=True)
        by_negative = by_total * jnp.exp(only(negative, s) - m[:, None])
        return jnp.where(positive, -pull * (total[:, None] * weight), by_negative)

    (vectors, units), pullback = jax.vjp(lambda x, t: _labelled_vectors(x, t, where), embeddings, temperature)
    cotangent = _rules.masked(where, cotangent)
    rows = vectors, labels, jnp.arange(len(labels))
    bars = row_and_column_pulls(slopes, rows, (*sums, cotangent), units, block)
    by_embeddings, by_temperature = pullback(bars)
    return by_embeddings, None, by_temperature, None, None


_ntxent.defvjp(_ntxent_fwd, functools.partial(_rules.compiled, _ntxent_bwd))


# The rule keeps the embeddings as they came.
@_rules.recomputed
def _supervised(embeddings: Array, labels: Array, temperature: Array, where: Any, block: Block) -> Array:
    def of_rows(*rows: Array) -> Array:
        s, positive, negative = _rows(rows, units, labels, where)
        (best, own), (m, total) = shifted_sum(only(positive, s)), shifted_sum(only(negative, s))
        log_own = jnp.log(jnp.where(own == 0, 1, own))
        loss = entropy(jnp.where(own == 0, 0, m - best - log_own), total)
        # What the positives lose to each other: exactly 0, in value and gradient, where there is only one.
        several = jnp.sum(positive, -1) > 1
        loss = loss + jnp.where(several, log_own + _mean_of(best[:, None] - s, positive), 0)
        return jnp.where(own == 0, 0, loss)

    vectors, units = _labelled_vectors(embeddings, temperature, where)
    losses = over_rows(of_rows, (vectors, labels, jnp.arange(len(labels))), block)
    return _rules.masked(where, losses)


def info_nce_loss(
    anchors: Float[ArrayLike, "n features"],
    positives: Float[ArrayLike, "n features"],
    *,
    negatives: Float[ArrayLike, "m features"] | None = None,
    temperature: Float[ArrayLike, ""] = 1.0,
    normalize: bool = False,
    block_size: int | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, " n"]:
    """InfoNCE: the anchor is to pick its positive out of those of the whole batch, by its dot products with them.

    Formula: with s_ij = aᵢ · pⱼ/t, log Σ_j exp(s_ij) − s_ii, taken as log(1 + Σ_{j≠i} exp(s_ij − s_ii)). Derivative by
    s_ij: softmax(s_i)_j − 1[j = i]. The paper's bilinear score belongs to the model: anchors z W.

    Args:
        anchors: one vector an example.
        positives: the shape of `anchors`; those of the other examples are the negatives.
        negatives: further negatives of every anchor, such as a queue of earlier keys or hard ones; no `where` is over them.
        temperature: t > 0; differentiable.
        normalize: take cosines, as for SimCLR and CLIP, in place of dot products; a zero vector then has cosine 0 with all.
        block_size: how many anchors to take at a time; None means 256, fewer in a large batch.
        where: which examples are there.

    Returns:
        One loss an anchor; 0, with zero gradient, where there is no negative.

    Raises:
        TypeError: an array or `temperature` is not floating point, `block_size` is not an integer, or `where` is not
            boolean.
        ValueError: the arrays are not [n, features], `negatives` not [m, features], `temperature` or `block_size` is not
            positive, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.info_nce_loss(jnp.array([[2.0, 0.0], [0.0, 20.0]]), jnp.eye(2)))
        [1.2692800e-01 2.0611537e-09]

    References:
        van den Oord, Li and Vinyals, Representation Learning with Contrastive Predictive Coding, 2018
    """
    anchors = _check.vectors("anchors", anchors)
    anchors, positives = _check.pair("anchors", anchors, "positives", positives)
    n, features = anchors.shape
    if negatives is not None:
        negatives = _check.option("negatives", negatives, anchors, shape=np.shape(negatives))
        negatives = _check.vectors("negatives", negatives)
        if negatives.shape[1] != features:
            raise ValueError(f"negatives must be [m, {features}], as long as the anchors, got {negatives.shape}")
    temperature = _check.option("temperature", temperature, anchors, above=0, shape=())
    where = _check.mask(where, (n,), "the examples")
    columns = n if negatives is None else n + negatives.shape[0]
    rule = _info_nce_of_cosines if _check.flag("normalize", normalize) else _info_nce
    return _rules.call(rule, anchors, positives, negatives, temperature, where, block(block_size, n, columns))


def _info_nce_of(
    vectors: Any, anchors: Array, positives: Array, negatives: Any, temperature: Array, where: Any, block: Block
) -> Array:
    n, every = anchors.shape[0], (anchors, positives, negatives, temperature)
    a, p = vectors(anchors, where, *every) / temperature, vectors(positives, where, *every)
    columns, present = p, _present(where, n)
    if negatives is not None:
        columns = jnp.concatenate([p, vectors(negatives, None, *every)])
        present = jnp.concatenate([present, jnp.ones(negatives.shape[0], bool)])
    index = jnp.arange(columns.shape[0])

    def some_rows(own: Array, positive: Array, own_index: Array) -> Array:
        negative = (own_index[:, None] != index) & present
        m, total = shifted_sum(only(negative, product(own, columns.T)))
        return entropy(m - jnp.sum(own * positive, -1), total)

    losses = over_rows(some_rows, (a, p, index[:n]), block)
    return _rules.masked(where, losses)


def _as_they_are(x: Array, where: Any, *others: Any) -> Array:
    return _rules.masked(where, _rules.wide(x, *others), 1)


_info_nce = _rules.recomputed(functools.partial(_info_nce_of, _as_they_are))
_info_nce_of_cosines = _rules.recomputed(functools.partial(_info_nce_of, _directions))


def clip_loss(
    image_embeddings: Float[ArrayLike, "n features"],
    text_embeddings: Float[ArrayLike, "n features"],
    *,
    temperature: Float[ArrayLike, ""] = 0.07,
    block_size: int | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, " n"]:
    """The loss of CLIP: an image is to pick its text out of the batch, and a text its image.

    Formula: with s_ij = cos(xᵢ, yⱼ)/t, the mean of log Σ_j exp(s_ij) − s_ii and log Σ_j exp(s_ji) − s_ii. Derivative by
    s_ij: half of softmax over the row and softmax over the column, less 1 for j = i, each with its pair's cotangent.

    Args:
        image_embeddings: one vector an image, of any length: only directions count; a zero vector has cosine 0 with all.
        text_embeddings: the shape of `image_embeddings`, the text of each image.
        temperature: t > 0; differentiable. The paper learns its logarithm, from 0.07 on; the logit scale is 1/t.
        block_size: how many images to take at a time; None means 256, fewer in a large batch.
        where: which pairs are there.

    Returns:
        One loss a pair; its mean is the paper's.

    Raises:
        TypeError: an array or `temperature` is not floating point, `block_size` is not an integer, or `where` is not
            boolean.
        ValueError: the shapes differ or are not [n, features], `temperature` or `block_size` is not positive, or `where`
            does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.clip_loss(jnp.array([[2.0, 0.0], [0.0, 5.0]]), jnp.eye(2), temperature=0.5))
        [0.12692801 0.12692801]

    References:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021
    """
    images, texts, where = _pairs(image_embeddings, text_embeddings, where)
    temperature = _check.option("temperature", temperature, images, above=0, shape=())
    n = images.shape[0]
    return _rules.call(_clip, images, texts, temperature, where, block(block_size, n, n))


def _pairs(images: Any, texts: Any, where: Any) -> tuple[Array, Array, Any]:
    images = _check.vectors("image_embeddings", images)
    images, texts = _check.pair("image_embeddings", images, "text_embeddings", texts)
    return images, texts, _check.mask(where, images.shape[:1], "the pairs")


# The rule keeps the embeddings and two numbers a pair. Autodiff through the blocks would make each of them twice, to
# have the log-sum-exps of the columns first.
@jax.custom_vjp
def _clip(images: Array, texts: Array, temperature: Array, where: Any, block: Block) -> Array:
    return _clip_value(images, texts, temperature, where, block)


def _clip_value(images: Array, texts: Array, temperature: Array, where: Any, block: Block) -> Array:
    losses, _ = _clip_sums(images, texts, temperature, where, block)
    return losses


def _clip_vectors(images: Array, texts: Array, temperature: Array, where: Any) -> tuple[Array, Array]:
    every = images, texts, temperature
    return _directions(images, where, *every) / temperature, _directions(texts, where, *every)


def _clip_sums(images: Array, texts: Array, temperature: Array, where: Any, block: Block) -> Any:
    x, y = _clip_vectors(images, texts, temperature, where)
    of_images, of_texts = both_sums(x, y, _present(where, x.shape[0]), block)
    own = jnp.sum(x * y, -1)
    (m, total), (n, sum_of_texts) = of_images, of_texts
    losses = 0.5 * (entropy(m - own, total) + entropy(n - own, sum_of_texts))
    return _rules.masked(where, losses), (of_images, of_texts)


def _clip_fwd(images: Array, texts: Array, temperature: Array, where: Any, block: Block) -> tuple[Array, Any]:
    losses, sums = _clip_sums(images, texts, temperature, where, block)
    return losses, (images, texts, temperature, where, block, sums)


def _clip_bwd(residuals: Any, cotangent: Array) -> tuple[Any, ...]:
    images, texts, temperature, where, block, sums = residuals
    (x, y), pullback = jax.vjp(lambda x, y, t: _clip_vectors(x, y, t, where), images, texts, temperature)
    cotangent = _rules.masked(where, cotangent)
    own = jnp.sum(x * y, -1)
    weights = [0.5 * cotangent * negative_weight(m - own, total) for m, total in sums]
    x_bar, y_bar = both_pulls(x, y, _present(where, x.shape[0]), block, [m for m, _ in sums], weights)
    of_own = sum(weight * total for weight, (_, total) in zip(weights, sums, strict=True))[:, None]
    return *pullback((x_bar - of_own * y, y_bar - of_own * x)), None, None


_clip.defvjp(_clip_fwd, functools.partial(_rules.compiled, _clip_bwd))


def siglip_loss(
    image_embeddings: Float[ArrayLike, "n features"],
    text_embeddings: Float[ArrayLike, "n features"],
    *,
    logit_scale: Float[ArrayLike, ""] = 10.0,
    logit_bias: Float[ArrayLike, ""] = -10.0,
    block_size: int | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, " n"]:
    """The sigmoid loss of SigLIP: every image with every text is a yes-or-no question of its own.

    Formula: Σ_j log(1 + exp(−z_ij (k cos(xᵢ, yⱼ) + b))), z_ij = 1 for j = i, else −1. Derivative by the score
    k cos(xᵢ, yⱼ) + b: −z_ij σ(−z_ij · score).

    Args:
        image_embeddings: one vector an image, of any length: only directions count; a zero vector has cosine 0 with all.
        text_embeddings: the shape of `image_embeddings`, the text of each image.
        logit_scale: k > 0, the paper's t, whose logarithm it learns, from log 10 on; differentiable.
        logit_bias: b, any number, which the paper learns from −10 on; differentiable.
        block_size: how many images to take at a time; None means 256, fewer in a large batch.
        where: which pairs are there.

    Returns:
        One loss an image, the sum over the texts; its mean is the paper's.

    Raises:
        TypeError: an array or an option is not floating point, `block_size` is not an integer, or `where` is not boolean.
        ValueError: the shapes differ or are not [n, features], `logit_scale` or `block_size` is not positive, or `where`
            does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.siglip_loss(jnp.array([[2.0, 0.0], [0.0, 5.0]]), jnp.eye(2), logit_bias=-5.0))
        [0.0134307 0.0134307]

    References:
        Zhai, Mustafa, Kolesnikov and Beyer, Sigmoid Loss for Language Image Pre-Training, 2023
    """
    images, texts, where = _pairs(image_embeddings, text_embeddings, where)
    logit_scale = _check.option("logit_scale", logit_scale, images, above=0, shape=())
    logit_bias = _check.option("logit_bias", logit_bias, images, shape=())
    n = images.shape[0]
    return _rules.call(_siglip, images, texts, logit_scale, logit_bias, where, block(block_size, n, n))


@_rules.recomputed
def _siglip(images: Array, texts: Array, scale: Array, bias: Array, where: Any, block: Block) -> Array:
    n, every = images.shape[0], (images, texts, scale, bias)
    x, y = _directions(images, where, *every) * scale, _directions(texts, where, *every)
    index, present = jnp.arange(n), _present(where, n)

    def some_rows(own: Array, own_index: Array) -> Array:
        score = product(own, y.T) + bias
        losses = _numerics.softplus(jnp.where(own_index[:, None] == index, -score, score))
        return jnp.sum(jnp.where(present, losses, 0), -1)

    losses = over_rows(some_rows, (x, index), block)
    return _rules.masked(where, losses)
