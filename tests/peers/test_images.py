"""Losses of images beside kornia, monai and torch, whose images have their channels first."""

import jax
import jax.numpy as jnp
import kornia
import numpy as np
import pytest
import torch
from monai.metrics.regression import compute_ms_ssim, compute_ssim_and_cs
from test_torch import assert_close
from torch.nn import functional

import jaxloss


def two_images(height=40, width=48, channels=3, dtype=np.float64):
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 0.7, height)[:, None, None] * np.ones((2, 1, width, channels))
    noise = rng.uniform(0, 0.3, size=(2, 2, height, width, channels))
    return [x.astype(dtype) for x in (ramp + noise[0], ramp + 0.5 * noise[0] + 0.5 * noise[1])]


def kornia_ssim(p, y):
    return 1 - kornia.metrics.ssim(p, y, 11, max_val=1.0, padding="valid", eps=0.0).mean((1, 2, 3))


def kornia_ssim_loss(p, y):
    return kornia.losses.ssim_loss(p, y, 11, max_val=1.0, padding="valid", eps=0.0, reduction="none").mean((1, 2, 3))


def monai_ssim(p, y):
    similarity, _ = compute_ssim_and_cs(p, y, 2, (11, 11), (1.5, 1.5), data_range=1.0)
    return 1 - similarity.mean((1, 2, 3))


def gram(x):
    flat = x.flatten(2)
    return flat @ flat.transpose(1, 2)


def torch_style(p, y):
    _, c, h, w = p.shape
    return (gram(p) - gram(y)).square().sum((1, 2)) / (4 * (c * h * w) ** 2)


def steps(x):
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def torch_gradient_difference(p, y):
    return sum((d.abs() - e.abs()).abs().sum((1, 2, 3)) for d, e in zip(steps(p), steps(y), strict=True))


def torch_lpips(p, y):
    """The distance of the published network's code, for one layer with weights 1, without its epsilon."""
    p, y = functional.normalize(p, dim=1, eps=0), functional.normalize(y, dim=1, eps=0)
    return (p - y).square().sum(1).mean((1, 2))


PAIRS = {
    "ssim, kornia": (jaxloss.ssim_loss, kornia_ssim),
    # kornia's loss is half of one minus the similarity
    "ssim loss, kornia": (lambda p, y: jaxloss.ssim_loss(p, y) / 2, kornia_ssim_loss),
    # kornia's total variation is the absolute one
    "total variation, kornia": (
        lambda p, y: jaxloss.total_variation_loss(p - y, norm=1),
        lambda p, y: kornia.losses.total_variation(p - y, reduction="sum").sum(1),
    ),
    "total variation, torch": (
        lambda p, y: jaxloss.total_variation_loss(p - y),
        lambda p, y: sum(d.square().sum((1, 2, 3)) for d in steps(p - y)),
    ),
    "style, torch": (jaxloss.style_loss, torch_style),
    "gradient difference, torch": (jaxloss.gradient_difference_loss, torch_gradient_difference),
    "perceptual, torch": (jaxloss.perceptual_loss, lambda p, y: (p - y).square().sum((1, 2, 3))),
    "perceptual, normalize, torch": (lambda p, y: jaxloss.perceptual_loss(p, y, normalize=True), torch_lpips),
}


@pytest.mark.parametrize("which", PAIRS)
def test_values_and_gradients_are_the_same(which):
    ours, theirs = PAIRS[which]
    images, weights = two_images(), np.array([0.5, 2.0])
    with jax.enable_x64(True):
        value, pullback = jax.vjp(jax.jit(ours), *images)
        slopes = pullback(jnp.asarray(weights))
    tensors = [torch.tensor(x).permute(0, 3, 1, 2).contiguous().requires_grad_() for x in images]
    expected = theirs(*tensors)
    gradients = [g.permute(0, 2, 3, 1) for g in torch.autograd.grad((expected * torch.tensor(weights)).sum(), tensors)]
    tolerance = 1e-6 if "kornia" in which else 1e-10  # kornia's window is of float32
    for a, b in zip((value, *slopes), (expected.detach(), *gradients), strict=True):
        assert_close(np.asarray(a), b.numpy(), tolerance)


def test_ssim_is_monais():
    images = two_images(dtype=np.float32)
    theirs = monai_ssim(*(torch.tensor(x).permute(0, 3, 1, 2) for x in images)).numpy()
    np.testing.assert_allclose(jaxloss.ssim_loss(*images), theirs, rtol=5e-5)  # monai computes in float32, and cancels


def test_ms_ssim_is_monais():
    """Of images of one channel: monai averages over channels at each scale, the paper's authors have none."""
    images = two_images(192, 200, 1, np.float32)
    loss = jax.jit(jaxloss.ms_ssim_loss)(*images)
    theirs = compute_ms_ssim(*(torch.tensor(x).permute(0, 3, 1, 2) for x in images), spatial_dims=2, data_range=1.0)
    # monai returns the mean over the batch
    np.testing.assert_allclose(np.mean(loss), 1 - theirs.numpy().mean(), rtol=5e-5)


def test_ms_ssim_where_monai_lets_too_small_images_through():
    # monai divides by the square of the number of halvings, not by two to its power
    images = two_images(170, 170, 1, np.float32)
    with pytest.raises(ValueError, match="at least 176 pixels"):
        jaxloss.ms_ssim_loss(*images)


def test_a_tiny_difference_is_lost_in_theirs():
    p = two_images(40, 48, 1, np.float32)[0]
    y = p + np.float32(1e-4) * np.random.default_rng(1).normal(size=p.shape).astype(np.float32)
    with jax.enable_x64(True):
        true = np.asarray(jaxloss.ssim_loss(np.asarray(p, np.float64), np.asarray(y, np.float64)))
    np.testing.assert_allclose(jaxloss.ssim_loss(p, y), true, rtol=2e-6)
    theirs = kornia_ssim(*(torch.tensor(x).permute(0, 3, 1, 2) for x in (p, y))).numpy()
    assert np.max(np.abs(theirs / true - 1)) > 1e-3
