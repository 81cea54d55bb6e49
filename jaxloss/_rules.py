"""How a loss carries a derivative, and how to set the hand-written one aside.

A loss with a rule of its own is a `jax.custom_vjp` function whose undecorated body is the safe formula. `call` runs
it; under `autodiff` it runs the body alone, so that JAX differentiates the formula itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array

P = ParamSpec("P")
T = TypeVar("T")

# A user context is part of the key of jit's caches: a function compiled with its rules is not taken for one without.
_rules_aside = jax.make_user_context(default_value=False)


def autodiff(function: Callable[P, T]) -> Callable[P, T]:
    """`function` with every hand-written rule of jaxloss set aside.

    What it calls is then differentiated by JAX's own rules, through the same safe formulas. That allows forward mode
    (`jax.jvp`, `jax.jacfwd`, to any order), which `jax.custom_vjp` does not; values are the same. It does not help
    `jax.experimental.jet`, which fails at any `jax.custom_jvp`, as at `jax.nn.softplus`: nest `jax.jvp` in its place.
    `jax.grad`, `jax.hessian` and forward-over-reverse products work without it, and are better without it.

    Args:
        function: a loss of jaxloss, or any function that calls some.

    Returns:
        A function of the same signature. Transform the result: `jax.jvp(jaxloss.autodiff(f), ...)`.

    Example:
        >>> import jax, jaxloss
        >>> loss = lambda r: jaxloss.log_cosh(r, 0.0)
        >>> value, slope = jax.jvp(jaxloss.autodiff(loss), (0.0,), (1.0,))
        >>> print(value, slope)
        0.0 0.0
    """

    @functools.wraps(function)
    def without_rules(*args: P.args, **kwargs: P.kwargs) -> T:
        with _rules_aside(True):
            return function(*args, **kwargs)

    return without_rules


def compiled(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, compiled: an eager call gets many times cheaper. Inside an outer jit it is inlined.

    Where arguments are divided over explicit axes of a mesh, it is left to XLA to divide the work, as on other meshes.
    """
    divided = [x for x in map(jax.typeof, jax.tree.leaves(args)) if _is_divided(x)]
    if not divided:
        return _compiled(function, *args)
    whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), args)
    data = max(divided, key=lambda x: x.ndim)

    def spec(result: Any) -> PartitionSpec:
        """That of the data, as far as a result has their leading axes."""
        sizes = zip(result.shape, data.shape, data.sharding.spec, strict=False)
        return PartitionSpec(*(axis if size == of_data else None for size, of_data, axis in sizes))

    specs = jax.tree.map(spec, jax.eval_shape(function, *whole))
    with jax.sharding.use_abstract_mesh(data.sharding.mesh):
        return jax.sharding.auto_axes(function, out_sharding=specs)(*args)


