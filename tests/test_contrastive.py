"""The contrastive losses: blocks of rows, memory, sharding, accuracy, and where optax fails."""

import math
import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import optax.losses
import pytest
from cases import CASES
from cases.contrastive import labelled, two_views
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxloss

mp.mp.dps = 40
F32, F64 = jnp.float32, jnp.float64
BY_LABELS = [jaxloss.ntxent, jaxloss.supervised_contrastive_loss]
OF_PAIRS = [jaxloss.info_nce_loss, jaxloss.clip_loss, jaxloss.siglip_loss]
EVERY = pytest.mark.parametrize("loss", BY_LABELS + OF_PAIRS, ids=lambda f: f.__name__)
NAIVE = {case.loss: case.naive for case in CASES}
OPTIONS = {jaxloss.siglip_loss: {"logit_scale": 4.0, "logit_bias": -2.0}}


def arguments(loss: Any, seed: int = 0) -> tuple[Any, ...]:
    return (labelled if loss in BY_LABELS else two_views)(np.random.default_rng(seed))


def options(loss: Any) -> dict[str, float]:
    return OPTIONS.get(loss, {"temperature": 0.4})


def value_and_slopes(loss: Any, args: tuple[Any, ...], values: dict[str, Any], **static: Any) -> Any:
    """The losses, and the gradients by vectors and options for uneven cotangents."""
    vectors = [i for i, x in enumerate(args) if x.dtype.kind == "f"]

    def total(data: Any, values: Any) -> Any:
        losses = loss(*data, *args[len(data) :], **values, **static)
        return jnp.sum(losses * jnp.linspace(0.5, 2.0, losses.size)), losses

    slopes = jax.grad(total, argnums=(0, 1), has_aux=True)
    return jax.jit(slopes)(tuple(jnp.asarray(args[i]) for i in vectors), values)


# --- Blocks of rows -------------------------------------------------------------------------------------------------


@pytest.mark.sweep
@EVERY
def test_blocks_change_nothing(loss: Any) -> None:
    with jax.enable_x64(True):
        args = tuple(map(jnp.asarray, arguments(loss)))
        want = value_and_slopes(NAIVE[loss], args, options(loss))
        for size in (1, 3, 4, 100):
            got = value_and_slopes(loss, args, options(loss), block_size=size)
            chex.assert_trees_all_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.sweep
@EVERY
def test_blocks_of_what_is_there(loss: Any) -> None:
    with jax.enable_x64(True):
        args = tuple(map(jnp.asarray, arguments(loss)))
        where = np.arange(len(args[0])) % 4 != 2
        slopes, losses = value_and_slopes(
            lambda *a, **o: loss(*a, **o)[where], args, options(loss), where=where, block_size=3
        )
        kept = tuple(x[where] for x in args)
        (vectors, values), want = value_and_slopes(NAIVE[loss], kept, options(loss))
        chex.assert_trees_all_close(losses, want, rtol=1e-10)
        chex.assert_trees_all_close(slopes[1], values, rtol=1e-9)
        for got, of_kept in zip(slopes[0], vectors, strict=True):
            np.testing.assert_allclose(got[where], of_kept, rtol=1e-9, atol=1e-12)
            assert np.all(got[~where] == 0)


@pytest.mark.sweep
@EVERY
def test_second_derivatives_through_blocks(loss: Any) -> None:
    """Forward over reverse and reverse over reverse, by vectors and options."""
    with jax.enable_x64(True):
        args = tuple(map(jnp.asarray, arguments(loss)))
        last = () if loss in OF_PAIRS else args[1:]
        at = (args[: 2 - len(last)], options(loss))
        tangents = jax.tree.map(lambda x: jnp.cos(jnp.arange(jnp.size(x), dtype=F64)).reshape(jnp.shape(x)), at)

        def products(loss: Any, **static: Any) -> Any:
            def gradient(at: Any) -> Any:
                return jax.grad(lambda at: jnp.sum(jnp.square(loss(*at[0], *last, **at[1], **static))))(at)

            def along(at: Any) -> Any:
                return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient(at), tangents)))

            return jax.jit(lambda at: (jax.jvp(gradient, (at,), (tangents,))[1], jax.grad(along)(at)))(at)

        chex.assert_trees_all_close(products(loss, block_size=3), products(NAIVE[loss]), rtol=1e-8, atol=1e-9)


@EVERY
@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-2, ValueError), (2.5, TypeError), ("many", TypeError)])
def test_block_size_is_a_count(loss: Any, size: Any, error: Any) -> None:
    with pytest.raises(error, match="block_size must be"):
        loss(*map(jnp.asarray, arguments(loss)), block_size=size)


