"""Train on real data with jaxloss and look at what each loss does: `make demo`.

A classifier of handwritten digits, on clean and on partly wrong labels, and a regressor of disease progression, on
clean and on partly wrong targets. Figures go to the screen, pictures to out/.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gallery
import jax
import jax.numpy as jnp
import numpy as np
import optax
import plots
from jax import Array
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn import datasets
from sklearn.model_selection import train_test_split

import jaxloss

Loss = Callable[[Array, Array], Array]
Params = list[tuple[Array, Array]]
Metrics = dict[str, float]


@dataclass(frozen=True)
class Data:
    """One data set: the model sees `train`, the figures are of `test`."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """What the runs of one table share."""

    layers: tuple[int, ...]
    predict: Callable[[Params, Array], Array]
    measure: Callable[[Array, np.ndarray], Metrics]
    epochs: int
    batch: int
    learning_rate: float


@dataclass
class Run:
    """One training run and what came of it."""

    name: str
    trained_on: str
    loss: Loss
    data: Data
    history: list[Metrics] = field(default_factory=list)
    outputs: Any = None


# --- the model, in plain JAX


def initial(key: Array, layers: tuple[int, ...]) -> Params:
    keys = jax.random.split(key, len(layers) - 1)
    sizes = zip(keys, layers[:-1], layers[1:], strict=True)
    return [(jax.random.normal(k, (m, n)) * np.sqrt(2 / m), jnp.zeros(n)) for k, m, n in sizes]


def network(params: Params, x: Array, dtype: Any) -> Array:
    """A perceptron that computes in `dtype`, from parameters in float32."""
    x = x.astype(dtype)
    for i, (weight, bias) in enumerate(params):
        x = x @ weight.astype(dtype) + bias.astype(dtype)
        if i < len(params) - 1:
            x = jax.nn.relu(x)
    return x


def classify(params: Params, x: Array) -> Array:
    return network(params, x, jnp.bfloat16)


def regress(params: Params, x: Array) -> Array:
    return network(params, x, jnp.float32)[:, 0]


# --- training


def batches(data: tuple[np.ndarray, np.ndarray], size: int, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    order = rng.permutation(len(data[0]))
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        yield data[0][chosen], data[1][chosen]


def train(run: Run, task: Task, progress: Progress) -> None:
    optimiser = optax.adam(task.learning_rate)

    @jax.jit
    def step(params: Params, state: optax.OptState, x: Array, y: Array) -> tuple[Params, optax.OptState, Array]:
        def objective(params: Params) -> Array:
            return jaxloss.mean(run.loss(task.predict(params, x), y))

        value, gradient = jax.value_and_grad(objective)(params)
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    predict = jax.jit(task.predict)
    params = initial(jax.random.key(0), task.layers)
    state = optimiser.init(params)
    rng = np.random.default_rng(0)
    bar = progress.add_task(f"{run.name}, {run.trained_on}", total=task.epochs, loss=float("nan"))
    for _ in range(task.epochs):
        values = []
        for x, y in batches(run.data.train, task.batch, rng):
            params, state, value = step(params, state, x, y)
            values.append(value)
        run.outputs = predict(params, run.data.test[0])
        loss = float(np.mean(values))
        run.history.append({"loss": loss} | task.measure(run.outputs, run.data.test[1]))
        progress.update(bar, advance=1, loss=loss)


# --- figures on the test data


def calibration(logits: Array, labels: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, accuracy and number of examples of each bin of the predicted class's probability."""
    probabilities = np.asarray(jax.nn.softmax(logits.astype(jnp.float32)))
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    mean = [np.bincount(index, x, bins) / np.maximum(count, 1) for x in (confidence, right)]
    return mean[0], mean[1], count


@jax.jit
def nll(logits: Array, labels: Array) -> Array:
    return jaxloss.mean(jaxloss.softmax_cross_entropy_with_integer_labels(logits, labels))


def classification_metrics(logits: Array, labels: np.ndarray) -> Metrics:
    confidence, accuracy, count = calibration(logits, labels)
    return {
        "accuracy": float(np.mean(np.argmax(logits, -1) == labels)),
        "NLL": float(nll(logits, labels)),
        "ECE": float(np.sum(count * np.abs(confidence - accuracy)) / np.sum(count)),
    }


def regression_metrics(unit: float, predictions: Array, targets: np.ndarray) -> Metrics:
    error = unit * np.abs(np.asarray(predictions) - targets)
    return {"MAE": float(np.mean(error)), "median error": float(np.median(error))}


# --- the data, and what is done to its training part


