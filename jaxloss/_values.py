"""Checks of values that exist only at run time, made when asked for, under `debug_checks`.

Otherwise nothing of a check is in the program: even a mark that computes nothing, as `checkify.debug_check` is, makes JAX
start a jitted function from Python.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

Mode = Literal["off", "raise", "checkify"]


def _mode(word: Any, name: str) -> Mode:
    """The mode of checks that an argument or the environment names."""
    modes: dict[Any, Mode] = {True: "raise", False: "off", "1": "raise", "0": "off", "": "off", "checkify": "checkify"}
    if word not in modes:
        raise ValueError(f"{name} must be one of {[key for key in modes if key != '']}, got {word!r}")
    return modes[word]


# A user context is part of the key of jit's caches: a function compiled without checks is not taken for one with them.
_VARIABLE = "JAXLOSS_DEBUG_CHECKS"
_debug_checks = jax.make_user_context(default_value=_mode(os.environ.get(_VARIABLE, ""), _VARIABLE))


@contextlib.contextmanager
def debug_checks(mode: bool | Literal["checkify"] = True) -> Iterator[None]:
    """Switches on the checks of values that exist only at run time: a label out of range, a probability above 1.

    They are off otherwise, and then leave nothing in a compiled program. A wrong shape, dtype or static option always
    raises. The environment variable `JAXLOSS_DEBUG_CHECKS`, read when jaxloss is imported, sets the mode for a whole
    process: 1, 0 or checkify.

    Args:
        mode: with True, what is wrong raises from the program that meets it: ValueError of an eager call, and
            `jax.errors.JaxRuntimeError`, which holds the sentence, of a compiled one, at once or when its results are
            waited for. It does so under `jit`, `vmap`, `grad`, `scan` and `shard_map`, by `jax.debug.callback`: the
            program cannot be stored by `jax.export`, and a GPU or TPU waits for its host. With "checkify" nothing
            raises: the checks are those of `jax.experimental.checkify.checkify`, which must wrap the function, and
            whose error holds the sentence. With False they are off.

    Raises:
        ValueError: mode is none of these.

    Example:
        >>> import jax, jax.numpy as jnp, jaxloss
        >>> logits, labels = jnp.zeros((2, 3)), jnp.array([0, 3])
        >>> print(jaxloss.softmax_cross_entropy_with_integer_labels(logits, labels))
        [1.0986123       nan]
        >>> with jaxloss.debug_checks():
        ...     jaxloss.softmax_cross_entropy_with_integer_labels(logits, labels)
        Traceback (most recent call last):
        ValueError: labels must be from 0 to 2 where they are not masked by `where`
    """
    with _debug_checks(_mode(mode, "mode")):
        yield


def run_time(condition: Callable[[], Array], message: str) -> None:
    """A check of values, made only under `debug_checks`: `condition` is called there alone."""
    mode = _debug_checks.value
    if mode == "off":
        return
    holds = jnp.all(condition())
    if mode == "checkify":
        from jax.experimental import checkify  # not at import: few need it

        checkify.debug_check(holds, message)
    elif isinstance(holds, jax.core.Tracer):
        jax.debug.callback(functools.partial(_raise_unless, message), holds)
    else:
        _raise_unless(message, holds)


def _raise_unless(message: str, holds: Any) -> None:
    if not holds:
        raise ValueError(message)


def left_out(where: Array | None) -> Array:
    """What `where` leaves out, where a check of values does not look."""
    return jnp.asarray(False) if where is None else ~where


def probabilities(predictions: Array, where: Array | None) -> None:
    """Checks for probabilities out of [0, 1]."""
    run_time(
        lambda: (predictions >= 0) & (predictions <= 1) | left_out(where), "predictions must be probabilities, from 0 to 1"
    )


def log_probabilities(name: str, x: Array, where: Array | None) -> None:
    """Checks for what cannot be the logarithm of a probability, beyond rounding; a row of them need not be normalised."""
    run_time(  # NaN is no probability taken for its logarithm
        lambda: ~(x > 4 * jnp.finfo(x.dtype).eps) | left_out(where),
        f"{name} must be log-probabilities, at most 0: take jnp.log of probabilities, and jax.nn.log_softmax of logits",
    )


def at_least_zero(name: str, x: Array, where: Array | None) -> None:
    """Checks for negative rates, counts and amounts."""
    run_time(lambda: (x >= 0) | left_out(where), f"{name} must be at least 0 where they are not masked by `where`")


def above(name: str, x: Array, limit: int | float, where: Array | None) -> None:
    """Checks for what is not above a limit."""
    run_time(lambda: (x > limit) | left_out(where), f"{name} must be above {limit:g}")


def within(name: str, x: Array, least: int, most: int, where: Array | None) -> None:
    """Checks for what is not from `least` to `most`."""
    run_time(lambda: (x >= least) & (x <= most) | left_out(where), f"{name} must be from {least} to {most}")


def labels_within(labels: Array, classes: int, where: Array | None) -> None:
    """Checks for labels that are no class."""
    run_time(
        lambda: (labels >= 0) & (labels < classes) | left_out(where),
        f"labels must be from 0 to {classes - 1} where they are not masked by `where`",
    )


def cosines(name: str, x: Array, where: Array | None) -> None:
    """Checks for what cannot be the cosine of an angle, beyond rounding in bfloat16."""
    run_time(lambda: (jnp.abs(x) <= 1.01) | left_out(where), f"{name} must be cosines, from -1 to 1")
