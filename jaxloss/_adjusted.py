"""Cross-entropy with its first term adjusted, or its scores by the frequencies of the classes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _rules, _softmax

# The keywords label_smoothing, class_weights, z_loss, soft_cap, axis and where are those of softmax_cross_entropy.


def poly_loss_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"] | Int[ArrayLike, "*batch"],
    *,
    epsilon: Float[ArrayLike, "..."] = 2.0,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """PolyLoss: cross-entropy with another coefficient on the first term of its expansion in powers of 1 − p.

    Formula: Σₖ tₖ (−log pₖ + ϵ (1 − pₖ)) + λ lse(s)², with p = softmax(s) and the scores s and targets t of
    `softmax_cross_entropy`. Derivative of a term by −log pₖ: 1 + ϵ pₖ.

    Args:
        logits: unnormalised log-probabilities, in nats; −inf for a class that cannot occur.
        labels: the probability of each class, of the shape of `logits`; or class indices, without the class axis.
        epsilon: ϵ; 2 for image classification, −1 for detection in the paper; broadcasts to the examples,
            differentiable.
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
        >>> print(jaxloss.poly_loss_cross_entropy(jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0])))
        3.8885221

    References:
        Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, 2022
    """
    logits, labels, where = _check.scores_and_labels(logits, labels, axis, where)
    epsilon = _check.option("epsilon", epsilon, _check.examples(logits))
    options = _check.softmax_options(logits, label_smoothing, class_weights, z_loss, soft_cap, where)
    return _rules.compiled(_poly, logits, labels, *options, where, epsilon)


def _poly(logits: Array, labels: Array, *options: Any) -> Array:
    return _softmax.of_neg_log(lambda nll, epsilon: nll - epsilon * jnp.expm1(-nll), logits, labels, *options)


def logit_adjusted_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"] | Int[ArrayLike, "*batch"],
    log_priors: Float[ArrayLike, " classes"],
    *,
    temperature: Float[ArrayLike, ""] = 1.0,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Cross-entropy for long-tailed classes: the log of their frequencies is added to the logits while training.

    Formula: `softmax_cross_entropy` of the scores z + τ log π. Derivative: as there, and τ times it by log π. Without the
    priors at prediction time, the model is that of the balanced error.

    Args:
        logits: unnormalised log-probabilities, in nats; −inf for a class that cannot occur.
        labels: the probability of each class, of the shape of `logits`; or class indices, without the class axis.
        log_priors: log π, the logarithm of each class's frequency in the training set, differentiable.
        temperature: τ, how much of the priors is added, differentiable.
        label_smoothing: ε, from 0 to 1, the part of the label spread over the classes that can occur.
        class_weights: w, a factor a class, ≥ 0.
        z_loss: λ ≥ 0, the weight of lse², of the adjusted scores.
        soft_cap: c > 0, the bound that tanh puts on the adjusted scores.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example, in nats.

    Raises:
        TypeError: `logits`, `log_priors` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes do not belong together, an option or `where` does not broadcast or is out of its
            domain, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> log_priors = jnp.log(jnp.array([0.9, 0.1]))
        >>> print(jaxloss.logit_adjusted_cross_entropy(jnp.array([0.0, 0.0]), jnp.array(1), log_priors))
        2.3025851

    References:
        Menon et al., Long-Tail Learning via Logit Adjustment, 2021
    """
    logits, labels, where = _check.scores_and_labels(logits, labels, axis, where)
    log_priors = _check.floating("log_priors", log_priors)
    if log_priors.shape != logits.shape[-1:]:
        raise ValueError(f"log_priors must have the shape of the classes, {logits.shape[-1:]}, got {log_priors.shape}")
    temperature = _check.option("temperature", temperature, logits, shape=())
    options = _check.softmax_options(logits, label_smoothing, class_weights, z_loss, soft_cap, where)
    return _rules.compiled(_logit_adjusted, logits, labels, log_priors, temperature, *options, where)


def _logit_adjusted(logits: Array, labels: Array, log_priors: Array, temperature: Array, *options_and_where: Any) -> Array:
    @_rules.recomputed  # so that the sum is not kept in float32 for the backward pass
    def formula(logits: Array, labels: Array, log_priors: Array, temperature: Array, *options: Any) -> Array:
        shift = _softmax.times(_rules.wide(temperature, logits), _rules.wide(log_priors, logits))
        return _softmax.cross_entropy(_rules.wide(logits) + shift, labels, *options)

    return _rules.call(formula, logits, labels, log_priors, temperature, *options_and_where)
