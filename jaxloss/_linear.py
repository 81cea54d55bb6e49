"""Scores of hidden states against a vocabulary, block by block: the tokens × classes array never exists as a whole.

Notation: x are hidden states [..., D], w a weight [D, V], z = x w + b the logits, s the scores that the softmax sees:
c·tanh(z/c)/T under a soft cap c and a temperature T. A function of the scores is a fold over blocks of classes,
`over_blocks`, once for the value and once more, with the scores made again, for the gradient.

A block is the same columns of each of a few equal stripes of the vocabulary. Where the vocabulary is sharded over no
more devices than there are stripes, each device so has its part of every block, and none has to send weights. What is
left over at the end of the stripes is a smaller block of its own: nothing is padded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _check, _numerics, _rules

STRIPES = 16
# Numbers in a block of scores. They are made, read and written a few times, beside some thousand operations each.
BUDGET = 2**23
# Columns in a block: the gradient of the hidden states is read and written once a block, which takes a device as long as
# some hundred operations a number; with as many columns as this, there are 500.
FEWEST = 1024
SMALL = 2**12  # numbers in a weight


@jax.tree_util.register_static
@dataclass(frozen=True)
class Blocks:
    """How the vocabulary is divided. An argument without arrays, so that `jit` takes it as a constant."""

    stripes: int
    columns: int  # of each stripe, in one block
    vocab_first: bool  # whether the weight is [V, D]
    axis_name: Any  # the mesh axis over whose devices the vocabulary is divided, under shard_map


def blocks(size: Any, tokens: Any, dim: int, classes: int, vocab_first: bool, axis_name: Any) -> Blocks:
    """Blocks of about `size` columns; by default as many as fit the budget, and at least `FEWEST`."""
    if size is None:
        size = max(FEWEST, BUDGET // max(math.prod(tokens), dim, 1))
    else:
        size = _check.count("block_size", size, least=1)
    stripes = math.gcd(classes, STRIPES)
    stripe = classes // stripes
    most = max(min(stripe, size // stripes), 1)
    # A divisor not far below, so that no smaller block is left over; or else a number with a large one, for `put_weight`.
    columns = max(range(-(-2 * most // 3), most + 1), key=lambda c: (math.gcd(stripe, c), c))
    return Blocks(stripes, columns, vocab_first, axis_name)


def over_blocks(step: Callable[[Any, Any, int], Any], carry: Any, classes: int, blocks: Blocks) -> Any:
    """carry = step(carry, first column, columns) for each block in turn. Differentiated, it makes each block again."""
    step = jax.checkpoint(step, prevent_cse=False, static_argnums=2)
    whole, rest = divmod(classes // blocks.stripes, blocks.columns)
    if rest:  # first, since XLA would copy what a loop has made before it changes it
        carry = step(carry, jnp.int32(whole * blocks.columns), rest)
    starts = blocks.columns * jnp.arange(whole, dtype=jnp.int32)
    carry, _ = lax.scan(lambda carry, start: (step(carry, start, blocks.columns), None), carry, starts)
    return carry


def striped(x: Array, blocks: Blocks, axis: int = 0) -> Array:
    """An array with its axis of classes as two, [stripes, classes of a stripe]."""
    return x.reshape(*x.shape[:axis], blocks.stripes, x.shape[axis] // blocks.stripes, *x.shape[axis + 1 :])


def taken(x: Array, start: Any, columns: int, blocks: Blocks, axis: int = 0) -> Array:
    """The block of an array that has these columns of each stripe of its axis of classes."""
    block = lax.dynamic_slice_in_dim(striped(x, blocks, axis), start, columns, axis + 1)
    return lax.collapse(block, axis, axis + 2)


def taken_or_none(x: Any, start: Any, columns: int, blocks: Blocks) -> Any:
    """The block of an option [V]."""
    return None if x is None else taken(x, start, columns, blocks)


def put(parts: Array, block: Array, start: Any, blocks: Blocks, axis: int = 0) -> Array:
    """A striped array with its block replaced."""
    block = striped(block.astype(parts.dtype), blocks, axis)
    return lax.dynamic_update_slice_in_dim(parts, block, start, axis + 1)


def taken_weight(weight: Array, start: Any, columns: int, blocks: Blocks, dtype: Any) -> Array:
    """The block of the weight, in its own layout: [D, columns], or [columns, D]."""
    # On CPU, XLA would widen a 16-bit weight as a whole, ahead of the loop. Not where the weight depends on the step.
    weight, start = lax.optimization_barrier((weight, start))
    return taken(weight, start, columns, blocks, class_axis(blocks)).astype(dtype)


def weight_parts(weight: Array, blocks: Blocks) -> Array:
    """Zeros for `put_weight`: the weight, striped; of 16 bits, with its stripes in pieces, of which a block is made."""
    axis = class_axis(blocks)
    parts = striped(jnp.zeros_like(weight), blocks, axis)
    if weight.dtype.itemsize != 2:
        return parts
    piece = math.gcd(parts.shape[axis + 1], blocks.columns)
    # Without the barrier, XLA would lay out anew what is put into zeros.
    return lax.optimization_barrier(_in_pieces(parts, piece, axis + 1))


def put_weight(parts: Array, block: Array, start: Any, blocks: Blocks) -> Array:
    """The `weight_parts` of a weight with its block, [D, columns], replaced."""
    axis = class_axis(blocks)
    block = block.astype(parts.dtype)
    block = transposed(block) if blocks.vocab_first else block
    if parts.dtype.itemsize != 2:
        return put(parts, block, start, blocks, axis)
    piece = parts.shape[axis + 2]
    return _put_pieces(parts, _in_pieces(striped(block, blocks, axis), piece, axis + 1), start // piece, axis + 1)


def _in_pieces(x: Array, piece: int, axis: int) -> Array:
    """An array with one axis as two, [pieces, numbers of a piece]."""
    return x.reshape(*x.shape[:axis], x.shape[axis] // piece, piece, *x.shape[axis + 1 :])


# On CPU, XLA changes all of a 16-bit float array, in float32. A select of its bits it does in place, and passes over the
# pieces that stay. Bits have no derivative.
@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _put_pieces(parts: Array, pieces: Array, first: Array, axis: int) -> Array:
    """An array with some of its pieces along an axis replaced, from a first one on."""

    def selected(parts: Array, pieces: Array, first: Array) -> Array:
        parts_bits, bits = (lax.bitcast_convert_type(x, jnp.uint16) for x in (parts, pieces))
        place = lax.broadcasted_iota(jnp.int32, parts.shape, axis) - first
        bits = jnp.take(bits, jnp.arange(parts.shape[axis]) - first, axis=axis, mode="clip")
        is_here = (place >= 0) & (place < pieces.shape[axis])
        return lax.bitcast_convert_type(jnp.where(is_here, bits, parts_bits), parts.dtype)

    return lax.platform_dependent(
        parts, pieces, first, cpu=selected, default=functools.partial(lax.dynamic_update_slice_in_dim, axis=axis)
    )


@_put_pieces.defjvp
def _put_pieces_jvp(axis: int, primals: Any, tangents: Any) -> tuple[Array, Array]:
    (parts_dot, pieces_dot, _), first = tangents, primals[2]
    return _put_pieces(*primals, axis), lax.dynamic_update_slice_in_dim(parts_dot, pieces_dot, first, axis)


def places(start: Any, columns: int, classes: int, blocks: Blocks) -> Array:
    """The class of each column of a block."""
    stripes = (classes // blocks.stripes) * jnp.arange(blocks.stripes, dtype=jnp.int32)
    return (stripes[:, None] + (start + jnp.arange(columns, dtype=jnp.int32))).reshape(-1)


def place_of(labels: Array, start: Any, columns: int, classes: int, blocks: Blocks) -> Array:
    """The column of a block that is the label's, or one behind the last where the block has no such column."""
    stripe, offset = jnp.divmod(labels, classes // blocks.stripes)
    offset = offset - start
    here = (labels >= 0) & (labels < classes) & (offset >= 0) & (offset < columns)
    return jnp.where(here, stripe * columns + offset, blocks.stripes * columns)


def class_axis(blocks: Blocks) -> int:
    """The axis of the weight that has the classes."""
    return 0 if blocks.vocab_first else 1


def first_class(classes: int, blocks: Blocks) -> Any:
    """The first class of this device's part of the vocabulary."""
    return 0 if blocks.axis_name is None else classes * lax.axis_index(blocks.axis_name)


def summed(x: Any, blocks: Blocks) -> Any:
    """The sum over the devices that share the vocabulary."""
    return x if blocks.axis_name is None else lax.psum(x, blocks.axis_name)


def highest(x: Array, blocks: Blocks) -> Array:
    """The maximum over the devices that share the vocabulary, as a constant."""
    x = lax.stop_gradient(x)
    return x if blocks.axis_name is None else lax.pmax(x, blocks.axis_name)


def as_weight(x: Any, weight: Array, blocks: Blocks) -> Any:
    """What there is one of a class, varying over the devices as the weight does, also where it is made under `shard_map`."""
    return x if x is None or blocks.axis_name is None else _rules.alike((x, weight), over=blocks.axis_name)[0]


def devices_in_transpose(blocks: Blocks) -> int:
    """n where JAX transposes a sum over the n devices to another, as under `check_vma=False`; 1 elsewhere."""
    if blocks.axis_name is None or _rules.is_checked(blocks.axis_name):
        return 1
    return lax.axis_size(blocks.axis_name)


def on_each(args: Any, blocks: Blocks) -> Any:
    """What every device holds a copy of: where JAX adds up the gradients of the copies, each has its share of the sum."""
    n = devices_in_transpose(blocks)
    return args if n == 1 or _rules.is_aside() else jax.tree.map(lambda x: _shared_out(x, n), args)


def from_all(results: Any, blocks: Blocks) -> Any:
    """What a rule has summed over the devices: its cotangent is the sum of theirs, where a sum's transpose is a sum."""
    if devices_in_transpose(blocks) == 1 or _rules.is_aside():
        return results
    return jax.tree.map(lambda x: _from_all(x, blocks.axis_name), results)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _shared_out(x: Array, n: int) -> Array:
    return x


_shared_out.defvjp(lambda x, n: (x, None), lambda n, _, cotangent: (_divided(cotangent, n),))


def _divided(cotangent: Any, n: int) -> Any:
    return cotangent / n if jnp.issubdtype(cotangent.dtype, jnp.floating) else cotangent


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _from_all(x: Array, axis_name: Any) -> Array:
    return x


_from_all.defvjp(lambda x, axis_name: (x, None), lambda axis_name, _, cotangent: (lax.psum(cotangent, axis_name),))


def shared(carry: Any, hidden: Array, weight: Array, blocks: Blocks) -> Any:
    """A carry to begin with, which under `shard_map` varies over the mesh axes that the arguments vary over."""
    carry, *_ = _rules.alike((carry, hidden, weight))
    return carry


def token_sum(x: Array) -> Array:
    """The sum over the tokens, for each column of a block."""
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)))


