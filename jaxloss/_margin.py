"""Margin losses: classifiers by the sign of a score, and by the largest of several."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int
from optax import projections

from jaxloss import _check, _exponentials, _numerics, _rules, _softmax
from jaxloss._rules import partials

# The binary losses are functions of the margin m = y f of a score f and a label y in {−1, 1}; `where` is over elements.
# The multi-class ones take scores [..., K] and class indices [...]; `where` is over examples, and a class that cannot
# occur is a score of −inf.


def _by_margin(slope: Callable[[Array], Array]) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """The derivatives by score and by label of a loss whose derivative by the margin is `slope`."""
    return lambda f, y: y * slope(_numerics.within_range(f) * y), lambda f, y: f * slope(f * y)


def hinge_loss(
    predictor_outputs: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The hinge loss of support vector machines: a margin of at least 1 costs nothing.

    Formula: max(0, 1 − y f). Derivative by f: −y for y f < 1, else 0, also at the kink.

    Args:
        predictor_outputs: the score f, any shape.
        targets: the label y, −1 or 1, of the shape of `predictor_outputs`; may be integers.
        where: which elements count; broadcasts to `predictor_outputs`.

    Returns:
        One loss an element, in the unit of the score.

    Raises:
        TypeError: `predictor_outputs` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.hinge_loss(jnp.array([0.5, -2.0]), jnp.array([1, 1])))
        [0.5 3. ]

    References:
        Cortes and Vapnik, Support-Vector Networks, 1995
    """
    f, y = _check.binary("predictor_outputs", predictor_outputs, targets, "targets")
    return _hinge(f, y, where=_check.mask(where, f.shape, "predictor_outputs"))


@partials(*_by_margin(lambda m: jnp.where(m < 1, -1, jnp.zeros_like(m))))
def _hinge(f: Array, y: Array) -> Array:
    return jnp.maximum(0, 1 - f * y)


def squared_hinge_loss(
    predictor_outputs: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The squared hinge loss: smooth at the margin, and harder on violations.

    Formula: max(0, 1 − y f)². Derivative by f: −2y max(0, 1 − y f).

    Args:
        predictor_outputs: the score f, any shape.
        targets: the label y, −1 or 1, of the shape of `predictor_outputs`; may be integers.
        where: which elements count; broadcasts to `predictor_outputs`.

    Returns:
        One loss an element.

    Raises:
        TypeError: `predictor_outputs` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.squared_hinge_loss(jnp.array([0.5, -2.0]), jnp.array([1, 1])))
        [0.25 9.  ]

    References:
        Lee and Mangasarian, SSVM: A Smooth Support Vector Machine for Classification, 2001
    """
    f, y = _check.binary("predictor_outputs", predictor_outputs, targets, "targets")
    return _squared_hinge(f, y, where=_check.mask(where, f.shape, "predictor_outputs"))


@partials(*_by_margin(lambda m: -2 * jnp.maximum(0, 1 - m)))
def _squared_hinge(f: Array, y: Array) -> Array:
    return jnp.square(jnp.maximum(0, 1 - f * y))


def modified_huber_loss(
    predictor_outputs: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The modified Huber loss: a squared hinge that turns linear for gross mistakes, and so tolerates outliers.

    Formula: max(0, 1 − y f)² for y f ≥ −1, else −4 y f. Derivative by f: −2y max(0, 1 − y f), at most 4 in size.

    Args:
        predictor_outputs: the score f, any shape.
        targets: the label y, −1 or 1, of the shape of `predictor_outputs`; may be integers.
        where: which elements count; broadcasts to `predictor_outputs`.

    Returns:
        One loss an element.

    Raises:
        TypeError: `predictor_outputs` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.modified_huber_loss(jnp.array([0.5, -2.0]), jnp.array([1, 1])))
        [0.25 8.  ]

    References:
        Zhang, Solving Large Scale Linear Prediction Problems Using Stochastic Gradient Descent Algorithms, 2004
    """
    f, y = _check.binary("predictor_outputs", predictor_outputs, targets, "targets")
    return _modified_huber(f, y, where=_check.mask(where, f.shape, "predictor_outputs"))


