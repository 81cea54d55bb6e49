"""Ranking: losses of a list of scores that only look at their order, or at their differences."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _numerics, _reduction, _rules, _softmax
from jaxloss._rules import partials

# All functions but the last return one loss a list, and take `where`, a boolean array over the items: what it leaves out
# is not in the list. A list in which nothing is to be ranked, of one item or of none that `where` selects, costs 0.
# Their cores keep the inputs alone for the backward pass and make the pairs of items anew.


@_reduction.coupled(event=0)
def ranking_softmax_loss(
    logits: Float[ArrayLike, "*batch items"],
    labels: Float[ArrayLike, "*batch items"] | Int[ArrayLike, "*batch items"],
    *,
    weights: Float[ArrayLike, "..."] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The softmax loss of a ranked list: the relevant items compete with all others for the list's probability.

    Formula: −Σᵢ wᵢ yᵢ log pᵢ with p = softmax(s) over the items of the list. Derivative: by sᵢ: pᵢ Σⱼ wⱼ yⱼ − wᵢ yᵢ; by yᵢ:
    −wᵢ log pᵢ; by wᵢ: −yᵢ log pᵢ. A loss of optax.losses, without its mean over the lists.

    Args:
        logits: the score of each item.
        labels: the relevance of each item, ≥ 0, of the shape of `logits`; need not sum to 1; may be integers.
        weights: w, a factor an item, ≥ 0; broadcasts to `logits`, differentiable.
        axis: the list axis.
        where: which items are in the list; broadcasts to `logits`.

    Returns:
        One loss a list, in nats; 0 for a list without a relevant item.

    Raises:
        TypeError: `logits` or `weights` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `weights` or `where` does not broadcast, `weights` is negative, or `axis` is out
            of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.ranking_softmax_loss(jnp.array([2.0, 1.0, 3.0]), jnp.array([1.0, 0.0, 0.0])))
        1.4076059

    References:
        Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, 2007
    """
    logits = _check.floating("logits", logits)
    where = _check.mask(where, logits.shape, "logits")
    weights = _check.optional("weights", weights, logits, minimum=0, of="logits", where=where)
    ndim = jnp.ndim(logits)
    logits, labels, where = _check.lists("logits", logits, "labels", labels, axis, where)
    if weights is not None:  # its list axis last, too, and not yet broadcast
        weights = jnp.moveaxis(weights.reshape((1,) * (ndim - weights.ndim) + weights.shape), axis, -1)
    return _rules.call(_ranking_softmax, logits, labels, weights, where)


@_rules.recomputed
def _ranking_softmax(logits: Array, labels: Array, weights: Any, where: Any) -> Array:
    labels = _rules.wide(labels, logits)
    if where is not None:
        # A logit of −inf is not there.
        logits, labels = jnp.where(where, logits, -jnp.inf), jnp.where(where, labels, 0)
    if weights is not None:
        labels = labels * _rules.masked(where, weights)
    return _softmax.cross_entropy(logits, labels, None, None, None, None, _rules.of_examples(where))


