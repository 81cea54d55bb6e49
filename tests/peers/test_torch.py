"""jaxloss beside torch.nn.functional: where they agree, which is on ordinary inputs, and where they differ, and why.

torch spells its options otherwise: `ignore_index` and masks are `where` here, `weight` is `class_weights`, and its
weighted mean is a sum over the sum of the weights of the labels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch
from torch.nn import functional

import jaxloss

# --- Where they agree -----------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A loss that both libraries have. Both functions take the same arrays."""

    what: str
    arguments: Callable[[np.random.Generator], tuple[np.ndarray, ...]]
    ours: Callable[..., jax.Array]
    theirs: Callable[..., torch.Tensor]
    constant: tuple[int, ...] = ()  # the arguments by which torch has no gradient


def two_arrays(rng):
    return 2 * rng.normal(size=(8, 9)), rng.normal(size=(8, 9))


def logits_and_labels(rng):
    return 3 * rng.normal(size=(8, 9)), rng.uniform(size=(8, 9))


def logits_labels_and_weights(rng):
    return 3 * rng.normal(size=(8, 9)), rng.uniform(size=(8, 9)), rng.uniform(0.5, 2, size=9)


def probabilities_and_labels(rng):
    return rng.uniform(0.01, 0.99, size=(8, 9)), rng.uniform(size=(8, 9))


def scores_and_signs(rng):
    return 3 * rng.normal(size=(8, 9)), rng.choice([-1.0, 1.0], size=(8, 9))


def logits_and_classes(rng):
    return 3 * rng.normal(size=(8, 9)), rng.integers(0, 9, size=8)


def logits_and_some_classes(rng):
    return 3 * rng.normal(size=(8, 9)), np.where(np.arange(8) % 3 == 0, -100, rng.integers(0, 9, size=8))


def images_and_classes(rng):
    return 3 * rng.normal(size=(2, 5, 3, 4)), rng.integers(0, 5, size=(2, 3, 4))


def and_weights(arguments, classes=9):
    """The same, and a weight for each class."""

    def more(rng):
        return *arguments(rng), rng.uniform(0.5, 2, size=classes)

    return more


def plain(loss, **options):
    """torch's loss, one number an element or an example."""
    return lambda *arguments: loss(*arguments, reduction="none", **options)


def weighted(loss, **options):
    """torch's loss with a weight a class as the last argument."""
    return lambda *arguments: loss(*arguments[:-1], weight=arguments[-1], **options)


def entropy(z, y, w=None, **options):
    return jaxloss.softmax_cross_entropy_with_integer_labels(z, y, class_weights=w, **options)


def weighted_mean(z, y, w, **options):
    """torch's mean of a weighted loss."""
    counts = y != -100
    total = jaxloss.sum(entropy(z, y, w, where=counts, **options))
    return total / jaxloss.sum(w[y], where=counts)


