"""CTC beside torch: batches with lengths, values and gradients; and where torch gives NaN.

torch takes log-probabilities [T, B, K], so that its gradient passes through its log-softmax; lengths are paddings here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxloss


def batch(seed: int, size: int, frames: int, labels: int, classes: int):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, labels + 1, size=size)
    return (
        rng.normal(size=(size, frames, classes)).astype(np.float32),
        rng.integers(2 * labels, frames + 1, size=size),
        rng.integers(1, classes, size=(size, labels)),
        lengths,
    )


def of_torch(z, frames, y, lengths, blank=0):
    x = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    log_probs = torch.log_softmax(x, dim=-1).transpose(0, 1)
    sizes = torch.tensor(frames), torch.tensor(lengths)
    losses = torch.nn.functional.ctc_loss(log_probs, torch.tensor(y), *sizes, blank=blank, reduction="none")
    losses.sum().backward()
    return losses.detach().numpy(), x.grad.numpy()


def ours(z, frames, y, lengths, blank=0):
    paddings = np.arange(z.shape[1]) >= frames[:, None], np.arange(y.shape[1]) >= lengths[:, None]

    def total(z):
        losses = jaxloss.ctc_loss(z, paddings[0], y, paddings[1], blank_id=blank)
        return jnp.sum(losses), losses

    (_, losses), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(z)
    return losses, gradient


@pytest.mark.parametrize("seed", range(3))
def test_batches_with_lengths(seed):
    data = batch(seed, 4, 40, 10, 7)
    (want, slope), (got, gradient) = of_torch(*data), ours(*data)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, atol=2e-6)


def test_another_blank():
    z, frames, y, lengths = batch(9, 3, 20, 5, 6)
    data = z, frames, np.where(y == 4, 0, y), lengths
    (want, slope), (got, gradient) = of_torch(*data, blank=4), ours(*data, blank=4)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, atol=2e-6)


def test_an_impossible_alignment():
    """Both give inf; torch's gradient is NaN without `zero_infinity`, ours is 0."""
    data = np.zeros((1, 2, 3), np.float32), np.array([2]), np.array([[1, 1]]), np.array([2])
    (want, slope), (got, gradient) = of_torch(*data), ours(*data)
    assert want[0] == got[0] == np.inf
    assert np.any(np.isnan(slope))
    assert np.all(gradient == 0)
