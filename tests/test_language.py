"""The head of a language model: any size, all options, masks, bfloat16, memory, and the mean as one number."""

import functools
import itertools
import math
import os
import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases.language import cross_entropy, divergence
from jax.experimental import checkify

import jaxloss

F32, F64, BF16 = jnp.float32, jnp.float64, jnp.bfloat16
linear, mean = jaxloss.linear_softmax_cross_entropy, jaxloss.mean_linear_softmax_cross_entropy
DIM = 8
# Numbers of tokens and of classes. `make test` leaves out the two largest, which take minutes; `make test-sizes` does not.
EVERY_SIZE = list(itertools.product((1, 3, 513, 4096), (1, 7, 1000, 50257, 128256)))
SIZES = EVERY_SIZE if os.environ.get("JAXLOSS_SIZES") == "all" else [x for x in EVERY_SIZE if x[0] * x[1] < 10**8]


def drawn(tokens: int, classes: int, dtype: Any = F32) -> tuple[dict[str, Any], dict[str, Any], Any, Any]:
    """The data and the options that have gradients, the labels, and a mask over half of the tokens."""
    rng = np.random.default_rng(tokens + classes)
    data = {"hidden": 2 * rng.normal(size=(tokens, DIM)), "weight": rng.normal(size=(DIM, classes))}
    options = {
        "bias": np.where(np.arange(classes) % 11 == 1, -np.inf, rng.normal(size=classes)),
        "label_smoothing": rng.uniform(0, 0.3, size=tokens),
        "class_weights": rng.uniform(0.5, 2, size=classes),
        "z_loss": rng.uniform(0.001, 0.01, size=tokens),
        "soft_cap": np.asarray(5.0),
        "temperature": rng.uniform(0.5, 2, size=tokens),
    }
    labels = rng.integers(0, classes, size=tokens)
    labels = np.where(labels % 11 == 1, 0, labels)
    where = np.arange(tokens) % 2 == 0
    return (
        {k: jnp.asarray(v, dtype) for k, v in data.items()},
        {k: jnp.asarray(v, F32) for k, v in options.items()},
        jnp.asarray(labels),
        jnp.asarray(where),
    )


def with_gradients(loss: Any, data: Any, options: Any) -> tuple[Any, Any]:
    """The losses, and the gradients of their sum with uneven factors."""

    def total(data: Any, options: Any) -> Any:
        losses = loss(data, options)
        return jnp.sum(losses * jnp.linspace(0.5, 2.0, losses.size).astype(losses.dtype).reshape(losses.shape)), losses

    (_, losses), gradients = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(data, options)
    return losses, jax.tree.map(lambda x: np.asarray(x, np.float64), gradients)


def wide(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x), F64), tree)


def naive_of(labels: Any, where: Any = True) -> Any:
    def naive(data: Any, options: Any) -> Any:
        return jnp.where(where, cross_entropy(data["hidden"], labels, data["weight"], **options), 0)

    return naive


