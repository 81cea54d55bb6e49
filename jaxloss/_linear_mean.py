"""The weighted sum of the cross-entropies of tokens, as one number, with its gradient made in the forward pass.

The weights say beforehand what each token's loss will be multiplied by, so that a block of tokens is done with at once:
its logits, its losses and its gradients, from three products of matrices where `_linear_softmax` takes four. In exchange
the gradient of the weight is summed up over the blocks in float32.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _check, _rules
from jaxloss._linear import (
    Blocks,
    by_hidden,
    by_weight,
    class_axis,
    first_class,
    logits,
    operand,
    place_of,
    places,
    replaced,
    scores,
    shared,
    summed,
    taken_weight,
    token_sum,
    transposed,
)
from jaxloss._linear_softmax import (
    apart,
    loss_of,
    no_sums,
    occurs,
    of_all_devices,
    of_label,
    prepared,
    pulls_of,
    slopes,
    terms_of,
    weights_of,
    with_block,
)
from jaxloss._similarities import Block as Rows
from jaxloss._similarities import divided, joined

# Logits of a block of tokens, and tokens: with fewer, a device would spend its time on the gradient of the weight, which
# is read and written once a block.
BUDGET = 2**24
FEWEST = 256


def token_blocks(size: Any, tokens: int, classes: int) -> Rows:
    """The given number of tokens at a time; by default as many as fit the budget, and at least `FEWEST`."""
    size = max(FEWEST, BUDGET // classes) if size is None else _check.count("block_size", size, least=1)
    return Rows(max(min(size, tokens), 1))


@jax.tree_util.register_static
@dataclass(frozen=True)
class Batch:
    """The mesh axes over whose devices the tokens are divided. An argument that `jit` takes as a constant."""

    axis_name: Any


class Tokens(NamedTuple):
    """What there is one of a token; the options may be None, and so may what has no gradient in a gradient."""

    hidden: Array
    labels: Any
    factor: Array  # of its loss in the sum
    there: Any  # whether it counts at all
    smoothing: Any
    z_loss: Any
    temperature: Any


class Head(NamedTuple):
    """What is the same for all tokens; all but the weight may be None."""

    weight: Array
    bias: Any
    class_weights: Any  # of the labels
    uniform_weights: Any  # of all classes, for label smoothing
    soft_cap: Any


# The rule saves bytes and a product: autodiff would make or keep the logits of all tokens.
@jax.custom_vjp
def weighted_sum(tokens: Tokens, head: Head, blocks: Blocks, rows: Rows) -> Array:
    """Σ factor · loss over the tokens. `blocks` has all classes in one."""
    return _weighted_sum_value(tokens, head, blocks, rows)


def _weighted_sum_value(tokens: Tokens, head: Head, blocks: Blocks, rows: Rows) -> Array:
    def one_block(some: Tokens) -> Array:
        *_, loss = _of_block(some, head, blocks)
        return loss * some.factor

    return jnp.sum(lax.map(jax.checkpoint(one_block, prevent_cse=False), _in_blocks(tokens, rows)))


def _weighted_sum_fwd(tokens: Tokens, head: Head, blocks: Blocks, rows: Rows) -> tuple[Array, Any]:
    def step(head_bar: Head, block: tuple[Tokens, Array]) -> tuple[Head, tuple[Array, Tokens]]:
        some, x_first = block
        loss, some_bar, of_block = _with_gradients(some, x_first, head, blocks)
        return jax.tree.map(jnp.add, head_bar, of_block), (loss * some.factor, some_bar)

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, tokens.factor.dtype), head)
    zeros = zeros._replace(weight=_dim_first(zeros.weight, blocks))
    start = shared(zeros, tokens.hidden, head.weight, blocks)
    some = _in_blocks(tokens, rows)
    # Transposed ahead of the loop: of what is transposed in it, XLA makes the products in float32 on CPU.
    x_first = jax.vmap(transposed)(operand(some.hidden, head.weight, some.there))
    head_bar, (terms, tokens_bar) = lax.scan(jax.checkpoint(step, prevent_cse=False), start, (some, x_first))
    tokens_bar = jax.tree.map(lambda x: joined(x, len(tokens.factor)), tokens_bar)
    x_bar, temperature_bar, cap_bar = summed((tokens_bar.hidden, tokens_bar.temperature, head_bar.soft_cap), blocks)
    tokens_bar = tokens_bar._replace(hidden=x_bar, temperature=temperature_bar)
    # The gradients stay wide until they are scaled: in float16 they might not fit before.
    dtypes = jax.tree.map(lambda x: jnp.zeros((0,), x.dtype), (tokens.hidden, head.weight))
    return jnp.sum(terms), (tokens_bar, head_bar._replace(soft_cap=cap_bar), dtypes, blocks)


def _weighted_sum_bwd(residuals: Any, cotangent: Array) -> tuple[Any, ...]:
    *gradients, (hidden, weight), blocks = residuals
    tokens_bar, head_bar = jax.tree.map(lambda x: cotangent * x, gradients)
    tokens_bar = tokens_bar._replace(hidden=tokens_bar.hidden.astype(hidden.dtype))
    weight_bar = _dim_first(head_bar.weight, blocks).astype(weight.dtype)
    return tokens_bar, head_bar._replace(weight=weight_bar), None, None


weighted_sum.defvjp(_weighted_sum_fwd, functools.partial(_rules.compiled, _weighted_sum_bwd))


def _dim_first(weight: Array, blocks: Blocks) -> Array:
    """The weight as [D, V], or back."""
    return weight.T if blocks.vocab_first else weight


def _in_blocks(tokens: Tokens, rows: Rows) -> Tokens:
    """Blocks of tokens, the last of them filled up with some that do not count."""
    blocks = divided(tokens, rows)
    if tokens.temperature is None:
        return blocks
    return blocks._replace(temperature=jnp.where(blocks.there, blocks.temperature, 1))


def _of_block(tokens: Tokens, head: Head, blocks: Blocks) -> Any:
    """The logits of some tokens, what they are made of, and the losses."""
    x, labels, invalid = prepared(tokens.hidden, head.weight, tokens.labels, tokens.there, blocks)
    classes = head.weight.shape[class_axis(blocks)]
    w = taken_weight(head.weight, 0, classes, blocks, x.dtype)
    uniform = head.uniform_weights
    place = place_of(labels - first_class(classes, blocks), 0, classes, classes, blocks)
    own_logit, others = apart(logits(x, w, blocks), place)
    sums = with_block(
        no_sums(invalid, uniform), own_logit, others, head.bias, uniform, place, head.soft_cap, tokens.temperature
    )
    weights = weights_of(uniform, head.bias, labels, blocks)
    terms = terms_of(of_all_devices(sums, blocks), weights[0], weights[2], head.soft_cap, tokens.temperature)
    own = None if head.class_weights is None else of_label(head.class_weights, labels, blocks)
    loss = loss_of(terms, own, tokens.smoothing, tokens.z_loss) + invalid
    z = replaced(others, place, jnp.where(jnp.isnan(terms.lse), jnp.nan, own_logit))
    return w, labels, invalid, z, weights, terms, own, jnp.where(tokens.there, loss, 0)


def _with_gradients(tokens: Tokens, x_first: Array, head: Head, blocks: Blocks) -> tuple[Array, Tokens, Head]:
    """The losses of some tokens, and this device's part of the gradients of Σ factor · loss; of the weight as [D, V]."""
    own_part = shared((head.soft_cap, tokens.temperature), tokens.hidden, head.weight, blocks)
    w, labels, invalid, z, weights, terms, own, loss = _of_block(tokens, head, blocks)
    _, pullback = jax.vjp(loss_of, terms, own, tokens.smoothing, tokens.z_loss)
    terms_bar, own_bar, smoothing_bar, z_loss_bar = pullback(tokens.factor)
    pulls = pulls_of(terms, terms_bar, invalid, *weights)
    classes = w.shape[class_axis(blocks)]
    uniform = head.uniform_weights
    if uniform is not None:
        uniform = jnp.where(occurs(head.bias, uniform), uniform, 0)
    z = z if head.bias is None else z + head.bias
    s, pullback = jax.vjp(scores, z, *own_part)
    local = labels - first_class(classes, blocks)
    ds, weights_bar = slopes((pulls, terms, local), s, uniform, places(0, classes, classes, blocks))
    dz, cap_bar, temperature_bar = pullback(ds)
    class_weights_bar = None
    if own_bar is not None:
        _, pullback = jax.vjp(lambda of_class: of_label(of_class, labels, blocks), head.class_weights)
        (class_weights_bar,) = pullback(own_bar)
    bias_bar = None if head.bias is None else token_sum(dz)
    x_bar = jnp.where(tokens.there[:, None], by_hidden(dz, w, blocks), 0)
    tokens_bar = Tokens(x_bar, None, loss, None, smoothing_bar, z_loss_bar, temperature_bar)
    return loss, tokens_bar, Head(by_weight(x_first, dz), bias_bar, class_weights_bar, weights_bar, cap_bar)
