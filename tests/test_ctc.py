"""CTC against the enumeration of all paths, against float64, and where others fail."""

import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import checkify
from scipy import special

import jaxloss


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """Repetitions merged, then blanks removed."""
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def problem(seed: int, batch: int, frames: int, labels: int, classes: int, scale: float = 1.0) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    z = (scale * rng.normal(size=(batch, frames, classes))).astype(np.float32)
    live = rng.integers(min(2 * labels, frames), frames + 1, size=batch)
    length = rng.integers(0, labels + 1, size=batch)
    y = rng.integers(1, classes, size=(batch, labels))
    return z, np.arange(frames) >= live[:, None], y, np.arange(labels) >= length[:, None]


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("frames", range(1, 6))
def test_every_alignment(frames: int, blank: int) -> None:
    """All label sequences of at most 3 of 3 classes: probability, occupancy and best path by enumeration."""
    z = np.random.default_rng(frames).normal(size=(frames, 3))
    log_p = z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))
    speech = [k for k in range(3) if k != blank]
    sequences = [y for n in range(4) for y in itertools.product(speech, repeat=n)]
    paths: dict[Any, list[Any]] = {y: [] for y in sequences}
    for path in itertools.product(range(3), repeat=frames):
        paths.setdefault(collapsed(path, blank), []).append(path)
    labels = np.array([[*y, *[blank] * (3 - len(y))] for y in sequences])
    label_paddings = np.array([[0] * len(y) + [1] * (3 - len(y)) for y in sequences])
    logits = jnp.asarray(np.broadcast_to(z, (len(sequences), *z.shape)), jnp.float32)
    paddings = jnp.zeros(logits.shape[:2])

    def total(logits: Any) -> Any:
        losses = jaxloss.ctc_loss(logits, paddings, labels, label_paddings, blank_id=blank)
        return jnp.sum(losses, where=jnp.isfinite(losses)), losses

    (_, losses), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(logits)
    alignments = jaxloss.ctc_forced_alignment(logits, paddings, labels, label_paddings, blank_id=blank)
    for y, loss, gradient, alignment in zip(sequences, losses, gradients, alignments, strict=True):
        scores = np.array([sum(log_p[t, k] for t, k in enumerate(path)) for path in paths[y]])
        if not len(scores):
            assert loss == np.inf
            assert np.all(gradient == 0)
            assert np.all(alignment == -1)
            continue
        probability = np.sum(np.exp(scores))
        np.testing.assert_allclose(loss, -np.log(probability), rtol=1e-6, atol=1e-6)
        occupancy = np.zeros((frames, 3))
        for path, score in zip(paths[y], scores, strict=True):
            occupancy[np.arange(frames), path] += np.exp(score) / probability
        np.testing.assert_allclose(gradient, np.exp(log_p) - occupancy, atol=1e-6)
        said = [blank if n < 0 else y[n] for n in np.asarray(alignment)]
        assert tuple(said) == paths[y][int(np.argmax(scores))]
        assert list(alignment[alignment >= 0]) == sorted(alignment[alignment >= 0])


def test_greedy_decoding() -> None:
    rng = np.random.default_rng(0)
    best = rng.integers(0, 3, size=(20, 7))
    paddings = rng.random(size=(20, 7)) < 0.3
    logits = jax.nn.one_hot(best, 3)
    labels, label_paddings = jax.jit(jaxloss.ctc_greedy_decode)(logits, paddings)
    for row, skip, y, pad in zip(best, paddings, labels, label_paddings, strict=True):
        want = collapsed(tuple(row[~skip]), 0)
        assert tuple(np.asarray(y)[~np.asarray(pad)]) == want
        assert np.all(np.asarray(pad) == (np.arange(7) >= len(want)))
    nothing, empty = jaxloss.ctc_greedy_decode(jnp.zeros((2, 0, 3)), jnp.zeros((2, 0)))
    assert nothing.shape == empty.shape == (2, 0)


