"""Segmentation and boxes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf

# --- Overlap --------------------------------------------------------------------------------------------------------


def pixels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits of three classes and soft targets, which need not sum to 1."""
    return 2 * rng.normal(size=(2, 4, 2, 3)), rng.uniform(size=(2, 4, 2, 3))


def overlap(z: Any, t: Any, from_logits: bool = True, axis: Any = (-3, -2)) -> tuple[Any, ...]:
    """Σ t p, Σ p and Σ t, and the same with squares."""
    p = z
    if from_logits:
        p = jax.nn.sigmoid(z) if z.shape[-1] == 1 else jax.nn.softmax(z, axis=-1)
    t = jnp.asarray(t, p.dtype)
    return tuple(jnp.sum(x, axis=axis) for x in (t * p, p, t, p * p, t * t))


def dice(z: Any, t: Any, smooth: Any = 1.0, squared: bool = False, **kind: Any) -> Any:
    both, p, t, pp, tt = overlap(z, t, **kind)
    return 1 - (2 * both + smooth) / ((pp + tt if squared else p + t) + smooth)


def jaccard(z: Any, t: Any, smooth: Any = 1.0, squared: bool = False, **kind: Any) -> Any:
    both, p, t, pp, tt = overlap(z, t, **kind)
    return 1 - (both + smooth) / ((pp + tt if squared else p + t) - both + smooth)


def tversky(z: Any, t: Any, alpha: Any = 0.3, beta: Any = 0.7, smooth: Any = 1.0, **kind: Any) -> Any:
    both, p, t, _, _ = overlap(z, t, **kind)
    return 1 - (both + smooth) / (both + alpha * (p - both) + beta * (t - both) + smooth)


def generalized_dice(z: Any, t: Any, smooth: Any = 0.0, **kind: Any) -> Any:
    both, p, t, _, _ = overlap(z, t, **kind)
    w = (jnp.min(t, axis=-1, keepdims=True) / t) ** 2
    return 1 - (2 * jnp.sum(w * both, -1) + smooth) / (jnp.sum(w * (p + t), -1) + smooth)


def image(*pixels: Any) -> np.ndarray:
    """One row of pixels of one image, each the list of its classes."""
    return np.asarray(pixels, float)[None, None]


EMPTY = np.zeros((1, 2, 2, 1)), np.zeros((1, 2, 2, 1))
NO_PIXELS = np.zeros((1, 0, 2, 1)), np.zeros((1, 0, 2, 1))
CERTAIN = image([inf, -inf, 0.0], [-inf, 0.0, inf]), image([1, 0, 0], [0, 0, 1])
SAVED = (image([20.0], [-20.0]), image([1.0], [0.0]))  # almost right: 1 less the ratio would be 0
MISSED = (image([-100.0], [-100.0]), image([1.0], [0.0]))
SMALL = 1 / (1 + np.exp(20.0))


def overlap_hard(wrong: float, right: float, gamma: float = 1.0) -> list[Any]:
    """Hard points of the power 1/γ of w/(w + r TP + s): w for a false positive and a false negative, and the weight r."""
    probabilities = {"from_logits": False, "smooth": 0.0}

    def loss(smooth: float) -> list[Any]:
        w = wrong * SMALL
        return [[(w / (w + right * (1 - SMALL) + smooth)) ** (1 / gamma)]]

    return [
        (EMPTY, probabilities, [[0.0]]),
        (EMPTY, {"from_logits": False}, [[0.0]]),
        (NO_PIXELS, {"smooth": 0.0}, [[0.0]]),
        ((np.ones((1, 1, 2, 1)), np.zeros((1, 1, 2, 1))), probabilities, [[1.0]]),
        ((np.ones((1, 1, 2, 1)), np.ones((1, 1, 2, 1))), probabilities, [[0.0]]),
        (SAVED, {"smooth": 0.0}, loss(0.0)),
        (SAVED, {"smooth": 1.0}, loss(1.0)),
        (MISSED, {"smooth": 0.0}, [[1.0]]),
        (CERTAIN, {}, [[0.0, 0.0, 0.0]]),
        ((image([3e38, -3e38, 0.0]), image([1, 0, 0])), {}, [[0.0, 0.0, 0.0]]),
    ]


