"""Similarities of every row with every column, a block of rows at a time: the n × n matrix never exists as a whole.

A loss is given as a function of some rows; `over_rows` applies it to blocks of them and makes each block anew for the
backward pass. That costs a fourth matrix product, and is still the faster form from a few hundred rows up: a block
stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _check


@jax.tree_util.register_static
@dataclass(frozen=True)
class Block:
    """How many rows to take at a time. An argument without arrays, so that `jit` takes it as a constant."""

    rows: int


def block(size: Any, n: int, columns: int) -> Block:
    """The given number of rows at a time, or by default 256, and fewer beside more than 4096 columns."""
    if size is None:
        return Block(max(min(n, max(128, min(256, 2**20 // max(columns, 1)))), 1))
    return Block(_check.count("block_size", size, least=1))


def product(a: Array, b: Array) -> Array:
    """The matrix product in full float32 on every device.

    The default of a GPU or a TPU keeps 8 to 11 bits, and a temperature magnifies what is lost.
    """
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def only(counted: Array, s: Array) -> Array:
    """The counted entries, and the least number in place of the others: its exponential is 0."""
    # Stored once: XLA's CPU backend would make the mask again in each of the sums that follow, at half their speed.
    return lax.optimization_barrier(jnp.where(counted, s, jnp.finfo(s.dtype).min))


def shifted_sum(s: Array, axis: int = -1) -> tuple[Array, Array]:
    """The maximum m along an axis, as a constant, and Σ exp(s − m): 0 where no entry is counted."""
    m = lax.stop_gradient(jnp.max(s, axis, initial=jnp.finfo(s.dtype).min))
    return m, none_is_0(m, jnp.sum(jnp.exp(s - jnp.expand_dims(m, axis)), axis))


def none_is_0(m: Array, total: Array) -> Array:
    return jnp.where(m > jnp.finfo(m.dtype).min, total, 0)


@jax.custom_jvp
def negative_weight(gap: Array, total: Array) -> Array:
    """1 / (total + e^−gap): the share of the negatives in the softmax over their sum."""
    ahead = gap > 0
    e = jnp.exp(jnp.where(ahead, -gap, gap))  # of −|gap|, whose derivative at 0 would be 0
    return jnp.where(ahead, 1, e) / jnp.where(ahead, total + e, 1 + total * e)


negative_weight.defjvps(
    lambda dgap, w, gap, total: dgap * (w * (1 - total * w)),
    lambda dtotal, w, gap, total: -dtotal * (w * w),
)


@jax.custom_jvp
def entropy(gap: Array, total: Array) -> Array:
    """log(1 + total · e^gap): the cross-entropy by what the negatives lead by and their sum, 0 or at least 1.

    Both a tiny loss and the gradient of a tiny loss keep all digits.
    """
    ahead = gap > 0
    e = jnp.exp(jnp.where(ahead, -gap, gap))
    return jnp.where(ahead, gap, 0) + jnp.log1p(jnp.where(ahead, (total - 1) + e, total * e))


entropy.defjvps(
    lambda dgap, _, gap, total: dgap * (total * negative_weight(gap, total)),
    lambda dtotal, _, gap, total: dtotal * negative_weight(gap, total),
)


def over_rows(function: Callable[..., Any], rows: tuple[Array, ...], block: Block) -> Any:
    """`function(*rows)`, numbers of each row, from blocks of rows. Only the arguments are kept for the backward pass."""
    n = rows[0].shape[0]
    if n <= block.rows:
        return function(*rows)
    one_block = jax.checkpoint(lambda rows: function(*rows), prevent_cse=False)
    return jax.tree.map(lambda x: joined(x, n), lax.map(one_block, divided(rows, block)))


def row_and_column_pulls(
    slopes: Callable[..., Array], rows: tuple[Array, ...], of_rows: tuple[Array, ...], columns: Array, block: Block
) -> tuple[Array, Array]:
    """The gradients by the vectors rows[0] and by the columns, for those by the similarities, `slopes(rows, *of_rows)`."""

    def one_block(carry: Array, of_block: Any) -> tuple[Array, Array]:
        rows, of_rows = of_block
        by_similarity = slopes(rows, *of_rows)
        # Transposed are the vectors, which are small, and not the block of similarities: on a CPU nearly twice as fast.
        transposed = lax.optimization_barrier(rows[0].T)
        return carry + product(transposed, by_similarity), product(by_similarity, columns)

    step = jax.checkpoint(one_block, prevent_cse=False)
    column_bar, row_bar = lax.scan(step, jnp.zeros_like(columns.T), divided((rows, of_rows), block))
    return joined(row_bar, len(rows[0])), column_bar.T


def divided(rows: Any, block: Block) -> Any:
    """Arrays [n, ...] as [blocks, rows of a block, ...]; the last rows may be made up of zeros (and False)."""
    n = jax.tree.leaves(rows)[0].shape[0]
    count = max(-(-n // block.rows), 1)
    size = -(-n // count)

    # A block takes every count-th row, so that rows sharded over devices make blocks that are sharded in the same way.
    def divide(x: Array) -> Array:
        padded = jnp.pad(x, ((0, size * count - n), *((0, 0),) * (x.ndim - 1)))
        return jnp.swapaxes(padded.reshape(size, count, *x.shape[1:]), 0, 1)

    return jax.tree.map(divide, rows)


def joined(blocks: Array, n: int) -> Array:
    """The inverse of `divided` for one array of n rows."""
    count, size, *rest = blocks.shape
    return jnp.swapaxes(blocks, 0, 1).reshape(count * size, *rest)[:n]


# --- Rows and columns at once ---------------------------------------------------------------------------------------


def with_negatives(rows: Array, index: Array, present: Array, columns: Array, columns_present: Array) -> Array:
    """The products of some rows with all columns, `only` those of two examples that are there."""
    others = (index[:, None] != jnp.arange(columns.shape[0])) & present[:, None] & columns_present
    return only(others, product(rows, columns.T))


def both_sums(rows: Array, columns: Array, present: Array, block: Block) -> Any:
    """`shifted_sum` of rowᵢ · columnⱼ over j ≠ i for each i, and over i ≠ j for each j, from one product."""
    n = rows.shape[0]

    def one_block(carry: tuple[Array, Array], of_block: tuple[Array, Array, Array]) -> tuple[Any, Any]:
        m, total = carry
        s = with_negatives(*of_block, columns, present)
        higher = jnp.maximum(m, lax.stop_gradient(jnp.max(s, 0, initial=jnp.finfo(s.dtype).min)))
        total = total * jnp.exp(m - higher) + jnp.sum(jnp.exp(s - higher), 0)
        return (higher, none_is_0(higher, total)), shifted_sum(s)

    start = jnp.full_like(columns[:, 0], jnp.finfo(columns.dtype).min), jnp.zeros_like(columns[:, 0])
    step = jax.checkpoint(one_block, prevent_cse=False)
    of_columns, of_rows = lax.scan(step, start, divided((rows, jnp.arange(n), present), block))
    return tuple(joined(x, n) for x in of_rows), of_columns


def both_pulls(rows: Array, columns: Array, present: Array, block: Block, highest: Any, weights: Any) -> tuple[Array, Array]:
    """The gradients by rows and columns of Σ weights · sums, for the results (highest, sums) of `both_sums`."""

    def slopes(some: tuple[Array, ...], m: Array, weight: Array) -> Array:
        some_rows, index, some_present = some
        s = with_negatives(some_rows, index, some_present, columns, present)
        return weight[:, None] * jnp.exp(s - m[:, None]) + weights[1] * jnp.exp(s - highest[1])

    of_rows = highest[0], weights[0]
    return row_and_column_pulls(slopes, (rows, jnp.arange(len(rows)), present), of_rows, columns, block)
