"""Adversarial losses: what a discriminator, or critic, and a generator minimise, from the discriminator's scores.

Each is to be minimised by its own network, whatever the paper's players maximise. The penalties on the gradient of a
critic are in `_penalty`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxloss import _check, _numerics
from jaxloss._rules import by_residual, partials

# Scores are logits, before any sigmoid. A discriminator's loss is of pairs of a real and a generated example, one
# loss a pair, so that its mean is the sum of the two expectations.


def gan_minimax_discriminator_loss(
    real_logits: Float[ArrayLike, "*shape"],
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The discriminator's loss of the original game: the binary cross-entropy of real against generated.

    Formula: −log D(x) − log(1 − D(G(z))) = log(1 + e^−r) + log(1 + e^f) for scores r of the real and f of the generated
    example, without a 1 − D that cancels. Derivative by r: −σ(−r); by f: σ(f).

    Args:
        real_logits: the discriminator's score of a real example, any shape; D = σ(score).
        fake_logits: its score of a generated example, of the shape of `real_logits`.
        where: which pairs count; broadcasts to `real_logits`.

    Returns:
        One loss a pair, ≥ 0; 2 log 2 where the discriminator cannot tell.

    Raises:
        TypeError: `real_logits` or `fake_logits` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_minimax_discriminator_loss(jnp.array([0.0, 2.0]), jnp.array([0.0, -2.0])))
        [1.3862944 0.253856 ]

    References:
        Goodfellow et al., Generative Adversarial Nets, 2014
    """
    real_logits, fake_logits = _check.pair("real_logits", real_logits, "fake_logits", fake_logits)
    return _minimax_discriminator(real_logits, fake_logits, where=_check.mask(where, real_logits.shape, "real_logits"))


# The rules here keep the scores as they came; autodiff keeps float32 arrays of them.
@partials(lambda r, f: -_numerics.sigmoid(-r), lambda r, f: _numerics.sigmoid(f))
def _minimax_discriminator(r: Array, f: Array) -> Array:
    return _numerics.softplus(-r) + _numerics.softplus(f)


def gan_minimax_generator_loss(
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The generator's loss of the original game: log(1 − D), negative, whose gradient fades where the discriminator wins.

    Formula: log(1 − D(G(z))) = −log(1 + e^f), without a 1 − D that cancels. Derivative: −σ(f), which is what vanishes for
    f ≪ 0; `gan_non_saturating_generator_loss` is the usual remedy.

    Args:
        fake_logits: the discriminator's score of a generated example, any shape; D = σ(score).
        where: which examples count; broadcasts to `fake_logits`.

    Returns:
        One loss an element, ≤ 0: from 0, where the discriminator is sure of itself, without bound below. Minimised.

    Raises:
        TypeError: `fake_logits` is not floating point, or `where` is not boolean.
        ValueError: `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_minimax_generator_loss(jnp.array([0.0, -2.0])))
        [-0.6931472 -0.126928 ]

    References:
        Goodfellow et al., Generative Adversarial Nets, 2014
    """
    fake_logits = _check.floating("fake_logits", fake_logits)
    return _minimax_generator(fake_logits, where=_check.mask(where, fake_logits.shape, "fake_logits"))


@partials(lambda f: -_numerics.sigmoid(f))
def _minimax_generator(f: Array) -> Array:
    return -_numerics.softplus(f)


def gan_non_saturating_generator_loss(
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The generator's loss in common use: −log D, whose gradient is largest where the discriminator wins.

    Formula: −log D(G(z)) = log(1 + e^−f). Derivative: −σ(−f). The discriminator's loss is that of the minimax game.

    Args:
        fake_logits: the discriminator's score of a generated example, any shape; D = σ(score).
        where: which examples count; broadcasts to `fake_logits`.

    Returns:
        One loss an element, ≥ 0.

    Raises:
        TypeError: `fake_logits` is not floating point, or `where` is not boolean.
        ValueError: `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_non_saturating_generator_loss(jnp.array([0.0, -2.0])))
        [0.6931472 2.126928 ]

    References:
        Goodfellow et al., Generative Adversarial Nets, 2014, section 3
    """
    fake_logits = _check.floating("fake_logits", fake_logits)
    return _non_saturating(fake_logits, where=_check.mask(where, fake_logits.shape, "fake_logits"))


@partials(lambda f: -_numerics.sigmoid(-f))
def _non_saturating(f: Array) -> Array:
    return _numerics.softplus(-f)


def gan_least_squares_discriminator_loss(
    real_logits: Float[ArrayLike, "*shape"],
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    real_label: Float[ArrayLike, "..."] = 1.0,
    fake_label: Float[ArrayLike, "..."] = 0.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The discriminator's least-squares loss: scores are regressed on one number for real, another for generated.

    Formula: ½(r − b)² + ½(f − a)², with the paper's factors ½, for scores r of the real and f of the generated example.
    Derivative by r: r − b; by f: f − a; by b and a: their negatives.

    Args:
        real_logits: the discriminator's score of a real example, any shape.
        fake_logits: its score of a generated example, of the shape of `real_logits`.
        real_label: b, the score that a real example should get; broadcasts, differentiable.
        fake_label: a, the score that a generated example should get; broadcasts, differentiable.
        where: which pairs count; broadcasts to `real_logits`.

    Returns:
        One loss a pair, ≥ 0.

    Raises:
        TypeError: `real_logits`, `fake_logits` or a label is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or a label or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_least_squares_discriminator_loss(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])))
        [0. 1.]

    References:
        Mao et al., Least Squares Generative Adversarial Networks, 2017
    """
    real_logits, fake_logits = _check.pair("real_logits", real_logits, "fake_logits", fake_logits)
    real_label = _check.option("real_label", real_label, real_logits)
    fake_label = _check.option("fake_label", fake_label, real_logits)
    where = _check.mask(where, real_logits.shape, "real_logits")
    return _least_squares_discriminator(real_logits, fake_logits, real_label, fake_label, where=where)


