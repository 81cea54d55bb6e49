"""Checks of values: off, they leave nothing behind; on, they speak in a sentence wherever a loss is called."""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, Case, rounded

import jaxloss

LOSS = jaxloss.softmax_cross_entropy_with_integer_labels
SENTENCE = "labels must be from 0 to 2 where they are not masked by `where`"
LOGITS, BAD = jnp.zeros((8, 3)), jnp.array([0, 1, 2, 0, 1, 2, 0, 3])


def mean(logits: Any, labels: Any) -> Any:
    return jnp.mean(LOSS(logits, labels))


def scanned(logits: Any, labels: Any) -> Any:
    return jax.lax.scan(lambda carry, xy: (carry, LOSS(*xy)), 0, (logits, labels))[1]


def sharded(logits: Any, labels: Any, check_vma: bool = True) -> Any:
    mesh, rows = jax.sharding.Mesh(np.asarray(jax.devices()[:8]), ("batch",)), jax.P("batch")
    return jax.shard_map(LOSS, mesh=mesh, in_specs=(rows, rows), out_specs=rows, check_vma=check_vma)(logits, labels)


WAYS = {
    "jit": LOSS,
    "vmap": jax.vmap(LOSS),
    "grad": jax.grad(mean),
    "hessian": jax.hessian(mean),
    "remat": jax.grad(jax.checkpoint(mean)),
    "scan": scanned,
    "shard_map": sharded,
    "shard_map, check_vma off": lambda *args: sharded(*args, check_vma=False),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("transform", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_checks_speak_when_they_are_on(way: str, transform: Any) -> None:
    step = transform(WAYS[way])
    jax.block_until_ready(step(LOGITS, BAD))  # and compiled without them is not taken for compiled with them
    with jaxloss.debug_checks():
        with pytest.raises((jax.errors.JaxRuntimeError, ValueError), match=SENTENCE):
            jax.block_until_ready(step(LOGITS, BAD))
        jax.block_until_ready(step(LOGITS, BAD % 3))
    jax.block_until_ready(step(LOGITS, BAD))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.sweep("softmax_cross_entropy_with_integer_labels", "ctc_loss", "beta_nll", "dice_loss")
def test_nothing_of_a_check_is_in_the_program(case: Case) -> None:
    """Nor the effect that would make JAX start a jitted function from Python, and forbid storing it."""
    args = [rounded(x, jnp.float32) for x in case.draw(np.random.default_rng(0))]
    program = jax.make_jaxpr(lambda *args: case.loss(*args, **case.options[-1]))(*args)
    assert not program.effects


def test_a_step_is_stored_as_it_is() -> None:
    stored = jax.export.export(jax.jit(jax.value_and_grad(mean)))(LOGITS, BAD % 3).serialize()
    assert np.isfinite(jax.export.deserialize(stored).call(LOGITS, BAD % 3)[0])


def test_modes() -> None:
    with pytest.raises(ValueError, match=r"mode must be one of .*got 'loud'"), jaxloss.debug_checks("loud"):
        pass
    with jaxloss.debug_checks(), jaxloss.debug_checks(False):
        LOSS(LOGITS, BAD)
    with jaxloss.debug_checks("checkify"):  # speaks to a checkify alone
        LOSS(LOGITS, BAD)


@pytest.mark.parametrize(("word", "ending"), [("1", SENTENCE), ("0", "fine"), ("checkify", "fine"), ("yes", "got 'yes'")])
def test_the_environment_sets_the_mode(word: str, ending: str) -> None:
    script = "import jaxloss, numpy as np; jaxloss.nll_with_integer_labels(np.zeros((1, 3)), np.array([3])); print('fine')"
    environment = os.environ | {"JAXLOSS_DEBUG_CHECKS": word}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr).strip().endswith(ending)
