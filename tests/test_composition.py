"""The blocks of docs/composition.md run as printed, in their order, but for those of frameworks: see tests/peers."""

import documents

FRAMEWORKS = {"flax.nnx", "equinox"}


def test_blocks():
    blocks = documents.blocks("composition.md")
    assert {block.heading for block in blocks} > FRAMEWORKS
    namespace = {}
    for block in blocks:
        if block.heading not in FRAMEWORKS:
            exec(block.code, namespace)
