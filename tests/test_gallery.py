"""The pictures of the gallery show every elementwise and margin loss, as the code is today."""

import json

import gallery
import numpy as np
import pytest
from cases import CASES, margin
from PIL import Image

FAMILIES = gallery.families()


@pytest.mark.sweep
@pytest.mark.parametrize("family", FAMILIES)
def test_the_picture_is_what_would_be_drawn(family: str) -> None:
    """Else run `make gallery`."""
    with Image.open(gallery.FOLDER / f"{family}.png") as picture:
        shown = json.loads(picture.text[gallery.KEY])
    panels = FAMILIES[family]
    assert [(panel.name, panel.options) for panel in panels] == [(each["name"], each["options"]) for each in shown]
    for panel, each in zip(panels, shown, strict=True):
        np.testing.assert_allclose(panel.numbers(), each["numbers"], rtol=1e-4, atol=1e-6, err_msg=panel.name)


def test_every_elementwise_and_margin_loss_is_shown() -> None:
    shown = {panel.name for panels in FAMILIES.values() for panel in panels}
    wanted = {case.name for case in CASES if case.event == 0 and case.among is None}
    assert wanted | {case.name for case in margin.CASES} <= shown


def test_the_folder_holds_no_other_picture() -> None:
    assert {path.stem for path in gallery.FOLDER.glob("*.png")} == set(FAMILIES)