@_reduction.coupled(event=0)
def pairwise_logistic_loss(
    scores: Float[ArrayLike, "*batch items"],
    relevance: Float[ArrayLike, "*batch items"] | Int[ArrayLike, "*batch items"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The pairwise logistic loss (RankNet): of two items, the more relevant one should have the higher score.

    Formula: the mean of log(1 + e^(sⱼ − sᵢ)) over the pairs of items with yᵢ > yⱼ. Derivative: by sᵢ, of one pair:
    −σ(sⱼ − sᵢ), and the opposite by sⱼ, over the number of pairs. The relevance counts by its order alone, and has no
    gradient. Memory: a list of n items takes n² numbers for a while.

    Args:
        scores: the score of each item, finite.
        relevance: the relevance of each item, of the shape of `scores`; may be integers.
        axis: the list axis.
        where: which items are in the list; broadcasts to `scores`.

    Returns:
        One loss a list, in nats; 0 where all items are equally relevant.

    Raises:
        TypeError: `scores` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.pairwise_logistic_loss(jnp.array([0.0, 3.0, 1.0, 2.0]), jnp.array([0, 0, 1, 2])))
        0.8387282

    References:
        Burges et al., Learning to Rank Using Gradient Descent, 2005
    """
    return _rules.call(_pairwise_logistic, *_check.lists("scores", scores, "relevance", relevance, axis, where))


@_reduction.coupled(event=0)
def pairwise_hinge_loss(
    scores: Float[ArrayLike, "*batch items"],
    relevance: Float[ArrayLike, "*batch items"] | Int[ArrayLike, "*batch items"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The pairwise hinge loss (ranking SVM): of two items, the more relevant one should lead by 1.

    Formula: the mean of max(0, 1 − (sᵢ − sⱼ)) over the pairs of items with yᵢ > yⱼ. Derivative: by sᵢ, of one pair: −1 if
    sᵢ − sⱼ < 1, else 0, also at the kink, and the opposite by sⱼ, over the number of pairs. The relevance counts by its
    order alone, and has no gradient. Memory: a list of n items takes n² numbers for a while.

    Args:
        scores: the score of each item, finite.
        relevance: the relevance of each item, of the shape of `scores`; may be integers.
        axis: the list axis.
        where: which items are in the list; broadcasts to `scores`.

    Returns:
        One loss a list, in the unit of the scores; 0 where all items are equally relevant.

    Raises:
        TypeError: `scores` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.pairwise_hinge_loss(jnp.array([0.0, 3.0, 1.0, 2.0]), jnp.array([0, 0, 1, 2])))
        1.

    References:
        Herbrich, Graepel and Obermayer, Large Margin Rank Boundaries for Ordinal Regression, 2000
        Joachims, Optimizing Search Engines Using Clickthrough Data, 2002
    """
    return _rules.call(_pairwise_hinge, *_check.lists("scores", scores, "relevance", relevance, axis, where))


def _mean_over_pairs(of_lead: Any, scores: Array, relevance: Array, where: Any) -> Array:
    """The mean of a function of sᵢ − sⱼ over the pairs with yᵢ > yⱼ."""
    s = _rules.wide(scores)
    counts = relevance[..., :, None] > relevance[..., None, :]
    s = _rules.masked(where, s)
    if where is not None:
        counts = counts & where[..., :, None] & where[..., None, :]
    lead = jnp.where(counts, s[..., :, None] - s[..., None, :], 0)
    total = jnp.sum(jnp.where(counts, of_lead(lead), 0), axis=(-2, -1))
    return total / jnp.maximum(jnp.sum(counts, axis=(-2, -1), dtype=s.dtype), 1)


@_rules.recomputed
def _pairwise_logistic(scores: Array, relevance: Array, where: Any) -> Array:
    return _mean_over_pairs(lambda lead: _numerics.softplus(-lead), scores, relevance, where)


@_rules.recomputed
def _pairwise_hinge(scores: Array, relevance: Array, where: Any) -> Array:
    return _mean_over_pairs(lambda lead: _numerics.positive_part(1 - lead), scores, relevance, where)


@_reduction.coupled(event=0)
def list_mle_loss(
    scores: Float[ArrayLike, "*batch items"],
    relevance: Float[ArrayLike, "*batch items"] | Int[ArrayLike, "*batch items"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The ListMLE loss: the negative log-probability of the right order, under the Plackett-Luce model of the scores.

    Formula: Σᵢ (log Σ_{j ≥ i} e^sⱼ − sᵢ) over the items in the order of their relevance, the highest first, taken as
    Σᵢ log(1 + e^(lseᵢ₊₁ − sᵢ)) with lse over the items after i, so that an order that is nearly certain keeps its digits.
    Derivative: by sⱼ: Σ_{i ≤ j} e^(sⱼ − lseᵢ) − 1. The relevance counts by its order alone, and has no gradient.

    Items of equal relevance keep their order in the list, and cost what it costs: a list of equals is not 0. Where ties
    are many and their order means nothing, shuffle the items beforehand, or take ranking_softmax_loss.

    Args:
        scores: the score of each item, finite.
        relevance: the relevance of each item, of the shape of `scores`; may be integers.
        axis: the list axis.
        where: which items are in the list; broadcasts to `scores`.

    Returns:
        One loss a list, in nats, the sum over its items.

    Raises:
        TypeError: `scores` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.list_mle_loss(jnp.array([0.0, 3.0, 1.0, 2.0]), jnp.array([0, 0, 1, 2])))
        6.658623

    References:
        Xia, Liu, Wang, Zhang and Li, Listwise Approach to Learning to Rank: Theory and Algorithm, 2008
    """
    return _rules.call(_list_mle, *_check.lists("scores", scores, "relevance", relevance, axis, where))


@_rules.recomputed
def _list_mle(scores: Array, relevance: Array, where: Any) -> Array:
    s = _rules.wide(scores)
    nothing = -0.25 * jnp.finfo(s.dtype).max  # as −inf in a log-sum-exp, but its derivatives are numbers
    if where is not None:
        s = jnp.where(where, s, nothing)  # wherever they are in the order
    # Integers as they are: in float32, those above 2²⁴ would be ties.
    s = jnp.take_along_axis(s, jnp.argsort(relevance, axis=-1, stable=True, descending=True), axis=-1)
    # The log-sum-exp of what comes after as a maximum and the rest: their sum would round what exceeds the score.
    highest, total = lax.associative_scan(
        _sum_of_exponentials, (lax.stop_gradient(s), _one(s)), reverse=True, axis=s.ndim - 1
    )
    lead = (highest[..., 1:] - s[..., :-1]) + jnp.log(total[..., 1:])
    return jnp.sum(jnp.where(s[..., :-1] <= nothing, 0, _numerics.softplus(lead)), axis=-1)


def _one(s: Array) -> Array:
    """e^(s − s), with the derivative of e^s there: the sum of exponentials of one score, over that of its maximum."""
    return jnp.exp(s - lax.stop_gradient(s))


def _sum_of_exponentials(x: tuple[Array, Array], y: tuple[Array, Array]) -> tuple[Array, Array]:
    """Two sums of exponentials as one, each a maximum m and Σ e^(s − m)."""
    (m, total), (n, other) = x, y
    highest = jnp.maximum(m, n)
    return highest, total * jnp.exp(m - highest) + other * jnp.exp(n - highest)


@_reduction.coupled(event=0)
def approx_ndcg_loss(
    scores: Float[ArrayLike, "*batch items"],
    relevance: Float[ArrayLike, "*batch items"] | Int[ArrayLike, "*batch items"],
    *,
    temperature: Float[ArrayLike, "..."] = 1.0,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The negative of a smooth NDCG: the metric that search is judged by, with ranks that have a gradient.

    Formula: −Σᵢ gᵢ/log₂(1 + rankᵢ) over the same sum with the true ranks of the gains g = 2^y − 1, and
    rankᵢ = 1 + Σ_{j≠i} σ((sⱼ − sᵢ)/T). Derivative: that of the formula, by the scores, the temperature and the relevance,
    whose true ranks are constants. Memory: a list of n items takes n² numbers for a while.

    Args:
        scores: the score of each item, finite.
        relevance: the relevance y ≥ 0 of each item, a grade or a rank, of the shape of `scores`; may be integers.
        temperature: T > 0, in the unit of the scores; small ones come near the metric and have less gradient;
            broadcasts to the lists, differentiable.
        axis: the list axis.
        where: which items are in the list; broadcasts to `scores`.

    Returns:
        One loss a list, from −1 to 0; 0 for a list without a relevant item.

    Raises:
        TypeError: `scores` or `temperature` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `temperature` or `where` does not broadcast, `temperature` is not positive, or
            `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.approx_ndcg_loss(jnp.array([0.0, 3.0, 1.0, 2.0]), jnp.array([0, 0, 1, 2])))
        -0.6442183

    References:
        Qin, Liu and Li, A General Approximation Framework for Direct Optimization of Information Retrieval Measures, 2010
        Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques, 2002
    """
    scores, relevance, where = _check.lists("scores", scores, "relevance", relevance, axis, where)
    temperature = _check.option(
        "temperature", temperature, _check.examples(scores), above=0, where=_rules.of_examples(where)
    )
    return _rules.call(_approx_ndcg, scores, relevance, temperature, where)


@_rules.recomputed
def _approx_ndcg(scores: Array, relevance: Array, temperature: Array, where: Any) -> Array:
    s, y = _rules.wide(scores, temperature), _rules.wide(relevance, scores, temperature)
    t = jnp.broadcast_to(_rules.wide(temperature, scores), s.shape[:-1])
    t = _rules.harmless(_rules.of_examples(where), t)[..., None, None]
    s, y, others = _rules.masked(where, s), _rules.masked(where, y), ~jnp.eye(s.shape[-1], dtype=bool)
    if where is not None:
        others = others & where[..., None, :]
    ahead = _numerics.sigmoid((s[..., None, :] - s[..., :, None]) / t)
    rank = 1 + jnp.sum(jnp.where(others, ahead, 0), axis=-1)
    gain = _gain(y)
    ideal_rank = 1 + jnp.arange(s.shape[-1], dtype=s.dtype)
    ideal = jnp.sum(-jnp.sort(-gain, axis=-1) / jnp.log2(1 + ideal_rank), axis=-1)
    none = ideal == 0
    return jnp.where(none, 0, -jnp.sum(gain / jnp.log2(1 + rank), axis=-1) / jnp.where(none, 1, ideal))


def _gain(y: Array) -> Array:
    """2^y − 1, over 2^(the highest y of the list) where that is large: gains count in proportion."""
    highest = lax.stop_gradient(jnp.max(y, axis=-1, keepdims=True, initial=0))
    large = highest > 64
    near = jnp.expm1(math.log(2) * jnp.where(large, 0, y))
    scaled = jnp.exp(math.log(2) * jnp.where(large, y - highest, 0)) * -jnp.expm1(-math.log(2) * y)
    return jnp.where(large, scaled, near)


def bpr_loss(
    positive_scores: Float[ArrayLike, "*shape"],
    negative_scores: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The Bayesian personalised ranking loss: an item that a user chose should score higher than one that was not.

    Formula: −log σ(s₊ − s₋) = log(1 + e^(s₋ − s₊)). Derivative: by s₊ −σ(s₋ − s₊); by s₋ the opposite.

    Args:
        positive_scores: the score of the chosen item of each pair, any shape.
        negative_scores: the score of the other item, of the shape of `positive_scores`.
        where: which pairs count; broadcasts to `positive_scores`.

    Returns:
        One loss a pair, in nats.

    Raises:
        TypeError: `positive_scores` or `negative_scores` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.bpr_loss(jnp.array([20.0, 0.0]), jnp.array([0.0, 1.0])))
        [2.0611537e-09 1.3132617e+00]

    References:
        Rendle, Freudenthaler, Gantner and Schmidt-Thieme, BPR: Bayesian Personalized Ranking from Implicit Feedback, 2009
    """
    positive, negative = _check.pair("positive_scores", positive_scores, "negative_scores", negative_scores)
    return _bpr(positive, negative, where=_check.mask(where, positive.shape, "positive_scores"))


# The rule keeps the two inputs as they came, and is not 1 − σ.
@partials(lambda p, n: -_numerics.sigmoid(n - p), lambda p, n: _numerics.sigmoid(n - p))
def _bpr(positive: Array, negative: Array) -> Array:
    return _numerics.softplus(negative - positive)
