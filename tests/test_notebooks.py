"""The notebooks are committed as `make notebooks` leaves them: run in order from the top, and not changed since."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import source

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
OF_A_MACHINE = re.compile(r"/(tmp|home|root|Users)/|site-packages|ipykernel|object at 0x")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_there_are_some() -> None:
    assert NOTEBOOKS


def test_outputs_are_of_this_source(notebook: Any) -> None:
    """Else run `make notebooks`."""
    assert notebook["metadata"]["jaxloss"] == {"source": source.digest(notebook)}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


def test_outputs_are_clean(notebook: Any) -> None:
    """No error, no warning, nothing of the machine that ran it."""
    assert set(notebook["metadata"]) == {"kernelspec", "language_info", "jaxloss"}
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            shown = json.dumps([output.get("text"), *(v for k, v in output.get("data", {}).items() if k != "image/png")])
            assert not OF_A_MACHINE.search(shown)


def test_pictures_are_of_moderate_size(notebook: Any) -> None:
    pictures = [
        base64.b64decode(output["data"]["image/png"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    assert len(json.dumps(notebook)) < 700_000


def test_a_changed_cell_is_noticed(notebook: Any) -> None:
    before = source.digest(notebook)
    last = next(cell for cell in reversed(notebook["cells"]) if cell["cell_type"] == "code")
    last["source"] = ["".join(last["source"]), "\n1"]
    assert source.digest(notebook) != before
