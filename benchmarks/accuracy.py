"""Worst errors in float32, compiled, against mpmath: of the formula one would write, of optax and of jaxloss.

In ulp, units in the last place of the true result. Below 128 · 2^-126 no error counts: XLA flushes there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax.losses
from jax import Array
from mpmath import mp
from rich.progress import track

import jaxloss
from benchmarks import tables

LIBRARIES = "naive", "optax", "jaxloss"
DIGITS = 200  # log cosh 1e-37 is that of 1 + 5e-75
SLACK = 128 * 2.0**-126


def errors(computed: Any, true: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """In units in the last place of `scale`, which is the true result unless it is given."""
    computed, true = np.asarray(computed, np.float64), np.asarray(true, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.where(np.abs(true) > np.finfo(np.float32).max, np.inf * np.sign(true), true)
        unit = np.spacing(np.abs(true if scale is None else scale).clip(0, 3e38).astype(np.float32))
        error = np.abs(computed - expected)
        ulp = np.where(error <= SLACK, 0, error / unit)
    return np.where(computed == expected, 0, np.where(np.isnan(computed), np.nan, ulp))


def words(worst: float) -> str:
    if np.isnan(worst):
        return "[bold red]NaN[/]"
    return f"[red]{worst:.0e}[/]" if worst > 1e3 else f"{worst:.1f}"


# --- Elementwise losses ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Elementwise:
    """Functions of one variable: by library, and the true value and derivative of mpmath numbers."""

    name: str
    losses: dict[str, Callable[[Array], Array] | None]
    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    larger: Callable[[Any], Any] | None = None  # where the derivative is a difference, the larger of its two terms


def residual(name: str, naive: Any, value: Any, slope: Any, **options: float) -> Elementwise:
    def of(library: Any) -> Any:
        loss = getattr(library, name, None)
        return None if loss is None else lambda r: loss(r, jnp.zeros_like(r), **options)

    losses = {"naive": naive, "optax": of(optax.losses), "jaxloss": of(jaxloss)}
    return Elementwise(name, losses, value, slope)


def yes_or_no(title: str, name: str, label: float, naive: Any, value: Any, slope: Any, **options: float) -> Elementwise:
    def of(library: Any) -> Any:
        return lambda z: getattr(library, name)(z, jnp.full_like(z, label), **options)

    losses = {"naive": naive, "optax": of(optax.losses), "jaxloss": of(jaxloss)}
    return Elementwise(title, losses, value, slope)


def sigmoid(z: Any) -> Any:
    return 1 / (1 + mpmath.exp(-z))


def softplus(z: Any) -> Any:
    return mpmath.log1p(mpmath.exp(z)) if z < 1000 else z


def clipped(r: Any) -> Any:
    return max(-1, min(1, r))


def huber(r: Any) -> Any:
    return r * r / 2 if abs(r) <= 1 else abs(r) - mpmath.mpf(0.5)


def entropy(y: float) -> Elementwise:
    row = yes_or_no(
        f"sigmoid_binary_cross_entropy, label {y:g}",
        "sigmoid_binary_cross_entropy",
        y,
        lambda z: -y * jnp.log(jax.nn.sigmoid(z)) - (1 - y) * jnp.log(1 - jax.nn.sigmoid(z)),
        lambda z: y * softplus(-z) + (1 - y) * softplus(z),
        lambda z: (1 - y) * sigmoid(z) - y * sigmoid(-z),
    )
    return replace(row, larger=lambda z: max((1 - y) * sigmoid(z), y * sigmoid(-z)))


def focal(gamma: float) -> Elementwise:
    def naive(z: Array) -> Array:
        p = jax.nn.sigmoid(z)
        return -((1 - p) ** gamma) * jnp.log(p)

    return yes_or_no(
        f"sigmoid_focal_loss, gamma {gamma:g}",
        "sigmoid_focal_loss",
        1.0,
        naive,
        lambda z: sigmoid(-z) ** gamma * softplus(-z),
        lambda z: -(sigmoid(-z) ** gamma) * (sigmoid(-z) + gamma * sigmoid(z) * softplus(-z)),
        gamma=gamma,
    )


EPSILON = float(np.float32(1e-3))

ELEMENTWISE = [
    residual("squared_error", lambda r: r**2, lambda r: r * r, lambda r: 2 * r),
    residual("l2_loss", lambda r: 0.5 * r**2, lambda r: r * r / 2, lambda r: r),
    residual("huber_loss", lambda r: jnp.where(jnp.abs(r) <= 1, r**2 / 2, jnp.abs(r) - 0.5), huber, clipped),
    residual("smooth_l1_loss", lambda r: jnp.where(jnp.abs(r) < 1, r**2 / 2, jnp.abs(r) - 0.5), huber, clipped),
    residual(
        "pseudo_huber_loss",
        lambda r: jnp.sqrt(1 + r**2) - 1,
        lambda r: r * r / (mpmath.sqrt(1 + r * r) + 1),
        lambda r: r / mpmath.sqrt(1 + r * r),
    ),
    residual(
        "charbonnier_loss",
        lambda r: jnp.sqrt(r**2 + EPSILON**2),
        lambda r: mpmath.sqrt(r * r + mpmath.mpf(EPSILON) ** 2),
        lambda r: r / mpmath.sqrt(r * r + mpmath.mpf(EPSILON) ** 2),
        epsilon=EPSILON,
    ),
    residual(
        "log_cosh",
        lambda r: jnp.log(jnp.cosh(r)),
        lambda r: mpmath.log(mpmath.cosh(r)) if abs(r) < 1000 else abs(r) - mpmath.log(2),
        lambda r: mpmath.tanh(r) if abs(r) < 1000 else mpmath.sign(r),
    ),
    *(entropy(y) for y in (0.0, 1.0, 0.25)),
    *(focal(gamma) for gamma in (0.0, 0.5, 1.0, 2.0, 5.0)),
]


def elementwise_lines(small: bool, only: str) -> Iterator[list[str]]:
    count = 50 if small else 1500
    powers = np.geomspace(1e-37, 3e38, count)
    points = np.concatenate([powers, -powers, np.linspace(-105, 105, 2 * count)]).astype(np.float32)
    chosen = [row for row in ELEMENTWISE if only in row.name]
    for row in track(chosen, "elementwise", console=tables.console):
        with mp.workdps(DIGITS):
            exact = [mpmath.mpf(float(x)) for x in points]
            functions = row.value, row.slope, row.larger or row.slope
            value, slope, scale = (np.array([float(f(x)) for x in exact]) for f in functions)
        line = [row.name]
        for library in LIBRARIES:
            loss = row.losses[library]
            if loss is None:
                line += ["", ""]
                continue
            values, slopes = jax.jit(jax.vmap(jax.value_and_grad(loss)))(points)
            line += [words(errors(values, value).max()), words(errors(slopes, slope, scale).max())]
        yield line


# --- Softmax cross-entropy ------------------------------------------------------------------------------------------


def hard_points(small: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Logits [rows, classes] and labels [rows]."""
    rng = np.random.default_rng(0)

    def rows(*logits: list[float]) -> tuple[np.ndarray, np.ndarray]:
        """Each row with every label that can occur."""
        pairs = [(row, label) for row in logits for label in range(len(row)) if row[label] > -np.inf]
        return np.array([row for row, _ in pairs], np.float32), np.array([label for _, label in pairs])

    def random(count: int, classes: int, scale: float, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        logits = offset + scale * rng.normal(size=(count, classes))
        return logits.astype(np.float32), rng.integers(0, classes, count)

    points = {f"gap of {gap:g}": rows([gap, 0, 0], [0, 0, -gap]) for gap in (17, 20, 50, 80, 104, 1e4, 3e38)}
    points |= {
        "all equal": rows([0.0] * 3, [1e4] * 3),
        "ties at the maximum": rows([5, 5, 0], [30, 30, 0]),
        "−inf masks": rows([1, 2, 3, -np.inf], [20, 0, -np.inf, -np.inf]),
        "one class": rows([3.0]),
    }
    if small:
        return points
    leading, labels = random(4, 1000, 1)
    leading[np.arange(4), labels] = 20
    return points | {
        "two classes": random(64, 2, 10),
        "32 classes": random(64, 32, 1),
        "32 classes, times 10": random(64, 32, 10),
        "32 classes, times 100": random(64, 32, 100),
        "32 classes, near 1e4": random(64, 32, 1, 1e4),
        "1000 classes, one leads by 20": (leading, labels),
        "100,000 classes": random(1, 100_000, 3),
    }


SMOOTHING = float(np.float32(0.1))


def true_entropy(row: np.ndarray, label: int, smoothing: float) -> tuple[float, list[float]]:
    """The loss and its gradient, with no cancellation for a hard label."""
    z = [mpmath.mpf(float(x)) for x in row]
    occurs = np.isfinite(row)
    e = [mpmath.exp(x - max(z)) for x in z]
    total = mpmath.fsum(e)
    others = total - e[label] if e[label] < 0.5 else mpmath.fsum(x for k, x in enumerate(e) if k != label)
    loss = mpmath.log1p(others / e[label])
    gradient = [x / total for x in e]
    gradient[label] = -others / total
    if smoothing:
        share = mpmath.mpf(smoothing) / int(occurs.sum())
        even = mpmath.fsum(max(z) - x for x, there in zip(z, occurs, strict=True) if there)
        loss = (1 - mpmath.mpf(smoothing)) * loss + share * even + smoothing * mpmath.log(total)
        gradient[label] += mpmath.mpf(smoothing)
        gradient = [g - share if there else mpmath.mpf(0) for g, there in zip(gradient, occurs, strict=True)]
    return float(loss), [float(g) for g in gradient]


def one_hot(y: Array, like: Array) -> Array:
    return jax.nn.one_hot(y, like.shape[-1], dtype=like.dtype)


def naive(z: Array, targets: Array) -> Array:
    return -jnp.sum(targets * jnp.log(jnp.exp(z) / jnp.sum(jnp.exp(z), axis=-1, keepdims=True)), axis=-1)


SOFTMAX: dict[str, tuple[float, dict[str, Callable[[Array, Array], Array]]]] = {
    "integer": (
        0.0,
        {
            "naive": lambda z, y: naive(z, one_hot(y, z)),
            "optax": optax.losses.softmax_cross_entropy_with_integer_labels,
            "jaxloss": jaxloss.softmax_cross_entropy_with_integer_labels,
        },
    ),
    "one-hot": (
        0.0,
        {
            "naive": lambda z, y: naive(z, one_hot(y, z)),
            "optax": lambda z, y: optax.losses.softmax_cross_entropy(z, one_hot(y, z)),
            "jaxloss": lambda z, y: jaxloss.softmax_cross_entropy(z, one_hot(y, z)),
        },
    ),
    "smoothed": (
        SMOOTHING,
        {
            "naive": lambda z, y: naive(z, optax.losses.smooth_labels(one_hot(y, z), SMOOTHING)),
            "optax": lambda z, y: optax.losses.softmax_cross_entropy(
                z, optax.losses.smooth_labels(one_hot(y, z), SMOOTHING)
            ),
            "jaxloss": lambda z, y: jaxloss.softmax_cross_entropy_with_integer_labels(z, y, label_smoothing=SMOOTHING),
        },
    ),
}


def softmax_lines(small: bool, only: str) -> Iterator[list[str]]:
    with_gradients = {
        (kind, library): jax.jit(jax.vmap(jax.value_and_grad(loss)))
        for kind, (_, losses) in SOFTMAX.items()
        for library, loss in losses.items()
    }
    points = hard_points(small)
    for title, (logits, labels) in track(points.items(), "softmax", console=tables.console):
        true = {}
        for smoothing in (0.0, SMOOTHING):
            with mp.workdps(60):
                pairs = [true_entropy(row, label, smoothing) for row, label in zip(logits, labels, strict=True)]
            true[smoothing] = [np.array(part) for part in zip(*pairs, strict=True)]
        for kind, (smoothing, _) in SOFTMAX.items():
            if only not in f"{kind}: {title}":
                continue
            value, slope = true[smoothing]
            # With smoothing a component may be the difference of two nearly equal numbers.
            scale = np.abs(slope).max(axis=-1, keepdims=True) if smoothing else None
            line = [f"{kind}: {title}"]
            for library in LIBRARIES:
                values, slopes = with_gradients[kind, library](logits, labels)
                line += [words(errors(values, value).max()), words(errors(slopes, slope, scale).max())]
            yield line


def run(*, small: bool, only: str) -> None:
    columns = [f"{library} {what}" for library in LIBRARIES for what in ("value", "gradient")]
    lost = "1e+07 and more: all digits lost, 0 for instance"
    title, note = (
        "Accuracy: elementwise losses",
        f"worst ulp from ±1e-37 to ±3e38, of the larger term where a gradient is a difference; {lost}",
    )
    tables.show(title, note, ("loss", *columns), elementwise_lines(small, only))
    title, note = "Accuracy: softmax cross-entropy", f"worst ulp, of the largest component if smoothed; {lost}"
    tables.show(title, note, ("labels: logits", *columns), softmax_lines(small, only))
