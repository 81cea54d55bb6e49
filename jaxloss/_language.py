"""The head of a language model and its loss in one: hidden states against a vocabulary, without the logits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _linear, _linear_divergence, _linear_entropy, _linear_mean, _linear_softmax, _rules
from jaxloss._linear import Blocks

# Every function here takes hidden states [..., D], one a token, and a weight [D, V], or [V, D] with `vocab_first`, as the
# table of embeddings is that a model shares with its head; no copy of it is made. Logits are made by blocks of classes,
# and again for the gradient. Products of bfloat16 are of bfloat16, accumulated in float32, for which the gradient of a
# block of logits is rounded to bfloat16; all others are of float32 or wider, in full. Scores are those of
# `softmax_cross_entropy`, divided by a temperature. `where` is over tokens.


def linear_softmax_cross_entropy(
    hidden: Float[ArrayLike, "*tokens dim"],
    weight: Float[ArrayLike, "dim vocab"],
    labels: Int[ArrayLike, "*tokens"],
    *,
    bias: Float[ArrayLike, " vocab"] | None = None,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " vocab"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    temperature: Float[ArrayLike, "..."] = 1.0,
    vocab_first: bool = False,
    block_size: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*tokens"]:
    """The cross-entropy of next-token logits, `hidden @ weight + bias`, which are never held: exact, for any size.

    Formula: (1−ε) w_y (lse(s) − s_y) + (ε/K) Σₖ wₖ (lse(s) − sₖ) + λ lse(s)², with logits z = x W + b and scores s = z/T, or
    c·tanh(z/c)/T under a soft cap. Derivative: by sₖ: pₖ Σt − tₖ + 2λ lse pₖ, with p = softmax(s) and t the smoothed,
    weighted one-hot label; from there by the chain rule, block by block. It is
    `softmax_cross_entropy_with_integer_labels` of the logits, tiny losses included, for one product of matrices more and
    a small part of the memory. For the mean over all tokens, `mean_linear_softmax_cross_entropy` is faster.

    Args:
        hidden: x, the last hidden states, one vector a token.
        weight: W, one vector a class of the vocabulary, of any size.
        labels: the class that came, from 0 to vocab − 1. Out of range and not masked: NaN in loss and gradient, and a
            sentence under `jaxloss.debug_checks`. To ignore a label of −100, pass `where=labels != -100`.
        bias: b, one number a class, differentiable; −inf for a class that cannot occur.
        label_smoothing: ε, from 0 to 1, the part of the label spread over the K classes that can occur; broadcasts to
            the tokens, differentiable.
        class_weights: w, a factor a class, ≥ 0, differentiable.
        z_loss: λ ≥ 0, the weight of lse², which keeps the logits from drifting; broadcasts to the tokens,
            differentiable.
        soft_cap: c > 0, the bound that tanh puts on the logits, differentiable.
        temperature: T > 0, divides the scores; broadcasts to the tokens, differentiable.
        vocab_first: whether `weight` is [vocab, dim], as a table of embeddings is.
        block_size: about how many classes to take at a time; None means as many as make 2^23 logits, and at least 1024.
        axis_name: the mesh axis of `shard_map`, or several, over whose devices the vocabulary is divided in equal parts:
            `weight`, `bias` and `class_weights` are then the device's own part, and `labels` count all of them. Under
            `jit` with sharded arguments nothing need be said.
        where: which tokens count.

    Returns:
        One loss a token, in nats, in float32 or wider.

    Raises:
        TypeError: `hidden`, `weight` or an option is not floating point, `labels` are not integers, `block_size` is not
            an integer, `vocab_first` is not a bool, or `where` is not boolean.
        ValueError: `weight` or `labels` do not have the shape that `hidden` asks for, an option or `where` does not
            broadcast or is out of its domain, or `block_size` is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> hidden = jnp.array([[1.0, 0.0], [0.5, 2.0]])
        >>> weight = jnp.array([[1.2, -0.8, -0.5], [0.0, 1.0, -1.0]])
        >>> print(jaxloss.linear_softmax_cross_entropy(hidden, weight, jnp.array([0, 1])))
        [0.2761297  0.32869864]

    References:
        Wijmans, Huval, Hertzberg, Koltun and Krähenbühl, Cut Your Losses in Large-Vocabulary Language Models, 2025
        Chowdhery et al., PaLM: Scaling Language Modeling with Pathways, 2022 (z-loss)
        Gemma Team, Gemma 2: Improving Open Language Models at a Practical Size, 2024 (soft cap)
    """
    hidden, weight, labels, logits, where = _tokens(hidden, weight, labels, vocab_first, axis_name, where)
    options = _options(logits, bias, label_smoothing, class_weights, z_loss, soft_cap, temperature, where)
    blocks = _blocks(block_size, logits, hidden, vocab_first, axis_name)
    return _rules.compiled(_cross_entropy, hidden, weight, labels, *options, where, blocks)


def mean_linear_softmax_cross_entropy(
    hidden: Float[ArrayLike, "*tokens dim"],
    weight: Float[ArrayLike, "dim vocab"],
    labels: Int[ArrayLike, "*tokens"],
    *,
    weights: Float[ArrayLike, "..."] | None = None,
    bias: Float[ArrayLike, " vocab"] | None = None,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " vocab"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    temperature: Float[ArrayLike, "..."] = 1.0,
    vocab_first: bool = False,
    block_size: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    batch_axis_name: str | tuple[str, ...] | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, ""]:
    """The mean of `linear_softmax_cross_entropy` over tokens, with its gradient made in the forward pass.

    One number is known beforehand to be pulled back by one number, so that logits and gradient of a block of tokens are
    made at once, from three products of matrices in place of four. The price is a float32 array of the size of `weight`.
    Without a gradient asked for, none is made. The name is that of `jaxloss.mean(linear_softmax_cross_entropy(...))`,
    whose number it is; take that where each token's loss is used on its own.

    Formula: Σᵢ vᵢ lᵢ / Σᵢ vᵢ over the tokens that count, with the loss lᵢ and the weight vᵢ of a token; 0 where Σ v is 0.
    Derivative: vᵢ/Σv times that of lᵢ; by vᵢ: (lᵢ − mean)/Σv.

    Args:
        hidden: x, the last hidden states, one vector a token.
        weight: W, one vector a class of the vocabulary, of any size.
        labels: the class that came, from 0 to vocab − 1. Out of range and not masked: NaN in loss and gradient, and a
            sentence under `jaxloss.debug_checks`.
        weights: v, a factor a token; broadcasts to the tokens, differentiable.
        bias: b, one number a class, differentiable; −inf for a class that cannot occur.
        label_smoothing: ε, from 0 to 1; broadcasts to the tokens, differentiable.
        class_weights: w, a factor a class, ≥ 0, differentiable. It is not in the denominator.
        z_loss: λ ≥ 0, the weight of lse²; broadcasts to the tokens, differentiable.
        soft_cap: c > 0, the bound that tanh puts on the logits, differentiable.
        temperature: T > 0, divides the scores; broadcasts to the tokens, differentiable.
        vocab_first: whether `weight` is [vocab, dim], as a table of embeddings is.
        block_size: how many tokens to take at a time; None means as many as make 2^24 logits, and at least 256.
        axis_name: the mesh axis of `shard_map` over whose devices the vocabulary is divided, as in
            `linear_softmax_cross_entropy`.
        batch_axis_name: the mesh axis of `shard_map` over whose devices the tokens are divided: every device holds the
            mean of all tokens.
        where: which tokens count.

    Returns:
        The mean, in nats, in float32 or wider.

    Raises:
        TypeError: `hidden`, `weight` or an option is not floating point, `labels` are not integers, `block_size` is not
            an integer, `vocab_first` is not a bool, or `where` is not boolean.
        ValueError: `weight` or `labels` do not have the shape that `hidden` asks for, an option or `where` does not
            broadcast or is out of its domain, or `block_size` is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> hidden = jnp.array([[1.0, 0.0], [0.5, 2.0]])
        >>> weight = jnp.array([[1.2, -0.8, -0.5], [0.0, 1.0, -1.0]])
        >>> print(jaxloss.mean_linear_softmax_cross_entropy(hidden, weight, jnp.array([0, 1])))
        0.30241418

    References:
        Hsu et al., Liger Kernel: Efficient Triton Kernels for LLM Training, 2024 (gradient in the forward pass)
    """
    hidden, weight, labels, logits, where = _tokens(hidden, weight, labels, vocab_first, axis_name, where)
    options = _options(logits, bias, label_smoothing, class_weights, z_loss, soft_cap, temperature, where)
    factor = _check.optional("weights", weights, _check.examples(logits))
    rows = _linear_mean.token_blocks(block_size, labels.size, logits.shape[-1])
    blocks = Blocks(1, logits.shape[-1], vocab_first, axis_name)
    batch = _linear_mean.Batch(batch_axis_name)
    return _rules.compiled(_mean, hidden, weight, labels, factor, *options, where, blocks, rows, batch)


def token_log_probs(
    hidden: Float[ArrayLike, "*tokens dim"],
    weight: Float[ArrayLike, "dim vocab"],
    labels: Int[ArrayLike, "*tokens"],
    *,
    bias: Float[ArrayLike, " vocab"] | None = None,
    soft_cap: Float[ArrayLike, ""] | None = None,
    temperature: Float[ArrayLike, "..."] = 1.0,
    vocab_first: bool = False,
    block_size: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "*tokens"], Float[Array, "*tokens"], Bool[Array, "*tokens"]]:
    """The log-probability of each token, the log-sum-exp of its scores, and whether it was the most probable one.

    For policy gradients, preference losses and perplexity, and for accuracy beside a loss at no cost: all three come
    from the one pass over the vocabulary that `linear_softmax_cross_entropy` takes, which is −log p.

    Formula: log p_y = s_y − lse(s), and lse(s), of the scores of `linear_softmax_cross_entropy`. Derivative by sₖ:
    1[k = y] − pₖ, and pₖ.

    Args:
        hidden: x, the last hidden states, one vector a token.
        weight: W, one vector a class of the vocabulary, of any size.
        labels: the class that came, from 0 to vocab − 1. Out of range and not masked: NaN, and not the most probable.
        bias: b, one number a class, differentiable; −inf for a class that cannot occur.
        soft_cap: c > 0, the bound that tanh puts on the logits, differentiable.
        temperature: T > 0, divides the scores; broadcasts to the tokens, differentiable.
        vocab_first: whether `weight` is [vocab, dim], as a table of embeddings is.
        block_size: about how many classes to take at a time, as in `linear_softmax_cross_entropy`.
        axis_name: the mesh axis of `shard_map` over whose devices the vocabulary is divided, as there.
        where: which tokens count.

    Returns:
        The log-probability and the log-sum-exp of each token, in nats, in float32 or wider, 0 where masked; and whether
        no class has a higher score than the label, False where masked. A tie counts as right.

    Raises:
        TypeError: `hidden`, `weight` or an option is not floating point, `labels` are not integers, `block_size` is not
            an integer, `vocab_first` is not a bool, or `where` is not boolean.
        ValueError: `weight` or `labels` do not have the shape that `hidden` asks for, an option or `where` does not
            broadcast or is out of its domain, or `block_size` is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> hidden, weight = jnp.array([[1.0, 0.0]]), jnp.array([[1.2, -0.8, -0.5], [0.0, 1.0, -1.0]])
        >>> log_probs, log_sum_exp, is_top = jaxloss.token_log_probs(hidden, weight, jnp.array([0]))
        >>> print(log_probs, log_sum_exp, is_top)
        [-0.2761297] [1.4761298] [ True]

    References:
        Wijmans, Huval, Hertzberg, Koltun and Krähenbühl, Cut Your Losses in Large-Vocabulary Language Models, 2025
    """
    hidden, weight, labels, logits, where = _tokens(hidden, weight, labels, vocab_first, axis_name, where)
    bias, soft_cap, temperature = _head_options(logits, bias, soft_cap, temperature, where)
    blocks = _blocks(block_size, logits, hidden, vocab_first, axis_name)
    options = bias, soft_cap, temperature, where, blocks
    return _rules.compiled(_log_probs, hidden, weight, labels, *options)


def _log_probs(
    hidden: Array, weight: Array, labels: Array, bias: Any, soft_cap: Any, temperature: Any, where: Any, blocks: Blocks
) -> tuple[Array, Array, Array]:
    bias, soft_cap, temperature = (_rules.wide(x, hidden, weight) for x in (bias, soft_cap, temperature))
    terms = _label_terms(hidden, weight, bias, labels, None, soft_cap, temperature, where, blocks)
    is_top = terms.lead >= 0
    return -terms.nll, terms.lse, is_top if where is None else is_top & where


def token_entropy(
    hidden: Float[ArrayLike, "*tokens dim"],
    weight: Float[ArrayLike, "dim vocab"],
    *,
    bias: Float[ArrayLike, " vocab"] | None = None,
    soft_cap: Float[ArrayLike, ""] | None = None,
    temperature: Float[ArrayLike, "..."] = 1.0,
    vocab_first: bool = False,
    block_size: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*tokens"]:
    """The entropy of each next-token distribution: how undecided the model is; a bonus in policy gradients.

    Formula: H = −Σₖ pₖ log pₖ with p = softmax(s) of the scores of `linear_softmax_cross_entropy`; 0 · log 0 is 0.
    Derivative by sₖ: −pₖ (log pₖ + H). Exact where it is tiny.

    Args:
        hidden: x, the last hidden states, one vector a token.
        weight: W, one vector a class of the vocabulary, of any size.
        bias: b, one number a class, differentiable; −inf for a class that cannot occur.
        soft_cap: c > 0, the bound that tanh puts on the logits, differentiable.
        temperature: T > 0, divides the scores; broadcasts to the tokens, differentiable.
        vocab_first: whether `weight` is [vocab, dim], as a table of embeddings is.
        block_size: about how many classes to take at a time, as in `linear_softmax_cross_entropy`.
        axis_name: the mesh axis of `shard_map` over whose devices the vocabulary is divided, as there.
        where: which tokens count.

    Returns:
        One entropy a token, in nats, from 0 to log vocab, in float32 or wider.

    Raises:
        TypeError: `hidden`, `weight` or an option is not floating point, `block_size` is not an integer, `vocab_first` is
            not a bool, or `where` is not boolean.
        ValueError: `weight` does not have the shape that `hidden` asks for, an option or `where` does not broadcast or is
            out of its domain, or `block_size` is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> hidden, weight = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0, -20.0], [0.0, 1.0, -1.0]])
        >>> print(jaxloss.token_entropy(hidden, weight))
        [0.6931472]

    References:
        Shannon, A Mathematical Theory of Communication, 1948
        Williams and Peng, Function Optimization Using Connectionist Reinforcement Learning Algorithms, 1991 (bonus)
    """
    hidden, weight, logits = _check.head(hidden, weight, vocab_first)
    where = _check.mask(where, logits.shape[:-1], "the tokens")
    bias, soft_cap, temperature = _head_options(logits, bias, soft_cap, temperature, where)
    blocks = _blocks(block_size, logits, hidden, vocab_first, axis_name)
    return _rules.compiled(_entropy, hidden, weight, bias, soft_cap, temperature, where, blocks)


def _entropy(hidden: Array, weight: Array, bias: Any, soft_cap: Any, temperature: Any, where: Any, blocks: Blocks) -> Array:
    bias, soft_cap, temperature = (_rules.wide(x, hidden, weight) for x in (bias, soft_cap, temperature))
    bias = _linear.as_weight(bias, weight, blocks)
    hidden, soft_cap, temperature = _linear.on_each((hidden, soft_cap, temperature), blocks)
    arguments = hidden, weight, bias, soft_cap, temperature, where, blocks
    return _linear.from_all(_rules.call(_linear_entropy.entropy, *arguments, apart=blocks.axis_name), blocks)


def linear_softmax_kl_divergence(
    hidden: Float[ArrayLike, "*tokens dim"],
    weight: Float[ArrayLike, "dim vocab"],
    teacher_hidden: Float[ArrayLike, "*tokens teacher_dim"],
    teacher_weight: Float[ArrayLike, "teacher_dim vocab"],
    *,
    bias: Float[ArrayLike, " vocab"] | None = None,
    teacher_bias: Float[ArrayLike, " vocab"] | None = None,
    soft_cap: Float[ArrayLike, ""] | None = None,
    teacher_soft_cap: Float[ArrayLike, ""] | None = None,
    temperature: Float[ArrayLike, "..."] = 1.0,
    vocab_first: bool = False,
    teacher_vocab_first: bool | None = None,
    block_size: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*tokens"]:
    """The divergence of a student's next-token distributions from a teacher's: distillation, without the logits of either.

    Never negative; 0 with zero gradients for equal heads; and of nearly equal ones with all digits that the products
    leave. It is `softmax_kl_divergence` of the two heads' logits. The gradient by a teacher that is not trained is not
    computed under `jit`.

    Formula: Σₖ pₖ (e^−rₖ − 1 + rₖ), which is Σₖ pₖ rₖ, with r = log p − log q, and p = softmax(t) and q = softmax(s) of
    the scores of `linear_softmax_cross_entropy`, of the teacher and of the student. Derivative by sₖ: qₖ − pₖ; by tₖ:
    pₖ (rₖ − Σ p r). Hinton's distillation multiplies by T²: the caller's factor.

    Args:
        hidden: x, the student's last hidden states, one vector a token.
        weight: W, one vector a class of the vocabulary, of any size.
        teacher_hidden: the same of the teacher, of any dimension of its own; differentiable.
        teacher_weight: the same, over the same vocabulary; differentiable.
        bias: b, one number a class, differentiable; −inf for a class that cannot occur.
        teacher_bias: the same of the teacher.
        soft_cap: c > 0, the bound that tanh puts on the logits, differentiable.
        teacher_soft_cap: the same of the teacher.
        temperature: T > 0, divides the scores of both; broadcasts to the tokens, differentiable.
        vocab_first: whether `weight` is [vocab, dim], as a table of embeddings is.
        teacher_vocab_first: the same of `teacher_weight`; None means as `vocab_first`.
        block_size: about how many classes to take at a time, as in `linear_softmax_cross_entropy`.
        axis_name: the mesh axis of `shard_map` over whose devices the vocabulary is divided, as there; for both heads.
        where: which tokens count.

    Returns:
        One divergence a token, in nats, in float32 or wider. It is inf where a class can occur for the teacher and
        cannot for the student; the gradient by s is then q − p as ever, and the one by t is 0.

    Raises:
        TypeError: hidden states, a weight or an option is not floating point, `block_size` is not an integer, a
            `vocab_first` is not a bool, or `where` is not boolean.
        ValueError: the teacher has other tokens or another vocabulary, a weight does not have the shape that its hidden
            states ask for, an option or `where` does not broadcast or is out of its domain, or `block_size` is not
            positive.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> hidden, weight = jnp.array([[1.0]]), jnp.array([[1.0, 0.0]])
        >>> teacher_hidden, teacher_weight = jnp.array([[1.0, 1.0]]), jnp.array([[1.5, 0.0], [0.5, 0.0]])
        >>> print(jaxloss.linear_softmax_kl_divergence(hidden, weight, teacher_hidden, teacher_weight))
        [0.0671307]

    References:
        Kullback and Leibler, On Information and Sufficiency, 1951
        Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015
        Hsu et al., Liger Kernel: Efficient Triton Kernels for LLM Training, 2024 (distillation without the logits)
    """
    hidden, weight, logits = _check.head(hidden, weight, vocab_first)
    teacher_first = vocab_first if teacher_vocab_first is None else teacher_vocab_first
    teacher_hidden, teacher_weight, of_teacher = _check.teacher(teacher_hidden, teacher_weight, teacher_first, logits)
    where = _check.mask(where, logits.shape[:-1], "the tokens")
    options = _head_options(logits, bias, soft_cap, temperature, where)
    teacher_options = _head_options(of_teacher, teacher_bias, teacher_soft_cap, temperature, where, "teacher_")
    wider = max(hidden, teacher_hidden, key=lambda x: x.shape[-1])
    blocks, teacher_blocks = (_blocks(block_size, logits, wider, x, axis_name) for x in (vocab_first, teacher_first))
    heads = (hidden, weight, *options), (teacher_hidden, teacher_weight, *teacher_options)
    return _rules.compiled(_divergence, *heads, where, (blocks, teacher_blocks))


def _divergence(student: Any, teacher: Any, where: Any, blocks: tuple[Blocks, Blocks]) -> Array:
    student, teacher = (_linear.Head(x, w, *(_rules.wide(y, x, w) for y in rest)) for x, w, *rest in (student, teacher))
    student, teacher = (_of_devices(head, blocks[0]) for head in (student, teacher))
    kl = _rules.call(_linear_divergence.divergence, student, teacher, where, blocks, apart=blocks[0].axis_name)
    return _linear.from_all(kl, blocks[0])


def _of_devices(head: _linear.Head, blocks: Blocks) -> _linear.Head:
    """A head of which every device has the hidden states and some of the classes."""
    hidden, soft_cap, temperature = _linear.on_each((head.hidden, head.soft_cap, head.temperature), blocks)
    bias = _linear.as_weight(head.bias, head.weight, blocks)
    return _linear.Head(hidden, head.weight, bias, soft_cap, temperature)


def _tokens(
    hidden: Any, weight: Any, labels: Any, vocab_first: bool, axis_name: Any, where: Any
) -> tuple[Array, Array, Array, jax.ShapeDtypeStruct, Array | None]:
    """The data, checked, and what their logits would be on this device."""
    hidden, weight, logits = _check.head(hidden, weight, vocab_first)
    where = _check.mask(where, logits.shape[:-1], "the tokens")
    classes = logits.shape[-1] * (1 if axis_name is None else lax.axis_size(axis_name))
    return hidden, weight, _check.token_labels(labels, logits.shape[:-1], classes, where), logits, where


def _options(
    logits: Any,
    bias: Any,
    label_smoothing: Any,
    class_weights: Any,
    z_loss: Any,
    soft_cap: Any,
    temperature: Any,
    where: Array | None,
) -> tuple[Array | None, ...]:
    """The options in the order of the core, checked; those of classes as [V], those of a masked token harmless."""
    smoothing, weights, z_loss, _ = _check.softmax_options(logits, label_smoothing, class_weights, z_loss, None, where)
    smoothing, z_loss = (_rules.harmless(where, x) for x in (smoothing, z_loss))
    weights = None if weights is None else jnp.broadcast_to(weights, logits.shape[-1:])
    bias, soft_cap, temperature = _head_options(logits, bias, soft_cap, temperature, where)
    return bias, smoothing, weights, z_loss, soft_cap, temperature


def _head_options(
    logits: Any, bias: Any, soft_cap: Any, temperature: Any, where: Array | None, prefix: str = ""
) -> tuple[Array | None, ...]:
    """The options of scores, checked: the bias as [V], the temperature one a token, and harmless in a masked one."""
    tokens, classes = _check.examples(logits), logits.shape[-1:]
    temperature = _check.optional("temperature", temperature, tokens, unused=1, above=0, where=where)
    temperature = _rules.harmless(where, temperature)
    if temperature is not None:
        temperature = jnp.broadcast_to(temperature, tokens.shape)
    bias = _check.optional(f"{prefix}bias", bias, logits, shape=classes)
    soft_cap = _check.optional(f"{prefix}soft_cap", soft_cap, logits, above=0, shape=())
    return None if bias is None else jnp.broadcast_to(bias, classes), soft_cap, temperature


def _blocks(size: Any, logits: Any, hidden: Array, vocab_first: bool, axis_name: Any) -> Blocks:
    *tokens, classes = logits.shape
    return _linear.blocks(size, tokens, hidden.shape[-1], classes, vocab_first, axis_name)


def _cross_entropy(
    hidden: Array,
    weight: Array,
    labels: Array,
    bias: Any,
    smoothing: Any,
    class_weights: Any,
    z_loss: Any,
    soft_cap: Any,
    temperature: Any,
    where: Any,
    blocks: Blocks,
) -> Array:
    """JAX differentiates what is made of the numbers of a token."""
    bias, class_weights, soft_cap, temperature = (
        _rules.wide(x, hidden, weight) for x in (bias, class_weights, soft_cap, temperature)
    )
    class_weights = _linear.as_weight(class_weights, weight, blocks)
    uniform_weights = _linear.uniform_weights(smoothing, class_weights, hidden, weight, blocks)
    terms = _label_terms(hidden, weight, bias, labels, uniform_weights, soft_cap, temperature, where, blocks)
    own_weight = None if class_weights is None else _linear_softmax.of_label(class_weights, labels, blocks)
    return _linear_softmax.loss_of(terms, own_weight, smoothing, z_loss)


def _label_terms(
    hidden: Array,
    weight: Array,
    bias: Any,
    labels: Array,
    uniform_weights: Any,
    soft_cap: Any,
    temperature: Any,
    where: Any,
    blocks: Blocks,
) -> _linear_softmax.Terms:
    bias, uniform_weights = (_linear.as_weight(x, weight, blocks) for x in (bias, uniform_weights))
    hidden, soft_cap, temperature = _linear.on_each((hidden, soft_cap, temperature), blocks)
    arguments = hidden, weight, bias, labels, uniform_weights, soft_cap, temperature, where, blocks
    return _linear.from_all(_rules.call(_linear_softmax.label_terms, *arguments, apart=blocks.axis_name), blocks)


def _mean(
    hidden: Array,
    weight: Array,
    labels: Array,
    factor: Any,
    bias: Any,
    smoothing: Any,
    class_weights: Any,
    z_loss: Any,
    soft_cap: Any,
    temperature: Any,
    where: Any,
    blocks: Blocks,
    rows: Any,
    batch: Any,
) -> Array:
    """The factors of the losses, for all tokens in one axis, and the sum."""
    there = jnp.broadcast_to(jnp.asarray(True) if where is None else where, labels.shape)
    factor = jnp.where(there, 1 if factor is None else factor, 0).astype(_rules.wide_dtype(hidden, weight, factor))
    total = jnp.sum(factor)
    total = total if batch.axis_name is None else lax.psum(total, batch.axis_name)
    factor = factor / jnp.where(total == 0, 1, total)
    options = (_rules.wide(x, hidden, weight) for x in (smoothing, z_loss, temperature))
    options = (None if x is None else jnp.broadcast_to(x, labels.shape).reshape(-1) for x in options)
    flat = labels.reshape(-1), factor.reshape(-1), there.reshape(-1)
    tokens = _linear_mean.Tokens(hidden.reshape(-1, hidden.shape[-1]), *flat, *options)
    bias, class_weights, soft_cap = (_rules.wide(x, hidden, weight) for x in (bias, class_weights, soft_cap))
    uniform_weights = _linear.uniform_weights(smoothing, class_weights, hidden, weight, blocks)
    bias, class_weights, uniform_weights = (
        _linear.as_weight(x, weight, blocks) for x in (bias, class_weights, uniform_weights)
    )
    tokens, soft_cap = _linear.on_each((tokens, soft_cap), blocks)
    head = _linear_mean.Head(weight, bias, class_weights, uniform_weights, soft_cap)
    mean = _rules.call(_linear_mean.weighted_sum, tokens, head, blocks, rows, apart=blocks.axis_name)
    mean = _linear.from_all(mean, blocks)
    return mean if batch.axis_name is None else lax.psum(mean, batch.axis_name)