@partials(*_by_margin(lambda m: -2 * jnp.clip(1 - m, 0, 2)))
def _modified_huber(f: Array, y: Array) -> Array:
    m = f * y
    return jnp.square(jnp.minimum(jnp.maximum(1 - m, 0), 2)) + 4 * jnp.maximum(-1 - m, 0)


def perceptron_loss(
    predictor_outputs: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The perceptron loss: a wrong sign costs the size of the score, a right one nothing.

    Formula: max(0, −y f). Derivative by f: −y for y f < 0, else 0, also at the kink.

    Args:
        predictor_outputs: the score f, any shape.
        targets: the label y, −1 or 1, of the shape of `predictor_outputs`; may be integers.
        where: which elements count; broadcasts to `predictor_outputs`.

    Returns:
        One loss an element, in the unit of the score.

    Raises:
        TypeError: `predictor_outputs` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.perceptron_loss(jnp.array([0.5, -2.0]), jnp.array([1, 1])))
        [0. 2.]

    References:
        Rosenblatt, The Perceptron: A Probabilistic Model for Information Storage and Organization in the Brain, 1958
    """
    f, y = _check.binary("predictor_outputs", predictor_outputs, targets, "targets")
    return _perceptron(f, y, where=_check.mask(where, f.shape, "predictor_outputs"))


@partials(*_by_margin(lambda m: jnp.where(m < 0, -1, jnp.zeros_like(m))))
def _perceptron(f: Array, y: Array) -> Array:
    return jnp.maximum(0, -f * y)


def sparsemax_loss(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The binary sparsemax loss: smooth like the logistic loss, and 0 from a margin of 1 on.

    Formula: with x = (1 − 2y) z: 0 for x ≤ −1, (x + 1)²/4 for −1 < x < 1, x for x ≥ 1. Derivative by z: (1 − 2y) times
    (x + 1)/2 clipped to [0, 1].

    Args:
        logits: the score z of a yes, any shape.
        labels: 0 or 1, of the shape of `logits`; may be integers or booleans.
        where: which elements count; broadcasts to `logits`.

    Returns:
        One loss an element.

    Raises:
        TypeError: `logits` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.sparsemax_loss(jnp.array([0.5, -2.0]), jnp.array([1, 1])))
        [0.0625 2.    ]

    References:
        Blondel, Martins and Niculae, Learning with Fenchel-Young Losses, 2020, section 4.4
    """
    logits, labels = _check.binary("logits", logits, labels)
    return _sparsemax(logits, labels, where=_check.mask(where, logits.shape, "logits"))


def _sparse_sigmoid(x: Array) -> Array:
    return jnp.minimum(jnp.maximum(0.5 * (x + 1), 0), 1)


@partials(
    lambda z, y: (1 - 2 * y) * _sparse_sigmoid((1 - 2 * y) * _numerics.within_range(z)),
    lambda z, y: -2 * z * _sparse_sigmoid((1 - 2 * y) * z),
)
def _sparsemax(z: Array, y: Array) -> Array:
    x = (1 - 2 * y) * z
    return jnp.square(_sparse_sigmoid(x)) + jnp.maximum(x - 1, 0)


