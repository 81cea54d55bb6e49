"""Loss functions for JAX that are right everywhere: pure, jittable, one number an example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxloss._adjusted import (
    logit_adjusted_cross_entropy,
    poly_loss_cross_entropy,
)
from jaxloss._adversarial import (
    gan_hinge_discriminator_loss,
    gan_hinge_generator_loss,
    gan_least_squares_discriminator_loss,
    gan_least_squares_generator_loss,
    gan_minimax_discriminator_loss,
    gan_minimax_generator_loss,
    gan_non_saturating_generator_loss,
    gan_relativistic_discriminator_loss,
    gan_relativistic_generator_loss,
    gan_wasserstein_critic_loss,
    gan_wasserstein_generator_loss,
)
from jaxloss._angular import arcface_loss
from jaxloss._contrastive import (
    clip_loss,
    info_nce_loss,
    ntxent,
    siglip_loss,
    supervised_contrastive_loss,
)
from jaxloss._counts import (
    beta_nll,
    gamma_nll,
    negative_binomial_nll,
    poisson_nll,
    tweedie_deviance,
)
from jaxloss._cross_entropy import (
    binary_cross_entropy,
    categorical_cross_entropy,
    categorical_cross_entropy_with_integer_labels,
    nll_with_integer_labels,
    sigmoid_binary_cross_entropy,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from jaxloss._ctc import (
    ctc_loss,
    ctc_loss_with_forward_probs,
)
from jaxloss._ctc_paths import (
    ctc_forced_alignment,
    ctc_greedy_decode,
)
from jaxloss._detection import (
    ciou_loss,
    diou_loss,
    giou_loss,
    iou_loss,
)
from jaxloss._distillation import (
    softmax_kl_divergence,
)
from jaxloss._divergence import (
    alpha_divergence,
    generalized_kl_divergence,
    hellinger_distance,
    js_divergence,
    kl_divergence,
    kl_divergence_with_log_targets,
)
from jaxloss._focal import (
    asymmetric_loss,
    sigmoid_focal_loss,
    softmax_focal_loss,
    softmax_focal_loss_with_integer_labels,
)
from jaxloss._image import (
    gradient_difference_loss,
    perceptual_loss,
    style_loss,
    total_variation_loss,
)
from jaxloss._language import (
    linear_softmax_cross_entropy,
    linear_softmax_kl_divergence,
    mean_linear_softmax_cross_entropy,
    token_entropy,
    token_log_probs,
)
from jaxloss._likelihood import (
    gaussian_crps,
    gaussian_nll,
    laplace_nll,
    student_t_nll,
    von_mises_nll,
)
from jaxloss._lovasz import (
    lovasz_hinge_loss,
    lovasz_softmax_loss,
)
from jaxloss._margin import (
    hinge_loss,
    make_fenchel_young_loss,
    modified_huber_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multiclass_sparsemax_loss,
    perceptron_loss,
    sparsemax_loss,
    squared_hinge_loss,
)
from jaxloss._metric import (
    contrastive_loss,
    cosine_distance,
    cosine_embedding_loss,
    cosine_similarity,
    margin_ranking_loss,
    triplet_margin_loss,
)
from jaxloss._mining import (
    batch_hard_triplet_loss,
    circle_loss,
    multi_similarity_loss,
    n_pairs_loss,
)
from jaxloss._noisy import (
    generalized_cross_entropy,
    symmetric_cross_entropy,
)
from jaxloss._penalty import (
    gradient_penalty,
    r1_penalty,
)
from jaxloss._ranking import (
    approx_ndcg_loss,
    bpr_loss,
    list_mle_loss,
    pairwise_hinge_loss,
    pairwise_logistic_loss,
    ranking_softmax_loss,
)
from jaxloss._reduction import mean, mean_loss
from jaxloss._reduction import sum as sum  # not in __all__: a star import is not to replace the builtin
from jaxloss._regression import (
    absolute_error,
    absolute_percentage_error,
    epsilon_insensitive_loss,
    expectile_loss,
    huber_loss,
    l2_loss,
    log_cosh,
    quantile_loss,
    smooth_l1_loss,
    squared_error,
    squared_log_error,
)
from jaxloss._robust import (
    charbonnier_loss,
    pseudo_huber_loss,
    robust_loss,
)
from jaxloss._rules import autodiff
from jaxloss._segmentation import (
    dice_loss,
    focal_tversky_loss,
    generalized_dice_loss,
    jaccard_loss,
    tversky_loss,
)
from jaxloss._self_supervised import (
    barlow_twins_loss,
    byol_loss,
    dino_loss,
    vicreg_loss,
)
from jaxloss._soft_dtw import (
    soft_dtw_divergence,
    soft_dtw_loss,
)
from jaxloss._ssim import (
    ms_ssim_loss,
    ssim_loss,
)
from jaxloss._transducer import transducer_loss
from jaxloss._transport import (
    energy_distance,
    maximum_mean_discrepancy,
    wasserstein_distance_1d,
)
from jaxloss._values import debug_checks
from jaxloss._variational import (
    gaussian_kl_divergence,
    negative_elbo,
)

__version__ = "0.1.0"

__all__ = [
    "absolute_error",
    "absolute_percentage_error",
    "alpha_divergence",
    "approx_ndcg_loss",
    "arcface_loss",
    "asymmetric_loss",
    "autodiff",
    "barlow_twins_loss",
    "batch_hard_triplet_loss",
    "beta_nll",
    "binary_cross_entropy",
    "bpr_loss",
    "byol_loss",
    "categorical_cross_entropy",
    "categorical_cross_entropy_with_integer_labels",
    "charbonnier_loss",
    "ciou_loss",
    "circle_loss",
    "clip_loss",
    "contrastive_loss",
    "cosine_distance",
    "cosine_embedding_loss",
    "cosine_similarity",
    "ctc_forced_alignment",
    "ctc_greedy_decode",
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "debug_checks",
    "dice_loss",
    "dino_loss",
    "diou_loss",
    "energy_distance",
    "epsilon_insensitive_loss",
    "expectile_loss",
    "focal_tversky_loss",
    "gamma_nll",
    "gan_hinge_discriminator_loss",
    "gan_hinge_generator_loss",
    "gan_least_squares_discriminator_loss",
    "gan_least_squares_generator_loss",
    "gan_minimax_discriminator_loss",
    "gan_minimax_generator_loss",
    "gan_non_saturating_generator_loss",
    "gan_relativistic_discriminator_loss",
    "gan_relativistic_generator_loss",
    "gan_wasserstein_critic_loss",
    "gan_wasserstein_generator_loss",
    "gaussian_crps",
    "gaussian_kl_divergence",
    "gaussian_nll",
    "generalized_cross_entropy",
    "generalized_dice_loss",
    "generalized_kl_divergence",
    "giou_loss",
    "gradient_difference_loss",
    "gradient_penalty",
    "hellinger_distance",
    "hinge_loss",
    "huber_loss",
    "info_nce_loss",
    "iou_loss",
    "jaccard_loss",
    "js_divergence",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "l2_loss",
    "laplace_nll",
    "linear_softmax_cross_entropy",
    "linear_softmax_kl_divergence",
    "list_mle_loss",
    "log_cosh",
    "logit_adjusted_cross_entropy",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "make_fenchel_young_loss",
    "margin_ranking_loss",
    "maximum_mean_discrepancy",
    "mean",
    "mean_linear_softmax_cross_entropy",
    "mean_loss",
    "modified_huber_loss",
    "ms_ssim_loss",
    "multi_similarity_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "n_pairs_loss",
    "negative_binomial_nll",
    "negative_elbo",
    "nll_with_integer_labels",
    "ntxent",
    "pairwise_hinge_loss",
    "pairwise_logistic_loss",
    "perceptron_loss",
    "perceptual_loss",
    "poisson_nll",
    "poly_loss_cross_entropy",
    "pseudo_huber_loss",
    "quantile_loss",
    "r1_penalty",
    "ranking_softmax_loss",
    "robust_loss",
    "siglip_loss",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "smooth_labels",
    "soft_dtw_divergence",
    "soft_dtw_loss",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_focal_loss",
    "softmax_focal_loss_with_integer_labels",
    "softmax_kl_divergence",
    "sparsemax_loss",
    "squared_error",
    "squared_hinge_loss",
    "squared_log_error",
    "ssim_loss",
    "student_t_nll",
    "style_loss",
    "supervised_contrastive_loss",
    "symmetric_cross_entropy",
    "token_entropy",
    "token_log_probs",
    "total_variation_loss",
    "transducer_loss",
    "triplet_margin_loss",
    "tversky_loss",
    "tweedie_deviance",
    "vicreg_loss",
    "von_mises_nll",
    "wasserstein_distance_1d",
]

if not TYPE_CHECKING:  # mypy would take any name for one that is there

    def __getattr__(name):
        from jaxloss._names import not_found

        raise AttributeError(not_found(name, __all__))
