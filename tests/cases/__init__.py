"""One row a public loss: the loss, its naive formula, its domain, its options and its hard points.

The naive formula is the textbook's, written in jax.numpy and only ever evaluated in float64: it is the reference, and
its derivatives by JAX are the reference derivatives. Data are drawn in float64 and then rounded to the dtype under test.
"""

from cases import (
    adversarial,
    contrastive,
    cross_entropy,
    divergence,
    image,
    language,
    likelihood,
    margin,
    metric,
    mining,
    ranking,
    regression,
    segmentation,
    self_supervised,
    sequence,
)
from cases.case import Case, differentiable, rounded

__all__ = ["CASES", "OTHERS", "Case", "differentiable", "rounded"]

CASES: list[Case] = [
    *regression.CASES,
    *cross_entropy.CASES,
    *margin.CASES,
    *sequence.CASES,
    *likelihood.CASES,
    *ranking.CASES,
    *divergence.CASES,
    *segmentation.CASES,
    *contrastive.CASES,
    *self_supervised.CASES,
    *metric.CASES,
    *mining.CASES,
    *adversarial.CASES,
    *image.CASES,
    *language.CASES,
]

# Public functions that are no losses of arrays. Each has tests of its own.
OTHERS = {
    "autodiff",
    "ctc_forced_alignment",
    "ctc_greedy_decode",
    "ctc_loss_with_forward_probs",
    "debug_checks",
    "gradient_penalty",
    "make_fenchel_young_loss",
    "mean",
    "mean_linear_softmax_cross_entropy",
    "mean_loss",
    "perceptual_loss",
    "r1_penalty",
    "smooth_labels",
    "token_log_probs",
}
