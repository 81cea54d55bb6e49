"""Eight virtual devices for the sharding tests; this folder, examples/ and notebooks/ on the path, to import from."""

import itertools
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

flags = ["--xla_force_host_platform_device_count=8"]
if os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1":  # then compile as fast as can be: in less than half the time
    flags.append("--xla_cpu_parallel_codegen_split_count=1")
    if metadata.version("jaxlib").startswith("0.10."):  # jaxlib 0.11 has no such flag
        flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "examples"), str(HERE.parent / "notebooks")]

import jax  # noqa: E402 - after the flags

_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Forgets the compiled programs now and then: each takes mappings of memory, of which Linux allows 65,530 a process."""
    yield
    if next(_tests) % 100 == 0:
        jax.clear_caches()
