"""docs/from_keras.md: every row holds, and every loss of keras has one."""

import inspect
import os

import documents
import jax
import jax.numpy as jnp
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


def test_every_loss_has_a_row():
    """Every function has a class, and every class a row."""
    assert CLASSES - set().union(*(documents.called(row.theirs) for row in ROWS)) == set()
    assert {getattr(keras.losses, name) for name in FUNCTIONS} == {getattr(keras.losses, name)().fn for name in CLASSES}


def test_a_probability_below_epsilon_has_no_gradient_there():
    mistake, label = jnp.array([1e-8]), jnp.ones(1)
    assert jax.grad(lambda u: keras.losses.BinaryCrossentropy()(label, u))(mistake) == 0
    assert jax.grad(lambda u: jaxloss.mean(jaxloss.binary_cross_entropy(u, label)))(mistake) < -9e7