def exact(data: Any, options: Any, labels: Any, where: Any) -> tuple[Any, Any]:
    """As `with_gradients` of the naive formula, in float64 and a few tokens at a time: their logits fit into memory."""
    tokens, classes = len(labels), data["weight"].shape[-1]
    size = min(tokens, max(1, 2**22 // classes))
    factors = np.linspace(0.5, 2.0, tokens)
    of_tokens = {"hidden", "label_smoothing", "z_loss", "temperature"}

    @jax.jit
    def step(data: Any, options: Any, labels: Any, where: Any, factors: Any) -> Any:
        def total(data: Any, options: Any) -> Any:
            losses = naive_of(labels, where)(data, options)
            return jnp.sum(factors * losses), losses

        return jax.value_and_grad(total, (0, 1), has_aux=True)(data, options)

    parts = []
    with jax.enable_x64(True):
        data, options = wide(data), wide(options)
        for start in range(0, tokens, size):
            some = np.arange(start, start + size)
            some, counts = np.minimum(some, tokens - 1), some < tokens  # filled up with the last token, without a weight
            taken = [{k: v[some] if k in of_tokens else v for k, v in tree.items()} for tree in (data, options)]
            (_, losses), gradients = step(*taken, labels[some], where[some] & counts, factors[some] * counts)
            parts.append(jax.tree.map(np.asarray, (losses, *gradients)))
    losses, *trees = jax.tree.map(lambda *x: np.stack(x), *parts)
    gradients = [
        {k: v.reshape(-1, *v.shape[2:])[:tokens] if k in of_tokens else v.sum(0) for k, v in tree.items()} for tree in trees
    ]
    return losses.reshape(-1)[:tokens], tuple(gradients)


def distance(x: Any, y: Any) -> float:
    """|x − y| / |y|; 0 / 0 is 0."""
    return float(np.linalg.norm(np.asarray(x) - np.asarray(y)) / max(np.linalg.norm(y), 1e-30))


# --- Any size, against float64 --------------------------------------------------------------------------------------


@pytest.mark.sweep("513-1000")
@pytest.mark.parametrize(("tokens", "classes"), SIZES)
def test_all_options_at_once_and_half_the_tokens_nan(tokens: int, classes: int) -> None:
    data, options, labels, where = drawn(tokens, classes)
    bad = {**data, "hidden": jnp.where(where[:, None], data["hidden"], jnp.nan)}
    ignored = jnp.where(where, labels, -100)
    losses, gradients = with_gradients(
        lambda data, options: linear(data["hidden"], data["weight"], ignored, **options, where=where), bad, options
    )
    want_losses, want = exact(data, options, labels, where)
    # The loss of a single class is a logit squared, which may be near 0 as a sum of terms that are not.
    near_zero = 1e-6 * float(np.mean(want_losses)) if classes == 1 else 0
    np.testing.assert_allclose(losses, want_losses, rtol=1e-6, atol=near_zero)
    assert np.all(np.asarray(losses)[~np.asarray(where)] == 0)
    assert np.all(gradients[0]["hidden"][~np.asarray(where)] == 0)
    for got, true in zip(jax.tree.leaves(gradients), jax.tree.leaves(want), strict=True):
        assert distance(got, true) < 1e-5


@pytest.mark.sweep("513-1000")
@pytest.mark.parametrize(("tokens", "classes"), SIZES)
def test_bfloat16_is_within_twice_the_error_of_full_float32_logits(tokens: int, classes: int) -> None:
    data, _, labels, _ = drawn(tokens, classes, BF16)
    losses, gradients = with_gradients(lambda data, _: linear(data["hidden"], data["weight"], labels), data, {})

    def full(data: Any, _: Any) -> Any:
        logits = data["hidden"].astype(F32) @ data["weight"].astype(F32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    full_losses, full_gradients = with_gradients(full, data, {})
    want_losses, want = exact(data, {}, labels, np.ones(tokens, bool))
    assert losses.dtype == F32
    assert distance(losses, want_losses) <= 2 * distance(full_losses, want_losses)
    for got, theirs, true in zip(*map(jax.tree.leaves, (gradients, full_gradients, want)), strict=True):
        assert distance(got, true) <= 2 * distance(theirs, true)


def test_a_vocabulary_padded_with_zeros_would_be_wrong() -> None:
    """As a public kernel of another library is at 50257 classes: a padded class has a logit of 0, and a probability."""
    data, _, labels, _ = drawn(3, 50257)
    data["hidden"] = 0.1 * data["hidden"]
    losses = linear(data["hidden"], data["weight"], labels)
    with jax.enable_x64(True):
        exact = wide(data)
        want = np.asarray(naive_of(labels)(exact, {}))
        padded = {**exact, "weight": jnp.pad(exact["weight"], ((0, 0), (0, -50257 % 4096)))}
        wrong = np.asarray(naive_of(labels)(padded, {}))
    np.testing.assert_allclose(losses, want, rtol=1e-6)
    assert np.all(np.abs(wrong - want) > 1e-5 * np.abs(want))


@pytest.mark.sweep("100")
@pytest.mark.parametrize("size", [1, 100])
def test_blocks_and_layout_change_nothing(size: int) -> None:
    with jax.enable_x64(True):
        data, options, labels, where = drawn(4, 208)
        data, options = wide(data), wide(options)
        want = with_gradients(naive_of(labels, where), data, options)
        for first in (False, True):

            def loss(data: Any, options: Any, first: bool = first) -> Any:
                weight = data["weight"].T if first else data["weight"]
                static = {"block_size": size, "vocab_first": first, "where": where}
                return linear(data["hidden"], weight, labels, **options, **static)

            chex.assert_trees_all_close(with_gradients(loss, data, options), want, rtol=1e-9, atol=1e-12)


@pytest.mark.sweep
@pytest.mark.parametrize("first", [False, True], ids=["dim first", "vocab first"])
@pytest.mark.parametrize("size", [1, 100])
def test_a_weight_of_16_bits(size: int, first: bool) -> None:
    """Its gradient, made in pieces, and the derivative of that along a direction, are those in float64, rounded."""
    data, options, labels, where = drawn(4, 250)
    weight = data["weight"].astype(BF16)
    weight = weight.T if first else weight
    static = {"vocab_first": first, "block_size": size, "where": where}

    def slope(loss: Any, weight: Any) -> Any:
        direction = jnp.cos(jnp.arange(weight.size)).reshape(weight.shape).astype(weight.dtype)
        return jax.jit(lambda w: jax.jvp(jax.grad(lambda w: jnp.sum(loss(w))), (w,), (direction,)))(weight)

    got = slope(lambda w: linear(data["hidden"], w, labels, **options, **static), weight)
    with jax.enable_x64(True):
        x, options, weight = wide((data["hidden"], options, weight.astype(F32)))
        naive = naive_of(labels, where)
        want = slope(lambda w: naive({"hidden": x, "weight": w.T if first else w}, options), weight)
    for ours, true in zip(got, want, strict=True):
        assert ours.dtype == BF16
        assert distance(ours.astype(F32), true) < 2**-8


def test_any_axes_of_tokens() -> None:
    data, options, labels, where = drawn(6, 32)
    want = linear(data["hidden"], data["weight"], labels, **options, where=where)
    shape = (2, 3)
    options = {k: v.reshape(shape) if v.shape == (6,) else v for k, v in options.items()}
    hidden, labels, where = data["hidden"].reshape(*shape, DIM), labels.reshape(shape), where.reshape(shape)
    np.testing.assert_allclose(
        linear(hidden, data["weight"], labels, **options, where=where), want.reshape(shape), rtol=1e-6
    )
    assert linear(hidden[0, 0], data["weight"], labels[0, 0]).shape == ()
    none = jnp.zeros((0, DIM))
    assert linear(none, data["weight"], jnp.zeros(0, int)).shape == (0,)
    value, slope = jax.value_and_grad(lambda w: mean(none, w, jnp.zeros(0, int)))(data["weight"])
    assert value == 0
    assert np.all(slope == 0)


# --- Memory and products, counted without running anything ----------------------------------------------------------


def step_of(loss: Any, tokens: int, dim: int, classes: int, dtype: Any) -> Any:
    def total(hidden: Any, weight: Any, labels: Any) -> Any:
        return jnp.mean(loss(hidden, weight, labels))

    shapes = jax.ShapeDtypeStruct((tokens, dim), dtype), jax.ShapeDtypeStruct((dim, classes), dtype)
    return jax.value_and_grad(total, (0, 1)), (*shapes, jax.ShapeDtypeStruct((tokens,), jnp.int32))


@functools.cache
def temporary_bytes(loss: Any, classes: int, dtype: Any, gradient: bool = True) -> int:
    step, shapes = step_of(loss, 4096, 512, classes, dtype)
    step = step if gradient else loss
    return jax.jit(step).lower(*shapes).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("dtype", "most"), [(F32, 60e6), (BF16, 65e6)], ids=["float32", "bfloat16"])
def test_memory(dtype: Any, most: float) -> None:
    """The logits are 2,101 MB in float32; through optax a step takes 4,194 MB, and 5,505 MB in bfloat16."""
    for classes in (128256, 151936):  # 151936 is 128 · 1187, of which no part is near the size of a block
        assert temporary_bytes(linear, classes, dtype) < most
    by_2048 = functools.partial(linear, block_size=2048)
    more = temporary_bytes(by_2048, 2 * 128256, dtype) - temporary_bytes(by_2048, 128256, dtype)
    assert more < 4096 * 128256 * jnp.dtype(dtype).itemsize / 100


@pytest.mark.parametrize("first", [False, True], ids=["dim first", "vocab first"])
@pytest.mark.parametrize("loss", [linear, mean], ids=["a loss a token", "the mean"])
def test_nothing_is_copied(loss: Any, first: bool) -> None:
    """No block of logits, and not the gradient of the weight at each block; and no product is of widened bfloat16.

    But the mean's gradient of a weight [V, D] is turned once, at the end.
    """
    step, (hidden, weight, labels) = step_of(functools.partial(loss, vocab_first=first), 4096, 512, 32000, BF16)
    weight = weight.update(shape=weight.shape[::-1]) if first else weight
    text = jax.jit(step).lower(hidden, weight, labels).compile().as_text()
    copied = [math.prod(map(int, shape.split(","))) for shape in re.findall(r"\[([\d,]+)\]\S* copy\(", text)]
    assert len([size for size in copied if size >= 4096 * 2000]) == (loss is mean and first)
    operands = re.findall(r" dot\((%[\w.-]+), (%[\w.-]+)\)", text)
    dtypes = {re.search(rf"{re.escape(x)} = (\w+)\[", text).group(1) for pair in operands for x in pair}
    assert len(dtypes) == 1, dtypes


def full_logits(hidden: Any, weight: Any, labels: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ weight, labels)


def test_memory_of_full_logits() -> None:
    assert temporary_bytes(full_logits, 128256, F32) > 4e9
    assert temporary_bytes(mean, 128256, F32) < 700e6
    assert temporary_bytes(mean, 128256, F32, gradient=False) < 300e6


def products(f: Any, *shapes: Any) -> int:
    return str(jax.make_jaxpr(f)(*shapes)).count("dot_general[")


def test_products() -> None:
    """Four for a loss a token, three for the mean, and one for either without a gradient."""
    for loss, count in ((linear, 4), (mean, 3)):
        step, shapes = step_of(loss, 4096, 64, 32000, F32)
        assert products(loss, *shapes) == 1
        assert products(step, *shapes) == count


# --- The mean as one number -----------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize(("size", "first"), [(None, False), (5, True)])
def test_the_mean_is_that_of_the_losses(size: int | None, first: bool) -> None:
    with jax.enable_x64(True):
        data, options, labels, where = drawn(13, 80)
        data, options = wide(data), wide(options)
        bad = {**data, "hidden": jnp.where(where[:, None], data["hidden"], jnp.nan)}
        options["weights"] = jnp.linspace(0.5, 2, 13)

        def ours(data: Any, options: Any) -> Any:
            weight = data["weight"].T if first else data["weight"]
            static = {"block_size": size, "vocab_first": first, "where": where}
            return mean(data["hidden"], weight, jnp.where(where, labels, -100), **options, **static)

        def naive(data: Any, options: Any) -> Any:
            weights = jnp.where(where, options["weights"], 0)
            others = {k: v for k, v in options.items() if k != "weights"}
            return jnp.sum(weights * naive_of(labels, where)(data, others)) / jnp.sum(weights)

        def derivatives(f: Any, at: Any) -> Any:
            gradient = jax.grad(f, (0, 1))
            tangents = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size, dtype=F64)).reshape(x.shape), at)

            def along(*at: Any) -> Any:
                return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient(*at), tangents)))

            (value, slope), forward = jax.jvp(jax.value_and_grad(f, (0, 1)), at, tangents)
            return value, slope, forward, jax.grad(along, (0, 1))(*at)

        want = jax.jit(functools.partial(derivatives, naive))((data, options))
        chex.assert_trees_all_close(jax.jit(ours)(bad, options), want[0], rtol=1e-10)
        chex.assert_trees_all_close(
            jax.jit(functools.partial(derivatives, ours))((bad, options)), want, rtol=1e-8, atol=1e-10
        )
        scaled = jax.grad(lambda *at: -3 * ours(*at), (0, 1))(bad, options)
        chex.assert_trees_all_close(scaled, jax.tree.map(lambda x: -3 * x, want[1]), rtol=1e-8, atol=1e-10)
        nothing = jax.value_and_grad(lambda x: mean(x, data["weight"], labels, where=False))(bad["hidden"])
        assert nothing[0] == 0
        assert np.all(nothing[1] == 0)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [BF16, jnp.float16, F32], ids=str)
