"""One row a public loss: the loss, its naive formula, its domain, its options and its hard points.

The naive formula is the textbook's, written in jax.numpy and only ever evaluated in float64: it is the reference, and
its derivatives by JAX are the reference derivatives. Data are drawn in float64 and then rounded to the dtype under test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss

inf, nan = np.inf, np.nan


@dataclass(frozen=True)
class Case:
    """A row. `draw` gives the positional arguments; each of `options` is one set of keyword arguments."""

    loss: Callable[..., Any]
    naive: Callable[..., Any]
    draw: Callable[[np.random.Generator], tuple[Any, ...]]
    options: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    rows: bool = False  # one loss a row of classes, and `where` over rows; else one an element
    # (arguments, options, true losses): float32 must give them within 4 ulp, and the gradient and hessian are not NaN
    hard: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = field(default_factory=list)
    second: bool = True  # whether the second derivative exists almost everywhere and is not 0


# --- Draws ----------------------------------------------------------------------------------------------------------


def residuals(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(3, 4)), rng.normal(size=(3, 4))


def positive(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0.1, 4, size=(3, 4)), rng.uniform(0.1, 4, size=(3, 4))


def soft_binary(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 3 * rng.normal(size=(3, 4)), rng.uniform(0.1, 0.9, size=(3, 4))


def hard_binary(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 3 * rng.normal(size=(3, 4)), rng.integers(0, 2, size=(3, 4))


def two_probabilities(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0.05, 0.95, size=(3, 4)), rng.uniform(0.05, 0.95, size=(3, 4))


def signs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 2 * rng.normal(size=(3, 4)), rng.choice([-1.0, 1.0], size=(3, 4))


def soft_classes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.uniform(0.1, 1, size=(3, 5))
    return 2 * rng.normal(size=(3, 5)), labels  # rows do not sum to 1


def classes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 2 * rng.normal(size=(3, 5)), rng.integers(0, 5, size=3)


def class_probabilities(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0.1, 1, size=(3, 5)), rng.uniform(0.1, 1, size=(3, 5))


def class_probability(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0.1, 1, size=(3, 5)), rng.integers(0, 5, size=3)


def classes_and_priors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return *classes(rng), np.log(rng.dirichlet(np.ones(5)))


# --- Naive formulas -------------------------------------------------------------------------------------------------


def of_residual(formula: Callable[..., Any]) -> Callable[..., Any]:
    return lambda p, y, **options: formula(p - y, **options)


def robust(r: Any, alpha: Any = 1.0, scale: Any = 1.0) -> Any:
    x = r / scale
    b = jnp.abs(alpha - 2)
    return b / alpha * ((x**2 / b + 1) ** (alpha / 2) - 1)


def sigmoid_entropy(z: Any, y: Any, pos_weight: Any = 1.0, label_smoothing: Any = 0.0) -> Any:
    y = (1 - label_smoothing) * y + label_smoothing / 2
    return -pos_weight * y * jnp.log(jax.nn.sigmoid(z)) - (1 - y) * jnp.log(jax.nn.sigmoid(-z))


def sigmoid_focal(z: Any, y: Any, alpha: Any = None, gamma: Any = 2.0) -> Any:
    p = jax.nn.sigmoid(z)
    balance = 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    mistake = y * (1 - p) + (1 - y) * p
    return balance * mistake**gamma * (-y * jnp.log(p) - (1 - y) * jnp.log(1 - p))


def asymmetric(z: Any, y: Any, gamma_positive: Any = 1.0, gamma_negative: Any = 4.0, clip: Any = 0.05) -> Any:
    p = jax.nn.sigmoid(z)
    shifted = jnp.maximum(p - clip, 0)
    return -y * (1 - p) ** gamma_positive * jnp.log(p) - (1 - y) * shifted**gamma_negative * jnp.log(1 - shifted)


def of_probability(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Σ t_k formula(p_k) + λ lse², for soft or integer labels, with all options of the softmax losses."""

    def naive(
        z: Any,
        labels: Any,
        label_smoothing: Any = 0.0,
        class_weights: Any = 1.0,
        z_loss: Any = 0.0,
        soft_cap: Any = None,
        **options: Any,
    ) -> Any:
        s = z if soft_cap is None else soft_cap * jnp.tanh(z / soft_cap)
        if jnp.issubdtype(jnp.asarray(labels).dtype, jnp.integer):
            labels = jax.nn.one_hot(labels, z.shape[-1], dtype=z.dtype)
        t = class_weights * ((1 - label_smoothing) * labels + label_smoothing / z.shape[-1])
        per_class = {k: v if k == "alpha" and jnp.ndim(v) == 1 else jnp.asarray(v)[..., None] for k, v in options.items()}
        lse = jax.nn.logsumexp(s, axis=-1)
        return jnp.sum(t * formula(jax.nn.softmax(s, axis=-1), **per_class), axis=-1) + z_loss * lse**2

    return naive