ROWS = [
    Row("mse", two_arrays, jaxloss.squared_error, plain(functional.mse_loss)),
    Row("l1", two_arrays, jaxloss.absolute_error, plain(functional.l1_loss)),
    Row("huber", two_arrays, jaxloss.huber_loss, plain(functional.huber_loss)),
    Row(
        "huber, delta",
        two_arrays,
        lambda p, y: jaxloss.huber_loss(p, y, delta=0.75),
        plain(functional.huber_loss, delta=0.75),
    ),
    Row("smooth_l1", two_arrays, jaxloss.smooth_l1_loss, plain(functional.smooth_l1_loss)),
    Row(
        "smooth_l1, beta",
        two_arrays,
        lambda p, y: jaxloss.smooth_l1_loss(p, y, beta=0.75),
        plain(functional.smooth_l1_loss, beta=0.75),
    ),
    Row(
        "smooth_l1, beta 0",
        two_arrays,
        lambda p, y: jaxloss.smooth_l1_loss(p, y, beta=0.0),
        plain(functional.smooth_l1_loss, beta=0.0),
    ),
    Row(
        "sigmoid cross-entropy",
        logits_and_labels,
        jaxloss.sigmoid_binary_cross_entropy,
        plain(functional.binary_cross_entropy_with_logits),
    ),
    Row(
        "sigmoid cross-entropy, pos_weight",
        logits_labels_and_weights,
        lambda z, y, w: jaxloss.sigmoid_binary_cross_entropy(z, y, pos_weight=w),
        lambda z, y, w: functional.binary_cross_entropy_with_logits(z, y, pos_weight=w, reduction="none"),
        constant=(2,),
    ),
    Row(
        "multilabel soft margin",
        logits_and_labels,
        lambda z, y: jnp.mean(jaxloss.sigmoid_binary_cross_entropy(z, y), axis=-1),
        plain(functional.multilabel_soft_margin_loss),
    ),
    Row(
        "soft margin",
        scores_and_signs,
        lambda f, y: jaxloss.sigmoid_binary_cross_entropy(f, y > 0),
        plain(functional.soft_margin_loss),
        constant=(1,),
    ),
    Row(
        "binary cross-entropy",
        probabilities_and_labels,
        jaxloss.binary_cross_entropy,
        plain(functional.binary_cross_entropy),
    ),
    Row("nll", logits_and_classes, jaxloss.nll_with_integer_labels, plain(functional.nll_loss)),
    Row(
        "nll, weight",
        and_weights(logits_and_classes),
        lambda z, y, w: jaxloss.nll_with_integer_labels(z, y, class_weights=w),
        weighted(functional.nll_loss, reduction="none"),
        constant=(2,),
    ),
    Row(
        "nll, ignore_index",
        logits_and_some_classes,
        lambda z, y: jaxloss.nll_with_integer_labels(z, y, where=y != -100),
        plain(functional.nll_loss),
    ),
    Row("cross-entropy", logits_and_classes, entropy, plain(functional.cross_entropy)),
    Row(
        "cross-entropy of pixels",
        images_and_classes,
        lambda z, y: entropy(z, y, axis=1),
        plain(functional.cross_entropy),
    ),
    Row(
        "cross-entropy, smoothing",
        logits_and_classes,
        lambda z, y: entropy(z, y, label_smoothing=0.1),
        plain(functional.cross_entropy, label_smoothing=0.1),
    ),
    Row(
        "cross-entropy, ignore_index",
        logits_and_some_classes,
        lambda z, y: entropy(z, y, where=y != -100),
        plain(functional.cross_entropy),
    ),
    Row(
        "cross-entropy, ignore_index, mean",
        logits_and_some_classes,
        lambda z, y: jaxloss.mean(entropy(z, y, where=y != -100), where=y != -100),
        functional.cross_entropy,
    ),
    Row(
        "cross-entropy, weight",
        and_weights(logits_and_classes),
        entropy,
        weighted(functional.cross_entropy, reduction="none"),
        constant=(2,),
    ),
    Row(
        "cross-entropy, weight, mean",
        and_weights(logits_and_classes),
        lambda z, y, w: jaxloss.mean(entropy(z, y), weights=w[y]),
        weighted(functional.cross_entropy),
        constant=(2,),
    ),
    Row(
        "cross-entropy, weight, smoothing, ignore_index, sum",
        and_weights(logits_and_some_classes),
        lambda z, y, w: jaxloss.sum(entropy(z, y, w, label_smoothing=0.1, where=y != -100)),
        weighted(functional.cross_entropy, label_smoothing=0.1, reduction="sum"),
        constant=(2,),
    ),
    Row(
        "cross-entropy, weight, smoothing, ignore_index, mean",
        and_weights(logits_and_some_classes),
        lambda z, y, w: weighted_mean(z, y, w, label_smoothing=0.1),
        weighted(functional.cross_entropy, label_smoothing=0.1),
        constant=(2,),
    ),
    Row("soft cross-entropy", logits_and_labels, jaxloss.softmax_cross_entropy, plain(functional.cross_entropy)),
    Row(
        "soft cross-entropy, weight, smoothing",
        logits_labels_and_weights,
        lambda z, y, w: jaxloss.softmax_cross_entropy(z, y, class_weights=w, label_smoothing=0.1),
        weighted(functional.cross_entropy, label_smoothing=0.1, reduction="none"),
    ),
    Row(
        "soft cross-entropy, weight, smoothing, mean",
        logits_labels_and_weights,
        lambda z, y, w: jnp.mean(jaxloss.softmax_cross_entropy(z, y, class_weights=w, label_smoothing=0.1)),
        weighted(functional.cross_entropy, label_smoothing=0.1),
    ),
]

