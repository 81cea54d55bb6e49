"""Metric learning beside torch and pytorch-metric-learning: where they agree, and where they differ, and why."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch.nn import functional

import jaxloss

# pytorch-metric-learning takes a batch and its labels, forms all pairs, and reduces; without its reduction it returns one
# loss an anchor, as here, but for ContrastiveLoss, which has one a pair. Its cosines are of normalised vectors.


class Row(NamedTuple):
    """A loss that both have: functions of the same arrays, of which the floating-point ones are differentiated."""

    what: str
    arguments: Callable[[np.random.Generator], tuple[Any, ...]]
    ours: Callable[..., Any]
    theirs: Callable[..., Any]


def vectors(count):
    return lambda rng: tuple(rng.normal(size=(count, 8, 5)))


def signed_pairs(rng):
    return *vectors(2)(rng), rng.choice([-1, 1], size=8)


def ranked(rng):
    return *rng.normal(size=(2, 8)), rng.choice([-1, 1], size=8)


def labelled(rng):
    """Three classes, and one example that is alone in its class."""
    return rng.normal(size=(12, 5)), np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 2, 3])


def cosines_and_classes(rng):
    return rng.uniform(-0.8, 0.9, size=(8, 5)), rng.integers(0, 5, size=8)


def without_reduction(loss, **options):
    return lambda *arguments: loss(reducer=reducers.DoNothingReducer(), **options)(*arguments)["loss"]["losses"].reshape(-1)


def contrastive(x, labels):
    i, j = np.triu_indices(len(x), 1)
    return jnp.sum(jaxloss.contrastive_loss(x[i], x[j], labels[i] == labels[j], margin=2.0))


def their_contrastive(x, labels):
    """Each pair comes twice there; squares are asked for by the power of the distance, and the margin has them too."""
    plain = losses.ContrastiveLoss(
        neg_margin=2.0, distance=distances.LpDistance(normalize_embeddings=False), reducer=reducers.DoNothingReducer()
    )(x, labels)
    return sum(torch.sum(plain[side]["losses"] ** 2) for side in ("pos_loss", "neg_loss")) / 2


def their_batch_hard(x, labels):
    distance = distances.LpDistance(normalize_embeddings=False)
    hardest = miners.BatchHardMiner(distance=distance)(x, labels)
    found = losses.TripletMarginLoss(margin=1.0, distance=distance, reducer=reducers.DoNothingReducer())
    per_triplet = found(x, labels, hardest)["loss"]["losses"]
    return torch.zeros(len(x), dtype=x.dtype).index_put((hardest[0],), per_triplet)


def their_n_pairs(a, p):
    """It takes one pair a class from a batch, and products that are not normalised when asked."""
    labels = torch.arange(len(a)).repeat(2)
    loss = losses.NPairsLoss(
        distance=distances.DotProductSimilarity(normalize_embeddings=False), reducer=reducers.DoNothingReducer()
    )
    first, second = torch.arange(len(a)), torch.arange(len(a)) + len(a)
    nothing = torch.zeros(0, dtype=torch.long)
    return loss(torch.cat([a, p]), labels, (first, second, nothing, nothing))["loss"]["losses"]


def their_mined_multi_similarity(x, labels):
    mined = miners.MultiSimilarityMiner(epsilon=0.1)(x, labels)
    return without_reduction(losses.MultiSimilarityLoss)(x, labels, mined)


def their_arcface(cosines, labels):
    """The cosines of an example with the axes are its components: the last one makes its length 1."""
    rest = torch.sqrt(6 - torch.sum(cosines**2, dim=1, keepdim=True))
    loss = losses.ArcFaceLoss(5, 6, margin=np.degrees(0.3), scale=4.0, reducer=reducers.DoNothingReducer())
    loss.W = torch.nn.Parameter(torch.eye(6, 5, dtype=cosines.dtype), requires_grad=False)
    return loss(torch.cat([cosines, rest], dim=1), labels)["loss"]["losses"]


def arcface(cosines, labels):
    return jaxloss.arcface_loss(cosines / np.sqrt(6), labels, margin=0.3, scale=4.0)


ROWS = [
    Row("cosine", vectors(2), jaxloss.cosine_similarity, lambda a, b: functional.cosine_similarity(a, b)),
    Row(
        "cosine_embedding",
        signed_pairs,
        lambda a, b, y: jaxloss.cosine_embedding_loss(a, b, y, margin=0.2),
        lambda a, b, y: functional.cosine_embedding_loss(a, b, y, margin=0.2, reduction="none"),
    ),
    Row(
        "margin_ranking",
        ranked,
        lambda s, t, y: jaxloss.margin_ranking_loss(s, t, y, margin=0.3),
        lambda s, t, y: functional.margin_ranking_loss(s, t, y, margin=0.3, reduction="none"),
    ),
    *(
        Row(
            f"triplet, degree {degree}",
            vectors(3),
            lambda a, p, n, degree=degree: jaxloss.triplet_margin_loss(a, p, n, norm_degree=degree, margin=2.0),
            lambda a, p, n, degree=degree: functional.triplet_margin_loss(
                a, p, n, p=degree, margin=2.0, eps=0.0, reduction="none"
            ),
        )
        for degree in (1, 1.5, 2, 3, np.inf)
    ),
    Row("contrastive", labelled, contrastive, their_contrastive),
    Row("batch_hard_triplet", labelled, jaxloss.batch_hard_triplet_loss, their_batch_hard),
    Row("n_pairs", vectors(2), jaxloss.n_pairs_loss, their_n_pairs),
    Row(
        "multi_similarity, all pairs",
        labelled,
        lambda x, y: jaxloss.multi_similarity_loss(x, y, epsilon=None),
        without_reduction(losses.MultiSimilarityLoss),
    ),
    Row("multi_similarity, mined", labelled, jaxloss.multi_similarity_loss, their_mined_multi_similarity),
    Row("circle", labelled, jaxloss.circle_loss, without_reduction(losses.CircleLoss)),
    Row(
        "circle, options",
        labelled,
        lambda x, y: jaxloss.circle_loss(x, y, margin=0.25, gamma=16.0),
        without_reduction(losses.CircleLoss, m=0.25, gamma=16),
    ),
    Row("arcface", cosines_and_classes, arcface, their_arcface),
]

TOLERANCE = 1e-11


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_values_and_gradients_are_the_same(row):
    with jax.enable_x64(True):
        data = row.arguments(np.random.default_rng(11))
        varied = [i for i, x in enumerate(data) if x.dtype == np.float64]

        def ours(*values):
            return row.ours(*(jnp.asarray(values[varied.index(i)]) if i in varied else x for i, x in enumerate(data)))

        value, pullback = jax.vjp(ours, *(data[i] for i in varied))
        weights = np.random.default_rng(12).normal(size=value.shape)
        slopes = pullback(jnp.asarray(weights))
    tensors = [torch.tensor(x, requires_grad=i in varied) for i, x in enumerate(data)]
    theirs = row.theirs(*tensors)
    their_slopes = torch.autograd.grad(theirs, [tensors[i] for i in varied], torch.tensor(weights))
    for got, want in zip((value, *slopes), (theirs, *their_slopes), strict=True):
        want = want.detach().numpy()
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * np.abs(want).max())


# --- Where they differ, and why -------------------------------------------------------------------------------------


def test_a_vector_of_zeros_has_no_direction():
    """torch divides by a length of at least 1e-8: at the zero vector that is a slope of 1e8 over the other's length."""
    tensor = torch.zeros(3, requires_grad=True)
    (theirs,) = torch.autograd.grad(functional.cosine_similarity(tensor, torch.tensor([3.0, 4.0, 0.0]), dim=0), tensor)
    assert theirs.abs().max() > 1e5
    ours = jax.grad(jaxloss.cosine_similarity)(jnp.zeros(3), jnp.array([3.0, 4.0, 0.0]))
    np.testing.assert_array_equal(ours, np.zeros(3))