def in_float64(z: Any, paddings: Any, y: Any, label_paddings: Any) -> tuple[Any, Any]:
    """optax's recursion in float64, with a log ε that no sum of log-probabilities comes near."""
    with jax.enable_x64(True):

        def total(z: Any) -> Any:
            losses = optax.losses.ctc_loss(z, paddings * 1.0, y, label_paddings * 1.0, log_epsilon=-1e9)
            return jnp.sum(losses * jnp.arange(1.0, 1 + len(z))), losses

        (_, losses), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.asarray(z, jnp.float64))
        return np.asarray(losses), np.asarray(gradient)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("batch", "frames", "labels", "classes", "scale"),
    [(2, 2000, 200, 64, 1.0), (2, 4000, 50, 8, 3.0), (3, 300, 60, 16, 20.0)],
)
def test_thousands_of_frames(batch: int, frames: int, labels: int, classes: int, scale: float) -> None:
    data = problem(0, batch, frames, labels, classes, scale)
    want, want_gradient = in_float64(*data)

    def total(z: Any) -> Any:
        losses = jaxloss.ctc_loss(z, *data[1:])
        return jnp.sum(losses * jnp.arange(1.0, 1 + batch)), losses

    (_, losses), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(data[0])
    np.testing.assert_allclose(losses, want, rtol=1e-6)
    assert np.linalg.norm(gradient - want_gradient) <= 1e-5 * np.linalg.norm(want_gradient)


@jax.jit
def loss_and_gradient(z: Any, *rest: Any) -> Any:
    losses, pullback = jax.vjp(lambda z: jaxloss.ctc_loss(z, *rest), z)
    return losses, pullback(jnp.ones_like(losses))[0]


without_rule = jax.jit(jaxloss.autodiff(loss_and_gradient.__wrapped__))
SHAPES = [(1, 1, 1, 2), (3, 8, 3, 4), (2, 5, 0, 3), (2, 3, 4, 5)]  # a few: each is compiled


@pytest.mark.exhaustive
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SHAPES))
def test_shapes_and_paddings(seed: int, shape: tuple[int, int, int, int]) -> None:
    """Against the recursion in log space, which `autodiff` differentiates."""
    batch, frames, labels, classes = shape
    z, paddings, y, label_paddings = problem(seed, batch, frames, labels, classes, 4.0)
    paddings = paddings | (np.random.default_rng(seed).random(size=paddings.shape) < 0.2)

    losses, gradient = loss_and_gradient(z, paddings, y, label_paddings)
    assert np.all(losses >= 0)
    plain, slope = without_rule(z, paddings, y, label_paddings)
    np.testing.assert_allclose(losses, plain, rtol=1e-6)
    possible = np.isfinite(np.asarray(losses))[:, None, None]
    np.testing.assert_allclose(gradient, np.where(possible, slope, 0), atol=3e-6)
    assert np.all(np.where(paddings[..., None], gradient, 0) == 0)


@pytest.mark.exhaustive
def test_near_certainty_is_never_negative() -> None:
    """A path that is almost sure: rounding alone decides the sign of the plain formula."""
    y = np.tile([1, 2, 3, 2], 25)
    path = np.concatenate([[0], np.stack([y, np.zeros_like(y)], axis=1).ravel()])
    for gap in (5.0, 12.0, 20.0, 100.0):
        logits = gap * jax.nn.one_hot(path, 4)
        loss = jaxloss.ctc_loss(logits, jnp.zeros(len(path)), y, jnp.zeros(len(y)))
        assert loss >= 0
        want, _ = in_float64(logits[None], jnp.zeros((1, len(path))), y[None], np.zeros((1, len(y))))
        np.testing.assert_allclose(loss, want[0], atol=1e-7 * len(path))


