"""A real use: a language model of Python's manual, with and without its logits: `examples/language_model.py`."""

import language_model
import numpy as np
import pytest


@pytest.mark.exhaustive
def test_the_same_training_in_a_fraction_of_the_memory() -> None:
    numbers, vocabulary = language_model.text()
    assert len(vocabulary) > 4000
    data = language_model.batches(np.random.default_rng(0), numbers, 5)
    full, of_full = language_model.train(language_model.full_logits, len(vocabulary), data)
    fused, of_fused = language_model.train(language_model.fused, len(vocabulary), data)
    assert full[-1] < full[0] - 0.1
    np.testing.assert_allclose(fused, full, rtol=1e-4)
    assert of_fused < 0.5 * of_full
