"""Segmentation and boxes beside monai and kornia, which have channels first and one number a batch.

monai's smooth in the Dice loss is this one's, in the numerator and in the denominator apart. kornia adds 1e-8 to the
denominator alone, and its Tversky loss has no smooth. Its losses of integer labels are means over all classes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import monai.losses
import numpy as np
import pytest
import torch
from kornia import losses as kornia

import jaxloss


def pixels(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.asarray(2 * rng.normal(size=(2, 4, 5, 3)), np.float32), rng.integers(0, 3, size=(2, 4, 5))


def first(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)


def same(ours: Any, theirs: Any, z: np.ndarray) -> None:
    """Value and gradient by the logits."""
    value, slope = jax.value_and_grad(ours)(z)
    there = first(z)
    their_value = theirs(there)
    their_value.backward()
    np.testing.assert_allclose(value, their_value.item(), rtol=2e-5)
    np.testing.assert_allclose(slope, np.moveaxis(there.grad.numpy(), 1, -1), rtol=2e-4, atol=2e-7)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("jaccard", [False, True])
def test_monai_dice_and_jaccard(squared: bool, jaccard: bool) -> None:
    """Its squared Jaccard loss is 1 − I/(Σt² + Σp² − I), and so is ours: its `jaccard` doubles I in both places."""
    z, y = pixels()
    one_hot = np.eye(3, dtype=np.float32)[y]
    smooth = 0.5
    # 2 (I + s)/(2 (U + s)): monai doubles the union
    theirs = monai.losses.DiceLoss(
        softmax=True,
        squared_pred=squared,
        jaccard=jaccard,
        smooth_nr=2 * smooth if jaccard else smooth,
        smooth_dr=2 * smooth if jaccard else smooth,
    )
    loss = jaxloss.jaccard_loss if jaccard else jaxloss.dice_loss
    same(
        lambda z: jnp.mean(loss(z, one_hot, smooth=smooth, squared=squared)),
        lambda z: theirs(z, first(one_hot).detach()),
        z,
    )


def test_monai_generalized_dice() -> None:
    z, y = pixels(1)
    one_hot = np.eye(3, dtype=np.float32)[y]
    theirs = monai.losses.GeneralizedDiceLoss(softmax=True, smooth_nr=0, smooth_dr=0)
    same(
        lambda z: jnp.mean(jaxloss.generalized_dice_loss(z, one_hot)),
        lambda z: theirs(z, first(one_hot).detach()),
        z,
    )


def test_monai_tversky() -> None:
    z, y = pixels(2)
    one_hot = np.eye(3, dtype=np.float32)[y]
    theirs = monai.losses.TverskyLoss(softmax=True, alpha=0.2, beta=0.9, smooth_nr=0.5, smooth_dr=0.5)
    same(
        lambda z: jnp.mean(jaxloss.tversky_loss(z, one_hot, alpha=0.2, beta=0.9, smooth=0.5)),
        lambda z: theirs(z, first(one_hot).detach()),
        z,
    )


def test_kornia_lovasz() -> None:
    """kornia means over images, and its softmax form over all classes."""
    z, y = pixels(3)
    y[0, 0, :3] = [0, 1, 2]  # every class is there
    same(
        lambda z: jnp.mean(jaxloss.lovasz_softmax_loss(z, y, classes="all")),
        lambda z: kornia.lovasz_softmax_loss(z, torch.tensor(y)),
        z,
    )
    yes = y > 0
    same(
        lambda z: jnp.mean(jaxloss.lovasz_hinge_loss(z, yes[..., None])),
        lambda z: kornia.lovasz_hinge_loss(z, torch.tensor(yes.astype(np.int64))),
        z[..., :1],
    )


def iou_of(loss: str, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The papers' formulas in torch."""
    low, high = torch.maximum(p[:, :2], t[:, :2]), torch.minimum(p[:, 2:], t[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    (w, h), (u, v) = (p[:, 2:] - p[:, :2]).T, (t[:, 2:] - t[:, :2]).T
    union = w * h + u * v - both
    around = torch.maximum(p[:, 2:], t[:, 2:]) - torch.minimum(p[:, :2], t[:, :2])
    iou = 1 - both / union
    if loss == "iou_loss":
        return iou
    if loss == "giou_loss":
        return iou + (around.prod(-1) - union) / around.prod(-1)
    distance = ((p[:, :2] + p[:, 2:] - t[:, :2] - t[:, 2:]) / 2).square().sum(-1) / around.square().sum(-1)
    if loss == "diou_loss":
        return iou + distance
    ratio = 4 / np.pi**2 * (torch.atan(u / v) - torch.atan(w / h)).square()
    with torch.no_grad():
        alpha = ratio / (iou + ratio)
    return iou + distance + alpha * ratio


@pytest.mark.parametrize("name", ["iou_loss", "giou_loss", "diou_loss", "ciou_loss"])
def test_torch_boxes(name: str) -> None:
    rng = np.random.default_rng(4)
    low, size = rng.uniform(-1, 1, size=(2, 40, 2)), rng.uniform(0.2, 2, size=(2, 40, 2))
    p, t = (np.asarray(x, np.float32) for x in np.concatenate([low, low + size], axis=-1))
    losses, pullback = jax.vjp(lambda p: getattr(jaxloss, name)(p, t), p)
    there = torch.tensor(p, dtype=torch.float64, requires_grad=True)
    theirs = iou_of(name, there, torch.tensor(t, dtype=torch.float64))
    theirs.sum().backward()
    np.testing.assert_allclose(losses, theirs.detach(), rtol=2e-6)
    np.testing.assert_allclose(pullback(jnp.ones(40))[0], there.grad, rtol=1e-5, atol=1e-5)
