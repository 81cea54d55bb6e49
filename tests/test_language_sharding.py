"""The head of a language model over several devices and processes, and what crosses between them."""

import re
import socket
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxloss

TOKENS, DIM, CLASSES = 64, 16, 4096
LOSSES = [
    pytest.param(partial(jaxloss.linear_softmax_cross_entropy, block_size=1024), id="losses"),
    pytest.param(partial(jaxloss.mean_linear_softmax_cross_entropy, block_size=16), id="mean"),
]
SPLITS = [("data", None), (None, "vocab"), ("data", "vocab"), (None, ("data", "vocab"))]
OPTIONS = {"soft_cap": jnp.asarray(5.0), "temperature": jnp.asarray(0.7)}


def drawn() -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(0), 5)
    return {
        "hidden": jax.random.normal(keys[0], (TOKENS, DIM)),
        "weight": jax.random.normal(keys[1], (DIM, CLASSES)),
        "bias": jax.random.normal(keys[2], (CLASSES,)),
        "class_weights": jax.random.uniform(keys[3], (CLASSES,), minval=0.5),
        "labels": jax.random.randint(keys[4], (TOKENS,), 0, CLASSES),
    }


def specs(tokens: Any, classes: Any) -> dict[str, Any]:
    of_classes = P(classes)
    return {
        "hidden": P(tokens, None),
        "weight": P(None, classes),
        "bias": of_classes,
        "class_weights": of_classes,
        "labels": P(tokens),
    }


def total(loss: Any, data: dict[str, Any], options: dict[str, Any], **static: Any) -> Any:
    given = {k: v for k, v in data.items() if k not in ("hidden", "weight", "labels")}
    given |= {"label_smoothing": 0.1, "z_loss": 0.01, **options}
    return jnp.mean(loss(data["hidden"], data["weight"], data["labels"], **given, **static))


def slopes(of_data: Any) -> Any:
    """Value, and gradients by all that has some."""

    def step(data: dict[str, Any], options: dict[str, Any]) -> Any:
        floats = {k: v for k, v in data.items() if k != "labels"}
        return jax.value_and_grad(lambda f, o: of_data({**f, "labels": data["labels"]}, o), (0, 1))(floats, options)

    return jax.jit(step)


def collectives(program: Any) -> list[str]:
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    return re.findall(rf"= (\(?\w+\[[\d,]*\].*? (?:{kinds}))(?:-start)?\(", program.as_text())


def numbers(collective: str) -> int:
    """The size of the largest array that is sent."""
    sizes = [[int(n) for n in shape.split(",") if n] for shape in re.findall(r"\[([\d,]*)\]", collective)]
    return max(int(jnp.prod(jnp.asarray(size))) if size else 1 for size in sizes)


