"""Softmax losses for labels that may be wrong."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _numerics, _rules, _softmax

# The keywords label_smoothing, class_weights, z_loss, soft_cap, axis and where of the softmax losses are those of
# softmax_cross_entropy. With targets t made of the labels, each is Σₖ tₖ (its value for a hard label k) + λ lse².


def generalized_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"] | Int[ArrayLike, "*batch"],
    *,
    q: Float[ArrayLike, "..."] = 0.7,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """A bounded loss between cross-entropy and the mean absolute error: a wrong label cannot pull without limit.

    Formula: Σₖ tₖ (1 − pₖ^q)/q + λ lse(s)², with p = softmax(s) and the scores s and targets t of
    `softmax_cross_entropy`. Derivative of a term by −log pₖ: pₖ^q. q → 0 is cross-entropy, without cancellation; q = 1 is
    1 − pₖ.

    Args:
        logits: unnormalised log-probabilities, in nats; −inf for a class that cannot occur.
        labels: the probability of each class, of the shape of `logits`; or class indices, without the class axis.
        q: from 0 to 1; the larger, the more robust and the slower; broadcasts to the examples, differentiable.
        label_smoothing: ε, from 0 to 1, the part of the label spread over the classes that can occur.
        class_weights: w, a factor a class, ≥ 0.
        z_loss: λ ≥ 0, the weight of lse².
        soft_cap: c > 0, the bound that tanh puts on the logits.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example: from 0 to 1/q for a hard label.

    Raises:
        TypeError: `logits` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes do not belong together, an option or `where` does not broadcast or is out of its
            domain, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.generalized_cross_entropy(jnp.array([2.0, 0.0]), jnp.array(1)))
        1.1062399

    References:
        Zhang and Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, 2018
    """
    logits, labels, where = _check.scores_and_labels(logits, labels, axis, where)
    q = _check.option("q", q, _check.examples(logits), minimum=0, maximum=1, where=where)
    options = _check.softmax_options(logits, label_smoothing, class_weights, z_loss, soft_cap, where)
    return _rules.compiled(_generalized, logits, labels, *options, where, q)


def _generalized(logits: Array, labels: Array, *options: Any) -> Array:
    return _softmax.of_neg_log(_numerics.saturating, logits, labels, *options)


def symmetric_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"] | Int[ArrayLike, "*batch"],
    *,
    alpha: Float[ArrayLike, "..."] = 0.1,
    beta: Float[ArrayLike, "..."] = 1.0,
    log_zero: Float[ArrayLike, "..."] = -4.0,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Cross-entropy with a share of its reverse, which is bounded and so forgives wrong labels.

    Formula: Σₖ tₖ (−α log pₖ − β A (1 − pₖ)) + λ lse(s)², with p = softmax(s) and the scores s and targets t of
    `softmax_cross_entropy`. For a hard label the second term is β times the reverse cross-entropy −Σⱼ pⱼ log yⱼ with
    log 0 taken as A; for soft labels it is its expectation. Derivative of a term by −log pₖ: α − β A pₖ.

    Args:
        logits: unnormalised log-probabilities, in nats; −inf for a class that cannot occur.
        labels: the probability of each class, of the shape of `logits`; or class indices, without the class axis.
        alpha: the weight of the cross-entropy, ≥ 0; broadcasts to the examples, differentiable.
        beta: the weight of the reverse cross-entropy, ≥ 0; broadcasts to the examples, differentiable.
        log_zero: A ≤ 0, in nats; broadcasts to the examples, differentiable.
        label_smoothing: ε, from 0 to 1, the part of the label spread over the classes that can occur.
        class_weights: w, a factor a class, ≥ 0.
        z_loss: λ ≥ 0, the weight of lse².
        soft_cap: c > 0, the bound that tanh puts on the logits.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example, in nats.

    Raises:
        TypeError: `logits` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes do not belong together, an option or `where` does not broadcast or is out of its
            domain, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.symmetric_cross_entropy(jnp.array([2.0, 0.0]), jnp.array(1)))
        3.735881

    References:
        Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, 2019
    """
    logits, labels, where = _check.scores_and_labels(logits, labels, axis, where)
    row = _check.examples(logits)
    alpha = _check.option("alpha", alpha, row, minimum=0, where=where)
    beta = _check.option("beta", beta, row, minimum=0, where=where)
    log_zero = _check.option("log_zero", log_zero, row, maximum=0, where=where)
    options = _check.softmax_options(logits, label_smoothing, class_weights, z_loss, soft_cap, where)
    return _rules.compiled(_symmetric, logits, labels, *options, where, alpha, beta, log_zero)


def _symmetric(logits: Array, labels: Array, *options: Any) -> Array:
    def loss_of(nll: Array, alpha: Array, beta: Array, log_zero: Array) -> Array:
        return _softmax.times(alpha, nll) + beta * log_zero * jnp.expm1(-nll)

    return _softmax.of_neg_log(loss_of, logits, labels, *options)
