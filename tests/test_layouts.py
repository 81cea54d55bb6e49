"""Layouts that are silently another problem, and the mean whose mask cannot be forgotten."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, Case, rounded
from jax.experimental import checkify
from jax.sharding import Mesh, PartitionSpec

import jaxloss

OVERLAPS = [
    jaxloss.dice_loss,
    jaxloss.generalized_dice_loss,
    jaxloss.jaccard_loss,
    jaxloss.tversky_loss,
    jaxloss.focal_tversky_loss,
]
RNG = np.random.default_rng(0)


def sentence(loss: Any, *args: Any, **options: Any) -> str | None:
    """What the checks of values say of a call."""
    with jaxloss.debug_checks("checkify"):
        error, _ = jax.jit(checkify.checkify(lambda args: loss(*args, **options)))(jax.tree.map(jnp.asarray, args))
    return error.get()


@pytest.mark.parametrize("loss", OVERLAPS)
def test_layouts_of_segmentation(loss: Any) -> None:
    z, y = RNG.normal(size=(2, 8, 8)).astype(np.float32), RNG.random((2, 8, 8)) < 0.4
    assert "of binary [..., height, width] take [..., None]" in (sentence(loss, z, y) or "")
    assert sentence(loss, z[..., None], y[..., None]) is None
    first = RNG.normal(size=(2, 5, 8, 8)).astype(np.float32), np.eye(5)[RNG.integers(5, size=(2, 8, 8))]
    assert "move channels from the front to the end" in (sentence(loss, first[0], np.moveaxis(first[1], -1, 1)) or "")
    last = np.moveaxis(first[0], 1, -1)
    assert sentence(loss, last, first[1]) is None
    assert sentence(loss, last, RNG.random(last.shape)) is None  # shares are the annotator's
    assert "from 0 to 1: of class indices" in (sentence(loss, last, np.argmax(first[1], -1)[..., None] + 0 * first[1]) or "")
    masked = np.zeros((2, 8, 8), bool)
    assert sentence(loss, first[0], np.moveaxis(first[1], -1, 1), where=masked[:, :5]) is None
    assert sentence(loss, z, y, from_logits=False, where=np.zeros((2, 8), bool)) is None


@pytest.mark.parametrize("loss", [*OVERLAPS, jaxloss.lovasz_hinge_loss])
def test_shapes_that_show_another_layout(loss: Any) -> None:
    z, y = np.zeros((2, 8, 8, 5), np.float32), np.zeros((2, 8, 8), np.int32)
    with pytest.raises(ValueError, match=r"take (targets|labels) made one-hot, jax.nn.one_hot\((targets|labels), 5\)"):
        loss(z, y)
    with pytest.raises(ValueError, match=r"take (targets|labels)\[\.\.\., None\]"):
        loss(z[..., :1], y)
    with pytest.raises(ValueError, match=r"must be \[..., height, width, classes\], got shape \(8, 8\): of one class take"):
        loss(z[0, ..., 0], y[0])


def test_boxes_are_corners() -> None:
    good = np.asarray([[0.1, 0.2, 0.5, 0.6], [3.0, 3.0, 3.0, 3.0]], np.float32)
    centres = np.asarray([[0.5, 0.5, 0.2, 0.2], [3.0, 3.0, 3.0, 3.0]], np.float32)
    for loss in (jaxloss.iou_loss, jaxloss.giou_loss, jaxloss.diou_loss, jaxloss.ciou_loss):
        assert sentence(loss, good, good) is None
        assert sentence(loss, good, np.nextafter(good, good[:, [2, 3, 0, 1]])) is None
        assert "predictions must be boxes x1, y1, x2, y2 with" in (sentence(loss, centres, good) or "")
        assert "targets must be boxes x1, y1, x2, y2 with" in (sentence(loss, good, centres) or "")
        assert sentence(loss, good, centres, where=np.asarray([False, True])) is None


def test_probabilities_and_their_logarithms() -> None:
    p, y = np.asarray([[0.2, 0.5, 0.3]], np.float32), np.asarray([[0.6, 0.1, 0.3]], np.float32)
    label = np.asarray([1])
    logs = "must be log-probabilities, at most 0"
    assert logs in (sentence(jaxloss.kl_divergence, p, y) or "")
    assert "targets must be at least 0" in (sentence(jaxloss.kl_divergence, np.log(p), np.log(y)) or "")
    assert sentence(jaxloss.kl_divergence, np.log(p), y) is None
    assert "log_predictions " + logs in (sentence(jaxloss.kl_divergence_with_log_targets, p, np.log(y)) or "")
    assert "log_targets " + logs in (sentence(jaxloss.kl_divergence_with_log_targets, np.log(p), y) or "")
    assert sentence(jaxloss.kl_divergence_with_log_targets, np.log(p), np.log(y)) is None
    assert "targets must be at least 0" in (sentence(jaxloss.generalized_kl_divergence, p + 1, np.log(y)) or "")
    assert sentence(jaxloss.generalized_kl_divergence, p + 1, y) is None
    assert logs in (sentence(jaxloss.nll_with_integer_labels, p, label) or "")
    assert sentence(jaxloss.nll_with_integer_labels, np.log(p), label) is None
    assert sentence(jaxloss.nll_with_integer_labels, np.float32([[1e-7, -np.inf, -20]]), label) is None
    assert sentence(jaxloss.nll_with_integer_labels, p, label, where=np.asarray([False])) is None
    assert "predictions must be prob" in (sentence(jaxloss.categorical_cross_entropy, np.log(p), y) or "")
    assert "targets must be at least 0" in (sentence(jaxloss.categorical_cross_entropy, p, np.log(y)) or "")


def mask_and_examples(case: Case, args: Any, losses: Any) -> tuple[Any, Any]:
    """A mask that leaves out one example whole and some items, and which losses count, by hand."""
    where = RNG.random(case.items(args)) < 0.6
    counts = where
    if where.ndim and (case.among != 0 or losses.ndim):
        where[0] = False
    if where.shape[: losses.ndim] != losses.shape or losses.ndim < where.ndim:
        examples = len(where) if losses.ndim else 1
        counts = where.reshape(examples, -1).any(1)
        counts = counts.reshape(counts.shape[: losses.ndim] + (1,) * (losses.ndim - 1) if losses.ndim else ())
    return jnp.asarray(where), jnp.asarray(counts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.sweep("huber_loss", "dice_loss", "ranking_softmax_loss", "ctc_loss")
def test_mean_loss_masks_as_loss_and_mean_do(case: Case) -> None:
    args = tuple(rounded(x, jnp.float32) for x in case.draw(np.random.default_rng(0)))
    loss = functools.partial(case.loss, **case.options[0])
    where, counts = mask_and_examples(case, args, jax.eval_shape(loss, *args))

    @jax.jit
    def both(args: Any, where: Any, counts: Any) -> Any:
        one = jaxloss.mean_loss(loss, *args, where=where), jaxloss.mean_loss(loss, *args)
        return one, (jaxloss.mean(loss(*args, where=where), where=counts), jaxloss.mean(loss(*args)))

    got, want = both(args, where, counts)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_mean_loss_of_items() -> None:
    z, y = RNG.normal(size=(3, 4, 4, 2)).astype(np.float32), RNG.random((3, 4, 4, 2)) < 0.5
    where = jnp.asarray(np.arange(3) > 0)[:, None, None]  # broadcasts to the pixels
    want = jnp.mean(jaxloss.dice_loss(z[1:], y[1:]))
    mean = functools.partial(jaxloss.mean_loss, jaxloss.dice_loss)
    np.testing.assert_allclose(mean(z, y, where=where), want, rtol=1e-6)
    np.testing.assert_allclose(jaxloss.mean_loss(jax.jit(jaxloss.dice_loss), z, y, where=where), want, rtol=1e-6)
    turned = [np.moveaxis(x, 0, 2) for x in (z, y)]
    got = mean(*turned, where=jnp.moveaxis(where, 0, 2), axis=(0, 1))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    partial = functools.partial(jaxloss.dice_loss, axis=(0, 1))
    np.testing.assert_allclose(jaxloss.mean_loss(partial, *turned, where=jnp.moveaxis(where, 0, 2)), want, rtol=1e-6)
    by_class = jaxloss.mean_loss(jaxloss.lovasz_softmax_loss, z, y[..., 0] + 0, classes="each", where=where)
    assert np.isfinite(by_class)
    with pytest.raises(ValueError, match="loss must be dice_loss itself"):
        jaxloss.mean_loss(jax.vmap(jaxloss.dice_loss), z, y, where=jnp.ones((3, 4, 4), bool))
    with pytest.raises(ValueError, match="where must broadcast"):
        jaxloss.mean_loss(lambda x, where: jnp.sum(x, -1), jnp.ones((2, 3)), where=jnp.ones((2, 3), bool))
    nothing = jax.value_and_grad(lambda z: mean(z, y, where=jnp.zeros((3, 4, 4), bool)))(z)
    np.testing.assert_array_equal(nothing[0], 0)
    np.testing.assert_array_equal(nothing[1], 0)


def test_mean_loss_under_vmap_and_across_devices() -> None:
    x, y = jnp.asarray(RNG.normal(size=(8, 4, 3)), jnp.float32), jnp.zeros((8, 4), jnp.int32)
    where = jnp.asarray(RNG.random((8, 4)) < 0.5)
    mean = functools.partial(jaxloss.mean_loss, jaxloss.softmax_cross_entropy_with_integer_labels)

    def whole(x: Any) -> Any:
        return mean(x, y, where=where)

    spec = PartitionSpec("batch")
    mesh = Mesh(np.asarray(jax.devices()[:8]), ("batch",))
    of_shards = jax.shard_map(
        lambda x, y, where: mean(x, y, where=where, axis_name="batch"), mesh=mesh, in_specs=spec, out_specs=PartitionSpec()
    )
    for got, want in zip(jax.value_and_grad(lambda x: of_shards(x, y, where))(x), jax.value_and_grad(whole)(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    each = jax.vmap(lambda x, y, where: mean(x, y, where=where))(x, y, where)
    np.testing.assert_allclose(each[3], mean(x[3], y[3], where=where[3]), rtol=1e-6)


def test_a_star_import_leaves_the_builtin_sum() -> None:
    names: dict[str, Any] = {}
    exec("from jaxloss import *", names)
    assert "sum" not in names
    assert jaxloss.sum(jnp.ones(3)) == 3