def test_the_mean_in_every_dtype(dtype: Any) -> None:
    data, _, labels, _ = drawn(600, 1000, dtype)
    got = jax.value_and_grad(lambda d: mean(d["hidden"], d["weight"], labels))(data)
    want = jax.value_and_grad(lambda d: jnp.mean(full_logits(d["hidden"].astype(F32), d["weight"].astype(F32), labels)))(
        data
    )
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    assert got[0].dtype == F32
    for x, y in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
        assert x.dtype == dtype
        assert distance(x.astype(F32), y.astype(F32)) < {BF16: 5e-3, F32: 1e-5}.get(dtype, 1e-3)


def test_log_probs_and_accuracy_in_one_pass() -> None:
    with jax.enable_x64(True):
        data, options, labels, where = drawn(13, 80)
        data, options = wide(data), {k: v for k, v in wide(options).items() if k in ("bias", "soft_cap", "temperature")}
        best = jnp.argmax(data["hidden"] @ data["weight"] + options["bias"], axis=-1)
        labels = jnp.where(jnp.arange(13) % 3 == 0, best, labels)
        ignored, bad = jnp.where(where, labels, -100), jnp.where(where[:, None], data["hidden"], jnp.nan)
        mix = jnp.linspace(-1, 2, 13)

        def ours(data: Any, options: Any) -> Any:
            log_probs, lse, _ = jaxloss.token_log_probs(data["hidden"], data["weight"], ignored, **options, where=where)
            return log_probs + mix * lse

        def naive(data: Any, options: Any) -> Any:
            cost = naive_of(labels, where)
            lse = jnp.sqrt(naive_of(labels, where)(data, {**options, "z_loss": 1.0}) - cost(data, options))
            return -cost(data, options) + mix * jnp.where(where, lse, 0)

        want = with_gradients(naive, {**data, "hidden": data["hidden"]}, options)
        got = with_gradients(ours, {**data, "hidden": bad}, options)
        kept = np.asarray(where)
        np.testing.assert_allclose(got[0], np.where(kept, want[0], 0), rtol=1e-9)
        np.testing.assert_allclose(got[1][0]["weight"], np.nan_to_num(want[1][0]["weight"]), rtol=1e-7, atol=1e-9)
        *_, is_top = jaxloss.token_log_probs(bad, data["weight"], ignored, **options, where=where, block_size=16)
        np.testing.assert_array_equal(is_top, (labels == best) & where)
        *_, tied = jaxloss.token_log_probs(jnp.zeros((2, DIM)), data["weight"], jnp.asarray([7, -1]))
        np.testing.assert_array_equal(tied, [True, False])