# --- Lovász ---------------------------------------------------------------------------------------------------------


def lovasz(errors: Any, yes: Any) -> Any:
    """Berman's algorithm 1 on [..., pixels]: errors in descending order, times the steps of the Jaccard loss."""
    order = jnp.argsort(-jax.lax.stop_gradient(errors), axis=-1)
    truth = jnp.take_along_axis(yes, order, axis=-1).astype(errors.dtype)
    size = jnp.sum(truth, axis=-1, keepdims=True)
    union = size + jnp.cumsum(1 - truth, axis=-1)
    loss = 1 - (size - jnp.cumsum(truth, axis=-1)) / union
    steps = jnp.diff(loss, axis=-1, prepend=0)
    return jnp.sum(jnp.take_along_axis(errors, order, axis=-1) * steps, axis=-1)


def flat(x: Any) -> Any:
    """[..., height, width, K] as [..., K, pixels]."""
    return jnp.moveaxis(x.reshape(*x.shape[:-3], -1, x.shape[-1]), -1, -2)


def lovasz_hinge(z: Any, y: Any) -> Any:
    return lovasz(jnp.maximum(1 - (2 * flat(y) - 1) * flat(z), 0), flat(y))


def lovasz_softmax(z: Any, y: Any, classes: str = "present", from_logits: bool = True) -> Any:
    p = flat(jax.nn.softmax(z, axis=-1) if from_logits else z)
    yes = flat(y[..., None] == jnp.arange(z.shape[-1]))
    losses = lovasz(jnp.where(yes, 1 - p, p), yes)
    if classes == "each":
        return losses
    return jnp.mean(losses, axis=-1, where=jnp.any(yes, axis=-1) if classes == "present" else None)


