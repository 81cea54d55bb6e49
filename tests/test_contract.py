"""One test a promise, run over every row of cases.

Every promise is tested on every loss by `make test`, at the last of its options, which are all of them; what is marked
`exhaustive`, the other options and dtypes, waits for `make test-all`. Most of the time is JAX's, which traces and compiles:
what one program can answer is asked of one, and all tests of a loss stand beside each other, so that they share it.
"""

import collections
import functools
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, OTHERS, Case, differentiable, rounded
from jax.experimental import checkify
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import jaxloss

BF16, F16, F32, F64 = jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64
# The scope puts the tests of a loss beside each other.
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name, scope="module")
exhaustive = pytest.mark.exhaustive
WHICH = pytest.mark.parametrize("which", [-1, pytest.param(0, marks=exhaustive)], ids=["all options", "none"])
# Unit of the dtype that a gradient comes in; values of 16-bit inputs are computed in float32.
UNIT = {BF16: 2.0**-8, F16: 2.0**-11, F32: 2.0**-24, F64: 2.0**-53}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that are differentiated, and those that stay as they are."""
    floats = {k: v for k, v in options.items() if differentiable(v)}
    return floats, {k: v for k, v in options.items() if k not in floats}


def example(case: Case, dtype: Any, options: dict[str, Any] | None = None) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The loss, its arguments in the dtype under test, and its options as arrays in float32 or wider."""
    floats, fixed = split(case.options[-1] if options is None else options)
    option_dtype = F64 if dtype == F64 else F32
    args = tuple(rounded(x, dtype) for x in case.draw(rng()))
    return functools.partial(case.loss, **fixed), args, {k: rounded(v, option_dtype) for k, v in floats.items()}


