"""Cross-entropy: from logits by softmax or sigmoid, and from probabilities."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real

from jaxloss import _check, _numerics, _rules, _softmax, _values
from jaxloss._rules import partials

# Shapes in the signatures have the class axis last; `axis` puts it elsewhere. `where` is over examples: it broadcasts
# to the shape without the class axis. A class that cannot occur is a logit of −inf.


def softmax_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Real[ArrayLike, "*batch classes"] | Bool[ArrayLike, "*batch classes"],
    *,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The cross-entropy of class probabilities given as labels and those that softmax makes of the logits.

    Formula: Σₖ tₖ (lse(s) − sₖ) + λ lse(s)², with scores s = z, or c·tanh(z/c) under a soft cap, and targets t = y, or
    wₖ((1−ε) yₖ + ε/K). Derivative: by sₖ: pₖ Σt − tₖ + 2λ lse pₖ; by yₖ: wₖ(1−ε)(lse − sₖ), with p = softmax(s). Rows of
    labels need not sum to 1. 0 · log 0 is 0: with a logit of −inf a class is not there, and the row is that of the other
    K classes; a label on it costs inf.

    Args:
        logits: unnormalised log-probabilities, in nats.
        labels: the probability of each class, of the shape of `logits`.
        label_smoothing: ε, from 0 to 1, the part of the label spread over the classes that can occur; broadcasts to
            the examples, differentiable.
        class_weights: w, a factor a class, ≥ 0, differentiable.
        z_loss: λ ≥ 0, the weight of lse², which keeps the logits from drifting; broadcasts to the examples,
            differentiable.
        soft_cap: c > 0, the bound that tanh puts on the logits, differentiable.
        axis: the class axis of `logits` and `labels`.
        where: which examples count.

    Returns:
        One loss an example, in nats.

    Raises:
        TypeError: `logits` is not floating point, `labels` or an option is no number, or `where` is not boolean.
        ValueError: the shapes differ, an option or `where` does not broadcast or is out of its domain, or `axis` is
            out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.array([[1.2, -0.8, -0.5], [0.9, -1.2, 1.1]])
        >>> labels = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
        >>> print(jaxloss.softmax_cross_entropy(logits, labels))
        [0.27612966 1.8017988 ]

    References:
        Bridle, Training Stochastic Model Recognition Algorithms as Networks, 1990
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016 (smoothing)
        Chowdhery et al., PaLM: Scaling Language Modeling with Pathways, 2022 (z-loss)
    """
    hard = "softmax_cross_entropy_with_integer_labels"
    logits, labels = _check.classes_and_truth("logits", logits, "labels", labels, axis, hard)
    where = _check.mask(where, logits.shape[:-1], "the examples")
    options = _check.softmax_options(logits, label_smoothing, class_weights, z_loss, soft_cap, where)
    return _rules.compiled(_softmax.cross_entropy, logits, labels, *options, where)


