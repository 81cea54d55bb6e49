"""Adversarial losses: accuracy, and the penalties on the gradient of a critic."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from test_accuracy import both_modes, grid, sigma, slope, softplus, ulps, worst

import jaxloss

# --- Accuracy -------------------------------------------------------------------------------------------------------

# Of one score: the loss, its value and its derivative.
OF_ONE: list[tuple[Callable[..., Any], Any, Any]] = [
    (jaxloss.gan_minimax_generator_loss, lambda z: -softplus(z), lambda z: -sigma(z)),
    (jaxloss.gan_non_saturating_generator_loss, lambda z: softplus(-z), lambda z: -sigma(-z)),
    (jaxloss.gan_least_squares_generator_loss, lambda z: (z - 1) ** 2 / 2, lambda z: z - 1),
    (jaxloss.gan_wasserstein_generator_loss, lambda z: -z, lambda z: -1),
    (jaxloss.gan_hinge_generator_loss, lambda z: -z, lambda z: -1),
]


@pytest.mark.sweep
@pytest.mark.parametrize(("loss", "value", "derivative"), OF_ONE, ids=lambda x: getattr(x, "__name__", ""))
def test_generator_within_4_ulp(loss: Any, value: Any, derivative: Any) -> None:
    points = grid()
    x = jnp.asarray(points)
    for got in both_modes(loss, x):
        assert worst(got, points, value)[0] <= 4
    for got in both_modes(slope(loss), x):
        assert worst(got, points, lambda z: mp.mpf(derivative(z)))[0] <= 4


# Of two: value and both derivatives, at pairs of all magnitudes.
OF_TWO: list[tuple[Callable[..., Any], Any, Any, Any]] = [
    (
        jaxloss.gan_minimax_discriminator_loss,
        lambda r, f: softplus(-r) + softplus(f),
        lambda r, f: -sigma(-r),
        lambda r, f: sigma(f),
    ),
    (
        jaxloss.gan_least_squares_discriminator_loss,
        lambda r, f: ((r - 1) ** 2 + f**2) / 2,
        lambda r, f: r - 1,
        lambda r, f: f,
    ),
    (
        jaxloss.gan_hinge_discriminator_loss,
        lambda r, f: max(0, 1 - r) + max(0, 1 + f),
        lambda r, f: -1 if r < 1 else 0,
        lambda r, f: 1 if f > -1 else 0,
    ),
    (jaxloss.gan_wasserstein_critic_loss, lambda r, f: f - r, lambda r, f: -1, lambda r, f: 1),
]


@pytest.mark.parametrize(("loss", "value", "by_real", "by_fake"), OF_TWO, ids=lambda x: getattr(x, "__name__", ""))
def test_discriminator_within_4_ulp(loss: Any, value: Any, by_real: Any, by_fake: Any) -> None:
    points = grid()
    real, fake = points, np.random.default_rng(0).permutation(points)
    losses = jax.jit(loss)(jnp.asarray(real), jnp.asarray(fake))
    gradients = jax.jit(jax.grad(lambda r, f: jnp.sum(loss(r, f)), (0, 1)))(jnp.asarray(real), jnp.asarray(fake))
    for got, want in zip((losses, *gradients), (value, by_real, by_fake), strict=True):
        for one, r, f in zip(np.asarray(got), real, fake, strict=True):
            assert ulps(one, mp.mpf(want(mp.mpf(float(r)), mp.mpf(float(f))))) <= 4, (r, f)


@pytest.mark.parametrize("loss", [jaxloss.gan_relativistic_discriminator_loss, jaxloss.gan_relativistic_generator_loss])
def test_relativistic_within_4_ulp_of_the_rounded_difference(loss: Any) -> None:
    points = grid()
    sign = -1 if loss is jaxloss.gan_relativistic_discriminator_loss else 1

    def f(x: Any) -> Any:
        return loss(x, jnp.zeros_like(x))

    x = jnp.asarray(points)
    for got in both_modes(f, x):
        assert worst(got, points, lambda z: softplus(sign * z))[0] <= 4
    for got in both_modes(slope(f), x):
        assert worst(got, points, lambda z: sign * sigma(sign * z))[0] <= 4


def test_a_sure_discriminator_still_tells_minimax_and_saturating_apart() -> None:
    # At D(G(z)) = σ(−40) the minimax loss is −4e-18, where log(1 − σ) in float32 is 0 with no gradient at all.
    score = jnp.float32(-40.0)
    value, slope = jax.value_and_grad(jaxloss.gan_minimax_generator_loss)(score)
    np.testing.assert_allclose([value, slope], [-np.exp(-40.0)] * 2, rtol=1e-6)
    assert jax.grad(jaxloss.gan_non_saturating_generator_loss)(score) == -1


# --- Identities -----------------------------------------------------------------------------------------------------


def test_losses_of_a_game_fit_together() -> None:
    r, f = jnp.asarray(np.random.default_rng(0).normal(size=(2, 50)), jnp.float32)
    ones, zeros = jnp.ones_like(r), jnp.zeros_like(r)
    entropy = jaxloss.sigmoid_binary_cross_entropy
    pairs = [
        (jaxloss.gan_minimax_discriminator_loss(r, f), entropy(r, ones) + entropy(f, zeros)),
        (jaxloss.gan_minimax_generator_loss(f), -entropy(f, zeros)),
        (jaxloss.gan_non_saturating_generator_loss(f), entropy(f, ones)),
        (jaxloss.gan_least_squares_discriminator_loss(r, f), jaxloss.l2_loss(r, ones) + jaxloss.l2_loss(f, zeros)),
        (jaxloss.gan_least_squares_generator_loss(f, real_label=0.0), jaxloss.l2_loss(f, zeros)),
        (jaxloss.gan_hinge_discriminator_loss(r, f), jaxloss.hinge_loss(r, ones) + jaxloss.hinge_loss(f, -ones)),
        (jaxloss.gan_relativistic_discriminator_loss(r, f), jaxloss.gan_relativistic_generator_loss(f, r)),
        (jaxloss.gan_wasserstein_critic_loss(r, f), r * -1 - jaxloss.gan_wasserstein_generator_loss(f)),
    ]
    for got, want in pairs:
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


# --- Penalties ------------------------------------------------------------------------------------------------------


def mlp(parameters: Any, x: Any) -> Any:
    (w, b), (v, c) = parameters
    return (v @ jnp.tanh(w @ x + b) + c)[0]


def drawn(dtype: Any = np.float64) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    shapes = ((4, 3), (4,)), ((1, 4), (1,))
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s), dtype), shapes, is_leaf=lambda s: isinstance(s[0], int)), (
        jnp.asarray(rng.normal(size=(5, 3)), dtype)
    )


def length(parameters: Any, x: Any) -> Any:
    """Of the gradient of `mlp`, by hand."""
    (w, b), (v, _) = parameters
    return jnp.linalg.norm((v * (1 - jnp.tanh(w @ x + b) ** 2)) @ w)


@pytest.mark.exhaustive
def test_penalties_and_their_second_order_gradients() -> None:
    with jax.enable_x64(True):
        parameters, x = drawn()
        options = jnp.linspace(0.5, 2, 5)

        def ours(parameters: Any, x: Any, options: Any) -> Any:
            def critic(x: Any) -> Any:
                return mlp(parameters, x)

            return jaxloss.gradient_penalty(critic, x, target=options) + jaxloss.r1_penalty(critic, x, gamma=options)

        def naive(parameters: Any, x: Any, options: Any) -> Any:
            n = jax.vmap(length, in_axes=(None, 0))(parameters, x)
            return (n - options) ** 2 + options / 2 * n**2

        at = parameters, x, options
        np.testing.assert_allclose(ours(*at), naive(*at), rtol=1e-12)
        np.testing.assert_allclose(jax.jit(ours)(*at), naive(*at), rtol=1e-12)

        def slopes(f: Any) -> Any:
            return jax.jit(jax.grad(lambda *at: jnp.vdot(jnp.arange(1.0, 6), f(*at)), (0, 1, 2)))

        got, want = slopes(ours)(*at), slopes(naive)(*at)
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
        hessian = jax.jit(jax.hessian(lambda x: jnp.sum(ours(parameters, x, options))))(x)
        by_hand = jax.jit(jax.hessian(lambda x: jnp.sum(naive(parameters, x, options))))(x)
        np.testing.assert_allclose(hessian, by_hand, rtol=1e-8, atol=1e-10)


def test_penalty_of_a_linear_critic_is_exact() -> None:
    w, x = jnp.array([3e19, 4e19]), jnp.ones((3, 2))
    np.testing.assert_allclose(jaxloss.gradient_penalty(lambda x: w @ x, x, target=5e19), np.zeros(3), atol=1e26)
    assert np.all(jaxloss.gradient_penalty(lambda x: x @ jnp.array([0.6, 0.8]), x) < 1e-13)
    np.testing.assert_allclose(jaxloss.r1_penalty(lambda x: w @ x * 1e-19, x, gamma=10.0), 125 * np.ones(3), rtol=1e-6)
    tiny = jaxloss.gradient_penalty(lambda x: 1e-25 * jnp.sum(x), x, target=0.0)
    np.testing.assert_allclose(tiny, np.zeros(3), atol=1e-37)  # 2e-50 is below what float32 holds


@pytest.mark.parametrize("penalty", [jaxloss.gradient_penalty, jaxloss.r1_penalty])
def test_no_gradient_of_the_critic(penalty: Any) -> None:
    def total(w: Any, x: Any) -> Any:
        return jnp.sum(penalty(lambda x: w @ x + jnp.sum(x) * 0, x))

    w, x = jnp.zeros(2), jnp.ones((3, 2))
    assert total(w, x) == (3 if penalty is jaxloss.gradient_penalty else 0)
    slopes = jax.jit(jax.grad(total, (0, 1)))(w, x)
    curvatures = jax.jit(jax.hessian(total, (0, 1)))(w, x)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves((slopes, curvatures)))
    np.testing.assert_array_equal(slopes[0], np.zeros(2))


@pytest.mark.exhaustive
def test_one_gradient_step_makes_a_critic_lipschitz() -> None:
    # f(x) = k x: the penalty (|k| − 1)² is minimal at ±1, and a step of ½ along its gradient goes there at once.
    x = jnp.linspace(-1.0, 1.0, 7)[:, None]
    for k in (0.25, -3.0):
        slope = jax.grad(lambda k: jnp.mean(jaxloss.gradient_penalty(lambda x: k * x[0], x)))(k)
        np.testing.assert_allclose(k - slope / 2, np.sign(k), rtol=1e-6)


def test_pytrees_conditions_dtypes_and_masks() -> None:
    rng = np.random.default_rng(0)
    image, vector = jnp.asarray(rng.normal(size=(4, 2, 2)), jnp.bfloat16), jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    label = jnp.array([0, 1, 2, 1])

    def critic(x: Any, k: Any) -> Any:
        return jnp.sum(jnp.square(x["image"].astype(jnp.float32))) * (k + 1) + jnp.sum(jnp.sin(x["vector"]))

    def of(image: Any, vector: Any, **options: Any) -> Any:
        return jaxloss.gradient_penalty(critic, {"image": image, "vector": vector}, label, **options)

    penalty = of(image, vector)
    by_image = (2 * (label + 1)[:, None, None] * image.astype(jnp.float32)).astype(jnp.bfloat16).astype(jnp.float32)
    squares = jnp.sum(jnp.square(by_image), axis=(1, 2)) + jnp.sum(jnp.square(jnp.cos(vector)), axis=1)
    assert penalty.dtype == jnp.float32
    np.testing.assert_allclose(penalty, jnp.square(jnp.sqrt(squares) - 1), rtol=1e-5)

    where = jnp.array([True, False, True, False])
    bad = jnp.where(where[:, None, None], image, jnp.nan), jnp.where(where[:, None], vector, jnp.inf)
    masked = jax.jit(lambda *x: of(*x, where=where))(*bad)
    np.testing.assert_allclose(masked, jnp.where(where, penalty, 0), rtol=1e-5)
    slopes = jax.grad(lambda *x: jnp.sum(of(*x, where=where)), (0, 1))(*bad)
    assert slopes[0].dtype == jnp.bfloat16
    for one in slopes:
        assert np.all(np.isfinite(one))
        assert np.all(np.asarray(one)[~np.asarray(where)] == 0)
    assert np.all(of(*bad, where=jnp.zeros((), bool)) == 0)


@pytest.mark.parametrize("penalty", [jaxloss.gradient_penalty, jaxloss.r1_penalty])
def test_masked_options_of_penalties_change_nothing(penalty: Any) -> None:
    parameters, x = drawn(np.float32)
    where = jnp.arange(len(x)) % 2 == 0
    name = "target" if penalty is jaxloss.gradient_penalty else "gamma"

    def slopes(option: Any) -> Any:
        def total(w: Any, x: Any, option: Any) -> Any:
            return jnp.sum(penalty(lambda x: mlp(w, x), x, where=where, **{name: option}))

        return jax.jit(jax.grad(total, (0, 1, 2)))(parameters, x, option)

    clean = jnp.linspace(0.5, 2.0, len(x))
    for got, want in zip(*map(jax.tree.leaves, (slopes(jnp.where(where, clean, jnp.nan)), slopes(clean))), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.exhaustive
def test_batches_map_and_shard() -> None:
    parameters, x = drawn(np.float32)

    def penalty(x: Any) -> Any:
        return jaxloss.gradient_penalty(lambda x: mlp(parameters, x), x)

    np.testing.assert_allclose(jax.vmap(penalty)(jnp.stack([x, x]))[1], penalty(x), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda one: penalty(one[None])[0])(x), penalty(x), rtol=1e-6)
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:8]), ("batch",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    big = jnp.concatenate([x, x])[:8]
    placed = jax.device_put(big, rows)
    step = jax.jit(penalty)
    np.testing.assert_allclose(step(placed), penalty(big), rtol=1e-6)
    assert "all-gather" not in step.lower(placed).compile().as_text()


@pytest.mark.parametrize("penalty", [jaxloss.gradient_penalty, jaxloss.r1_penalty])
def test_bad_penalties_raise(penalty: Any) -> None:
    x = jnp.ones((3, 2))
    with pytest.raises(ValueError, match=r"critic must give one number for one example, got shape \(1,\)"):
        penalty(lambda x: jnp.sum(x, keepdims=True), x)
    with pytest.raises(TypeError, match="inputs must be floating point, got int32"):
        penalty(jnp.sum, jnp.ones((3, 2), int))
    with pytest.raises(ValueError, match=r"must share their leading axis, the batch, got shapes \[\(3, 2\), \(2,\)\]"):
        penalty(lambda x, y: jnp.sum(x) + y, x, jnp.ones(2))
    with pytest.raises(ValueError, match=r"must share their leading axis, the batch, got shapes \[\(\)\]"):
        penalty(jnp.sum, jnp.ones(()))
    with pytest.raises(ValueError, match="must share their leading axis"):
        penalty(jnp.sum, [])
    with pytest.raises(ValueError, match="where must broadcast"):
        penalty(jnp.sum, x, where=jnp.ones(2, bool))
    with pytest.raises(TypeError, match="where must be boolean"):
        penalty(jnp.sum, x, where=jnp.ones(3))
    option = "target" if penalty is jaxloss.gradient_penalty else "gamma"
    with pytest.raises(ValueError, match=f"{option} must be at least 0, got -1"):
        penalty(jnp.sum, x, **{option: -1.0})
    with pytest.raises(ValueError, match=f"{option} must broadcast"):
        penalty(jnp.sum, x, **{option: np.ones(2)})
