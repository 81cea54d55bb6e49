"""jaxloss beside optax.losses: where they agree, which is on ordinary inputs, and where they differ, and why."""

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax.losses
import pytest

import jaxloss

LIBRARIES = jaxloss, optax.losses
SHARED = sorted(name for name in jaxloss.__all__ if hasattr(optax.losses, name))


# --- Where they agree -----------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A loss that both libraries have, and what it is called with."""

    name: str
    arguments: Callable[[np.random.Generator], tuple[Any, ...]]
    options: Mapping[str, Any] = types.MappingProxyType({})
    get: Callable[[Any], Callable[..., Any]] = lambda loss: loss


def two_arrays(rng):
    return 2 * rng.normal(size=(8, 9)), rng.normal(size=(8, 9))


def scores_and_signs(rng):
    return 2 * rng.normal(size=(8, 9)), rng.choice([-1.0, 1.0], size=(8, 9))


def logits_and_hard_labels(rng):
    return 3 * rng.normal(size=(8, 9)), rng.integers(0, 2, size=(8, 9))


def logits_and_soft_labels(rng):
    return 3 * rng.normal(size=(8, 9)), rng.uniform(0.05, 0.95, size=(8, 9))


def rows_and_classes(rng):
    return 3 * rng.normal(size=(8, 9)), rng.integers(0, 9, size=8)


def rows_and_weights(rng):
    """Labels that don't sum to 1."""
    return 3 * rng.normal(size=(8, 9)), rng.uniform(size=(8, 9))


def only_weights(rng):
    return (rng.uniform(size=(8, 9)),)


def images_and_classes(rng):
    return 3 * rng.normal(size=(2, 5, 3)), rng.integers(0, 5, size=(2, 3))


def images_and_weights(rng):
    return 3 * rng.normal(size=(2, 5, 3)), rng.uniform(size=(2, 5, 3))


def three_arrays(rng):
    return tuple(rng.normal(size=(3, 8, 9)))


def log_probabilities_and_targets(rng):
    p, y = rng.dirichlet(np.ones(9), size=8), rng.dirichlet(np.ones(9), size=8)
    return np.log(p), y


def two_log_probabilities(rng):
    p, y = log_probabilities_and_targets(rng)
    return p, np.log(y)


def embeddings_in_pairs(rng):
    return rng.normal(size=(8, 9)), np.arange(8) // 2


def images_and_masks(rng):
    return 3 * rng.normal(size=(2, 4, 5, 3)), rng.uniform(size=(2, 4, 5, 3))


def frames_and_labels(rng):
    frames, labels = np.arange(7) >= np.array([[7], [6]]), np.arange(2) >= np.array([[2], [1]])
    return rng.normal(size=(2, 7, 4)), frames, rng.integers(1, 4, size=(2, 2)), labels


def mean_of(loss):
    """optax takes this mean itself."""
    return lambda *arguments, **options: jnp.mean(loss(*arguments, **options))


SOME = np.arange(8) % 3 != 0