def digits() -> tuple[Data, Data]:
    """Clean; and with 40 % of the training labels changed to another class."""
    x, y = datasets.load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        (x / 16).astype(np.float32), y.astype(np.int32), test_size=0.25, stratify=y, random_state=0
    )
    rng = np.random.default_rng(1)
    flipped = rng.random(len(y_train)) < 0.4
    noisy = np.where(flipped, (y_train + rng.integers(1, 10, len(y_train))) % 10, y_train).astype(np.int32)
    return Data((x_train, y_train), (x_test, y_test)), Data((x_train, noisy), (x_test, y_test))


def diabetes() -> tuple[Data, Data, float]:
    """Clean; with one training target in ten ten times too large; and the unit the targets are given in."""
    x, y = datasets.load_diabetes(return_X_y=True)
    x = x / x.std(0)
    x_train, x_test, y_train, y_test = train_test_split(x.astype(np.float32), y, test_size=0.25, random_state=0)
    slipped = np.random.default_rng(1).random(len(y_train)) < 0.1
    centre, unit = np.median(y_train), y_train.std()
    clean, wrong, test = (
        ((target - centre) / unit).astype(np.float32)
        for target in (y_train, np.where(slipped, 10 * y_train, y_train), y_test)
    )
    return Data((x_train, clean), (x_test, test)), Data((x_train, wrong), (x_test, test)), float(unit)


# --- what is run


def table(title: str, runs: list[Run], formats: dict[str, str]) -> Table:
    result = Table(title=title, title_justify="left", title_style="bold")
    result.add_column("loss")
    result.add_column("trained on")
    for name in formats:
        result.add_column(name, justify="right")
    for run in runs:
        result.add_row(run.name, run.trained_on, *(form.format(run.history[-1][n]) for n, form in formats.items()))
    return result


def main() -> None:
    start = time.perf_counter()
    out = Path("out")
    out.mkdir(exist_ok=True)
    console = Console()

    clean, flipped = digits()
    cross_entropy = jaxloss.softmax_cross_entropy_with_integer_labels
    smoothed = partial(cross_entropy, label_smoothing=0.1)
    focal = partial(jaxloss.softmax_focal_loss_with_integer_labels, gamma=2.0)
    robust = partial(jaxloss.generalized_cross_entropy, q=0.7)
    classifiers = [
        Run("cross-entropy", "clean labels", cross_entropy, clean),
        Run("label smoothing 0.1", "clean labels", smoothed, clean),
        Run("focal, gamma 2", "clean labels", focal, clean),
        Run("cross-entropy", "40 % flipped", cross_entropy, flipped),
        Run("generalized CE, q 0.7", "40 % flipped", robust, flipped),
    ]
    classification = Task((64, 256, 10), classify, classification_metrics, epochs=150, batch=128, learning_rate=1e-3)

    true, outliers, unit = diabetes()
    regressors = [
        Run("squared_error", "clean targets", jaxloss.squared_error, true),
        Run("squared_error", "10 % outliers", jaxloss.squared_error, outliers),
        Run("huber_loss, delta 0.5", "10 % outliers", partial(jaxloss.huber_loss, delta=0.5), outliers),
        Run("log_cosh", "10 % outliers", jaxloss.log_cosh, outliers),
        Run("quantile_loss 0.5", "10 % outliers", partial(jaxloss.quantile_loss, quantile=0.5), outliers),
    ]
    regression = Task((10, 16, 1), regress, partial(regression_metrics, unit), epochs=100, batch=32, learning_rate=3e-3)

    columns = (TextColumn("{task.description:36}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"))
    with Progress(*columns, TextColumn("loss {task.fields[loss]:.3f}"), TimeElapsedColumn(), console=console) as bar:
        for task, runs in ((classification, classifiers), (regression, regressors)):
            for run in runs:
                train(run, task, bar)

    console.print()
    console.print(table("Digits, clean test set", classifiers, {"accuracy": "{:.1%}", "NLL": "{:.3f}", "ECE": "{:.3f}"}))
    console.print()
    console.print(
        table("Diabetes, clean test set (target 25 to 346)", regressors, {"MAE": "{:.1f}", "median error": "{:.1f}"})
    )
    pictures = (
        plots.training_curves(out / "training.png", classifiers, regressors),
        plots.reliability(
            out / "calibration.png",
            [(f"{run.name}, {run.trained_on}", calibration(run.outputs, run.data.test[1])) for run in classifiers],
        ),
        *gallery.draw_all(out),
    )
    console.print("\nPictures:", ", ".join(str(path) for path in pictures))
    console.print(f"Time: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
