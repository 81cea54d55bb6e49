"""Time of importing, each in a process of its own."""

import os
import statistics
import subprocess
import sys

from benchmarks import tables

IMPORTS = ["import jax", "import jax, jaxloss", "import jax, optax"]
PROBE = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


def cpu_seconds(statement: str) -> float:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", PROBE.format(statement)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def ratio(rounds: list[list[float]], i: int) -> float:
    """The median ratio to the first statement, of those of one round."""
    return statistics.median(times[i] / times[0] for times in rounds)


def run(*, small: bool, only: str) -> None:
    for statement in IMPORTS:  # to write the bytecode
        cpu_seconds(statement)
    rounds = [[cpu_seconds(statement) for statement in IMPORTS] for _ in range(1 if small else 15)]
    lines = [
        (statement, f"{statistics.median(times[i] for times in rounds):.3f}", f"{ratio(rounds, i):.2f}")
        for i, statement in enumerate(IMPORTS)
        if only in statement
    ]
    tables.show("Import", f"CPU seconds, median of {len(rounds)} rounds", ("statement", "seconds", "ratio to jax"), lines)
