"""Time of importing, each in a process of its own."""

import itertools
import os
import statistics
import subprocess
import sys

from benchmarks import tables

IMPORTS = ["import jax", "import jax, optax", "import jax, optax, jaxloss"]
PROBE = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


def cpu_seconds(statement: str) -> float:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", PROBE.format(statement)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def run(*, small: bool, only: str) -> None:
    for statement in IMPORTS:  # to write the bytecode
        cpu_seconds(statement)
    rounds = [[cpu_seconds(statement) for statement in IMPORTS] for _ in range(1 if small else 5)]
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    more = ["", *(f"{b - a:.2f}" for a, b in itertools.pairwise(medians))]
    lines = [(s, f"{t:.2f}", m) for s, t, m in zip(IMPORTS, medians, more, strict=True) if only in s]
    tables.show("Import", f"CPU seconds, median of {len(rounds)}", ("statement", "seconds", "more than before"), lines)