# --- The divergence from a teacher ----------------------------------------------------------------------------------

distilled = jaxloss.linear_softmax_kl_divergence


@pytest.mark.exhaustive
def test_distillation_with_a_tail_block() -> None:
    """All options, half of the tokens NaN, a teacher of another dimension and layout: 12 blocks and a smaller one."""
    data, options, _, where = drawn(3, 50257)
    rng = np.random.default_rng(5)
    data["teacher_hidden"] = jnp.asarray(rng.normal(size=(3, 6)), F32)
    data["teacher_weight"] = jnp.asarray(rng.normal(size=(50257, 6)), F32)
    options = {k: options[k] for k in ("bias", "soft_cap", "temperature")}
    options["teacher_bias"] = jnp.where(jnp.arange(50257) % 13 == 1, -jnp.inf, options["bias"][::-1] + options["bias"])
    options["teacher_soft_cap"] = jnp.asarray(3.0)
    static = {"teacher_vocab_first": True, "block_size": 4096}

    def ours(data: Any, options: Any) -> Any:
        hidden, teacher_hidden = (jnp.where(where[:, None], data[k], jnp.nan) for k in ("hidden", "teacher_hidden"))
        weights = data["weight"], data["teacher_weight"]
        return distilled(hidden, weights[0], teacher_hidden, weights[1], **options, **static, where=where)

    def naive(data: Any, options: Any) -> Any:
        arguments = (data[k] for k in ("hidden", "teacher_hidden", "weight", "teacher_weight"))
        return jnp.where(where, divergence(*arguments, **options, teacher_vocab_first=True), 0)

    losses, gradients = with_gradients(ours, data, options)
    with jax.enable_x64(True):
        want_losses, want = with_gradients(naive, wide(data), wide(options))
        want_losses = np.asarray(want_losses)
    np.testing.assert_allclose(losses, want_losses, rtol=1e-6)
    for got, true in zip(jax.tree.leaves(gradients), jax.tree.leaves(want), strict=True):
        assert distance(got, true) < 1e-5


