"""All blocks of docs/composition.md run as printed, in their order, those of flax and of equinox among them."""

import documents


def test_blocks():
    namespace = {}
    for block in documents.blocks("composition.md"):
        exec(block.code, namespace)
