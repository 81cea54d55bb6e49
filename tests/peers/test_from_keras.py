"""docs/from_keras.md: every row holds, and every loss of keras has one."""

import inspect
import os

import documents
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

os.environ["KERAS_BACKEND"] = "jax"  # before the import, which takes it
import keras

DOCUMENT = "from_keras.md"
ROWS = documents.rows(DOCUMENT)
THEIRS = vars(keras.losses) | {"jax": jax}
CLASSES = {name for name, x in vars(keras.losses).items() if inspect.isclass(x)} - {"Loss"}
FUNCTIONS = {name for name, x in vars(keras.losses).items() if inspect.isfunction(x)} - {"get", "serialize", "deserialize"}
# Means are taken in float32 there, and ε is 1e-7.
TOLERANCE = 2e-6


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.theirs)
def test_row(row):
    with jax.enable_x64(True):
        drawn = documents.variables(DOCUMENT)
        by = documents.varied(row, drawn)
        ours = row.ours and documents.evaluated(row.ours, documents.OURS, drawn, by)
        documents.check(row, ours, documents.evaluated(row.theirs, THEIRS, drawn, by), TOLERANCE)


ZERO, ONE = np.zeros((8, 5)), np.ones((8, 5))
HARD = [
    documents.HardPoint("MeanSquaredError()(t, p)", {"p": ZERO, "t": ZERO}),
    documents.HardPoint("MeanAbsoluteError()(t, p)", {"p": ZERO, "t": ZERO}, "slope 0, not −1/n, at a perfect fit"),
    documents.HardPoint("MeanAbsolutePercentageError()(n, v)", {"v": ONE, "n": ZERO}, "at a target of 0 it is inf"),
    documents.HardPoint("MeanAbsolutePercentageError()(n, v)", {"v": ONE, "n": ONE}, "slope 0 at a perfect fit"),
    documents.HardPoint("MeanSquaredLogarithmicError()(n, v)", {"v": ZERO, "n": ONE}, "keras raises what is below 1e-7"),
    documents.HardPoint("MeanSquaredLogarithmicError()(n, v)", {"v": -ONE / 2, "n": ONE}, "keras raises what is below 1e-7"),
    documents.HardPoint("MeanSquaredLogarithmicError()(n, v)", {"v": -2 * ONE, "n": ONE}, "below which it is NaN"),
    documents.HardPoint("Huber(delta=0.5)(t, p)", {"p": ONE / 2, "t": ZERO}),
    documents.HardPoint("LogCosh()(t, p)", {"p": ZERO, "t": ZERO}),
    documents.HardPoint("CosineSimilarity()(t, p)", {"p": ZERO, "t": ONE}, "gradient 0, not NaN, at a zero vector"),
    documents.HardPoint(
        "SparseCategoricalCrossentropy(from_logits=True)(y, z)", {"y": [5] * 8}, "a label out of range is NaN"
    ),
    documents.HardPoint(
        "SparseCategoricalCrossentropy()(y, jax.nn.softmax(z))", {"y": [5] * 8}, "a label out of range is NaN"
    ),
    documents.HardPoint("Hinge()(s, z)", {"s": ONE, "z": ZERO}),
    documents.HardPoint("Hinge()(s, z)", {"s": ONE, "z": ONE}, "slope 0, not half of −y, at the kink"),
    documents.HardPoint("Hinge()(b, z)", {"b": ONE, "z": ONE}, "slope 0, not half of −y, at the kink"),
    documents.HardPoint("SquaredHinge()(s, z)", {"s": ONE, "z": ONE}),
    documents.HardPoint(
        "CategoricalHinge()(jax.nn.one_hot(y, 5), z)",
        {"y": [0] * 8, "z": np.eye(8, 5)[[0] * 8]},
        "slope 0, not a half, at the kink",
    ),
    documents.HardPoint("KLDivergence()(q, r)", {"q": 2 * ONE, "r": ONE / 2}, "which keras clips to 1 in targets too"),
    documents.HardPoint("CTC()(g, c)", {"g": [[1] * 3] * 2, "c": np.zeros((2, 7, 4))}),
]


@pytest.mark.parametrize("point", HARD, ids=lambda point: point.theirs)
def test_hard_point(point):
    with jax.enable_x64(True):
        row, drawn = documents.hard_point_row(point, ROWS, documents.variables(DOCUMENT))
        by = documents.varied(row, drawn)
        ours = documents.evaluated(row.ours, documents.OURS, drawn, by)
        documents.check_hard_point(point, row, ours, documents.evaluated(row.theirs, THEIRS, drawn, by), TOLERANCE)


@pytest.mark.parametrize("row", [row for row in ROWS if row.ours], ids=lambda row: row.theirs)
def test_row_takes_numpy(row):
    with jax.enable_x64(True):
        documents.assert_takes_numpy(row, documents.variables(DOCUMENT))


def test_every_loss_has_a_row():
    """Every function has a class, and every class a row."""
    assert CLASSES - set().union(*(documents.called(row.theirs) for row in ROWS)) == set()
    assert {getattr(keras.losses, name) for name in FUNCTIONS} == {getattr(keras.losses, name)().fn for name in CLASSES}


def test_a_probability_below_epsilon_has_no_gradient_there():
    mistake, label = jnp.array([1e-8]), jnp.ones(1)
    assert jax.grad(lambda u: keras.losses.BinaryCrossentropy()(label, u))(mistake) == 0
    assert jax.grad(lambda u: jaxloss.mean(jaxloss.binary_cross_entropy(u, label)))(mistake) < -9e7
