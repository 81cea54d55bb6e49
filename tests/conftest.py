"""Eight virtual devices for the sharding tests; folders on the path, to import from; and which tests wait."""

import gc
import itertools
import os
import re
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
# What a compiler in haste would blur: digits, memory, and the text of the compiled program.
OPTIMIZED = re.compile(r"ulp|memory|16_bit|of_its_terms|within_its_bound|copied|products")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is to be compiled as users compile, and all of a sweep but the one case that `make test` runs."""
    seen = set()
    for item in items:
        if OPTIMIZED.search(item.nodeid.split("::")[-1].split("[")[0]):
            item.add_marker("optimized")
        sweep = item.get_closest_marker("sweep")
        if sweep is not None:
            name, _, case = item.nodeid.partition("[")
            kept = case[:-1] in sweep.args if sweep.args else name not in seen
            seen.add(name)
            if not kept:
                item.add_marker("exhaustive")


def pytest_collection_finish() -> None:
    """What collection made stays to the end: the collector of garbage need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Forgets the compiled programs now and then: each takes mappings of memory, of which Linux allows 65,530 a process."""
    yield
    if next(_tests) % 100 == 0:
        jax.clear_caches()
