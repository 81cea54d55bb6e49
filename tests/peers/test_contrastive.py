"""The contrastive and the self-supervised losses beside pytorch-metric-learning, and formulas written in torch.

pytorch-metric-learning reduces: NTXentLoss to the mean over positive pairs, as optax, SupConLoss to the mean over the
anchors whose loss is not 0. The authors of VICReg divide by the features once more than the paper's text.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses
from torch.nn import functional

import jaxloss

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 12, 5))
Y = 0.6 * X + 0.6 * Y
LABELS = RNG.integers(0, 4, size=12)


def compare(ours, theirs, *arrays, rtol=1e-9):
    """A scalar and its gradients by all arrays, in float64."""
    with jax.enable_x64(True):
        value, slopes = jax.value_and_grad(ours, tuple(range(len(arrays))))(*map(jnp.asarray, arrays))
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    their_value = theirs(*tensors)
    their_slopes = torch.autograd.grad(their_value, tensors)
    np.testing.assert_allclose(value, their_value.detach().numpy(), rtol=rtol)
    for slope, their_slope in zip(slopes, their_slopes, strict=True):
        np.testing.assert_allclose(slope, their_slope.numpy(), rtol=rtol, atol=1e-10)


def cosines(x, y):
    return functional.normalize(x, dim=1) @ functional.normalize(y, dim=1).T


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_ntxent(temperature):
    counts = np.sum(LABELS[:, None] == LABELS, 1) - 1.0
    peer = losses.NTXentLoss(temperature=temperature)
    compare(
        lambda x: jaxloss.mean(jaxloss.ntxent(x, jnp.asarray(LABELS), temperature=temperature), weights=counts),
        lambda x: peer(x, torch.tensor(LABELS)),
        X,
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_supervised_contrastive(temperature):
    has_positive = np.sum(LABELS[:, None] == LABELS, 1) > 1
    peer = losses.SupConLoss(temperature=temperature)

    def ours(x):
        value = jaxloss.supervised_contrastive_loss(x, jnp.asarray(LABELS), temperature=temperature)
        return jaxloss.mean(value, where=has_positive)

    compare(ours, lambda x: peer(x, torch.tensor(LABELS)), X)


def test_info_nce():
    def theirs(x, y, extra, temperature):
        scores = x @ torch.cat([y, extra]).T / temperature
        return functional.cross_entropy(scores, torch.arange(12))

    def ours(x, y, extra, temperature):
        return jnp.mean(jaxloss.info_nce_loss(x, y, negatives=extra, temperature=temperature, block_size=5))

    compare(ours, theirs, X, Y, X[::-1][:4].copy(), np.float64(0.7))


def test_clip():
    def theirs(x, y, temperature):
        scores, own = cosines(x, y) / temperature, torch.arange(12)
        return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2

    def ours(x, y, temperature):
        return jnp.mean(jaxloss.clip_loss(x, y, temperature=temperature, block_size=5))

    compare(ours, theirs, X, Y, np.float64(0.07))


def test_siglip():
    def theirs(x, y, scale, bias):
        score = scale * cosines(x, y) + bias
        return -functional.logsigmoid((2 * torch.eye(12) - 1) * score).sum() / 12

    def ours(x, y, scale, bias):
        return jnp.mean(jaxloss.siglip_loss(x, y, logit_scale=scale, logit_bias=bias, block_size=5))

    compare(ours, theirs, X, Y, np.float64(10.0), np.float64(-10.0))


def test_barlow_twins():
    def theirs(x, y):
        a, b = ((z - z.mean(0)) / z.std(0, correction=0) for z in (x, y))
        c = a.T @ b / len(x)
        on = (torch.diagonal(c) - 1).pow(2).sum()
        return on + 0.005 * (c.pow(2).sum() - torch.diagonal(c).pow(2).sum())

    compare(jaxloss.barlow_twins_loss, theirs, X, Y)


def test_vicreg():
    def theirs(x, y):
        total = 25 * (x - y).pow(2).sum(1).mean()
        for z in (x, y):
            c = torch.cov(z.T)
            total = total + 25 * functional.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean()
            total = total + (c.pow(2).sum() - torch.diagonal(c).pow(2).sum()) / z.shape[1]
        return total

    compare(jaxloss.vicreg_loss, theirs, 0.8 * X, 0.8 * Y)


def test_byol():
    def theirs(p, z):
        return (2 - 2 * functional.cosine_similarity(p, z)).sum()

    compare(lambda p, z: jnp.sum(jaxloss.byol_loss(p, z)), theirs, X, Y)


def test_dino():
    def theirs(s, z, center):
        teacher = functional.softmax((z - center) / 0.04, dim=1).detach()
        # torch's gradient by what is cut is None, ours is 0
        return -(teacher * functional.log_softmax(s / 0.1, dim=1)).sum() + 0 * (z.sum() + center.sum())

    compare(lambda s, z, c: jnp.sum(jaxloss.dino_loss(s, z, center=c)), theirs, X, 0.2 * Y, 0.1 * X[0])
