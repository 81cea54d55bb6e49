"""Argument checks at trace time. Every error names the argument, what it got and what it takes.

Values that exist only at run time are checked in `_values`, when asked for.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxloss import _values


def array(name: str, x: Any) -> Array:
    """`x` as an array; TypeError for what is none."""
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be an array of numbers, got {x!r}") from None


def floating(name: str, x: Any) -> Array:
    """`x` as an array; TypeError unless it is floating point. float8 comes out in bfloat16, which holds all of its values.

    Some of these types have no infinity and no -0: no formula is to meet them, and they do not promote to any other.
    """
    x = floating_as_is(name, x)
    return x if x.dtype.itemsize > 1 else x.astype(jnp.bfloat16)


def floating_as_is(name: str, x: Any) -> Array:
    """`x` as an array; TypeError unless it is floating point."""
    x = array(name, x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating point, got {x.dtype} of shape {x.shape}")
    if x.dtype.name in _NO_GRADIENT:
        raise TypeError(
            f"{name} must be floating point of a type that can hold a gradient, with a sign, 0 and NaN, got {x.dtype} "
            f"of shape {x.shape}; convert it to bfloat16"
        )
    return x


# Types of scales and of quantised weights: they have no sign and no 0, or no NaN. Some are younger than jax 0.10.
_NO_GRADIENT = {"float8_e8m0fnu", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"}


def number(name: str, x: Any) -> Array:
    """The truth as an array: floating point as in `floating`, or integers or booleans, which stay as they are."""
    x = array(name, x)
    return x if _are_integers(x) else floating(name, x)


def _are_integers(x: Array) -> bool:
    """Whether it holds integers or booleans."""
    return bool(x.dtype == jnp.bool_ or jnp.issubdtype(x.dtype, jnp.integer))


def integer(name: str, x: Any) -> Array:
    """`x` in 32 bits at least, in which no count of classes or steps wraps; TypeError unless it holds integers."""
    x = array(name, x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got {x.dtype} of shape {x.shape}")
    return x.astype(jnp.int32) if x.dtype.itemsize < 4 else x


def same_shape(name: str, x: Array, other_name: str, other: Array, way_out: str = "") -> None:
    """ValueError unless the two shapes are equal: data never broadcasts."""
    if x.shape != other.shape:
        raise ValueError(
            f"{other_name} must have the shape of {name}, {x.shape}, got {other.shape}; "
            + (way_out or "data does not broadcast")
        )


def pair(name: str, x: Any, other_name: str, other: Any) -> tuple[Array, Array]:
    """Two floating-point arrays of one shape. A Python number takes the dtype of the other."""
    x, other = _like(x, other), _like(other, x)
    x, other = floating(name, x), floating(other_name, other)
    same_shape(name, x, other_name, other)
    return x, other


def with_truth(name: str, x: Any, truth_name: str, truth: Any, hard: str = "") -> tuple[Array, Array]:
    """Predictions and the truth, of one shape. The truth may be integers or booleans: counts, one-hot labels, pixels.

    `hard` is the loss that takes class indices, to which an error points.
    """
    x, truth = floating(name, _like(x, truth)), number(truth_name, _like(truth, x))
    way_out = f"for class indices take jaxloss.{hard}" if hard and _are_integers(truth) else ""
    same_shape(name, x, truth_name, truth, way_out)
    return x, truth


def classes_and_truth(name: str, x: Any, truth_name: str, truth: Any, axis: Any, hard: str = "") -> tuple[Array, Array]:
    """Scores or probabilities and the truth, a number a class, with the classes last."""
    x, truth = with_truth(name, x, truth_name, truth, hard)
    return class_last(name, x, axis), class_last(truth_name, truth, axis)


def decisions(name: str, x: Any, labels: Any) -> tuple[Array, Array]:
    """Floating-point scores and hard labels of one shape, integers or booleans."""
    x, labels = floating(name, x), array("labels", labels)
    if not _are_integers(labels):
        raise TypeError(f"labels must be integers or booleans, got {labels.dtype} of shape {labels.shape}")
    same_shape(name, x, "labels", labels)
    return x, labels


def _like(x: Any, other: Any) -> Any:
    """A Python number in the dtype of the floating-point number or array that it is compared with."""
    dtype = jnp.result_type(other) if isinstance(other, float) else getattr(other, "dtype", jnp.int32)
    return jnp.asarray(x, dtype) if _is_number(x) and jnp.issubdtype(dtype, jnp.floating) else x


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def vectors(name: str, x: Any, *, least: int = 0) -> Array:
    """`x` as a floating-point array [n, features]; ValueError unless it has two dimensions, and at least `least` vectors."""
    x = floating(name, x)
    if x.ndim != 2 or len(x) < least:
        words = f", with at least {least} of them" if least else ""
        raise ValueError(f"{name} must be one vector an example, of shape [n, features]{words}, got {x.shape}")
    return x


def groups(name: str, x: Array, labels: Any) -> Array:
    """Integer labels, one a vector of `x`; any integers, which only say who belongs together."""
    labels = integer("labels", labels)
    if labels.shape != x.shape[:1]:
        raise ValueError(f"labels must be one a vector of {name}, {x.shape[:1]}, got {labels.shape}")
    return labels


def broadcastable(name: str, x: Array, shape: tuple[int, ...], of: str) -> None:
    """ValueError unless `x` broadcasts to `shape` without enlarging it."""
    try:
        fits = jnp.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to the shape of {of}, {shape}, got {x.shape}")


def mask(where: Any, shape: tuple[int, ...], of: str) -> Array | None:
    """`where` as a boolean array that broadcasts to `shape`, or None."""
    if where is None:
        return None
    where = array("where", where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"where must be boolean, got {where.dtype} of shape {where.shape}")
    broadcastable("where", where, shape, of)
    return where


def option(
    name: str,
    value: Any,
    data: Array | jax.ShapeDtypeStruct,
    *,
    minimum: int | float | None = None,
    maximum: int | float | None = None,
    above: int | float | None = None,
    shape: tuple[int, ...] | None = None,
    of: str | None = None,
    where: Array | None = None,
) -> Array:
    """A float option as an array: its dtype, its domain, and that it broadcasts to `data` (or `shape`).

    The domain, all x with minimum <= x <= maximum and above < x, is checked at once where the value is known at trace
    time, and under `debug_checks` where it is an array of JAX's or `where` leaves some of it out. `of` is whose shape
    it is: that of the losses without `shape`, and with it of the classes. float64 does not widen float32 data: it is
    rounded.
    """
    bounds: list[Any] = [
        ("at least", minimum, operator.ge),
        ("above", above, operator.gt),
        ("at most", maximum, operator.le),
    ]
    bounds = [bound for bound in bounds if bound[1] is not None]
    domain = f"{name} must be " + " and ".join(f"{words} {limit:g}" for words, limit, _ in bounds)
    dtype = _dtype_of_options(data)

    def inside(x: Array) -> Any:
        return functools.reduce(
            operator.and_, [compare(x, jnp.asarray(limit, x.dtype)) for _, limit, compare in bounds], True
        )

    if not isinstance(value, jax.Array):
        try:
            known = np.asarray(value)
        except (TypeError, ValueError):  # a list that holds traced numbers, or no array
            value = array(name, value)
    if isinstance(value, jax.Array):
        x = _option_array(name, value, dtype)
        _values.run_time(lambda: inside(x) | _values.left_out(where), domain)
        if x.dtype.itemsize > dtype.itemsize:
            x = x.astype(dtype)
    else:
        if known.dtype.kind not in "fiu" and jnp.issubdtype(known.dtype, jnp.floating):  # numpy's bfloat16 and float8
            known = known.astype(np.float32)
        if known.dtype.kind not in "fiu":
            raise TypeError(f"{name} must be floating point, got {value!r}")
        x = jnp.asarray(known, dtype)
        if where is not None and known.ndim:
            _values.run_time(lambda: inside(x) | _values.left_out(where), domain)
        elif not all(np.all(compare(known, limit)) for _, limit, compare in bounds):
            raise ValueError(f"{domain}, got {value!r}")
    if shape == () and x.ndim > 0:
        raise ValueError(f"{name} must be one number, got shape {x.shape}")
    of = of or ("the losses" if shape is None else "the classes")
    broadcastable(name, x, data.shape if shape is None else shape, of)
    return x


def _dtype_of_options(data: Array | jax.ShapeDtypeStruct) -> Any:
    """float64 beside float64 data, else float32."""
    return jnp.promote_types(jnp.float32, data.dtype) if data.dtype.itemsize > 1 else jnp.dtype(jnp.float32)


def _option_array(name: str, x: Array, dtype: Any) -> Array:
    """Integers are numbers too: a step counter, a 2 that came through `jit`. Booleans are none."""
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.integer) else floating(name, x)


def optional(
    name: str, value: Any, data: Array | jax.ShapeDtypeStruct, *, unused: int | float | None = None, **domain: Any
) -> Array | None:
    """An `option` that may be None, which stays, as `unused` does: a plain number at which the option changes nothing."""
    if value is None or ((_is_number(value) or isinstance(value, np.number)) and value == unused):
        return None
    return option(name, value, data, **domain)


def flag(name: str, value: Any) -> bool:
    """A static option that is on or off."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def parameter(name: str, value: Any, data: Array, where: Array | None, *, zero: bool = False) -> Array:
    """A parameter of a distribution, which broadcasts to the predictions. That it is above 0 is checked at run time."""
    dtype = _dtype_of_options(data)
    value = _option_array(name, jnp.asarray(value, dtype) if _is_number(value) else array(name, value), dtype)
    broadcastable(name, value, data.shape, "predictions")
    domain = "at least 0" if zero else "above 0"
    _values.run_time(
        lambda: (value >= 0 if zero else value > 0) | _values.left_out(where),
        f"{name} must be {domain} where they are not masked by `where`",
    )
    return value


def axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes to reduce, non-negative; None means all."""
    if axis is None:
        return tuple(range(ndim))
    several = tuple(one_axis(i, ndim) for i in (axis if isinstance(axis, Sequence) else (axis,)))
    if len(set(several)) < len(several):
        raise ValueError(f"axis must name each axis once, got {axis}")
    return several


def count(name: str, value: Any, *, least: int = 0, most: int | None = None) -> int:
    """A static option that is an integer."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer known at trace time, got {value!r}") from None
    if most is not None and not least <= number <= most:
        raise ValueError(f"{name} must be from {least} to {most}, got {number}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def one_axis(axis: Any, ndim: int) -> int:
    """One axis, non-negative; ValueError if it is out of range."""
    try:
        index = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an integer, got {axis!r}") from None
    if not -ndim <= index < ndim:
        raise ValueError(f"axis must be from {-ndim} to {ndim - 1} for an array of {ndim} dimensions, got {axis}")
    return index % ndim


def vectors_last(x: Array, axis: Any) -> Array:
    """`x` with the axis or axes of its vectors merged into one, at the end."""
    along = axes(axis, x.ndim)
    items = x.ndim - len(along)
    x = jnp.moveaxis(x, along, range(items, x.ndim))
    return x.reshape(*x.shape[:items], math.prod(x.shape[items:]))


def pair_labels(labels: Any, vectors: Array) -> Array:
    """Labels of the shape of vectors [..., dim] without their last axis: floating point, integers or booleans."""
    labels = number("labels", _like(labels, vectors))
    if labels.shape != vectors.shape[:-1]:
        raise ValueError(f"labels must have the shape of the pairs, {vectors.shape[:-1]}, got {labels.shape}")
    return labels


def norm_degree(name: str, degree: Any) -> float:
    """The degree of a norm, a Python or numpy number of at least 1."""
    if not isinstance(degree, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a plain number, since the code depends on it, got {degree!r}")
    if not degree >= 1:
        raise ValueError(f"{name} must be at least 1, got {degree!r}")
    return float(degree)


def class_last(name: str, x: Array, axis: Any, of: str = "class") -> Array:
    """`x` with its class axis (or that of its items) moved to the end."""
    if x.ndim == 0:
        raise ValueError(f"{name} must have a {of} axis, got a scalar")
    x = jnp.moveaxis(x, one_axis(axis, x.ndim), -1)
    if x.shape[-1] == 0:
        raise ValueError(f"{name} must have at least one {of}, got shape {x.shape} with the {of} axis last")
    return x


def lists(name: str, scores: Any, labels_name: str, labels: Any, axis: Any, where: Any) -> tuple[Array, Array, Array | None]:
    """Scores, labels and the mask over items, with their list axis moved to the end. The labels may be integers."""
    scores, labels = with_truth(name, scores, labels_name, labels)
    where = mask(where, scores.shape, name)
    if where is not None:
        where = jnp.broadcast_to(where, scores.shape)
    scores, labels = class_last(name, scores, axis, "item"), class_last(labels_name, labels, axis, "item")
    return scores, labels, None if where is None else jnp.moveaxis(where, axis, -1)


def class_labels(name: str, scores: Array, labels: Any, where: Array | None, soft: str = "") -> Array:
    """Integer labels of the shape of `scores` without its last (class) axis; their range is checked at run time.

    `soft` is the loss that takes the probability of each class, to which an error points.
    """
    labels = array("labels", labels)
    way_out = f"for probabilities take jaxloss.{soft}" if soft else "jnp.argmax makes class indices of one-hot labels"
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype} of shape {labels.shape}; {way_out}")
    labels = integer("labels", labels)
    if labels.shape != scores.shape[:-1]:
        way_out = f"; {way_out}" if labels.ndim == scores.ndim else ""
        raise ValueError(
            f"labels must have the shape of {name} without its class axis, {scores.shape[:-1]}, got {labels.shape}{way_out}"
        )
    _values.labels_within(labels, scores.shape[-1], where)
    return labels


def softmax_options(
    logits: Array | jax.ShapeDtypeStruct,
    label_smoothing: Any,
    class_weights: Any,
    z_loss: Any,
    soft_cap: Any,
    where: Array | None,
) -> tuple[Array | None, Array | None, Array | None, Array | None]:
    """The options that all softmax losses share, for logits with their classes last. None stands for an unused one."""
    classes, row = logits.shape[-1], examples(logits)
    return (
        optional("label_smoothing", label_smoothing, row, unused=0, minimum=0, maximum=1, where=where),
        optional("class_weights", class_weights, logits, minimum=0, shape=(classes,)),
        optional("z_loss", z_loss, row, unused=0, minimum=0, where=where),
        optional("soft_cap", soft_cap, logits, above=0, shape=()),
    )


def images(name: str, x: Array, where: Any) -> Array | None:
    """The mask over images; ValueError unless `x` is [..., height, width, channels]."""
    if x.ndim < 3:
        raise ValueError(f"{name} must be images of shape [..., height, width, channels], got shape {x.shape}")
    return mask(where, x.shape[:-3], "the images")


def two_images(predictions: Any, targets: Any, where: Any) -> tuple[Array, Array, Array | None]:
    """Images [..., height, width, channels] of one shape, and the mask over images."""
    predictions, targets = with_truth("predictions", predictions, "targets", targets)
    return predictions, targets, images("predictions", predictions, where)


def examples(logits: Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """What an option that is one number an example broadcasts to."""
    return jax.ShapeDtypeStruct(logits.shape[:-1], logits.dtype)


def scores_and_classes(
    name: str, scores: Any, labels: Any, axis: Any, where: Any, soft: str = ""
) -> tuple[Array, Array, Array | None]:
    """Scores with their classes last, integer labels and the mask over examples."""
    scores = class_last(name, floating(name, scores), axis)
    where = mask(where, scores.shape[:-1], "the examples")
    return scores, class_labels(name, scores, labels, where, soft), where


def scores_and_labels(scores: Any, labels: Any, axis: Any, where: Any) -> tuple[Array, Array, Array | None]:
    """Logits with their classes last, labels that are class indices or a number a class, and the mask.

    Integers are class indices where they have no class axis.
    """
    scores, labels = floating("logits", scores), array("labels", labels)
    if jnp.issubdtype(labels.dtype, jnp.integer) and labels.ndim < scores.ndim:
        return scores_and_classes("logits", scores, labels, axis, where)
    logits, labels = classes_and_truth("logits", scores, "labels", labels, axis)
    return logits, labels, mask(where, logits.shape[:-1], "the examples")


def one_axis_more(name: str, x: Array, other_name: str, other: Array) -> None:
    """ValueError unless the other array has the shape of `x` and one axis more."""
    if other.shape[:-1] != x.shape or other.ndim == 0:
        raise ValueError(f"{other_name} must have the shape of {name}, {x.shape}, and one axis more, got {other.shape}")


def samples(name: str, x: Array) -> None:
    """ValueError unless `x` is [..., samples, dimensions]."""
    if x.ndim < 2:
        raise ValueError(f"{name} must have a sample axis and an axis of dimensions, got shape {x.shape}")


def head(hidden: Any, weight: Any, vocab_first: bool, prefix: str = "") -> tuple[Array, Array, jax.ShapeDtypeStruct]:
    """Hidden states [..., D] and a weight [D, V], or [V, D], and what their logits would be."""
    names = f"{prefix}hidden", f"{prefix}weight"
    hidden, weight = floating(names[0], hidden), floating(names[1], weight)
    vocab_first = flag(f"{prefix}vocab_first", vocab_first)
    if hidden.ndim == 0:
        raise ValueError(f"{names[0]} must be one vector a token, of shape [..., D], got a scalar")
    dim, layout = hidden.shape[-1], "[V, D]" if vocab_first else "[D, V]"
    if weight.ndim != 2 or weight.shape[1 if vocab_first else 0] != dim or not weight.size:
        turned = weight.ndim == 2 and weight.shape[0 if vocab_first else 1] == dim and weight.size
        way_out = f"; with {prefix}vocab_first={not vocab_first} it is {'[D, V]' if vocab_first else '[V, D]'}" * bool(
            turned
        )
        raise ValueError(
            f"{names[1]} must be {layout} with V ≥ 1 and D = {dim}, as {names[0]} has it, got {weight.shape}{way_out}"
        )
    classes = weight.shape[0 if vocab_first else 1]
    return hidden, weight, jax.ShapeDtypeStruct((*hidden.shape[:-1], classes), jnp.promote_types(hidden.dtype, weight.dtype))


def teacher(
    hidden: Any, weight: Any, vocab_first: bool, logits: jax.ShapeDtypeStruct
) -> tuple[Array, Array, jax.ShapeDtypeStruct]:
    """A second head, with the tokens and the classes of the first one's logits."""
    hidden = floating("teacher_hidden", hidden)
    if hidden.shape[:-1] != logits.shape[:-1] or hidden.ndim == 0:
        raise ValueError(f"teacher_hidden must be one vector a token of hidden, {logits.shape[:-1]}, got {hidden.shape}")
    hidden, weight, of_teacher = head(hidden, weight, vocab_first, "teacher_")
    if of_teacher.shape != logits.shape:
        raise ValueError(f"teacher_weight must be over the {logits.shape[-1]} classes of weight, got {weight.shape}")
    return hidden, weight, of_teacher


def token_labels(labels: Any, tokens: tuple[int, ...], classes: int, where: Array | None) -> Array:
    """Integer labels, one a token; their range is checked at run time."""
    labels = integer("labels", labels)
    if labels.shape != tokens:
        raise ValueError(f"labels must be one a token of hidden, {tokens}, got {labels.shape}")
    _values.labels_within(labels, classes, where)
    return labels
