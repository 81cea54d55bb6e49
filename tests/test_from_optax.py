"""docs/from_optax.md: every row holds, and every loss of optax has one."""

import documents
import jax
import jax.numpy as jnp
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


def test_every_loss_has_a_row():
    assert PUBLIC - set().union(*(documents.called(row.theirs) for row in ROWS)) == set()