ROWS = [
    Row("cosine_similarity", two_arrays),
    Row("cosine_similarity", two_arrays, {"axis": (0, 1), "epsilon": 1e3}),
    Row("cosine_distance", two_arrays),
    Row("cosine_distance", two_arrays, {"axis": 0, "epsilon": 10.0}),
    Row("triplet_margin_loss", three_arrays, {"eps": 1e-6}),
    Row("triplet_margin_loss", three_arrays, {"eps": 0.5, "margin": 0.1, "axis": 0, "norm_degree": 4}),
    Row("squared_error", two_arrays),
    Row("l2_loss", two_arrays),
    Row("huber_loss", two_arrays),
    Row("huber_loss", two_arrays, {"delta": 0.75}),
    Row("log_cosh", two_arrays),
    Row("softmax_cross_entropy", rows_and_weights),
    Row("softmax_cross_entropy", images_and_weights, {"axis": 1}),
    Row("softmax_cross_entropy_with_integer_labels", rows_and_classes),
    Row("softmax_cross_entropy_with_integer_labels", rows_and_classes, {"where": SOME}),
    Row("softmax_cross_entropy_with_integer_labels", images_and_classes, {"axis": 1}),
    Row("sigmoid_binary_cross_entropy", logits_and_hard_labels),
    Row("sigmoid_binary_cross_entropy", logits_and_soft_labels),
    Row("sigmoid_focal_loss", logits_and_hard_labels),
    Row("sigmoid_focal_loss", logits_and_soft_labels, {"alpha": 0.25, "gamma": 1.5}),
    Row("poly_loss_cross_entropy", rows_and_weights),
    Row("poly_loss_cross_entropy", rows_and_weights, {"epsilon": -1.0}),
    Row("poly_loss_cross_entropy", images_and_weights, {"axis": 1}),
    Row("smooth_labels", only_weights, {"alpha": 0.125}),
    Row("smooth_labels", only_weights, {"alpha": 0.125, "axis": 0}),
    Row("hinge_loss", scores_and_signs),
    Row("perceptron_loss", scores_and_signs),
    Row("multiclass_hinge_loss", rows_and_classes),
    Row("multiclass_perceptron_loss", rows_and_classes),
    Row("sparsemax_loss", logits_and_hard_labels),
    Row("multiclass_sparsemax_loss", rows_and_classes),
    Row("kl_divergence", log_probabilities_and_targets),
    Row("kl_divergence", log_probabilities_and_targets, {"axis": 0}),
    Row("kl_divergence_with_log_targets", two_log_probabilities),
    Row("generalized_kl_divergence", log_probabilities_and_targets),
    Row("ntxent", embeddings_in_pairs, get=mean_of),
    Row("ranking_softmax_loss", rows_and_weights, get=mean_of),
    # optax's s counts twice
    Row("dice_loss", images_and_masks, get=lambda loss: lambda p, t: jnp.mean(loss(p, t, smooth=0.0))),
    Row("ctc_loss", frames_and_labels),
    Row("ctc_loss_with_forward_probs", frames_and_labels, get=lambda loss: lambda *arguments: loss(*arguments)[0]),
    Row("make_fenchel_young_loss", rows_and_weights, get=lambda make: make(jax.nn.logsumexp)),
]

# In bfloat16, optax computes in bfloat16: it is off by a unit in the last place, 2^-8, of the larger intermediate.
TOLERANCE = {"bfloat16": 2e-2, "float32": 2e-6, "float64": 1e-14}


# optax has no gradient of the multi-class sparsemax loss in bfloat16: its projection raises.
# And its Dice loss sums the pixels in bfloat16.
NOT_IN_BFLOAT16 = {"multiclass_sparsemax_loss", "dice_loss"}
PAIRS = [(row, dtype) for row in ROWS for dtype in TOLERANCE if dtype != "bfloat16" or row.name not in NOT_IN_BFLOAT16]


def pair_id(x):
    return x if isinstance(x, str) else "-".join([x.name, x.arguments.__name__, *x.options])


@pytest.mark.sweep
@pytest.mark.parametrize(("row", "dtype"), PAIRS, ids=pair_id)
def test_values_and_gradients_are_the_same(row, dtype):
    with jax.enable_x64(dtype == "float64"):
        arguments = {f"argument {i}": x for i, x in enumerate(row.arguments(np.random.default_rng(7)))}
        arguments |= row.options
        floats = {name: jnp.asarray(x, dtype) for name, x in arguments.items() if np.asarray(x).dtype == np.float64}
        if dtype == "bfloat16":  # optax would sum the gradient of a scalar option in bfloat16
            floats = {name: x for name, x in floats.items() if name not in row.options}

        def value_and_gradients(library, floats):
            loss = row.get(getattr(library, row.name))

            def of_floats(floats):
                values = arguments | floats
                options = {name: values.pop(name) for name in row.options}
                return loss(*values.values(), **options)

            value, pullback = jax.vjp(of_floats, floats)
            weights = np.random.default_rng(8).normal(size=value.shape)
            return value, *pullback(jnp.asarray(weights, value.dtype))

        ours, theirs = jax.jit(lambda x: [value_and_gradients(library, x) for library in LIBRARIES])(floats)
        jax.tree.map(lambda a, b: assert_close(a, b, TOLERANCE[dtype]), ours, theirs)


