"""Time of compiled functions, as a ratio to optax in the same run, and the temporary memory they take.

Absolute times drift with the machine, so that each round times every library once, in turn, and the ratio of a row is
the median over its rounds.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax.losses
from jax import Array
from rich.progress import track

import jaxloss
from benchmarks import tables

# torch's idle threads would otherwise keep a core busy while the others are measured.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None

Loss = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """One line of the table: three functions of the same arrays that return one loss an element or an example."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Callable[[Array, tuple[int, ...], Any], tuple[Array, ...]]
    ours: Loss
    theirs: Loss
    torch: Loss | None = None
    bound: float | None = None
    gradient: bool = True

    def title(self) -> str:
        size = "×".join(map(str, self.shape)) if len(self.shape) > 1 else f"{self.shape[0]:.0e}".replace("e+0", "e")
        return f"{self.name}, {self.dtype} {size}" + ("" if self.gradient else ", forward")


# --- Data -----------------------------------------------------------------------------------------------------------


def two_arrays(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    keys = jax.random.split(key)
    return tuple(2 * jax.random.normal(k, shape, dtype) for k in keys)


def yes_or_no(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    z, y = two_arrays(key, shape, dtype)
    return z, (y > 0).astype(dtype)


def classes(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    z = jax.random.normal(key, shape, dtype)
    return z, jax.random.randint(key, shape[:-1], 0, shape[-1])


def masked_classes(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    return *classes(key, shape, dtype), jnp.arange(shape[0]) % 4 != 0


def class_probabilities(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    z, y = two_arrays(key, shape, dtype)
    return z, jax.nn.softmax(y.astype(jnp.float32)).astype(dtype)


# --- Losses ---------------------------------------------------------------------------------------------------------

entropy = jaxloss.softmax_cross_entropy_with_integer_labels
their_entropy = optax.losses.softmax_cross_entropy_with_integer_labels


def smoothed(z: Array, y: Array) -> Array:
    return entropy(z, y, label_smoothing=0.1)


def their_smoothed(z: Array, y: Array) -> Array:
    one_hot = jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype)
    return optax.losses.softmax_cross_entropy(z, optax.losses.smooth_labels(one_hot, 0.1))


def capped(z: Array, y: Array) -> Array:
    return entropy(z, y, soft_cap=30.0)


def their_capped(z: Array, y: Array) -> Array:
    return their_entropy(30 * jnp.tanh(z / 30), y)


def with_z_loss(z: Array, y: Array) -> Array:
    return entropy(z, y, z_loss=1e-4)


def their_with_z_loss(z: Array, y: Array) -> Array:
    return their_entropy(z, y) + 1e-4 * jax.nn.logsumexp(z, axis=-1) ** 2


def masked(z: Array, y: Array, where: Array) -> Array:
    return entropy(z, y, where=where)


def their_masked(z: Array, y: Array, where: Array) -> Array:
    return their_entropy(z, y, where=where)


def of_torch(name: str, **options: Any) -> Loss | None:
    return None if torch is None else lambda z, y: getattr(functional, name)(z, y, reduction="none", **options)


def rows(small: bool) -> list[Row]:
    """Those that have a bound, and what else a user would meet."""
    bf16, f32 = "bfloat16", "float32"
    wide, narrow, middle = (4096, 32000), (8192, 1000), (4096, 8192)

    def integer(dtype: str, shape: tuple[int, int], bound: float | None = None, gradient: bool = True) -> Row:
        cross = of_torch("cross_entropy")
        return Row("integer CE", dtype, shape, classes, entropy, their_entropy, cross, bound, gradient)

    def elementwise(name: str, bounds: dict[str, float | None], data: Any, peer: str | None = None) -> list[Row]:
        losses = getattr(jaxloss, name), getattr(optax.losses, name), of_torch(peer) if peer else None
        return [Row(name, dtype, (10_000_000,), data, *losses, bound) for dtype, bound in bounds.items()]

    def variants(dtype: str) -> list[Row]:
        ours, theirs = jaxloss.softmax_cross_entropy, optax.losses.softmax_cross_entropy
        smoothed_cross = of_torch("cross_entropy", label_smoothing=0.1)
        return [
            Row("soft CE", dtype, middle, class_probabilities, ours, theirs, of_torch("cross_entropy")),
            Row("integer CE, label_smoothing", dtype, middle, classes, smoothed, their_smoothed, smoothed_cross),
            Row("integer CE, soft_cap", dtype, middle, classes, capped, their_capped),
            Row("integer CE, z_loss", dtype, middle, classes, with_z_loss, their_with_z_loss),
            Row("integer CE, where", dtype, middle, masked_classes, masked, their_masked),
        ]

    table = [
        integer(bf16, wide, 0.45),
        integer(f32, wide, 1.05),
        integer(bf16, narrow),
        integer(f32, narrow, 1.05),
        integer(bf16, (4096, 50257)),
        integer(f32, (65536, 10)),
        integer(bf16, wide, gradient=False),
        integer(f32, wide, gradient=False),
        integer(f32, narrow, gradient=False),
        *elementwise("sigmoid_binary_cross_entropy", {f32: 0.40, bf16: 0.15}, yes_or_no, "binary_cross_entropy_with_logits"),
        *elementwise("sigmoid_focal_loss", {f32: 0.30, bf16: 0.15}, yes_or_no),
        *elementwise("log_cosh", {f32: 0.80, bf16: 0.30}, two_arrays),
        *elementwise("huber_loss", {f32: 0.60, bf16: 0.25}, two_arrays, "huber_loss"),
        *elementwise("squared_error", {f32: None, bf16: None}, two_arrays, "mse_loss"),
        *variants(f32),
        *variants(bf16),
    ]
    if small:
        sizes = {1: (2000,), 2: (16, 96)}
        small_rows = [replace(row, shape=sizes[len(row.shape)], bound=None) for row in table]
        return list({row.title(): row for row in small_rows}.values())
    return table


# --- Measuring ------------------------------------------------------------------------------------------------------


def compiled(row: Row, loss: Loss, arrays: tuple[Array, ...]) -> Any:
    function = jax.jit((jax.value_and_grad if row.gradient else lambda f: f)(lambda *a: loss(*a).mean()))
    return function.lower(*arrays).compile()


def torch_call(row: Row, arrays: tuple[Array, ...]) -> Callable[[], Any]:
    first, *others = (torch.from_dlpack(x) for x in arrays)
    first.requires_grad_(row.gradient)
    others = [x if x.is_floating_point() else x.long() for x in others]

    def call() -> Any:
        value = row.torch(first, *others).mean()
        return torch.autograd.grad(value, first) if row.gradient else value

    return call


def interleaved(calls: list[Callable[[], Any]], seconds: float) -> list[list[float]]:
    """The time of each call in each round, for as many rounds as fit, and at least five."""
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds
    for call in calls:
        call()
    while len(rounds) < 5 or time.perf_counter() < end:
        times = [0.0] * len(calls)
        for i in range(len(calls)):
            turn = (i + len(rounds)) % len(calls)  # nobody always comes first
            # As in training, where a step follows itself: what another gave back is not freed on its time, and after a
            # call that ran on one core the system has spread the threads again, which takes it a tenth of a second.
            for_a_while(calls[turn], min(0.15, seconds))
            times[turn] = statistics.median(for_a_while(calls[turn], min(0.1, seconds)))
        rounds.append(times)
    return rounds


def for_a_while(call: Callable[[], Any], seconds: float) -> list[float]:
    """The times of as many calls as fit, and at least one."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def medians_and_ratios(rounds: list[list[float]]) -> tuple[list[float], list[float]]:
    """The median time of each call, and the median of its ratios to the second one's."""
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return medians, [statistics.median(times[i] / times[1] for times in rounds) for i in range(len(medians))]


def measure(row: Row, seconds: float) -> list[str]:
    arrays = jax.block_until_ready(jax.jit(row.data, static_argnums=(1, 2))(jax.random.key(0), row.shape, row.dtype))
    ours, theirs = compiled(row, row.ours, arrays), compiled(row, row.theirs, arrays)
    calls = [lambda: jax.block_until_ready(ours(*arrays)), lambda: jax.block_until_ready(theirs(*arrays))]
    if row.torch is not None:
        calls.append(torch_call(row, arrays))
    rounds = interleaved(calls, seconds)
    medians, ratios = medians_and_ratios(rounds)
    return [
        row.title(),
        tables.ratio(ratios[0], row.bound),
        "" if row.bound is None else f"{row.bound:.2f}",
        f"{1e3 * medians[0]:.3g}",
        f"{1e3 * medians[1]:.3g}",
        tables.ratio(ratios[2]) if row.torch is not None else "",
        tables.megabytes(ours.memory_analysis().temp_size_in_bytes),
        tables.megabytes(theirs.memory_analysis().temp_size_in_bytes),
        str(len(rounds)),
    ]


def show(title: str, chosen: list[Row], *, small: bool, only: str) -> None:
    chosen = [row for row in chosen if only in row.title()]
    lines = [measure(row, seconds=0 if small else 6) for row in track(chosen, title, console=tables.console)]
    peer = "torch is not installed" if torch is None else f"torch {torch.__version__}"
    columns = "ratio to optax", "bound", "ms", "optax ms", "torch ratio", "temp MB", "optax temp MB", "rounds"
    note = f"value_and_grad of the mean unless forward; jax {jax.__version__}, optax {optax.__version__}, {peer}"
    tables.show(title, note, ("loss", *columns), lines)


def run(*, small: bool, only: str) -> None:
    show("Speed", rows(small), small=small, only=only)