def test_a_positive_that_is_the_anchor_pulls_nowhere():
    """torch adds 1e-6 to every component of a difference, which points somewhere where the difference is 0."""
    a, n = [1.0, 2.0], [1.5, 2.0]
    tensor = torch.tensor(a, requires_grad=True)
    (theirs,) = torch.autograd.grad(functional.triplet_margin_loss(torch.tensor(a), tensor, torch.tensor(n)), tensor)
    np.testing.assert_allclose(theirs.abs(), np.full(2, 0.5**0.5), rtol=0.02)
    ours = jax.grad(jaxloss.triplet_margin_loss, 1)(jnp.array(a), jnp.array(a), jnp.array(n))
    np.testing.assert_array_equal(ours, np.zeros(2))


@pytest.mark.parametrize("scale", [1e20, 1e-25])
def test_lengths_neither_overflow_nor_vanish(scale):
    x, y = np.float32([3 * scale, 4 * scale]), np.float32([1, 0])
    theirs = functional.cosine_similarity(torch.tensor(x), torch.tensor(y), dim=0)
    assert not np.isclose(theirs, 0.6, rtol=0.02)
    np.testing.assert_allclose(jaxloss.cosine_similarity(x, y), 0.6, rtol=5e-7)


def test_the_kink_of_a_ranking_has_the_slope_of_the_loss():
    """Equal scores at the margin 0 are where training starts."""
    s = torch.tensor(1.0, requires_grad=True)
    (theirs,) = torch.autograd.grad(functional.margin_ranking_loss(s, torch.tensor(1.0), torch.tensor(1)), s)
    assert theirs == -1
    assert jax.grad(jaxloss.margin_ranking_loss)(1.0, 1.0, jnp.array(1)) == theirs.item()


def test_arcface_beyond_the_largest_angle():
    """There cos(θ + m) would rise again as θ grows: both take cos θ − m sin m instead, so that a larger angle costs more."""
    angles = np.array([2.8, 2.9, 3.0])
    ours = jaxloss.arcface_loss(np.stack([np.cos(angles), 0 * angles], axis=1), np.zeros(3, int), scale=4.0)
    loss = losses.ArcFaceLoss(2, 3, margin=np.degrees(0.5), scale=4.0, reducer=reducers.DoNothingReducer())
    loss.W = torch.nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), requires_grad=False)
    x = torch.tensor(np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1), dtype=torch.float32)
    np.testing.assert_allclose(ours, loss(x, torch.zeros(3, dtype=torch.long))["loss"]["losses"], rtol=1e-5)
    assert np.all(np.diff(ours) > 0)