@pytest.mark.sweep("0.001")
@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-5])
def test_nearly_equal_heads_keep_their_digits(apart: float) -> None:
    """Where the products are exact: the last divergences are 5e-11, from log-sum-exps of 12."""
    rng = np.random.default_rng(0)
    weight = 2 * rng.normal(size=(3, 50257))
    teacher = weight + apart * rng.normal(size=weight.shape)
    data = {k: jnp.asarray(v, F32) for k, v in {"hidden": np.eye(3), "weight": weight, "teacher": teacher}.items()}

    def ours(data: Any, _: Any) -> Any:
        return distilled(data["hidden"], data["weight"], data["hidden"], data["teacher"], block_size=4096)

    def naive(data: Any, _: Any) -> Any:
        return jaxloss.softmax_kl_divergence(data["hidden"] @ data["weight"], data["hidden"] @ data["teacher"])

    losses, gradients = with_gradients(ours, data, {})
    with jax.enable_x64(True):
        want_losses, want = with_gradients(naive, wide(data), {})
        want_losses = np.asarray(want_losses)
    assert np.all(want_losses < apart**2)
    np.testing.assert_allclose(losses, want_losses, rtol=1e-6)
    for name in ("weight", "teacher"):
        assert distance(gradients[0][name], want[0][name]) < 1e-6


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [BF16, F32], ids=str)
def test_equal_heads(dtype: Any) -> None:
    data, options, _, _ = drawn(13, 50257, dtype)
    options = {k: options[k] for k in ("bias", "soft_cap", "temperature")}

    def both(x: Any, w: Any, x_teacher: Any, w_teacher: Any, options: Any) -> Any:
        of_teacher = {"teacher_bias": options["bias"], "teacher_soft_cap": options["soft_cap"]}
        return distilled(x, w, x_teacher, w_teacher, **options, **of_teacher, block_size=4096)

    head = data["hidden"], data["weight"]
    losses, pullback = jax.jit(lambda *args: jax.vjp(both, *args))(*head, *head, options)
    assert np.all(losses == 0)
    assert all(np.all(np.asarray(x, F32) == 0) for x in jax.tree.leaves(pullback(losses + 1)))


