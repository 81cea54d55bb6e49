"""The softmax losses of hidden states against a vocabulary: a few numbers a token, and their gradients by blocks.

Notation as in `_linear`. A label y is set apart from the other classes: with m the maximum of their scores and
R = Σ exp(s − m) over them, −log p_y = log(1 + R e^(m − s_y)), of which a tiny one keeps its digits. Where the vocabulary is
divided over devices, they exchange these numbers, one a token each, and the gradient of the hidden states.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _numerics, _rules, _softmax
from jaxloss._linear import (
    Blocks,
    Head,
    class_axis,
    first_class,
    gradients,
    highest,
    logits,
    operand,
    over_blocks,
    place_of,
    scores,
    shared,
    summed,
    taken_or_none,
    taken_weight,
    token_sum,
    without,
)


class Sums(NamedTuple):
    """What the classes up to some block come to, a number a token each: the label's logit, and sums over the others."""

    own: Array  # the label's logit, 0 as long as it has not come
    m: Array  # the maximum of the scores, a constant
    total: Array  # R = Σ exp(s − m)
    gaps: Any  # Σ w (m − s), and
    counted: Any  # Σ w, over the classes that can occur; None without weights


class Terms(NamedTuple):
    """The numbers a token that the losses on labels are made of."""

    nll: Array  # lse − s_y
    lse: Array
    uniform: Any  # Σ_k w_k (lse − s_k)/K over the K classes that can occur; None without weights
    lead: Array  # s_y − m, a constant


class Pulls(NamedTuple):
    """The gradient by the scores: `pull` p_k − `even` w_k for a class, `own` for the label."""

    pull: Array
    own: Array
    even: Any


def no_sums(like: Array, uniform_weights: Any) -> Sums:
    """The sums over no class, for tokens of the given shape and dtype."""
    zero = jnp.zeros_like(like)
    none = None if uniform_weights is None else zero
    return Sums(zero, jnp.full_like(zero, jnp.finfo(zero.dtype).min), zero, none, none)


def apart(z: Array, place: Array) -> tuple[Array, Array]:
    """The label's logit, 0 where the block has no such place, and the block without it."""
    own = _at(z, place)
    return own, without(z, place, own)


def with_block(
    sums: Sums, own: Array, z: Array, bias: Any, weights: Any, place: Array, soft_cap: Any, temperature: Any
) -> Sums:
    """The sums with one block more, for its logits without the bias, apart, and the label's place in it."""
    if bias is not None:
        own, z = own + _at(jnp.broadcast_to(bias, z.shape), place), z + bias
    s = scores(z, soft_cap, temperature)
    m = lax.stop_gradient(jnp.maximum(sums.m, jnp.max(s, axis=-1)))
    total = sums.total * jnp.exp(sums.m - m) + jnp.sum(jnp.exp(s - m[..., None]), axis=-1)
    gaps, counted = sums.gaps, sums.counted
    if weights is not None:
        counts = s > -jnp.inf
        gaps = _raised(gaps, counted, m - sums.m)
        gaps = gaps + jnp.sum(jnp.where(counts, weights * (m[..., None] - jnp.where(counts, s, 0)), 0), axis=-1)
        counted = counted + jnp.sum(jnp.where(counts, weights, 0), axis=-1)
    return Sums(sums.own + own, m, total, gaps, counted)


def _raised(gaps: Array, counted: Array, by: Array) -> Array:
    """Σ w (m − s) for an m that is higher by some amount, which may be the largest number where nothing is counted."""
    return gaps + jnp.where(counted == 0, 0, counted * jnp.where(counted == 0, 0, by))


def of_all_devices(sums: Sums, blocks: Blocks) -> Sums:
    """The sums over all classes."""
    m = highest(sums.m, blocks)
    gaps = None if sums.gaps is None else _raised(sums.gaps, sums.counted, m - sums.m)
    own, total, gaps, counted = summed((sums.own, sums.total * jnp.exp(sums.m - m), gaps, sums.counted), blocks)
    return Sums(own, m, total, gaps, counted)


