"""Integers and booleans where they are the truth, integers as options, float8, and errors that name the way out."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, Case, rounded

import jaxloss

TRUTH = ("targets", "labels", "relevance")


def truth_of(case: Case) -> list[int]:
    """Which arguments are the truth, of those that are floating point in the case's row."""
    names = list(inspect.signature(case.loss).parameters)
    args = case.draw(np.random.default_rng(0))
    if case.loss is jaxloss.byol_loss:  # whose targets are embeddings, of another network
        return []
    return [i for i, x in enumerate(args) if names[i] in TRUTH and np.asarray(x).dtype.kind == "f"]


WITH_TRUTH = pytest.mark.parametrize("case", [case for case in CASES if truth_of(case)], ids=lambda case: case.name)


def drawn(case: Case) -> list[Any]:
    """The arguments, with a truth of zeros and ones."""
    args = [rounded(x, jnp.float32) for x in case.draw(np.random.default_rng(0))]
    for i in truth_of(case):
        args[i] = (args[i] > jnp.median(args[i])).astype(jnp.float32)
    return args


@WITH_TRUTH
@pytest.mark.sweep("poisson_nll", "gaussian_nll", "softmax_cross_entropy", "dice_loss")
def test_integers_and_booleans_are_truth(case: Case) -> None:
    """Value and gradient are those of the same numbers in float32; second derivatives and `autodiff` take them too."""
    args, at = drawn(case), truth_of(case)

    def first(*args: Any) -> Any:
        losses, pullback = jax.vjp(lambda x: case.loss(x, *args[1:]), args[0])
        return losses, *pullback(jnp.linspace(0.5, 2, losses.size).reshape(losses.shape))

    def others(*args: Any) -> Any:
        slope = jax.grad(lambda x: jnp.sum(case.loss(x, *args[1:], where=jnp.array(True))))
        curvature = jax.jvp(slope, (args[0],), (jnp.ones_like(args[0]),))
        return curvature, jax.grad(lambda x: jnp.sum(jaxloss.autodiff(case.loss)(x, *args[1:])))(args[0])

    def as_type(dtype: Any) -> list[Any]:
        return [x.astype(dtype) if i in at else x for i, x in enumerate(args)]

    def both(*args: Any) -> Any:
        return first(*(x.astype(jnp.float32) if i in at else x for i, x in enumerate(args))), first(*args)

    want, got = jax.jit(both)(*as_type(jnp.int32))
    for x, true in zip(got, want, strict=True):
        np.testing.assert_allclose(x, true, rtol=2e-6, atol=1e-6)
    shapes = jax.eval_shape(others, *as_type(jnp.bool_))
    assert [x.dtype for x in jax.tree.leaves(shapes)] == [jnp.float32] * 3
    losses, gradient = jax.eval_shape(first, *as_type(jnp.uint8))
    assert losses.dtype == gradient.dtype == jnp.float32


def test_integer_truth_keeps_large_counts() -> None:
    """Counts are not rounded to the 8 bits of a bfloat16 prediction."""
    rate, count = jnp.bfloat16(0.0), jnp.int32(1001)
    np.testing.assert_array_equal(jaxloss.poisson_nll(rate, count, full=False), 1.0)
    np.testing.assert_array_equal(jax.grad(jaxloss.squared_error)(jnp.float32(1.0), jnp.int32(1001)), -2000.0)
    assert jaxloss.squared_error(jnp.bfloat16(0.0), count) == 1001.0**2


def test_pixels_in_bytes() -> None:
    """A byte is a number from 0 to 255: nothing wraps."""
    near, far = jnp.full((1, 12, 12, 3), 250.0), jnp.full((1, 12, 12, 3), 5, jnp.uint8)
    np.testing.assert_array_equal(jaxloss.squared_error(near, far), 245.0**2)
    np.testing.assert_allclose(
        jaxloss.ssim_loss(near, far, data_range=255.0), jaxloss.ssim_loss(near, far.astype(jnp.float32), data_range=255.0)
    )


def test_one_hot_labels_in_integers() -> None:
    logits, labels = jnp.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]), jnp.array([[0, 1, 0], [1, 0, 0]])
    want = jaxloss.softmax_cross_entropy_with_integer_labels(logits, jnp.argmax(labels, -1))
    for one_hot in (labels, labels.astype(bool), labels.astype(jnp.uint8)):
        np.testing.assert_allclose(jaxloss.softmax_cross_entropy(logits, one_hot), want, rtol=1e-6)
        np.testing.assert_allclose(jaxloss.softmax_cross_entropy(logits.T, one_hot.T, axis=0), want, rtol=1e-6)
        smooth = jaxloss.smooth_labels(one_hot, 0.1)
        np.testing.assert_array_equal(smooth, jaxloss.smooth_labels(labels.astype(jnp.float32), 0.1))
    for loss in (jaxloss.generalized_cross_entropy, jaxloss.symmetric_cross_entropy, jaxloss.poly_loss_cross_entropy):
        np.testing.assert_allclose(loss(logits, labels), loss(logits, jnp.argmax(labels, -1)), rtol=1e-6)
    focal = jaxloss.softmax_focal_loss(logits, labels)
    np.testing.assert_allclose(
        focal, jaxloss.softmax_focal_loss_with_integer_labels(logits, jnp.argmax(labels, -1)), rtol=1e-6
    )


def test_mean_of_booleans_and_counts() -> None:
    is_top, where = jnp.array([True, False, True, True]), jnp.array([True, True, True, False])
    for right in (is_top, is_top.astype(jnp.int32), is_top.astype(jnp.uint8)):
        share = jaxloss.mean(right, where=where)
        assert share.dtype == jnp.float32
        np.testing.assert_allclose(share, 2 / 3, rtol=1e-7)
        assert jaxloss.sum(right) == 3
    assert jaxloss.mean(jnp.array([255, 255], jnp.uint8)) == 255  # and nothing wraps
    assert jaxloss.mean(jnp.array([1.0, 3.0]), weights=jnp.array([1, 3])) == 2.5


