"""What the losses of segmentation and detection promise beyond the contract."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_accuracy import TINY, ulps

import jaxloss

mp.mp.dps = 60
F32 = jnp.float32
OVERLAPS = [
    jaxloss.dice_loss,
    jaxloss.jaccard_loss,
    jaxloss.tversky_loss,
    jaxloss.focal_tversky_loss,
    jaxloss.generalized_dice_loss,
]
BOXES = [jaxloss.iou_loss, jaxloss.giou_loss, jaxloss.diou_loss, jaxloss.ciou_loss]
EVERY = pytest.mark.parametrize("loss", OVERLAPS, ids=lambda f: f.__name__)


def within(got: Any, want: list[mp.mpf], bound: float) -> None:
    """A gradient: its errors in units in the last place of the largest component."""
    largest = max(abs(x) for x in want)
    unit = mp.mpf(2) ** (mp.floor(mp.log(max(largest, TINY), 2)) - 23)
    errors = [max(abs(mp.mpf(float(g)) - w) - 128 * TINY, 0) / unit for g, w in zip(np.ravel(got), want, strict=True)]
    assert max(errors) <= bound, (float(max(errors)), got, want)


# --- Accuracy -------------------------------------------------------------------------------------------------------


def true_sums(z: Any, t: Any) -> tuple[mp.mpf, mp.mpf, mp.mpf, list[Any]]:
    """TP, FP and FN of one class, and the derivatives of the three by each logit."""
    p = [1 / (1 + mp.exp(-x)) for x in z]
    q = [1 / (1 + mp.exp(x)) for x in z]
    slopes = [(p * q * t, p * q * (1 - t), -p * q * t) for p, q, t in zip(p, q, t, strict=True)]
    sums = zip(*((p * t, p * (1 - t), q * t) for p, q, t in zip(p, q, t, strict=True)), strict=True)
    return *(mp.fsum(x) for x in sums), slopes


# a and b of (a FP + b FN)/(a FP + b FN + c TP + s), and the power of it
RATIOS = {"dice_loss": (1, 1, 2, 1), "jaccard_loss": (1, 1, 1, 1)}
ALPHA, BETA = (mp.mpf(float(np.float32(x))) for x in (0.3, 0.7))
RATIOS |= {"tversky_loss": (ALPHA, BETA, 1, 1), "focal_tversky_loss": (ALPHA, BETA, 1, 1 / mp.mpf(float(np.float32(4 / 3))))}


@pytest.mark.sweep
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("name", RATIOS)
def test_binary_losses_within_8_ulp(name: str, smooth: float) -> None:
    """From certainly right to certainly wrong, and everything between."""
    a, b, c, power = RATIOS[name]
    rng = np.random.default_rng(1)
    truth = np.asarray([1, 1, 0, 0, 0, 1])
    both = jax.jit(
        jax.value_and_grad(lambda z: getattr(jaxloss, name)(z[None, :, None], truth[None, :, None], smooth=smooth)[0])
    )
    for scale in (0.01, 1.0, 10.0, 30.0, 80.0):
        for sign in (1, -1, 0):
            z = rng.normal(size=6) if sign == 0 else sign * (2 * truth - 1) * rng.uniform(0.5, 1, size=6)
            z = np.asarray(scale * z, np.float32)
            tp, fp, fn, slopes = true_sums([mp.mpf(float(x)) for x in z], [int(x) for x in truth])
            wrong, right = a * fp + b * fn, c * tp + smooth
            value = (wrong / (wrong + right)) ** power
            got, gradient = both(z)
            assert ulps(got, value) <= 8, (scale, sign)
            factor = power * (wrong / (wrong + right)) ** (power - 1) / (wrong + right) ** 2
            want = [factor * (right * (a * y + b * z) - wrong * c * x) for x, y, z in slopes]
            within(gradient, want, 8)


def true_dice(z: np.ndarray, t: np.ndarray) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """The Dice losses of a softmax at smooth = 0, and the gradient of their sum."""
    n, k = z.shape
    rows = [[mp.exp(mp.mpf(float(x))) for x in row] for row in z]
    p = [[e / mp.fsum(row) for e in row] for row in rows]
    q = [[mp.fsum(row[:j] + row[j + 1 :]) / mp.fsum(row) for j in range(k)] for row in rows]
    losses, a = [], [[mp.mpf(0)] * k for _ in range(n)]
    for j in range(k):
        wrong = mp.fsum(p[i][j] if t[i, j] == 0 else q[i][j] for i in range(n))
        whole = wrong + 2 * mp.fsum(p[i][j] for i in range(n) if t[i, j] == 1)
        losses.append(wrong / whole)
        for i in range(n):
            a[i][j] = ((1 - 2 * int(t[i, j])) - wrong / whole) / whole
    slope = [p[i][j] * mp.fsum(p[i][c] * (a[i][j] - a[i][c]) for c in range(k)) for i in range(n) for j in range(k)]
    return losses, slope


def test_softmax_dice_within_8_ulp() -> None:
    rng = np.random.default_rng(2)
    t = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
    dice = functools.partial(jaxloss.dice_loss, axis=0, smooth=0.0)
    losses = jax.jit(lambda z: (dice(z, t), jax.grad(lambda z: jnp.sum(dice(z, t)))(z)))
    for scale in (0.01, 1.0, 10.0, 30.0, 80.0):
        for sign in (1, -1, 0):
            z = rng.normal(size=(5, 3)) if sign == 0 else sign * t * rng.uniform(0.5, 1, size=(5, 3))
            z = np.asarray(scale * z, np.float32)
            got, gradient = losses(z)
            want, slope = true_dice(z, t)
            assert max(map(ulps, np.asarray(got), want)) <= 8, (scale, sign)
            within(gradient, slope, 8)
    for scale in (5.0, 10.0, 20.0, 40.0, 80.0):  # sure and right, by differences that are rounded
        for _ in range(5):
            z = np.asarray(scale * (t + 0.1 * rng.normal(size=(5, 3))), np.float32)
            got, gradient = losses(z)
            want, slope = true_dice(z, t)
            assert max(map(ulps, np.asarray(got), want)) <= 8 + np.ptp(z), scale
            within(gradient, slope, 8 + np.ptp(z))


def true_boxes(name: str, p: list[mp.mpf], t: list[mp.mpf], alpha: Any = None) -> mp.mpf:
    sides = [(p[i], p[i + 2], t[i], t[i + 2]) for i in (0, 1)]
    both = mp.fprod(max(min(b, d) - max(a, c), mp.mpf(0)) for a, b, c, d in sides)
    union = mp.fprod(b - a for a, b, _, _ in sides) + mp.fprod(d - c for _, _, c, d in sides) - both
    around = [max(b, d) - min(a, c) for a, b, c, d in sides]
    iou = 1 - both / union
    if name == "iou_loss":
        return iou
    if name == "giou_loss":
        return iou + 1 - union / mp.fprod(around)
    loss = iou + mp.fsum(((a + b - c - d) / 2) ** 2 for a, b, c, d in sides) / mp.fsum(x * x for x in around)
    if name == "diou_loss":
        return loss
    angle = mp.atan((t[2] - t[0]) / (t[3] - t[1])) - mp.atan((p[2] - p[0]) / (p[3] - p[1]))
    v = 4 / mp.pi**2 * angle**2
    return loss + (v / (iou + v) if alpha is None else alpha) * v


@pytest.mark.sweep
@pytest.mark.parametrize("loss", BOXES, ids=lambda f: f.__name__)
def test_boxes_within_8_ulp(loss: Any) -> None:
    """Boxes that are almost the same, that overlap and that are apart, of all sizes; derivatives by mpmath's differences."""
    rng = np.random.default_rng(3)
    both = jax.jit(jax.value_and_grad(loss))
    name = loss.__name__
    for shift in (1e-6, 1e-3, 0.3, 1.0, 30.0):
        for size in (1e-20, 1.0, 1e15):
            t = np.concatenate([low := rng.uniform(-1, 1, size=2), low + rng.uniform(0.5, 1.5, size=2)])
            p, t = (np.asarray(size * x, np.float32) for x in (t + shift * rng.uniform(-1, 1, size=4) * [1, 1, 0.5, 0.5], t))
            p[2:] = np.maximum(p[2:], p[:2] + np.float32(0.1 * size))
            got, gradient = both(p, t)
            x, y = ([mp.mpf(float(v)) for v in box] for box in (p, t))
            assert ulps(got, true_boxes(name, x, y)) <= 8, (shift, size, p, t)
            alpha = None
            if name == "ciou_loss":  # held constant
                extra = true_boxes(name, x, y, alpha=mp.mpf(1)) - true_boxes("diou_loss", x, y)
                alpha = extra / (true_boxes("iou_loss", x, y) + extra)
            step = mp.mpf(size) * mp.mpf(10) ** -25
            want = []
            for i in range(4):
                up, down = ([*x[:i], x[i] + sign * step, *x[i + 1 :]] for sign in (1, -1))
                want.append((true_boxes(name, up, y, alpha) - true_boxes(name, down, y, alpha)) / (2 * step))
            within(gradient, want, 12 if name == "ciou_loss" else 8)


