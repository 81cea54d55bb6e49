"""float8: a loss and its gradient are those of the same numbers in float32."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, Case, rounded

import jaxloss

FLOAT8 = [
    jnp.float8_e3m4,
    jnp.float8_e4m3,
    jnp.float8_e4m3b11fnuz,
    jnp.float8_e4m3fn,
    jnp.float8_e4m3fnuz,
    jnp.float8_e5m2,
    jnp.float8_e5m2fnuz,
]
# Types of scales and of quantised weights, which cannot hold a gradient.
REFUSED = [jnp.float8_e8m0fnu, jnp.float4_e2m1fn]
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def first_derivatives(case: Case) -> Any:
    def first(*args: Any) -> Any:
        losses, pullback = jax.vjp(lambda x: case.loss(x, *args[1:]), args[0])
        return losses, *pullback(jnp.linspace(0.5, 2, losses.size, dtype=losses.dtype).reshape(losses.shape))

    return first


@EVERY
@pytest.mark.sweep("huber_loss", "softmax_cross_entropy_with_integer_labels", "clip_loss", "ctc_loss")
def test_float8(case: Case) -> None:
    """One program for all types: the gradient in float32 is what JAX rounds."""
    first = first_derivatives(case)
    given = [rounded(x, jnp.float32) for x in case.draw(np.random.default_rng(0))]

    def of_type(dtype: Any) -> list[Any]:
        return [x.astype(dtype) if x.dtype == jnp.float32 else x for x in given]

    def both(*args: Any) -> Any:
        return first(*args), first(*(x.astype(jnp.float32) if x.dtype == jnp.float8_e4m3fn else x for x in args))

    (losses, gradient), (want, true) = jax.jit(both)(*of_type(jnp.float8_e4m3fn))
    assert losses.dtype == jnp.float32
    assert gradient.dtype == jnp.float8_e4m3fn
    np.testing.assert_allclose(losses, want, rtol=1e-5, atol=1e-6)
    assert np.all(np.isfinite(losses))
    gradient, true = np.asarray(gradient, np.float32), np.asarray(true)
    np.testing.assert_allclose(gradient, true, rtol=0.07, atol=2.0**-9)
    for dtype in FLOAT8:
        shapes = jax.eval_shape(first, *of_type(dtype))
        assert [x.dtype for x in shapes] == [jnp.float32, dtype]
    parameter = next(iter(inspect.signature(case.loss).parameters))
    for dtype in REFUSED:
        with pytest.raises(TypeError, match=f"{parameter} must be floating point of a type that can hold a gradient, .*got"):
            case.loss(*of_type(dtype))


@pytest.mark.parametrize("dtype", FLOAT8, ids=lambda x: x.__name__)
def test_logits_and_weights_in_float8(dtype: Any) -> None:
    """The types without an infinity too, whose NaN is what -inf becomes."""
    logits, one_hot = jnp.array([[1.0, 2.0, 3.0]], dtype), jnp.array([[1.0, 0.0, 0.0]], dtype)
    want = np.log(1 + np.e + np.e**2)
    for losses in (
        jaxloss.softmax_cross_entropy(logits, one_hot),
        jaxloss.softmax_cross_entropy_with_integer_labels(logits, jnp.array([0])),
        jaxloss.softmax_cross_entropy(logits, one_hot, class_weights=jnp.ones(3, dtype)),
        jaxloss.softmax_cross_entropy(logits, jnp.array([[1.0, 0.0, 0.0]])),
        -jaxloss.token_log_probs(logits, jnp.eye(3).astype(dtype), jnp.array([0]))[0],
        jaxloss.mean_linear_softmax_cross_entropy(logits, jnp.eye(3).astype(dtype), jnp.array([0])),
        jaxloss.make_fenchel_young_loss(jax.nn.logsumexp)(logits, one_hot),
    ):
        assert losses.dtype == jnp.float32
        np.testing.assert_allclose(losses, want, rtol=1e-6)
    assert jaxloss.mean(logits) == 2
    np.testing.assert_array_equal(jaxloss.smooth_labels(one_hot, 0.0), one_hot.astype(jnp.float32))
    assert jaxloss.perceptual_loss([logits], [one_hot], batch_axes=1) == 0**2 + 2**2 + 3**2
    np.testing.assert_array_equal(jaxloss.r1_penalty(lambda x: jnp.sum(x.astype(jnp.float32) ** 2), logits), 0.5 * 56)
    assert jaxloss.huber_loss(logits[0, 1], 0.25) == 1.25  # a number of Python takes the dtype of the other


@pytest.mark.parametrize("dtype", REFUSED, ids=lambda x: x.__name__)
def test_types_without_a_gradient_are_refused(dtype: Any) -> None:
    x, small = jnp.ones(3), jnp.ones(3, dtype)
    refused = "must be floating point of a type that can hold a gradient, with a sign, 0 and NaN, got float"
    for call in (
        lambda: jaxloss.huber_loss(x, small),
        lambda: jaxloss.huber_loss(x, x, delta=small),
        lambda: jaxloss.softmax_cross_entropy(x, small),
        lambda: jaxloss.mean(small),
        lambda: jaxloss.r1_penalty(jnp.sum, small),
    ):
        with pytest.raises(TypeError, match=refused):
            call()
