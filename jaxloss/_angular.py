"""Metric learning by classification: a margin between the angles to the classes' centres."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _exponentials, _rules, _softmax, _values


def arcface_loss(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    margin: Float[ArrayLike, "..."] = 0.5,
    scale: Float[ArrayLike, "..."] = 64.0,
    easy_margin: bool = False,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The ArcFace loss: cross-entropy of cosines, with an angle added between an example and its own class's centre.

    Formula: the cross-entropy of the logits s·cos θ_k, with cos(θ_y + m) in place of cos θ_y at the label. Where that
    would rise again, for θ_y > π − m, it is cos θ_y − m sin m, as in the authors' code; with `easy_margin`, the margin is
    added for θ_y < π/2 alone. Derivative by cos θ_k: s(p_k − 1[k = y]) with p the softmax of the logits, at the label
    times sin(θ_y + m)/sin θ_y = cos m + sin m/tan θ_y, whose second term counts as 0 where cos θ_y is ±1: the angle has
    no direction there.

    Args:
        cosines: cos θ, of the angles between an example and the classes' centres: inner products of unit vectors. What
            rounding leaves beyond ±1 counts as ±1 in sin θ.
        labels: the index of the class of each example; out of range and not masked: NaN in loss and gradient.
        margin: m, in radians, from 0 to π; broadcasts to the examples, differentiable.
        scale: s > 0; broadcasts to the examples, differentiable.
        easy_margin: whether the margin is left out where cos θ_y ≤ 0.
        axis: the class axis of `cosines`; `labels` are without it.
        where: which examples count.

    Returns:
        One loss an example, in nats. An error of 1 ulp in a cosine is one of s ulp in its exponential.

    Raises:
        TypeError: `cosines` or an option is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: `labels` have another shape than `cosines` without its class axis, an option or `where` does not
            broadcast or is out of its domain, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.arcface_loss(jnp.array([0.8, 0.6]), jnp.array(0), scale=4.0))
        1.13169

    References:
        Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019
    """
    cosines, labels, where = _check.scores_and_classes("cosines", cosines, labels, axis, where)
    _values.cosines("cosines", cosines, None if where is None else where[..., None])
    margin = _check.option("margin", margin, _check.examples(cosines), minimum=0, maximum=math.pi, where=where)
    scale = _check.option("scale", scale, _check.examples(cosines), above=0, where=where)
    return _rules.call(_arcface(_check.flag("easy_margin", easy_margin)), cosines, labels, margin, scale, where)


@functools.cache
def _arcface(easy_margin: bool) -> Any:
    @_rules.recomputed  # neither the cosines in float32 nor the logits are kept for the backward pass
    def loss(cosines: Array, labels: Array, margin: Array, scale: Array, where: Any) -> Array:
        c = _rules.wide(cosines)
        c = _rules.masked(where, c, 1)
        margin, scale = _rules.harmless(where, margin), _rules.harmless(where, scale)
        own, _ = _softmax.pick(c, labels, where)
        turned = _turned(own, margin.astype(c.dtype), easy_margin)
        c = jnp.where(_exponentials.columns_equal(labels, c.shape[-1]), turned[..., None], c)
        return _softmax.cross_entropy(scale.astype(c.dtype)[..., None] * c, labels, None, None, None, None, where)

    return loss


def _turned(c: Array, margin: Array, easy_margin: bool) -> Array:
    """cos(θ + m) from c = cos θ, and what stands for it where the margin does not apply."""
    inside = jnp.abs(c) < 1
    sine = jnp.where(inside, jnp.sqrt(jnp.where(inside, (1 - c) * (1 + c), 1)), 0)
    turned = c * jnp.cos(margin) - sine * jnp.sin(margin)
    if easy_margin:
        return jnp.where(c > 0, turned, c)
    return jnp.where(c > -jnp.cos(margin), turned, c - margin * jnp.sin(margin))
