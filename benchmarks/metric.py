"""Metric learning from a batch: time and temporary memory, as a ratio to the dense formula that JAX differentiates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from rich.progress import track

import jaxloss
from benchmarks import speed, tables


@dataclass(frozen=True)
class Row:
    """One loss of a batch of vectors of 128 components, beside its dense formula."""

    name: str
    ours: Callable[..., Array]
    dense: Callable[..., Array]
    count: int
    bound: float | None = None

    def title(self) -> str:
        return f"{self.name}, {self.count}"


def sides(labels: Array) -> tuple[Array, Array]:
    same = labels[:, None] == labels
    return same & ~jnp.eye(len(labels), dtype=bool), ~same


def batch_hard(x: Array, labels: Array) -> Array:
    squares = jnp.sum(jnp.square(x), axis=-1)
    distances = jnp.sqrt(jnp.maximum(squares[:, None] + squares - 2 * x @ x.T, 1e-12))
    same, other = sides(labels)
    farthest = jnp.max(jnp.where(same, distances, -jnp.inf), axis=-1)
    return jnp.maximum(0, farthest - jnp.min(jnp.where(other, distances, jnp.inf), axis=-1) + 1)


def circle(x: Array, labels: Array) -> Array:
    units = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    s = units @ units.T
    same, other = sides(labels)
    pull = -80 * jax.lax.stop_gradient(jnp.maximum(0, 1.4 - s)) * (s - 0.6)
    push = 80 * jax.lax.stop_gradient(jnp.maximum(0, s + 0.4)) * (s - 0.4)
    of_same, of_other = (jax.nn.logsumexp(z, axis=-1, where=among) for z, among in ((pull, same), (push, other)))
    return jax.nn.softplus(of_same + of_other)


def n_pairs(x: Array, labels: Array) -> Array:
    s = x @ jnp.roll(x, 1, axis=0).T
    return jax.nn.logsumexp(s, axis=-1) - jnp.diagonal(s)


def our_n_pairs(x: Array, labels: Array) -> Array:
    return jaxloss.n_pairs_loss(x, jnp.roll(x, 1, axis=0))


def rows(small: bool) -> list[Row]:
    return [
        Row(name, ours, dense, 64 if small else count, None if small or count < 4096 else bound)
        for count in ((64,) if small else (1024, 4096))
        for name, ours, dense, bound in (
            ("batch_hard_triplet_loss", jaxloss.batch_hard_triplet_loss, batch_hard, 0.33),
            ("circle_loss", jaxloss.circle_loss, circle, None),
            ("n_pairs_loss", our_n_pairs, n_pairs, None),
        )
    ]


def batch(key: Array, count: int) -> tuple[Array, Array]:
    """Eight vectors a class."""
    return jax.random.normal(key, (count, 128)), jnp.arange(count) % (count // 8)


def measure(row: Row, seconds: float) -> list[str]:
    arrays = jax.block_until_ready(batch(jax.random.key(0), row.count))
    functions = [compiled(loss, arrays) for loss in (row.ours, row.dense)]
    rounds = speed.interleaved([lambda f=f: jax.block_until_ready(f(*arrays)) for f in functions], seconds)
    medians, ratios = speed.medians_and_ratios(rounds)
    return [
        row.title(),
        tables.ratio(ratios[0], row.bound),
        "" if row.bound is None else f"{row.bound:.2f}",
        *(f"{1e3 * median:.3g}" for median in medians),
        *(tables.megabytes(f.memory_analysis().temp_size_in_bytes) for f in functions),
        str(len(rounds)),
    ]


def compiled(loss: Callable[..., Array], arrays: tuple[Array, ...]) -> Any:
    return jax.jit(jax.value_and_grad(lambda *a: jnp.mean(loss(*a)))).lower(*arrays).compile()


def run(*, small: bool, only: str) -> None:
    chosen = [row for row in rows(small) if only in row.title()]
    lines = [measure(row, seconds=0 if small else 4) for row in track(chosen, "metric", console=tables.console)]
    columns = "ratio to dense", "bound", "ms", "dense ms", "temp MB", "dense temp MB", "rounds"
    tables.show("Metric learning", f"value_and_grad of the mean; jax {jax.__version__}", ("loss, batch", *columns), lines)
