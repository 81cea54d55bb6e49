"""Time and memory of the head of a language model, as ratios to full logits through optax."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax.losses
from jax import Array
from rich.progress import track

import jaxloss
from benchmarks import speed, tables

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None

# Ratios to full logits that the two forms are to stay below.
BOUNDS = {"bfloat16": {"one loss a token": 0.42, "the mean": 0.27}, "float32": {"one loss a token": 1.15, "the mean": 0.95}}


def losses(hidden: Array, weight: Array, labels: Array) -> Array:
    return jnp.mean(jaxloss.linear_softmax_cross_entropy(hidden, weight, labels))


def full_logits(hidden: Array, weight: Array, labels: Array) -> Array:
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(hidden @ weight, labels))


OURS = {"one loss a token": losses, "the mean": jaxloss.mean_linear_softmax_cross_entropy}


def three_products(hidden: Array, weight: Array, slope: Array) -> tuple[Array, Array]:
    """What no exact form does without: the logits, and the gradients by both of what they are made of.

    Nothing is looked at or kept but one gradient and a number. By blocks of classes, with the same gradient by the logits
    in each: all of them would cost more to write and read than to multiply.
    """
    wide = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
    hidden_first = jax.lax.optimization_barrier(hidden.T)
    size = slope.shape[1]

    def step(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        # Through barriers, so that each product is made as a whole, and anew at each step.
        x, x_first, dz, (hidden_bar, some) = jax.lax.optimization_barrier((hidden, hidden_first, slope, carry))
        w = jax.lax.dynamic_slice_in_dim(weight, i * size, size, 1)
        products = wide(x, w, (((1,), (0,)), ((), ()))), wide(x_first, dz, (((1,), (0,)), ((), ())))
        logits, weight_bar = jax.lax.optimization_barrier(products)
        return hidden_bar + wide(dz, w, (((1,), (1,)), ((), ()))), some + logits[0, 0] + weight_bar[0, 0]

    return jax.lax.fori_loop(0, weight.shape[1] // size, step, (jnp.zeros(hidden.shape), jnp.zeros(())))


def torch_full(hidden: Array, weight: Array, labels: Array) -> Callable[[], Any]:
    x, w, y = (torch.from_dlpack(a) for a in (hidden, weight, labels))
    x.requires_grad_()
    w.requires_grad_()
    return lambda: torch.autograd.grad(functional.cross_entropy(x @ w, y.long()), (x, w))


def measure(dtype: str, shape: tuple[int, int, int], seconds: float) -> list[list[str]]:
    tokens, dim, classes = shape
    keys = jax.random.split(jax.random.key(0), 4)
    hidden = jax.random.normal(keys[0], (tokens, dim), dtype)
    weight = jax.random.normal(keys[1], (dim, classes), dtype) / dim**0.5
    labels = jax.random.randint(keys[2], (tokens,), 0, classes)
    slope = jax.random.normal(keys[3], (tokens, classes // 16), dtype)

    def step(loss: Callable[..., Array]) -> Any:
        return jax.jit(jax.value_and_grad(loss, (0, 1))).lower(hidden, weight, labels).compile()

    steps = {"one loss a token": step(OURS["one loss a token"]), "full logits, optax": step(full_logits)}
    steps["the mean"] = step(OURS["the mean"])
    calls = {name: lambda run=run: jax.block_until_ready(run(hidden, weight, labels)) for name, run in steps.items()}
    products = jax.jit(three_products)
    calls["three products alone"] = lambda: jax.block_until_ready(products(hidden, weight, slope))
    if torch is not None:
        calls["full logits, torch"] = torch_full(hidden, weight, labels)
    medians, ratios = speed.medians_and_ratios(speed.interleaved(list(calls.values()), seconds))
    lines = []
    for name, median, ratio in zip(calls, medians, ratios, strict=True):
        bound = BOUNDS[dtype].get(name) if seconds else None
        temp = tables.megabytes(steps[name].memory_analysis().temp_size_in_bytes) if name in steps else ""
        teraflops = 6 * tokens * dim * classes / median / 1e12
        title = f"{name}, {dtype} {tokens}×{dim}×{classes}"
        numbers = f"{1e3 * median:.4g}", f"{teraflops:.3g}", temp
        lines.append([title, tables.ratio(ratio, bound), "" if bound is None else f"{bound:.2f}", *numbers])
    return lines


def measure_divergence(dtype: str, shape: tuple[int, int, int], seconds: float) -> list[list[str]]:
    """Distillation from a teacher of the same size: the divergence by blocks, and that of the logits of both."""
    tokens, dim, classes = shape
    keys = jax.random.split(jax.random.key(1), 4)
    hidden, teacher_hidden = (jax.random.normal(key, (tokens, dim), dtype) for key in keys[:2])
    weight, teacher_weight = (jax.random.normal(key, (dim, classes), dtype) / dim**0.5 for key in keys[2:])

    def full(hidden: Array, weight: Array, teacher_hidden: Array, teacher_weight: Array) -> Array:
        return jaxloss.softmax_kl_divergence(hidden @ weight, teacher_hidden @ teacher_weight)

    def by_blocks(hidden: Array, weight: Array, teacher_hidden: Array, teacher_weight: Array) -> Array:
        return jaxloss.linear_softmax_kl_divergence(hidden, weight, teacher_hidden, teacher_weight)

    arrays = hidden, weight, teacher_hidden, teacher_weight
    steps = {}
    for name, loss in (("distillation", by_blocks), ("distillation, full logits", full)):
        step = jax.value_and_grad(lambda *a, loss=loss: jnp.mean(loss(*a)), (0, 1))
        steps[name] = jax.jit(step).lower(*arrays).compile()
    calls = [lambda run=run: jax.block_until_ready(run(*arrays)) for run in steps.values()]
    medians, ratios = speed.medians_and_ratios(speed.interleaved(calls, seconds))
    return [
        [f"{name}, {dtype} {tokens}×{dim}×{classes}", tables.ratio(ratio), "", f"{1e3 * median:.4g}", "", temp]
        for name, median, ratio, temp in zip(
            steps,
            medians,
            ratios,
            (tables.megabytes(step.memory_analysis().temp_size_in_bytes) for step in steps.values()),
            strict=True,
        )
    ]


def run(*, small: bool, only: str) -> None:
    """On a GPU, at the size of a large model's head; without one, at a size that a CPU can do, as the caption says."""
    gpu = jax.default_backend() == "gpu"
    shape = (64, 16, 512) if small else (8192, 4096, 131072) if gpu else (4096, 512, 32000)
    where = jax.devices()[0].device_kind if gpu else "no GPU: on a CPU, at a size that it can do"
    chosen = [dtype for dtype in BOUNDS if only in f"language {dtype}" and not (gpu and dtype == "float32")]
    parts = [(measure_one, dtype) for dtype in chosen for measure_one in (measure, measure_divergence)]
    lines = [of(dtype, shape, 0 if small else 1) for of, dtype in track(parts, "language", console=tables.console)]
    columns = "ratio to full logits", "bound", "ms", "TFLOP/s of 6NVD", "temp MB"
    note = f"value_and_grad of the mean by hidden and weight, in distillation those of the student; {where}"
    tables.show("Language", note, ("tokens × dim × vocabulary", *columns), [line for part in lines for line in part])