def terms_of(sums: Sums, own_weight: Any, count: Any, soft_cap: Any, temperature: Any) -> Terms:
    """The terms, for the weight of the label and the number of classes that can occur."""
    own = scores(sums.own[..., None], soft_cap, temperature)[..., 0]
    # The larger of the label and the best of the others is outside of the logarithm, so that nothing cancels in it.
    gap = sums.m - own
    behind, finite = gap > 0, _numerics.within_range(gap)
    e = jnp.exp(jnp.where(behind, -finite, finite))  # of −|gap|, whose derivative at 0 would be 0
    small = jnp.log1p(jnp.where(behind, (sums.total - 1) + e, sums.total * e))
    nll = jnp.where(behind, gap, 0) + small
    uniform = None
    if sums.gaps is not None:
        gaps = _raised(sums.gaps, sums.counted, small + jnp.where(behind, 0, -gap))
        own_weight = jnp.where(own > -jnp.inf, own_weight, 0)
        uniform = (gaps + _softmax.times(own_weight, nll)) / count
    return Terms(nll, jnp.where(behind, sums.m, own) + small, uniform, lax.stop_gradient(-gap))


def loss_of(terms: Terms, own_weight: Any, smoothing: Any, z_loss: Any) -> Array:
    """The cross-entropy made of the terms, for the weight of the label."""
    loss = terms.nll if own_weight is None else _softmax.times(own_weight, terms.nll)
    if smoothing is not None:
        loss = _softmax.times(1 - smoothing, loss) + smoothing * terms.uniform
    return loss if z_loss is None else loss + z_loss * jnp.square(terms.lse)


def pulls_of(terms: Terms, cotangents: Terms, invalid: Array, own_weight: Any, mass: Any, count: Any) -> Pulls:
    """The gradient by the scores, for the weights of the label and of all classes that can occur."""
    nll_bar, lse_bar, uniform_bar, _ = cotangents
    p = jnp.exp(-terms.nll)
    pull, own, even = nll_bar + lse_bar, nll_bar * jnp.expm1(-terms.nll) + lse_bar * p, None  # never p − 1
    if uniform_bar is not None:
        even = uniform_bar / count
        pull, own = pull + even * mass, own + even * (mass * p - own_weight)
    return Pulls(pull + invalid, own + invalid, even)


def slopes(held: tuple[Pulls, Terms, Array], s: Array, weights: Any, places: Array) -> tuple[Array, Any]:
    """The gradients by a block of scores and by its weights, for the labels as places of this device's classes."""
    pulls, terms, labels = held
    is_own = places == labels[..., None]
    ds = pulls.pull[..., None] * jnp.exp(s - terms.lse[..., None])
    weights_bar = None
    if weights is not None:
        ds = ds - pulls.even[..., None] * weights
        gap = jnp.where(s > -jnp.inf, terms.lse[..., None] - jnp.where(s > -jnp.inf, s, 0), 0)
        weights_bar = token_sum(pulls.even[..., None] * jnp.where(is_own, terms.nll[..., None], gap))
    return jnp.where(is_own, pulls.own[..., None], ds), weights_bar


# The rule saves bytes: it keeps its arguments and two numbers a token. Autodiff would keep every block of the scores.
@jax.custom_vjp
def label_terms(
    hidden: Array,
    weight: Array,
    bias: Any,
    labels: Array,
    uniform_weights: Any,
    soft_cap: Any,
    temperature: Any,
    where: Any,
    blocks: Blocks,
) -> Terms:
    """The terms of every token, 0 in a masked one; `uniform` with the given weights."""
    return _label_terms_value(hidden, weight, bias, labels, uniform_weights, soft_cap, temperature, where, blocks)