def test_the_classes_of_the_teacher_only() -> None:
    """As `softmax_kl_divergence`: infinite, with the gradient q − p by the student and 0 by the teacher."""
    scores, none = jnp.asarray([[0.5, 1.0, -1.0]]), jnp.asarray([0.0, -jnp.inf, 0.0])

    def fused(s: Any, t: Any) -> Any:
        return distilled(jnp.ones((1, 1)), s, jnp.ones((1, 1)), t, bias=none)[0]

    def full(s: Any, t: Any) -> Any:
        return jaxloss.softmax_kl_divergence(s[0] + none, t[0])

    got, want = (jax.value_and_grad(f, (0, 1))(scores, 2 * scores) for f in (fused, full))
    assert got[0] == want[0] == np.inf
    chex.assert_trees_all_close(got[1][1], want[1][1], atol=0)
    there = np.asarray([[0, 2]])
    np.testing.assert_allclose(got[1][0][0, there], want[1][0][0, there], rtol=1e-6)


def distillation(classes: int, trained: tuple[int, ...]) -> Any:
    """The compiled step of 4096 tokens, with its gradient by some of the arguments."""
    shapes = (4096, 512), (512, classes), (4096, 1024), (1024, classes)

    def total(*args: Any) -> Any:
        return jnp.mean(distilled(*args))

    step = jax.jit(jax.value_and_grad(total, trained))
    return step.lower(*(jax.ShapeDtypeStruct(shape, F32) for shape in shapes)).compile()


