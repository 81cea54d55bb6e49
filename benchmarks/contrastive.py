"""Time and memory of the contrastive losses, as ratios to optax's and to what is made of optax's cross-entropy."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax.losses
from jax import Array
from rich.progress import track

import jaxloss
from benchmarks import memory, speed, tables


@dataclass(frozen=True)
class Row(speed.Row):
    """The arrays are two views [2, n, features], so that the gradient is by both."""

    memory_bound: float | None = None


def views(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    return (jax.random.normal(key, (2, *shape), dtype),)


def embeddings(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    return jax.random.normal(key, shape, dtype), jnp.arange(shape[0]) // 2


def cosines(x: Array, y: Array) -> Array:
    first, second = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (x, y))
    return first @ second.T


def their_clip(x: Array) -> Array:
    scores, own = cosines(*x) / 0.07, jnp.arange(x.shape[1])
    entropy = optax.losses.softmax_cross_entropy_with_integer_labels
    return (entropy(scores, own) + entropy(scores.T, own)) / 2


def their_info_nce(x: Array) -> Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(cosines(*x) / 0.07, jnp.arange(x.shape[1]))


def their_siglip(x: Array) -> Array:
    return jnp.sum(optax.losses.sigmoid_binary_cross_entropy(10 * cosines(*x) - 10, jnp.eye(x.shape[1])), axis=-1)


def ours_of_views(loss: Any, **options: Any) -> Any:
    return lambda x: loss(*x, **options)


def rows(small: bool) -> list[Row]:
    n, large = ((48, 8), (64, 8)) if small else ((1024, 128), (4096, 128))
    f32 = "float32"
    info_nce = ours_of_views(jaxloss.info_nce_loss, temperature=0.07, normalize=True)
    bounds = (None,) * 4 if small else (0.01, 0.45, 0.02, None)
    return [
        Row("ntxent", f32, n, embeddings, jaxloss.ntxent, optax.losses.ntxent, bound=bounds[0], memory_bound=bounds[2]),
        Row("clip", f32, n, views, ours_of_views(jaxloss.clip_loss), their_clip),
        Row("clip", f32, large, views, ours_of_views(jaxloss.clip_loss), their_clip, bound=bounds[1]),
        Row("info_nce", f32, large, views, info_nce, their_info_nce),
        Row("siglip", f32, large, views, ours_of_views(jaxloss.siglip_loss), their_siglip),
    ]


def measure(row: Row, seconds: float) -> list[str]:
    title, ratio, bound, ms, their_ms, *_ = speed.measure(row, seconds)
    arrays = row.data(jax.random.key(0), row.shape, row.dtype)
    temp, their_temp = (memory.temporary(loss, arrays) for loss in (row.ours, row.theirs))
    memory_bound = "" if row.memory_bound is None else f"{row.memory_bound:.2f}"
    megabytes = tables.megabytes(temp), tables.megabytes(their_temp)
    return [title, ratio, bound, ms, their_ms, tables.ratio(temp / their_temp, row.memory_bound), memory_bound, *megabytes]


def run(*, small: bool, only: str) -> None:
    chosen = [row for row in rows(small) if only in row.title()]
    lines = [measure(row, seconds=0 if small else 4) for row in track(chosen, "contrastive", console=tables.console)]
    columns = "time ratio", "bound", "ms", "optax ms", "memory ratio", "bound", "temp MB", "optax temp MB"
    note = "value_and_grad of the mean; clip, info_nce and siglip beside optax's cross-entropies of all similarities"
    tables.show("Contrastive", note, ("loss", *columns), lines)
