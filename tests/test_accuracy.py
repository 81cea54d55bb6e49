"""Accuracy in float32 against mpmath at 60 digits, over all finite inputs, and of every 16-bit number.

The bounds are in units in the last place of the true result, plus 128 times the smallest normal number: XLA flushes what
is below it to 0.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import jaxloss

mp.mp.dps = 60
TINY = mp.mpf(2) ** -126
LARGEST = mp.mpf(float(np.finfo(np.float32).max))
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)


def grid() -> np.ndarray:
    """Both signs from 1e-37 to 3e38, denser where the losses bend."""
    wide = np.logspace(-37, np.log10(3e38), 151)
    dense = np.concatenate([np.linspace(0.01, 3, 150), np.linspace(3, 110, 108)])
    points = np.concatenate([wide, dense, [0.5, 1.0, 88.0, 1e4]])
    return np.concatenate([points, -points, [0.0]]).astype(np.float32)


def ulps(got: Any, want: mp.mpf) -> float:
    """The error in units of the last place of `want`, beyond what flushing to 0 explains."""
    if abs(want) > LARGEST:
        return 0.0 if np.isinf(got) and np.sign(got) == mp.sign(want) else mp.inf
    error = abs(mp.mpf(float(got)) - want) - 128 * TINY
    unit = mp.mpf(2) ** (mp.floor(mp.log(max(abs(want), TINY), 2)) - 23)
    return float(max(error, 0) / unit)


def worst(got: Any, points: np.ndarray, true: Callable[[mp.mpf], mp.mpf]) -> tuple[float, float]:
    """The largest error, and where."""
    errors = [ulps(g, true(mp.mpf(float(x)))) for g, x in zip(np.asarray(got), points, strict=True)]
    i = int(np.argmax(errors))
    return errors[i], float(points[i])


def softplus(x: mp.mpf) -> mp.mpf:
    return max(x, mp.mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def sigma(x: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.exp(-x)) if x > -1e5 else mp.mpf(0)


def log_cosh(r: mp.mpf) -> mp.mpf:
    a = abs(r)
    return mp.log(mp.cosh(a)) if a < 200 else a - mp.log(2)


def tanh(r: mp.mpf) -> mp.mpf:
    return mp.tanh(r) if abs(r) < 200 else mp.sign(r)


def sech_squared(r: mp.mpf) -> mp.mpf:
    return 1 / mp.cosh(r) ** 2 if abs(r) < 1e4 else mp.mpf(0)


def huber(r: mp.mpf) -> mp.mpf:
    return r * r / 2 if abs(r) <= 1 else abs(r) - mp.mpf(1) / 2


def clip(r: mp.mpf) -> mp.mpf:
    return max(min(r, mp.mpf(1)), mp.mpf(-1))


EPSILON = mp.mpf(float(np.float32(1e-3)))

# Losses of a residual: value, derivative, and the second derivative where there is a rule for it.
RESIDUAL: list[tuple[Any, Any, Any]] = [
    (jaxloss.squared_error, lambda r: r * r, lambda r: 2 * r),
    (jaxloss.l2_loss, lambda r: r * r / 2, lambda r: r),
    (jaxloss.absolute_error, abs, mp.sign),
    (jaxloss.huber_loss, huber, clip),
    (jaxloss.smooth_l1_loss, huber, clip),
    (jaxloss.log_cosh, log_cosh, tanh),
    (jaxloss.pseudo_huber_loss, lambda r: r * r / (mp.sqrt(1 + r * r) + 1), lambda r: r / mp.sqrt(1 + r * r)),
    (
        jaxloss.charbonnier_loss,
        lambda r: mp.sqrt(r * r + EPSILON**2),
        lambda r: r / mp.sqrt(r * r + EPSILON**2),
    ),
]


def both_modes(f: Callable[..., Any], x: Any) -> list[Any]:
    return [f(x), jax.jit(f)(x)]


def slope(f: Callable[..., Any]) -> Callable[..., Any]:
    return jax.grad(lambda x: jnp.sum(f(x)))


@pytest.mark.sweep
@pytest.mark.parametrize(("loss", "value", "derivative"), RESIDUAL, ids=lambda x: getattr(x, "__name__", ""))
def test_regression_within_4_ulp(loss: Any, value: Any, derivative: Any) -> None:
    points = grid()
    x = jnp.asarray(points)

    def f(x: Any) -> Any:
        return loss(x, jnp.zeros_like(x))

    for got in both_modes(f, x):
        assert worst(got, points, value)[0] <= 4, worst(got, points, value)
    for got in both_modes(slope(f), x):
        assert worst(got, points, derivative)[0] <= 4, worst(got, points, derivative)


def test_second_derivative_of_log_cosh_within_16_ulp() -> None:
    points = grid()
    got = jax.jit(slope(slope(lambda x: jaxloss.log_cosh(x, jnp.zeros_like(x)))))(jnp.asarray(points))
    assert worst(got, points, sech_squared)[0] <= 16


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_sigmoid_cross_entropy_within_4_ulp(label: float) -> None:
    points = grid()
    sign = 1 - 2 * label

    def f(x: Any) -> Any:
        return jaxloss.sigmoid_binary_cross_entropy(x, jnp.full_like(x, label))

    x = jnp.asarray(points)
    for got in both_modes(f, x):
        assert worst(got, points, lambda z: softplus(sign * z))[0] <= 4
    for got in both_modes(slope(f), x):
        assert worst(got, points, lambda z: sign * sigma(sign * z))[0] <= 4
    second = jax.jit(slope(slope(f)))(x)
    assert worst(second, points, lambda z: sigma(z) * sigma(-z))[0] <= 16


def focal_terms(s: mp.mpf, gamma: float) -> tuple[mp.mpf, mp.mpf, mp.mpf]:
    """The focal loss of the margin s, and its first and second derivative."""
    q, p, c = sigma(-s), sigma(s), softplus(-s)
    power = mp.exp(-gamma * softplus(s))
    inner = gamma * p * c + q
    # d power = −γ p power; d p = p q; d q = −p q; d c = −q
    second = -(-gamma * p * power * inner + power * (gamma * (p * q * c - p * q) - p * q))
    return power * c, -power * inner, second


@pytest.mark.sweep("1.0-2.0")
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_sigmoid_focal_within_8_ulp(gamma: float, label: float) -> None:
    points = grid()
    sign = 2 * label - 1

    def f(x: Any) -> Any:
        return jaxloss.sigmoid_focal_loss(x, jnp.full_like(x, label), gamma=gamma)

    x = jnp.asarray(points)
    for got in both_modes(f, x):
        found = worst(got, points, lambda z: focal_terms(sign * z, gamma)[0])
        assert found[0] <= 8, found
    for got in both_modes(slope(f), x):
        found = worst(got, points, lambda z: sign * focal_terms(sign * z, gamma)[1])
        assert found[0] <= 8, found
    second = jax.jit(slope(slope(f)))(x)
    assert np.all(np.isfinite(second))
    scale = max(abs(focal_terms(mp.mpf(float(z)), gamma)[2]) for z in np.linspace(-8, 8, 65))
    for got, z in zip(np.asarray(second), points, strict=True):
        true = focal_terms(sign * mp.mpf(float(z)), gamma)[2]
        # It changes sign: relative to its largest value there. A flushed p(1 − p) is multiplied by γ and the cross-entropy.
        floor = 128 * TINY * (1 + gamma)
        error = abs(mp.mpf(float(got)) - true)
        assert error <= 16 * mp.mpf(2) ** -23 * (abs(true) if abs(z) > 8 else scale) + floor, z


@pytest.mark.sweep
@pytest.mark.parametrize("gamma", [2.0, 3.7, 5.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_sigmoid_focal_of_a_million_logits_within_8_ulp(gamma: float, label: float) -> None:
    """Beside float64. Near 0, where the errors of the entropy are multiplied by γ; a grid misses the worst of them."""
    z = np.linspace(-2, 2, 1_000_001).astype(np.float32)
    x, gamma = jnp.asarray(z), float(np.float32(gamma))

    def f(x: Any) -> Any:
        return jaxloss.sigmoid_focal_loss(x, jnp.full_like(x, label), gamma=gamma)

    s = (2 * label - 1) * z.astype(np.float64)
    entropy, mistake = np.logaddexp(0, -s), np.exp(-np.logaddexp(0, s))
    true = mistake**gamma * entropy
    slope_of_true = (1 - 2 * label) * mistake**gamma * (mistake + gamma * np.exp(-entropy) * entropy)
    for got, want in ((jax.jit(f)(x), true), (jax.jit(slope(f))(x), slope_of_true)):
        errors = np.abs(np.asarray(got, np.float64) - want) / np.spacing(np.abs(want).astype(np.float32))
        assert np.max(errors) <= 8, z[np.argmax(errors)]


def softmax_reference(row: np.ndarray, label: int) -> tuple[mp.mpf, list[mp.mpf]]:
    z = [mp.mpf(float(x)) for x in row]
    top = max(z)
    e = [mp.exp(x - top) for x in z]
    total = mp.fsum(e)
    others = mp.fsum(x for k, x in enumerate(e) if k != label)
    value = mp.log1p(others / e[label]) if e[label] > 0 else top - z[label] + mp.log(total)
    gradient = [x / total for x in e]
    gradient[label] = -others / total
    return value, gradient


def hard_rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = [[gap, 0, 0, 0] for gap in (1e-3, 1, 17, 20, 50, 80, 1e4)]
    rows += [[-gap, 0, 0.5, 1] for gap in (1, 17, 50, 1e4)]
    rows += [
        [1e4, 1e4 - 1, 1e4 - 20, 0],
        [3e38, 1e38, 0, -3e38],
        [5, 5, 5, 5],
        [7, 7, 0, -40],
        [-1e4, -1e4 + 0.5, 0, 1],
    ]
    random = [scale * rng.normal(size=4) for scale in (0.1, 1, 5, 20, 200) for _ in range(12)]
    return np.asarray([*rows, *random], np.float32)


def many_classes(classes: int) -> np.ndarray:
    """Rows whose first class leads, trails or is one of many; the second is far from it."""
    rows = np.random.default_rng(classes).normal(size=(8, classes))
    rows[2:4] *= 50
    rows[:, 0] += [0, 20, 0, 300, -30, 60, 70, 1e4]
    rows[6] += 1e4
    return rows.astype(np.float32)


@pytest.mark.sweep("400-1-integer")
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("rows", [hard_rows(), many_classes(400), many_classes(4099)], ids=["4", "400", "4099"])
def test_softmax_cross_entropy_within_4_ulp(soft: bool, label: int, rows: np.ndarray) -> None:
    """One block of classes, several, and several that do not divide them.

    The gradient of many classes is within 6: the sum over them has roundings of its own.
    """
    x = jnp.asarray(rows)
    bound = 4 if x.shape[1] == 4 else 6

    def f(x: Any) -> Any:
        if soft:
            return jaxloss.softmax_cross_entropy(x, jax.nn.one_hot(jnp.full(x.shape[0], label), x.shape[1]))
        return jaxloss.softmax_cross_entropy_with_integer_labels(x, jnp.full(x.shape[0], label))

    true = [softmax_reference(row, label) for row in rows]
    for values, gradients in ((f(x), slope(f)(x)), (jax.jit(f)(x), jax.jit(slope(f))(x))):
        for (value, gradient), got, got_gradient in zip(true, np.asarray(values), np.asarray(gradients), strict=True):
            assert ulps(got, value) <= 4
            assert max(map(ulps, got_gradient, gradient)) <= bound


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_softmax_cross_entropy_at_any_level_and_cotangent(factor: float) -> None:
    """Σ exp(s) may be near the largest number where the level lets it; the gradient is p times its factor all the same."""
    levels = np.float32([-3e38, -1e4, -60, -0.5, 0.5, 30, 60, 65, 70, 75, 80, 88, 100, 1e4, 3e38])
    gaps = np.float32([0, 0, 1, 20, 50])
    rows = levels[:, None] - np.concatenate([gaps, np.zeros(95, np.float32)])
    f = jaxloss.softmax_cross_entropy_with_integer_labels
    for label in (0, 4):
        got = jax.jit(jax.grad(lambda z, label=label: factor * jnp.sum(f(z, jnp.full(len(z), label)))))(rows)
        for row, gradient in zip(rows, np.asarray(got), strict=True):
            true = [factor * x for x in softmax_reference(row, label)[1]]
            assert max(map(ulps, gradient, true)) <= 6, row


def test_second_derivatives_of_softmax_cross_entropy_at_any_level() -> None:
    """diag p − p pᵀ; and the third derivatives are the same at any level."""
    gaps = jnp.asarray([0.0, 1, 3, 9])
    f = functools.partial(jaxloss.softmax_cross_entropy_with_integer_labels, labels=jnp.asarray(1))
    p = jax.nn.softmax(-gaps)
    third = jax.jacfwd(jax.hessian(f))
    for level in (-1e4, -60, 30, 60, 70, 90, 1e4):
        np.testing.assert_allclose(jax.jit(jax.hessian(f))(level - gaps), jnp.diag(p) - jnp.outer(p, p), atol=2e-7)
        np.testing.assert_allclose(jax.jit(third)(level - gaps), jax.jit(third)(-gaps), atol=5e-7)


@pytest.mark.sweep
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
@pytest.mark.parametrize("rows", [hard_rows(), many_classes(400)], ids=["4", "400"])
def test_smoothed_softmax_cross_entropy_within_4_ulp(soft: bool, rows: np.ndarray) -> None:
    """The gradient p − t relative to the larger of the two, since it is a difference by nature."""
    x, classes = jnp.asarray(rows), rows.shape[1]
    smoothing = mp.mpf(float(np.float32(0.1)))

    def f(x: Any) -> Any:
        if soft:
            labels = jax.nn.one_hot(jnp.zeros(x.shape[0], int), classes)
            return jaxloss.softmax_cross_entropy(x, labels, label_smoothing=0.1)
        return jaxloss.softmax_cross_entropy_with_integer_labels(x, jnp.zeros(x.shape[0], int), label_smoothing=0.1)

    targets = [smoothing / classes + (1 - smoothing) * (k == 0) for k in range(classes)]
    for values, gradients in ((f(x), slope(f)(x)), (jax.jit(f)(x), jax.jit(slope(f))(x))):
        for row, value, gradient in zip(rows, np.asarray(values), np.asarray(gradients), strict=True):
            z = [mp.mpf(float(v)) for v in row]
            e = [mp.exp(v - max(z)) for v in z]
            total = mp.fsum(e)
            lse = max(z) + mp.log(total)
            assert ulps(value, mp.fsum(t * (lse - v) for t, v in zip(targets, z, strict=True))) <= 4, row
            for got, p, t in zip(gradient, (v / total for v in e), targets, strict=True):
                assert abs(mp.mpf(float(got)) - (p - t)) <= 4 * mp.mpf(2) ** -23 * max(p, t), row


@pytest.mark.parametrize("classes", [33, 65, 400])
def test_the_sums_of_soft_labels_within_3_ulp(classes: int) -> None:
    """Over thousands of rows: added one after another, the terms of 64 classes would lose up to 8 ulp."""
    rng = np.random.default_rng(classes)
    logits = (200 + 10 * rng.standard_normal((4000, classes))).astype(np.float32)
    drawn = rng.dirichlet(np.full(classes, 0.3), len(logits)).astype(np.float32)
    hard = np.zeros_like(drawn)
    hard[:, 0] = 1
    z = logits.astype(np.float64)
    gaps = np.log(np.sum(np.exp(z - z.max(-1, keepdims=True)), -1, keepdims=True)) + z.max(-1, keepdims=True) - z
    for labels, smoothing in ((drawn, 0.0), (hard, float(np.float32(0.1)))):
        got = jax.jit(functools.partial(jaxloss.softmax_cross_entropy, label_smoothing=smoothing))(logits, labels)
        want = np.sum(((1 - smoothing) * labels.astype(np.float64) + smoothing / classes) * gaps, -1)
        assert np.max(np.abs(np.asarray(got, np.float64) / want - 1)) <= 3 * 2.0**-23


@pytest.mark.sweep("2.0")
@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_focal_within_8_ulp(gamma: float) -> None:
    rows = hard_rows()
    x = jnp.asarray(rows)
    labels = jnp.zeros(len(rows), int)

    def f(x: Any) -> Any:
        return jaxloss.softmax_focal_loss_with_integer_labels(x, labels, gamma=gamma)

    for values, gradients in ((f(x), slope(f)(x)), (jax.jit(f)(x), jax.jit(slope(f))(x))):
        for row, value, gradient in zip(rows, np.asarray(values), np.asarray(gradients), strict=True):
            z = [mp.mpf(float(v)) for v in row]
            top = max(z[1:])
            e = [mp.exp(v - top) for v in z[1:]]
            total = mp.fsum(e)
            true, slope_by_margin, _ = focal_terms(z[0] - top - mp.log(total), gamma)
            assert ulps(value, true) <= 8, (row, value)
            want = [slope_by_margin, *(-slope_by_margin * v / total for v in e)]
            unit = mp.mpf(2) ** -23 * max(abs(v) for v in want)
            for got, component in zip(gradient, want, strict=True):
                assert abs(mp.mpf(float(got)) - component) <= 8 * unit + 128 * TINY, row


@pytest.mark.sweep
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
@pytest.mark.parametrize("classes", [4, 1000, 1009])
def test_softmax_focal_of_thousands_of_rows_within_8_ulp(classes: int, soft: bool) -> None:
    """Beside float64, at the highest γ, by which rounding errors count the most."""
    gamma, rng = 5.0, np.random.default_rng(classes)
    rows = np.concatenate([scale * rng.normal(size=(1000, classes)) for scale in (1, 1, 5)])
    labels = rng.integers(0, classes, len(rows))
    at_label = np.arange(len(rows)), labels
    rows[at_label] += np.repeat([2, 10, 20], 1000)
    rows = rows.astype(np.float32)
    targets = jax.nn.one_hot(labels, classes) if soft else jnp.asarray(labels)
    loss = jaxloss.softmax_focal_loss if soft else jaxloss.softmax_focal_loss_with_integer_labels
    values, pullback = jax.vjp(lambda x: loss(x, targets, gamma=gamma), jnp.asarray(rows))
    got, gradient = (np.asarray(x, np.float64) for x in (values, *pullback(jnp.ones(len(rows)))))

    others = rows.astype(np.float64)
    others[at_label] = -np.inf
    top = np.max(others, axis=-1, keepdims=True)
    e = np.exp(others - top)
    total = np.sum(e, axis=-1, keepdims=True)
    margin = rows[at_label] - (top + np.log(total))[:, 0]
    entropy, mistake = np.logaddexp(0, -margin), np.exp(-np.logaddexp(0, margin))
    true = mistake**gamma * entropy
    slope_by_margin = -(mistake**gamma) * (mistake + gamma * np.exp(-entropy) * entropy)
    want = -slope_by_margin[:, None] * e / total
    want[at_label] = slope_by_margin

    normal = true > 1e-29  # below, the corrections are flushed to 0
    assert np.max((np.abs(got - true) / np.spacing(true.astype(np.float32)))[normal]) <= 8
    unit = 2.0**-23 * np.max(np.abs(want), axis=-1, keepdims=True)
    assert np.max((np.abs(gradient - want) / unit)[normal]) <= 8


SIXTEEN_BIT: list[tuple[Any, dict[str, Any], Any, Any, float]] = [
    (jaxloss.squared_error, {}, np.square, lambda r: 2 * r, 4),
    (jaxloss.l2_loss, {}, lambda r: r * r / 2, lambda r: r, 4),
    (jaxloss.absolute_error, {}, np.abs, np.sign, 4),
    (jaxloss.huber_loss, {}, lambda r: np.where(abs(r) <= 1, r * r / 2, abs(r) - 0.5), lambda r: np.clip(r, -1, 1), 4),
    (jaxloss.smooth_l1_loss, {}, lambda r: np.where(abs(r) < 1, r * r / 2, abs(r) - 0.5), lambda r: r.clip(-1, 1), 4),
    (
        jaxloss.log_cosh,
        {},
        lambda r: np.where(abs(r) < 1e-3, r * r / 2 - r**4 / 12, abs(r) + np.log1p(np.expm1(-2 * abs(r)) / 2)),
        np.tanh,
        4,
    ),
    (
        jaxloss.pseudo_huber_loss,
        {},
        lambda r: abs(r) * (abs(r) / (np.hypot(r, 1) + 1)),
        lambda r: r / np.hypot(r, 1),
        4,
    ),
    (
        jaxloss.charbonnier_loss,
        {},
        lambda r: np.hypot(r, np.float32(1e-3)),
        lambda r: r / np.hypot(r, np.float32(1e-3)),
        4,
    ),
    (jaxloss.quantile_loss, {"quantile": 0.75}, lambda r: np.where(r > 0, r / 4, -0.75 * r), None, 4),
    (jaxloss.expectile_loss, {"tau": 0.75}, lambda r: np.where(r > 0, r * r / 4, 0.75 * r * r), None, 4),
    (jaxloss.epsilon_insensitive_loss, {"epsilon": 0.25}, lambda r: np.maximum(abs(r) - 0.25, 0), None, 4),
]


@functools.cache
def every_number(dtype: Any) -> Any:
    """All finite 16-bit numbers but those that are 0 to XLA."""
    bits = jnp.arange(65536, dtype=jnp.uint32).astype(jnp.uint16)
    numbers = jax.lax.bitcast_convert_type(bits, dtype)
    wide = np.asarray(numbers.astype(jnp.float32))
    keep = np.isfinite(wide) & ((np.abs(wide) >= float(jnp.finfo(dtype).tiny)) | (wide == 0))
    return numbers[np.flatnonzero(keep)]


def check_every_number(f: Any, dtype: Any, value: Any, derivative: Any, bound: float) -> None:
    x = every_number(dtype)
    r = np.asarray(x.astype(jnp.float32)).astype(np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        want, slopes = value(r), None if derivative is None else derivative(r)
    floor = 128 * 2.0**-126
    largest = float(np.finfo(np.float32).max)
    got = np.asarray(jax.jit(f)(x), np.float64)
    magnitude = np.clip(np.abs(want), 2.0**-126, largest)
    unit = 2.0 ** (np.floor(np.log2(magnitude)) - 23)
    error = np.where(want > largest, np.where(np.isinf(got), 0, np.inf), np.abs(got - np.minimum(want, largest)))
    assert np.all(error <= bound * unit + floor), r[np.argmax(error / unit)]
    if slopes is None:
        return
    gradient = jax.jit(slope(f))(x)
    assert gradient.dtype == dtype
    narrow = np.asarray(gradient.astype(jnp.float32)).astype(np.float64)
    # correctly rounded or the neighbour
    limits = jnp.finfo(dtype)
    magnitude = np.maximum(np.abs(slopes), float(limits.tiny))
    step = 2.0 ** (np.floor(np.log2(magnitude)) - limits.nmant)
    beyond = np.abs(slopes) > float(limits.max)
    error = np.where(beyond, 0, np.abs(narrow - slopes))
    assert np.all(error <= 1.0001 * step + floor + float(limits.tiny)), r[np.argmax(error / step)]


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize(("loss", "options", "value", "derivative", "bound"), SIXTEEN_BIT)
def test_every_16_bit_number(dtype: Any, loss: Any, options: Any, value: Any, derivative: Any, bound: float) -> None:
    check_every_number(lambda x: loss(x, jnp.zeros_like(x), **options), dtype, value, derivative, bound)


def np_softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def np_sigma(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_every_16_bit_logit(dtype: Any, label: float) -> None:
    sign = 2 * label - 1
    check_every_number(
        lambda z: jaxloss.sigmoid_binary_cross_entropy(z, jnp.full_like(z, label)),
        dtype,
        lambda z: np_softplus(-sign * z),
        lambda z: -sign * np_sigma(-sign * z),
        4,
    )
    for gamma in GAMMAS:

        def of_margin(s: np.ndarray, gamma: float = gamma) -> tuple[np.ndarray, np.ndarray]:
            power = np.exp(-gamma * np_softplus(s))
            c = np.minimum(np_softplus(-s), 1e300)
            return power * c, -power * (gamma * np_sigma(s) * c + np_sigma(-s))

        check_every_number(
            lambda z, gamma=gamma: jaxloss.sigmoid_focal_loss(z, jnp.full_like(z, label), gamma=gamma),
            dtype,
            lambda z, of_margin=of_margin: of_margin(sign * z)[0],
            lambda z, of_margin=of_margin: sign * of_margin(sign * z)[1],
            8,
        )
