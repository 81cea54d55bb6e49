"""One test a promise, run over every row of cases.py."""

import functools
import inspect
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, Case, name, rounded
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxloss

BF16, F16, F32, F64 = jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64
EVERY = pytest.mark.parametrize("case", CASES, ids=name)
# Unit of the dtype that a gradient comes in; values of 16-bit inputs are computed in float32.
UNIT = {BF16: 2.0**-8, F16: 2.0**-11, F32: 2.0**-24, F64: 2.0**-53}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def example(case: Case, dtype: Any, options: dict[str, Any] | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments in the dtype under test, and options as arrays in float32 or wider."""
    options = case.options[-1] if options is None else options
    option_dtype = F64 if dtype == F64 else F32
    return tuple(rounded(x, dtype) for x in case.draw(rng())), {k: rounded(v, option_dtype) for k, v in options.items()}


def is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def floats(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[list[int], list[str]]:
    return [i for i, x in enumerate(args) if is_float(x)], list(options)


def weighted(f: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A function of all float arguments and options: Σ cᵢ lossᵢ with uneven cotangents c."""
    positions, names = floats(args, options)

    def total(data: list[Any], values: dict[str, Any]) -> Any:
        full = list(args)
        for i, x in zip(positions, data, strict=True):
            full[i] = x
        losses = f(*full, **values)
        return jnp.sum(losses * jnp.linspace(0.5, 2.0, losses.size).reshape(losses.shape).astype(losses.dtype))

    return total, [args[i] for i in positions], {k: options[k] for k in names}


@functools.cache
def reference_function(index: int, option_names: tuple[str, ...]) -> Any:
    """The naive formula and its gradients, compiled once for every dtype."""
    del option_names  # part of the key alone
    case = CASES[index]

    def both(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
        total, data, values = weighted(case.naive, args, options)
        return case.naive(*args, **options), jax.grad(total, argnums=(0, 1))(data, values)

    return jax.jit(both)


def reference(case: Case, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
    """Value and gradients of the naive formula in float64, at the rounded arguments."""
    with jax.enable_x64(True):
        args = tuple(jnp.asarray(x, F64) if is_float(x) else jnp.asarray(x) for x in map(np.asarray, args))
        options = {k: jnp.asarray(np.asarray(v), F64) for k, v in options.items()}
        return jax.tree.map(np.asarray, reference_function(CASES.index(case), tuple(options))(args, options))


def some_options(case: Case) -> list[dict[str, Any]]:
    """None and all of them, where each on its own would cost too much compilation."""
    return case.options[:1] + case.options[1:][-1:]


def assert_close(got: Any, want: Any, unit: float, what: str) -> None:
    """Within the unit of the largest component: data are random, so that no single one is near 0 by design."""
    got, want = np.asarray(got, np.float64), np.asarray(want)
    scale = np.max(np.abs(want), initial=1e-30)
    np.testing.assert_allclose(got, want, rtol=unit, atol=unit * scale, err_msg=what)


def test_every_public_loss_has_a_row() -> None:
    others = {"autodiff", "mean", "sum", "smooth_labels", "make_fenchel_young_loss"}  # each has tests of its own
    assert {name(case) for case in CASES} == set(jaxloss.__all__) - others
    assert set(jaxloss.__all__) == {k for k, v in vars(jaxloss).items() if inspect.isfunction(v)}


@EVERY
def test_signature_and_docstring(case: Case) -> None:
    parameters = inspect.signature(case.loss).parameters.values()
    assert all((p.kind == p.KEYWORD_ONLY) == (p.default is not p.empty) for p in parameters)
    assert list(inspect.signature(case.loss).parameters)[-1] == "where"
    for section in ("Formula:", "Derivative", "Args:", "Returns:", "Raises:", "Example:", "References:", ">>>"):
        assert section in (case.loss.__doc__ or ""), section


@EVERY
@pytest.mark.parametrize("dtype", [BF16, F16, F32], ids=str)
def test_value_and_gradients(case: Case, dtype: Any) -> None:
    for options in case.options if dtype == F32 else some_options(case):
        args, values = example(case, dtype, options)
        want, want_gradients = reference(case, args, values)
        losses = case.loss(*args, **values)
        assert losses.dtype == F32
        assert_close(losses, want, 16 * UNIT[F32], f"{options}")
        total, data, values = weighted(case.loss, args, values)
        gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(data, values)
        for x, gradient in zip(jax.tree.leaves((data, values)), jax.tree.leaves(gradients), strict=True):
            assert gradient.dtype == x.dtype
            assert gradient.shape == x.shape
        for got, true in zip(jax.tree.leaves(gradients), jax.tree.leaves(want_gradients), strict=True):
            assert_close(got, true, 1.5 * UNIT[dtype] if got.dtype == dtype != F32 else 40 * UNIT[F32], f"{options}")


@EVERY
def test_value_and_gradients_in_float64(case: Case) -> None:
    with jax.enable_x64(True):
        for options in some_options(case):
            args, values = example(case, F64, options)
            want, want_gradients = reference(case, args, values)
            losses = case.loss(*args, **values)
            assert losses.dtype == F64
            assert_close(losses, want, 2000 * UNIT[F64], f"{options}")
            total, data, values = weighted(case.loss, args, values)
            gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(data, values)
            for got, true in zip(jax.tree.leaves(gradients), jax.tree.leaves(want_gradients), strict=True):
                assert got.dtype == F64
                assert_close(got, true, 1e5 * UNIT[F64], f"{options}")


@EVERY
def test_float32_stays_under_x64(case: Case) -> None:
    with jax.enable_x64(True):
        args = tuple(rounded(x, F32) for x in case.draw(rng()))
        assert case.loss(*args).dtype == F32  # the defaults of the options do not widen it
        assert jax.grad(lambda x: jnp.sum(case.loss(x, *args[1:])))(args[0]).dtype == F32


@EVERY
def test_the_rule_is_that_of_the_function(case: Case) -> None:
    for options in some_options(case):
        args, values = example(case, F32, options)
        total, data, values = weighted(case.loss, args, values)
        plain, _, _ = weighted(jaxloss.autodiff(case.loss), args, values)
        gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(data, values)
        by_autodiff = jax.jit(jax.grad(plain, argnums=(0, 1)))(data, values)
        for got, want in zip(jax.tree.leaves(gradients), jax.tree.leaves(by_autodiff), strict=True):
            assert_close(got, want, 60 * UNIT[F32], f"{options}")
        losses = jax.jit(lambda a, v: case.loss(*a, **v))(args, values)
        under_vjp = jax.jit(lambda a, v: jax.vjp(lambda x: case.loss(x, *a[1:], **v), a[0])[0])(args, values)
        np.testing.assert_array_equal(under_vjp, losses)


@EVERY
def test_forward_mode(case: Case) -> None:
    args, values = example(case, F32, case.options[0])
    total, data, values = weighted(jaxloss.autodiff(case.loss), args, values)
    tangents = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), (data, values))
    _, slope = jax.jit(lambda d, v: jax.jvp(total, (d, v), tangents))(data, values)
    gradients = jax.grad(weighted(case.loss, args, values)[0], argnums=(0, 1))(data, values)
    want = sum(jnp.vdot(g, t) for g, t in zip(jax.tree.leaves(gradients), jax.tree.leaves(tangents), strict=True))
    np.testing.assert_allclose(slope, want, rtol=1e-4, atol=1e-4)


@EVERY
def test_second_derivatives(case: Case) -> None:
    """Forward over reverse and reverse over reverse, by all arguments and options, against the naive formula's."""
    with jax.enable_x64(True):
        for options in some_options(case):
            args, values = example(case, F64, options)
            total, data, values = weighted(case.loss, args, values)
            naive, _, _ = weighted(case.naive, args, values)
            leaves, tree = jax.tree.flatten((data, values))
            uneven = [jnp.cos(i + jnp.arange(x.size, dtype=F64)).reshape(x.shape) for i, x in enumerate(leaves)]
            tangents = jax.tree.unflatten(tree, uneven)

            def products(f: Any, tangents: Any = tangents) -> Any:
                both = jax.value_and_grad(f, argnums=(0, 1))  # the value that comes with a gradient is differentiated too

                def along(*at: Any) -> Any:
                    slopes = zip(jax.tree.leaves(both(*at)), jax.tree.leaves((1.0, tangents)), strict=True)
                    return sum(jnp.vdot(g, t) for g, t in slopes)

                return jax.jit(lambda *at: (jax.jvp(both, at, tangents)[1], jax.grad(along, argnums=(0, 1))(*at)))

            want = products(naive)(data, values)
            chex.assert_trees_all_close(products(total)(data, values), want, rtol=1e-7, atol=1e-7)
            if case.second:
                (_, of_gradient), _ = want
                assert any(np.any(np.asarray(x) != 0) for x in of_gradient[0])


HARD = [pytest.param(case, point, id=f"{name(case)}-{i}") for case in CASES for i, point in enumerate(case.hard)]


@pytest.mark.parametrize(("case", "point"), HARD)
def test_hard_points(case: Case, point: Any) -> None:
    raw, options, want = point
    args = tuple(rounded(x, F32) for x in raw)
    loss = functools.partial(case.loss, **options)
    for losses in (loss(*args), jax.jit(loss)(*args)):
        # 4 ulp, and the threshold below which XLA flushes to 0
        np.testing.assert_allclose(losses, want, rtol=4 * 2.0**-23, atol=128 * 2.0**-126)

    def total(x: Any) -> Any:
        return jnp.sum(loss(x, *args[1:]))

    gradient, hessian = jax.jit(lambda x: (jax.grad(total)(x), jax.hessian(total)(x)))(args[0])
    assert not np.any(np.isnan(gradient)), gradient
    if case.loss is not jaxloss.binary_cross_entropy:  # whose second derivative at p = 1e-30 is 1e60
        assert np.all(np.isfinite(hessian)), hessian
    if case.loss not in (jaxloss.binary_cross_entropy, jaxloss.robust_loss) and np.all(np.isfinite(want)):
        assert np.all(np.isfinite(gradient)), gradient


@EVERY
def test_transformations_change_nothing(case: Case) -> None:
    args, values = example(case, F32, case.options[0])
    loss = functools.partial(case.loss, **values)
    extra = args[2:]  # class priors are not batched

    def value_and_slope(x: Any, y: Any) -> Any:
        losses, pullback = jax.vjp(lambda x: loss(x, y, *extra), x)
        return losses, pullback(jnp.ones_like(losses))[0]

    eager = value_and_slope(*args[:2])  # not compiled as a whole

    def same(got: Any) -> None:
        chex.assert_trees_all_close(got, eager, rtol=3e-6, atol=1e-6)

    same(jax.jit(value_and_slope)(*args[:2]))
    same(jax.vmap(value_and_slope)(*args[:2]))
    doubled = jax.vmap(jax.vmap(value_and_slope))(*(jnp.stack([x, x]) for x in args[:2]))
    same(jax.tree.map(lambda x: x[1], doubled))
    _, scanned = jax.lax.scan(lambda carry, xy: (carry, value_and_slope(*xy)), 0, args[:2])
    same(scanned)
    slope = jax.grad(jax.checkpoint(lambda x: jnp.sum(loss(x, args[1], *extra))))(args[0])
    same((eager[0], slope))
    exported = jax.export.export(jax.jit(value_and_slope))(*args[:2])
    same(tuple(exported.call(*args[:2])))


@EVERY
@pytest.mark.parametrize("which", [0, -1], ids=["plain", "options"])
def test_masked_slots_change_nothing(case: Case, which: int) -> None:
    args, values = example(case, BF16 if which == 0 else F32, case.options[which])
    shape = args[0].shape[:-1] if case.rows else args[0].shape
    where = jnp.arange(int(np.prod(shape))).reshape(shape) % 3 != 1
    assert not np.all(where)
    spread = where[..., None] if case.rows else where

    def poisoned(x: Any) -> Any:
        if is_float(x):
            return jnp.where(spread, x, jnp.nan)
        return jnp.where(where, x, -100) if x.shape == shape else x

    bad = (*(poisoned(x) for x in args[:2]), *args[2:])
    masked = functools.partial(case.loss, where=where)
    clean, data, values = weighted(lambda *a, **o: jnp.where(where, case.loss(*a, **o), 0), args, values)
    dirty, bad_data, _ = weighted(masked, bad, values)
    by_autodiff, _, _ = weighted(jaxloss.autodiff(masked), bad, values)

    def slopes(f: Any, *at: Any) -> Any:
        return jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(*at)

    want = slopes(clean, data, values)
    chex.assert_trees_all_close(slopes(dirty, bad_data, values), want, rtol=2e-5, atol=2e-6)
    loose = {"rtol": 2e-2, "atol": 2e-2} if which == 0 else {"rtol": 1e-4, "atol": 1e-5}
    chex.assert_trees_all_close(slopes(by_autodiff, bad_data, values), want, **loose)
    losses = masked(*bad, **values)
    assert np.all(np.asarray(losses)[~np.asarray(where)] == 0)
    nothing = case.loss(*bad, where=jnp.zeros(shape, bool), **values)
    assert np.all(nothing == 0)
    assert jaxloss.mean(nothing, where=jnp.zeros(shape, bool)) == 0
    if which == 0:
        second = jax.jit(jax.grad(lambda x: sum(jnp.sum(jnp.square(g)) for g in jax.grad(dirty)(x, values))))(bad_data)
        assert not any(np.any(np.isnan(x)) for x in second)


@EVERY
def test_sharding_changes_nothing(case: Case) -> None:
    args, values = example(case, F32, case.options[0])
    mesh = Mesh(np.asarray(jax.devices()[:8]), ("batch",))
    rows = NamedSharding(mesh, PartitionSpec("batch"))
    big = tuple(jnp.concatenate([x] * 8)[:8] for x in args[:2])

    def total(x: Any, y: Any) -> Any:
        return jnp.sum(case.loss(x, y, *args[2:], **values))

    want = jax.value_and_grad(total)(*big)
    placed = tuple(jax.device_put(x, rows) for x in big)
    step = jax.jit(jax.value_and_grad(total))
    got = step(*placed)
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)
    assert got[1].sharding.is_equivalent_to(rows, got[1].ndim)
    assert "all-gather" not in step.lower(*placed).compile().as_text()

    def local(x: Any, y: Any) -> Any:
        return jaxloss.sum(case.loss(x, y, *args[2:], **values), axis_name="batch")

    spec = PartitionSpec("batch")
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(spec, spec), out_specs=PartitionSpec())
    chex.assert_trees_all_close(jax.jit(jax.value_and_grad(mapped))(*placed), want, rtol=1e-5, atol=1e-6)


