"""What the losses are called elsewhere, for an AttributeError that says the name here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Read when a name is not found, and then alone: `import jaxloss` does not load this file.

# Names of torch, keras, optax, TensorFlow and papers, as `_key` writes them.
_ELSEWHERE = {
    "bce": ("sigmoid_binary_cross_entropy", "binary_cross_entropy"),
    "bcewithlogits": ("sigmoid_binary_cross_entropy",),
    "binarycrossentropywithlogits": ("sigmoid_binary_cross_entropy",),
    "binarydice": ("dice_loss",),
    "binaryfocalcrossentropy": ("sigmoid_focal_loss",),
    "categoricalfocalcrossentropy": ("softmax_focal_loss",),
    "categoricalhinge": ("multiclass_hinge_loss",),
    "convexkldivergence": ("generalized_kl_divergence",),
    "crossentropy": ("softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy"),
    "focal": ("sigmoid_focal_loss", "softmax_focal_loss"),
    "hingeembedding": ("contrastive_loss",),
    "jsd": ("js_divergence",),
    "kl": ("kl_divergence",),
    "kldiv": ("kl_divergence",),
    "l1": ("absolute_error",),
    "l2": ("l2_loss", "squared_error"),
    "linearcrossentropy": ("mean_linear_softmax_cross_entropy", "linear_softmax_cross_entropy"),
    "lpips": ("perceptual_loss",),
    "mae": ("absolute_error",),
    "mape": ("absolute_percentage_error",),
    "meanabsoluteerror": ("absolute_error",),
    "meanabsolutepercentageerror": ("absolute_percentage_error",),
    "meansquarederror": ("squared_error",),
    "meansquaredlogarithmicerror": ("squared_log_error",),
    "mmd": ("maximum_mean_discrepancy",),
    "mse": ("squared_error",),
    "msle": ("squared_log_error",),
    "multiclassgeneralizeddice": ("generalized_dice_loss",),
    "multilabelmargin": ("pairwise_hinge_loss",),
    "multilabelsoftmargin": ("sigmoid_binary_cross_entropy",),
    "multimargin": ("pairwise_hinge_loss", "multiclass_hinge_loss"),
    "nll": ("nll_with_integer_labels",),
    "nllloss2d": ("nll_with_integer_labels",),
    "pinball": ("quantile_loss",),
    "poisson": ("poisson_nll",),
    "rnnt": ("transducer_loss",),
    "safesoftmaxcrossentropy": ("softmax_cross_entropy",),
    "sigmoidcrossentropy": ("sigmoid_binary_cross_entropy",),
    "sigmoidcrossentropywithlogits": ("sigmoid_binary_cross_entropy",),
    "softmargin": ("sigmoid_binary_cross_entropy",),
    "softmaxcrossentropywithlogits": ("softmax_cross_entropy",),
    "sparsecategoricalcrossentropy": (
        "softmax_cross_entropy_with_integer_labels",
        "categorical_cross_entropy_with_integer_labels",
    ),
    "sparsesoftmaxcrossentropywithlogits": ("softmax_cross_entropy_with_integer_labels",),
    "supcon": ("supervised_contrastive_loss",),
    "triplet": ("triplet_margin_loss",),
    "tripletmarginwithdistance": ("triplet_margin_loss",),
}


def not_found(name: str, public: Iterable[str]) -> str:
    """The sentence of an AttributeError, with the names that may be meant."""
    near = () if name.startswith("_") else _near(name, public)
    hint = "; did you mean " + " or ".join(f"jaxloss.{x}" for x in near) + "?" if near else ""
    return f"module 'jaxloss' has no attribute {name!r}{hint}"


def _near(name: str, public: Iterable[str]) -> tuple[str, ...]:
    """The public names for what is meant: one written in another way, one of another library, or those spelled alike."""
    own, key = {_key(x): x for x in public}, _key(name)
    if key in own:
        return (own[key],)
    if key in _ELSEWHERE:
        return _ELSEWHERE[key]
    return tuple(own[x] for x in difflib.get_close_matches(key, own, n=2, cutoff=0.75))


def _key(name: str) -> str:
    """A name in small letters, without underscores and without the word loss at its end."""
    return name.lower().replace("_", "").removesuffix("loss")
