"""Runs every notebook from a clean kernel, a few at a time, as `make notebooks` does.

The outputs are written into them. A cell that raises or warns fails the run. With
JAXLOSS_QUICK=1 the notebooks train for a few steps only, and nothing is written. Names on the
command line choose some: `python notebooks/execute.py 01 04`.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import source
from nbclient import NotebookClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

FOLDER = Path(__file__).parent
KEY = "jaxloss"  # of the notebook's metadata
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebooks() -> list[Path]:
    return sorted(FOLDER.glob("[0-9]*.ipynb"))


def execute(path: Path, progress: Progress) -> Any:
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    bar = progress.add_task(
        path.stem, total=sum(cell.cell_type == "code" for cell in notebook.cells)
    )
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(FOLDER)}},
        on_cell_executed=lambda **_: progress.advance(bar),
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.clear()
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise RuntimeError(f"{path.name} says on its error stream:\n{output.text}")
    notebook.metadata = {
        "kernelspec": KERNEL,
        "language_info": {"name": "python"},
        KEY: {"source": source.digest(notebook)},
    }
    return notebook


def main() -> None:
    quick = os.environ.get("JAXLOSS_QUICK") == "1"
    os.environ["JAX_PLATFORMS"] = "cpu"  # the outputs that are committed are of this backend
    chosen = [path for path in notebooks() if path.name.startswith(tuple(sys.argv[1:]) or "")]
    columns = (
        TextColumn("{task.description:28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells"),
        TimeElapsedColumn(),
    )
    start = time.perf_counter()
    workers = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
    with Progress(*columns, console=Console()) as progress, workers:
        for path, notebook in zip(
            chosen, workers.map(lambda path: execute(path, progress), chosen), strict=True
        ):
            if not quick:
                nbformat.write(notebook, path)
    print(f"{len(chosen)} notebooks, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