# --- The family -----------------------------------------------------------------------------------------------------


def random_pixels(seed: int, shape: tuple[int, ...] = (2, 3, 4, 3)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.asarray(2 * rng.normal(size=shape), np.float32), np.asarray(rng.uniform(size=shape), np.float32)


def test_tversky_is_dice_at_one_half_and_jaccard_at_one() -> None:
    z, t = random_pixels(0)
    half = jaxloss.tversky_loss(z, t, alpha=0.5, beta=0.5, smooth=0.5)
    np.testing.assert_allclose(half, jaxloss.dice_loss(z, t, smooth=1.0), rtol=1e-6)
    one = jaxloss.tversky_loss(z, t, alpha=1.0, beta=1.0, smooth=0.5)
    np.testing.assert_allclose(one, jaxloss.jaccard_loss(z, t, smooth=0.5), rtol=1e-6)
    first = jaxloss.focal_tversky_loss(z, t, gamma=1.0)
    np.testing.assert_allclose(first, jaxloss.tversky_loss(z, t), rtol=1e-6)


@pytest.mark.parametrize("loss", [jaxloss.dice_loss, jaxloss.jaccard_loss], ids=lambda f: f.__name__)
def test_soft_targets_are_the_minimum_of_the_squared_form(loss: Any) -> None:
    _, t = random_pixels(1)
    value, slope = jax.value_and_grad(lambda p: jnp.sum(loss(p, t, squared=True, from_logits=False)))(t)
    assert value == 0
    assert np.all(slope == 0)
    assert np.all(loss(t, t, from_logits=False) > 0.1)  # the plain form has its minimum at hard decisions


@pytest.mark.exhaustive
def test_optax_dice() -> None:
    """optax's smooth counts double; its mean over classes is the caller's here. Optax fails under jit on probabilities."""
    z, t = random_pixels(2)
    for smooth in (0.5, 1.0):
        got = jax.value_and_grad(lambda z, s=smooth: jnp.sum(jnp.mean(jaxloss.dice_loss(z, t, smooth=2 * s), axis=-1)))(z)
        want = jax.value_and_grad(lambda z, s=smooth: jnp.sum(optax.losses.dice_loss(z, t, smooth=s)))(z)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-4, atol=1e-7)
    got = jaxloss.tversky_loss(z, t, alpha=0.2, beta=0.9)
    np.testing.assert_allclose(got, optax.losses.dice_loss(z, t, alpha=0.2, beta=0.9, reduction="none"), rtol=1e-5)
    one = jaxloss.dice_loss(z[..., :1], t[..., :1], smooth=2.0)
    np.testing.assert_allclose(one[..., 0], optax.losses.dice_loss(z[..., :1], t[..., :1]), rtol=1e-5)