def _label_terms_value(
    hidden: Array,
    weight: Array,
    bias: Any,
    labels: Array,
    uniform_weights: Any,
    soft_cap: Any,
    temperature: Any,
    where: Any,
    blocks: Blocks,
) -> Terms:
    x, labels, invalid = prepared(hidden, weight, labels, where, blocks)
    classes = weight.shape[class_axis(blocks)]
    local = labels - first_class(classes, blocks)

    def step(sums: Sums, start: Any, columns: int) -> Sums:
        b, w = (taken_or_none(a, start, columns, blocks) for a in (bias, uniform_weights))
        z = logits(x, taken_weight(weight, start, columns, blocks, x.dtype), blocks)
        place = place_of(local, start, columns, classes, blocks)
        return with_block(sums, *apart(z, place), b, w, place, soft_cap, temperature)

    sums = over_blocks(step, shared(no_sums(invalid, uniform_weights), hidden, weight, blocks), classes, blocks)
    own_weight, _, count = weights_of(uniform_weights, bias, labels, blocks)
    terms = terms_of(of_all_devices(sums, blocks), own_weight, count, soft_cap, temperature)
    return jax.tree.map(lambda x: _rules.masked(where, x + invalid), terms)


def _label_terms_fwd(*args: Any) -> tuple[Terms, Any]:
    terms = _label_terms_value(*args)
    return terms, (args, terms.nll, terms.lse)


def _label_terms_bwd(residuals: Any, cotangents: Terms) -> tuple[Any, ...]:
    args, nll, lse = residuals
    hidden, weight, bias, labels, uniform_weights, soft_cap, temperature, where, blocks = args
    terms = Terms(nll, lse, None, nll)
    x, labels, invalid = prepared(hidden, weight, labels, where, blocks)
    local = labels - first_class(weight.shape[class_axis(blocks)], blocks)
    of_labels = weights_of(uniform_weights, bias, labels, blocks)
    cotangents = jax.tree.map(lambda x: _rules.masked(where, x), cotangents)
    pulls = pulls_of(terms, cotangents, invalid, *of_labels)
    weights = None if uniform_weights is None else jnp.where(occurs(bias, uniform_weights), uniform_weights, 0)

    head = Head(x, weight, bias, soft_cap, temperature)
    head_bar, weights_bar = gradients(slopes, (pulls, terms, local), head, weights, blocks)
    x_bar = _rules.masked(where, head_bar.hidden, 1).astype(hidden.dtype)
    return x_bar, head_bar.weight, head_bar.bias, None, weights_bar, head_bar.soft_cap, head_bar.temperature, None, None


label_terms.defvjp(_label_terms_fwd, functools.partial(_rules.compiled, _label_terms_bwd))


def prepared(hidden: Array, weight: Array, labels: Array, where: Any, blocks: Blocks) -> tuple[Array, Array, Array]:
    """x in the dtype of the products, labels in range, and what to add to a loss; harmless in a masked token."""
    classes = weight.shape[class_axis(blocks)]
    if blocks.axis_name is not None:
        classes = classes * lax.axis_size(blocks.axis_name)
    safe = jnp.clip(labels, 0, classes - 1)
    invalid = jnp.where(labels == safe, 0, jnp.nan).astype(_rules.wide_dtype(hidden, weight))
    return operand(hidden, weight, where), _rules.masked(where, safe), _rules.masked(where, invalid)


def occurs(bias: Any, of_class: Array) -> Array:
    """Which classes can occur."""
    return jnp.ones(of_class.shape, bool) if bias is None else bias > -jnp.inf


def weights_of(of_class: Any, bias: Any, labels: Array, blocks: Blocks) -> tuple[Any, Any, Any]:
    """The weight of each label, the sum of the weights of the classes that can occur, and the number of these classes."""
    if of_class is None:
        return None, None, None
    there = occurs(bias, of_class)
    weights = jnp.where(there, of_class, 0)
    own = of_label(weights, labels, blocks)
    mass, count = summed((jnp.sum(weights), jnp.sum(there, dtype=weights.dtype)), blocks)
    return own, mass, jnp.maximum(count, 1)


def of_label(of_class: Array, labels: Array, blocks: Blocks) -> Array:
    """An array [V] at each label, on whichever device that class is."""
    classes = of_class.shape[-1]
    local = labels - first_class(classes, blocks)
    here = (local >= 0) & (local < classes)
    return summed(jnp.where(here, of_class[jnp.clip(local, 0, classes - 1)], 0), blocks)


def _at(z: Array, place: Array) -> Array:
    """z[..., place], 0 where the place is behind the last column."""
    return jnp.take_along_axis(z, place[..., None], axis=-1, mode="fill", fill_value=0)[..., 0]