@functools.partial(jnp.vectorize, signature="(k),(),()->(k)")
def replaced(z: Array, place: Array, value: Array) -> Array:
    """Another value at the place, if there is such a place. In place where the value hangs on all that reads z."""
    return z.at[place].set(value, mode="drop")


def without(z: Array, place: Array, own: Array) -> Array:
    """−inf at the place, where z was `own`. On CPU, a select would keep XLA from fusing the sums over what is left."""
    return replaced(z, place, jnp.minimum(lax.stop_gradient(own), -jnp.inf))


# --- Products -------------------------------------------------------------------------------------------------------


def product_dtype(hidden: Array, weight: Array) -> Any:
    """bfloat16 if both are, else float32 or float64. The gradients of a float16 model would not fit in float16.

    For a small weight there is no time to be saved, and so no reason to round the gradients of the logits.
    """
    both = hidden.dtype == weight.dtype == jnp.bfloat16
    return jnp.bfloat16 if both and weight.size >= SMALL else _rules.wide_dtype(hidden, weight)


def operand(hidden: Array, weight: Array, where: Any) -> Array:
    """x in the dtype of the products, 0 in a masked token."""
    return _rules.masked(where, hidden, 1).astype(product_dtype(hidden, weight))


def product(a: Array, b: Array, along_a: tuple[int, ...] = (-1,), along_b: tuple[int, ...] = (0,)) -> Array:
    """The sum of products over the given axes, accumulated in float32 or wider.

    In full float32 on every device: the default of a GPU or a TPU keeps 8 to 11 bits.
    """
    contracted = tuple(i % a.ndim for i in along_a), tuple(i % b.ndim for i in along_b)
    precision = lax.Precision.DEFAULT if a.dtype == jnp.bfloat16 else lax.Precision.HIGHEST
    dtype = _rules.wide_dtype(a, b)
    return lax.dot_general(a, b, (contracted, ((), ())), precision=precision, preferred_element_type=dtype)