@pytest.mark.sweep
@EVERY
def test_probabilities_and_logits_agree(loss: Any) -> None:
    z, t = random_pixels(3)
    of_probabilities = jax.jit(functools.partial(loss, from_logits=False))
    np.testing.assert_allclose(of_probabilities(jax.nn.softmax(z), t), jax.jit(loss)(z, t), rtol=2e-6)
    np.testing.assert_allclose(
        of_probabilities(jax.nn.sigmoid(z[..., :1]), t[..., :1]), loss(z[..., :1], t[..., :1]), rtol=2e-6
    )


@EVERY
def test_hard_targets_of_every_type(loss: Any) -> None:
    z, t = random_pixels(4)
    hard = t > 0.5
    want = loss(z, hard.astype(np.float32))
    np.testing.assert_array_equal(loss(z, hard), want)
    np.testing.assert_array_equal(loss(z, hard.astype(np.int32)), want)


@pytest.mark.sweep
@EVERY
@pytest.mark.parametrize("from_logits", [True, False], ids=["logits", "probabilities"])
def test_masked_pixels_are_as_if_cut_out(loss: Any, from_logits: bool) -> None:
    """Whatever they hold, in the value and in both gradients."""
    rng = np.random.default_rng(5)
    z, t = (np.asarray(rng.uniform(size=(2, 6, 3)), np.float32) for _ in range(2))
    there = np.arange(6) < 4

    def total(z: Any, t: Any, where: Any) -> Any:
        return jnp.sum(jnp.sin(loss(z, t, axis=1, from_logits=from_logits, where=where)))

    both = jax.value_and_grad(total, (0, 1))
    want, slopes = both(z[:, :4], t[:, :4], None)
    bad = (np.where(there[:, None], x, np.nan).astype(np.float32) for x in (z, t))
    value, masked = both(*bad, there)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    for got, true in zip(masked, slopes, strict=True):
        np.testing.assert_allclose(got[:, :4], true, rtol=2e-6, atol=1e-8)
        assert np.all(got[:, 4:] == 0)


