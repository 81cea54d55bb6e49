"""Eight virtual devices for the sharding tests, and this folder on the path, so that tests can import cases."""

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parent))

import jax
import pytest

_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Forgets the compiled programs now and then: each takes mappings of memory, of which Linux allows 65,530 a process."""
    yield
    if next(_tests) % 100 == 0:
        jax.clear_caches()
