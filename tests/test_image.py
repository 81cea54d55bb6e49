"""Losses of images and of their features: accuracy, scikit-image's figures, and what a network's layers give."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import image as naive
from skimage import data
from skimage.metrics import structural_similarity

import jaxloss

ULP = 2.0**-23


def photograph(name: str) -> np.ndarray:
    """A corner of one of scikit-image's own, [height, width, channels] in [0, 1], as float32."""
    image = getattr(data, name)()[100:228, 100:260] / 255
    return np.atleast_3d(image).astype(np.float32)


def spoilt(image: np.ndarray) -> list[np.ndarray]:
    """The same with noise, darker, shifted by a pixel, and almost unchanged."""
    noise = np.random.default_rng(0).normal(size=image.shape)
    several = np.clip(image + 0.1 * noise, 0, 1), image**1.2, np.roll(image, 1, axis=0), image + 1e-4 * noise
    return [x.astype(np.float32) for x in several]


def in_float64(f: Any, *args: Any) -> Any:
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, f(*(np.asarray(x, np.float64) for x in args)))


# --- Sums of differences, and Gram matrices -------------------------------------------------------------------------

LOSSES = {
    "total_variation": (
        lambda p, y: jaxloss.total_variation_loss(p - y),
        lambda p, y: naive.total_variation(p - y),
    ),
    "total_variation, norm 1": (
        lambda p, y: jaxloss.total_variation_loss(p - y, norm=1),
        lambda p, y: naive.total_variation(p - y, norm=1),
    ),
    "gradient_difference": (jaxloss.gradient_difference_loss, naive.gradient_difference),
    "gradient_difference, alpha 2": (
        functools.partial(jaxloss.gradient_difference_loss, alpha=2.0),
        functools.partial(naive.gradient_difference, alpha=2.0),
    ),
    "style": (jaxloss.style_loss, naive.style),
    "perceptual": (jaxloss.perceptual_loss, lambda p, y: jnp.sum((p - y) ** 2, axis=(1, 2, 3))),
}


@pytest.mark.parametrize("which", LOSSES)
def test_within_8_ulp(which: str) -> None:
    """Of the value, and of the gradient's largest component, in float64, on images of all magnitudes."""
    ours, theirs = LOSSES[which]
    rng = np.random.default_rng(0)
    p = rng.integers(0, 64, size=(40, 5, 6, 3)).astype(np.float32)  # differences are exact, and sometimes 0
    y = rng.integers(0, 64, size=(40, 5, 6, 3)).astype(np.float32)
    y[10:20] = p[10:20] + (rng.uniform(size=(10, 5, 6, 3)) < 0.1)
    scale = (2.0 ** rng.integers(-12, 13, size=(40, 1, 1, 1))).astype(np.float32)
    p, y = p * scale, y * scale

    def both(f: Any) -> Any:
        return jax.jit(lambda p, y: (f(p, y), jax.grad(lambda p: jnp.sum(f(p, y)))(p)))

    value, slope = both(ours)(p, y)
    true, true_slope = in_float64(both(theirs), p, y)
    np.testing.assert_allclose(value, true, rtol=8 * ULP)
    error = np.max(np.abs(slope - true_slope), axis=(1, 2, 3))
    assert np.all(error <= 8 * ULP * np.max(np.abs(true_slope), axis=(1, 2, 3)))


def test_style_of_nearly_equal_features_does_not_cancel() -> None:
    rng = np.random.default_rng(0)
    h = rng.uniform(1, 2, size=(4, 4, 3)).astype(np.float32)
    f = h * np.float32(1 + 2.0**-20)
    got, want = jaxloss.style_loss(f, h), in_float64(naive.style, f, h)
    np.testing.assert_allclose(got, want, rtol=8 * ULP)
    gram = np.einsum("hwk,hwl->kl", f, f) - np.einsum("hwk,hwl->kl", h, h)
    assert abs(np.sum(gram**2) / (4 * 48**2) / want - 1) > 0.01  # what the textbook's difference gives in float32


