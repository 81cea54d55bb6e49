"""docs/from_torch.md: every row holds, and every loss of torch has one."""

import inspect
import re

import documents
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.modules import loss as modules

import jaxloss

DOCUMENT = "from_torch.md"
ROWS = documents.rows(DOCUMENT)
THEIRS = vars(torch.nn) | {"F": functional}
CONSTANT = {"w", "b"}  # by the weights of classes and by labels, torch has few gradients


def of_torch(cell, drawn, by):
    """The value of a cell of torch, and its gradients."""
    tensors = {name: torch.tensor(x, requires_grad=name in by) for name, x in drawn.items()}
    value = eval(cell, {**THEIRS, **tensors})
    gradients = torch.autograd.grad(value, [tensors[name] for name in by], torch.tensor(documents.cotangent(value.shape)))
    return documents.Evaluated(value.detach().numpy(), {name: x.numpy() for name, x in zip(by, gradients, strict=True)})


@pytest.mark.filterwarnings("ignore:`NLLLoss2d` has been deprecated", "ignore:reduction. 'mean' divides the total loss")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.theirs)
def test_row(row):
    with jax.enable_x64(True):
        drawn = documents.variables(DOCUMENT)
        by = documents.varied(row, drawn, CONSTANT)
        ours = row.ours and documents.evaluated(row.ours, documents.OURS, drawn, by)
        documents.check(row, ours, of_torch(row.theirs, drawn, by), 1e-12)


def functions(module):
    """The functions of torch.nn.functional that a loss calls."""
    return set(re.findall(r"F\.(\w+)\(", inspect.getsource(module.forward)))


def test_every_loss_has_a_row():
    named = set().union(*(documents.called(row.theirs) for row in ROWS))
    losses = {name: functions(getattr(modules, name)) for name in modules.__all__}
    assert {name for name, called in losses.items() if name not in named and not called & named} == set()
    alone = {name for name in dir(functional) if re.search("_loss$|cross_entropy|kl_div", name) and name[0] != "_"}
    assert alone - set().union(*losses.values()) == set()


def test_the_longest_case():
    """The block of two lines gives torch's number, and NaN with it where there is nothing."""
    (block,) = (block for block in documents.blocks(DOCUMENT) if block.heading == "The longest case")
    drawn = documents.variables(DOCUMENT)
    theirs = torch.nn.CrossEntropyLoss(weight=torch.tensor(drawn["w"]), ignore_index=-100, label_smoothing=0.1)
    for labels in (drawn["i"], np.full(8, -100)):
        with jax.enable_x64(True):
            lines = {name: jnp.asarray(x) for name, x in (drawn | {"i": labels}).items()} | {"jaxloss": jaxloss}
            exec(block.code, lines)
        np.testing.assert_allclose(lines["loss"], theirs(torch.tensor(drawn["z"]), torch.tensor(labels)), rtol=1e-14)