def multiclass_hinge_loss(
    scores: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The hinge loss of several classes: the labelled one must lead the best other by 1.

    Formula: max(0, 1 + max_{j≠y} z_j − z_y), Crammer and Singer's. Derivative: −1 at the label and 1 at the best other
    (shared evenly among equals) where the loss is positive, else 0, also at the kink.

    Args:
        scores: the score of each class.
        labels: the index of the class of each example; out of range and not masked: NaN in loss and gradient.
        axis: the class axis of `scores`; `labels` are without it.
        where: which examples count.

    Returns:
        One loss an example, in the unit of the scores.

    Raises:
        TypeError: `scores` is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: `labels` have another shape than `scores` without its class axis, `where` does not broadcast, or
            `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.multiclass_hinge_loss(jnp.array([2.0, 1.5, 0.0]), jnp.array(0)))
        0.5

    References:
        Crammer and Singer, On the Algorithmic Implementation of Multiclass Kernel-Based Vector Machines, 2001
    """
    scores, labels, where = _check.scores_and_classes("scores", scores, labels, axis, where)
    return _rules.compiled(_multiclass, scores, labels, where, jnp.ones((), scores.dtype))


def multiclass_perceptron_loss(
    scores: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The perceptron loss of several classes: what the labelled one lacks to the best.

    Formula: max_j z_j − z_y = max(0, max_{j≠y} z_j − z_y). Derivative: −1 at the label and 1 at the best other (shared
    evenly among equals) where the loss is positive, else 0, also at the kink.

    Args:
        scores: the score of each class.
        labels: the index of the class of each example; out of range and not masked: NaN in loss and gradient.
        axis: the class axis of `scores`; `labels` are without it.
        where: which examples count.

    Returns:
        One loss an example, in the unit of the scores.

    Raises:
        TypeError: `scores` is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: `labels` have another shape than `scores` without its class axis, `where` does not broadcast, or
            `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.multiclass_perceptron_loss(jnp.array([2.0, 1.5, 0.0]), jnp.array(1)))
        0.5

    References:
        Collins, Discriminative Training Methods for Hidden Markov Models, 2002
    """
    scores, labels, where = _check.scores_and_classes("scores", scores, labels, axis, where)
    return _rules.compiled(_multiclass, scores, labels, where, jnp.zeros((), scores.dtype))


def _multiclass(scores: Array, labels: Array, where: Any, margin: Array) -> Array:
    scores = _rules.masked(where, scores, 1)
    own, invalid = _softmax.pick(scores, labels, where)
    is_label = _exponentials.columns_equal(labels, scores.shape[-1])
    best = jnp.max(jnp.where(is_label, -jnp.inf, scores), axis=-1)
    behind = margin + _rules.wide(best) - _rules.wide(own)
    loss = jnp.where(behind <= 0, 0 * invalid, behind) + invalid * _rules.wide(own)
    return _rules.masked(where, loss)


def multiclass_sparsemax_loss(
    scores: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The sparsemax loss: its probabilities are the Euclidean projection of the scores on the simplex, often 0.

    Formula: ⟨p, z⟩ − ‖p‖²/2 + 1/2 − z_y with p the projection, taken as ½((Σ_{j≠y} p_j)² + Σ_{j≠y} p_j²) + max(τ − z_y, 0)
    with p = max(z − τ, 0), which does not cancel. Derivative: p_k − 1[k = y]. 0 if the label leads every other by 1.

    Args:
        scores: the score of each class, any rank.
        labels: the index of the class of each example; out of range and not masked: NaN in loss and gradient.
        axis: the class axis of `scores`; `labels` are without it.
        where: which examples count.

    Returns:
        One loss an example.

    Raises:
        TypeError: `scores` is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: `labels` have another shape than `scores` without its class axis, `where` does not broadcast, or
            `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.multiclass_sparsemax_loss(jnp.array([2.0, 1.5, 0.0]), jnp.array(0)))
        0.0625

    References:
        Martins and Astudillo, From Softmax to Sparsemax, 2016
    """
    scores, labels, where = _check.scores_and_classes("scores", scores, labels, axis, where)
    return _rules.compiled(_masked_sparsemax, scores, labels, where)


def _masked_sparsemax(scores: Array, labels: Array, where: Any) -> Array:
    scores = _rules.masked(where, scores, 1)
    safe, invalid = _softmax.in_range(labels, scores)
    # NaN in the scores of a row with a bad label reaches its loss and its gradient.
    spoilt = scores + invalid[..., None].astype(scores.dtype) if where is None else scores
    loss = _rules.call(_multiclass_sparsemax, spoilt, safe)
    return _rules.masked(where, loss if where is None else loss + invalid)


