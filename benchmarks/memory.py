"""Bytes: temporary memory of a compiled value_and_grad, and what the forward pass saves for the backward one."""

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import optax.losses
from jax import Array

import jaxloss
from benchmarks import speed, tables


def temporary(loss: Callable[..., Array], arrays: tuple[Array, ...]) -> int:
    """What a step takes beside its arguments and its gradient."""
    function = jax.jit(jax.value_and_grad(lambda *a: loss(*a).mean()))
    return function.lower(*arrays).compile().memory_analysis().temp_size_in_bytes


def saved(loss: Callable[..., Array], arrays: tuple[Array, ...]) -> int:
    """What the pullback holds that is not one of the arguments: it stays allocated from one pass to the other."""
    first, *others = arrays
    compiled = jax.jit(loss)
    _, pullback = jax.vjp(lambda x: compiled(x, *others), first)
    arguments = {x.unsafe_buffer_pointer() for x in arrays}
    kept = {x.unsafe_buffer_pointer(): x.nbytes for x in jax.tree.leaves(pullback) if isinstance(x, Array)}
    return sum(size for pointer, size in kept.items() if pointer not in arguments)


DATA = {
    "softmax_cross_entropy_with_integer_labels": speed.classes,
    "softmax_cross_entropy": speed.class_probabilities,
    "poly_loss_cross_entropy": speed.class_probabilities,
    "softmax_focal_loss_with_integer_labels": speed.classes,
    "sigmoid_binary_cross_entropy": speed.yes_or_no,
    "sigmoid_focal_loss": speed.yes_or_no,
    "log_cosh": speed.two_arrays,
    "huber_loss": speed.two_arrays,
    "squared_error": speed.two_arrays,
    "l2_loss": speed.two_arrays,
}


def lines(small: bool, only: str) -> Iterator[list[str]]:
    shape = (16, 96) if small else (1024, 8192)
    for name, dtype in itertools.product(DATA, ("float32", "bfloat16")):
        if only not in name:
            continue
        arrays = jax.block_until_ready(DATA[name](jax.random.key(0), shape, jnp.dtype(dtype)))
        line = [f"{name}, {dtype}", tables.megabytes(arrays[0].nbytes)]
        for measure in (temporary, saved):
            losses = [getattr(library, name, None) for library in (jaxloss, optax.losses)]
            line += [tables.megabytes(measure(loss, arrays)) if loss else "" for loss in losses]
        yield line


def run(*, small: bool, only: str) -> None:
    columns = "first argument", "temp", "optax temp", "saved", "optax saved"
    note = "MB; temp: beside arguments and gradient; saved: between the two passes, beside the arguments"
    tables.show("Memory", note, ("loss", *columns), lines(small, only))