@pytest.mark.exhaustive
def test_where_optax_fails() -> None:
    """An impossible alignment is 99999.99 with a gradient there; a class that cannot occur makes NaN."""
    impossible = np.zeros((1, 1, 3), np.float32), np.zeros((1, 1)), np.array([[1, 2]]), np.zeros((1, 2))
    assert 1e4 < optax.losses.ctc_loss(*impossible)[0] < np.inf
    assert np.any(jax.grad(lambda z: optax.losses.ctc_loss(z, *impossible[1:])[0])(impossible[0]) != 0)
    assert jaxloss.ctc_loss(*impossible)[0] == np.inf
    assert np.all(jax.grad(lambda z: jaxloss.ctc_loss(z, *impossible[1:])[0])(impossible[0]) == 0)
    masked = (
        np.array([[[0.0, 1.0, -np.inf], [0.5, 0.0, -np.inf]]], np.float32),
        np.zeros((1, 2)),
        np.array([[1]]),
        np.zeros((1, 1)),
    )
    assert np.isnan(optax.losses.ctc_loss(*masked)[0])
    without = masked[0][..., :2], *masked[1:]
    np.testing.assert_allclose(jaxloss.ctc_loss(*masked), optax.losses.ctc_loss(*without), rtol=1e-6)
    gradient = jax.grad(lambda z: jaxloss.ctc_loss(z, *masked[1:])[0])(masked[0])
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient[..., 2] == 0)


def test_forward_probs_are_those_of_optax() -> None:
    data = problem(3, 3, 12, 4, 5)
    data = data[0], np.zeros_like(data[1]), *data[2:]  # with padding at the end, optax's last row differs
    ours = jaxloss.ctc_loss_with_forward_probs(*data)
    theirs = optax.losses.ctc_loss_with_forward_probs(data[0], data[1] * 1.0, data[2], data[3] * 1.0)
    for got, want in zip(ours, theirs, strict=True):
        reached = np.asarray(want) > -1e4
        np.testing.assert_allclose(np.asarray(got)[reached], np.asarray(want)[reached], rtol=2e-5)
        assert np.all(np.asarray(got)[~reached] == -np.inf)


def test_a_bad_label_is_loud_and_checkify_says_so() -> None:
    z, paddings = jnp.zeros((2, 3, 4)), jnp.zeros((2, 3))
    labels, label_paddings = jnp.array([[1, 4], [1, 4]]), jnp.array([[0, 0], [0, 1]])
    losses, pullback = jax.vjp(lambda z: jaxloss.ctc_loss(z, paddings, labels, label_paddings), z)
    assert np.isnan(losses[0])
    assert np.isfinite(losses[1])
    gradient = pullback(jnp.ones(2))[0]
    assert np.all(np.isnan(gradient[0]))
    assert np.all(np.isfinite(gradient[1]))
    with jaxloss.debug_checks("checkify"):
        error, _ = checkify.checkify(jax.jit(jaxloss.ctc_loss))(z, paddings, labels, label_paddings)
    with pytest.raises(checkify.JaxRuntimeError, match="labels must be from 0 to 3"):
        error.throw()


@pytest.mark.exhaustive
def test_bfloat16_is_computed_in_float32() -> None:
    z, *rest = problem(5, 2, 30, 5, 6)
    low = jnp.asarray(z, jnp.bfloat16)
    loss, gradient = jax.value_and_grad(lambda z: jnp.sum(jaxloss.ctc_loss(z, *rest)))(low)
    want, slope = jax.value_and_grad(lambda z: jnp.sum(jaxloss.ctc_loss(z, *rest)))(low.astype(jnp.float32))
    assert loss.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    chex.assert_trees_all_close(gradient, slope.astype(jnp.bfloat16), atol=1e-6)


@pytest.mark.parametrize(("frames", "labels", "classes"), [(500, 50, 32), (100, 20, 1000)])
def test_memory_is_alpha_and_one_array_like_the_logits(frames: int, labels: int, classes: int) -> None:
    batch = 8
    z = jax.ShapeDtypeStruct((batch, frames, classes), jnp.float32)
    y = jnp.ones((batch, labels), int)

    def total(z: Any) -> Any:
        return jnp.sum(jaxloss.ctc_loss(z, jnp.zeros((batch, frames)), y, jnp.zeros((batch, labels))))

    compiled = jax.jit(jax.value_and_grad(total)).lower(z).compile()
    alpha = 4 * batch * frames * (2 * labels + 1)
    assert compiled.memory_analysis().temp_size_in_bytes <= 1.02 * (alpha + 4 * batch * frames * classes)