def decided(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 2 * rng.normal(size=(2, 4, 2, 3)), rng.integers(0, 2, size=(2, 4, 2, 3))


def labelled(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Of four classes, the last is absent from the first image."""
    return 2 * rng.normal(size=(2, 4, 2, 4)), np.minimum(rng.integers(0, 4, size=(2, 4, 2)), [[[2]], [[3]]])


# --- Boxes ----------------------------------------------------------------------------------------------------------


def boxes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that overlap, that are one inside the other, and that are apart."""
    low, size = rng.uniform(-1, 1, size=(2, 3, 4, 2)), rng.uniform(0.2, 2, size=(2, 3, 4, 2))
    return tuple(np.concatenate([low, low + size], axis=-1))


def areas(p: Any, t: Any) -> tuple[Any, Any, Any, Any]:
    """1 − I/U, U, the sides of the box around both, and the squared distance of the centres."""
    overlap = jnp.maximum(jnp.minimum(p[..., 2:], t[..., 2:]) - jnp.maximum(p[..., :2], t[..., :2]), 0)
    both = jnp.prod(overlap, axis=-1)
    union = jnp.prod(p[..., 2:] - p[..., :2], axis=-1) + jnp.prod(t[..., 2:] - t[..., :2], axis=-1) - both
    around = jnp.maximum(p[..., 2:], t[..., 2:]) - jnp.minimum(p[..., :2], t[..., :2])
    distance = jnp.sum(jnp.square((p[..., :2] + p[..., 2:] - t[..., :2] - t[..., 2:]) / 2), axis=-1)
    return 1 - both / union, union, around, distance


def giou(p: Any, t: Any) -> Any:
    iou, union, around, _ = areas(p, t)
    return iou + 1 - union / jnp.prod(around, axis=-1)


def diou(p: Any, t: Any) -> Any:
    iou, _, around, distance = areas(p, t)
    return iou + distance / jnp.sum(jnp.square(around), axis=-1)


def ciou(p: Any, t: Any) -> Any:
    iou = areas(p, t)[0]
    angles = [jnp.arctan((x[..., 2] - x[..., 0]) / (x[..., 3] - x[..., 1])) for x in (p, t)]
    v = 4 / jnp.pi**2 * (angles[1] - angles[0]) ** 2
    return diou(p, t) + jax.lax.stop_gradient(v / (iou + v)) * v


UNIT_BOX = [0.0, 0.0, 1.0, 1.0]
POINT = [0.5, 0.5, 0.5, 0.5]


def box_hard(of: Any) -> list[Any]:
    """Hard points; `of` takes 1 − I/U, C − U over C, d² over c², and v."""

    def ciou_of(iou: float, v: float) -> float:
        return v * v / (iou + v) if v else 0.0

    def point(p: list[float], t: list[float], iou: float, empty: float, distance: float, v: float = 0.0) -> Any:
        return ([p], [t]), {}, [iou + of({"giou": empty, "diou": distance, "ciou": distance + ciou_of(iou, v)})]

    e, near = 2.0**-23, 1 + 2.0**-23
    return [
        point(UNIT_BOX, UNIT_BOX, 0.0, 0.0, 0.0),
        point(POINT, POINT, 0.0, 0.0, 0.0),
        point(POINT, UNIT_BOX, 1.0, 0.0, 0.0),
        point([0.0, 0.0, 1.0, 0.0], UNIT_BOX, 1.0, 0.0, 0.125, 0.25),
        point([0.0, 0.0, 0.0, 0.0], [3.0, 4.0, 3.0, 4.0], 1.0, 1.0, 1.0),
        point([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], 0.0, 0.0, 0.0),  # inverted, and a point at its first corner
        point(UNIT_BOX, [1.0, 0.0, 2.0, 1.0], 1.0, 0.0, 1 / 5),  # they touch
        point([0.0, 0.0, near, 1.0], UNIT_BOX, e / near, 0.0, e * e / 4 / (1 + near**2), (2 * e / np.pi) ** 2 / 4),
        point([e, e, near, near], UNIT_BOX, (4 * e - 2 * e * e) / (1 + 2 * e - e * e), 2 * (e / near) ** 2, (e / near) ** 2),
        point([0.0, 0.0, 1e-15, 1e-15], [0.0, 0.0, 2e-15, 1e-15], 0.5, 0.0, 0.05, (np.arctan(1 / 3) * 2 / np.pi) ** 2),
        point([0.0, 0.0, 1e25, 1e25], [0.0, 0.0, 2e25, 1e25], 0.5, 0.0, 0.05, (np.arctan(1 / 3) * 2 / np.pi) ** 2),
    ]


OVERLAP: dict[str, Any] = {"event": 1, "among": 2}
EACH = np.array([0.5, 1.0, 2.0])
WEIGHTS = {"alpha": 0.6, "beta": EACH, "smooth": 0.5}

CASES = [
    Case(
        jaxloss.dice_loss,
        dice,
        pixels,
        [{}, {"smooth": 0.0, "squared": True}, {"axis": (1, 2), "smooth": EACH, "squared": True}],
        hard=overlap_hard(wrong=2.0, right=2.0),
        **OVERLAP,
    ),
    Case(
        jaxloss.jaccard_loss,
        jaccard,
        pixels,
        [{}, {"smooth": 0.0}, {"axis": (1, 2), "smooth": EACH, "squared": True}],
        hard=overlap_hard(wrong=2.0, right=1.0),
        **OVERLAP,
    ),
    Case(
        jaxloss.tversky_loss,
        tversky,
        pixels,
        [{}, {"axis": (1, 2), **WEIGHTS}],
        hard=overlap_hard(wrong=1.0, right=1.0),
        **OVERLAP,
    ),
    Case(
        jaxloss.focal_tversky_loss,
        lambda z, t, gamma=4 / 3, **options: tversky(z, t, **options) ** (1 / gamma),
        pixels,
        [{}, {**WEIGHTS, "gamma": 0.7}],
        hard=overlap_hard(wrong=1.0, right=1.0, gamma=float(np.float32(4 / 3))),
        **OVERLAP,
    ),
    Case(
        jaxloss.generalized_dice_loss,
        generalized_dice,
        pixels,
        [{}, {"smooth": 0.5}],
        hard=[
            (EMPTY, {"from_logits": False}, [0.0]),
            (NO_PIXELS, {}, [0.0]),
            ((np.ones((1, 1, 2, 1)), np.zeros((1, 1, 2, 1))), {"from_logits": False}, [1.0]),
            (SAVED, {}, [2 * SMALL / (2 * SMALL + 2 * (1 - SMALL))]),
            # the second class is not there, and weighs as much as the first
            ((image([0.75, 0.25]), image([1, 0])), {"from_logits": False}, [0.25]),
            (CERTAIN, {}, [0.0]),
            # weights of 1e-30² are below what float32 holds
            ((image([0.5, 0.5]), image([1.0, 1e-30])), {"from_logits": False}, [1.0]),
        ],
        **OVERLAP,
    ),
    Case(
        jaxloss.lovasz_hinge_loss,
        lovasz_hinge,
        decided,
        hard=[
            # with no yes, the largest error; with nothing but yes, the mean
            ((image([3.0], [0.5], [-2.0]), np.zeros((1, 1, 3, 1), int)), {}, [[4.0]]),
            ((image([3.0], [0.5], [-2.0]), np.ones((1, 1, 3, 1), int)), {}, [[3.5 / 3]]),
            # equal errors
            ((image([0.0], [0.0], [0.0]), image([1], [0], [1]) > 0), {}, [[1.0]]),
            ((image([1.0], [-1.0], [5.0]), image([1], [0], [1]) > 0), {}, [[0.0]]),
            ((image([inf], [-inf], [0.0]), image([1], [0], [1]) > 0), {}, [[0.5]]),
            ((image([-inf], [0.0]), image([1], [1]) > 0), {}, [[inf]]),
            ((np.zeros((1, 0, 2, 1)), np.zeros((1, 0, 2, 1), int)), {}, [[0.0]]),
        ],
        second=False,
        lean=False,  # it would have to sort once more
        **OVERLAP,
    ),
    Case(
        jaxloss.lovasz_softmax_loss,
        lovasz_softmax,
        labelled,
        [{}, {"classes": "each"}, {"classes": "all"}],
        hard=[
            ((image([20.0, 0.0], [0.0, 20.0]), np.array([[[0, 1]]])), {}, [SMALL]),
            ((image([0.0, 0.0], [0.0, 0.0]), np.array([[[0, 1]]])), {}, [0.5]),
            ((image([0.0, 0.0], [0.0, 0.0]), np.array([[[0, 0]]])), {}, [0.5]),
            ((image([0.75, 0.25]), np.array([[[0]]])), {"from_logits": False, "classes": "each"}, [[0.25, 0.25]]),
            ((image([1.0, 0.0, 0.0]), np.array([[[2]]])), {"from_logits": False, "classes": "all"}, [2 / 3]),
            ((image([inf, -inf, 0.0], [-inf, 0.0, 1.0]), np.array([[[0, 2]]])), {}, [1 / (1 + np.exp(1.0)) / 2]),
            ((np.zeros((1, 0, 2, 2)), np.zeros((1, 0, 2), int)), {}, [0.0]),
        ],
        lean=False,  # it would have to sort once more
        **OVERLAP,
    ),
    Case(jaxloss.iou_loss, lambda p, t: areas(p, t)[0], boxes, hard=box_hard(lambda terms: 0.0), event=1, lean=False),
    *(
        Case(loss, naive, boxes, hard=box_hard(lambda terms, name=naive.__name__: terms[name]), event=1, lean=False)
        for loss, naive in [(jaxloss.giou_loss, giou), (jaxloss.diou_loss, diou), (jaxloss.ciou_loss, ciou)]
    ),
]
