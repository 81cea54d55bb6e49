"""Time and temporary memory of CTC, as ratios to optax and beside torch. Shapes are batch × frames × labels × classes."""

from typing import Any

import jax
import jax.numpy as jnp
import optax.losses
from jax import Array

import jaxloss
from benchmarks import speed
from benchmarks.speed import Row


def sentences(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    batch, frames, labels, classes = shape
    keys = jax.random.split(key)
    z = jax.random.normal(keys[0], (batch, frames, classes), dtype)
    y = jax.random.randint(keys[1], (batch, labels), 1, classes)
    return z, jnp.zeros((batch, frames)), y, jnp.zeros((batch, labels))


def sure_sentences(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, ...]:
    """Sentences of a model at the end of its training: each label in one frame, 20 above all else, and blanks between."""
    z, paddings, y, label_paddings = sentences(key, shape, dtype)
    _, frames, labels, classes = shape
    spoken = jnp.arange(labels) * (frames // labels)
    path = jnp.zeros(z.shape[:2], int).at[:, spoken].set(y)
    return z + 20 * jax.nn.one_hot(path, classes, dtype=dtype), paddings, y, label_paddings


def of_torch(z: Any, paddings: Any, y: Any, label_paddings: Any) -> Any:
    torch = speed.torch
    batch, frames, _ = z.shape
    lengths = torch.full((batch,), frames), torch.full((batch,), y.shape[1])
    log_probs = torch.log_softmax(z, dim=-1).transpose(0, 1)
    return speed.functional.ctc_loss(log_probs, y.long(), *lengths, reduction="none")


def squares(z: Any, *_: Any) -> Any:
    """What any loss of logits takes at least: they are read, and a gradient of their size is written."""
    return 0.5 * jnp.square(z)


def cross_entropy(z: Any, *_: Any) -> Any:
    """What a loss of log-probabilities takes: a probability of every logit too. CTC has its recursions on top of this."""
    return jaxloss.softmax_cross_entropy_with_integer_labels(z, jnp.zeros(z.shape[:-1], jnp.int32))


def rows(small: bool) -> list[Row]:
    bounds = {(32, 500, 50, 32): 0.55, (32, 500, 50, 128): 0.47, (32, 1000, 100, 128): 0.70, (32, 1000, 100, 5000): 0.18}
    torch_loss = None if speed.torch is None else of_torch
    theirs = optax.losses.ctc_loss
    if small:
        return [Row("CTC", "float32", (2, 20, 4, 8), sentences, jaxloss.ctc_loss, theirs, torch_loss)]
    least = {"½z² in place of CTC": squares, "cross-entropy in place of CTC": cross_entropy}
    return (
        [
            Row("CTC", "float32", shape, sentences, jaxloss.ctc_loss, theirs, torch_loss, bound)
            for shape, bound in bounds.items()
        ]
        + [
            Row(
                "CTC of labels nearly sure",
                "float32",
                (32, 500, 50, 128),
                sure_sentences,
                jaxloss.ctc_loss,
                theirs,
                torch_loss,
            )
        ]
        + [Row(name, "float32", (32, 1000, 100, 5000), sentences, loss, theirs) for name, loss in least.items()]
    )


def run(*, small: bool, only: str) -> None:
    speed.show("Sequences", rows(small), small=small, only=only)
