"""Time and temporary memory of the overlap losses on a softmax, as ratios to optax.dice_loss in the same run."""

from collections.abc import Callable
from typing import Any

import jax
import optax.losses
from jax import Array

import jaxloss
from benchmarks import speed
from benchmarks.speed import Row


def masks(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    z, y = speed.classes(key, shape, dtype)
    return z, jax.nn.one_hot(y, shape[-1], dtype=dtype)


def rows(small: bool) -> list[Row]:
    shape = (2, 16, 16, 5) if small else (4, 256, 256, 19)

    def row(loss: Callable[..., Any], dtype: str, bound: float | None) -> Row:
        bound = None if small else bound
        return Row(loss.__name__, dtype, shape, masks, loss, optax.losses.dice_loss, bound=bound)

    return [
        row(jaxloss.dice_loss, "float32", 0.75),
        row(jaxloss.jaccard_loss, "float32", 0.75),
        row(jaxloss.tversky_loss, "float32", None),
        row(jaxloss.dice_loss, "bfloat16", None),
    ]


def run(*, small: bool, only: str) -> None:
    speed.show("Segmentation, beside optax.dice_loss", rows(small), small=small, only=only)