def assert_only_small_sums(program: Any, tokens: Any, classes: Any) -> None:
    """Sums of what there is one of a token, of the gradient of the hidden states, and of that of a part of the weight.

    What there is one of a token may be gathered, for the gradient by the class weights.
    """
    sent = collectives(program)
    assert sent
    assert all(one.endswith("all-reduce") or numbers(one) <= TOKENS for one in sent), sent
    if tokens is None:  # nothing is summed over the tokens
        assert all(numbers(one) <= TOKENS * DIM for one in sent), sent
    assert all(numbers(one) <= max(TOKENS * DIM, DIM * CLASSES // (1 if classes is None else 4)) for one in sent), sent


def assert_sharded_as_given(
    step: Any, data: dict[str, Any], specs: dict[str, P], tokens: Any, classes: Any, kind: Any
) -> None:
    """The step on sharded data gives what it gives on one device, and gradients that are sharded as what they are of."""
    want = step(data, OPTIONS)
    mesh = jax.make_mesh((2, 4), ("data", "vocab"), axis_types=(kind, kind))
    with jax.set_mesh(mesh):
        places = {k: NamedSharding(mesh, spec) for k, spec in specs.items()}
        placed = jax.device_put(data, places)
        program = step.lower(placed, OPTIONS).compile()
        got = program(placed, OPTIONS)
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(want), rtol=2e-5, atol=1e-6)
    for name in data:
        if name.endswith(("hidden", "weight")):
            assert got[1][0][name].sharding.is_equivalent_to(places[name], 2)
    assert_only_small_sums(program, tokens, classes)


@pytest.mark.sweep("losses-data-vocab-explicit", "mean-data-vocab-automatic")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["automatic", "explicit"])
@pytest.mark.parametrize(("tokens", "classes"), SPLITS, ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_sharded_arguments(loss: Any, tokens: Any, classes: Any, kind: Any) -> None:
    step = slopes(partial(total, loss))
    assert_sharded_as_given(step, drawn(), specs(tokens, classes), tokens, classes, kind)


@pytest.mark.sweep("losses-data-vocab", "mean-data-vocab")
@pytest.mark.parametrize(("tokens", "classes"), SPLITS, ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_shard_map(loss: Any, tokens: Any, classes: Any) -> None:
    data = drawn()
    want = slopes(partial(total, loss))(data, OPTIONS)
    mesh = jax.make_mesh((2, 4), ("data", "vocab"), axis_types=(AxisType.Auto,) * 2)

    def local(data: Any, options: Any) -> Any:
        if loss.func is jaxloss.mean_linear_softmax_cross_entropy:
            return total(loss, data, options, axis_name=classes, batch_axis_name=tokens)
        mean = total(loss, data, options, axis_name=classes)
        return mean if tokens is None else jax.lax.pmean(mean, tokens)

    mapped = jax.shard_map(local, mesh=mesh, in_specs=(specs(tokens, classes), P()), out_specs=P())
    step = slopes(mapped)
    program = step.lower(data, OPTIONS).compile()
    chex.assert_trees_all_close(program(data, OPTIONS), want, rtol=2e-5, atol=1e-6)
    assert_only_small_sums(program, tokens, classes)
    if classes is not None:  # the gradient of the hidden states is summed once
        own = TOKENS // (1 if tokens is None else 2)
        assert len([one for one in collectives(program) if f"f32[{own},{DIM}]" in one]) == 1


@pytest.mark.parametrize("aligned", [False, True], ids=["random", "ties"])
def test_entropy_and_log_probs_under_shard_map(aligned: bool) -> None:
    """Over eight parts of the vocabulary, with one class of the highest score on each of them in the case of ties."""
    data = drawn()
    if aligned:
        data["weight"] = jnp.tile(data["weight"][:, : CLASSES // 8], 8)
        data["bias"] = jnp.tile(data["bias"][: CLASSES // 8], 8)

    def both(data: Any, options: Any, axis: Any = None) -> Any:
        options = {"bias": data["bias"], "axis_name": axis, "block_size": 256, **options}
        entropies = jaxloss.token_entropy(data["hidden"], data["weight"], **options)
        log_probs, lse, is_top = jaxloss.token_log_probs(data["hidden"], data["weight"], data["labels"], **options)
        return jnp.mean(entropies * jnp.cos(jnp.arange(TOKENS)) + log_probs * (1 + lse) + is_top)

    mesh = jax.make_mesh((8,), ("vocab",), axis_types=(AxisType.Auto,))
    spec = (specs(None, "vocab"), P())
    mapped = jax.shard_map(partial(both, axis="vocab"), mesh=mesh, in_specs=spec, out_specs=P())
    program = slopes(mapped).lower(data, OPTIONS).compile()
    chex.assert_trees_all_close(program(data, OPTIONS), slopes(both)(data, OPTIONS), rtol=2e-5, atol=2e-6)
    assert_only_small_sums(program, None, "vocab")


def two_heads() -> dict[str, Any]:
    data = {k: v for k, v in drawn().items() if k in ("hidden", "weight", "bias")}
    keys = jax.random.split(jax.random.key(1), 3)
    data["teacher_hidden"] = jax.random.normal(keys[0], (TOKENS, DIM))
    data["teacher_weight"] = 0.5 * jax.random.normal(keys[1], (CLASSES, DIM))
    data["teacher_bias"] = jax.random.normal(keys[2], (CLASSES,)).at[::7].set(-jnp.inf)
    data["labels"] = jnp.arange(TOKENS)
    return data


def specs_of_two_heads(tokens: Any, classes: Any) -> dict[str, Any]:
    student = {k: v for k, v in specs(tokens, classes).items() if k != "class_weights"}
    return student | {"teacher_hidden": P(tokens, None), "teacher_weight": P(classes, None), "teacher_bias": P(classes)}


def distilled(data: Any, options: Any, tokens: Any = None, classes: Any = None) -> Any:
    data = {k: v for k, v in data.items() if k != "labels"}
    divergences = jaxloss.linear_softmax_kl_divergence(
        **data, **options, teacher_soft_cap=3.0, teacher_vocab_first=True, axis_name=classes, block_size=256
    )
    mean = jnp.mean(jnp.square(divergences))
    return mean if tokens is None else jax.lax.pmean(mean, tokens)


@pytest.mark.sweep("data-vocab")
@pytest.mark.parametrize(("tokens", "classes"), SPLITS, ids=str)
def test_distillation_under_shard_map(tokens: Any, classes: Any) -> None:
    """The vocabulary of both heads divided: only numbers a token and the gradients of the hidden states are summed."""
    data = two_heads()
    want = slopes(distilled)(data, OPTIONS)
    mesh = jax.make_mesh((2, 4), ("data", "vocab"), axis_types=(AxisType.Auto,) * 2)
    in_specs = (specs_of_two_heads(tokens, classes), P())
    mapped = jax.shard_map(partial(distilled, tokens=tokens, classes=classes), mesh=mesh, in_specs=in_specs, out_specs=P())
    program = slopes(mapped).lower(data, OPTIONS).compile()
    chex.assert_trees_all_close(program(data, OPTIONS), want, rtol=2e-5, atol=1e-6)
    assert_only_small_sums(program, tokens, classes)


@pytest.mark.sweep("data-vocab-explicit")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["automatic", "explicit"])
@pytest.mark.parametrize(("tokens", "classes"), SPLITS, ids=str)
def test_distillation_of_sharded_arguments(tokens: Any, classes: Any, kind: Any) -> None:
    assert_sharded_as_given(slopes(distilled), two_heads(), specs_of_two_heads(tokens, classes), tokens, classes, kind)


def test_sharded_logits() -> None:
    """Cross-entropy of logits that are divided by classes: sums of one number a token."""
    mesh = jax.make_mesh((2, 4), ("data", "vocab"), axis_types=(AxisType.Auto,) * 2)
    logits, labels = jax.random.normal(jax.random.key(0), (TOKENS, CLASSES)), drawn()["labels"]
    loss = jaxloss.softmax_cross_entropy_with_integer_labels
    step = jax.jit(jax.value_and_grad(lambda z, y: jnp.mean(loss(z, y))))
    want = step(logits, labels)
    for tokens, classes in SPLITS:
        placed = [jax.device_put(x, NamedSharding(mesh, s)) for x, s in ((logits, P(tokens, classes)), (labels, P(tokens)))]
        program = step.lower(*placed).compile()
        chex.assert_trees_all_close(program(*placed), want, rtol=1e-5, atol=1e-8)
        sent = collectives(program)
        assert all(one.endswith("all-reduce") and numbers(one) <= 64 * TOKENS for one in sent), sent


# One of two processes with two devices each: the same step as on one device, with the vocabulary over all four.
PROCESS = """
    import sys
    import jax
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec as P
    import jaxloss
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 4)).astype("f"), rng.normal(size=(4, 64)).astype("f"), rng.integers(0, 64, 8)
    def step(x, w, y):
        return jax.value_and_grad(lambda x, w: jnp.mean(jaxloss.linear_softmax_cross_entropy(x, w, y)), (0, 1))(x, w)
    want = jax.jit(step)(*data)
    mesh = jax.make_mesh((2, 2), ("data", "vocab"))
    specs = P("data", None), P(None, "vocab"), P("data")
    placed = [jax.make_array_from_callback(x.shape, NamedSharding(mesh, s), lambda i, x=x: x[i])
              for x, s in zip(data, specs)]
    value, slopes = jax.jit(step)(*placed)
    np.testing.assert_allclose(value, want[0], rtol=1e-6)
    for got, whole in zip(slopes, want[1]):
        for part in got.addressable_shards:
            np.testing.assert_allclose(part.data, np.asarray(whole)[part.index], rtol=1e-5, atol=1e-7)
    print("agreed", len(jax.devices()))
"""


def test_two_processes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-c", textwrap.dedent(PROCESS), address]
    folder = Path(__file__).parents[1]
    running = [
        subprocess.Popen([*command, str(rank)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert all("agreed 4" in text for text in said), said


UNDIVIDED = {"losses": jaxloss.linear_softmax_cross_entropy, "mean": jaxloss.mean_linear_softmax_cross_entropy}


def with_constants(name: str, h: Any, w: Any, y: Any, **static: Any) -> Any:
    """A loss with options that are constants made where it is called."""
    bias = jnp.zeros(w.shape[1])
    if name == "entropy":
        return jnp.sum(jaxloss.token_entropy(h, w, bias=bias, soft_cap=5.0, temperature=0.7, **static))
    if name == "log_probs":
        return jnp.sum(jaxloss.token_log_probs(h, w, y, bias=bias, soft_cap=5.0, temperature=0.7, **static)[0])
    if name == "divergence":
        options = {"bias": bias, "teacher_bias": bias, **static}
        return jnp.sum(jaxloss.linear_softmax_kl_divergence(h, w, jnp.flip(h, 0), jnp.sin(w), **options))
    options = {"label_smoothing": 0.1, "z_loss": 0.01, "soft_cap": 5.0, "temperature": 0.7, "bias": bias, **static}
    plain = UNDIVIDED[name](h, w, y, **{**options, "bias": None})
    return jnp.sum(plain) + jnp.sum(UNDIVIDED[name](h, w, y, class_weights=jnp.ones(w.shape[1]), **options))


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("name", ["losses", "mean", "log_probs", "entropy", "divergence"])
def test_constants_made_under_shard_map(name: str, checked: bool) -> None:
    """The gradient taken outside is that of one device, whether or not JAX checks what varies over the devices."""
    data = drawn()
    h, w, y = data["hidden"][:8], data["weight"][:, :64], data["labels"][:8] % 64
    want = jax.jit(jax.value_and_grad(partial(with_constants, name), (0, 1)))(h, w, y)
    mesh = jax.make_mesh((4,), ("vocab",), axis_types=(AxisType.Auto,))
    loss = partial(with_constants, name, axis_name="vocab")
    in_specs = (P(), P(None, "vocab"), P())
    divided = jax.shard_map(loss, mesh=mesh, in_specs=in_specs, out_specs=P(), check_vma=checked)
    got = jax.jit(jax.value_and_grad(divided, (0, 1)))(h, w, y)
    chex.assert_trees_all_close(got, want, rtol=2e-5, atol=2e-5)


def with_options(name: str, h: Any, w: Any, bias: Any, y: Any, batch: Any = None, vocabulary: Any = None) -> Any:
    """One loss a token, or their mean over the devices."""
    heads = {"bias": bias, "soft_cap": 5.0, "temperature": 0.7, "axis_name": vocabulary}
    smooth = {"label_smoothing": 0.1, "z_loss": 0.01}
    if name == "mean":
        return jaxloss.mean_linear_softmax_cross_entropy(h, w, y, **heads, **smooth, batch_axis_name=batch)
    if name == "divergence":
        return jaxloss.linear_softmax_kl_divergence(h, w, h / 2, w / 3, bias=bias, axis_name=vocabulary)
    if name == "entropy":
        return jaxloss.token_entropy(h, w, **heads)
    if name == "log_probs":
        return jaxloss.token_log_probs(h, w, y, **heads)[0]
    return jaxloss.linear_softmax_cross_entropy(h, w, y, **heads, **smooth)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("checked", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("name", ["losses", "mean", "log_probs", "entropy", "divergence"])
@pytest.mark.sweep("losses-unchecked-explicit", "mean-unchecked-auto")
def test_batch_and_vocabulary_divided_under_shard_map(name: str, checked: bool, axis_type: AxisType) -> None:
    """Value and every gradient, taken outside, whether or not JAX checks what varies, on a mesh of either kind."""
    data = drawn()
    given = data["hidden"][:8], data["weight"][:, :64], data["bias"][:64], data["labels"][:8] % 64
    want = jax.jit(jax.value_and_grad(lambda *at: jnp.mean(with_options(name, *at)), (0, 1, 2)))(*given)
    mesh = jax.make_mesh((2, 4), ("data", "vocab"), axis_types=(axis_type,) * 2)
    divided = jax.shard_map(
        partial(with_options, name, batch="data", vocabulary="vocab"),
        mesh=mesh,
        in_specs=(P("data", None), P(None, "vocab"), P("vocab"), P("data")),
        out_specs=P() if name == "mean" else P("data"),
        check_vma=checked,
    )
    specs = P("data", None), P(None, "vocab"), P("vocab"), P("data")
    placed = [jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in zip(given, specs, strict=True)]
    got = jax.jit(jax.value_and_grad(lambda *at: jnp.mean(divided(*at)), (0, 1, 2)))(*placed)
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(want), rtol=2e-5, atol=2e-6)
