"""A real use: strings of digits are read, and the best alignment is where they stand: `examples/read_digits.py`."""

import jax
import numpy as np
import pytest
import read_digits

import jaxloss


@pytest.mark.exhaustive
def test_strings_of_digits_are_read() -> None:
    """Sequence error rate below 10 % on digits that were not seen in training, and alignments in the right place."""
    rng = np.random.default_rng(0)
    seen, unseen = read_digits.data(rng)
    start, parameters, losses = read_digits.train(jax.random.key(0), rng, *seen)
    columns, labels, paddings = read_digits.strings(rng, *unseen, 400)
    logits = jax.jit(read_digits.network)(parameters, columns)
    assert read_digits.error_rate(read_digits.network(start, columns), labels, paddings) > 0.95
    assert losses[-1] < 0.1 * losses[0]
    assert read_digits.error_rate(logits, labels, paddings) < 0.1
    frames = read_digits.frames_of(paddings)
    alignment = np.asarray(jaxloss.ctc_forced_alignment(logits, frames, labels, paddings, blank_id=read_digits.BLANK))
    column = np.broadcast_to(np.arange(alignment.shape[1]), alignment.shape)
    spoken = alignment >= 0
    # Each digit is said near where it stands: within its own eight columns or those around.
    assert np.mean(np.abs(column[spoken] // 8 - alignment[spoken]) <= 1) > 0.99