def test_nan_is_loud_and_a_frame_without_classes_is_impossible() -> None:
    labels, paddings = jnp.array([[1, 2]] * 3), (jnp.zeros((3, 5)), jnp.zeros((3, 2)))
    z = jnp.zeros((3, 5, 4)).at[0, 2, 3].set(jnp.nan).at[1, 2].set(-jnp.inf)
    losses, pullback = jax.vjp(lambda z: jaxloss.ctc_loss(z, paddings[0], labels, paddings[1]), z)
    gradient = np.asarray(pullback(jnp.ones(3))[0])
    assert np.isnan(losses[0])
    assert np.any(np.isnan(gradient[0]))
    assert losses[1] == np.inf
    assert np.all(gradient[1] == 0)
    assert np.all(np.isfinite(gradient[2]))


def test_labels_of_few_bits_and_a_label_that_is_the_blank() -> None:
    z = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 257)), jnp.float32)
    labels, paddings = np.array([[1, 200]]), (jnp.zeros((1, 9)), jnp.zeros((1, 2)))
    want = jaxloss.ctc_loss(z, paddings[0], labels, paddings[1], blank_id=256)
    np.testing.assert_array_equal(jaxloss.ctc_loss(z, paddings[0], labels.astype(np.uint8), paddings[1], blank_id=256), want)
    assert np.isnan(jaxloss.ctc_loss(z, paddings[0], labels, paddings[1], blank_id=200)[0])


@pytest.mark.exhaustive
def test_many_equal_frames() -> None:
    """One sequence of 2,000 frames of two classes: T log 2 less the logarithm of the number of paths."""
    frames, count = 2000, 500
    loss = jaxloss.ctc_loss(
        jnp.zeros((1, frames, 2)), jnp.zeros((1, frames)), jnp.ones((1, count), int), jnp.zeros((1, count))
    )
    want = frames * np.log(2) - float(
        special.gammaln(frames + 2) - special.gammaln(2 * count + 1) - special.gammaln(frames + 2 - 2 * count)
    )
    np.testing.assert_allclose(loss[0], want, atol=1e-7 * frames)


@pytest.mark.parametrize("blank", [0.0, 3, -1, None])
def test_blank_id_is_checked(blank: Any) -> None:
    def ctc(blank: Any) -> Any:
        paddings = jnp.zeros((1, 4)), jnp.zeros((1, 2))
        return jaxloss.ctc_loss(jnp.zeros((1, 4, 3)), paddings[0], jnp.ones((1, 2), int), paddings[1], blank_id=blank)

    def transducer(blank: Any) -> Any:
        ends = jnp.array([2]), jnp.array([1])
        return jaxloss.transducer_loss(jnp.zeros((1, 2, 2, 3)), ends[0], jnp.array([[1]]), ends[1], blank_id=blank)

    for loss in (ctc, transducer):
        if isinstance(blank, int):
            with pytest.raises(ValueError, match=f"blank_id must be from 0 to 2, got {blank}"):
                loss(blank)
            with pytest.raises(TypeError, match="blank_id must be an integer known at trace time, got"):
                jax.jit(loss)(blank)
        else:
            with pytest.raises(TypeError, match=f"blank_id must be an integer known at trace time, got {blank}"):
                loss(blank)


def exactly(z: Any, y: tuple[int, ...]) -> tuple[float, np.ndarray]:
    """Loss and gradient by enumeration, in numbers of 100 digits."""
    with mpmath.workdps(100):
        p = [[mpmath.exp(float(x)) for x in row] for row in z]
        p = [[x / mpmath.fsum(row) for x in row] for row in p]
        occupied = np.full(np.shape(z), mpmath.mpf(0))
        total = mpmath.mpf(0)
        for path in itertools.product(range(len(p[0])), repeat=len(p)):
            if collapsed(path, 0) == y:
                mass = mpmath.fprod(p[t][k] for t, k in enumerate(path))
                total += mass
                occupied[np.arange(len(p)), path] += mass
        return float(-mpmath.log(total)), (np.array(p) - occupied / total).astype(float)