def test_style_forgets_positions() -> None:
    image = photograph("astronaut")
    turned = image[::-1, ::-1]
    assert jaxloss.style_loss(image, turned) < 1e-10
    assert jaxloss.style_loss(image, image[:, :, ::-1]) > 1e-6


def test_equal_neighbours_pull_at_neither() -> None:
    flat, edge = jnp.zeros((1, 3, 1)), jnp.array([[[0.0], [0.0], [1.0]]])
    np.testing.assert_array_equal(jax.grad(lambda x: jaxloss.total_variation_loss(x, norm=1))(flat), flat)
    np.testing.assert_array_equal(jax.grad(lambda x: jaxloss.total_variation_loss(x, norm=1))(edge)[0, :, 0], [0, -1, 1])
    np.testing.assert_array_equal(jax.grad(jaxloss.gradient_difference_loss)(flat, edge), flat)
    np.testing.assert_array_equal(jax.grad(jaxloss.gradient_difference_loss)(edge, edge), flat)


def test_total_variation_of_a_photograph_grows_with_noise() -> None:
    image = photograph("camera")
    noisy = spoilt(image)[0]
    for norm in (1, 2):
        assert jaxloss.total_variation_loss(noisy, norm=norm) > 2 * jaxloss.total_variation_loss(image, norm=norm)
    # the squared form prefers a ramp to an edge of the same height; the other does not mind
    ramp, edge = np.linspace(0, 1, 5, dtype=np.float32), np.float32([0, 0, 1, 1, 1])
    ramp, edge = ramp[:, None, None], edge[:, None, None]
    assert jaxloss.total_variation_loss(ramp) == 0.25
    assert jaxloss.total_variation_loss(edge) == 1
    assert jaxloss.total_variation_loss(ramp, norm=1) == jaxloss.total_variation_loss(edge, norm=1) == 1


def test_gradient_difference_sees_the_blur_that_squared_error_does_not() -> None:
    edge = np.float32([0, 0, 1, 1])[:, None, None]
    blurred = np.float32([0, 0.25, 0.75, 1])[:, None, None]
    brighter = edge + np.float32(np.sqrt(0.03125))  # of the same squared error
    np.testing.assert_allclose(np.mean((brighter - edge) ** 2), np.mean((blurred - edge) ** 2), rtol=1e-6)
    np.testing.assert_allclose(jaxloss.gradient_difference_loss(blurred, edge), 1.0, rtol=1e-6)
    np.testing.assert_allclose(jaxloss.gradient_difference_loss(brighter, edge), 0.0, atol=1e-6)


