"""The documents hold together: where one points, there is something."""

import re
from pathlib import Path

import documents
import pytest

import jaxloss

ROOT = documents.DOCS.parent
DOCUMENTS = [*ROOT.glob("*.md"), *documents.DOCS.glob("*.md")]


def anchors(document: Path) -> set[str]:
    """What the headings of a document are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.is_file(), link
            assert not anchor or anchor in anchors(target), link


def test_readme_points_to_every_document():
    assert {f"docs/{path.name}" for path in documents.DOCS.glob("*.md")} <= set(
        re.findall(r"\]\((.*?)\)", (ROOT / "README.md").read_text())
    )


def test_one_version():
    assert f"\nversion: {jaxloss.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{jaxloss.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()
