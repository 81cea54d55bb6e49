"""Time of one call on a small array, where the cost is that of dispatching: eager, and jitted by the caller."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax.losses
from jax import Array

import jaxloss
from benchmarks import speed, tables

DATA = {
    "squared_error": speed.two_arrays,
    "huber_loss": speed.two_arrays,
    "log_cosh": speed.two_arrays,
    "sigmoid_binary_cross_entropy": speed.yes_or_no,
    "sigmoid_focal_loss": speed.yes_or_no,
    "hinge_loss": speed.two_arrays,
    "softmax_cross_entropy": speed.class_probabilities,
    "softmax_cross_entropy_with_integer_labels": speed.classes,
    "poly_loss_cross_entropy": speed.class_probabilities,
    "multiclass_hinge_loss": speed.classes,
    "multiclass_sparsemax_loss": speed.classes,
}


def seconds(function: Callable[..., Any], arrays: tuple[Array, ...], rounds: int) -> float:
    jax.block_until_ready(function(*arrays))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(function(*arrays))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def run(*, small: bool, only: str) -> None:
    lines = []
    for name, data in DATA.items():
        if only not in name:
            continue
        arrays = data(jax.random.key(0), (8, 16), jnp.float32)
        line = [name]
        for transform in (lambda loss: loss, lambda loss: jax.grad(lambda *a: loss(*a).mean())):
            functions = [transform(getattr(library, name)) for library in (jaxloss, optax.losses)]
            ours, theirs = (seconds(function, arrays, 5 if small else 100) for function in functions)
            line += [f"{1e3 * ours:.3f}", f"{1e3 * theirs:.3f}", tables.ratio(ours / theirs)]
        lines.append(line)
    columns = "ms", "optax ms", "ratio", "gradient ms", "optax ms", "ratio"
    if lines:
        tables.show("Eager calls", "float32 [8, 16], not jitted by the caller", ("loss", *columns), lines)
    if only in "jitted":
        tables.show(
            "Jitted calls",
            "ms; an integer cross-entropy in a step that has other arrays, ours and optax's in turn",
            ("other arrays", "ours", "optax", "ratio"),
            [jitted(count, 5 if small else 200) for count in (0, 100, 400)],
        )


def jitted(others: int, rounds: int) -> list[str]:
    """The times of a jitted step with other arrays beside the loss, and the median ratio of pairs in turn."""

    def step(loss: Callable[..., Array]) -> Callable[..., Any]:
        return lambda others, *arrays: ([2 * x for x in others], jnp.mean(loss(*arrays)))

    arrays = [jnp.full(3, i, float) for i in range(others)], *speed.classes(jax.random.key(0), (8, 16), jnp.float32)
    steps = [jax.jit(step(x.softmax_cross_entropy_with_integer_labels)) for x in (jaxloss, optax.losses)]
    pairs = [[seconds(f, arrays, 5) for f in steps] for _ in range(rounds)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return [str(others), f"{1e3 * ours:.3f}", f"{1e3 * theirs:.3f}", f"{ratio:.2f}"]
