"""Eight virtual devices for the sharding tests; this folder and examples/ on the path, for tests to import from."""

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "examples")]

import jax  # noqa: E402 - after the flags

_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Forgets the compiled programs now and then: each takes mappings of memory, of which Linux allows 65,530 a process."""
    yield
    if next(_tests) % 100 == 0:
        jax.clear_caches()
