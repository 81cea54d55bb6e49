"""Cross-entropy and its kin."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf


def soft_binary(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 3 * rng.normal(size=(3, 4)), rng.uniform(0.1, 0.9, size=(3, 4))


def two_probabilities(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0.05, 0.95, size=(3, 4)), rng.uniform(0.05, 0.95, size=(3, 4))


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
    Case(
        jaxloss.softmax_cross_entropy,
        of_probability(lambda p: -jnp.log(p)),
        soft_classes,
        SOFTMAX_OPTIONS,
        event=1,
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
        event=1,
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
        event=1,
        hard=[(([[0.0, 1.0]], [[0.0, 1.0]]), {}, [0.0])],
    ),
    Case(
        jaxloss.categorical_cross_entropy_with_integer_labels,
        lambda p, y: -jnp.log(jnp.take_along_axis(p, y[..., None], axis=-1)[..., 0]),
        class_probability,
        event=1,
        hard=[(([[0.0, 1.0]], [1]), {}, [0.0])],
    ),
    Case(
        jaxloss.nll_with_integer_labels,
        nll,
        classes,
        [{}, {"class_weights": np.linspace(0.5, 2, 5)}],
        event=1,
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
        event=1,
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
        event=1,
        hard=[(([[100.0, 0.0, -inf]], [0]), {"gamma": g}, [0.0]) for g in (0.0, 0.5, 1.0, 2.0, 5.0)]
        + [(([[5.0]], [0]), {}, [0.0]), (([[inf, 0.0]], [0]), {}, [0.0])],
    ),
    Case(
        jaxloss.poly_loss_cross_entropy,
        of_probability(lambda p, epsilon=2.0: -jnp.log(p) + epsilon * (1 - p)),
        soft_classes,
        with_all(epsilon=-0.7),
        event=1,
        hard=softmax_hard(lambda nll: nll - 2 * np.expm1(-nll)),
        free=("epsilon",),
    ),
    Case(
        jaxloss.logit_adjusted_cross_entropy,
        logit_adjusted,
        classes_and_priors,
        with_all(temperature=0.8),
        event=1,
        hard=[(([[20.0, 0.0]], [0], [0.0, 0.0]), {}, [np.log1p(np.exp(-20.0))])],
        free=("temperature",),
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
        event=1,
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
        event=1,
        hard=[(([[0.0, -inf]], [0]), {}, [0.0]), (([[inf, 0.0]], [0]), {}, [0.0])],
    ),
]