@jax.custom_vjp
def _multiclass_sparsemax(scores: Array, labels: Array) -> Array:
    return _multiclass_sparsemax_value(scores, labels)


def _simplex(scores: Array) -> tuple[Array, Array]:
    """The scores in float32 or wider less their maximum, and their projection on the simplex."""
    z = _rules.wide(scores)
    z = z - jax.lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True))
    return z, jnp.vectorize(projections.projection_simplex, signature="(n)->(n)")(z).astype(z.dtype)


def _multiclass_sparsemax_value(scores: Array, labels: Array) -> Array:
    z, p = _simplex(scores)
    others = jnp.where(_exponentials.columns_equal(labels, scores.shape[-1]), 0, p)
    threshold = jnp.max(z - p, axis=-1, where=p > 0, initial=-jnp.inf)
    missing = jnp.maximum(threshold - _exponentials.at_label(z, labels), 0)
    return 0.5 * (jnp.square(jnp.sum(others, axis=-1)) + jnp.sum(jnp.square(others), axis=-1)) + missing


def _multiclass_sparsemax_fwd(scores: Array, labels: Array) -> tuple[Array, Any]:
    return _multiclass_sparsemax_value(scores, labels), (scores, labels)


# By the envelope theorem the projection needs no derivative here; JAX's own would add a rounding error of one.
def _multiclass_sparsemax_bwd(residuals: Any, cotangent: Array) -> tuple[Array, None]:
    scores, labels = residuals
    _, p = _simplex(scores)
    is_label = _exponentials.columns_equal(labels, scores.shape[-1])
    others = jnp.where(is_label, 0, p)
    gradient = jnp.where(is_label, -jnp.sum(others, axis=-1, keepdims=True), others)
    return (cotangent[..., None] * gradient).astype(scores.dtype), None


_multiclass_sparsemax.defvjp(_multiclass_sparsemax_fwd, functools.partial(_rules.compiled, _multiclass_sparsemax_bwd))


def make_fenchel_young_loss(max_fun: Callable[..., Any]) -> Callable[..., Array]:
    """Makes the loss that belongs to a max function, such as the log-sum-exp for cross-entropy.

    Formula: max_fun(θ) − ⟨y, θ⟩ over the last axis, with θ the scores and y the targets. Derivative: ∇max_fun(θ) − y.

    Args:
        max_fun: a convex function from a vector of scores to a number.

    Returns:
        A function of scores [..., K] and targets of the same shape, and further arguments for `max_fun`, that returns
        one loss an example. Its keyword `where` says which examples count.

    Raises:
        TypeError: the returned function, if scores or targets are not floating point, or `where` is not boolean.
        ValueError: the returned function, if the shapes differ or `where` does not broadcast.

    Example:
        >>> import jax, jax.numpy as jnp, jaxloss
        >>> loss = jaxloss.make_fenchel_young_loss(jax.nn.logsumexp)
        >>> print(loss(jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0])))
        2.126928

    References:
        Blondel, Martins and Niculae, Learning with Fenchel-Young Losses, 2020
    """
    row_max = jnp.vectorize(max_fun, signature="(n)->()")

    def fenchel_young_loss(scores: Any, targets: Any, *args: Any, where: Any = None, **kwargs: Any) -> Array:
        scores, targets = _check.pair("scores", scores, "targets", targets)
        _check.class_last("scores", scores, -1)
        where = _check.mask(where, scores.shape[:-1], "the examples")
        scores, targets = _rules.wide(scores, targets), _rules.wide(targets, scores)
        scores, targets = _rules.masked(where, scores, 1), _rules.masked(where, targets, 1)
        loss = row_max(scores, *args, **kwargs) - jnp.sum(targets * scores, axis=-1)
        return _rules.masked(where, loss)

    return fenchel_young_loss