@pytest.mark.sweep("3-probabilities-plain")
@pytest.mark.parametrize("squared", [False, True], ids=["plain", "squared"])
@pytest.mark.parametrize("from_logits", [True, False], ids=["logits", "probabilities"])
@pytest.mark.parametrize("classes", [1, 3])
def test_derivatives_by_hard_targets(classes: int, from_logits: bool, squared: bool) -> None:
    """The first, under `autodiff` too, and the second, by predictions, targets and smoothing: at targets of 0 and 1."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(6)
        z, t = 3 * rng.normal(size=(4, classes)), rng.integers(0, 2, size=(4, classes)).astype(float)
        weights = rng.normal(size=classes)
        to_p = jax.nn.softmax if classes > 1 else jax.nn.sigmoid
        z = z if from_logits else to_p(z)

        def ours(z: Any, t: Any, smooth: Any) -> Any:
            options = {"smooth": smooth, "squared": squared, "from_logits": from_logits}
            return jnp.sum(weights * jaxloss.dice_loss(z, t, axis=0, **options))

        def naive(z: Any, t: Any, smooth: Any) -> Any:
            p = to_p(z) if from_logits else z
            sizes = p * p + t * t if squared else p + t
            return jnp.sum(weights * (1 - (2 * jnp.sum(p * t, 0) + smooth) / (jnp.sum(sizes, 0) + smooth)))

        def derivatives(loss: Any, first: Any) -> Any:
            return jax.grad(first(loss), (0, 1, 2))(z, t, 0.7), jax.hessian(loss, (0, 1, 2))(z, t, 0.7)

        want = derivatives(naive, lambda f: f)
        for first in (lambda f: f, jaxloss.autodiff):
            got = derivatives(ours, first)
            for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)


@EVERY
def test_probabilities_beyond_1_by_rounding(loss: Any) -> None:
    """As an average of probabilities may be."""
    p = jnp.full((3, 3, 1), 1 + 2.0**-23, F32)
    value, slope = jax.value_and_grad(lambda p: jnp.sum(loss(p, jnp.ones((3, 3, 1)), from_logits=False)))(p)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    assert np.all(np.isfinite(slope))


@pytest.mark.sweep
@EVERY
def test_pixel_axes(loss: Any) -> None:
    """Pixels may be anywhere but last: a volume, a list, channels first with the classes moved."""
    z, t = random_pixels(5)
    want = loss(z, t)
    flat = [x.reshape(2, 12, 3) for x in (z, t)]
    np.testing.assert_allclose(loss(*flat, axis=1), want, rtol=1e-6)
    turned = [np.moveaxis(x, 0, 2) for x in (z, t)]
    np.testing.assert_allclose(loss(*turned, axis=(0, 1)), want, rtol=1e-6)
    where = np.arange(24).reshape(2, 3, 4) % 5 != 0
    want = loss(z, t, where=where)
    np.testing.assert_allclose(loss(*turned, axis=(0, 1), where=np.moveaxis(where, 0, 2)), want, rtol=1e-6)
    np.testing.assert_allclose(loss(z, t, where=where[:1, :, :1]), loss(z, t, where=np.tile(where[:1, :, :1], (2, 1, 4))))
    whole = loss(z, t, axis=(0, 1, 2))
    np.testing.assert_allclose(whole, loss(z.reshape(1, 6, 4, 3), t.reshape(1, 6, 4, 3))[0], rtol=1e-6)
    for axis in (None, (-1,), (0, 0), (1, 3)):
        with pytest.raises(ValueError, match="axis must name"):
            loss(z, t, axis=axis)


def test_absent_classes_of_the_generalized_dice_loss() -> None:
    """They weigh as much as the smallest class: as in monai, and not infinitely much."""
    p = np.asarray([[[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]], np.float32)
    t = np.eye(3, dtype=np.float32)[[[0, 0, 1]]]
    w = np.asarray([1 / 4, 1, 1])
    want = 1 - 2 * np.sum(w * np.sum(p * t, (0, 1))) / np.sum(w * np.sum(p + t, (0, 1)))
    loss = functools.partial(jaxloss.generalized_dice_loss, from_logits=False)
    np.testing.assert_allclose(loss(p, t), want, rtol=1e-6)
    assert np.all(np.isfinite(jax.grad(loss, argnums=1)(p, t)))


@pytest.mark.sweep("True")
@pytest.mark.parametrize("masked", [False, True])
def test_images_of_an_odd_size(masked: bool) -> None:
    """No row of pixels divides them evenly but one of 311: all derivatives are those of the naive formula."""
    z, t = random_pixels(6, (2, 311, 323, 3))
    where = np.arange(2 * 311 * 323).reshape(2, 311, 323) % 7 != 3 if masked else None

    def derivatives(loss: Any) -> Any:
        def total(z: Any, t: Any) -> Any:
            return jnp.sum(jnp.sin(3 * loss(z, t, where=where)))

        both = jax.value_and_grad(total, argnums=(0, 1))
        return jax.jit(lambda z, t: (both(z, t), jax.jvp(both, (z, t), (jnp.cos(t), jnp.sin(z)))[1]))(z, t)

    def naive(z: Any, t: Any, where: Any) -> Any:
        p, on = jax.nn.softmax(z), 1.0 if where is None else where[..., None]
        both, total = (jnp.sum(on * x, axis=(1, 2)) for x in (p * t, p + t))
        return 1 - (2 * both + 1) / (total + 1)

    ((value, slopes), curvature) = derivatives(jaxloss.dice_loss)
    ((want, true_slopes), true_curvature) = derivatives(naive)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    for got, true in zip(
        jax.tree.leaves((slopes, curvature[1])), jax.tree.leaves((true_slopes, true_curvature[1])), strict=True
    ):
        np.testing.assert_allclose(got, true, atol=1e-4 * np.max(np.abs(true)))


@pytest.mark.parametrize(
    ("loss", "most"), [(jaxloss.dice_loss, 4e6), (jaxloss.jaccard_loss, 4e6), (jaxloss.tversky_loss, 23e6)]
)
def test_memory(loss: Any, most: float) -> None:
    """The probabilities are kept where the gradient goes: a few numbers a pixel beside it. optax takes 43 MB.

    Of the Tversky loss, whose pull on a probability is the longer formula, XLA stores that: 20 MB.
    """
    shapes = [jax.ShapeDtypeStruct((4, 256, 256, 19), F32)] * 2
    step = jax.jit(jax.value_and_grad(lambda z, t: jnp.mean(loss(z, t))))
    assert step.lower(*shapes).compile().memory_analysis().temp_size_in_bytes < most


@pytest.mark.sweep
@pytest.mark.parametrize("pixels", [(13, 11), (257, 255)])
@pytest.mark.parametrize("loss", [jaxloss.dice_loss, jaxloss.tversky_loss], ids=lambda f: f.__name__)
def test_a_sum_over_any_number_of_pixels(loss: Any, pixels: tuple[int, int]) -> None:
    """They are added up by blocks, whatever is left over: within 8 ulp, where one after another they lose hundreds."""
    z = np.random.default_rng(0).normal(size=(*pixels, 3)).astype(np.float32)
    t = (z == np.max(z, axis=-1, keepdims=True)).astype(np.float32)
    step = jax.value_and_grad(lambda z, t: (lambda losses: (jnp.sum(losses), losses))(loss(z, t)), has_aux=True)
    (_, losses), gradient = step(z, t)
    with jax.enable_x64(True):
        (_, want), want_gradient = step(z.astype(np.float64), t.astype(np.float64))
    np.testing.assert_allclose(losses, want, rtol=8 * 2.0**-24)
    np.testing.assert_allclose(gradient, want_gradient, rtol=0, atol=8 * 2.0**-24 * np.max(np.abs(want_gradient)))


def test_a_gradient_that_only_false_negatives_have() -> None:
    """Without their weight it is small, and no rest of what false positives have."""
    z, t = jnp.array([0.0, 0.0, -20.0, -20.0]).reshape(2, 2, 1), jnp.array([1.0, 1.0, 0.0, 0.0]).reshape(2, 2, 1)

    def total(z: Any, t: Any) -> Any:
        return jnp.sum(jaxloss.tversky_loss(z, t, alpha=1.0, beta=0.0))

    with jax.enable_x64(True):
        want = jax.grad(total)(z.astype(jnp.float64), t.astype(jnp.float64))
    np.testing.assert_allclose(jax.grad(total)(z, t), want, rtol=1e-5)


@pytest.mark.parametrize("sizes", ["b, h, w, 3", "h, w, 1", "4, 4, k"])
def test_sizes_known_only_when_it_runs(sizes: str) -> None:
    step = jax.jit(jax.grad(lambda z, t: jnp.sum(jaxloss.dice_loss(z, t))))
    arrays = [jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes), F32)] * 2
    exported = jax.export.export(step)(*arrays)
    shape = {"b, h, w, 3": (2, 5, 4, 3), "h, w, 1": (5, 4, 1), "4, 4, k": (4, 4, 7)}[sizes]
    z = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(exported.call(z, z), step(z, z), rtol=1e-5, atol=1e-7)


# --- Lovász ---------------------------------------------------------------------------------------------------------


def jaccard_of_a_set(mistakes: np.ndarray, yes: np.ndarray) -> float:
    """The Jaccard loss of a decision that differs from the truth at the mistakes."""
    union = np.sum(yes | mistakes)
    return float(np.sum(mistakes) / union) if union else 0.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=6, max_size=6))
def test_lovasz_softmax_extends_the_jaccard_loss(pixels: list[tuple[bool, bool]]) -> None:
    """At the corners, where a prediction is a decision, it is the Jaccard loss of the decision."""
    yes, mistakes = (np.asarray(x) for x in zip(*pixels, strict=True))
    p = (yes ^ mistakes).astype(np.float32)
    both = np.stack([1 - p, p], axis=-1)
    each = EACH_CLASS(both, yes.astype(np.int32))
    np.testing.assert_allclose(each, [jaccard_of_a_set(mistakes, ~yes), jaccard_of_a_set(mistakes, yes)], atol=1e-6)


EACH_CLASS = jax.jit(functools.partial(jaxloss.lovasz_softmax_loss, classes="each", from_logits=False, axis=0))
HINGE = jax.jit(functools.partial(jaxloss.lovasz_hinge_loss, axis=0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_lovasz_hinge_is_above_its_tangents(seed: int) -> None:
    """It is convex, and what is returned as its gradient is a subgradient, ties and kinks included."""
    rng = np.random.default_rng(seed)
    here, there = (np.asarray(rng.integers(-3, 4, size=(8, 1)), np.float32) for _ in range(2))  # many equal errors
    y = rng.integers(0, 2, size=(8, 1))
    value, slope = jax.value_and_grad(lambda z: HINGE(z, y)[0])(here)
    assert HINGE(there, y)[0] >= value + np.sum(slope * (there - here)) - 1e-5


def test_lovasz_does_not_depend_on_the_order_of_equal_errors() -> None:
    y = np.asarray([1, 0, 1, 0, 0, 1])[:, None]
    z = np.zeros((6, 1), np.float32)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(6)
        np.testing.assert_allclose(HINGE(z, y[order]), HINGE(z, y), rtol=1e-6)


def test_lovasz_with_many_pixels() -> None:
    """The steps of the Jaccard loss are 1/n² there: differences of the losses in float32 would be noise."""
    n = 20_000
    rng = np.random.default_rng(0)
    p, y = np.asarray(rng.uniform(size=n), np.float32), rng.uniform(size=n) < 0.3
    errors = np.where(y, 1 - p, p)
    order = np.argsort(-errors, kind="stable")
    loss = 1 - (y.sum() - np.cumsum(y[order])) / (y.sum() + np.cumsum(~y[order]))
    steps = np.empty(n)
    steps[order] = np.diff(loss, prepend=0)
    scores = np.stack([1 - p, p], axis=-1)
    slope = jax.grad(lambda p: EACH_CLASS(p, y.astype(np.int32))[1])(scores)[:, 1]
    np.testing.assert_allclose(np.where(y, -slope, slope), steps, rtol=1e-5)
    np.testing.assert_allclose(EACH_CLASS(scores, y.astype(np.int32))[1], np.sum(errors * steps), rtol=1e-5)


def test_lovasz_labels_out_of_range() -> None:
    z = np.zeros((4, 1), np.float32)
    both = np.zeros((4, 2), np.float32)
    for bad in (-1, 2, 255):
        y = np.asarray([0, 1, bad, 1])
        for loss, x, labels in [(jaxloss.lovasz_hinge_loss, z, y[:, None]), (jaxloss.lovasz_softmax_loss, both, y)]:
            total = functools.partial(lambda x, f, y, where: jnp.sum(f(x, y, axis=0, where=where)), f=loss, y=labels)
            value, slope = jax.value_and_grad(functools.partial(total, where=None))(x)
            assert np.isnan(value)
            assert np.any(np.isnan(slope))
            value, slope = jax.value_and_grad(functools.partial(total, where=np.asarray([True, True, False, True])))(x)
            assert np.isfinite(value)
            assert np.all(np.isfinite(slope))
    with pytest.raises(TypeError, match="labels must be integers or booleans, got float32"):
        jaxloss.lovasz_hinge_loss(z, z, axis=0)
    with pytest.raises(
        ValueError, match='classes must be "present", "all" or "each", got "some"'.replace('"some"', "'some'")
    ):
        jaxloss.lovasz_softmax_loss(both, y, axis=0, classes="some")
    with pytest.raises(ValueError, match="at least two classes"):
        jaxloss.lovasz_softmax_loss(z, y, axis=0)


# --- Boxes ----------------------------------------------------------------------------------------------------------


def test_published_values_of_giou() -> None:
    """Figure 1 of Rezatofighi et al. is in words; these are by hand: boxes apart by one, of area 1."""
    p, t = np.asarray([0.0, 0, 1, 1], np.float32), np.asarray([2.0, 0, 3, 1], np.float32)
    np.testing.assert_allclose(jaxloss.giou_loss(p, t), 1 + 1 / 3, rtol=1e-6)
    assert jax.grad(jaxloss.iou_loss)(p, t).tolist() == [0, 0, 0, 0]
    assert jax.grad(jaxloss.giou_loss)(p, t)[2] < 0  # it grows towards the other


@pytest.mark.parametrize("loss", BOXES, ids=lambda f: f.__name__)
def test_boxes_of_the_wrong_shape(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"predictions must be boxes of 4 numbers, x1, y1, x2, y2, got shape \(2, 3\)"):
        loss(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))


def test_detection() -> None:
    """A detector's objective: focal loss for what is there, smooth L1 or generalised IoU for where, by matched anchors."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 8, size=(16, 2))
    boxes = np.asarray(np.concatenate([low, low + rng.uniform(1, 3, size=(16, 2))], axis=-1), np.float32)
    matched = np.arange(16) % 4 == 0  # the other anchors have no box, and nothing in its place
    targets = np.where(matched[:, None], boxes, np.nan)

    def objective(parameters: Any, located: Any) -> Any:
        what = jaxloss.sigmoid_focal_loss(parameters["logits"], matched, alpha=0.25)
        where = located(parameters["boxes"])
        return (jnp.sum(what) + jnp.sum(where)) / np.sum(matched)

    def by_giou(p: Any) -> Any:
        return jaxloss.giou_loss(p, targets, where=matched)

    def by_smooth_l1(p: Any) -> Any:
        return jaxloss.smooth_l1_loss(p, targets, where=matched[:, None])

    for located, rate in ((by_giou, 0.05), (by_smooth_l1, 0.05)):
        optimizer = optax.adam(rate)
        start = {"logits": jnp.zeros(16), "boxes": jnp.asarray(boxes + 0.5, F32)}

        @jax.jit
        def train(start: Any, located: Any = located, optimizer: Any = optimizer) -> Any:
            def step(carry: Any, _: Any) -> Any:
                parameters, state = carry
                updates, state = optimizer.update(jax.grad(objective)(parameters, located), state)
                return (optax.apply_updates(parameters, updates), state), None

            return jax.lax.scan(step, (start, optimizer.init(start)), length=200)[0][0]

        end = train(start)
        assert np.all((end["logits"] > 0) == matched)
        assert np.max(jaxloss.iou_loss(end["boxes"], boxes), where=matched, initial=0) < 0.1
        assert np.min(jaxloss.iou_loss(start["boxes"], boxes), where=matched, initial=1) > 0.2
        np.testing.assert_array_equal(end["boxes"][~matched], start["boxes"][~matched])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("loss", BOXES)
def test_a_box_and_itself(loss: Any, compiled: bool) -> None:
    """Exactly 0, with no slope: of 2,000 boxes at random the complete IoU loss gave up to 3e-16."""
    corners = np.random.default_rng(0).uniform(0, 10, (2000, 2, 2))
    boxes = jnp.asarray(np.sort(corners, axis=1).reshape(-1, 4), jnp.float32)
    both = jax.vmap(jax.value_and_grad(loss, (0, 1)))
    for x in jax.tree.leaves((jax.jit(both) if compiled else both)(boxes, boxes)):
        assert np.all(np.asarray(x) == 0)
