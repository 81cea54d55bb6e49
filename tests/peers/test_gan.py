"""Adversarial losses and penalties beside the same formulas in torch.

torch has no such losses; what its users write is binary cross-entropy on logits, squares and relu, and a double backward.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from test_torch import as_tensor, assert_close
from torch.nn import functional

import jaxloss


def entropy(z, label):
    return functional.binary_cross_entropy_with_logits(z, torch.full_like(z, label), reduction="none")


LOSSES = {
    jaxloss.gan_minimax_discriminator_loss: lambda r, f: entropy(r, 1.0) + entropy(f, 0.0),
    jaxloss.gan_minimax_generator_loss: lambda f: -entropy(f, 0.0),
    jaxloss.gan_non_saturating_generator_loss: lambda f: entropy(f, 1.0),
    jaxloss.gan_least_squares_discriminator_loss: lambda r, f: ((r - 1) ** 2 + f**2) / 2,
    jaxloss.gan_least_squares_generator_loss: lambda f: (f - 1) ** 2 / 2,
    jaxloss.gan_wasserstein_critic_loss: lambda r, f: f - r,
    jaxloss.gan_wasserstein_generator_loss: lambda f: -f,
    jaxloss.gan_hinge_discriminator_loss: lambda r, f: functional.relu(1 - r) + functional.relu(1 + f),
    jaxloss.gan_hinge_generator_loss: lambda f: -f,
    jaxloss.gan_relativistic_discriminator_loss: lambda r, f: entropy(r - f, 1.0),
    jaxloss.gan_relativistic_generator_loss: lambda r, f: entropy(f - r, 1.0),
}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_losses_are_torchs_formulas(loss):
    count = loss.__code__.co_argcount
    scores = [jnp.asarray(x, jnp.float32) for x in 2 * np.random.default_rng(0).normal(size=(count, 50))]
    value, pullback = jax.vjp(jax.jit(loss), *scores)
    tensors = [as_tensor(x).requires_grad_() for x in scores]
    expected = LOSSES[loss](*tensors)
    gradients = torch.autograd.grad(expected.sum(), tensors)
    for a, b in zip((value, *pullback(jnp.ones_like(value))), (expected, *gradients), strict=True):
        assert_close(np.asarray(a), b.detach().numpy(), 2e-6)


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1_penalty"])
def test_penalties_are_torchs_double_backward(penalty):
    rng = np.random.default_rng(0)
    w, v, x = rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=(5, 3))

    def ours(w, v, x):
        options = {"gamma": 10.0} if penalty == "r1_penalty" else {}
        return jnp.sum(getattr(jaxloss, penalty)(lambda x: jnp.tanh(x @ w.T) @ v, x, **options))

    with jax.enable_x64(True):
        got = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(w, v, x)
    w, v, x = (torch.tensor(a, requires_grad=True) for a in (w, v, x))
    scores = torch.tanh(x @ w.T) @ v
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    norm = slope.norm(dim=1)
    total = (5 * norm**2 if penalty == "r1_penalty" else (norm - 1) ** 2).sum()
    want = total, torch.autograd.grad(total, (w, v, x))
    for a, b in zip(jax.tree.leaves(got), (want[0], *want[1]), strict=True):
        assert_close(np.asarray(a), b.detach().numpy(), 1e-12)


def test_the_norm_of_no_gradient_is_nan_in_a_double_backward_by_hand():
    # √Σg² as many write it: its derivative at 0 is inf · 0. torch's own norm is right there, as ours is.
    w, x = torch.zeros(2, requires_grad=True), torch.ones(3, 2, requires_grad=True)
    (slope,) = torch.autograd.grad((x @ w).sum(), x, create_graph=True)
    by_hand = ((slope.square().sum(1).sqrt() - 1) ** 2).sum()
    assert torch.autograd.grad(by_hand, w)[0].isnan().all()
    ours = jax.grad(lambda w: jnp.sum(jaxloss.gradient_penalty(lambda x: x @ w, jnp.ones((3, 2)))))(jnp.zeros(2))
    np.testing.assert_array_equal(ours, np.zeros(2))
