"""What tells whether a notebook's outputs are of its code."""

import hashlib
from typing import Any


def digest(notebook: Any) -> str:
    """Of the code cells, in order."""
    cells = (
        "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"
    )
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()