def test_memory_and_products_of_distillation() -> None:
    """The logits of student and teacher are 4,295 MB. The gradient by a teacher that is not trained costs nothing."""
    programs = [distillation(*of) for of in ((2**17, (0, 1)), (2**18, (0, 1)), (2**17, (0, 1, 2, 3)))]
    frozen, larger, trained = (program.memory_analysis().temp_size_in_bytes for program in programs)
    assert frozen < 200e6
    assert larger - frozen < 4096 * 2**17 * 4 / 100
    assert trained < 225e6
    assert [program.as_text().count(" dot(") for program in programs] == [8, 8, 12]


def test_a_bad_teacher_raises() -> None:
    x, w = jnp.ones((3, 4)), jnp.ones((4, 5))
    with pytest.raises(ValueError, match=r"teacher_hidden must be one vector a token of hidden, \(3,\), got \(2, 4\)"):
        distilled(x, w, x[:2], w)
    with pytest.raises(ValueError, match=r"teacher_weight must be \[D, V\] .* D = 4, as teacher_hidden .* got \(5, 4\)"):
        distilled(x, w, x, w.T)
    with pytest.raises(ValueError, match=r"teacher_weight must be over the 5 classes of weight, got \(4, 6\)"):
        distilled(x, w, x, jnp.ones((4, 6)))
    with pytest.raises(TypeError, match="teacher_weight must be floating point"):
        distilled(x, w, x, w.astype(int))
    with pytest.raises(TypeError, match="teacher_vocab_first must be True or False, got 1"):
        distilled(x, w, x, w, teacher_vocab_first=1)
    with pytest.raises(ValueError, match=r"teacher_bias must broadcast to the shape of the classes, \(5,\), got \(3,\)"):
        distilled(x, w, x, w, teacher_bias=jnp.ones(3))
    with pytest.raises(ValueError, match="teacher_soft_cap must be above 0"):
        distilled(x, w, x, w, teacher_soft_cap=0.0)


# --- In use ---------------------------------------------------------------------------------------------------------