def nearly_sure(path: list[int], classes: int, gap: float, noise: float = 0.0) -> np.ndarray:
    z = noise * np.random.default_rng(len(path)).normal(size=(len(path), classes))
    z[np.arange(len(path)), path] += gap
    return z.astype(np.float32)


@pytest.mark.parametrize("gap", [2, 4, 8, 12, 30, 80])
@pytest.mark.parametrize(
    ("path", "y", "classes"),
    [
        ([1, 1], (1,), 2),
        ([0, 1, 2, 0], (1, 2), 3),
        ([1, 0, 2, 2, 3, 0], (1, 2, 3), 4),
        ([1, 0, 1, 2, 1], (1, 1, 2, 1), 3),
        ([0, 0, 0], (), 3),
    ],
)
def test_labels_that_are_nearly_sure(path: list[int], y: tuple[int, ...], classes: int, gap: float) -> None:
    """The loss is right in relative terms, and the gradient in its norm, where the probability of the labels rounds to 1."""
    for noise in (0.0, 1.0):
        z = nearly_sure(path, classes, gap, noise)
        want, slope = exactly(z, y)
        losses, gradient = loss_and_gradient(
            z[None], np.zeros((1, len(z)), bool), np.array([y], int), np.zeros((1, len(y)), bool)
        )
        flushed = 128 * 2.0**-126
        np.testing.assert_allclose(losses[0], want, rtol=3e-7 * len(path), atol=flushed)
        assert np.linalg.norm(gradient[0].astype(float) - slope) <= 1e-5 * np.linalg.norm(slope) + flushed


@pytest.mark.parametrize("seed", range(8))
def test_frames_of_two_classes_that_are_nearly_sure(seed: int) -> None:
    """Where blank or the label, and where the label before or the next one, are alike: mass is in several states."""
    rng = np.random.default_rng(seed)
    y = [(1,), (1, 2), (1, 1), (2, 1, 2)][seed % 4]
    accepted = [path for path in itertools.product(range(3), repeat=5) if collapsed(path, 0) == y]
    z = rng.normal(size=(5, 3))
    path, other = (accepted[i] for i in rng.integers(len(accepted), size=2))
    z[np.arange(5), path] += 25
    z[2, other[2]] = z[2, path[2]]
    z = z.astype(np.float32)
    want, slope = exactly(z, y)
    losses, gradient = loss_and_gradient(z[None], np.zeros((1, 5), bool), np.array([y]), np.zeros((1, len(y)), bool))
    np.testing.assert_allclose(losses[0], want, rtol=2e-6)
    assert np.linalg.norm(gradient[0].astype(float) - slope) <= 1e-5 * np.linalg.norm(slope)


