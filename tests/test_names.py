"""A name that is not there: the error says which one is."""

import subprocess
import sys

import pytest

import jaxloss
from jaxloss import _names


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mse_loss", "jaxloss.squared_error?"),
        ("MSELoss", "jaxloss.squared_error?"),
        ("CrossEntropyLoss", "jaxloss.softmax_cross_entropy_with_integer_labels or jaxloss.softmax_cross_entropy?"),
        ("softmax_crossentropy", "jaxloss.softmax_cross_entropy?"),
        ("SmoothL1Loss", "jaxloss.smooth_l1_loss?"),
        ("Huber", "jaxloss.huber_loss?"),
        ("binary_cross_entropy_with_logits", "jaxloss.sigmoid_binary_cross_entropy?"),
        ("safe_softmax_cross_entropy", "jaxloss.softmax_cross_entropy?"),
        ("hubber_loss", "jaxloss.huber_loss?"),
    ],
)
def test_a_name_of_another_library(name: str, near: str) -> None:
    with pytest.raises(AttributeError) as error:
        getattr(jaxloss, name)
    assert str(error.value) == f"module 'jaxloss' has no attribute {name!r}; did you mean {near}"


def test_names() -> None:
    assert all(hasattr(jaxloss, name) for names in _names._ELSEWHERE.values() for name in names)
    assert not hasattr(jaxloss, "__wrapped__")
    with pytest.raises(AttributeError, match=r"module 'jaxloss' has no attribute 'qqq'$"):
        _ = jaxloss.qqq
    lazy = "import sys, jaxloss; assert not {'jaxloss._names', 'difflib'} & set(sys.modules) - before"
    subprocess.run([sys.executable, "-c", f"import jax, sys; before = set(sys.modules); {lazy}"], check=True)