# --- Structural similarity ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["camera", "astronaut", "coffee"])
def test_ssim_is_scikit_images_on_its_own_images(name: str) -> None:
    image = photograph(name)
    others = spoilt(image)
    similarity = functools.partial(
        structural_similarity,
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    want = [1 - similarity(image.astype(np.float64), x.astype(np.float64)) for x in others]
    images = np.stack([image] * len(others)), np.stack(others)
    np.testing.assert_allclose(in_float64(jaxloss.ssim_loss, *images), want, rtol=1e-9)
    # in float32 as well, where scikit-image is wrong by a tenth for the last of them
    np.testing.assert_allclose(jaxloss.ssim_loss(*images), want, rtol=2e-6)
    np.testing.assert_allclose(jaxloss.ssim_loss(255 * images[0], 255 * images[1], data_range=255.0), want, rtol=2e-5)
    assert abs((1 - similarity(image, others[-1])) / want[-1] - 1) > 0.02


def test_other_windows_are_scikit_images() -> None:
    image = photograph("astronaut")
    other = spoilt(image)[0]
    for sigma, constants in ((0.8, {}), (2.0, {"K1": 0.02, "K2": 0.05})):
        size = 2 * int(3.5 * sigma + 0.5) + 1
        want = 1 - structural_similarity(
            image.astype(np.float64),
            other.astype(np.float64),
            channel_axis=-1,
            data_range=2.0,
            gaussian_weights=True,
            sigma=sigma,
            use_sample_covariance=False,
            **constants,
        )
        ours = {k.lower(): v for k, v in constants.items()}
        got = jaxloss.ssim_loss(image, other, data_range=2.0, sigma=sigma, window_size=size, **ours)
        np.testing.assert_allclose(got, want, rtol=2e-6)


@pytest.mark.exhaustive
def test_gradient_of_ssim_on_photographs() -> None:
    image = photograph("camera")
    others = np.stack(spoilt(image))

    def slope(f: Any) -> Any:
        return jax.jit(jax.grad(lambda p, y: jnp.sum(f(p, y))))

    images = np.stack([image] * len(others))
    got, want = slope(jaxloss.ssim_loss)(images, others), in_float64(slope(naive.ssim), images, others)
    worst = np.max(np.abs(got - want), axis=(1, 2, 3)) / np.max(np.abs(want), axis=(1, 2, 3))
    assert np.all(worst < 1e-4), worst


@pytest.mark.parametrize(
    "loss", [jaxloss.ssim_loss, functools.partial(jaxloss.ms_ssim_loss, weights=(0.3, 0.7))], ids=["ssim", "ms_ssim"]
)
def test_equal_images_are_exactly_0_with_no_gradient(loss: Any) -> None:
    images = np.stack(
        [photograph("camera")[:40, :40], np.full((40, 40, 1), 0.3, np.float32), np.zeros((40, 40, 1), np.float32)]
    )

    def both(p: Any, y: Any) -> Any:
        losses, pullback = jax.vjp(loss, p, y)
        return losses, pullback(jnp.ones_like(losses))

    for dtype in (np.float32, jnp.bfloat16):
        losses, slopes = jax.jit(both)(images.astype(dtype), images.astype(dtype))
        assert np.all(losses == 0)
        assert all(np.all(slope == 0) for slope in slopes)
    # and images that are almost equal are never below 0
    rng = np.random.default_rng(0)
    near = images + np.float32(10) ** np.float32(-rng.integers(2, 9, size=(20, 3, 1, 1, 1))) * rng.normal(
        size=(20, 3, 40, 40, 1)
    )
    losses = jax.jit(jax.vmap(loss, in_axes=(0, None)))(near.astype(np.float32), images)
    assert np.all(losses >= 0)
    assert np.any(losses > 0)


def test_constant_images_differ_by_their_means_alone() -> None:
    p, y = np.full((16, 16, 1), 0.25, np.float32), np.full((16, 16, 1), 0.75, np.float32)
    np.testing.assert_allclose(jaxloss.ssim_loss(p, y), 0.25 / (0.0625 + 0.5625 + 1e-4), rtol=4 * ULP)
    slope = jax.grad(jaxloss.ssim_loss)(p, y)
    assert np.all(np.isfinite(slope))
    assert np.sum(slope) < 0  # brighter is better
    assert jaxloss.ms_ssim_loss(p, y, weights=(0.5, 0.5), window_size=5) > 0.1


def test_a_negative_image_is_worse_than_noise() -> None:
    image = photograph("camera")
    inverse = 1 - image
    ssim, noisy = jaxloss.ssim_loss(inverse, image), jaxloss.ssim_loss(spoilt(image)[0], image)
    assert 1 < ssim < 2
    assert noisy < 1
    np.testing.assert_allclose(1 - ssim, structural_similarity(
        inverse[..., 0].astype(np.float64), image[..., 0].astype(np.float64),
        data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    ), rtol=1e-5)  # fmt: skip


def test_scales() -> None:
    image, rng = photograph("camera")[:96, :96], np.random.default_rng(0)
    other = np.clip(image + 0.1 * rng.normal(size=image.shape), 0, 1).astype(np.float32)
    one = jaxloss.ms_ssim_loss(image, other, weights=(1.0,))
    np.testing.assert_allclose(one, jaxloss.ssim_loss(image, other), rtol=4 * ULP)
    # only the second scale has a weight: the similarity of images of half the size
    half = [x.reshape(48, 2, 48, 2, 1).mean((1, 3)) for x in (image, other)]
    two = jaxloss.ms_ssim_loss(image, other, weights=(0.0, 1.0))
    np.testing.assert_allclose(two, jaxloss.ssim_loss(*half), rtol=1e-6)
    odd = jaxloss.ms_ssim_loss(image[:95, :95], other[:95, :95], weights=(0.0, 1.0))  # without the last row and column
    np.testing.assert_allclose(odd, jaxloss.ssim_loss(half[0][:47, :47], half[1][:47, :47]), rtol=1e-6)
    # noise of single pixels matters less the coarser the scale
    assert two < one


def test_terms_of_either_sign_leave_no_nan() -> None:
    """The power of a mean contrast that goes through 0: from a pattern to its inverse."""
    image = np.random.default_rng(0).uniform(size=(32, 32, 1)).astype(np.float32)
    loss = functools.partial(jaxloss.ms_ssim_loss, weights=(0.5, 0.5))

    @jax.jit
    def at(t: Any) -> Any:
        mixed = (1 - t) * image + t * (1 - image)
        return loss(mixed, image), jax.grad(loss)(mixed, image)

    values = []
    for t in (0.25, 0.5, 0.5 + 2.0**-20, 0.55, 1.0):
        value, slope = at(t)
        assert np.all(np.isfinite(slope))
        values.append(float(value))
        if t > 0.52:
            assert value == 1
            assert np.all(slope == 0)
    assert np.all(np.diff(values) >= 0)


def test_wrong_images_and_windows_raise() -> None:
    small, x = np.zeros((8, 20, 1), np.float32), np.zeros((20, 20, 1), np.float32)
    with pytest.raises(ValueError, match=r"at least 11 pixels high and wide.*got shape \(8, 20, 1\)"):
        jaxloss.ssim_loss(small, small)
    with pytest.raises(
        ValueError, match=r"at least 176 pixels high and wide.*window of 11 and 5 scale.*got shape \(20, 20, 1\)"
    ):
        jaxloss.ms_ssim_loss(x, x)
    for loss in (jaxloss.ssim_loss, jaxloss.ms_ssim_loss):
        with pytest.raises(ValueError, match="window_size must be odd, got 4"):
            loss(x, x, window_size=4)
        with pytest.raises(TypeError, match=r"window_size must be an integer known at trace time, got 3\.5"):
            loss(x, x, window_size=3.5)
        with pytest.raises(ValueError, match="window_size must be at least 0, got -3"):
            loss(x, x, window_size=-3)
        with pytest.raises(ValueError, match="sigma must be above 0, got 0"):
            loss(x, x, sigma=0)
        with pytest.raises(TypeError, match="sigma must be a plain number"):
            loss(x, x, sigma=jnp.ones(()))
        with pytest.raises(ValueError, match=r"must be images of shape \[\.\.\., height, width, channels\]"):
            loss(x[0], x[0])
    with pytest.raises(ValueError, match=r"weights must be one number a scale, got shape \(1, 2\)"):
        jaxloss.ms_ssim_loss(x, x, weights=np.ones((1, 2)))
    with pytest.raises(ValueError, match="norm must be 1 or 2, got 3"):
        jaxloss.total_variation_loss(x, norm=3)
    with pytest.raises(TypeError, match=r"norm must be an integer known at trace time, got 1\.5"):
        jaxloss.total_variation_loss(x, norm=1.5)


# --- Features -------------------------------------------------------------------------------------------------------


def network(seed: int = 0) -> Any:
    """A small convolutional network; it returns the features of its layers."""
    rng = np.random.default_rng(seed)
    widths = (3, 8, 12)
    kernels = [rng.normal(size=(3, 3, m, n)) / np.sqrt(9 * m) for m, n in itertools.pairwise(widths)]
    head = rng.normal(size=(12, 5))

    def layers(images: Any) -> Any:
        x, seen = images, []
        for kernel in kernels:
            kernel = jnp.asarray(kernel, x.dtype)
            x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x)
            seen.append(x)
        return {"convolutions": seen, "head": x.mean((1, 2)) @ jnp.asarray(head, x.dtype)}

    return layers