def softmax_cross_entropy_with_integer_labels(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The negative log-probability that softmax gives to the labelled class. No one-hot array is built.

    Formula: (1−ε) w_y (lse(s) − s_y) + (ε/K) Σₖ wₖ (lse(s) − sₖ) + λ lse(s)², with scores s = z, or c·tanh(z/c) under a soft
    cap. Derivative: by sₖ: pₖ Σt − tₖ + 2λ lse pₖ, with p = softmax(s) and t the smoothed, weighted one-hot label. It is
    `softmax_cross_entropy` of that label, in a fraction of the memory; exact where the loss is tiny: 4.1e-9 for
    [20, 0, 0] and label 0.

    Args:
        logits: unnormalised log-probabilities, in nats; −inf for a class that cannot occur.
        labels: the index of the class of each example, from 0 to classes − 1. Out of range and not masked: NaN in loss
            and gradient, and a sentence under `jaxloss.debug_checks`. To ignore a label of −100, pass
            `where=labels != -100`.
        label_smoothing: ε, from 0 to 1, the part of the label spread over the classes that can occur; broadcasts to
            the examples, differentiable.
        class_weights: w, a factor a class, ≥ 0, differentiable.
        z_loss: λ ≥ 0, the weight of lse², which keeps the logits from drifting; broadcasts to the examples,
            differentiable.
        soft_cap: c > 0, the bound that tanh puts on the logits, differentiable.
        axis: the class axis of `logits`; `labels` are without it.
        where: which examples count.

    Returns:
        One loss an example, in nats.

    Raises:
        TypeError: `logits` or an option is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: `labels` have another shape than `logits` without its class axis, an option or `where` does not
            broadcast or is out of its domain, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> logits = jnp.array([[1.2, -0.8, -0.5], [0.9, -1.2, 1.1]])
        >>> print(jaxloss.softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 1])))
        [0.2761297 2.951799 ]

    References:
        Bridle, Training Stochastic Model Recognition Algorithms as Networks, 1990
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016 (smoothing)
        Chowdhery et al., PaLM: Scaling Language Modeling with Pathways, 2022 (z-loss)
    """
    soft = "softmax_cross_entropy"
    logits, labels, where = _check.scores_and_classes("logits", logits, labels, axis, where, soft)
    options = _check.softmax_options(logits, label_smoothing, class_weights, z_loss, soft_cap, where)
    return _rules.compiled(_softmax.cross_entropy, logits, labels, *options, where)


def smooth_labels(
    labels: Real[ArrayLike, "*batch classes"] | Bool[ArrayLike, "*batch classes"],
    alpha: Float[ArrayLike, "..."],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """Labels with a part of their mass spread evenly over all classes.

    Formula: (1−α) y + α/K. Derivative: 1−α by y; 1/K − y by α. The losses take `label_smoothing`, which does the same
    without building the array.

    Args:
        labels: class probabilities, one-hot for instance.
        alpha: the part to spread, from 0 to 1; broadcasts to `labels`, differentiable.
        axis: the class axis.
        where: which classes there are, of the shape of `labels` or broadcasting to it; the others stay at
            (1−α) y, and K counts those that there are.

    Returns:
        The smoothed labels, in the dtype of `labels` or wider.

    Raises:
        TypeError: `labels` or `alpha` is no number, or `where` is not boolean.
        ValueError: `alpha` is out of [0, 1], `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.smooth_labels(jnp.array([1.0, 0.0]), 0.1))
        [0.95 0.05]

    References:
        Müller, Kornblith and Hinton, When Does Label Smoothing Help?, 2019
    """
    labels = _check.number("labels", labels)
    axis = _check.one_axis(axis, labels.ndim)
    where = _check.mask(where, labels.shape, "labels")
    alpha = _check.option("alpha", alpha, labels, minimum=0, maximum=1, where=where)
    y, a = _rules.wide(labels, alpha), _rules.wide(alpha, labels)
    if where is None:
        return (1 - a) * y + a / labels.shape[axis]
    count = jnp.maximum(jnp.sum(jnp.broadcast_to(where, labels.shape), axis=axis, keepdims=True), 1)
    return (1 - a) * y + jnp.where(where, a / count, 0)


def sigmoid_binary_cross_entropy(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    pos_weight: Float[ArrayLike, "..."] | None = None,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The cross-entropy of yes-or-no labels and the probability that sigmoid makes of each logit.

    Formula: w y log(1 + e^−z) + (1−y) log(1 + e^z), with y smoothed to (1−ε) y + ε/2. Derivative: by z:
    (1−y) σ(z) − w y σ(−z), which is σ(z) − y for w = 1; by y: w log(1 + e^−z) − log(1 + e^z). Right at ±inf: 0 · inf is 0.

    Args:
        logits: the log-odds of a yes, in nats, any shape.
        labels: the probability of a yes, of the shape of `logits`; 0 and 1 may be integers or booleans.
        pos_weight: w ≥ 0, a factor on the positive part, such as negatives/positives for rare positives; broadcasts,
            differentiable.
        label_smoothing: ε, from 0 to 1; broadcasts, differentiable.
        where: which elements count; broadcasts to `logits`.

    Returns:
        One loss an element, in nats.

    Raises:
        TypeError: `logits` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or an option or `where` does not broadcast or is out of its domain.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.sigmoid_binary_cross_entropy(jnp.array([2.0, -30.0]), jnp.array([1.0, 0.0])))
        [1.269280e-01 9.357623e-14]

    References:
        Cox, The Regression Analysis of Binary Sequences, 1958
    """
    logits, labels = _check.with_truth("logits", logits, "labels", labels)
    where = _check.mask(where, logits.shape, "logits")
    pos_weight = _check.optional("pos_weight", pos_weight, logits, minimum=0, where=where)
    smoothing = _check.optional("label_smoothing", label_smoothing, logits, unused=0, minimum=0, maximum=1, where=where)
    return _sigmoid_cross_entropy(logits, labels, pos_weight, smoothing, where=where)


def _yes_and_no(y: Array, smoothing: Any) -> tuple[Array, Array]:
    """The smoothed probabilities of the two labels, formed apart so that neither is a difference."""
    if smoothing is None:
        return y, 1 - y
    return (1 - smoothing) * y + 0.5 * smoothing, (1 - smoothing) * (1 - y) + 0.5 * smoothing


def _times_weight(x: Array, pos_weight: Any) -> Array:
    return x if pos_weight is None else pos_weight * x


def _sigmoid_slope(z: Array, y: Array, pos_weight: Any, smoothing: Any) -> Array:
    yes, no = _yes_and_no(y, smoothing)
    return _numerics.binary_entropy_slope(z, _times_weight(yes, pos_weight), no)


def _yes_slope(z: Array, pos_weight: Any) -> Array:
    """The derivative by the smoothed label."""
    return -z if pos_weight is None else pos_weight * _numerics.softplus(-z) - _numerics.softplus(z)


# Never σ(z) − y, which loses the digits of a confident and right prediction; no float32 copy of 16-bit inputs is kept.
@partials(
    _sigmoid_slope,
    lambda z, y, pos_weight, smoothing: _yes_slope(z, pos_weight) * (1 if smoothing is None else 1 - smoothing),
    lambda z, y, pos_weight, smoothing: _yes_and_no(y, smoothing)[0] * _numerics.softplus(-z),
    lambda z, y, pos_weight, smoothing: (0.5 - y) * _yes_slope(z, pos_weight),
)
def _sigmoid_cross_entropy(z: Array, y: Array, pos_weight: Any, smoothing: Any) -> Array:
    yes, no = _yes_and_no(y, smoothing)
    return _numerics.binary_entropy(z, _times_weight(yes, pos_weight), no)


def binary_cross_entropy(
    predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The cross-entropy of yes-or-no targets and predicted probabilities: exact, without clipping.

    Formula: −y log p − (1−y) log(1−p), 0 · log 0 = 0. Derivative: by p: (1−y)/(1−p) − y/p; by y: log(1−p) − log p. For
    a model that ends in logits take `sigmoid_binary_cross_entropy`: near p = 1, p itself has no digits left.

    Args:
        predictions: the probability of a yes, from 0 to 1, any shape.
        targets: the probability of a yes, of the shape of `predictions`; 0 and 1 may be integers or booleans.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in nats; inf for a certain mistake.

    Raises:
        TypeError: `predictions` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.binary_cross_entropy(jnp.array([0.25, 1e-30]), jnp.array([1.0, 1.0])))
        [ 1.3862944 69.07755  ]

    References:
        Good, Rational Decisions, 1952
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    _values.probabilities(predictions, where)
    return _binary_cross_entropy(predictions, targets, where=where)


@partials(
    lambda p, y: _numerics.quotient(1 - y, 1 - p) - _numerics.quotient(y, p),
    lambda p, y: jnp.log1p(-p) - jnp.log(p),
)
def _binary_cross_entropy(p: Array, y: Array) -> Array:
    return -_numerics.xlogy(y, p) - _numerics.xlog1py(1 - y, -p)


def categorical_cross_entropy(
    predictions: Float[ArrayLike, "*batch classes"],
    targets: Real[ArrayLike, "*batch classes"] | Bool[ArrayLike, "*batch classes"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The cross-entropy of target and predicted class probabilities: exact, without clipping.

    Formula: −Σₖ yₖ log pₖ, 0 · log 0 = 0. Derivative: by pₖ: −yₖ/pₖ; by yₖ: −log pₖ. For a model that ends in logits take
    `softmax_cross_entropy`.

    Args:
        predictions: class probabilities, from 0 to 1. They are not normalised.
        targets: class probabilities, of the shape of `predictions`.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example, in nats; inf where a class of no probability has a target.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.categorical_cross_entropy(jnp.array([0.25, 0.75]), jnp.array([1.0, 0.0])))
        1.3862944

    References:
        Good, Rational Decisions, 1952
    """
    hard = "categorical_cross_entropy_with_integer_labels"
    predictions, targets = _check.classes_and_truth("predictions", predictions, "targets", targets, axis, hard)
    where = _check.mask(where, predictions.shape[:-1], "the examples")
    where = None if where is None else where[..., None]
    _values.probabilities(predictions, where)
    _values.at_least_zero("targets", targets, where)
    return jnp.sum(_categorical_term(predictions, targets, where=where), axis=-1)


@partials(lambda p, y: -_numerics.quotient(y, p), lambda p, y: -jnp.log(p))
def _categorical_term(p: Array, y: Array) -> Array:
    return -_numerics.xlogy(y, p)


def categorical_cross_entropy_with_integer_labels(
    predictions: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The negative logarithm of the probability predicted for the labelled class: exact, without clipping.

    Formula: −log p_y. Derivative: −1/p_y at the label, 0 elsewhere. For a model that ends in logits take
    `softmax_cross_entropy_with_integer_labels`.

    Args:
        predictions: class probabilities, from 0 to 1. They are not normalised.
        labels: the index of the class of each example; out of range and not masked: NaN in loss and gradient.
        axis: the class axis of `predictions`; `labels` are without it.
        where: which examples count.

    Returns:
        One loss an example, in nats; inf where the labelled class has no probability.

    Raises:
        TypeError: `predictions` is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: `labels` have another shape than `predictions` without its class axis, `where` does not broadcast,
            or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.categorical_cross_entropy_with_integer_labels(jnp.array([0.25, 0.75]), jnp.array(0)))
        1.3862944

    References:
        Good, Rational Decisions, 1952
    """
    soft = "categorical_cross_entropy"
    predictions, labels, where = _check.scores_and_classes("predictions", predictions, labels, axis, where, soft)
    _values.probabilities(predictions, None if where is None else where[..., None])
    chosen, invalid = _softmax.pick(predictions, labels, where)
    return _categorical_term(chosen, invalid + 1, where=where)


def nll_with_integer_labels(
    log_predictions: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The negative log-likelihood of the labelled class, from log-probabilities.

    For probabilities take `categorical_cross_entropy_with_integer_labels`, and for logits
    `softmax_cross_entropy_with_integer_labels`.

    Formula: −w_y log p_y. Derivative: −w_y at the label, 0 elsewhere.

    Args:
        log_predictions: log-probabilities, in nats. They are not normalised.
        labels: the index of the class of each example; out of range and not masked: NaN in loss and gradient.
        class_weights: w, a factor a class, ≥ 0, differentiable.
        axis: the class axis of `log_predictions`; `labels` are without it.
        where: which examples count.

    Returns:
        One loss an example, in nats.

    Raises:
        TypeError: `log_predictions` or `class_weights` is not floating point, `labels` are not integers, or `where` is
            not boolean.
        ValueError: `labels` have another shape than `log_predictions` without its class axis, `class_weights` or
            `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.nll_with_integer_labels(jnp.log(jnp.array([0.25, 0.75])), jnp.array(0)))
        1.3862944

    References:
        Fisher, On the Mathematical Foundations of Theoretical Statistics, 1922
    """
    soft = "kl_divergence"
    scores, labels, where = _check.scores_and_classes("log_predictions", log_predictions, labels, axis, where, soft)
    _values.log_probabilities("log_predictions", scores, None if where is None else where[..., None])
    weights = _check.optional("class_weights", class_weights, scores, minimum=0, shape=scores.shape[-1:])
    return _rules.compiled(_nll_of_label, scores, labels, weights, where)


def _nll_of_label(scores: Array, labels: Array, weights: Any, where: Any) -> Array:
    chosen, invalid = _softmax.pick(scores, labels, where)
    weight = 1 + invalid if weights is None else _softmax.weight_of(weights, labels, invalid) + invalid
    return _negative_product(weight, chosen, where=where)


@partials(lambda weight, x: -x, lambda weight, x: -weight)
def _negative_product(weight: Array, x: Array) -> Array:
    return -_softmax.times(weight, x)