def softmax_focal(p: Any, gamma: Any = 2.0, alpha: Any = 1.0) -> Any:
    return -alpha * (1 - p) ** gamma * jnp.log(p)


def logit_adjusted(z: Any, labels: Any, log_priors: Any, temperature: Any = 1.0, **options: Any) -> Any:
    return of_probability(lambda p: -jnp.log(p))(z + temperature * log_priors, labels, **options)


def nll(logp: Any, y: Any, class_weights: Any = None) -> Any:
    weight = 1 if class_weights is None else class_weights[y]
    return -weight * jnp.take_along_axis(logp, y[..., None], axis=-1)[..., 0]


def best_other(z: Any, y: Any) -> Any:
    is_label = jnp.arange(z.shape[-1]) == y[..., None]
    return jnp.max(jnp.where(is_label, -inf, z), axis=-1) - jnp.sum(jnp.where(is_label, z, 0), axis=-1)


def sparsemax(z: Any, y: Any) -> Any:
    """⟨p, z⟩ − ‖p‖²/2 + 1/2 − z_y with the support found by sorting."""
    ordered = -jnp.sort(-z, axis=-1)
    k = jnp.arange(1, z.shape[-1] + 1)
    total = jnp.cumsum(ordered, axis=-1)
    size = jnp.sum(1 + k * ordered > total, axis=-1, keepdims=True)
    threshold = (jnp.take_along_axis(total, size - 1, axis=-1) - 1) / size
    p = jnp.maximum(z - threshold, 0)
    own = jnp.take_along_axis(z, y[..., None], axis=-1)[..., 0]
    return jnp.sum(p * z - p * p / 2, axis=-1) + 0.5 - own


ALL = {"label_smoothing": 0.1, "class_weights": np.linspace(0.5, 2, 5), "z_loss": 0.01, "soft_cap": 4.0}
SOFTMAX_OPTIONS = [{}, {"label_smoothing": 0.1}, {"class_weights": np.linspace(0.5, 2, 5)}, {"soft_cap": 4.0}, ALL]


def with_all(**options: Any) -> list[dict[str, Any]]:
    return [{}, options, {**ALL, **options}]


def softmax_hard(of_nll: Callable[[Any], Any]) -> list[Any]:
    """Hard points on integer labels of a loss that is a function of −log p."""

    def of_rest(rest: float) -> list[Any]:
        return [of_nll(np.log1p(rest))]

    return [
        (([[20.0, 0.0, 0.0]], [0]), {}, of_rest(2 * np.exp(-20.0))),
        (([[50.0, 0.0, 0.0]], [0]), {}, of_rest(2 * np.exp(-50.0))),
        (([[0.0, 0.0, 0.0]], [1]), {}, of_rest(2.0)),
        (([[1.0, -inf, 2.0]], [0]), {}, of_rest(np.e)),
        (([[inf, 0.0, 1.0]], [0]), {}, [0.0]),
        (([[5.0]], [0]), {}, [0.0]),
        (([[3.0, 3.0, 1.0]], [0]), {}, of_rest(1 + np.exp(-2.0))),
        (([[100.0, 0.0, 0.0]], [0]), {}, of_rest(2 * np.exp(-100.0))),
        (([[1e4, 1e4 - 1.0, 0.0]], [1]), {}, of_rest(np.e)),
        ((np.zeros((0, 3)), np.zeros(0, int)), {}, np.zeros(0)),
    ]