@functools.partial(jax.jit, static_argnums=0, inline=True)
def _compiled(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _is_divided(kind: Any) -> bool:
    """Whether an array of this type is divided over explicit axes of a mesh."""
    return AxisType.Explicit in kind.sharding.mesh.axis_types and any(axis is not None for axis in kind.sharding.spec)


def call(rule: Callable[..., Any], *args: Any, apart: Any = None) -> Any:
    """`rule(*args)` for a `jax.custom_vjp` function, or its undecorated body under `autodiff`.

    `apart` is a mesh axis of `shard_map` over which the rule itself knows what is divided and what is replicated.
    """
    args = alike(args, apart)
    if _rules_aside.value:
        return compiled(rule.__wrapped__, *args)  # type: ignore[attr-defined]
    try:
        return compiled(rule, *args)
    except TypeError as error:
        if "forward-mode" in str(error):
            error.add_note(
                "jaxloss: this loss has a hand-written reverse-mode rule. For jvp or jacfwd, transform "
                "jaxloss.autodiff(f) in place of f."
            )
        raise


def alike(args: tuple[Any, ...], apart: Any = None) -> tuple[Any, ...]:
    """Under `shard_map`, marks replicated arguments as varying over the mesh axes that any argument varies over.

    Their cotangents are then summed over the devices. The axes `apart` stay as they are, and elsewhere all arguments do.
    """
    axes = frozenset[Any]().union(*(_varying(x) for x in jax.tree.leaves(args)))
    axes = axes.difference(apart if isinstance(apart, tuple) else (apart,))
    if not axes:
        return args

    def cast(x: Any) -> Any:
        missing = tuple(axes - _varying(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, args)


def _varying(x: Any) -> frozenset[Any]:
    """The mesh axes of `shard_map` over which an array varies: jax 0.10 and 0.11 name the attribute differently."""
    kind = jax.typeof(x)
    manual = getattr(kind, "mat", None) or getattr(kind, "manual_axis_type", None)
    return getattr(manual, "varying", frozenset())


def recomputed(formula: Callable[..., Any]) -> Any:
    """`formula` as a `jax.custom_vjp` function that keeps its arguments alone, and runs again for the backward pass.

    As `jax.checkpoint`, which does not allow forward-over-reverse derivatives of a formula with rules inside.
    """

    @jax.custom_vjp
    def rule(*args: Any) -> Any:
        return formula(*args)

    def fwd(*args: Any) -> tuple[Any, Any]:
        # Without rules, so that the value itself can be differentiated forward.
        return autodiff(formula)(*args), args

    def cotangents_of(args: Any, cotangent: Any) -> Any:
        _, pullback = jax.vjp(formula, *lax.optimization_barrier(args))
        return pullback(cotangent)

    rule.defvjp(fwd, functools.partial(compiled, cotangents_of))
    return rule


def wide(x: Any, *others: Any) -> Any:
    """`x` in the dtype that losses are computed in: float64 if any of the arguments is, else float32. None stays."""
    if x is None:
        return None
    return jnp.asarray(x).astype(wide_dtype(x, *others))


def wide_dtype(*args: Any) -> Any:
    """float64 if any of the arguments is a float64 array, else float32."""
    return jnp.float64 if any(getattr(x, "dtype", None) == jnp.float64 for x in args) else jnp.float32


def narrow(cotangent: Array, like: Any) -> Array:
    """A cotangent in the shape and dtype of the argument it belongs to: summed where the argument was broadcast."""
    extra = cotangent.ndim - jnp.ndim(like)
    stretched = tuple(i for i, n in enumerate(jnp.shape(like)) if n == 1 and cotangent.shape[extra + i] != 1)
    summed = jnp.sum(cotangent, axis=(*range(extra), *(extra + i for i in stretched)))
    return summed.reshape(jnp.shape(like)).astype(jnp.result_type(like))


def masked(where: Any, x: Array, event: int = 0) -> Array:
    """`x` with 0 in the place of what `where` leaves out, one of whose items is all of the last `event` axes of `x`."""
    if where is None:
        return x
    return jnp.where(where.reshape(where.shape + (1,) * event), x, jnp.zeros_like(x))


def of_examples(where: Any, event: int = 1) -> Any:
    """Which examples count, of a mask over their items, on the last `event` axes: those with an item that does."""
    return None if where is None else jnp.any(where, axis=tuple(range(-min(event, where.ndim), 0)))


def harmless(where: Any, x: Any, event: int = 0) -> Any:
    """As `masked`, with ½ for 0: an option at which a loss has a value and a derivative, to be masked. None stays."""
    if where is None or x is None:
        return x
    return jnp.where(where.reshape(where.shape + (1,) * event), x, 0.5)


def partials(*derivatives: Callable[..., Array] | None) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Gives an elementwise core its partial derivatives, one an argument, in the order of the arguments.

    Each derivative is a function of the same arguments; None leaves one to `jax.jvp` of the formula. The residuals are
    the arguments as they came: nothing is kept in float32 that was given in a smaller dtype, and nothing is broadcast.

    The core that comes out takes the arguments by position, any of them None or of a shape that broadcasts, and
    `where`: what `where` leaves out is 0 in value and gradient, whatever it holds.
    """

    def decorate(formula: Callable[..., Array]) -> Callable[..., Array]:
        def prepare(where: Any, args: tuple[Any, ...]) -> list[Any]:
            return [harmless(where, wide(x, *args)) for x in args]

        def value(where: Any, *args: Any) -> Array:
            return masked(where, formula(*prepare(where, args)))

        @jax.custom_vjp
        def rule(where: Any, *args: Any) -> Array:
            return value(where, *args)

        def fwd(where: Any, *args: Any) -> tuple[Array, Any]:
            return value(where, *args), (where, args)

        def cotangents_of(residuals: Any, cotangent: Array) -> tuple[Any, ...]:
            # XLA would merge what the two passes have in common, down to the arrays that it makes of constants, and
            # store it. The barrier hides that the inputs are the same, the leading axis that the shapes are.
            residuals = jax.tree.map(lambda x: x[None], residuals)
            where, args = lax.optimization_barrier(residuals)
            prepared = prepare(where, args)
            cotangents: list[Any] = []
            for i, (x, derivative) in enumerate(zip(args, derivatives, strict=True)):
                if x is None or not jnp.issubdtype(x.dtype, jnp.floating):
                    cotangents.append(None)
                    continue
                slope = _slope(formula, prepared, i) if derivative is None else derivative(*prepared)
                cotangents.append(narrow(masked(where, cotangent * slope)[0], x[0]))
            return None, *cotangents

        rule.defvjp(fwd, functools.partial(compiled, cotangents_of))

        @functools.wraps(formula)
        def core(*args: Any, where: Any = None) -> Array:
            return call(rule, where, *args)

        return core

    return decorate


def _slope(formula: Callable[..., Array], args: list[Any], i: int) -> Array:
    """The partial derivative of an elementwise formula by its i-th argument."""
    shape = jnp.broadcast_shapes(*(x.shape for x in args if x is not None))
    x = jnp.broadcast_to(args[i], shape)
    return jax.jvp(lambda x: formula(*args[:i], x, *args[i + 1 :]), (x,), (jnp.ones_like(x),))[1]


def by_residual(slope: Callable[..., Array]) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """The derivatives by prediction and by target of a loss whose derivative by the residual is `slope`."""
    return (
        lambda predictions, targets, *options: slope(predictions - targets, *options),
        lambda predictions, targets, *options: -slope(predictions - targets, *options),
    )
