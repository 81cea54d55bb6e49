"""Self-supervision without negatives: two views are to agree, and something else keeps them from being constant."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxloss import _check, _numerics, _rules, _softmax, _vectors

# barlow_twins_loss and vicreg_loss are of the statistics of a batch [n, features], and so one number a batch; `where`,
# one boolean an example, says which are there at all. byol_loss and dino_loss are one number an example.


def barlow_twins_loss(
    first_embeddings: Float[ArrayLike, "n features"],
    second_embeddings: Float[ArrayLike, "n features"],
    *,
    redundancy_weight: Float[ArrayLike, ""] = 0.005,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, ""]:
    """Barlow Twins: each feature is to agree between two views of a batch, and to be uncorrelated with all others.

    Formula: Σ_i (1 − c_ii)² + λ Σ_{i≠j} c_ij², with c_ij the correlation, over the batch, of feature i of the first view
    with feature j of the second, and 1 − c_ii taken as half the squared distance of the standardised features. Derivative
    by c_ii: −2(1 − c_ii); by c_ij: 2λ c_ij. A correlation is of a whole batch, and so is the loss: one number.

    Args:
        first_embeddings: one vector an example.
        second_embeddings: the shape of `first_embeddings`: the other view of each example.
        redundancy_weight: λ ≥ 0; differentiable.
        where: which examples are there.

    Returns:
        One loss for the batch. A feature that is constant over it has correlation 0 with all, and gradient 0; so the loss
        of one example is the number of features. 0 where there is no example.

    Raises:
        TypeError: an array or `redundancy_weight` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ or are not [n, features], `redundancy_weight` is negative, or `where` does not
            broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> views = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> print(jaxloss.barlow_twins_loss(views, -views))
        8.0

    References:
        Zbontar, Jing, Misra, LeCun and Deny, Barlow Twins: Self-Supervised Learning via Redundancy Reduction, 2021
    """
    first, second, where = _two_views(first_embeddings, second_embeddings, where)
    redundancy_weight = _check.option("redundancy_weight", redundancy_weight, first, minimum=0, shape=())
    return _rules.call(_barlow_twins, first, second, redundancy_weight, where)


def vicreg_loss(
    first_embeddings: Float[ArrayLike, "n features"],
    second_embeddings: Float[ArrayLike, "n features"],
    *,
    invariance_weight: Float[ArrayLike, ""] = 25.0,
    variance_weight: Float[ArrayLike, ""] = 25.0,
    covariance_weight: Float[ArrayLike, ""] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, ""]:
    """VICReg: two views are to agree, each feature to vary over the batch, and no two features to vary together.

    Formula: λ s + μ (v₁ + v₂) + ν (c₁ + c₂) with, over n examples of D features, s = Σ ‖x − y‖²/n, v = Σ_j max(0,
    1 − √(C_jj + 10⁻⁴))/D and c = Σ_{i≠j} C_ij²/D, C the covariance (over n − 1) of a view. This is the paper's text; its
    codes take s/D, and the authors' also v/2. Derivative by x: 2λ(x − y)/n and what comes from C; 0 where a hinge ends.

    Args:
        first_embeddings: one vector an example.
        second_embeddings: the shape of `first_embeddings`: the other view of each example.
        invariance_weight: λ ≥ 0; differentiable. For the authors' code: 25/D.
        variance_weight: μ ≥ 0; differentiable. For the authors' code: 12.5.
        covariance_weight: ν ≥ 0; differentiable.
        where: which examples are there.

    Returns:
        One loss for the batch, since a covariance is of a whole batch; 0 where there is no example. Of one example the
        covariance is 0.

    Raises:
        TypeError: an array or a weight is not floating point, or `where` is not boolean.
        ValueError: the shapes differ or are not [n, features], a weight is negative, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> views = jnp.array([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
        >>> print(jaxloss.vicreg_loss(views, views + 1.0))
        50.0

    References:
        Bardes, Ponce and LeCun, VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning, 2022
    """
    first, second, where = _two_views(first_embeddings, second_embeddings, where)
    weights = [
        _check.option(name, weight, first, minimum=0, shape=())
        for name, weight in (
            ("invariance_weight", invariance_weight),
            ("variance_weight", variance_weight),
            ("covariance_weight", covariance_weight),
        )
    ]
    return _rules.call(_vicreg, first, second, *weights, where)


def _two_views(first: Any, second: Any, where: Any) -> tuple[Array, Array, Any]:
    first = _check.vectors("first_embeddings", first)
    first, second = _check.pair("first_embeddings", first, "second_embeddings", second)
    return first, second, _check.mask(where, first.shape[:1], "the examples")


def _there(where: Any, x: Array) -> Array:
    """[n, 1]: which examples are there."""
    return jnp.broadcast_to(jnp.asarray(True) if where is None else where, x.shape[:1])[:, None]


def _centred(x: Array, there: Array) -> Array:
    """x less the mean over the examples, 0 in those that are not there."""
    # First less one of the examples, a shift that changes nothing: so a constant feature becomes 0, and not the rounding
    # error of its mean.
    one = lax.stop_gradient(jnp.take(x, jnp.argmax(there[:, 0]), axis=0)) if x.shape[0] else 0
    d = jnp.where(there, x - one, 0)
    return jnp.where(there, d - jnp.sum(d, 0) / jnp.maximum(jnp.sum(there), 1).astype(x.dtype), 0)


def _squared_off_diagonal(matrix: Array) -> Array:
    return jnp.sum(jnp.square(jnp.where(jnp.eye(matrix.shape[0], dtype=bool), 0, matrix)))


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


# The rules keep the two views as they came, and not the centred and scaled copies in float32.
@_rules.recomputed
def _barlow_twins(first: Array, second: Array, redundancy_weight: Array, where: Any) -> Array:
    there = _there(where, first)

    def standardised(x: Array) -> Array:
        x = jnp.where(there, _rules.wide(x, first, second, redundancy_weight), 0)
        return _vectors.unit(_centred(x, there).T)

    a, b = standardised(first), standardised(second)
    varies = jnp.any(a != 0, -1) & jnp.any(b != 0, -1)
    disagreement = jnp.where(varies, 0.5 * jnp.sum(jnp.square(a - b), -1), 1)
    redundancy = _squared_off_diagonal(_product(a, b.T))
    loss = jnp.sum(jnp.square(disagreement)) + redundancy_weight * redundancy
    return jnp.where(jnp.any(there), loss, 0)


@_rules.recomputed
def _vicreg(first: Array, second: Array, invariance: Array, variance: Array, covariance: Array, where: Any) -> Array:
    there = _there(where, first)
    x, y = (jnp.where(there, _rules.wide(z, first, second, invariance, variance, covariance), 0) for z in (first, second))
    n, features = jnp.sum(there).astype(x.dtype), max(x.shape[1], 1)

    def terms(z: Array) -> Array:
        z = _centred(z, there)
        c = _product(z.T, z) / jnp.maximum(n - 1, 1)
        spread = jnp.sum(_numerics.positive_part(1 - jnp.sqrt(jnp.diagonal(c) + 1e-4)))
        return (variance * spread + covariance * _squared_off_diagonal(c)) / features

    apart = jnp.sum(jnp.square(x - y)) / jnp.maximum(n, 1)
    return jnp.where(n > 0, invariance * apart + terms(x) + terms(y), 0)


def byol_loss(
    predictions: Float[ArrayLike, "*batch features"],
    targets: Float[ArrayLike, "*batch features"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """BYOL: the squared distance of two directions. SimSiam's −cos is half of it, less 1.

    Formula: 2 − 2 cos(p, z), taken as ‖p/‖p‖ − z/‖z‖‖², which does not cancel. Derivative by p: −2 (z/‖z‖ less its part
    along p)/‖p‖. The targets have their gradient too: where they come from the network that is trained, as in SimSiam,
    cut it with `lax.stop_gradient`.

    Args:
        predictions: vectors of any length: only directions count.
        targets: the shape of `predictions`, the projections of the other view by the target network.
        axis: the axis of the features.
        where: which examples count.

    Returns:
        One loss an example, from 0 to 4, right to about 2^-22 times its square root and one unit in the last place. A zero
        vector has cosine 0, and gradient 0.

    Raises:
        TypeError: `predictions` or `targets` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.byol_loss(jnp.array([[3.0, 0.0], [2.0, 2.0]]), jnp.array([[1.0, 0.0], [-1.0, 1.0]])))
        [0. 2.]

    References:
        Grill et al., Bootstrap Your Own Latent, 2020
    """
    predictions, targets = _check.pair("predictions", predictions, "targets", targets)
    predictions = _check.class_last("predictions", predictions, axis)
    targets = _check.class_last("targets", targets, axis)
    return _rules.call(_byol, predictions, targets, _check.mask(where, predictions.shape[:-1], "the examples"))


# The rule keeps the two arrays as they came, and not their directions in float32.
@_rules.recomputed
def _byol(predictions: Array, targets: Array, where: Any) -> Array:
    p, z = _rules.wide(predictions, targets), _rules.wide(targets, predictions)
    p, z = (_vectors.unit(_rules.masked(where, x, 1)) for x in (p, z))
    directed = jnp.any(p != 0, -1) & jnp.any(z != 0, -1)
    losses = jnp.where(directed, jnp.sum(jnp.square(p - z), -1), 2)
    return _rules.masked(where, losses)


def dino_loss(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    student_temperature: Float[ArrayLike, ""] = 0.1,
    teacher_temperature: Float[ArrayLike, ""] = 0.04,
    center: Float[ArrayLike, "..."] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """DINO: the cross-entropy of a student with a teacher that is centred and sharpened.

    Formula: −Σ_k t_k log softmax(s/τ_s)_k with t = softmax((z − c)/τ_t). Derivative by s: (softmax(s/τ_s) − t)/τ_s. The
    teacher is cut with `lax.stop_gradient`: its logits, its temperature and the centre have gradient 0.

    Args:
        student_logits: the student's scores s.
        teacher_logits: the teacher's scores z of the other view, of the shape of `student_logits`.
        student_temperature: τ_s > 0; differentiable.
        teacher_temperature: τ_t > 0, the smaller the sharper.
        center: c, the running mean of the teacher's scores, which the caller keeps; broadcasts to one example's classes.
            None means 0.
        axis: the class axis of both.
        where: which examples count.

    Returns:
        One loss an example.

    Raises:
        TypeError: an array or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, a temperature is not positive, `center` or `where` does not broadcast, or `axis` is
            out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.dino_loss(jnp.array([0.2, 0.0]), jnp.array([1.0, 0.0])))
        0.126928

    References:
        Caron, Touvron, Misra, Jégou, Mairal, Bojanowski and Joulin, Emerging Properties in Self-Supervised Vision
            Transformers, 2021
    """
    student, teacher = _check.pair("student_logits", student_logits, "teacher_logits", teacher_logits)
    student = _check.class_last("student_logits", student, axis)
    teacher = _check.class_last("teacher_logits", teacher, axis)
    student_temperature = _check.option("student_temperature", student_temperature, student, above=0, shape=())
    teacher_temperature = _check.option("teacher_temperature", teacher_temperature, student, above=0, shape=())
    center = _check.optional("center", center, student, shape=student.shape[-1:])
    where = _check.mask(where, student.shape[:-1], "the examples")
    return _rules.call(_dino, student, teacher, student_temperature, teacher_temperature, center, where)


# The rule keeps the two arrays as they came, and not what they are over the temperatures in float32.
@_rules.recomputed
def _dino(
    student: Array, teacher: Array, student_temperature: Array, teacher_temperature: Array, center: Any, where: Any
) -> Array:
    every = student, teacher, student_temperature, teacher_temperature, center
    teacher, teacher_temperature, center = lax.stop_gradient((_rules.wide(teacher, *every), teacher_temperature, center))
    if center is not None:
        teacher = teacher - center
    student, teacher = _rules.masked(where, student, 1), _rules.masked(where, teacher, 1)
    labels = jax.nn.softmax(teacher / teacher_temperature)
    scores = _rules.wide(student, *every)
    finite = jnp.isfinite(scores)  # a score of −inf stays, and gives the temperature no gradient
    scores = jnp.where(finite, jnp.where(finite, scores, 0) / student_temperature, scores)
    losses, _ = _rules.call(_softmax.soft_terms, scores, labels, None, None, None, where)
    return losses