@EVERY
def test_bad_input_raises(case: Case) -> None:
    args = tuple(rounded(x, F32) for x in case.draw(rng()))
    first, second = list(inspect.signature(case.loss).parameters)[:2]
    with pytest.raises(TypeError, match=f"{first} must be floating point, got int32"):
        case.loss(jnp.ones(args[0].shape, int), *args[1:])
    with pytest.raises(ValueError, match=rf"{second} must .*got \(3, 1\)"):
        case.loss(args[0], args[1].reshape(-1)[:3].reshape(3, 1), *args[2:])
    with pytest.raises(ValueError, match="where must broadcast"):
        case.loss(*args, where=jnp.ones((7,), bool))
    with pytest.raises(TypeError, match="where must be boolean, got float32"):
        case.loss(*args, where=jnp.ones((), F32))
    with pytest.raises(TypeError, match="unexpected keyword argument 'reduction'"):
        case.loss(*args, reduction="mean")
    if "axis" in inspect.signature(case.loss).parameters:
        with pytest.raises(ValueError, match="axis must be from -2 to 1"):
            case.loss(*args, axis=2)
    for option, value in case.options[-1].items():
        with pytest.raises(TypeError, match=f"{option} must be floating point"):
            case.loss(*args, **{option: "much"})
        if option not in ("epsilon", "alpha", "temperature") or case.loss is jaxloss.charbonnier_loss:
            bad = 1.0 if option == "log_zero" else -0.5
            with pytest.raises(ValueError, match=f"{option} must be (at least|above|at most)"):
                case.loss(*args, **{option: np.full(np.shape(value), bad)})


