"""The pictures of the demo. Colours are those of Okabe and Ito, which colour-blind readers can tell apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
from jax import Array

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BLUE, VERMILLION, GREEN, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

plt.rcParams |= {
    "font.size": 17,
    "axes.titlesize": 17,
    "legend.fontsize": 16,
    "lines.linewidth": 2.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.12,
    "savefig.facecolor": "white",
}


def save(figure: Any, path: Path) -> Path:
    figure.savefig(path)
    plt.close(figure)
    return path


def training_curves(path: Path, classifiers: Sequence[Any], regressors: Sequence[Any]) -> Path:
    """Each run's own loss on what it trained on, and its figure on the clean test set, by epoch."""
    figure, axes = plt.subplots(2, 2, figsize=(16, 13), layout="constrained")
    rows = (
        ("Digits", classifiers, "accuracy", "accuracy on the clean test set"),
        ("Diabetes", regressors, "MAE", "mean absolute error on the clean test set"),
    )
    for (data, runs, metric, label), (left, right) in zip(rows, axes, strict=True):
        for run, colour, line in zip(runs, PALETTE, LINES, strict=True):
            epochs = np.arange(1, len(run.history) + 1)
            left.plot(epochs, [x["loss"] for x in run.history], color=colour, linestyle=line)
            name = f"{run.name}, {run.trained_on}"
            right.plot(epochs, [x[metric] for x in run.history], color=colour, linestyle=line, label=name)
        left.set(title=f"{data}: training loss, each its own", xlabel="epoch", yscale="log")
        right.set(title=f"{data}: {label}", xlabel="epoch")
        right.legend()
    axes[0, 1].set_ylim(0.7, 1)
    return save(figure, path)


def reliability(path: Path, runs: Sequence[tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]) -> Path:
    """How often a prediction is right, against how sure the classifier was of it; few examples make a small mark."""
    figure, axes = plt.subplots(figsize=(11, 9.5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="black", linewidth=1.5)
    axes.text(0.05, 0.6, "too cautious", style="italic")
    axes.text(0.3, 0.1, "too sure", style="italic")
    for (name, (confidence, accuracy, count)), colour, line, marker in zip(runs, PALETTE, LINES, MARKERS, strict=True):
        filled = count >= 5
        axes.plot(confidence[filled], accuracy[filled], color=colour, linestyle=line)
        axes.scatter(confidence[filled], accuracy[filled], 40 + 15 * np.sqrt(count[filled]), color=colour, marker=marker)
        axes.plot([], [], color=colour, linestyle=line, marker=marker, markersize=9, label=name)
    axes.set(
        title="Calibration on the clean digits (bins of 5 examples or more)",
        xlabel="confidence: probability of the predicted class",
        ylabel="accuracy",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
    )
    axes.legend(loc="lower right")
    return save(figure, path)


def alignments(path: Path, columns: Array, logits: Array, labels: Array, alignment: Array) -> Path:
    """Strings as the network sees them, and below each what it says column by column, with the best alignment in dots."""
    count = len(columns)
    figure, axes = plt.subplots(2 * count, 1, figsize=(15, 6 * count), layout="constrained", height_ratios=(2, 3) * count)
    for i in range(count):
        image, curves = axes[2 * i], axes[2 * i + 1]
        frames = np.arange(columns.shape[1])
        image.imshow(np.asarray(columns[i]).T, cmap="gray_r", aspect="auto", extent=(-0.5, len(frames) - 0.5, 8, 0))
        image.set(title="the string " + " ".join(str(k) for k in labels[i]), yticks=[], xticks=[])
        image.grid(visible=False)
        probabilities = np.asarray(jax.nn.softmax(logits[i]))
        curves.plot(frames, probabilities[:, -1], color="#999999", linestyle=":", label="blank")
        for n, (k, colour) in enumerate(zip(labels[i], PALETTE, strict=False)):
            curves.plot(frames, probabilities[:, k], color=colour, linestyle=LINES[n % len(LINES)], label=f"{k}")
            here = np.flatnonzero(np.asarray(alignment[i]) == n)
            curves.plot(here, probabilities[here, k], MARKERS[n % len(MARKERS)], color=colour, markersize=11)
        curves.set(xlabel="column of pixels", ylabel="probability", xlim=(-0.5, len(frames) - 0.5), ylim=(-0.03, 1.06))
        curves.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return save(figure, path)


def losses_and_memory(path: Path, results: dict[str, tuple[np.ndarray, int]]) -> Path:
    """The loss of each run by step, one over the other, and the temporary memory of a step."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(16, 7), layout="constrained", width_ratios=(3, 2))
    for i, (name, (losses, memory)) in enumerate(results.items()):
        left.plot(losses, color=PALETTE[i], linestyle=LINES[i], linewidth=6 - 3 * i, label=name)
        right.bar(i, memory / 1e6, 0.6, color=PALETTE[i])
        right.text(i, memory / 1e6, f"{memory / 1e6:.0f} MB", ha="center", va="bottom")
    left.set(title="Training loss", xlabel="step", ylabel="nats a word")
    left.legend()
    right.set(title="Temporary memory of a training step", ylabel="MB", xticks=range(len(results)))
    right.margins(y=0.1)
    right.grid(visible=False, axis="x")
    right.set_xticklabels([name.replace(", ", ",\n").replace("_cross", "\n_cross") for name in results])
    return save(figure, path)
