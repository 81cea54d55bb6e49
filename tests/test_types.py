"""The package under jaxtyping's hook with beartype: every call of the rows has the types of its signature."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CALLS = """
import sys
sys.path.insert(0, sys.argv[1])
from jaxtyping import install_import_hook
with install_import_hook("jaxloss", "beartype.beartype"):
    import jaxloss
import functools
import jax
import jax.numpy as jnp
import numpy as np
from cases import CASES, rounded

for case in CASES:
    for options in case.options[:1] + case.options[1:][-1:]:
        args = [rounded(x, jnp.float32) for x in case.draw(np.random.default_rng(0))]
        floats = [i for i, x in enumerate(args) if jnp.issubdtype(x.dtype, jnp.floating)]

        def both(*data):
            full = list(args)
            for i, x in zip(floats, data, strict=True):
                full[i] = x
            return jnp.sum(case.loss(*full, **options))

        try:
            jax.eval_shape(jax.value_and_grad(both, range(len(floats))), *(args[i] for i in floats))
        except Exception as error:
            print(case.name, list(options), type(error).__name__, str(error), flush=True)
print("called", len(CASES))
"""


@pytest.mark.exhaustive
def test_every_call_has_the_types_of_its_signature() -> None:
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", CALLS, str(HERE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=HERE.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("called"), done.stdout