@pytest.mark.parametrize("case", [case for case in CASES if case.rows], ids=name)
def test_class_axis(case: Case) -> None:
    args, values = example(case, F32)
    want = case.loss(*args, **values)
    same_rank = args[1].ndim == args[0].ndim
    moved = (jnp.moveaxis(args[0], -1, 0), jnp.moveaxis(args[1], -1, 0) if same_rank else args[1])
    np.testing.assert_allclose(case.loss(*moved, *args[2:], axis=0, **values), want, rtol=1e-6)
    lead = tuple(x[None] for x in args[:2])
    np.testing.assert_allclose(case.loss(*lead, *args[2:], **values)[0], want, rtol=1e-6)


@EVERY
def test_residuals_are_the_inputs(case: Case) -> None:
    """What the forward pass keeps: the inputs, and two numbers a row where there are classes."""
    for dtype in (BF16, F32):
        args, values = example(case, dtype)
        float_args = tuple(i for i, x in enumerate(args) if is_float(x))

        def kept(*data: Any, args: Any = args, float_args: Any = float_args, values: Any = values) -> Any:
            full = list(args)
            for i, x in zip(float_args, data, strict=True):
                full[i] = x
            return jax.vjp(lambda *data: case.loss(*merge(full, float_args, data), **values), *data)[1]

        leaves = jax.tree.leaves(jax.eval_shape(kept, *(args[i] for i in float_args)))
        size = sum(x.size * x.dtype.itemsize for x in leaves)
        inputs = sum(x.size * x.dtype.itemsize for x in (*args, *jax.tree.leaves(values)))
        rows = args[0].size // args[0].shape[-1] if case.rows else 0
        unruled = case.loss in (jaxloss.multiclass_hinge_loss, jaxloss.multiclass_perceptron_loss)
        if not unruled:
            assert size <= inputs + 64 * rows + 64, (dtype, leaves)
        largest = max((x.size for x in leaves if x.dtype == F32), default=0)
        if dtype == BF16 and not unruled:
            assert largest < args[0].size, leaves  # no float32 copy of a 16-bit input


def merge(full: list[Any], positions: tuple[int, ...], data: tuple[Any, ...]) -> list[Any]:
    full = list(full)
    for i, x in zip(positions, data, strict=True):
        full[i] = x
    return full