def test_sure_and_unsure_sequences_of_one_batch_with_padding() -> None:
    """Each has its own recursion; padding within the frames and after the labels, and a class of −inf."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 7, 4)).astype(np.float32)
    z[0, [0, 1, 3, 4, 5], [1, 0, 2, 2, 0]] += 18
    z[2, np.arange(7), [3, 3, 0, 3, 1, 0, 0]] += 9
    z[2, 4, 2] = -np.inf
    paddings = np.zeros((3, 7), bool)
    paddings[0, [2, 6]] = paddings[1, 5] = True
    labels, lengths = np.array([[1, 2, 0], [2, 1, 3], [3, 3, 1]]), np.array([2, 3, 3])
    losses, gradient = loss_and_gradient(z, paddings, labels, np.arange(3) >= lengths[:, None])
    assert np.all(np.asarray(losses < np.log(2)) == [True, False, True])
    for b in range(3):
        want, slope = exactly(z[b, ~paddings[b]], tuple(labels[b, : lengths[b]]))
        np.testing.assert_allclose(losses[b], want, rtol=2e-6)
        assert np.linalg.norm(gradient[b, ~paddings[b]].astype(float) - slope) <= 1e-5 * np.linalg.norm(slope)
        assert np.all(gradient[b, paddings[b]] == 0)


def test_hundreds_of_frames_that_are_nearly_sure() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(1, 20, size=(2, 60))
    path = np.repeat(np.stack([y, np.zeros_like(y)], axis=-1).reshape(2, -1), 4, axis=1)
    z = (rng.normal(size=(2, 480, 20)) + 12 * np.eye(20)[path]).astype(np.float32)
    paddings = np.zeros((2, 480), bool), np.zeros((2, 60), bool)
    losses, gradient = loss_and_gradient(z, paddings[0], y, paddings[1])
    with jax.enable_x64(True):
        want, slope = map(np.asarray, without_rule(jnp.asarray(z, jnp.float64), paddings[0], y, paddings[1]))
    assert np.all(want < 0.2)
    np.testing.assert_allclose(losses, want, rtol=1e-6)
    assert np.linalg.norm(gradient - slope) <= 1e-5 * np.linalg.norm(slope)


def test_lengths_in_the_place_of_paddings() -> None:
    z, paddings, y, label_paddings = problem(2, 3, 12, 4, 5)
    lengths = np.sum(~paddings, axis=1), np.sum(~label_paddings, axis=1)
    want = loss_and_gradient(z, paddings, y, label_paddings)
    chex.assert_trees_all_equal(loss_and_gradient(z, lengths[0], y, lengths[1]), want)
    chex.assert_trees_all_equal(loss_and_gradient(z, paddings, y, lengths[1].astype(np.int8)), want)
    assert jaxloss.ctc_loss(z[0], 12, y[0], 4) == jaxloss.ctc_loss(z[0], np.zeros(12), y[0], np.zeros(4))
    for decode in (
        lambda *paddings: jaxloss.ctc_forced_alignment(z, paddings[0], y, paddings[1]),
        lambda *paddings: jaxloss.ctc_greedy_decode(z, paddings[0]),
        lambda *paddings: jaxloss.ctc_loss_with_forward_probs(z, paddings[0], y, paddings[1]),
    ):
        chex.assert_trees_all_equal(decode(*lengths), decode(paddings, label_paddings))


def test_paddings_that_are_neither_are_told_what_to_be() -> None:
    z, y = jnp.zeros((2, 6, 3)), jnp.ones((2, 2), int)
    with pytest.raises(
        ValueError, match=r"logit_paddings must have the shape \(2, 6\), or be integer lengths of the shape \(2,\)"
    ):
        jaxloss.ctc_loss(z, jnp.array([6.0, 5.0]), y, jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"as paddings, lengths n are jnp.arange\(2\) >= n\[..., None\]"):
        jaxloss.ctc_loss(z, jnp.zeros((2, 6)), y, jnp.zeros(2))


@pytest.mark.parametrize(
    ("paddings", "message"),
    [
        ((jnp.ones((2, 6)), jnp.zeros((2, 2))), "logit_paddings must leave a frame to a sequence that has labels"),
        ((jnp.full((2, 6), 2.0), jnp.zeros((2, 2))), "logit_paddings must be 1 for padding and 0 for the others"),
        ((jnp.zeros((2, 6)), jnp.array([[1, 0], [0, 0]])), "label_paddings must be to the right of the labels"),
        ((jnp.array([7, 6]), jnp.zeros((2, 2))), "logit_paddings must be from 0 to 6 where they are lengths"),
        ((jnp.array([6, 6]), jnp.array([-1, 2])), "label_paddings must be from 0 to 2 where they are lengths"),
    ],
)
def test_paddings_upside_down_speak_where_values_are_checked(paddings: Any, message: str) -> None:
    def loss(paddings: Any, where: Any) -> Any:
        return jaxloss.ctc_loss(jnp.zeros((2, 6, 3)), paddings[0], jnp.ones((2, 2), int), paddings[1], where=where)

    with jaxloss.debug_checks("checkify"):
        error, _ = checkify.checkify(jax.jit(loss))(paddings, None)
        of_masked, _ = checkify.checkify(jax.jit(loss))(paddings, jnp.zeros(2, bool))
    with pytest.raises(checkify.JaxRuntimeError, match=message):
        error.throw()
    of_masked.throw()