def assert_close(actual, expected, tolerance):
    """Close relative to the largest number of the array."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_every_shared_loss_has_a_row():
    assert sorted({row.name for row in ROWS}) == SHARED


# The parameters of optax that have another default here, or are not there, and why.
NOT_THEIRS = {
    "triplet_margin_loss": {"eps"},  # of a distance, which needs none to have a gradient at 0
    "ctc_loss": {"log_epsilon"},  # a stand-in for the logarithm of 0, which is −inf here
    "ctc_loss_with_forward_probs": {"log_epsilon"},
    "ranking_softmax_loss": {"reduce_fn"},  # reducing is the caller's
    # tversky_loss weighs mistakes; reducing, leaving out and weighing classes are the caller's
    "dice_loss": {"alpha", "beta", "apply_softmax", "axis", "reduction", "class_weights", "ignore_background"},
}


@pytest.mark.parametrize("name", SHARED)
def test_names_and_defaults_of_parameters_are_the_same(name):
    ours, theirs = (inspect.signature(getattr(library, name)).parameters for library in LIBRARIES)
    # What optax may go without is required here: a residual is made of two arrays.
    kept = set(theirs) - NOT_THEIRS.get(name, set())
    assert kept <= set(ours)
    defaults = {parameter: theirs[parameter].default for parameter in kept - {"targets"}}
    assert {parameter: ours[parameter].default for parameter in defaults} == defaults


# --- Where they differ, and why -------------------------------------------------------------------------------------


class Difference(NamedTuple):
    """One input on which the two libraries differ on purpose. The input is a float32 number or array."""

    what: str
    compute: Callable[[Any, jax.Array], jax.Array]
    at: float | list[float]
    true: Callable[[Any], Any]
    theirs: float | list[float]
    why: str
    jit: bool = True


def huber(losses, r, **options):
    return losses.huber_loss(r, jnp.zeros_like(r), **options)


def log_cosh(losses, r):
    return losses.log_cosh(r, jnp.zeros_like(r))


def integer_entropy(losses, z, label=0):
    return losses.softmax_cross_entropy_with_integer_labels(z, jnp.array(label))


def first(z):
    return jnp.zeros_like(z).at[0].set(1)


def soft_entropy(losses, z):
    return losses.softmax_cross_entropy(z, first(z))


def poly(losses, z):
    return losses.poly_loss_cross_entropy(z, first(z))


def entropy_of_yes(losses, z):
    return losses.sigmoid_binary_cross_entropy(z, jnp.ones_like(z))


def focal_of_yes(losses, z, **options):
    return losses.sigmoid_focal_loss(z, jnp.ones_like(z), **options)


def gradient(function, order=1):
    """The derivative of compute(losses, x) by x."""
    for _ in range(order):
        function = (lambda inner: lambda losses, x: jax.grad(lambda x: inner(losses, x))(x))(function)
    return function


# The true values, for mpmath numbers.


def softmax(z):
    return [1 / mpmath.fsum(mpmath.exp(other - own) for other in z) for own in z]


def true_entropy(z):
    return -mpmath.log(softmax(z)[0])


def true_entropy_gradient(z):
    first, *others = softmax(z)
    return [first - 1, *others]


def true_poly(z):
    return true_entropy(z) + 2 * (1 - softmax(z)[0])


def true_poly_gradient(z):
    p = softmax(z)[0]
    return [(1 + 2 * p) * x for x in true_entropy_gradient(z)]


def true_focal_label_slope(y):
    """By the label, for a logit of 1 and γ = 2."""
    p = 1 / (1 + mpmath.exp(-1))
    mistake, entropy = y * (1 - p) + (1 - y) * p, -y * mpmath.log(p) - (1 - y) * mpmath.log(1 - p)
    return 2 * mistake * (1 - 2 * p) * entropy - mistake**2


def true_sparsemax(z):
    """For a label 0 that leads the second by less than 1, and all others by more."""
    return (1 - (z[0] - z[1])) ** 2 / 4


def cosine(losses, p):
    return losses.cosine_similarity(p, jnp.array([1.0, 0.0], p.dtype))


def triplet(losses, p, **options):
    return losses.triplet_margin_loss(jnp.zeros_like(p), p, jnp.zeros_like(p), margin=1.0, **options)


INF, NAN = np.inf, np.nan

DIFFERENCES = [
    Difference("huber gradient", gradient(huber), 1e-8, lambda r: r, 0.0, "r is lost in 1 − (1 − r)"),
    Difference(
        "huber gradient, delta 1000",
        gradient(lambda losses, r: huber(losses, r, delta=1e3)),
        1e-5,
        lambda r: r,
        0.0,
        "r is lost in δ − (δ − r)",
    ),
    Difference(
        "l2",
        lambda losses, r: losses.l2_loss(r, jnp.zeros_like(r)),
        2e19,
        lambda r: r**2 / 2,
        INF,
        "r² overflows before it is halved",
    ),
    Difference("log_cosh", log_cosh, 1e-4, lambda r: mpmath.log(mpmath.cosh(r)), 0.0, "lost in log 2 − log 2"),
    Difference("log_cosh below 0", log_cosh, 3e-5, lambda r: mpmath.log(mpmath.cosh(r)), -6e-8, "log 2 − log 2"),
    Difference("log_cosh gradient", gradient(log_cosh), 1e-8, mpmath.tanh, 0.0, "lost in p − q of nearly equal p, q"),
    Difference(
        "log_cosh second derivative",
        gradient(log_cosh, 2),
        10.0,
        lambda r: mpmath.sech(r) ** 2,
        4.12e-9,
        "half of it is lost in 1 − tanh²",
    ),
    Difference("cross-entropy", integer_entropy, [20.0, 0.0, 0.0], true_entropy, 0.0, "lost in log(1 + 4e-9)"),
    Difference(
        "cross-entropy gradient",
        gradient(integer_entropy),
        [20.0, 0.0, 0.0],
        true_entropy_gradient,
        [0.0, 2.06e-9, 2.06e-9],
        "the label's is lost in p − 1: the gradient no longer sums to 0",
    ),
    Difference("soft cross-entropy", soft_entropy, [20.0, 0.0, 0.0], true_entropy, 0.0, "lost in log(1 + 4e-9)"),
    Difference(
        "soft cross-entropy gradient",
        gradient(soft_entropy),
        [20.0, 0.0, 0.0],
        true_entropy_gradient,
        [0.0, 2.06e-9, 2.06e-9],
        "the label's is lost in p − 1",
    ),
    Difference(
        "soft cross-entropy, class masked by −inf",
        soft_entropy,
        [1.0, 2.0, -INF],
        lambda z: true_entropy(z[:2]),
        NAN,
        "0 · log 0 is 0",
    ),
    Difference(
        "soft cross-entropy, gradient by the labels of a masked row",
        gradient(lambda losses, y: losses.softmax_cross_entropy(jnp.zeros(2), y, where=jnp.array(False))),
        [1.0, 0.0],
        lambda z: [0, 0],
        [NAN, NAN],
        "0 · inf",
    ),
    Difference(
        "cross-entropy of a certain class",
        integer_entropy,
        [INF, 2.0, 1.0],
        lambda z: 0,
        NAN,
        "the limit, as for [3e38, 2, 1], not inf − inf",
    ),
    Difference(
        "gradient of a certain class",
        gradient(integer_entropy),
        [INF, 2.0, 1.0],
        lambda z: [0, 0, 0],
        [NAN, 0.0, 0.0],
        "the limit",
    ),
    Difference(
        "label −1",
        lambda losses, z: integer_entropy(losses, z, -1),
        [1.0, 2.0, 3.0],
        lambda z: NAN,
        0.408,
        "a label out of range is loud, not the last class",
    ),
    Difference(
        "gradient at label −1",
        gradient(lambda losses, z: integer_entropy(losses, z, -1)),
        [1.0, 2.0, 3.0],
        lambda z: [NAN] * 3,
        [0.09, 0.245, -0.335],
        "a label out of range is loud, not the last class",
    ),
    Difference(
        "cross-entropy in bfloat16",
        lambda losses, z: integer_entropy(losses, z.astype(jnp.bfloat16)),
        [6.0, 0.0, 0.0],
        true_entropy,
        0.0,
        "computed in float32, not where 6 + 0.005 is 6",
    ),
    Difference("yes at inf", entropy_of_yes, INF, lambda z: 0, NAN, "0 · inf, for the no that has no part in it"),
    Difference(
        "no at −inf",
        lambda losses, z: losses.sigmoid_binary_cross_entropy(z, jnp.zeros_like(z)),
        -INF,
        lambda z: 0,
        NAN,
        "0 · inf, for the yes that has no part in it",
    ),
    Difference(
        "sigmoid cross-entropy, second derivative",
        gradient(entropy_of_yes, 2),
        -20.0,
        lambda z: mpmath.sech(z / 2) ** 2 / 4,
        0.0,
        "lost in σ(1 − σ)",
    ),
    Difference("focal at inf", focal_of_yes, INF, lambda z: 0, NAN, "0 · inf"),
    Difference("focal gradient at inf", gradient(focal_of_yes), INF, lambda z: 0, NAN, "0 · inf"),
    Difference("focal gradient at −inf", gradient(focal_of_yes), -INF, lambda z: -1, NAN, "a mistake keeps its pull"),
    Difference(
        "focal gradient by a hard label",
        gradient(lambda losses, y: losses.sigmoid_focal_loss(jnp.ones_like(y), y)),
        1.0,
        true_focal_label_slope,
        -0.027,
        "the part through (1 − p_t)^γ has another value",
    ),
    Difference("poly loss", poly, [20.0, 0.0, 0.0], true_poly, 0.0, "lost in log(1 + 4e-9) and in 1 − p"),
    Difference(
        "poly loss gradient",
        gradient(poly),
        [20.0, 0.0, 0.0],
        true_poly_gradient,
        [0.0, 6.18e-9, 6.18e-9],
        "the label's is lost in p − 1",
    ),
    Difference(
        "poly loss, class masked by −inf",
        poly,
        [1.0, 2.0, -INF],
        lambda z: true_poly(z[:2]),
        NAN,
        "0 · log 0 is 0",
    ),
    Difference(
        "smooth_labels of two classes and one left out",
        lambda losses, y: losses.smooth_labels(y, 0.5, where=jnp.array([True, True, False])),
        [1.0, 0.0, 0.0],
        lambda y: [0.75, 0.25, 0],
        [0.75, 0.25, 0.25],
        "a class that is left out gets no share: the labels keep summing to 1",
    ),
    Difference(
        "multiclass hinge, class masked by −inf",
        lambda losses, z: losses.multiclass_hinge_loss(z, jnp.array(0)),
        [5.0, 1.0, -INF],
        lambda z: 0,
        NAN,
        "0 · inf in the product with a one-hot label, which the compiler would remove",
        jit=False,
    ),
    Difference(
        "multiclass perceptron, class masked by −inf",
        lambda losses, z: losses.multiclass_perceptron_loss(z, jnp.array(0)),
        [5.0, 1.0, -INF],
        lambda z: 0,
        NAN,
        "0 · inf in the product with a one-hot label, which the compiler would remove",
        jit=False,
    ),
    Difference(
        "multiclass sparsemax",
        lambda losses, z: losses.multiclass_sparsemax_loss(z[None], jnp.array([0]))[0],
        [1.0, 2.0**-13, -1.0],
        true_sparsemax,
        7.45e-9,
        "1 − ‖p‖² cancels",
    ),
    # At a kink every slope between those of the two sides is a valid one. Ours is 0, that of no loss, but where
    # training starts: there it is that of the loss.
    Difference(
        "hinge gradient at the kink",
        gradient(lambda losses, f: losses.hinge_loss(f, jnp.ones_like(f))),
        1.0,
        lambda f: 0,
        -0.5,
        "the choice at a kink",
    ),
    Difference(
        "perceptron gradient at the kink",
        gradient(lambda losses, f: losses.perceptron_loss(f, jnp.ones_like(f))),
        0.0,
        lambda f: -1,
        -0.5,
        "the choice at a kink",
    ),
    Difference(
        "multiclass hinge gradient at the kink",
        gradient(lambda losses, z: losses.multiclass_hinge_loss(z, jnp.array(0))),
        [2.0, 1.0, 0.0],
        lambda z: [0, 0, 0],
        [-0.5, 0.5, 0.0],
        "the choice at a kink",
    ),
    Difference(
        "multiclass perceptron gradient at the kink",
        gradient(lambda losses, z: losses.multiclass_perceptron_loss(z, jnp.array(0))),
        [1.0, 1.0, 0.0],
        lambda z: [-1, 1, 0],
        [-0.5, 0.5, 0.0],
        "the choice at a kink",
    ),
    Difference("cosine of a huge vector", cosine, [3e20, 4e20], lambda p: 0.6, 0.0, "its square is inf"),
    Difference("cosine of a tiny vector", cosine, [3e-25, 4e-25], lambda p: 0.6, NAN, "its square is 0"),
    Difference("cosine of no vector", cosine, [0.0, 0.0], lambda p: 0, NAN, "0 / 0: it has no direction, 0 stands for it"),
    Difference("cosine gradient of no vector", gradient(cosine), [0.0, 0.0], lambda p: [0, 0], [NAN, NAN], "0 / 0"),
    Difference(
        "cosine distance of nearly parallel vectors",
        lambda losses, p: losses.cosine_distance(p, jnp.array([1.0, 0.0], p.dtype)),
        [1.0, 2e-4],
        lambda p: 1 - 1 / mpmath.sqrt(1 + p[1] ** 2),
        0.0,
        "lost in 1 − 1",
    ),
    Difference(
        "triplet, degree 1",
        lambda losses, p: triplet(losses, p, norm_degree=1),
        [0.25, 0.25],
        lambda p: 1.5,
        0.5,
        "a sum of differences, not of their sizes",
    ),
    Difference(
        "triplet, degree 1.5",
        lambda losses, p: triplet(losses, p, norm_degree=1.5),
        [1.0, -1.0],
        lambda p: 1 + mpmath.mpf(2) ** (2 / mpmath.mpf(3)),
        NAN,
        "powers of differences, not of their sizes; the pair of equal vectors adds 1e-4 to both",
    ),
    Difference(
        "triplet, degree 3",
        lambda losses, p: triplet(losses, p, norm_degree=3),
        [1.0, -1.0],
        lambda p: 1 + mpmath.cbrt(2),
        1.0,
        "the cubes cancel",
    ),
    Difference(
        "triplet gradient of close vectors",
        gradient(triplet),
        [0.0, 3e-4],
        lambda p: [0, 1],
        [0.0, 0.287],
        "ε rounds the distance off",
    ),
]


@pytest.mark.sweep
@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row.what)
def test_difference(row):
    x = np.asarray(row.at, np.float32)
    with mpmath.workdps(60):
        true = row.true([mpmath.mpf(float(v)) for v in x] if x.ndim else mpmath.mpf(float(x)))
        true = np.array([float(v) for v in true] if x.ndim and isinstance(true, list) else float(true))
    with jax.disable_jit(not row.jit):
        ours, theirs = jax.jit(lambda x: [row.compute(library, x) for library in LIBRARIES])(x)
    np.testing.assert_allclose(ours, true, rtol=5e-7)  # 4 units in the last place
    np.testing.assert_allclose(theirs, row.theirs, rtol=0.02, err_msg=f"optax has changed: is it still so? {row.why}")
    assert not np.allclose(theirs, true, rtol=0.02, atol=0, equal_nan=True), f"optax gives the same now: {row.why}"


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["huber_loss", "log_cosh", "sigmoid_binary_cross_entropy", "hinge_loss"])
def test_a_column_against_a_row_is_an_error_and_not_a_matrix(name):
    column_and_row = jnp.ones((3, 1)), jnp.ones(3)
    assert getattr(optax.losses, name)(*column_and_row).shape == (3, 3)
    with pytest.raises(ValueError, match="must have the shape of"):
        getattr(jaxloss, name)(*column_and_row)


@pytest.mark.sweep
@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_multiclass_sparsemax_takes_any_rank(batch):
    scores, labels = jnp.ones((*batch, 3)), jnp.zeros(batch, int)
    with pytest.raises((ValueError, TypeError)):
        optax.losses.multiclass_sparsemax_loss(scores, labels)
    np.testing.assert_allclose(jaxloss.multiclass_sparsemax_loss(scores, labels), np.full(batch, 1 / 3), rtol=2e-7)
