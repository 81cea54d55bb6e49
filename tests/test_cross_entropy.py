"""What the cross-entropies promise beyond the contract: memory, masked classes, labels out of range, smoothing."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import checkify

import jaxloss

F32, BF16 = jnp.float32, jnp.bfloat16


def temporary_bytes(f: Any, *shapes: Any) -> int:
    return jax.jit(f).lower(*shapes).compile().memory_analysis().temp_size_in_bytes


def value_and_grad(loss: Any) -> Any:
    return jax.value_and_grad(lambda x, y: jnp.mean(loss(x, y)))


def test_memory_of_integer_cross_entropy() -> None:
    logits = jax.ShapeDtypeStruct((4096, 32000), BF16)
    labels = jax.ShapeDtypeStruct((4096,), jnp.int32)
    ours = temporary_bytes(value_and_grad(jaxloss.softmax_cross_entropy_with_integer_labels), logits, labels)
    theirs = temporary_bytes(value_and_grad(optax.softmax_cross_entropy_with_integer_labels), logits, labels)
    assert ours < 16e6
    assert theirs > 5e8  # 1,049 MB on jax 0.10, 524 on 0.11; if this fails, optax has mended it: say so in README


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_memory_of_the_options(dtype: Any) -> None:
    """Sums under a select, and of 16-bit numbers, are made without an array of the logits' size; those of a cap are not."""
    logits, labels = jax.ShapeDtypeStruct((2048, 8192), dtype), jax.ShapeDtypeStruct((2048,), jnp.int32)
    ours, soft = jaxloss.softmax_cross_entropy_with_integer_labels, jaxloss.softmax_cross_entropy
    weights, float32_logits = jnp.ones(8192), 2048 * 8192 * 4
    pairs = [
        (partial(ours, label_smoothing=0.1), labels),
        (soft, logits),
        (partial(soft, label_smoothing=0.1), logits),
        (partial(soft, class_weights=weights), logits),
    ]
    for loss, truth in pairs:
        assert temporary_bytes(value_and_grad(loss), logits, truth) < 0.1 * float32_logits
    assert temporary_bytes(lambda z, y: jnp.mean(ours(z, y)), logits, labels) < 0.1 * float32_logits

    def theirs(z: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(30 * jnp.tanh(z / 30), y)

    at_most = temporary_bytes(value_and_grad(theirs), logits, labels)
    assert temporary_bytes(value_and_grad(partial(ours, soft_cap=30.0)), logits, labels) < at_most


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_memory_of_the_softmax_focal_loss(dtype: Any) -> None:
    """Its sums, in two passes over the logits, store neither the exponentials nor their parts."""
    logits, labels = jax.ShapeDtypeStruct((2048, 8192), dtype), jax.ShapeDtypeStruct((2048,), jnp.int32)
    loss = jaxloss.softmax_focal_loss_with_integer_labels
    for f in (value_and_grad(loss), lambda z, y: jnp.mean(loss(z, y))):
        assert temporary_bytes(f, logits, labels) < 0.12 * 2048 * 8192 * 4


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize(
    "loss", [jaxloss.sigmoid_binary_cross_entropy, jaxloss.sigmoid_focal_loss, jaxloss.log_cosh, jaxloss.huber_loss]
)
def test_elementwise_losses_take_no_temporary_memory(loss: Any, dtype: Any) -> None:
    data = jax.ShapeDtypeStruct((10**7,), dtype)
    assert temporary_bytes(value_and_grad(loss), data, data) <= 1e5


@pytest.mark.sweep
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [4, 131, 400])
def test_a_masked_class_is_not_there(classes: int, smoothing: float) -> None:
    logits = jax.random.normal(jax.random.key(0), (3, classes))
    labels = jnp.arange(3)
    masked = jnp.concatenate([logits, jnp.full((3, 2), -jnp.inf)], axis=-1)

    def f(x: Any) -> Any:
        return jnp.sum(jaxloss.softmax_cross_entropy_with_integer_labels(x, labels, label_smoothing=smoothing))

    want, want_gradient = jax.value_and_grad(f)(logits)
    got, gradient = jax.value_and_grad(f)(masked)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(gradient[:, :classes], want_gradient, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(gradient[:, classes:], 0)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("classes", [5, 131, 1000])
def test_smoothing_beside_what_is_not_finite(classes: int, smoothing: float, dtype: Any) -> None:
    """A class of inf leaves nothing to the others, NaN is loud, and what cannot occur is not there."""
    even, tolerance = smoothing / classes, 1e-6 if dtype == F32 else 1e-2
    logits = jnp.zeros((3, classes), dtype).at[:, -1].set(jnp.asarray([jnp.inf, jnp.nan, -jnp.inf], dtype))
    labels = jnp.zeros(3, int)
    for loss, truth in (
        (jaxloss.softmax_cross_entropy_with_integer_labels, labels),
        (jaxloss.softmax_cross_entropy, jax.nn.one_hot(labels, classes)),
    ):
        losses = partial(loss, labels=truth, label_smoothing=jnp.float32(smoothing))
        gradient = jax.jit(jax.grad(lambda z, losses=losses: jnp.sum(losses(z))))(logits).astype(F32)
        np.testing.assert_allclose(losses(logits), [jnp.inf, jnp.nan, np.log(classes - 1)], rtol=1e-6)
        near = partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
        near(gradient[0, jnp.asarray([0, 1, -1])], [smoothing - 1 - even, -even, 1 - even])
        assert np.all(np.isnan(gradient[1]))
        near(gradient[2, 1:-1], (1 - smoothing) / (classes - 1))
        assert gradient[2, -1] == 0


def test_smoothed_targets_need_not_sum_to_1() -> None:
    """Weights of the classes, and labels of any sum: the gradient is p Σt − t."""
    keys = jax.random.split(jax.random.key(0), 3)
    logits, labels = jax.random.normal(keys[0], (2, 100)), jax.random.uniform(keys[1], (2, 100))
    weights = jax.random.uniform(keys[2], (100,))
    for w in (None, weights):
        loss = partial(jaxloss.softmax_cross_entropy, labels=labels, label_smoothing=0.3, class_weights=w)
        gradient = jax.grad(lambda z, loss=loss: jnp.sum(loss(z)))(logits)
        t = (1.0 if w is None else w) * (0.7 * labels + 0.3 / 100)
        want = jax.nn.softmax(logits) * jnp.sum(t, axis=-1, keepdims=True) - t
        np.testing.assert_allclose(gradient, want, rtol=1e-5, atol=1e-5)


@pytest.mark.sweep("257-<class 'jax.numpy.bfloat16'>")
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("classes", [1, 7, 64, 65, 257, 1009, 5000])
def test_any_number_of_classes(classes: int, dtype: Any) -> None:
    """Whole blocks, a prime number of classes, a single block."""
    logits = (3 * jax.random.normal(jax.random.key(1), (4, classes))).astype(dtype)
    labels = jnp.asarray([0, classes - 1, classes // 2, classes // 3])

    def ours(x: Any) -> Any:
        return jnp.sum(jaxloss.softmax_cross_entropy_with_integer_labels(x, labels))

    def soft(x: Any) -> Any:
        return jnp.sum(jaxloss.softmax_cross_entropy(x, jax.nn.one_hot(labels, classes)))

    def theirs(x: Any) -> Any:
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(x.astype(F32), labels))

    want, want_gradient = jax.value_and_grad(theirs)(logits)
    for f in (ours, soft):
        value, gradient = jax.value_and_grad(f)(logits)
        np.testing.assert_allclose(value, want, rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(gradient.astype(F32), want_gradient.astype(F32), rtol=1e-2, atol=2e-7)


# Softmax losses: the gradient of every class depends on the label.
COUPLED = [
    jaxloss.softmax_cross_entropy_with_integer_labels,
    jaxloss.softmax_focal_loss_with_integer_labels,
    jaxloss.generalized_cross_entropy,
]


@pytest.mark.sweep
@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize(
    "loss",
    [
        *COUPLED,
        jaxloss.categorical_cross_entropy_with_integer_labels,
        jaxloss.nll_with_integer_labels,
        jaxloss.multiclass_hinge_loss,
        jaxloss.multiclass_sparsemax_loss,
    ],
)
def test_a_label_out_of_range_is_loud(loss: Any, label: int) -> None:
    scores = jnp.asarray([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
    scores = jnp.log(scores) if loss is jaxloss.nll_with_integer_labels else scores
    labels = jnp.asarray([label, 0])
    losses = loss(scores, labels)
    assert np.isnan(losses[0])
    assert np.isfinite(losses[1])
    gradient = jax.grad(lambda x: loss(x, labels)[0])(scores)
    assert (np.all if loss in COUPLED else np.any)(np.isnan(gradient[0]))
    where = jnp.asarray([False, True])
    with jaxloss.debug_checks("checkify"):
        error, _ = checkify.checkify(jax.jit(loss))(scores, labels)
        of_the_kept, masked = checkify.checkify(lambda s, y: loss(s, y, where=where))(scores, labels)
    with pytest.raises(Exception, match="labels must be from 0 to 2 where they are not masked by `where`"):
        error.throw()
    of_the_kept.throw()
    assert masked[0] == 0


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int32, jnp.bool_], ids=lambda x: x.__name__)
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (jaxloss.sigmoid_binary_cross_entropy, {"pos_weight": 3.0, "label_smoothing": 0.1}),
        (jaxloss.sigmoid_focal_loss, {"gamma": 1.7, "alpha": 0.3}),
        (jaxloss.asymmetric_loss, {"gamma_negative": 3.0, "clip": 0.1}),
    ],
)
def test_hard_labels_of_any_dtype(loss: Any, options: Any, dtype: Any) -> None:
    logits = jnp.asarray([3.0, -2.0, 0.0, 60.0, -60.0, 1e-4, 5.0, -5.0, np.inf, -np.inf])
    labels = jnp.asarray([1, 0, 1, 1, 0, 0, 0, 1, 1, 0])
    values = {k: jnp.asarray(v) for k, v in options.items()}

    def total(x: Any, values: Any, labels: Any) -> Any:
        return jnp.sum(loss(x, labels, **values) * jnp.linspace(1, 2, x.size))

    both = jax.value_and_grad(total, argnums=(0, 1))
    want = jax.jit(both)(logits, values, labels.astype(F32))
    got = jax.jit(both)(logits, values, labels.astype(dtype))
    chex.assert_trees_all_close(got, want, rtol=2e-6, atol=1e-36)
    # at ±inf, the mixed derivatives by the options are infinite
    second = [jax.jit(jax.hessian(total, argnums=(0, 1)))(logits[:8], values, labels[:8].astype(d)) for d in (F32, dtype)]
    chex.assert_trees_all_close(second[1], second[0], rtol=1e-5, atol=1e-7)
    assert np.all(loss(logits, labels.astype(dtype), where=labels == 1)[np.asarray(labels) == 0] == 0)


def test_smooth_labels_is_optax() -> None:
    labels = jax.nn.one_hot(jnp.arange(3), 4)
    np.testing.assert_allclose(jaxloss.smooth_labels(labels, 0.1), optax.smooth_labels(labels, 0.1), rtol=1e-6)
    where = jnp.asarray([True, True, True, False])
    smoothed = jaxloss.smooth_labels(labels, 0.1, where=where)
    np.testing.assert_allclose(jnp.sum(smoothed, axis=-1), 1, rtol=1e-6)
    assert np.all(smoothed[:, 3] == 0)


def test_forward_mode_names_autodiff() -> None:
    with pytest.raises(TypeError) as caught:
        jax.jvp(jaxloss.log_cosh, (jnp.ones(3), jnp.zeros(3)), (jnp.ones(3), jnp.ones(3)))
    assert any("jaxloss.autodiff" in note for note in caught.value.__notes__)


def test_forward_mode_nests_under_autodiff() -> None:
    loss = jaxloss.autodiff(lambda r: jaxloss.log_cosh(r, jnp.zeros_like(r)))
    derivatives = [loss]
    for _ in range(3):
        derivatives.append(lambda r, f=derivatives[-1]: jax.jvp(f, (r,), (jnp.ones_like(r),))[1])
    r = jnp.array([-2.0, 0.0, 0.5])
    t = np.tanh(np.asarray(r, np.float64))
    for f, want in zip(
        derivatives, (np.log(np.cosh(np.asarray(r, np.float64))), t, 1 - t**2, -2 * t * (1 - t**2)), strict=True
    ):
        np.testing.assert_allclose(jax.jit(f)(r), want, rtol=1e-5)


def test_autodiff_reaches_into_compiled_functions() -> None:
    compiled = jax.jit(lambda r: jaxloss.log_cosh(r, jnp.zeros_like(r)))
    compiled(jnp.ones(3))
    _, slope = jax.jvp(jaxloss.autodiff(compiled), (jnp.ones(3),), (jnp.ones(3),))
    np.testing.assert_allclose(slope, np.tanh(1), rtol=1e-6)


def test_fenchel_young_of_logsumexp_is_cross_entropy() -> None:
    loss = jaxloss.make_fenchel_young_loss(jax.nn.logsumexp)
    scores, targets = jax.random.normal(jax.random.key(0), (3, 5)), jax.nn.one_hot(jnp.arange(3), 5)
    want = jaxloss.softmax_cross_entropy(scores, targets)
    np.testing.assert_allclose(loss(scores, targets), want, rtol=1e-5)
    where = jnp.asarray([True, False, True])
    assert loss(scores.at[1].set(jnp.nan), targets, where=where)[1] == 0


@pytest.mark.parametrize("loss", [jaxloss.sigmoid_binary_cross_entropy, partial(jaxloss.sigmoid_focal_loss, gamma=0.0)])
def test_a_label_beyond_1_by_rounding(loss: Any) -> None:
    """As an average of labels may be: the loss is linear in the label."""
    labels = jnp.array([1 + 2.0**-23, -1e-9, 1.3, -0.2], jnp.float32)
    for z in (2.0, -2.0, 30.0):
        want = np.logaddexp(0, z) - np.asarray(labels, np.float64) * z
        np.testing.assert_allclose(loss(jnp.full(4, z), labels), want, rtol=1e-6, atol=1e-6)
    certain = loss(jnp.array([jnp.inf, -jnp.inf, jnp.inf, -jnp.inf]), jnp.array([1.0, 0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(certain, [0, 0, np.inf, np.inf])


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "softmax_focal_loss"])
def test_one_weight_for_all_classes(name: str) -> None:
    z, labels = jnp.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]), jnp.array([0, 1])
    loss = getattr(jaxloss, f"{name}_with_integer_labels")
    value, slope = jax.value_and_grad(lambda w: jnp.sum(loss(z, labels, class_weights=w, label_smoothing=0.1)))(2.0)
    plain = jnp.sum(loss(z, labels, label_smoothing=0.1))
    np.testing.assert_allclose([value, slope], [2 * plain, plain], rtol=1e-6)


def test_masked_options_of_numpy_are_not_checked() -> None:
    """As those of jax.numpy; where nothing is masked, a bad one is an error."""
    logits, where = jnp.array([1.0, 2.0]), jnp.array([True, False])
    got = jaxloss.sigmoid_focal_loss(logits, jnp.ones(2), gamma=np.array([2.0, np.nan]), where=where)
    np.testing.assert_array_equal(got, [jaxloss.sigmoid_focal_loss(logits, jnp.ones(2), gamma=2.0)[0], 0])
    with pytest.raises(ValueError, match=r"gamma must be at least 0, got array"):
        jaxloss.sigmoid_focal_loss(logits, jnp.ones(2), gamma=np.array([2.0, -1.0]))