def saturated() -> list[Any]:
    """Certain predictions: e^−100 is below what float32 holds."""
    gammas = (0.0, 0.5, 1.0, 2.0, 5.0)
    right = [(([100.0, -100.0, inf, -inf], [1.0, 0.0, 1.0, 0.0]), {"gamma": g}, np.zeros(4)) for g in gammas]
    wrong = [(([-100.0, 100.0, -inf], [1.0, 0.0, 1.0]), {"gamma": g}, [100.0, 100.0, inf]) for g in gammas]
    return right + wrong


CASES = [
    # Regression
    Case(
        jaxloss.squared_error,
        of_residual(lambda r: r**2),
        residuals,
        hard=[(([1e-19, 1e19, 0.0], [0.0] * 3), {}, [0.0, 1e38, 0.0])],
    ),
    Case(jaxloss.l2_loss, of_residual(lambda r: r**2 / 2), residuals, hard=[(([2e19, 0.0], [0.0] * 2), {}, [2e38, 0.0])]),
    Case(
        jaxloss.absolute_error,
        of_residual(jnp.abs),
        residuals,
        hard=[(([0.0, inf, -inf], [0.0] * 3), {}, [0.0, inf, inf])],
        second=False,
    ),
    Case(
        jaxloss.huber_loss,
        of_residual(lambda r, delta=1.0: jnp.where(jnp.abs(r) <= delta, r**2 / 2, delta * (jnp.abs(r) - delta / 2))),
        residuals,
        [{}, {"delta": 0.7}, {"delta": np.array([0.3, 0.7, 1.1, 2.0])}],
        hard=[
            (([1e-8, 1.0, 3e38, inf, -inf], [0.0] * 5), {}, [5e-17, 0.5, 3e38, inf, inf]),
            (([0.0, 2.0], [0.0] * 2), {"delta": 0.0}, [0.0, 0.0]),
        ],
    ),
    Case(
        jaxloss.smooth_l1_loss,
        of_residual(lambda r, beta=1.0: jnp.where(jnp.abs(r) < beta, r**2 / (2 * beta), jnp.abs(r) - beta / 2)),
        residuals,
        [{}, {"beta": 0.7}],
        hard=[
            (([1e-8, 1.0, 3e38, inf], [0.0] * 4), {}, [5e-17, 0.5, 3e38, inf]),
            (([0.0, -2.0], [0.0] * 2), {"beta": 0.0}, [0.0, 2.0]),
        ],
    ),
    Case(
        jaxloss.log_cosh,
        of_residual(lambda r: jnp.log(jnp.cosh(r))),
        residuals,
        hard=[
            (
                ([0.0, 1e-8, -1e-4, 1.0, 88.0, 1e4, 3e38, inf, -inf], [0.0] * 9),
                {},
                [0.0, 5e-17, 5e-9, np.log(np.cosh(1)), 88 - np.log(2), 1e4 - np.log(2), 3e38, inf, inf],
            )
        ],
    ),
    Case(
        jaxloss.quantile_loss,
        of_residual(lambda r, quantile=0.5: jnp.maximum(-quantile * r, (1 - quantile) * r)),
        residuals,
        [{}, {"quantile": 0.9}, {"quantile": np.array([0.1, 0.5, 0.7, 0.9])}],
        hard=[(([0.0, 1e-8, inf], [0.0] * 3), {"quantile": 0.9}, [0.0, 1e-9, inf])],
        second=False,
    ),
    Case(
        jaxloss.expectile_loss,
        of_residual(lambda r, tau=0.5: jnp.abs(tau - (r > 0)) * r**2),
        residuals,
        [{}, {"tau": 0.9}],
        hard=[(([0.0, 1e-8], [0.0] * 2), {"tau": 0.75}, [0.0, 2.5e-17])],
    ),
    Case(
        jaxloss.epsilon_insensitive_loss,
        of_residual(lambda r, epsilon=0.1: jnp.maximum(jnp.abs(r) - epsilon, 0)),
        residuals,
        [{}, {"epsilon": 0.5}],
        hard=[(([0.0, 0.25, inf], [0.0] * 3), {"epsilon": 0.25}, [0.0, 0.0, inf])],
        second=False,
    ),
    Case(
        jaxloss.squared_log_error,
        lambda p, y: (jnp.log(1 + p) - jnp.log(1 + y)) ** 2,
        positive,
        hard=[(([0.0, 2.0, 0.0], [0.0, 2.0, 1e10]), {}, [0.0, 0.0, np.log1p(1e10) ** 2])],
    ),
    Case(
        jaxloss.absolute_percentage_error,
        lambda p, y: jnp.abs((p - y) / y),
        positive,
        hard=[(([0.0, 2.0], [0.0, 2.0]), {}, [0.0, 0.0])],
    ),
    Case(
        jaxloss.pseudo_huber_loss,
        of_residual(lambda r, delta=1.0: delta**2 * (jnp.sqrt(1 + (r / delta) ** 2) - 1)),
        residuals,
        [{}, {"delta": 0.7}],
        hard=[(([0.0, 1e-8, 3e38, inf, -inf], [0.0] * 5), {}, [0.0, 5e-17, 3e38, inf, inf])],
    ),
    Case(
        jaxloss.charbonnier_loss,
        of_residual(lambda r, epsilon=1e-3: jnp.sqrt(r**2 + epsilon**2)),
        residuals,
        [{}, {"epsilon": 0.7}],
        hard=[
            (([0.0, 3e38, inf], [0.0] * 3), {}, [1e-3, 3e38, inf]),
            (([0.0, -2.0], [0.0] * 2), {"epsilon": 0.0}, [0.0, 2.0]),
        ],
    ),
    Case(
        jaxloss.robust_loss,
        of_residual(robust),
        residuals,
        [
            {},
            {"alpha": 0.5, "scale": 0.7},
            {"alpha": -2.0, "scale": 1.5},
            {"alpha": 1e-3},
            {"alpha": 1.99},
            {"alpha": 3.0},
        ],
        hard=[
            (([0.0, 2.0], [0.0] * 2), {"alpha": 2.0}, [0.0, 2.0]),
            (([0.0, 2.0], [0.0] * 2), {"alpha": 0.0}, [0.0, np.log(3.0)]),
            (([0.0, 2.0, 1e19], [0.0] * 3), {"alpha": -inf}, [0.0, 1 - np.exp(-2.0), 1.0]),
            (([0.0, 2.0], [0.0] * 2), {"alpha": inf}, [0.0, np.expm1(2.0)]),
            (([1e-8, 1.0], [0.0] * 2), {"alpha": 1.0}, [5e-17, np.sqrt(2) - 1]),
        ],
    ),
    # Cross-entropy
    Case(
        jaxloss.softmax_cross_entropy,
        of_probability(lambda p: -jnp.log(p)),
        soft_classes,
        SOFTMAX_OPTIONS,
        rows=True,
        hard=[
            (([[20.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]), {}, [np.log1p(2 * np.exp(-20.0))]),
            (([[1.0, -inf, 2.0]], [[0.5, 0.0, 0.5]]), {}, [np.log1p(np.e) - 0.5]),
            (([[1.0, -inf, 2.0]], [[0.5, 0.0, 0.5]]), {"label_smoothing": 0.1}, [np.log1p(np.e) - 0.5]),
            (([[inf, 0.0, 1.0]], [[1.0, 0.0, 0.0]]), {}, [0.0]),
            (([[3.0, 3.0, 3.0]], [[0.2, 0.3, 0.5]]), {}, [np.log(3.0)]),
            (([[5.0]], [[1.0]]), {}, [0.0]),
            ((np.zeros((0, 3)), np.zeros((0, 3))), {}, np.zeros(0)),
        ],
    ),
    Case(
        jaxloss.softmax_cross_entropy_with_integer_labels,
        of_probability(lambda p: -jnp.log(p)),
        classes,
        SOFTMAX_OPTIONS,
        rows=True,
        hard=[
            *softmax_hard(lambda nll: nll),
            # with smoothing the class that cannot occur is not there: the targets are 0.95 and 0.05
            (([[1.0, -inf, 2.0]], [0]), {"label_smoothing": 0.1}, [np.log1p(np.e) - 0.05]),
            (([[-inf, 0.0]], [0]), {}, [inf]),
        ],
    ),
    Case(
        jaxloss.sigmoid_binary_cross_entropy,
        sigmoid_entropy,
        soft_binary,
        [{}, {"pos_weight": 3.0}, {"label_smoothing": 0.1}, {"pos_weight": 3.0, "label_smoothing": 0.1}],
        hard=[
            (
                ([0.0, 17.0, 20.0, 50.0, 104.0, inf, -inf], [1.0] * 6 + [0.0]),
                {},
                [*np.log1p(np.exp([-0.0, -17.0, -20.0, -50.0, -104.0])), 0.0, 0.0],
            ),
            (([-104.0, -inf, inf], [1.0, 1.0, 0.0]), {}, [104.0, inf, inf]),
            (([30.0], [1]), {}, [np.log1p(np.exp(-30.0))]),
            ((np.zeros(0), np.zeros(0)), {}, np.zeros(0)),
        ],
    ),
    Case(
        jaxloss.binary_cross_entropy,
        lambda p, y: -y * jnp.log(p) - (1 - y) * jnp.log(1 - p),
        two_probabilities,
        hard=[(([0.0, 1.0, 1e-30], [0.0, 1.0, 1.0]), {}, [0.0, 0.0, 30 * np.log(10.0)])],
    ),
    Case(
        jaxloss.categorical_cross_entropy,
        lambda p, y: -jnp.sum(y * jnp.log(p), axis=-1),
        class_probabilities,
        rows=True,
        hard=[(([[0.0, 1.0]], [[0.0, 1.0]]), {}, [0.0])],
    ),
    Case(
        jaxloss.categorical_cross_entropy_with_integer_labels,
        lambda p, y: -jnp.log(jnp.take_along_axis(p, y[..., None], axis=-1)[..., 0]),
        class_probability,
        rows=True,
        hard=[(([[0.0, 1.0]], [1]), {}, [0.0])],
    ),
    Case(
        jaxloss.nll_with_integer_labels,
        nll,
        classes,
        [{}, {"class_weights": np.linspace(0.5, 2, 5)}],
        rows=True,
        hard=[(([[-inf, 0.0]], [1]), {}, [0.0])],
        second=False,
    ),
    # Focal and kin
    Case(
        jaxloss.sigmoid_focal_loss,
        sigmoid_focal,
        soft_binary,
        [{}, {"alpha": 0.25}, {"gamma": 0.5}, {"alpha": 0.25, "gamma": 5.0}, {"gamma": 0.0}],
        hard=saturated(),
    ),
    Case(
        jaxloss.softmax_focal_loss,
        of_probability(softmax_focal),
        soft_classes,
        with_all(gamma=1.5, alpha=np.linspace(1, 2, 5)),
        rows=True,
        hard=[
            (([[0.0, -inf, 0.0]], [[0.5, 0.0, 0.5]]), {"gamma": g}, [0.5**g * np.log(2)]) for g in (0.0, 0.5, 1.0, 2.0, 5.0)
        ]
        + [(([[5.0]], [[1.0]]), {}, [0.0])],
    ),
    Case(
        jaxloss.softmax_focal_loss_with_integer_labels,
        of_probability(softmax_focal),
        classes,
        with_all(gamma=1.5, alpha=np.linspace(1, 2, 5)),
        rows=True,
        hard=[(([[100.0, 0.0, -inf]], [0]), {"gamma": g}, [0.0]) for g in (0.0, 0.5, 1.0, 2.0, 5.0)]
        + [(([[5.0]], [0]), {}, [0.0]), (([[inf, 0.0]], [0]), {}, [0.0])],
    ),
    Case(
        jaxloss.poly_loss_cross_entropy,
        of_probability(lambda p, epsilon=2.0: -jnp.log(p) + epsilon * (1 - p)),
        soft_classes,
        with_all(epsilon=-0.7),
        rows=True,
        hard=softmax_hard(lambda nll: nll - 2 * np.expm1(-nll)),
    ),
    Case(
        jaxloss.logit_adjusted_cross_entropy,
        logit_adjusted,
        classes_and_priors,
        with_all(temperature=0.8),
        rows=True,
        hard=[(([[20.0, 0.0]], [0], [0.0, 0.0]), {}, [np.log1p(np.exp(-20.0))])],
    ),
    Case(
        jaxloss.asymmetric_loss,
        asymmetric,
        soft_binary,
        [{}, {"gamma_positive": 0.5, "gamma_negative": 2.0, "clip": 0.2}],
        hard=[(([-inf, inf, -4.0], [0.0, 1.0, 0.0]), {}, [0.0, 0.0, 0.0])],
    ),
    Case(
        jaxloss.generalized_cross_entropy,
        of_probability(lambda p, q=0.7: (1 - p**q) / q),
        classes,
        with_all(q=0.4),
        rows=True,
        hard=[
            (([[20.0, 0.0, 0.0]], [0]), {"q": 0.0}, [np.log1p(2 * np.exp(-20.0))]),
            (([[0.0, -inf]], [1]), {"q": 0.5}, [2.0]),
            (([[0.0, -inf]], [0]), {}, [0.0]),
        ],
    ),
    Case(
        jaxloss.symmetric_cross_entropy,
        of_probability(lambda p, alpha=0.1, beta=1.0, log_zero=-4.0: -alpha * jnp.log(p) - beta * log_zero * (1 - p)),
        classes,
        with_all(alpha=0.5, beta=0.7, log_zero=-3.0),
        rows=True,
        hard=[(([[0.0, -inf]], [0]), {}, [0.0]), (([[inf, 0.0]], [0]), {}, [0.0])],
    ),
    # Margins
    Case(
        jaxloss.hinge_loss,
        lambda f, y: jnp.maximum(0, 1 - f * y),
        signs,
        hard=[(([1.0, inf, -inf], [1.0] * 3), {}, [0.0, 0.0, inf])],
        second=False,
    ),
    Case(
        jaxloss.squared_hinge_loss,
        lambda f, y: jnp.maximum(0, 1 - f * y) ** 2,
        signs,
        hard=[(([1.0, 3.0], [1.0] * 2), {}, [0.0, 0.0])],
    ),
    Case(
        jaxloss.modified_huber_loss,
        lambda f, y: jnp.where(f * y >= -1, jnp.maximum(0, 1 - f * y) ** 2, -4 * f * y),
        signs,
        hard=[(([1.0, -1.0, -inf], [1.0] * 3), {}, [0.0, 4.0, inf])],
    ),
    Case(
        jaxloss.perceptron_loss,
        lambda f, y: jnp.maximum(0, -f * y),
        signs,
        hard=[(([0.0, inf, -inf], [1.0] * 3), {}, [0.0, 0.0, inf])],
        second=False,
    ),
    Case(
        jaxloss.sparsemax_loss,
        lambda z, y: (lambda x: jnp.where(x <= -1, 0, jnp.where(x >= 1, x, (x + 1) ** 2 / 4)))((1 - 2 * y) * z),
        hard_binary,
        hard=[(([1.0, -1.0, inf], [1.0] * 3), {}, [0.0, 1.0, 0.0])],
    ),
    Case(
        jaxloss.multiclass_hinge_loss,
        lambda z, y: jnp.maximum(0, 1 + best_other(z, y)),
        classes,
        rows=True,
        hard=[(([[5.0]], [0]), {}, [0.0]), (([[1.0, 0.0, 0.0]], [0]), {}, [0.0]), (([[2.0, -inf]], [0]), {}, [0.0])],
        second=False,
    ),
    Case(
        jaxloss.multiclass_perceptron_loss,
        lambda z, y: jnp.maximum(0, best_other(z, y)),
        classes,
        rows=True,
        hard=[(([[5.0]], [0]), {}, [0.0]), (([[1.0, 1.0]], [0]), {}, [0.0]), (([[2.0, -inf]], [0]), {}, [0.0])],
        second=False,
    ),
    Case(
        jaxloss.multiclass_sparsemax_loss,
        sparsemax,
        lambda rng: (0.5 * rng.normal(size=(3, 5)), rng.integers(0, 5, size=3)),
        rows=True,
        hard=[(([[5.0]], [0]), {}, [0.0]), (([[2.0, 1.0]], [0]), {}, [0.0]), (([1.0, 1.0], 0), {}, 0.25)],
    ),
]


def name(case: Case) -> str:
    return case.loss.__name__


def rounded(x: Any, dtype: Any) -> Any:
    """An argument in the dtype under test: floats are rounded, integers stay."""
    x = np.asarray(x)
    return jnp.asarray(x, dtype) if x.dtype.kind == "f" else jnp.asarray(x)