# In bfloat16, torch rounds losses to bfloat16 and computes some in it.
TOLERANCE = {"bfloat16": 2e-2, "float32": 2e-6, "float64": 1e-14}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_values_and_gradients_are_the_same(row, dtype):
    with jax.enable_x64(dtype == "float64"):
        arguments = [
            jnp.asarray(x, dtype if x.dtype == np.float64 else None) for x in row.arguments(np.random.default_rng(7))
        ]
        varied = [i for i, x in enumerate(arguments) if jnp.issubdtype(x.dtype, jnp.floating) and i not in row.constant]

        def of_varied(*values):
            return row.ours(*(values[varied.index(i)] if i in varied else x for i, x in enumerate(arguments)))

        value, pullback = jax.vjp(jax.jit(of_varied), *(arguments[i] for i in varied))
        weights = jnp.asarray(np.random.default_rng(8).normal(size=value.shape), value.dtype)
        ours = value, *pullback(weights)

        tensors = [as_tensor(x) for x in arguments]
        for i in varied:
            tensors[i].requires_grad_()
        value = row.theirs(*tensors)
        gradients = torch.autograd.grad(value, [tensors[i] for i in varied], as_tensor(weights).to(value.dtype))
        for a, b in zip(ours, (value, *gradients), strict=True):
            assert_close(np.asarray(a, np.float64), b.detach().double().numpy(), TOLERANCE[dtype])


def as_tensor(x):
    if x.dtype == jnp.bfloat16:
        return torch.tensor(np.asarray(x, np.float32)).bfloat16()
    return torch.tensor(np.asarray(x).astype(np.int64) if jnp.issubdtype(x.dtype, jnp.integer) else np.asarray(x))