def lpips(p: Any, y: Any, weights: Any) -> Any:
    """The published formula, layer by layer."""
    total = 0.0
    for a, b, w in zip(*map(jax.tree.leaves, (p, y, weights)), strict=True):
        a, b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
        positions = tuple(range(1, a.ndim - 1))
        total = total + jnp.mean(jnp.sum(w * (a - b) ** 2, axis=-1), axis=positions)
    return total


@pytest.mark.parametrize("normalize", [False, True])
def test_features_of_a_network(normalize: bool) -> None:
    with jax.enable_x64(True):
        layers, rng = network(), np.random.default_rng(1)
        images = jnp.asarray(rng.uniform(size=(2, 3, 16, 16, 3)))
        weights = {"convolutions": [0.5, np.linspace(0.1, 1, 12)], "head": 2.0}

        def ours(p: Any, y: Any, weights: Any) -> Any:
            return jaxloss.perceptual_loss(layers(p), layers(y), weights=weights, normalize=normalize)

        def theirs(p: Any, y: Any, weights: Any) -> Any:
            p, y = layers(p), layers(y)
            if normalize:
                # a dead position, of no feature at all, has no direction
                p, y = (jax.tree.map(lambda x: x + 1e-300, x) for x in (p, y))
                return lpips(p, y, weights)
            terms = jax.tree.map(lambda a, b, w: jnp.sum(w * (a - b) ** 2, axis=tuple(range(1, a.ndim))), p, y, weights)
            return sum(jax.tree.leaves(terms))

        at = (*images, jax.tree.map(jnp.asarray, weights))
        np.testing.assert_allclose(ours(*at), theirs(*at), rtol=1e-10)
        slopes = [
            jax.jit(jax.grad(lambda *at, f=f: jnp.vdot(jnp.arange(1.0, 4), f(*at)), (0, 1, 2)))(*at) for f in (ours, theirs)
        ]
        for got, want in zip(*map(jax.tree.leaves, slopes), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)