@partials(
    lambda r, f, b, a: r - b,
    lambda r, f, b, a: f - a,
    lambda r, f, b, a: b - r,
    lambda r, f, b, a: a - f,
)
def _least_squares_discriminator(r: Array, f: Array, b: Array, a: Array) -> Array:
    return (0.5 * (r - b)) * (r - b) + (0.5 * (f - a)) * (f - a)  # this order overflows only where the loss does


def gan_least_squares_generator_loss(
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    real_label: Float[ArrayLike, "..."] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The generator's least-squares loss: its score should be the one that stands for real, from either side.

    Formula: ½(f − c)², with the paper's factor ½. Derivative: f − c; by c: c − f.

    Args:
        fake_logits: the discriminator's score of a generated example, any shape.
        real_label: c, the score that the generator is after; broadcasts, differentiable.
        where: which examples count; broadcasts to `fake_logits`.

    Returns:
        One loss an element, ≥ 0.

    Raises:
        TypeError: `fake_logits` or `real_label` is not floating point, or `where` is not boolean.
        ValueError: `real_label` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_least_squares_generator_loss(jnp.array([1.0, 0.0])))
        [0.  0.5]

    References:
        Mao et al., Least Squares Generative Adversarial Networks, 2017
    """
    fake_logits = _check.floating("fake_logits", fake_logits)
    real_label = _check.option("real_label", real_label, fake_logits)
    return _least_squares_generator(fake_logits, real_label, where=_check.mask(where, fake_logits.shape, "fake_logits"))


@partials(*by_residual(lambda d: d))
def _least_squares_generator(f: Array, c: Array) -> Array:
    return (0.5 * (f - c)) * (f - c)


def gan_wasserstein_critic_loss(
    real_logits: Float[ArrayLike, "*shape"],
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The Wasserstein critic's loss: how much higher it scores the generated than the real.

    Formula: f − r for scores r of the real and f of the generated example. Derivative by r: −1; by f: 1. The mean, negated,
    estimates the Wasserstein-1 distance once the critic is 1-Lipschitz: see `gradient_penalty`.

    Args:
        real_logits: the critic's score of a real example, any shape.
        fake_logits: its score of a generated example, of the shape of `real_logits`.
        where: which pairs count; broadcasts to `real_logits`.

    Returns:
        One loss a pair, of either sign. Minimised.

    Raises:
        TypeError: `real_logits` or `fake_logits` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_wasserstein_critic_loss(jnp.array([1.0, 0.5]), jnp.array([0.0, 2.0])))
        [-1.   1.5]

    References:
        Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017
    """
    real_logits, fake_logits = _check.pair("real_logits", real_logits, "fake_logits", fake_logits)
    return _wasserstein_critic(real_logits, fake_logits, where=_check.mask(where, real_logits.shape, "real_logits"))


@partials(lambda r, f: -jnp.ones_like(r), lambda r, f: jnp.ones_like(f))
def _wasserstein_critic(r: Array, f: Array) -> Array:
    return f - r