def assert_close(actual, expected, tolerance):
    """Close relative to the largest number of the array."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# --- Where they differ, and why -------------------------------------------------------------------------------------


class Difference(NamedTuple):
    """One input on which the two libraries differ on purpose. The input is a float32 number or array.

    The numbers are those of the loss, or of its gradient by the input.
    """

    what: str
    ours: Callable[[jax.Array], jax.Array]
    theirs: Callable[[torch.Tensor], torch.Tensor]
    at: Any
    true: Callable[[Any], Any]
    their_number: Any
    why: str
    gradient: bool = False


def sigmoid_entropy(label):
    return (
        lambda z: jaxloss.sigmoid_binary_cross_entropy(z, jnp.full_like(z, label)),
        lambda z: functional.binary_cross_entropy_with_logits(z, torch.full_like(z, label), reduction="none"),
    )


def entropy_of_probability(label):
    return (
        lambda p: jaxloss.binary_cross_entropy(p, jnp.full_like(p, label)),
        lambda p: functional.binary_cross_entropy(p, torch.full_like(p, label), reduction="none"),
    )


SOFT_MARGIN = (
    lambda f: jaxloss.sigmoid_binary_cross_entropy(f, jnp.ones_like(f)),
    lambda f: functional.soft_margin_loss(f, torch.ones_like(f), reduction="none"),
)


def integer_entropy(label=0, **options):
    return (
        lambda z: entropy(z, jnp.array(label), **options),
        lambda z: functional.cross_entropy(z, torch.tensor(label), **options),
    )


SOFT_ENTROPY = (
    lambda z: jaxloss.softmax_cross_entropy(z, jnp.zeros_like(z).at[0].set(1)),
    lambda z: functional.cross_entropy(z, functional.one_hot(torch.tensor(0), len(z)).to(z.dtype)),
)


def batch_entropy(labels):
    """The mean over a batch in which the label −100 is to be ignored."""
    where = np.asarray(labels) != -100
    return (
        lambda z: jaxloss.mean(entropy(z, jnp.asarray(labels), where=where), where=where),
        lambda z: functional.cross_entropy(z, torch.tensor(labels)),
    )


NO_WEIGHT = (
    lambda z: jaxloss.mean(entropy(z, jnp.array([0, 0])), weights=jnp.zeros(2)),
    lambda z: functional.cross_entropy(z, torch.tensor([0, 0]), weight=torch.tensor([0.0, 1.0])),
)


def true_entropy(z):
    return mpmath.log(mpmath.fsum(mpmath.exp(x - z[0]) for x in z))


def true_entropy_gradient(z):
    p = [1 / mpmath.fsum(mpmath.exp(other - own) for other in z) for own in z]
    return [p[0] - 1, *p[1:]]


INF, NAN = np.inf, np.nan

DIFFERENCES = [
    Difference(
        "sigmoid cross-entropy, no",
        *sigmoid_entropy(0.0),
        -20.0,
        lambda z: mpmath.log1p(mpmath.exp(z)),
        0.0,
        "lost in z + log(1 + e^−z)",
    ),
    Difference(
        "sigmoid cross-entropy, gradient, yes",
        *sigmoid_entropy(1.0),
        20.0,
        lambda z: -1 / (1 + mpmath.exp(z)),
        0.0,
        "lost in σ − 1",
        gradient=True,
    ),
    Difference("yes at inf", *sigmoid_entropy(1.0), INF, lambda z: 0, NAN, "0 · inf, for the no that has no part in it"),
    Difference(
        "soft margin",
        *SOFT_MARGIN,
        -100.0,
        lambda f: mpmath.log1p(mpmath.exp(-f)),
        INF,
        "e^100 overflows in float32",
    ),
    Difference(
        "soft margin gradient",
        *SOFT_MARGIN,
        -100.0,
        lambda f: -1 / (1 + mpmath.exp(f)),
        NAN,
        "inf / inf",
        gradient=True,
    ),
    Difference(
        "binary cross-entropy of an impossible yes",
        *entropy_of_probability(1.0),
        0.0,
        lambda p: INF,
        100.0,
        "log p is clipped at −100",
    ),
    Difference(
        "binary cross-entropy, gradient of an unlikely yes",
        *entropy_of_probability(1.0),
        1e-30,
        lambda p: -1 / p,
        -1e12,
        "p(1 − p) is clipped at 1e-12",
        gradient=True,
    ),
    Difference(
        "binary cross-entropy, gradient of a certain no",
        *entropy_of_probability(0.0),
        0.0,
        lambda p: 1 / (1 - p),
        0.0,
        "p(1 − p) is clipped, and p/1e-12 is 0 at p = 0",
        gradient=True,
    ),
    Difference(
        "smooth_l1, large beta",
        lambda r: jaxloss.smooth_l1_loss(r, jnp.zeros_like(r), beta=1e20),
        lambda r: functional.smooth_l1_loss(r, torch.zeros_like(r), beta=1e20),
        5e19,
        lambda r: r**2 / 2e20,
        INF,
        "r² overflows before it is divided",
    ),
    Difference("cross-entropy", *integer_entropy(), [20.0, 0.0, 0.0], true_entropy, 0.0, "lost in log(1 + 4e-9)"),
    Difference(
        "cross-entropy gradient",
        *integer_entropy(),
        [20.0, 0.0, 0.0],
        true_entropy_gradient,
        [0.0, 2.06e-9, 2.06e-9],
        "the label's is lost in p − 1: the gradient no longer sums to 0",
        gradient=True,
    ),
    Difference("soft cross-entropy", *SOFT_ENTROPY, [20.0, 0.0, 0.0], true_entropy, 0.0, "lost in log(1 + 4e-9)"),
    Difference(
        "soft cross-entropy, class masked by −inf",
        *SOFT_ENTROPY,
        [1.0, 2.0, -INF],
        lambda z: true_entropy(z[:2]),
        NAN,
        "0 · log 0 is 0",
    ),
    Difference(
        "smoothing, class masked by −inf",
        *integer_entropy(label_smoothing=0.5),
        [1.0, 2.0, -INF],
        lambda z: (true_entropy(z[:2]) * 3 + true_entropy(z[1::-1])) / 4,
        INF,
        "the label is spread over the classes that can occur",
    ),
    Difference(
        "cross-entropy of a certain class",
        *integer_entropy(),
        [INF, 2.0, 1.0],
        lambda z: 0,
        NAN,
        "the limit, as for [3e38, 2, 1], not inf − inf",
    ),
    Difference(
        "impossible class of no weight",
        lambda z: entropy(z, jnp.array(0), jnp.array([0.0, 1.0])),
        lambda z: functional.cross_entropy(z, torch.tensor(0), weight=torch.tensor([0.0, 1.0]), reduction="none"),
        [-INF, 2.0],
        lambda z: 0,
        NAN,
        "0 · inf",
    ),
    Difference(
        "mean, all ignored",
        *batch_entropy([-100, -100]),
        [[1.0, 2.0], [3.0, 4.0]],
        lambda z: 0,
        NAN,
        "0 / 0: a batch without labels must not end the training",
    ),
    Difference(
        "gradient of a mean, all of no weight",
        *NO_WEIGHT,
        [[1.0, 2.0], [3.0, 4.0]],
        lambda z: [[0, 0], [0, 0]],
        [[NAN, NAN], [NAN, NAN]],
        "0 / 0",
        gradient=True,
    ),
    Difference(
        "gradient of an ignored row that holds NaN",
        *batch_entropy([0, -100]),
        [[1.0, 2.0], [NAN, NAN]],
        lambda z: [true_entropy_gradient(z[0]), [0, 0]],
        [[-0.731, 0.731], [NAN, NAN]],
        "what is left out has no gradient",
        gradient=True,
    ),
]


def numbers(x):
    """Nested lists of float32 numbers as mpmath's."""
    return [numbers(v) for v in x] if x.ndim else mpmath.mpf(float(x))


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row.what)
def test_difference(row):
    x = np.asarray(row.at, np.float32)
    with mpmath.workdps(60):
        true = np.array(row.true(numbers(x)), object).astype(np.float64)
    ours = jax.jit(jax.grad(row.ours) if row.gradient else row.ours)(x)
    tensor = torch.tensor(x, requires_grad=row.gradient)
    theirs = row.theirs(tensor)
    if row.gradient:
        (theirs,) = torch.autograd.grad(theirs, tensor)
    np.testing.assert_allclose(ours, true, rtol=5e-7)  # 4 units in the last place
    message = f"torch has changed: is it still so? {row.why}"
    np.testing.assert_allclose(theirs.numpy(), row.their_number, rtol=0.02, err_msg=message)
    assert not np.allclose(theirs, true, rtol=0.02, atol=0, equal_nan=True), f"torch gives the same now: {row.why}"


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (jaxloss.squared_error, functional.mse_loss),
        (jaxloss.absolute_error, functional.l1_loss),
        (jaxloss.huber_loss, functional.huber_loss),
        (jaxloss.smooth_l1_loss, functional.smooth_l1_loss),
    ],
)
def test_a_column_against_a_row_is_an_error_and_not_a_matrix(ours, theirs):
    assert theirs(torch.ones(3, 1), torch.ones(3), reduction="none").shape == (3, 3)
    with pytest.raises(ValueError, match="targets must have the shape of predictions"):
        ours(jnp.ones((3, 1)), jnp.ones(3))