@pytest.mark.sweep
@EVERY
def test_memory_of_a_large_batch(loss: Any) -> None:
    """60 MB for a batch whose similarities, once, are 268 MB. Nothing is run."""
    n = 8192
    vectors = jax.ShapeDtypeStruct((n, 128), F32)
    args = (vectors, jax.ShapeDtypeStruct((n,), jnp.int32) if loss in BY_LABELS else vectors)
    by = (0,) if loss in BY_LABELS else (0, 1)
    step = jax.jit(jax.value_and_grad(lambda *args: jnp.mean(loss(*args)), by))
    assert step.lower(*args).compile().memory_analysis().temp_size_in_bytes < 60e6


@pytest.mark.sweep
@EVERY
def test_sharded_batch_moves_vectors_only(loss: Any) -> None:
    n, features = 1024, 16
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, n, features)).astype(np.float32)
    args = (x, np.arange(n) // 2) if loss in BY_LABELS else (x, y)
    rows = NamedSharding(Mesh(np.asarray(jax.devices()[:8]), ("batch",)), PartitionSpec("batch"))
    step = jax.jit(jax.value_and_grad(lambda *args: jnp.mean(loss(*args, **options(loss)))))
    placed = [jax.device_put(a, rows) for a in args]
    moved = step.lower(*placed).compile()
    sizes = re.findall(r"= \w+\[([\d,]*)\]\S* (?:all-gather|all-reduce|all-to-all|collective-permute)\(", moved.as_text())
    assert sizes
    assert max(math.prod(map(int, filter(None, size.split(",")))) for size in sizes) <= n * features
    # A device holds its share of a block of similarities, and not all of it.
    assert moved.memory_analysis().temp_size_in_bytes < 4 * 256 * n
    # Sums of a thousand terms in another order; gradients are of about 3e-3.
    chex.assert_trees_all_close(step(*placed), step(*args), rtol=2e-6, atol=3e-8)


# --- Accuracy -------------------------------------------------------------------------------------------------------


def test_accuracy_of_exact_products() -> None:
    """Where the dot products have no error, 8 ulp in value, and 8 ulp of the largest component in the gradient."""
    rng = np.random.default_rng(0)
    both = jax.jit(jax.vmap(jax.value_and_grad(lambda a, p: jaxloss.info_nce_loss(a, p)[0])))
    scale = np.concatenate([np.full(30, 1), np.full(30, 16), np.full(30, 64), np.full(10, 1024)])
    a = np.zeros((100, 4, 4), np.float32)
    a[:, 0] = rng.integers(-8, 9, size=(100, 4)) * scale[:, None] / 8
    p = np.broadcast_to(np.eye(4, dtype=np.float32), a.shape)
    values, slopes = both(a, p)
    for s, value, slope in zip(a[:, 0], values, slopes[:, 0], strict=True):
        e = [mp.exp(mp.mpf(float(x)) - mp.mpf(float(s[0]))) for x in s]
        true = mp.log1p(sum(e[1:]))
        assert abs(mp.mpf(float(value)) - true) <= 8 * 2.0**-23 * true + 2.0**-119
        true_slope = [-sum(e[1:]) / sum(e), *(x / sum(e) for x in e[1:])]
        largest = max(map(abs, true_slope))
        assert max(abs(float(g) - t) for g, t in zip(slope, true_slope, strict=True)) <= 8 * 2.0**-23 * largest + 2.0**-119


@pytest.mark.sweep
@EVERY
def test_accuracy_of_cosines(loss: Any) -> None:
    """Within what an error of 2^-23 in the cosines makes, over the temperature, and 16 ulp."""
    name = "logit_scale" if loss is jaxloss.siglip_loss else "temperature"
    static = {"normalize": True} if loss is jaxloss.info_nce_loss else {}

    @jax.jit
    def both(x: Any, y: Any, option: Any) -> Any:
        losses, pullback = jax.vjp(lambda x: loss(x, y, **{name: option}, **static), x)
        return losses, *pullback(jnp.ones_like(losses))

    args = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in arguments(loss, 3)]
    for temperature in np.asarray([0.5, 0.07, 0.01, 0.001], np.float32):
        option = 1 / temperature if name == "logit_scale" else temperature
        got, slope = both(*args, option)
        with jax.enable_x64(True):  # float64, which the contract holds against the naive formula
            wide = [np.asarray(x, np.float64) if x.dtype.kind == "f" else x for x in args]
            want, want_slope = map(np.asarray, both(*wide, np.float64(option)))
        terms = len(want) if loss is jaxloss.siglip_loss else 2
        np.testing.assert_allclose(got, want, rtol=16 * 2.0**-24, atol=terms * 2.0**-23 / temperature)
        unit = 8 * 2.0**-23 + 2.0**-22 / temperature  # a weight is the exponential of a similarity
        np.testing.assert_allclose(slope, want_slope, rtol=0, atol=unit * np.max(np.abs(want_slope)))