@pytest.mark.sweep
@pytest.mark.parametrize("loss", [linear, mean], ids=["losses", "mean"])
def test_training_step(loss: Any) -> None:
    """A jitted optax step over several, with remat, follows the one of full logits."""
    data, _, labels, where = drawn(32, 100)
    optimizer = optax.adam(1e-2)

    def trained(objective: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            parameters, state = carry
            value, slope = jax.value_and_grad(jax.checkpoint(objective))(parameters)
            updates, state = optimizer.update(slope, state)
            return (optax.apply_updates(parameters, updates), state), value

        return jax.jit(lambda data: jax.lax.scan(step, (data, optimizer.init(data)), length=5))(data)

    def ours(parameters: Any) -> Any:
        losses = loss(jnp.tanh(parameters["hidden"]), parameters["weight"], labels, where=where, block_size=32)
        return losses if loss is mean else jaxloss.mean(losses, where=where)

    def full(parameters: Any) -> Any:
        return jaxloss.mean(full_logits(jnp.tanh(parameters["hidden"]), parameters["weight"], labels), where=where)

    ((got, _), values), ((want, _), want_values) = trained(ours), trained(full)
    np.testing.assert_allclose(values, want_values, rtol=1e-5)
    chex.assert_trees_all_close(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.sweep
@pytest.mark.parametrize("label", [-1, 20])
@pytest.mark.parametrize("loss", [linear, mean], ids=["losses", "mean"])
def test_a_label_out_of_range_is_loud(loss: Any, label: int) -> None:
    data, _, _, _ = drawn(3, 20)
    labels = jnp.asarray([0, label, 2])
    losses, slopes = jax.value_and_grad(lambda x: jnp.sum(loss(x, data["weight"], labels)))(data["hidden"])
    assert np.isnan(losses)
    assert np.all(np.isnan(slopes[1]))
    with jaxloss.debug_checks("checkify"):
        error, _ = checkify.checkify(jax.jit(loss))(data["hidden"], data["weight"], labels)
    with pytest.raises(Exception, match="labels must be from 0 to 19 where they are not masked by `where`"):
        error.throw()


@pytest.mark.parametrize("loss", [linear, mean], ids=["losses", "mean"])
def test_bad_input_raises(loss: Any) -> None:
    x, w, y = jnp.ones((3, 4)), jnp.ones((4, 5)), jnp.zeros(3, int)
    with pytest.raises(TypeError, match="hidden must be floating point, got int32"):
        loss(y, w, y)
    with pytest.raises(TypeError, match="weight must be floating point, got int32"):
        loss(x, w.astype(int), y)
    with pytest.raises(ValueError, match=r"hidden must be one vector a token, .* got a scalar"):
        loss(1.0, w, y)
    with pytest.raises(ValueError, match=r"weight must be \[D, V\] .* D = 4, .* got \(5, 4\)"):
        loss(x, w.T, y)
    with pytest.raises(ValueError, match=r"weight must be \[V, D\] .* D = 4, .* got \(4, 5\)"):
        loss(x, w, y, vocab_first=True)
    with pytest.raises(ValueError, match=r"weight must be .* got \(4, 0\)"):
        loss(x, w[:, :0], y)
    with pytest.raises(TypeError, match="vocab_first must be True or False, got 1"):
        loss(x, w, y, vocab_first=1)
    with pytest.raises(TypeError, match="labels must be integers"):
        loss(x, w, x[:, 0])
    with pytest.raises(ValueError, match=r"labels must be one a token of hidden, \(3,\), got \(1,\)"):
        loss(x, w, y[:1])
    with pytest.raises(ValueError, match=r"bias must broadcast to the shape of the classes, \(5,\), got \(3,\)"):
        loss(x, w, y, bias=jnp.ones(3))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        loss(x, w, y, temperature=0.0)
    with pytest.raises(ValueError, match="where must broadcast to the shape of the tokens"):
        loss(x, w, y, where=jnp.ones(2, bool))
    for size, error in ((0, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="block_size must be"):
            loss(x, w, y, block_size=size)
