"""Barlow Twins, VICReg, BYOL and DINO: accuracy, and what each of them is invariant to."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import optax.losses
from cases.self_supervised import batch_of_two_views, logits

import jaxloss

mp.mp.dps = 40
RNG = np.random.default_rng(0)
X, Y = (x.astype(np.float32) for x in batch_of_two_views(RNG))


def exactly(x: np.ndarray) -> mp.matrix:
    return mp.matrix(np.asarray(x, np.float64).tolist())


def test_byol_of_almost_equal_directions() -> None:
    """Right to 2^-22 times the root of the loss, where 2 − 2 cos has no digit left."""
    loss = jax.jit(jax.vmap(jaxloss.byol_loss))
    p = RNG.normal(size=(40, 6)).astype(np.float32)
    z = (
        p * RNG.uniform(0.5, 2, size=(40, 1)) + 10.0 ** -RNG.integers(1, 6, size=(40, 1)) * RNG.normal(size=(40, 6))
    ).astype(np.float32)
    for a, b, got in zip(p, z, loss(p, z), strict=True):
        a, b = exactly(a), exactly(b)
        cos = (a.T * b)[0] / mp.sqrt((a.T * a)[0] * (b.T * b)[0])
        true = 2 - 2 * cos
        assert abs(mp.mpf(float(got)) - true) <= 2.0**-22 * mp.sqrt(true) + 4 * 2.0**-23 * true + 2.0**-46


def test_barlow_twins_is_blind_to_shift_and_scale() -> None:
    want, slope = jax.value_and_grad(jaxloss.barlow_twins_loss)(X, Y)
    scale, shift = np.asarray([1e15, 1e-10, 4.0], np.float32), np.asarray([0.0, 0.0, 64.0], np.float32)
    np.testing.assert_allclose(jaxloss.barlow_twins_loss(X * scale + shift, Y), want, rtol=1e-4)
    # Hence the gradient has no part along either.
    np.testing.assert_allclose(np.sum(slope, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.sum(slope * (X - X.mean(0)), axis=0), 0, atol=1e-6)


def test_barlow_twins_of_almost_equal_views() -> None:
    """(1 − c)² of views that differ by 1e-4 is about 1e-14, and keeps its digits."""
    near = X + np.float32(2.0**-13) * np.sign(Y)
    got = jaxloss.barlow_twins_loss(X, near, redundancy_weight=0.0)
    with jax.enable_x64(True):
        wide = X.astype(np.float64), near.astype(np.float64)
        want = float(jaxloss.barlow_twins_loss(*wide, redundancy_weight=0.0))
    assert 0 < want < 1e-13
    np.testing.assert_allclose(got, want, rtol=1e-2)


def test_constant_feature() -> None:
    constant = np.where(np.arange(3) == 1, np.float32(0.1), X)
    for loss in (jaxloss.barlow_twins_loss, jaxloss.vicreg_loss):
        value, slopes = jax.value_and_grad(loss, (0, 1))(constant, constant)
        assert np.isfinite(value)
        assert np.all(np.isfinite(slopes))
        assert all(np.all(slope[:, 1] == 0) for slope in slopes)


def test_vicreg_of_the_codes() -> None:
    """The published code divides the invariance by the features too, and the variance by the two views."""
    d = X.shape[1]
    ours = jaxloss.vicreg_loss(X, Y, invariance_weight=25.0 / d, variance_weight=12.5)
    std = [np.sqrt(z.var(0, ddof=1) + 1e-4) for z in (X, Y)]
    variance = sum(np.mean(np.maximum(0, 1 - s)) / 2 for s in std)
    off = [np.cov(z.T) * (1 - np.eye(d)) for z in (X, Y)]
    codes = 25 * np.mean((X - Y) ** 2) + 25 * variance + sum(np.sum(c**2) / d for c in off)
    np.testing.assert_allclose(ours, codes, rtol=1e-5)


def test_dino_is_a_cross_entropy_without_a_gradient_for_the_teacher() -> None:
    s, z = (x.astype(np.float32) for x in logits(RNG))
    center = np.linspace(-0.1, 0.1, 5, dtype=np.float32)
    teacher = jax.nn.softmax((z - center) / 0.04)
    want = optax.losses.softmax_cross_entropy(s / 0.1, teacher)
    np.testing.assert_allclose(jaxloss.dino_loss(s, z, center=center), want, rtol=1e-5)

    def total(z, temperature, center):
        return jnp.sum(jaxloss.dino_loss(s, z, teacher_temperature=temperature, center=center))

    assert all(np.all(g == 0) for g in jax.grad(total, (0, 1, 2))(z, 0.04, center))


def test_vicreg_has_no_slope_where_its_hinge_ends() -> None:
    def spread(a: Any) -> Any:
        x = jnp.array([[1.0], [-1.0]]) * a  # of variance 2a²
        return jaxloss.vicreg_loss(x, jnp.zeros((2, 1)), invariance_weight=0.0, covariance_weight=0.0, variance_weight=1.0)

    both = jax.jit(jax.value_and_grad(spread))
    ends = np.float32(np.sqrt((1 - 1e-4) / 2))
    near = [both(np.nextafter(ends, np.float32(side))) for side in (0, 2)] + [both(ends)]
    assert min(value for value, _ in near) == spread(10.0)  # the other view's part alone
    for value, slope in near:
        assert slope == 0 if value == spread(10.0) else slope < -1
