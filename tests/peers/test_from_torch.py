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


ZERO, ONE = np.zeros((8, 5)), np.ones((8, 5))
LEAD = np.eye(8, 5)[[0] * 8]  # the first class leads by just the margin
TRIPLET = {"a": ZERO, "e": LEAD, "d": 2 * LEAD}  # d(a, e) − d(a, d) + 1 = 0
DEGREE_1 = "TripletMarginLoss(eps=0.0, p=1.0, margin=2.0)(a, e, d)"
HARD = [
    documents.HardPoint("MSELoss()(p, t)", {"p": ZERO, "t": ZERO}),
    documents.HardPoint("L1Loss()(p, t)", {"p": ZERO, "t": ZERO}),
    documents.HardPoint("SmoothL1Loss(beta=0.5)(p, t)", {"p": ONE / 2, "t": ZERO}),
    documents.HardPoint("HuberLoss(delta=0.5)(p, t)", {"p": ONE / 2, "t": ZERO}),
    documents.HardPoint("MultiMarginLoss()(z, y)", {"z": LEAD, "y": [0] * 8}),
    documents.HardPoint("MultiMarginLoss()(z, y)", {"z": ZERO, "y": [0] * 8}),
    documents.HardPoint("BCELoss()(u, b)", {"u": ZERO, "b": ONE}, "exact: no clipping at −100"),
    documents.HardPoint("CosineEmbeddingLoss(margin=0.2)(a, e, o)", {"a": ZERO}, "gradient 0 at a zero vector"),
    documents.HardPoint("CosineSimilarity()(a, e)", {"a": ZERO}, "gradient 0 at a zero vector"),
    documents.HardPoint("MarginRankingLoss(margin=0.2)(p, t, s)", {"p": ONE / 5, "t": ZERO, "s": ONE}),
    documents.HardPoint("TripletMarginLoss(eps=0.0)(a, e, d)", TRIPLET, "slope 0, not 1, at the kink"),
    documents.HardPoint("TripletMarginLoss(eps=0.0)(a, e, d)", {"a": ZERO, "e": ZERO, "d": ZERO}),
    documents.HardPoint(DEGREE_1, {"a": ZERO, "e": LEAD, "d": 3 * LEAD}, "slope 0, not 1, at the kink"),
    documents.HardPoint("HingeEmbeddingLoss()(v, s)", {"v": ONE}),
    documents.HardPoint("HingeEmbeddingLoss()(v, s)", {"v": ZERO}),
]


@pytest.mark.parametrize("point", HARD, ids=lambda point: point.theirs)
def test_hard_point(point):
    with jax.enable_x64(True):
        row, drawn = documents.hard_point_row(point, ROWS, documents.variables(DOCUMENT))
        by = documents.varied(row, drawn, CONSTANT)
        ours = documents.evaluated(row.ours, documents.OURS, drawn, by)
        documents.check_hard_point(point, row, ours, of_torch(row.theirs, drawn, by), 1e-12)


@pytest.mark.parametrize("row", [row for row in ROWS if row.ours], ids=lambda row: row.theirs)
def test_row_takes_numpy(row):
    with jax.enable_x64(True):
        documents.assert_takes_numpy(row, documents.variables(DOCUMENT))


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
            for array in (jnp.asarray, np.asarray):
                lines = {name: array(x) for name, x in (drawn | {"i": labels}).items()} | {"jaxloss": jaxloss, "jnp": jnp}
                exec(block.code, lines)
                expected = theirs(torch.tensor(drawn["z"]), torch.tensor(labels))
                np.testing.assert_allclose(lines["loss"], expected, rtol=1e-14)