def logits(x: Array, w: Array, blocks: Blocks) -> Array:
    """x w, for one block of the weight."""
    return product(x, w, (-1,), (1 - class_axis(blocks),))


def by_hidden(dz: Array, w: Array, blocks: Blocks) -> Array:
    """The gradient of x, dz wᵀ, for the gradient of one block of logits."""
    return product(dz.astype(w.dtype), w, (-1,), (class_axis(blocks),))


def transposed(x: Array) -> Array:
    """The last axis first. On CPU, XLA multiplies it slowly when it transposes as it goes, and 16-bit numbers not at all."""
    return lax.optimization_barrier(jnp.moveaxis(x, -1, 0))


def by_weight(x_first: Array, dz: Array) -> Array:
    """The gradient of one block of the weight, xᵀ dz, for x as [D, ...]."""
    tokens = tuple(range(dz.ndim - 1))
    return product(x_first, dz.astype(x_first.dtype), tuple(i + 1 for i in tokens), tokens)


# --- Scores ---------------------------------------------------------------------------------------------------------


def scores(z: Array, soft_cap: Array | None, temperature: Array | None) -> Array:
    """s for logits [..., columns] and one temperature a token. −inf, a class that cannot occur, stays −inf."""
    if soft_cap is None and temperature is None:
        return z
    occurs = z != -jnp.inf
    s = jnp.where(occurs, z, 0)
    if soft_cap is not None:
        s = soft_cap * _numerics.tanh(s / soft_cap)
    if temperature is not None:
        s = s / temperature[..., None]
    return jnp.where(occurs, s, -jnp.inf)


