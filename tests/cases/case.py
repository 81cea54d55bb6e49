"""What a row of the test matrix holds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

inf, nan = np.inf, np.nan


@dataclass(frozen=True)
class Case:
    """A row. `draw` gives the positional arguments; each of `options` is one set of keyword arguments.

    Options that are floats or arrays of floats become arrays and are differentiated; all others stay as they are.
    """

    loss: Callable[..., Any]
    naive: Callable[..., Any]
    draw: Callable[[np.random.Generator], tuple[Any, ...]]
    options: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    # How many trailing axes of the first argument belong to one item of `where`: 0, one loss an element; 1, a row of
    # classes, a vector or a box; 3, an image. The mask has the shape of the others.
    event: int = 0
    # The axis of the mask along which its items (pixels, list entries, a batch of embeddings) belong to one example, so
    # that the loss couples them; None where each item of the mask has a loss of its own.
    among: int | None = None
    batched: int = 2  # how many of the arguments, the first ones, have the axes of the mask
    # (arguments, options, true losses): float32 must give them within `ulps`, with a gradient by `arguments` and a
    # hessian that are finite
    hard: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = field(default_factory=list)
    ulps: int = 4
    arguments: tuple[int, ...] = (0,)
    second: bool = True  # whether the second derivative exists almost everywhere and is not 0
    lean: bool = True  # whether the backward pass keeps the inputs alone, and not what autodiff would
    free: tuple[str, ...] = ()  # the options that may be any number

    @property
    def name(self) -> str:
        """The public name of the loss."""
        return self.loss.__name__

    def items(self, args: tuple[Any, ...]) -> tuple[int, ...]:
        """The shape of the mask."""
        return np.shape(args[0])[: np.ndim(args[0]) - self.event]


def rounded(x: Any, dtype: Any) -> Any:
    """An argument in the dtype under test: floats are rounded, integers stay."""
    x = np.asarray(x)
    return jnp.asarray(x.astype(dtype) if x.dtype.kind == "f" else x)


def differentiable(option: Any) -> bool:
    """Whether an option is a float or an array of floats."""
    return np.asarray(option).dtype.kind == "f"