def test_descent_on_features_recovers_an_image() -> None:
    """What the loss is for: an image that a network cannot tell from another looks like it."""
    layers = network()
    target = photograph("astronaut")[None, :16, :16]
    start = np.random.default_rng(0).uniform(size=target.shape).astype(np.float32)

    def loss(x: Any) -> Any:
        return jaxloss.perceptual_loss(layers(x), layers(target))[0]

    @jax.jit
    def descend(x: Any) -> Any:
        return jax.lax.fori_loop(0, 150, lambda _, x: x - 0.02 * jax.grad(loss)(x), x)

    found = descend(start)
    assert loss(found) < 0.1 * loss(start)
    assert np.mean((found - target) ** 2) < 0.8 * np.mean((start - target) ** 2)


def test_trees_masks_and_dtypes() -> None:
    rng = np.random.default_rng(0)
    p, y = (
        {
            "a": jnp.asarray(rng.normal(size=(3, 4, 4, 2)), jnp.bfloat16),
            "b": (jnp.asarray(rng.normal(size=(3, 5)), jnp.float32),),
        }
        for _ in range(2)
    )
    for normalize in (False, True):
        loss = functools.partial(jaxloss.perceptual_loss, normalize=normalize)
        want = loss(p, y)
        assert want.dtype == jnp.float32
        assert want.shape == (3,)
        one = jax.vmap(functools.partial(loss, batch_axes=0))(p, y)
        np.testing.assert_allclose(one, want, rtol=1e-6)
        two = functools.partial(loss, batch_axes=2)(*jax.tree.map(lambda x: x[None], (p, y)))
        np.testing.assert_allclose(two, want[None], rtol=1e-6)
        where = jnp.array([True, False, True])
        bad = jax.tree.map(lambda x: x.at[1].set(jnp.nan), p)
        masked = functools.partial(loss, where=where)
        losses, slope = jax.value_and_grad(lambda p, masked=masked: jnp.sum(masked(p, y)))(bad)
        np.testing.assert_allclose(losses, want[0] + want[2], rtol=1e-6)
        for leaf, given in zip(jax.tree.leaves(slope), jax.tree.leaves(p), strict=True):
            assert leaf.dtype == given.dtype
            assert np.all(np.isfinite(leaf))
            assert np.all(leaf[1] == 0)
        kept = jax.eval_shape(lambda p, loss=loss: jax.vjp(lambda p: loss(p, y), p)[1], p)
        assert not any(x.dtype == jnp.float32 and x.size >= p["a"].size for x in jax.tree.leaves(kept))


