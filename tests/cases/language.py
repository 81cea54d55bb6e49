"""The head of a language model: hidden states against a vocabulary."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf

# The test matrix wants the arguments that have the axes of the tokens to come first.


def tokens_first(loss: Callable[..., Any], order: tuple[int, ...]) -> Callable[..., Any]:
    """The loss as a function of its positional arguments in another order: `order[i]` is the i-th one's new place."""
    signature = inspect.signature(loss)
    parameters = list(signature.parameters.values())
    moved = [parameters[order.index(i)] for i in range(len(order))]

    @functools.wraps(loss)
    def reordered(*args: Any, **options: Any) -> Any:
        return loss(*(args[i] for i in order), *args[len(order) :], **options)

    reordered.__signature__ = signature.replace(parameters=moved + parameters[len(order) :])
    return reordered


# --- Draws ----------------------------------------------------------------------------------------------------------

CLASSES = 48


def tokens(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.normal(size=(4, 16)), rng.integers(1, CLASSES, size=4), 0.5 * rng.normal(size=(16, CLASSES))


def two_heads(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A student and a teacher of another dimension."""
    x, _, w = tokens(rng)
    return x, rng.normal(size=(4, 24)), w, 0.4 * rng.normal(size=(24, CLASSES))


# --- Naive formulas -------------------------------------------------------------------------------------------------


def naive_scores(x: Any, w: Any, bias: Any, soft_cap: Any, temperature: Any, vocab_first: bool) -> tuple[Any, Any]:
    """The scores, 0 for classes that cannot occur, and which can."""
    z = x @ (w.T if vocab_first else w) + bias
    occurs = z > -inf
    z = jnp.where(occurs, z, 0)
    s = z if soft_cap is None else soft_cap * jnp.tanh(z / soft_cap)
    return s / jnp.asarray(temperature)[..., None], occurs


def cross_entropy(
    x: Any,
    labels: Any,
    w: Any,
    bias: Any = 0.0,
    label_smoothing: Any = 0.0,
    class_weights: Any = 1.0,
    z_loss: Any = 0.0,
    soft_cap: Any = None,
    temperature: Any = 1.0,
    vocab_first: bool = False,
    block_size: Any = None,
) -> Any:
    s, occurs = naive_scores(x, w, bias, soft_cap, temperature, vocab_first)
    lse = jax.nn.logsumexp(s, axis=-1, where=occurs)
    count = jnp.sum(occurs, axis=-1, keepdims=True)
    smoothing = jnp.asarray(label_smoothing)[..., None]
    t = class_weights * ((1 - smoothing) * jax.nn.one_hot(labels, s.shape[-1], dtype=s.dtype) + smoothing / count)
    return jnp.sum(jnp.where(occurs, t * (lse[..., None] - s), 0), axis=-1) + z_loss * lse**2


def entropy(
    x: Any,
    w: Any,
    bias: Any = 0.0,
    soft_cap: Any = None,
    temperature: Any = 1.0,
    vocab_first: bool = False,
    block_size: Any = None,
) -> Any:
    s, occurs = naive_scores(x, w, bias, soft_cap, temperature, vocab_first)
    log_p = s - jax.nn.logsumexp(s, axis=-1, where=occurs, keepdims=True)
    return -jnp.sum(jnp.where(occurs, jnp.exp(log_p) * log_p, 0), axis=-1)


def divergence(
    x: Any,
    x_teacher: Any,
    w: Any,
    w_teacher: Any,
    bias: Any = 0.0,
    teacher_bias: Any = 0.0,
    soft_cap: Any = None,
    teacher_soft_cap: Any = None,
    temperature: Any = 1.0,
    vocab_first: bool = False,
    teacher_vocab_first: bool = False,
    block_size: Any = None,
) -> Any:
    s, occurs = naive_scores(x, w, bias, soft_cap, temperature, vocab_first)
    t, has_target = naive_scores(x_teacher, w_teacher, teacher_bias, teacher_soft_cap, temperature, teacher_vocab_first)
    log_q = s - jax.nn.logsumexp(s, axis=-1, where=occurs, keepdims=True)
    log_p = t - jax.nn.logsumexp(t, axis=-1, where=has_target, keepdims=True)
    return jnp.sum(jnp.where(has_target, jnp.exp(log_p) * (log_p - log_q), 0), axis=-1)


# --- Rows -----------------------------------------------------------------------------------------------------------

BIAS = np.where(np.arange(CLASSES) == 0, -inf, np.linspace(-1, 1, CLASSES))
SMOOTHING = np.array([0.1, 0.0, 0.2, 0.5])
ALL = {
    "bias": BIAS,
    "label_smoothing": SMOOTHING,
    "class_weights": np.linspace(0.5, 2, CLASSES),
    "z_loss": 0.01,
    "soft_cap": 4.0,
    "temperature": np.array([0.7, 1.0, 2.0, 1.5]),
    "block_size": 20,
}


def of_scores(*scores: float) -> list[list[float]]:
    """A weight for the hidden state [1]."""
    return [[float(s) for s in scores]]


ONE = [[1.0]]
HARD = [
    ((ONE, [0], of_scores(20, 0, 0)), {}, [np.log1p(2 * np.exp(-20.0))]),
    ((ONE, [0], of_scores(20, 0, 0)), {"block_size": 1}, [np.log1p(2 * np.exp(-20.0))]),
    ((ONE, [0], of_scores(50, 0, 0)), {}, [2 * np.exp(-50.0)]),
    ((ONE, [2], of_scores(0, 0, 0)), {}, [np.log(3.0)]),
    ((ONE, [0], of_scores(5)), {}, [0.0]),
    ((ONE, [1], of_scores(0, 1e4)), {}, [0.0]),
    ((ONE, [1], of_scores(1e4, 0)), {}, [1e4]),
    ((ONE, [1], of_scores(3e38, 0)), {}, [3e38]),
    ((ONE, [0], of_scores(1e38, -1e38)), {}, [0.0]),
    ((ONE, [1], of_scores(1, 2)), {"bias": np.array([0.0, -inf])}, [inf]),
    ((ONE, [0], of_scores(1, 2)), {"bias": np.array([0.0, -inf])}, [0.0]),
    ((ONE, [0], of_scores(1, 2, 1)), {"bias": np.array([0.0, -inf, 0.0]), "label_smoothing": 0.5}, [np.log(2.0)]),
    ((ONE, [0], of_scores(2, 0, 0)), {"temperature": 0.1}, [np.log1p(2 * np.exp(-20.0))]),
    ((ONE, [0], of_scores(2, 0)), {"temperature": 0.001}, [0.0]),
    ((ONE, [0], of_scores(1e3, -1e3)), {"soft_cap": 10.0}, [np.log1p(np.exp(-20.0))]),
    (([[0.0]], [0], of_scores(1, 2)), {"z_loss": 0.1}, [np.log(2.0) + 0.1 * np.log(2.0) ** 2]),
]

# Between σ(0.5) and σ(0.1), with 0.1 as float32 has it.
OFFSET = 0.5 / (1 + np.exp(-0.5)) - np.log1p(np.exp(0.5))
OFFSET += np.log1p(np.exp(float(np.float32(0.1)))) - float(np.float32(0.1)) / (1 + np.exp(-0.5))

CASES = [
    Case(
        tokens_first(jaxloss.linear_softmax_cross_entropy, (0, 2, 1)),
        cross_entropy,
        tokens,
        [
            {},
            {"bias": BIAS, "label_smoothing": SMOOTHING, "block_size": 16},
            {"class_weights": np.linspace(0.5, 2, CLASSES), "z_loss": 0.01},
            {"soft_cap": 4.0, "temperature": 0.5, "block_size": 32},
            ALL,
        ],
        event=1,
        arguments=(0, 2),
        free=("bias",),
        hard=HARD,
    ),
    Case(
        jaxloss.token_entropy,
        entropy,
        lambda rng: tokens(rng)[::2],
        [
            {},
            {"bias": BIAS, "block_size": 16},
            {"bias": BIAS, "soft_cap": 4.0, "temperature": np.array([0.7, 1.0, 2.0, 1.5]), "block_size": 20},
        ],
        event=1,
        batched=1,
        arguments=(0, 1),
        free=("bias",),
        hard=[
            ((ONE, of_scores(20, 0, 0)), {}, [2 * np.exp(-20.0) * 21]),
            ((ONE, of_scores(0, 0, 20)), {"block_size": 1}, [2 * np.exp(-20.0) * 21]),
            ((ONE, of_scores(0, 0, 0)), {}, [np.log(3.0)]),
            ((ONE, of_scores(7)), {}, [0.0]),
            ((ONE, of_scores(1e4, 0)), {}, [0.0]),
            ((ONE, of_scores(1, 1, 5)), {"bias": np.array([0.0, 0.0, -inf])}, [np.log(2.0)]),
        ],
    ),
    Case(
        tokens_first(jaxloss.linear_softmax_kl_divergence, (0, 2, 1, 3)),
        divergence,
        two_heads,
        [
            {},
            {"bias": np.linspace(-1, 1, CLASSES), "teacher_bias": BIAS, "block_size": 16},
            {
                "bias": BIAS,
                "teacher_bias": BIAS[::-1] + BIAS,
                "soft_cap": 4.0,
                "teacher_soft_cap": 3.0,
                "temperature": np.array([0.7, 1.0, 2.0, 1.5]),
                "block_size": 20,
            },
        ],
        event=1,
        arguments=(0, 1, 2, 3),
        free=("bias", "teacher_bias"),
        hard=[
            ((ONE, ONE, of_scores(0.3, -1.7, 20), of_scores(0.3, -1.7, 20)), {}, [0.0]),
            ((ONE, ONE, of_scores(1003, 1001), of_scores(3, 1)), {}, [0.0]),
            ((ONE, ONE, of_scores(0.1, 0), of_scores(1000.5, 1000)), {}, [OFFSET]),
            ((ONE, ONE, of_scores(5), of_scores(1)), {}, [0.0]),
            ((ONE, ONE, of_scores(0, 50), of_scores(50, 0)), {}, [50 - 100 / (1 + np.exp(50.0))]),
            ((ONE, ONE, of_scores(0, 50), of_scores(50, 0)), {"block_size": 1}, [50 - 100 / (1 + np.exp(50.0))]),
            ((ONE, ONE, of_scores(0, 1e4), of_scores(1e4, 0)), {}, [1e4]),
            ((ONE, ONE, of_scores(-3e38, 0), of_scores(3e38, 0)), {}, [3e38]),
            ((ONE, ONE, of_scores(1e38, -1e38), of_scores(1e38, -1e38)), {}, [0.0]),
            ((ONE, ONE, of_scores(0, 0), of_scores(2.0**-12, 0)), {}, [2.0**-27]),
            ((ONE, ONE, of_scores(0, 0), of_scores(0, -120)), {}, [np.log(2.0)]),
            ((ONE, ONE, of_scores(0, 0), of_scores(1, 0)), {"temperature": 0.001}, [np.log(2.0)]),
            ((ONE, ONE, of_scores(0, 0), of_scores(0, 5)), {"teacher_bias": np.array([0.0, -inf])}, [np.log(2.0)]),
            ((ONE, ONE, of_scores(0, 0), of_scores(0, 0)), {"bias": np.array([0.0, -inf])}, [inf]),
            ((ONE, ONE, of_scores(0, 0), of_scores(0, -200)), {"bias": np.array([0.0, -inf])}, [inf]),
        ],
    ),
]
