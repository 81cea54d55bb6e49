"""Penalties on the gradient of a critic, or discriminator, by its input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from jaxloss import _check, _rules, _vectors

# The critic is a function of one example, which is mapped over the batch here. Only so is the gradient by one example's
# input that of its own score: a critic that sees the batch, by batch normalization, has no penalty of its own an example.


def gradient_penalty(
    critic: Callable[..., Any],
    inputs: PyTree[Float[ArrayLike, "batch ..."]],
    *args: Any,
    target: Float[ArrayLike, "..."] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "batch"]:
    """The gradient penalty of WGAN-GP: the critic's gradient by its input should have length 1, as a Wasserstein critic's.

    Formula: (‖∇_x critic(x)‖ − target)², with the Euclidean norm over everything that x holds. The factor λ, 10 in the
    paper, is the caller's, and so is the choice of the points: the paper's are x̂ = u x + (1 − u) G(z) with one u from [0, 1]
    an example. Derivative by the critic's parameters, which `critic` closes over, and by the inputs: by JAX, of second order
    in the critic; where ∇_x critic(x) is 0 the norm's own derivative is taken as 0.

    Args:
        critic: a function of one example, without its batch axis, and of one entry of each of `args`, to one number.
        inputs: the points x: an array, or a pytree of arrays, with the batch as leading axis.
        *args: further arguments of the critic, as the class labels of a conditional one: arrays, or pytrees of arrays, with
            the batch as leading axis. The gradient is not taken by them.
        target: the length that the gradient should have, ≥ 0: 1 for a Wasserstein critic, 0 for zero-centred penalties; one
            number, or one an example. Differentiable.
        where: which examples count. In place of the others the critic sees zeros.

    Returns:
        One penalty an example.

    Raises:
        TypeError: `inputs` or `target` is not floating point, or `where` is not boolean.
        ValueError: the inputs are empty or have no batch axis of one length, the critic does not give one number, `target`
            is negative, or `target` or `where` does not broadcast.

    Example:
        >>> import jax, jax.numpy as jnp, jaxloss
        >>> w = jnp.array([3.0, 4.0])
        >>> real, fake = jnp.ones((2, 2)), jnp.zeros((2, 2))
        >>> u = jax.random.uniform(jax.random.key(0), (2, 1))  # one number an example
        >>> print(jaxloss.gradient_penalty(lambda x: w @ x, u * real + (1 - u) * fake))
        [16. 16.]

    References:
        Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville, Improved Training of Wasserstein GANs, 2017
    """
    slope, batch, where = _slope(critic, inputs, args, where)
    target = _check.option("target", target, batch, minimum=0, where=where)
    penalty = jnp.square(_vectors.norm(slope) - _rules.wide(_rules.harmless(where, target), slope))
    return _rules.masked(where, penalty)


def r1_penalty(
    critic: Callable[..., Any],
    inputs: PyTree[Float[ArrayLike, "batch ..."]],
    *args: Any,
    gamma: Float[ArrayLike, "..."] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "batch"]:
    """The R₁ penalty: the discriminator should be flat at the real data, which makes the game converge locally.

    Formula: (γ/2) ‖∇_x critic(x)‖², with the squared norm over everything that x holds. At the generated examples it is R₂.
    Derivative by the critic's parameters, which `critic` closes over, and by the inputs: by JAX, of second order in the
    critic; by γ: ‖∇_x critic(x)‖²/2.

    Args:
        critic: a function of one example, without its batch axis, and of one entry of each of `args`, to one number: the
            logit, not its sigmoid.
        inputs: the real examples x: an array, or a pytree of arrays, with the batch as leading axis.
        *args: further arguments of the critic, as the class labels of a conditional one: arrays, or pytrees of arrays, with
            the batch as leading axis. The gradient is not taken by them.
        gamma: γ ≥ 0, 10 in the paper's experiments; one number, or one an example. Differentiable.
        where: which examples count. In place of the others the critic sees zeros.

    Returns:
        One penalty an example.

    Raises:
        TypeError: `inputs` or `gamma` is not floating point, or `where` is not boolean.
        ValueError: the inputs are empty or have no batch axis of one length, the critic does not give one number, `gamma` is
            negative, or `gamma` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> w = jnp.array([3.0, 4.0])
        >>> print(jaxloss.r1_penalty(lambda x: w @ x, jnp.ones((2, 2))))
        [12.5 12.5]

    References:
        Mescheder, Geiger and Nowozin, Which Training Methods for GANs do actually Converge?, 2018
    """
    slope, batch, where = _slope(critic, inputs, args, where)
    gamma = _check.option("gamma", gamma, batch, minimum=0, where=where)
    penalty = 0.5 * _rules.wide(_rules.harmless(where, gamma), slope) * jnp.sum(jnp.square(slope), axis=-1)
    return _rules.masked(where, penalty)


def _slope(critic: Callable[..., Any], inputs: Any, args: Any, where: Any) -> tuple[Array, Any, Array | None]:
    """The gradients of the scores, one row an example, in float32 or wider; what options broadcast to; and the mask."""
    inputs = jax.tree.map(lambda x: _check.floating("inputs", x), inputs)
    leaves, args = jax.tree.leaves(inputs), jax.tree.map(jnp.asarray, args)
    shapes = [x.shape for x in (*leaves, *jax.tree.leaves(args))]
    if not leaves or not all(shape and shape[0] == shapes[0][0] for shape in shapes):
        raise ValueError(f"inputs, and what goes with them, must share their leading axis, the batch, got shapes {shapes}")
    size = leaves[0].shape[0]
    where = _check.mask(where, (size,), "the examples")
    if where is not None:
        kept = jnp.broadcast_to(where, (size,))
        inputs, args = jax.tree.map(lambda x: _rules.masked(kept, x, x.ndim - 1), (inputs, args))

    def score(x: Any, *args: Any) -> Array:
        number = critic(x, *args)
        if jnp.shape(number) != ():
            raise ValueError(f"critic must give one number for one example, got shape {jnp.shape(number)}")
        return number

    slopes = [_rules.wide(x, *leaves) for x in jax.tree.leaves(jax.vmap(jax.grad(score))(inputs, *args))]
    flat = jnp.concatenate([x.reshape(size, math.prod(x.shape[1:])) for x in slopes], axis=1)
    return flat, jax.ShapeDtypeStruct((size,), leaves[0].dtype), where