def test_directions_of_no_feature_and_of_any_size() -> None:
    p = jnp.array([[[0.0, 0.0], [1e20, 0.0], [1e-25, 1e-25]]])
    y = jnp.array([[[3.0, 4.0], [1e-20, 0.0], [1.0, 1.0]]])

    def loss(p: Any, y: Any) -> Any:
        return jaxloss.perceptual_loss(p, y, normalize=True)[0]

    np.testing.assert_allclose(loss(p, y), 1 / 3, rtol=4 * ULP)
    slopes = jax.jit(jax.grad(loss, (0, 1)))(p, y)
    assert all(np.all(np.isfinite(x)) for x in slopes)
    assert np.all(slopes[0][0, 0] == 0)
    zeros = jnp.zeros_like(p)
    assert loss(zeros, zeros) == 0
    assert np.all(np.isfinite(jax.hessian(loss)(zeros, y)))


def test_wrong_features_raise() -> None:
    x = jnp.ones((2, 3, 3, 4))
    with pytest.raises(ValueError, match="targets must have the structure of predictions"):
        jaxloss.perceptual_loss([x], (x,))
    with pytest.raises(ValueError, match="weights must have the structure of predictions"):
        jaxloss.perceptual_loss([x, x], [x, x], weights=1.0)
    with pytest.raises(ValueError, match=r"targets\['a'\] must have the shape of predictions\['a'\]"):
        jaxloss.perceptual_loss({"a": x}, {"a": x[:1]})
    with pytest.raises(TypeError, match=r"predictions\[0\] must be floating point, got int32"):
        jaxloss.perceptual_loss([x.astype(int)], [x])
    with pytest.raises(ValueError, match=r"predictions\[1\] must have 1 batch axes, \(2,\), got shape \(1, 4\)"):
        jaxloss.perceptual_loss([x, x[:1, 0, 0]], [x, x[:1, 0, 0]])
    with pytest.raises(ValueError, match=r"\(2,\) and an axis of channels, got shape \(2,\)"):
        jaxloss.perceptual_loss(x[:, 0, 0, 0], x[:, 0, 0, 0], normalize=True)
    with pytest.raises(ValueError, match=r"weights\[0\] must broadcast"):
        jaxloss.perceptual_loss([x], [x], weights=[jnp.ones(3)])
    with pytest.raises(ValueError, match="where must broadcast"):
        jaxloss.perceptual_loss([x], [x], where=jnp.ones(3, bool))
    with pytest.raises(ValueError, match="at least one array"):
        jaxloss.perceptual_loss([], [])
    with pytest.raises(TypeError, match="batch_axes must be an integer"):
        jaxloss.perceptual_loss(x, x, batch_axes=1.0)
