"""docs/from_optax.md: every row holds, and every loss of optax has one."""

import documents
import jax
import jax.numpy as jnp
import numpy as np
import optax.losses
import pytest

DOCUMENT = "from_optax.md"
ROWS = documents.rows(DOCUMENT)
PUBLIC = {name for name in dir(optax.losses) if callable(getattr(optax.losses, name))}
THEIRS = {name: getattr(optax.losses, name) for name in PUBLIC} | {"jax": jax, "jnp": jnp}


@pytest.mark.filterwarnings("ignore:.*convex_kl_divergence:DeprecationWarning")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.theirs)
def test_row(row):
    with jax.enable_x64(True):
        drawn = documents.variables(DOCUMENT)
        by = documents.varied(row, drawn)
        with jax.disable_jit("does not jit" in row.differs):
            theirs = documents.evaluated(row.theirs, THEIRS, drawn, by)
        ours = row.ours and documents.evaluated(row.ours, documents.OURS, drawn, by)
        documents.check(row, ours, theirs, 1e-13)


ZERO, ONE, LEAD = np.zeros((8, 5)), np.ones((8, 5)), np.eye(8, 5)[[0] * 8]
START = "at the kink, where training starts"
HARD = [
    documents.HardPoint("squared_error(p, t)", {"p": ZERO, "t": ZERO}),
    documents.HardPoint("huber_loss(p, t, delta=0.5)", {"p": ONE / 2, "t": ZERO}),
    documents.HardPoint("cosine_similarity(p, t)", {"p": ZERO}, "0, not NaN, at a zero vector"),
    documents.HardPoint("cosine_distance(p, t)", {"p": ZERO}, "1, not NaN, at a zero vector"),
    documents.HardPoint(
        "softmax_cross_entropy_with_integer_labels(z, y)", {"y": [5] * 8}, "a label out of range is NaN, not another class"
    ),
    documents.HardPoint("hinge_loss(z, s)", {"z": ZERO}),
    documents.HardPoint("hinge_loss(z, s)", {"z": ONE, "s": ONE}, "slope 0, not ½, at the kink"),
    documents.HardPoint("perceptron_loss(z, s)", {"z": ZERO}, START),
    documents.HardPoint("multiclass_hinge_loss(z, y)", {"z": LEAD, "y": [0] * 8}, "slope 0, not a half, at the kink"),
    documents.HardPoint("multiclass_hinge_loss(z, y)", {"y": [5] * 8}, "a label out of range is NaN"),
    documents.HardPoint("multiclass_perceptron_loss(z, y)", {"z": ZERO}, START),
    documents.HardPoint("multiclass_perceptron_loss(z, y)", {"y": [5] * 8}, "a label out of range is NaN"),
    documents.HardPoint("ntxent(p, l)", {"l": [0, 0, 0, 1, 2, 2, 3, 3]}),
    documents.HardPoint(
        "triplet_margin_loss(p, t, n, eps=0.0)", {"p": ZERO, "t": ZERO, "n": 2 * ONE}, "no ε in the distances"
    ),
]


@pytest.mark.parametrize("point", HARD, ids=lambda point: point.theirs)
def test_hard_point(point):
    with jax.enable_x64(True):
        row, drawn = documents.hard_point_row(point, ROWS, documents.variables(DOCUMENT))
        by = documents.varied(row, drawn)
        ours = documents.evaluated(row.ours, documents.OURS, drawn, by)
        documents.check_hard_point(point, row, ours, documents.evaluated(row.theirs, THEIRS, drawn, by), 1e-12)


@pytest.mark.parametrize("row", [row for row in ROWS if row.ours], ids=lambda row: row.theirs)
def test_row_takes_numpy(row):
    with jax.enable_x64(True):
        documents.assert_takes_numpy(row, documents.variables(DOCUMENT))


def test_every_loss_has_a_row():
    assert PUBLIC - set().union(*(documents.called(row.theirs) for row in ROWS)) == set()
