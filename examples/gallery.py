"""Draws value and gradient of every elementwise and margin loss, from the functions themselves: `make gallery`.

One picture a family, in docs/gallery/. Each picture carries the numbers it was drawn from, at a few points of each panel,
in its metadata: a test compares them with what the losses give today.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plots
from jax import Array
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import jaxloss

FOLDER = Path(__file__).parents[1] / "docs" / "gallery"
COLUMNS = 4
WIDTH = 27  # of a title, in letters
KEY = "Curves"  # of the metadata


@dataclass(frozen=True)
class Panel:
    """A loss as a function of one number."""

    name: str
    options: str
    curve: Callable[[Array], Array]
    low: float
    high: float
    x: str

    def at(self, points: Any) -> tuple[np.ndarray, np.ndarray]:
        """Value and gradient."""
        value, slope = jax.jit(jax.vmap(jax.value_and_grad(self.curve)))(jnp.asarray(points, jnp.float32))
        return np.asarray(value), np.asarray(slope)

    def numbers(self) -> list[list[float]]:
        """Values and gradients at a few points, none of which is a kink."""
        points = self.low + (self.high - self.low) * (np.arange(7) + 0.37) / 7
        return [[float(f"{number:.6g}") for number in numbers] for numbers in self.at(points)]


def words(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value:g}" for key, value in options.items())


def panel(loss: Callable[..., Array], *args: Any, x: str, low: float, high: float, **options: Any) -> Panel:
    """Of the loss by its first argument."""
    return Panel(loss.__name__, words(options), lambda s: loss(s, *args, **options), low, high, x)


residual = partial(panel, x="residual p − y", low=-3, high=3)
positive = partial(panel, x="prediction, at y = 3")
logit = partial(panel, x="logit z, at y = 1", low=-6, high=6)
score = partial(panel, x="score f, at y = 1", low=-3, high=3)


def among(loss: Callable[..., Array], *args: Any, **options: Any) -> Panel:
    """Of three classes, by the score of the right one; the two others are at 0."""
    x = "score of the right class"
    return Panel(loss.__name__, words(options), lambda s: loss(jnp.array([s, 0.0, 0.0]), 0, *args, **options), -6, 6, x)


def curve(loss: Callable[..., Array], function: Callable[[Array], Array], x: str) -> Panel:
    return Panel(loss.__name__, "", function, -4, 4, x)


def discriminator(loss: Callable[..., Array]) -> Panel:
    return curve(loss, lambda s: loss(s, -s), "real at s, fake at −s")


def generator(loss: Callable[..., Array]) -> Panel:
    return curve(loss, loss, "fake at s")


def families() -> dict[str, list[Panel]]:
    zero, one, three = jnp.float32(0), jnp.float32(1), jnp.float32(3)
    return {
        "regression": [
            residual(jaxloss.squared_error, zero),
            residual(jaxloss.l2_loss, zero),
            residual(jaxloss.absolute_error, zero),
            residual(jaxloss.huber_loss, zero, delta=1.0),
            residual(jaxloss.smooth_l1_loss, zero, beta=0.5),
            residual(jaxloss.log_cosh, zero),
            residual(jaxloss.pseudo_huber_loss, zero, delta=1.0),
            residual(jaxloss.charbonnier_loss, zero, epsilon=0.1),
            residual(jaxloss.quantile_loss, zero, quantile=0.8),
            residual(jaxloss.expectile_loss, zero, tau=0.8),
            residual(jaxloss.epsilon_insensitive_loss, zero, epsilon=0.5),
            residual(jaxloss.robust_loss, zero, alpha=-2.0),
            positive(jaxloss.squared_log_error, three, low=0.3, high=6),
            positive(jaxloss.absolute_percentage_error, three, low=0.3, high=6),
        ],
        "cross_entropy": [
            logit(jaxloss.sigmoid_binary_cross_entropy, one),
            logit(jaxloss.sigmoid_binary_cross_entropy, one, label_smoothing=0.1),
            panel(jaxloss.binary_cross_entropy, one, x="probability p, at y = 1", low=0.2, high=1),
            logit(jaxloss.sigmoid_focal_loss, one, gamma=2.0),
            logit(jaxloss.asymmetric_loss, zero, x="logit z, at y = 0"),
            among(jaxloss.softmax_cross_entropy_with_integer_labels),
            among(jaxloss.softmax_cross_entropy_with_integer_labels, label_smoothing=0.1),
            among(jaxloss.softmax_focal_loss_with_integer_labels, gamma=2.0),
            among(jaxloss.poly_loss_cross_entropy, epsilon=2.0),
            among(jaxloss.logit_adjusted_cross_entropy, jnp.log(jnp.array([0.05, 0.05, 0.9]))),
            among(jaxloss.generalized_cross_entropy, q=0.7),
            among(jaxloss.symmetric_cross_entropy, alpha=0.1),
        ],
        "margins": [
            score(jaxloss.hinge_loss, one),
            score(jaxloss.squared_hinge_loss, one),
            score(jaxloss.modified_huber_loss, one),
            score(jaxloss.perceptron_loss, one),
            score(jaxloss.sparsemax_loss, one),
            among(jaxloss.multiclass_hinge_loss),
            among(jaxloss.multiclass_perceptron_loss),
            among(jaxloss.multiclass_sparsemax_loss),
        ],
        "likelihoods": [
            residual(jaxloss.gaussian_nll, zero, one),
            residual(jaxloss.laplace_nll, zero, one),
            residual(jaxloss.student_t_nll, zero, one, one),
            residual(jaxloss.gaussian_crps, zero, one),
            panel(jaxloss.von_mises_nll, zero, one, x="angle p − y", low=-np.pi, high=np.pi),
            positive(jaxloss.poisson_nll, three, x="log-rate, at y = 3", low=-1, high=3),
            positive(jaxloss.negative_binomial_nll, three, three, low=0.5, high=10),
            positive(jaxloss.gamma_nll, three, three, low=1.2, high=10),
            positive(jaxloss.tweedie_deviance, three, power=1.5, low=1, high=10),
            panel(jaxloss.beta_nll, jnp.float32(0.3), three, x="prediction, at y = 0.3", low=0.1, high=0.8),
        ],
        "adversarial": [
            discriminator(jaxloss.gan_minimax_discriminator_loss),
            generator(jaxloss.gan_minimax_generator_loss),
            generator(jaxloss.gan_non_saturating_generator_loss),
            discriminator(jaxloss.gan_least_squares_discriminator_loss),
            generator(jaxloss.gan_least_squares_generator_loss),
            discriminator(jaxloss.gan_hinge_discriminator_loss),
            generator(jaxloss.gan_hinge_generator_loss),
            discriminator(jaxloss.gan_wasserstein_critic_loss),
            generator(jaxloss.gan_wasserstein_generator_loss),
            discriminator(jaxloss.gan_relativistic_discriminator_loss),
            curve(
                jaxloss.gan_relativistic_generator_loss,
                lambda s: jaxloss.gan_relativistic_generator_loss(zero, s),
                "fake at s, real at 0",
            ),
        ],
        "pairs_and_latents": [
            residual(jaxloss.bpr_loss, zero, x="score s₊ − s₋"),
            residual(jaxloss.margin_ranking_loss, zero, one, margin=1.0, x="score s₁ − s₂, at y = 1"),
            residual(jaxloss.gaussian_kl_divergence, zero, x="mean, at log-variance 0"),
            curve(
                jaxloss.gaussian_kl_divergence, lambda s: jaxloss.gaussian_kl_divergence(zero, s), "log-variance, at mean 0"
            ),
            Panel(
                "negative_elbo",
                "free_bits=1",
                lambda s: jaxloss.negative_elbo(zero, s[None], free_bits=1.0),
                0,
                3,
                "divergence of one latent",
            ),
        ],
    }


def title(name: str) -> str:
    """On two lines where it is long."""
    if len(name) <= WIDTH:
        return name
    end = name.rindex("_", 0, WIDTH) + 1
    return f"{name[:end]}\n{name[end:]}"


def draw(panels: list[Panel], path: Path) -> Path:
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plots.plt.subplots(rows, COLUMNS, figsize=(16, 4 * rows + 0.8), layout="constrained")
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for each, ax in zip(panels, axes.flat, strict=False):
        points = np.linspace(each.low, each.high, 1001)
        value, gradient = each.at(points)
        ax.plot(points, value, color=plots.BLUE, linewidth=3, label="value")
        ax.plot(points, gradient, color=plots.VERMILLION, linestyle="--", linewidth=3, label="gradient")
        ax.set_title("\n".join(filter(None, (title(each.name), each.options))))
        ax.set_xlabel(each.x, labelpad=1)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=20, frameon=False)
    curves = json.dumps([{"name": each.name, "options": each.options, "numbers": each.numbers()} for each in panels])
    figure.set_dpi(80)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB").quantize(64)  # a quarter of the bytes
    text = PngInfo()
    text.add_text(KEY, curves)
    picture.save(path, pnginfo=text, optimize=True)
    plots.plt.close(figure)
    return path


def draw_all(folder: Path) -> list[Path]:
    """One picture a family."""
    folder.mkdir(parents=True, exist_ok=True)
    return [draw(panels, folder / f"{family}.png") for family, panels in families().items()]


def main() -> None:
    for path in draw_all(FOLDER):
        print(f"docs/gallery/{path.name}")


if __name__ == "__main__":
    main()
