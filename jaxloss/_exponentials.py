"""Sums of exponentials over the classes of a row, of all but one class, without a lost digit or a second array.

Notation: s are the logits as the softmax sees them (in float32 or wider, soft-capped), m their maximum in the row,
e = exp(s − m), Z = Σ e, and lse = m + log Z their log-sum-exp. Arrays are [..., K], the classes last. A logit of −inf is
a class that cannot occur: the row is that of the other classes.

Losses and gradients near 0 need Σ over the *other* classes, Z − e_y, without the subtraction: for [20, 0, 0] and label 0
it is 4e-9, and 1 + 4e-9 is 1 in float32. On CPU, XLA fuses a plain sum of exponentials into one fast pass, but a sum
under a select or a compare not. So the sums here are plain, by blocks of columns, of which only the one that holds the
excluded class is done again.

exp(s − m) has the rounding error of s − m, magnified by the size of s − m: up to 64 ulp where s is 64 below m. What one
array keeps is corrected for it (`shifted_exp`). The sums take another shift instead: one that scores are subtracted from
exactly (`easy_shift`), or the maximum of the classes in the sum, beside whose 1 the errors of the others are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _numerics, _rules


def scores(logits: Array, soft_cap: Array | None) -> Array:
    """s: the logits in float32 or wider, or c·tanh(logits/c). −inf stays −inf under the cap."""
    z = _rules.wide(logits)
    if soft_cap is None:
        return z
    cap = soft_cap.astype(z.dtype)
    return jnp.where(z == -jnp.inf, z, cap * _numerics.tanh(z / cap))


def cap_slope(logits: Array, soft_cap: Array) -> Array:
    """ds/dlogit = 1/cosh²(logit/c)."""
    z = _rules.wide(logits)
    return _numerics.sech_squared(z / soft_cap.astype(z.dtype))


def maximum(logits: Array, soft_cap: Array | None) -> Array:
    """m, above −inf, as a constant: no result depends on which shift is taken out of the exponentials."""
    # The maximum is taken in the dtype of the logits, where it is exact and reads the least; the cap is monotone.
    m = scores(jnp.max(logits, axis=-1), soft_cap)
    return lax.stop_gradient(jnp.maximum(m, jnp.finfo(m.dtype).min))


def gap(m: Array, s: Array) -> Array:
    """m − s ≥ 0, and 0 where both are infinite."""
    return jnp.where(s == jnp.inf, 0, m - s)


def finite(s: Array) -> Array:
    """inf as the largest number. The sums over blocks do without it: see `_sums_of_blocks`."""
    return jnp.minimum(s, jnp.finfo(s.dtype).max)


def shifted_exp(s: Array, m: Array, exact: bool = False) -> Array:
    """exp(s − m). Unless the subtraction is exact, its rounding error is put back: worth up to 64 ulp."""
    m = finite(m)
    d = s - m
    e = jnp.exp(d)
    if exact:
        return e
    return e + e * jnp.where(d > -200, difference_error(s, m, d), 0)


def easy_shift(m: Array, classes: int) -> Array:
    """A shift for scores up to m from which any of them is subtracted exactly, but for some below e^−70 of the sum.

    It is 0 for m from 0 to 70 or so, where Σ exp(s) is in range without one; for m below, the next integer, from which s
    is not as far as from 0. For m above, it is an integer that leaves as much: then exp(s − shift) may be off by 8 ulp
    where it is below e^−70 of the sum.
    """
    top = jnp.ceil(m)
    in_range = math.floor(math.log(float(jnp.finfo(m.dtype).max) / classes)) - 4  # Σ exp(s), and one over it
    return top - jnp.clip(top, 0, in_range)


def difference_error(x: Array, y: Array, d: Array) -> Array:
    """x − y − d, exactly, for the rounded difference d (Knuth's two-sum; XLA folds shorter forms away)."""
    part = d - x  # what of −y the difference holds
    return (x - (d - part)) - (y + part)


def log_in_parts(x: Array) -> tuple[Array, Array]:
    """log x for x ≥ 1 as a sum: k·log 2 to so few digits that it is exact, and a rest below 0.36, with its small error."""
    _, k = jnp.frexp(lax.stop_gradient(x) * math.sqrt(0.5))
    rest = jnp.log1p(x / jnp.ldexp(jnp.ones_like(x), k) - 1)  # a third closer than the logarithm of the quotient
    return 0.693359375 * k.astype(x.dtype), rest - 2.121944400546905827679e-4 * k


def is_exact(logits: Array, soft_cap: Array | None) -> bool:
    """Whether s − m is exact in float32 where it counts: two 8- or 11-bit numbers."""
    return logits.dtype.itemsize <= 2 and soft_cap is None


def _along(x: Array, places: Array, axis: int = -1) -> Array:
    """What is at the places of an axis, the last one behind its end."""
    # Through integers: XLA's CPU backend may widen a whole 16-bit float array to gather from it.
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    return lax.bitcast_convert_type(jnp.take_along_axis(bits, places, axis=axis, mode="clip"), x.dtype)


def at_label(x: Array, labels: Array) -> Array:
    """x[..., label], for labels in range."""
    return jnp.take_along_axis(x, labels[..., None], axis=-1)[..., 0]


def columns_equal(labels: Array, classes: int) -> Array:
    """[..., K]: whether a column is the label."""
    # Compared as floats, which XLA's CPU backend does faster, while they are exact. It would also form the column
    # numbers anew in every row, at the price of an exponential; a remainder, which changes nothing here, it stores.
    columns = lax.rem(jnp.arange(classes, dtype=jnp.int32), lax.optimization_barrier(jnp.int32(2**30)))
    dtype = jnp.float32 if classes <= 2**24 else jnp.int32
    return columns.astype(dtype) == labels.astype(dtype)[..., None]


# --- Sums by blocks of columns --------------------------------------------------------------------------------------


ONE_BLOCK = 64  # as many classes are not worth dividing


def _block_size(classes: int) -> int:
    """A divisor of the number of classes near 2√classes, where the blocks and the one done again cost the least."""
    if classes <= ONE_BLOCK:
        return classes
    best = 2 * math.sqrt(classes)
    divisors = [b for b in range(16, 2049) if classes % b == 0]
    return min(divisors, key=lambda b: abs(math.log(b / best)), default=256)


def _by_blocks(reduce: Callable[..., Array], combine: Any, start: float, of: Callable[[Array], Array], x: Array) -> Array:
    """of(x) reduced over each block of columns: [..., blocks]."""
    *batch, classes = x.shape
    size = _block_size(classes)
    # The barriers keep XLA from widening the logits once for this pass and the backward one, and storing that.
    if classes % size == 0:
        return reduce(of(lax.optimization_barrier(x.reshape(*batch, classes // size, size))), axis=-1)
    row = of(lax.optimization_barrier(x.reshape(*batch, 1, classes)))
    window = (1,) * (row.ndim - 1) + (size,)
    padding = ((0, 0),) * (row.ndim - 1) + ((0, -classes % size),)
    return lax.reduce_window(row, jnp.asarray(start, row.dtype), combine, window, window, padding)[..., 0, :]


def _one_block(x: Array, block: Array) -> tuple[Array, Array]:
    """The values in one block of columns a row, −inf behind the last class, and the columns."""
    *batch, classes = x.shape
    size = _block_size(classes)
    if size == classes:
        return x, jnp.arange(classes)
    columns = block[..., None] * size + jnp.arange(size)
    if classes % size == 0:
        blocks = x.reshape(*batch, classes // size, size)
        return lax.optimization_barrier(_along(blocks, block[..., None, None], axis=-2))[..., 0, :], columns
    values = lax.optimization_barrier(_along(x, columns))
    return jnp.where(columns < classes, values, -jnp.inf), columns


def _block_maxima(logits: Array) -> Array:
    return _by_blocks(jnp.max, lax.max, -jnp.inf, lambda x: x, logits)


def first_maximum(logits: Array) -> Array:
    """The column of the first maximum of each row."""
    block = jnp.argmax(_block_maxima(logits), axis=-1)
    values, _ = _one_block(logits, block)
    return block * _block_size(logits.shape[-1]) + jnp.argmax(values, axis=-1)


def _sums_of_blocks(
    logits: Array, soft_cap: Any, column: Array, shift: Array | None, grid: Array | None
) -> tuple[list[tuple[Array, Array]], Array]:
    """The sums of exp(s − shift) without one column, and the shift: for each of the `_parts`, two arrays.

    They are the sums over the blocks of columns, [..., blocks], with 0 for the block of that column, and what is left of
    this block. The shift given is one that scores are subtracted from exactly; without, it is the maximum of the classes
    in the sum.
    """
    exact = shift is not None or is_exact(logits, soft_cap)
    block = column // _block_size(logits.shape[-1])
    values, columns = _one_block(logits, block)
    values = lax.optimization_barrier(jnp.where(columns == column[..., None], -jnp.inf, values))
    in_blocks = values.shape[-1] < logits.shape[-1]

    if shift is None:
        highest = jnp.max(values, axis=-1)
        if in_blocks:
            maxima = _block_maxima(logits)
            highest = jnp.maximum(highest, jnp.max(jnp.where(_is_block(maxima, block), -jnp.inf, maxima), axis=-1))
        shift = scores(highest, soft_cap)
        shift = lax.stop_gradient(jnp.maximum(shift, jnp.finfo(shift.dtype).min))
    if not in_blocks:
        e = shifted_exp(finite(scores(values, soft_cap)), shift[..., None], exact)
        return [(part[..., :0], jnp.sum(part, axis=-1)) for part in _parts(e, grid)], shift

    # No guard against a logit of inf, which would keep XLA from fusing: the callers have one.
    top = finite(shift)
    sums: list[tuple[Array, Array]] = []
    for i in range(1 if grid is None else 2):
        # One after the other, lest XLA form the exponentials once for all of them and store them.
        logits, values, top, grid, sums = lax.optimization_barrier((logits, values, top, grid, sums))

        def part(x: Array, i: int = i, top: Array = top, grid: Array | None = grid) -> Array:
            return _parts(jnp.exp(scores(x, soft_cap) - top[..., None, None]), grid)[i]

        of_blocks = _by_blocks(jnp.sum, lax.add, 0, part, logits)
        left = jnp.sum(part(values[..., None, :]), axis=-1)[..., 0]
        sums.append((jnp.where(_is_block(of_blocks, block), 0, of_blocks), left))
    return sums, shift


def _parts(x: Array, grid: Array | None) -> tuple[Array, ...]:
    """x ≥ 0 as what lies on a grid and a rest, or as it is."""
    if grid is None:
        return (x,)
    high = (x + grid) - grid
    return high, x - high


def _grid(unit: float, dtype: Any) -> Array:
    """A number whose last digit is the unit: added and taken away again, it rounds to multiples of that."""
    # As a constant in plain sight it would be folded away.
    return lax.optimization_barrier(jnp.asarray(1.5 * unit / jnp.finfo(dtype).eps, dtype))


def _sum_of_all_but(logits: Array, soft_cap: Any, m: Array, column: Array) -> Array:
    """Σ exp(s − m) over the classes but one."""
    shift = m if is_exact(logits, soft_cap) else easy_shift(m, logits.shape[-1])
    [(of_blocks, left)], _ = _sums_of_blocks(logits, soft_cap, column, shift, None)
    total = (jnp.sum(of_blocks, axis=-1) + left) * shifted_exp(finite(shift), m, exact=True)
    # Beside a logit of inf the others are 0; if it is one of them, it is all there is.
    return jnp.where(m == jnp.inf, jnp.where(at_label(logits, column) < jnp.inf, 1, 0), total)


def _is_block(of_blocks: Array, block: Array) -> Array:
    return jnp.arange(of_blocks.shape[-1]) == block[..., None]


@jax.custom_jvp
def sum_of_others(logits: Array, soft_cap: Any, m: Array, labels: Array, where: Any) -> Array:
    """Σ exp(s − m) over the classes that are not the label; 1 in a masked row."""
    others = _sum_of_all_but(logits, soft_cap, m, labels)
    return others if where is None else jnp.where(where, others, 1)


@sum_of_others.defjvp
def _sum_of_others_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    logits, soft_cap, m, labels, where = primals
    e, ds = _exp_and_tangent(logits, soft_cap, m, where, tangents)
    others = jnp.where(columns_equal(labels, logits.shape[-1]), 0, e)
    return sum_of_others(*primals), jnp.sum(others * ds, axis=-1)


@jax.custom_jvp
def sum_of_rest(logits: Array, soft_cap: Any, m: Array, where: Any) -> Array:
    """R = Z − 1 = Σ exp(s − m) over the classes that are not the first maximum; 1 in a masked row."""
    rest = _sum_of_all_but(logits, soft_cap, m, first_maximum(logits))
    return rest if where is None else jnp.where(where, rest, 1)


@sum_of_rest.defjvp
def _sum_of_rest_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    logits, soft_cap, m, where = primals
    e, ds = _exp_and_tangent(logits, soft_cap, m, where, tangents)
    return sum_of_rest(*primals), jnp.sum(e * ds, axis=-1)  # m is a constant: dR = dZ


def _exp_and_tangent(logits: Array, soft_cap: Any, m: Array, where: Any, tangents: Any) -> tuple[Array, Array]:
    """e and the tangent of s, both harmless in a masked row."""
    if where is not None:
        logits = jnp.where(where[..., None], logits, 0)
        m = jnp.where(where, m, 0)
    if soft_cap is None:
        s, ds = scores(logits, None), _rules.wide(tangents[0], m)
    else:
        s, ds = jax.jvp(scores, (logits, soft_cap), (tangents[0], tangents[1]))
    return shifted_exp(finite(s), m[..., None], is_exact(logits, soft_cap)), ds


@jax.custom_jvp
def sum_by_largest(logits: Array, soft_cap: Any, labels: Array) -> tuple[Array, Array, Array]:
    """Σ exp(s − m') over the classes that are not the label, what it lost in rounding, and m', their maximum, a constant.

    The exponentials are within an ulp, and on average off by less; to add them up plainly would lose several. On one
    grid, the large parts of the up to 2,048 terms of a block have an exact sum, on another those of the blocks.
    """
    dtype = _rules.wide_dtype(logits)
    eps = float(jnp.finfo(dtype).eps)
    sums, largest = _sums_of_blocks(logits, soft_cap, labels, None, _grid(2**10 * eps, dtype))
    (large, left_large), (small, left_small) = sums
    of_blocks = (jnp.sum(part, axis=-1) for part in (*_parts(large, _grid(2**22 * eps, dtype)), small))
    total, lost = left_large, jnp.zeros_like(largest)
    for more in (*of_blocks, left_small):
        total, before = total + more, total
        lost = lost + difference_error(before, -more, total)
    infinite = largest == jnp.inf
    return jnp.where(infinite, 1, total), jnp.where(infinite, 0, lost), largest


@sum_by_largest.defjvp
def _sum_by_largest_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    logits, soft_cap, labels = primals
    total, lost, largest = sum_by_largest(*primals)
    _, ds = _exp_and_tangent(logits, soft_cap, largest, None, tangents)
    slope = jnp.sum(others_exp(logits, soft_cap, labels, largest) * ds, axis=-1)
    return (total, lost, largest), (slope, jnp.zeros_like(lost), jnp.zeros_like(largest))


def others_exp(logits: Array, soft_cap: Any, labels: Array, largest: Array) -> Array:
    """exp(s − m') for the classes that are not the label, and 0 for the label."""
    s = jnp.where(columns_equal(labels, logits.shape[-1]), -jnp.inf, finite(scores(logits, soft_cap)))
    return shifted_exp(s, largest[..., None], is_exact(logits, soft_cap))