# --- Gradients ------------------------------------------------------------------------------------------------------


class Head(NamedTuple):
    """What scores are made of; all but the first two may be None."""

    hidden: Array  # in the dtype of the products, and harmless in a masked token
    weight: Array
    bias: Any
    soft_cap: Any
    temperature: Any


def scores_of(head: Head, start: Any, columns: int, blocks: Blocks) -> Array:
    """A block of scores."""
    z = logits(head.hidden, taken_weight(head.weight, start, columns, blocks, head.hidden.dtype), blocks)
    z = z if head.bias is None else z + taken(head.bias, start, columns, blocks)
    return scores(z, head.soft_cap, head.temperature)


def gradients(
    of_scores: Callable[..., Any], held: tuple[Any, ...], head: Head, of_class: Any, blocks: Blocks, beside: Any = None
) -> tuple[Head, Any]:
    """The gradients by a head and by an array [V] or None, of what has these gradients by a block of them.

    `of_scores(held, s, of_class, places)` gives those by a block of scores and of the array, for the places of its
    classes. `beside` is another head of the same classes with its blocks, whose scores are then the last of `held`. Each
    block goes into the gradient of the weight once; that of the hidden states is summed up in float32 or wider.
    """
    x, weight, bias, soft_cap, temperature = head
    classes, x_first = weight.shape[class_axis(blocks)], transposed(x)
    soft_cap, temperature = shared((soft_cap, temperature), x, weight, blocks)  # each device makes its own part

    def step(carry: Any, start: Any, columns: int) -> Any:
        head_bar, class_bar = carry
        w = taken_weight(weight, start, columns, blocks, x.dtype)
        z = logits(x, w, blocks)
        z = z if bias is None else z + taken(bias, start, columns, blocks)
        s, pullback = jax.vjp(scores, z, soft_cap, temperature)
        some = taken_or_none(of_class, start, columns, blocks)
        others = () if beside is None else (scores_of(beside[0], start, columns, beside[1]),)
        ds, some_bar = of_scores((*held, *others), s, some, places(start, columns, classes, blocks))
        dz, *parts = pullback(ds)
        return Head(
            head_bar.hidden + by_hidden(dz, w, blocks),
            put_weight(head_bar.weight, by_weight(x_first, dz), start, blocks),
            None if bias is None else put(head_bar.bias, token_sum(dz), start, blocks),
            *jax.tree.map(jnp.add, [head_bar.soft_cap, head_bar.temperature], parts),
        ), None if of_class is None else put(class_bar, some_bar, start, blocks)

    # Striped throughout: a reshape of what a block has gone into would make XLA copy all of it, at each block.
    striped_zeros = functools.partial(jax.tree.map, lambda x: striped(jnp.zeros_like(x), blocks))
    zeros = Head(
        jnp.zeros(x.shape, _rules.wide_dtype(x, weight)),
        weight_parts(weight, blocks),
        striped_zeros(bias),
        *jax.tree.map(jnp.zeros_like, (soft_cap, temperature)),
    )
    start = shared((zeros, striped_zeros(of_class)), x, weight, blocks)
    head_bar, class_bar = over_blocks(step, start, classes, blocks)
    weight_bar = head_bar.weight.reshape(weight.shape)
    bias_bar, class_bar = jax.tree.map(jnp.ravel, (head_bar.bias, class_bar))
    x_bar, cap_bar, temperature_bar = summed((head_bar.hidden, head_bar.soft_cap, head_bar.temperature), blocks)
    return Head(x_bar, weight_bar, bias_bar, cap_bar, temperature_bar), class_bar


def uniform_weights(smoothing: Any, class_weights: Any, hidden: Array, weight: Array, blocks: Blocks) -> Any:
    """The weights of the classes among which label smoothing spreads; None without smoothing."""
    if smoothing is None or class_weights is not None:
        return None if smoothing is None else class_weights
    return jnp.ones(weight.shape[class_axis(blocks)], _rules.wide_dtype(hidden, weight))