# --- Relations ------------------------------------------------------------------------------------------------------


def test_one_positive_makes_them_equal() -> None:
    x, y = (jnp.asarray(z, F32) for z in arguments(jaxloss.clip_loss))
    views, labels = jnp.concatenate([x, y]), jnp.tile(jnp.arange(6), 2)
    ntxent = jaxloss.ntxent(views, labels, temperature=0.3)
    np.testing.assert_allclose(jaxloss.supervised_contrastive_loss(views, labels, temperature=0.3), ntxent, rtol=1e-6)
    of_images, of_texts = (jaxloss.info_nce_loss(*z, temperature=0.3, normalize=True) for z in ((x, y), (y, x)))
    np.testing.assert_allclose(jaxloss.clip_loss(x, y, temperature=0.3), (of_images + of_texts) / 2, rtol=1e-6)
    # The negatives of an anchor of ntxent are both views of all others.
    others = jnp.delete(views, jnp.asarray([0, 6]), axis=0)
    first = jaxloss.info_nce_loss(x[:1], y[:1], negatives=others, temperature=0.3, normalize=True)
    np.testing.assert_allclose(ntxent[:1], first, rtol=1e-6)


# --- Zero, huge and tiny vectors; where optax fails --------------------------------------------------------------------


@EVERY
def test_vectors_of_any_length(loss: Any) -> None:
    args = tuple(jnp.asarray(x, F32 if x.dtype.kind == "f" else None) for x in arguments(loss))
    lengths = jnp.asarray([1e20, 1e-25, 1.0, 0.0, 1e-12, 1e12, 1.0, 1.0], F32)[: len(args[0]), None]
    named = {"normalize": True} if loss is jaxloss.info_nce_loss else {}
    x = args[0] * lengths
    losses, pullback = jax.vjp(lambda x: loss(x, *args[1:], **named), x)
    (slope,) = pullback(jnp.ones_like(losses))
    assert np.all(np.isfinite(losses))
    assert np.all(np.isfinite(slope))
    assert np.all(slope[3] == 0)  # a zero vector has no direction
    with_zero = args[0].at[3].set(0)
    np.testing.assert_allclose(losses, loss(with_zero, *args[1:], **named), rtol=1e-5)


def optax_mean(x: Any, labels: Any, temperature: Any) -> Any:
    """The mean over positive pairs, as optax has it, of the means over an anchor's positives."""
    positives = jnp.sum(labels[:, None] == labels, axis=1) - 1.0
    return jaxloss.mean(jaxloss.ntxent(x, labels, temperature=temperature), weights=positives)


@pytest.mark.exhaustive
def test_ntxent_is_optax_s() -> None:
    x, labels = (jnp.asarray(a) for a in arguments(jaxloss.ntxent))
    got = jax.value_and_grad(optax_mean, argnums=(0, 2))(x, labels, 0.4)
    want = jax.value_and_grad(optax.losses.ntxent, argnums=(0, 2))(x, labels, 0.4)
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)
    pairs = jnp.asarray([0, 0, 1, 1, 2, 2, 3, 3])  # as many positives an anchor: the plain mean
    np.testing.assert_allclose(jnp.mean(jaxloss.ntxent(x, pairs)), optax.losses.ntxent(x, pairs), rtol=1e-5)
    # The value in optax's documentation: features of one dimension, all of one sign, so that all cosines are 1.
    np.testing.assert_allclose(
        jaxloss.ntxent(jnp.asarray([[0.09], [1.63], [0.86], [0.14]]), pairs[:4]), [1.0986123] * 4, rtol=1e-5
    )


def test_ntxent_where_optax_fails() -> None:
    x, labels = (jnp.asarray(a) for a in arguments(jaxloss.ntxent))
    for temperature in (0.01, 0.001):
        assert np.any(np.isnan(jax.grad(optax.losses.ntxent)(x, labels, temperature)))
        assert np.all(np.isfinite(jax.grad(optax_mean)(x, labels, temperature)))
    alone = jnp.arange(8)
    assert np.isnan(optax.losses.ntxent(x, alone))
    losses, pullback = jax.vjp(lambda x: jaxloss.ntxent(x, alone), x)
    assert np.all(losses == 0)
    assert np.all(pullback(losses + 1)[0] == 0)