def is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def floats(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[list[int], list[str]]:
    return [i for i, x in enumerate(args) if is_float(x)], list(options)


def weighted(f: Any, args: tuple[Any, ...], options: dict[str, Any], weights: Any = 1.0) -> Any:
    """A function of all float arguments and options: Σ cᵢ lossᵢ with uneven cotangents c, and the losses."""
    positions, names = floats(args, options)

    def total(data: list[Any], values: dict[str, Any]) -> Any:
        losses = f(*merge(args, positions, data), **values)
        uneven = np.linspace(0.5, 2.0, losses.size).reshape(losses.shape).astype(losses.dtype)
        return jnp.sum(losses * (uneven * weights)), losses

    return total, [args[i] for i in positions], {k: options[k] for k in names}


def merge(args: tuple[Any, ...], positions: Sequence[int], data: Any) -> list[Any]:
    full = list(args)
    for i, x in zip(positions, data, strict=True):
        full[i] = x
    return full


def with_gradients(function: Any, args: tuple[Any, ...], options: dict[str, Any], weights: Any = 1.0) -> tuple[Any, Any]:
    """The losses as they come with their gradients by all float arguments and options."""
    total, *at = weighted(function, args, options, weights)
    (_, losses), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(*at)
    return losses, gradients


@functools.cache
def losses_and_gradients(function: Any, fixed: tuple[tuple[str, Any], ...]) -> Any:
    """Those of one function, compiled once a dtype."""
    return jax.jit(functools.partial(with_gradients, functools.partial(function, **dict(fixed))))


class Answers(NamedTuple):
    """What one program says of a loss."""

    losses: Any  # on their own
    under_vjp: Any  # as they come with gradients
    gradients: Any
    by_autodiff: Any  # the gradients with the rule set aside
    slope: Any  # by forward mode, along `tangents`


def tangents(data: Any) -> Any:
    """Uneven ones, of which no two are the same."""
    leaves, tree = jax.tree.flatten(data)
    uneven = [np.cos(i + np.arange(x.size)).reshape(x.shape).astype(x.dtype) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(tree, uneven)


@functools.cache
def answers(function: Any, fixed: tuple[tuple[str, Any], ...]) -> Any:
    """All of them at once, for any mask, and weights of the losses beside their uneven ones."""

    def ask(args: tuple[Any, ...], options: dict[str, Any], where: Any, weights: Any) -> Answers:
        masked = functools.partial(function, where=where, **dict(fixed))
        aside = jaxloss.autodiff(masked)
        total, *at = weighted(aside, args, options, weights)
        _, (slope, _) = jax.jvp(total, tuple(at), tuple(tangents(at)))
        by_autodiff = with_gradients(aside, args, options, weights)[1]
        by_rule = with_gradients(masked, args, options, weights)
        return Answers(masked(*args, **options), *by_rule, by_autodiff, slope)

    return jax.jit(ask)


def asked(case: Case, which: int, args: tuple[Any, ...], values: Any, where: Any = None, weights: Any = 1.0) -> Answers:
    """The answers for some of the options; the mask leaves nothing out unless it is given."""
    where = np.ones(case.items(args), bool) if where is None else np.asarray(where)
    weights = np.broadcast_to(np.float32(weights), where.shape if case.among is None else ())  # one program for all
    return jax.tree.map(np.asarray, answers(case.loss, fixed_options(case.options[which]))(args, values, where, weights))


@functools.cache
def derivatives(function: Any, fixed: tuple[tuple[str, Any], ...]) -> Any:
    """Losses, gradients, and the slope along `tangents` of them all, forward over reverse."""

    def first_and_second(args: tuple[Any, ...], options: dict[str, Any], **mask: Any) -> tuple[Any, Any, Any]:
        total, *at = weighted(functools.partial(function, **dict(fixed), **mask), args, options)
        both = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
        ((_, losses), gradients), ((value, _), of_gradients) = jax.jvp(both, tuple(at), tuple(tangents(at)))
        return losses, gradients, (value, of_gradients)  # the value that comes with a gradient is differentiated too

    return jax.jit(first_and_second)


def fixed_options(options: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(split(options)[1].items())


def reference(case: Case, args: tuple[Any, ...], options: dict[str, Any], values: dict[str, Any]) -> tuple[Any, Any]:
    """Value and gradients of the naive formula in float64, at the rounded arguments and the values of the options."""
    with jax.enable_x64(True):
        args = tuple(jnp.asarray(x, F64) if is_float(x) else jnp.asarray(x) for x in map(np.asarray, args))
        values = {k: jnp.asarray(np.asarray(v), F64) for k, v in values.items()}
        program = derivatives if options is case.options[-1] else losses_and_gradients  # which is at hand
        return jax.tree.map(np.asarray, program(case.naive, fixed_options(options))(args, values)[:2])


def assert_close(got: Any, want: Any, unit: float, what: str) -> None:
    """Within the unit of the largest component: data are random, so that no single one is near 0 by design."""
    got, want = np.asarray(got, np.float64), np.asarray(want)
    scale = np.max(np.abs(want), initial=1e-30)
    np.testing.assert_allclose(got, want, rtol=unit, atol=unit * scale, err_msg=what)


def test_every_public_loss_has_a_row() -> None:
    assert {case.name for case in CASES} == set(jaxloss.__all__) - OTHERS
    assert {*jaxloss.__all__, "sum", "__getattr__"} == {k for k, v in vars(jaxloss).items() if inspect.isfunction(v)}


@EVERY
def test_signature_and_docstring(case: Case) -> None:
    parameters = inspect.signature(case.loss).parameters.values()
    assert all((p.kind == p.KEYWORD_ONLY) == (p.default is not p.empty) for p in parameters)
    assert list(inspect.signature(case.loss).parameters)[-1] == "where"
    for section in ("Formula:", "Derivative", "Args:", "Returns:", "Raises:", "Example:", "References:", ">>>"):
        assert section in (case.loss.__doc__ or ""), section


# The dtype, and which options.
SWEEP = [
    pytest.param(F32, slice(-1, None), id="float32, all options"),
    pytest.param(BF16, slice(-1, None), id="bfloat16, all options"),
    pytest.param(F32, slice(None), id="float32, each", marks=exhaustive),
    pytest.param(BF16, slice(0, 1), id="bfloat16, none", marks=exhaustive),
    pytest.param(F16, slice(-1, None), id="float16, all options", marks=exhaustive),
]


@EVERY
@pytest.mark.parametrize(("dtype", "which"), SWEEP)
def test_value_and_gradients(case: Case, dtype: Any, which: slice) -> None:
    """In float32 with a mask that leaves nothing out, but for the sweep."""
    for options in case.options[which]:
        _, args, values = example(case, dtype, options)
        want, want_gradients = reference(case, args, options, values)
        if dtype == F32 and which == slice(-1, None):
            _, losses, gradients, *_ = asked(case, -1, args, values)
        else:
            losses, gradients = losses_and_gradients(case.loss, fixed_options(options))(args, values)
        assert losses.dtype == F32
        assert_close(losses, want, 16 * UNIT[F32], f"{options}")
        arguments = [x for x in args if is_float(x)]
        for x, gradient in zip(jax.tree.leaves((arguments, values)), jax.tree.leaves(gradients), strict=True):
            assert gradient.dtype == x.dtype
            assert gradient.shape == x.shape
        for got, true in zip(jax.tree.leaves(gradients), jax.tree.leaves(want_gradients), strict=True):
            assert_close(got, true, 1.5 * UNIT[dtype] if got.dtype == dtype != F32 else 40 * UNIT[F32], f"{options}")


@EVERY
@pytest.mark.parametrize("which", [slice(-1, None), pytest.param(slice(0, -1), marks=exhaustive)], ids=["all", "each"])
def test_float32_stays_under_x64(case: Case, which: slice) -> None:
    with jax.enable_x64(True):
        args = tuple(rounded(x, F32) for x in case.draw(rng()))
        assert jax.eval_shape(case.loss, *args).dtype == F32  # the defaults of the options do not widen it
        assert jax.eval_shape(jax.grad(lambda x: jnp.sum(case.loss(x, *args[1:]))), args[0]).dtype == F32
        # nor do options in float64: those of them that are data are positional
        for options in case.options[which]:
            wide = {k: jnp.asarray(v, F64) for k, v in split(options)[0].items()}
            loss = functools.partial(case.loss, **split(options)[1])
            both = jax.value_and_grad(lambda x, values, f=loss: jnp.sum(f(x, *args[1:], **values)), (0, 1))
            value, (by_data, by_options) = jax.eval_shape(both, args[0], wide)
            assert value.dtype == by_data.dtype == F32
            assert all(x.dtype == F64 for x in by_options.values())


@EVERY
@WHICH
def test_the_rule_is_that_of_the_function(case: Case, which: int) -> None:
    _, args, values = example(case, F32, case.options[which])
    got = asked(case, which, args, values)
    for gradient, want in zip(jax.tree.leaves(got.gradients), jax.tree.leaves(got.by_autodiff), strict=True):
        assert_close(gradient, want, 60 * UNIT[F32], f"{case.options[which]}")
    np.testing.assert_array_equal(got.under_vjp, got.losses)


@EVERY
@WHICH
def test_nan_is_never_lost(case: Case, which: int) -> None:
    """A model that has diverged is not to look healthy."""
    _, args, values = example(case, F32, case.options[which])
    bad = np.array(args[0])
    bad[0] = np.nan
    _, losses, gradients, *_ = asked(case, which, (jnp.asarray(bad), *args[1:]), values)
    assert np.any(np.isnan(losses))
    assert any(np.any(np.isnan(x)) for x in jax.tree.leaves(gradients)) or not case.second


@EVERY
@WHICH
def test_forward_mode(case: Case, which: int) -> None:
    _, args, values = example(case, F32, case.options[which])
    got = asked(case, which, args, values)
    pairs = zip(jax.tree.leaves(got.gradients), jax.tree.leaves(tangents(list(got.gradients))), strict=True)
    np.testing.assert_allclose(got.slope, sum(np.vdot(g, t) for g, t in pairs), rtol=1e-4, atol=1e-4)


@EVERY
@WHICH
def test_float64_and_second_derivatives(case: Case, which: int) -> None:
    """Value, gradients and forward over reverse, against the naive formula's; and no NaN from what is masked."""
    options = case.options[which]
    with jax.enable_x64(True):
        _, args, values = example(case, F64, options)
        program = derivatives(case.loss, fixed_options(options))
        want_losses, want_gradients, want = derivatives(case.naive, fixed_options(options))(args, values)
        losses, gradients, got = program(args, values, where=np.ones(case.items(args), bool))
        assert all(x.dtype == F64 for x in jax.tree.leaves((losses, gradients)))
        assert_close(losses, want_losses, 2000 * UNIT[F64], f"{options}")
        for slope, true in zip(jax.tree.leaves(gradients), jax.tree.leaves(want_gradients), strict=True):
            assert_close(slope, true, 1e5 * UNIT[F64], f"{options}")
        chex.assert_trees_all_close(got, want, rtol=1e-7, atol=1e-7)
        if case.second:
            _, (of_data, _) = want
            assert any(np.any(np.asarray(x) != 0) for x in of_data)
        where = np.asarray(mask_of(case, args))
        bad = (*(poisoned(x, where) for x in args[: case.batched]), *args[case.batched :])
        assert not any(np.any(np.isnan(x)) for x in jax.tree.leaves(program(bad, values, where=where)))


@exhaustive
@EVERY
def test_reverse_over_reverse(case: Case) -> None:
    """With all options, against the naive formula's."""
    with jax.enable_x64(True):
        options = case.options[-1]
        loss, args, values = example(case, F64, options)

        def reverse(f: Any) -> Any:
            total, *at = weighted(f, args, values)
            both = jax.value_and_grad(lambda *at: total(*at)[0], argnums=(0, 1))
            weights = jax.tree.leaves((1.0, tangents(at)))

            def along(*at: Any) -> Any:
                return sum(jnp.vdot(g, t) for g, t in zip(jax.tree.leaves(both(*at)), weights, strict=True))

            return jax.jit(jax.grad(along, argnums=(0, 1)))(*at)

        naive = functools.partial(case.naive, **split(options)[1])
        chex.assert_trees_all_close(reverse(loss), reverse(naive), rtol=1e-7, atol=1e-7)


HARD = [pytest.param(case, point, id=f"{case.name}-{i}") for case in CASES for i, point in enumerate(case.hard)]


@functools.cache
def at_hard_points(case_name: str, options: str, curvature: str) -> Any:
    """Loss, gradient and curvature, compiled once for all points of the same options and shapes."""
    case, fixed = next(
        (case, point[1]) for case in CASES for point in case.hard if (case.name, repr(point[1])) == (case_name, options)
    )

    def total(*args: Any) -> Any:
        losses = case.loss(*args, **fixed)
        return jnp.sum(losses), losses

    slope = jax.grad(total, case.arguments, has_aux=True)
    if curvature == "hessian":
        hessian = jax.hessian(lambda *args: total(*args)[0], case.arguments)
        return jax.jit(lambda *args: (slope(*args), hessian(*args)))
    if curvature == "none":
        return jax.jit(lambda *args: (slope(*args), ()))

    def sum_of_columns(*args: Any) -> Any:  # in which no entry of the hessian that is not finite can hide
        at = [args[i] for i in case.arguments]
        first, (second, _) = jax.jvp(
            lambda *at: slope(*merge(args, case.arguments, at)), at, [np.ones(x.shape, x.dtype) for x in at]
        )
        return first, second

    return jax.jit(sum_of_columns)


def shapes(point: Any) -> tuple[Any, ...]:
    return repr(point[1]), *map(np.shape, point[0])


def check_hard_point(case: Case, point: Any, curvature: str, eager: bool) -> None:
    raw, options, want = point
    args = tuple(rounded(x, F32) for x in raw)
    (gradients, compiled), hessians = at_hard_points(case.name, repr(options), curvature)(*args)
    for losses in (case.loss(*args, **options), compiled) if eager else (compiled,):
        # and the threshold below which XLA flushes to 0
        np.testing.assert_allclose(losses, want, rtol=case.ulps * 2.0**-23, atol=128 * 2.0**-126)
    gradients, hessians = jax.tree.map(np.asarray, (gradients, hessians))
    assert not any(np.any(np.isnan(x)) for x in gradients), gradients
    if case.loss is not jaxloss.binary_cross_entropy:  # whose second derivative at p = 1e-30 is 1e60
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(hessians)), hessians
    if case.loss not in (jaxloss.binary_cross_entropy, jaxloss.robust_loss) and np.all(np.isfinite(want)):
        assert all(np.all(np.isfinite(x)) for x in gradients), gradients


@pytest.mark.parametrize(("case", "point"), HARD)
def test_hard_points(case: Case, point: Any) -> None:
    """Value and gradient of each, and second derivatives at those of the shapes that the loss has most points of."""
    most, _ = collections.Counter(map(shapes, case.hard)).most_common(1)[0]
    summed = shapes(point) == most and np.all(np.abs(point[2]) < 1e30)  # of columns of 3e38 the sum is out of range
    check_hard_point(case, point, "sum of columns" if summed else "none", eager=False)


@exhaustive
@pytest.mark.parametrize(("case", "point"), HARD)
def test_hard_points_of_every_shape(case: Case, point: Any) -> None:
    """The whole hessian too, and the value as it comes without jit."""
    check_hard_point(case, point, "hessian", eager=True)


def value_and_slope_of(case: Case) -> tuple[Any, tuple[Any, ...]]:
    """A function of arrays that have the axes of the mask, and these; by the first it is differentiated."""
    loss, args, values = example(case, F32, case.options[0])
    loss = functools.partial(loss, **values)
    data, extra = args[: case.batched], args[case.batched :]  # class priors are not batched
    if case.among == 0:  # the arguments are one example: a batch is several of them
        data = tuple(jnp.stack([x, x]) for x in data)
        one = loss
        loss = jax.vmap(lambda *x: one(*x), in_axes=(0,) * len(data) + (None,) * len(extra))

    def value_and_slope(*data: Any) -> Any:
        losses, pullback = jax.vjp(lambda x: loss(x, *data[1:], *extra), data[0])
        return losses, pullback(jnp.ones_like(losses))[0]

    return value_and_slope, data


@EVERY
def test_transformations_together_change_nothing(case: Case) -> None:
    """A scan over a vmap of a remat, and what was exported, in one program."""
    value_and_slope, data = value_and_slope_of(case)
    compiled = jax.jit(value_and_slope)
    exported = jax.export.export(compiled)(*data)

    def transformed(*data: Any) -> Any:
        doubled = tuple(jnp.stack([x, x], axis=1) for x in data)  # the scan is over the first axis
        if case.among == 0:  # over whole examples
            doubled = tuple(jnp.stack([x, x])[None] for x in data)

        def step(carry: Any, xs: Any) -> Any:
            return carry, jax.vmap(jax.checkpoint(value_and_slope))(*xs)

        _, several = jax.lax.scan(step, 0, doubled)
        several = jax.tree.map(lambda x: x[0, 1] if case.among == 0 else x[:, 1], several)
        return compiled(*data), several, tuple(exported.call(*data))

    want, *others = jax.jit(transformed)(*data)
    for got in others:
        chex.assert_trees_all_close(got, want, rtol=3e-6, atol=1e-6)


@exhaustive
@EVERY
def test_transformations_change_nothing(case: Case) -> None:
    value_and_slope, data = value_and_slope_of(case)
    eager = value_and_slope(*data)  # not compiled as a whole

    def transformed(*data: Any) -> Any:
        doubled = tuple(jnp.stack([x, x]) for x in data)
        again = jax.grad(jax.checkpoint(lambda x: jnp.sum(value_and_slope(x, *data[1:])[0])))(data[0])
        if case.among == 0:
            several = jax.vmap(value_and_slope)(*doubled)
            return value_and_slope(*data), jax.tree.map(lambda x: x[1], several), (eager[0], again)
        several = jax.vmap(jax.vmap(value_and_slope))(*doubled)
        _, scanned = jax.lax.scan(lambda carry, xs: (carry, value_and_slope(*xs)), 0, data)
        rows = jax.vmap(value_and_slope)(*data)
        return value_and_slope(*data), rows, jax.tree.map(lambda x: x[1], several), scanned, (eager[0], again)

    exported = jax.export.export(jax.jit(value_and_slope))(*data)
    for got in (*jax.jit(transformed)(*data), tuple(exported.call(*data))):
        chex.assert_trees_all_close(got, eager, rtol=3e-6, atol=1e-6)


def mask_of(case: Case, args: tuple[Any, ...]) -> Any:
    """A mask that leaves out every third item, along the axis that the loss couples if there is one."""
    shape = case.items(args)
    if case.among is None:
        where = np.arange(int(np.prod(shape))).reshape(shape) % 3 != 1
    else:
        length = shape[case.among]
        ones = [length if i == case.among else 1 for i in range(len(shape))]
        where = np.broadcast_to((np.arange(length) % 3 != 1).reshape(ones), shape)
    assert np.any(where)
    assert not np.all(where)
    return jnp.asarray(where)


def poisoned(x: Any, where: Any) -> Any:
    where = np.asarray(where)
    if is_float(x):
        kept = where.reshape(where.shape + (1,) * (x.ndim - where.ndim))
        return jnp.asarray(np.where(kept, np.asarray(x), np.asarray(np.nan, x.dtype)))
    return jnp.asarray(np.where(where, x, np.asarray(-100, x.dtype))) if x.shape == where.shape and x.dtype != bool else x


def without_masked(case: Case, loss: Any, where: Any) -> Any:
    """The loss of the items that `where` selects, without the help of `where`."""
    if case.among is None:
        return lambda *args, **options: jnp.where(where, loss(*args, **options), 0)
    axis, kept = (
        case.among,
        np.flatnonzero(np.moveaxis(np.asarray(where), case.among, 0).reshape(where.shape[case.among], -1)[:, 0]),
    )

    def of_the_kept(*args: Any, **options: Any) -> Any:
        losses = loss(*(jnp.take(x, kept, axis) for x in args[: case.batched]), *args[case.batched :], **options)
        if losses.shape != (*where.shape[:axis], len(kept), *where.shape[axis + 1 :]):
            return losses  # one an example
        return jnp.zeros(where.shape, losses.dtype).at[(slice(None),) * axis + (kept,)].set(losses)

    return of_the_kept


@EVERY
def test_masked_slots_change_nothing(case: Case) -> None:
    loss, args, values = example(case, F32, case.options[-1])
    where = mask_of(case, args)
    bad = (*(poisoned(x, where) for x in args[: case.batched]), *args[case.batched :])
    got = asked(case, -1, bad, values, where)
    if case.among is None:  # then it is as if nothing was masked, and what is, was weighed with 0
        of_all = asked(case, -1, args, values, weights=where)
        want_losses, want = np.where(where, of_all.losses, 0), of_all.gradients
        assert got.losses.shape == where.shape
    else:
        want_losses, want = jax.jit(functools.partial(with_gradients, without_masked(case, loss, where)))(args, values)
    chex.assert_trees_all_close((got.under_vjp, got.gradients), (want_losses, want), rtol=2e-5, atol=2e-6)
    chex.assert_trees_all_close(got.by_autodiff, want, rtol=1e-4, atol=1e-5)
    if got.losses.shape == where.shape:
        assert np.all(got.losses[~np.asarray(where)] == 0)
    nothing = asked(case, -1, bad, values, np.zeros(where.shape, bool))
    assert np.all(nothing.under_vjp == 0)
    assert all(np.all(x == 0) for x in jax.tree.leaves(nothing.gradients))
    assert jaxloss.mean(nothing.losses, where=np.zeros(nothing.losses.shape, bool)) == 0


@exhaustive
@EVERY
def test_masked_slots_of_16_bits_change_nothing(case: Case) -> None:
    loss, args, values = example(case, BF16, case.options[0])
    where = mask_of(case, args)
    bad = (*(poisoned(x, where) for x in args[: case.batched]), *args[case.batched :])
    want = jax.jit(functools.partial(with_gradients, without_masked(case, loss, where)))(args, values)
    slopes = jax.jit(lambda where: with_gradients(functools.partial(loss, where=where), bad, values))
    # A 16-bit gradient may round to the neighbour where sums have another order.
    tight = {"rtol": 2e-5, "atol": 2e-6} if case.among is None else {"rtol": 1e-2, "atol": 2e-3}
    chex.assert_trees_all_close(slopes(where), want, **tight)
    assert all(np.all(x == 0) for x in jax.tree.leaves(slopes(jnp.zeros(where.shape, bool))))
    total, bad_data, _ = weighted(functools.partial(loss, where=where), bad, values)
    square = jax.grad(lambda x: sum(jnp.sum(jnp.square(g)) for g in jax.grad(lambda x: total(x, values)[0])(x)))
    assert not any(np.any(np.isnan(x)) for x in jax.jit(square)(bad_data))


def every_option(case: Case) -> dict[str, Any]:
    """Every option that is a number or an array of floats, at a value from the row or at its default."""
    parameters = inspect.signature(case.loss).parameters.values()
    options = {p.name: p.default for p in parameters if p.default not in (p.empty, None) and p.annotation != "int | float"}
    for some in case.options:
        options |= split(some)[0]
    return {k: rounded(v, F32) for k, v in split(options)[0].items()}


def left_out_options(case: Case) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A mask; every option, with an entry an item or an example where it may have one; and those with NaN where masked."""
    _, args, _ = example(case, F32)
    items, clean = case.items(args), every_option(case)
    losses = jax.eval_shape(case.loss, *args, **clean).shape
    where, bad = mask_of(case, args), {}
    if losses != items and losses:
        where = where.at[0].set(False)  # a whole example
    for name, value in clean.items():
        for shape in filter(None, (args[0].shape, items, losses)):
            try:
                spread = jnp.broadcast_to(value, shape)
                jax.eval_shape(functools.partial(case.loss, *args), **{**clean, name: spread})
            except ValueError:  # it does not broadcast
                continue
            kept = where if shape[: len(items)] == items else jnp.arange(shape[0]) > 0
            clean[name], bad[name] = spread, poisoned(spread, kept)
            break
    return where, clean, bad


@EVERY
def test_one_mask_for_all(case: Case) -> None:
    """A mask broadcasts, from a single number too."""
    args = tuple(rounded(x, F32) for x in case.draw(rng()))
    losses, by_true, by_false = jax.jit(
        lambda *args: (case.loss(*args), case.loss(*args, where=True), case.loss(*args, where=jnp.array(False)))
    )(*args)
    np.testing.assert_allclose(by_true, losses, rtol=1e-6)
    np.testing.assert_array_equal(by_false, np.zeros(losses.shape))


@EVERY
@pytest.mark.parametrize("aside", [False, pytest.param(True, marks=exhaustive)], ids=["rule", "autodiff"])
def test_masked_options_change_nothing(case: Case, aside: bool) -> None:
    _, args, _ = example(case, F32)
    where, clean, bad = left_out_options(case)
    if not bad:  # none has an entry an item or an example
        return

    masked = functools.partial(case.loss, where=where)
    both = jax.jit(functools.partial(with_gradients, jaxloss.autodiff(masked) if aside else masked))
    want = both(args, clean)
    chex.assert_tree_all_finite(want)
    chex.assert_trees_all_equal(both(args, clean | bad), want)


@EVERY
def test_masked_options_are_not_checked(case: Case) -> None:
    args = tuple(rounded(x, F32) for x in case.draw(rng()))
    where, clean, bad = left_out_options(case)
    if not set(bad) - set(case.free):
        return

    def problem(where: Any) -> Any:
        return checkify.checkify(lambda values: case.loss(*args, where=where, **values))(clean | bad)[0]

    with jaxloss.debug_checks("checkify"):
        of_the_kept, of_all = jax.jit(lambda: (problem(where), problem(None)))()
    assert of_the_kept.get() is None
    assert "must be" in of_all.get()


def eight(case: Case, args: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """The arguments with an example a device."""
    data = tuple(np.concatenate([x] * 8)[:8] for x in args[: case.batched])
    if case.among == 0:  # no two of them are the same
        grown = (1 + 0.01 * np.arange(8, dtype=np.float32)).reshape
        data = tuple(x * grown(8, *[1] * (x.ndim - 1)) if is_float(x) else x for x in data)
    return data


@EVERY
def test_sharding_changes_nothing(case: Case) -> None:
    loss, args, values = example(case, F32, case.options[0])
    mesh = Mesh(np.asarray(jax.devices()[:8]), ("batch",))
    rows = NamedSharding(mesh, PartitionSpec("batch"))
    extra = args[case.batched :]
    big = eight(case, args)

    @jax.jit
    @jax.value_and_grad
    def step(*data: Any) -> Any:
        return jnp.sum(loss(*data, *extra, **values))

    @jax.value_and_grad
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(rows.spec,) * len(big), out_specs=PartitionSpec())
    def by_hand(*data: Any) -> Any:
        return jaxloss.sum(loss(*data, *extra, **values), axis_name="batch")

    def steps(whole: Any, placed: Any) -> Any:
        return step(*whole), step(*placed), by_hand(*placed) if case.among != 0 else None

    placed = tuple(jax.device_put(x, rows) for x in big)
    program = jax.jit(steps, in_shardings=(NamedSharding(mesh, PartitionSpec()), rows)).lower(big, placed).compile()
    want, *others = program(big, placed)
    for got in others[: 1 if case.among == 0 else 2]:
        chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)
    if case.among == 0:
        return
    _, slope = others[0]
    if np.ptp(want[1]) > 0:  # one number everywhere need not be sharded
        assert slope.sharding.is_equivalent_to(rows, slope.ndim)
    assert "all-gather" not in program.as_text()


@EVERY
@WHICH
def test_explicit_mesh_changes_nothing(case: Case, which: int) -> None:
    """Its types alone are looked at, but for losses that couple the examples."""
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Explicit,))
    loss, args, values = example(case, F32, case.options[0])
    data = eight(case, args)
    # every option that is not laid out for some other number of examples
    of_all = {k: v for k, v in every_option(case).items() if v.ndim == 0 or k == "class_weights"}

    def total(*data: Any, loss: Any = case.loss, values: Any = of_all) -> Any:
        return jnp.sum(loss(*data, *args[case.batched :], **values))

    rows = NamedSharding(mesh, PartitionSpec("batch"))
    placed = [jax.device_put(x, rows) for x in data]
    if which == 0:
        total = functools.partial(total, loss=loss, values=values)
    assert jax.eval_shape(jax.grad(total), *placed).sharding.spec[0] == "batch"
    if case.among == 0:
        got, want = (jax.jit(jax.value_and_grad(total))(*x) for x in (placed, data))
        chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)


@EVERY
def test_bad_input_raises(case: Case) -> None:
    args = tuple(rounded(x, F32) for x in case.draw(rng()))
    parameters = list(inspect.signature(case.loss).parameters)
    with pytest.raises(TypeError, match=f"{parameters[0]} must be floating point, got int32"):
        case.loss(jnp.ones(args[0].shape, int), *args[1:])
    for i in range(len(args)):
        with pytest.raises(TypeError, match=f"{parameters[i]} must be .*got None"):
            case.loss(*args[:i], None, *args[i + 1 :])
    for i in range(1, case.batched):
        wrong = jnp.ones((3, 1), args[i].dtype)
        with pytest.raises(ValueError, match=rf"{parameters[i]}.* must .*got .*\(3, 1\)"):
            case.loss(*args[:i], wrong, *args[i + 1 :])
    with pytest.raises(ValueError, match="where must broadcast"):
        case.loss(*args, where=jnp.ones((7,), bool))
    with pytest.raises(TypeError, match="where must be boolean, got float32"):
        case.loss(*args, where=jnp.ones((), F32))
    with pytest.raises(TypeError, match="unexpected keyword argument 'reduction'"):
        case.loss(*args, reduction="mean")
    if "axis" in parameters:
        rank = args[0].ndim
        with pytest.raises(ValueError, match=f"axis must be from {-rank} to {rank - 1}"):
            case.loss(*args, axis=rank)
    for option in inspect.signature(case.loss).parameters.values():
        if option.kind == option.KEYWORD_ONLY and option.name != "axis_name":
            with pytest.raises((TypeError, ValueError), match=option.name):
                case.loss(*args, **{option.name: "much"})
            if "None" not in str(option.annotation) and option.name != "axis":
                assert_none_raises(case, args, option)
    values, fixed = split(case.options[-1])
    for option, value in values.items():
        with pytest.raises(TypeError, match=f"{option} must be floating point"):
            case.loss(*args, **{option: "much"}, **fixed)
        if option not in case.free:
            bad = 1.0 if option == "log_zero" else -0.5
            with pytest.raises(ValueError, match=f"{option} must be (at least|above|at most)"):
                case.loss(*args, **{option: np.full(np.shape(value), bad)}, **fixed)


def assert_none_raises(case: Case, args: tuple[Any, ...], option: inspect.Parameter) -> None:
    """None is an error that names the option, or no option: the losses are those of a default that changes nothing."""
    try:
        losses = case.loss(*args, **{option.name: None})
    except (TypeError, ValueError) as error:
        message = str(error)
    else:
        assert option.default in (0, 1)
        np.testing.assert_array_equal(losses, case.loss(*args))
        return
    assert f"{option.name} must " in message


def test_an_error_names_what_an_option_broadcasts_to() -> None:
    x, two = jnp.ones((3, 4)), jnp.ones(2)
    with pytest.raises(ValueError, match=r"delta must broadcast to the shape of the losses, \(3, 4\), got \(2,\)"):
        jaxloss.huber_loss(x, x, delta=two)
    with pytest.raises(ValueError, match=r"class_weights must broadcast to the shape of the classes, \(4,\), got \(2,\)"):
        jaxloss.softmax_cross_entropy(x, x, class_weights=two)
    with pytest.raises(ValueError, match=r"soft_cap must be one number, got shape \(2,\)"):
        jaxloss.softmax_cross_entropy(x, x, soft_cap=two)
    with pytest.raises(ValueError, match=r"weights must broadcast to the shape of logits, \(3, 4\), got \(2,\)"):
        jaxloss.ranking_softmax_loss(x, x, weights=two)
    with pytest.raises(ValueError, match=r"positions must broadcast to the shape of predictions, \(3, 4\), got \(2,\)"):
        jaxloss.wasserstein_distance_1d(x, x, positions=two)
    with pytest.raises(ValueError, match=r"free_bits must broadcast to the shape of kl_divergences, \(3, 4\), got \(2,\)"):
        jaxloss.negative_elbo(x[:, 0], x, free_bits=two)
    with pytest.raises(
        ValueError, match=r"weights\['a'\] must broadcast to the shape of .* predictions\['a'\], \(4,\), got \(2,\)"
    ):
        jaxloss.perceptual_loss({"a": x}, {"a": x}, weights={"a": two})


def has_class_axis(case: Case) -> bool:
    axis = inspect.signature(case.loss).parameters.get("axis")
    return axis is not None and axis.default == -1 and case.event == 1 and case.among is None


@pytest.mark.parametrize("case", list(filter(has_class_axis, CASES)), ids=lambda case: case.name)
def test_class_axis(case: Case) -> None:
    loss, args, values = example(case, F32)
    data, extra = args[: case.batched], args[case.batched :]
    want = loss(*args, **values)
    moved = (jnp.moveaxis(x, -1, 0) if x.ndim == args[0].ndim else x for x in data)
    np.testing.assert_allclose(loss(*moved, *extra, axis=0, **values), want, rtol=1e-6)
    np.testing.assert_allclose(loss(*(x[None] for x in data), *extra, **values)[0], want, rtol=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case.lean], ids=lambda case: case.name)
def test_residuals_are_the_inputs(case: Case) -> None:
    """What the forward pass keeps: the inputs, and two numbers an item where the items have axes of their own."""
    for dtype in (BF16, F32):
        loss, args, values = example(case, dtype)
        float_args = [i for i, x in enumerate(args) if is_float(x)]

        def kept(*data: Any, loss: Any = loss, args: Any = args, at: Any = float_args, values: Any = values) -> Any:
            return jax.vjp(lambda *data: loss(*merge(args, at, data), **values), *data)[1]

        leaves = jax.tree.leaves(jax.eval_shape(kept, *(args[i] for i in float_args)))
        size = sum(x.size * x.dtype.itemsize for x in leaves)
        inputs = sum(x.size * x.dtype.itemsize for x in (*args, *jax.tree.leaves(values)))
        items = int(np.prod(case.items(args))) if case.event else 0
        assert size <= inputs + 64 * items + 64, (dtype, leaves)
        largest = max((x.size for x in leaves if x.dtype == F32), default=0)
        if dtype == BF16:
            assert largest < args[0].size, leaves  # no float32 copy of a 16-bit input