def gan_wasserstein_generator_loss(
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The generator's loss against a Wasserstein critic: the negative of its score.

    Formula: −f. Derivative: −1. It is the generator's loss of the hinge game too.

    Args:
        fake_logits: the critic's score of a generated example, any shape.
        where: which examples count; broadcasts to `fake_logits`.

    Returns:
        One loss an element, of either sign. Minimised.

    Raises:
        TypeError: `fake_logits` is not floating point, or `where` is not boolean.
        ValueError: `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_wasserstein_generator_loss(jnp.array([1.0, -0.5])))
        [-1.   0.5]

    References:
        Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017
    """
    fake_logits = _check.floating("fake_logits", fake_logits)
    return _negative(fake_logits, where=_check.mask(where, fake_logits.shape, "fake_logits"))


@partials(lambda f: -jnp.ones_like(f))
def _negative(f: Array) -> Array:
    return -f


def gan_hinge_discriminator_loss(
    real_logits: Float[ArrayLike, "*shape"],
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The discriminator's hinge loss: a score beyond ±1 on the right side costs nothing.

    Formula: max(0, 1 − r) + max(0, 1 + f) for scores r of the real and f of the generated example. Derivative by r: −1 for
    r < 1, else 0; by f: 1 for f > −1, else 0; 0 at both kinks.

    Args:
        real_logits: the discriminator's score of a real example, any shape.
        fake_logits: its score of a generated example, of the shape of `real_logits`.
        where: which pairs count; broadcasts to `real_logits`.

    Returns:
        One loss a pair, ≥ 0.

    Raises:
        TypeError: `real_logits` or `fake_logits` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_hinge_discriminator_loss(jnp.array([2.0, 0.5]), jnp.array([-2.0, 0.0])))
        [0.  1.5]

    References:
        Lim and Ye, Geometric GAN, 2017
    """
    real_logits, fake_logits = _check.pair("real_logits", real_logits, "fake_logits", fake_logits)
    return _hinge_discriminator(real_logits, fake_logits, where=_check.mask(where, real_logits.shape, "real_logits"))


@partials(
    lambda r, f: jnp.where(r < 1, -1, jnp.zeros_like(r)),
    lambda r, f: jnp.where(f > -1, 1, jnp.zeros_like(f)),
)
def _hinge_discriminator(r: Array, f: Array) -> Array:
    return jnp.maximum(0, 1 - r) + jnp.maximum(0, 1 + f)


def gan_hinge_generator_loss(
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The generator's loss against a hinge discriminator: the negative of its score.

    Formula: −f. Derivative: −1. The generator has no hinge: its pull does not end at the discriminator's margin.

    Args:
        fake_logits: the discriminator's score of a generated example, any shape.
        where: which examples count; broadcasts to `fake_logits`.

    Returns:
        One loss an element, of either sign. Minimised.

    Raises:
        TypeError: `fake_logits` is not floating point, or `where` is not boolean.
        ValueError: `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_hinge_generator_loss(jnp.array([1.0, -0.5])))
        [-1.   0.5]

    References:
        Lim and Ye, Geometric GAN, 2017
    """
    fake_logits = _check.floating("fake_logits", fake_logits)
    return _negative(fake_logits, where=_check.mask(where, fake_logits.shape, "fake_logits"))


def gan_relativistic_discriminator_loss(
    real_logits: Float[ArrayLike, "*shape"],
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The relativistic discriminator's loss: the real example should score higher than the generated one.

    Formula: −log σ(r − f) = log(1 + e^−(r − f)), the paper's RSGAN, which compares pairs. Derivative by r: −σ(f − r); by f:
    its negative. The relativistic average form, RaSGAN, is `gan_minimax_discriminator_loss(r - mean(f), f - mean(r))`.

    Args:
        real_logits: the discriminator's score of a real example, any shape.
        fake_logits: its score of a generated example, of the shape of `real_logits`.
        where: which pairs count; broadcasts to `real_logits`.

    Returns:
        One loss a pair, ≥ 0; log 2 where the two score alike.

    Raises:
        TypeError: `real_logits` or `fake_logits` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_relativistic_discriminator_loss(jnp.array([0.0, 2.0]), jnp.array([0.0, 0.0])))
        [0.6931472 0.126928 ]

    References:
        Jolicoeur-Martineau, The Relativistic Discriminator: a Key Element Missing from Standard GAN, 2018
    """
    real_logits, fake_logits = _check.pair("real_logits", real_logits, "fake_logits", fake_logits)
    return _relativistic(real_logits, fake_logits, where=_check.mask(where, real_logits.shape, "real_logits"))


@partials(*by_residual(lambda d: -_numerics.sigmoid(-d)))
def _relativistic(better: Array, worse: Array) -> Array:
    return _numerics.softplus(worse - better)


def gan_relativistic_generator_loss(
    real_logits: Float[ArrayLike, "*shape"],
    fake_logits: Float[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The relativistic generator's loss: the generated example should score higher than the real one.

    Formula: −log σ(f − r) = log(1 + e^−(f − r)), the paper's RSGAN, which compares pairs. Derivative by f: −σ(r − f); by r:
    its negative. The relativistic average form, RaSGAN, is `gan_minimax_discriminator_loss(f - mean(r), r - mean(f))`.

    Args:
        real_logits: the discriminator's score of a real example, any shape.
        fake_logits: its score of a generated example, of the shape of `real_logits`.
        where: which pairs count; broadcasts to `real_logits`.

    Returns:
        One loss a pair, ≥ 0; log 2 where the two score alike.

    Raises:
        TypeError: `real_logits` or `fake_logits` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gan_relativistic_generator_loss(jnp.array([0.0, 2.0]), jnp.array([0.0, 0.0])))
        [0.6931472 2.126928 ]

    References:
        Jolicoeur-Martineau, The Relativistic Discriminator: a Key Element Missing from Standard GAN, 2018
    """
    real_logits, fake_logits = _check.pair("real_logits", real_logits, "fake_logits", fake_logits)
    return _relativistic(fake_logits, real_logits, where=_check.mask(where, real_logits.shape, "real_logits"))