def of_float_options(case: Case) -> dict[str, Any]:
    """The options of a row that are floats, and those that are by default."""
    options = {p.name: p.default for p in inspect.signature(case.loss).parameters.values() if p.kind == p.KEYWORD_ONLY}
    for some in case.options:
        options |= some
    return {k: v for k, v in options.items() if np.asarray(v).dtype.kind == "f"}


@pytest.mark.parametrize("case", [case for case in CASES if of_float_options(case)], ids=lambda case: case.name)
@pytest.mark.sweep("huber_loss", "sigmoid_focal_loss", "linear_softmax_cross_entropy")
def test_integer_options_are_numbers(case: Case) -> None:
    args = [rounded(x, jnp.float32) for x in case.draw(np.random.default_rng(0))]
    plain = ("norm_degree",)  # what the code depends on
    options = {k: jnp.ones(np.shape(v), jnp.int32) for k, v in of_float_options(case).items() if k not in plain}
    traced = jax.eval_shape(lambda *args, **options: case.loss(*args, **options), *args, **options)
    assert traced.dtype == jnp.float32


def test_an_integer_option_has_the_value_of_the_number() -> None:
    p, y = jnp.array([0.25, 4.0, -3.0]), jnp.array([1.0, 0.0, 1.0])
    two, one = jnp.int32(2), jnp.int32(1)
    for loss, options in [
        (jaxloss.huber_loss, {"delta": two}),
        (jaxloss.sigmoid_focal_loss, {"gamma": two, "alpha": one}),
        (jaxloss.softmax_focal_loss, {"gamma": two, "class_weights": jnp.array([1, 2, 3])}),
        (jaxloss.softmax_cross_entropy, {"label_smoothing": one, "z_loss": two, "soft_cap": two}),
        (jaxloss.robust_loss, {"alpha": one, "scale": two}),
    ]:
        want = loss(p, y, **{k: v.astype(jnp.float32) for k, v in options.items()})
        np.testing.assert_array_equal(loss(p, y, **options), want)
        np.testing.assert_allclose(jax.jit(loss)(p, y, **options), want, rtol=1e-6)
        slope = jax.grad(lambda p, loss=loss, options=options: jnp.sum(loss(p, y, **options)))(p)
        assert np.all(np.isfinite(slope))
    for scale in (2, two, np.int64(2), np.full(3, 2)):
        np.testing.assert_array_equal(jaxloss.laplace_nll(p, y, scale), jaxloss.laplace_nll(p, y, 2.0))
    large = jaxloss.huber_loss(jnp.bfloat16(4096.0), jnp.bfloat16(0.0), delta=jnp.int32(1001))
    assert large == 1001 * (4096 - 1001 / 2)  # not rounded to the dtype of the data
    with pytest.raises(TypeError, match="delta must be floating point, got bool"):
        jaxloss.huber_loss(p, y, delta=jnp.array(True))


def test_an_option_in_a_small_type_of_numpy() -> None:
    p = jnp.array([0.25, 4.0, -3.0])
    for dtype in (jnp.bfloat16, jnp.float8_e4m3fn):
        np.testing.assert_array_equal(
            jaxloss.huber_loss(p, 0 * p, delta=np.asarray(2, dtype)), jaxloss.huber_loss(p, 0 * p, delta=2)
        )


def test_labels_of_the_other_kind_name_the_loss_to_take() -> None:
    logits, indices, one_hot = jnp.zeros((2, 3)), jnp.array([0, 2]), jnp.eye(3)[:2]
    for soft, hard in [
        ("softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels"),
        ("softmax_focal_loss", "softmax_focal_loss_with_integer_labels"),
        ("categorical_cross_entropy", "categorical_cross_entropy_with_integer_labels"),
        ("kl_divergence", "nll_with_integer_labels"),
    ]:
        for labels in (indices, indices[:, None]):
            with pytest.raises(ValueError, match=rf"got \(2,.*; for class indices take jaxloss.{hard}"):
                getattr(jaxloss, soft)(logits, labels)
        with pytest.raises(
            TypeError, match=f"labels must be integers, got float32 .*; for probabilities take jaxloss.{soft}"
        ):
            getattr(jaxloss, hard)(logits, one_hot)
        with pytest.raises(ValueError, match=f"without its class axis, .*; for probabilities take jaxloss.{soft}"):
            getattr(jaxloss, hard)(logits, one_hot.astype(int))
    with pytest.raises(ValueError, match=r"got \(2, 3\); jnp.argmax makes class indices of one-hot labels"):
        jaxloss.multiclass_hinge_loss(logits, one_hot.astype(int))


def test_a_turned_weight_names_vocab_first() -> None:
    hidden, labels = jnp.zeros((2, 3)), jnp.array([0, 1])
    with pytest.raises(ValueError, match=r"weight must be \[D, V\] .*got \(5, 3\); with vocab_first=True it is \[V, D\]"):
        jaxloss.linear_softmax_cross_entropy(hidden, jnp.zeros((5, 3)), labels)
    with pytest.raises(ValueError, match=r"weight must be \[V, D\] .*got \(3, 5\); with vocab_first=False it is \[D, V\]"):
        jaxloss.linear_softmax_cross_entropy(hidden, jnp.zeros((3, 5)), labels, vocab_first=True)
    with pytest.raises(ValueError, match=r"got \(4, 5\)$"):
        jaxloss.linear_softmax_cross_entropy(hidden, jnp.zeros((4, 5)), labels)
