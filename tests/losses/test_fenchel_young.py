"""The losses of sparsemax and 1.5-entmax, whose gradient is probabilities less target."""

import pytest
import torch
from torch.nn import functional as F

from widemax.losses import cross_entropy, entmax15_loss, sparsemax_loss
from widemax.losses.fenchel_young import fenchel_young
from widemax.numerics import entmax15, sparsemax

LABELS = torch.tensor([0, 6, 3, 3, 1])
PAIRS = pytest.mark.parametrize(
    ("loss", "predict", "lead"), [(sparsemax_loss, sparsemax, 1.0), (entmax15_loss, entmax15, 2.0)]
)


@pytest.fixture
def logits():
    return 2 * torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@PAIRS
@pytest.mark.parametrize("soft", [False, True])
def test_gradient_is_probabilities_less_target(logits, loss, predict, lead, soft):
    targets = torch.softmax(logits.flip(0), 1) if soft else F.one_hot(LABELS, 7)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, targets if soft else LABELS).sum(), logits)
    torch.testing.assert_close(gradient, predict(logits) - targets)
    assert not torch.allclose(gradient, torch.softmax(logits, 1) - targets)


@PAIRS
def test_loss_is_zero_exactly_where_the_probabilities_are_the_target(logits, loss, predict, lead):
    torch.testing.assert_close(loss(logits, predict(logits)), torch.zeros(5, dtype=torch.float64))
    assert (loss(logits, torch.softmax(logits, 1)) > 0).all()
    near = torch.tensor([[lead, 0.0], [lead - 0.6, 0.0]])
    sure, unsure = loss(near, torch.tensor([0, 0]))
    assert sure == 0
    assert unsure > 1e-3


def test_losses_are_those_of_the_entmax_package(logits):
    peer = pytest.importorskip("entmax")
    torch.testing.assert_close(
        sparsemax_loss(logits, LABELS), peer.SparsemaxLoss(reduction="none")(logits, LABELS)
    )
    torch.testing.assert_close(
        entmax15_loss(logits, LABELS), peer.Entmax15Loss(reduction="none")(logits, LABELS)
    )


def test_softmax_and_shannon_give_cross_entropy(logits):
    targets = torch.softmax(logits.flip(0), 1)
    actual = fenchel_young(
        logits,
        targets,
        lambda s: torch.softmax(s, 1),
        lambda p: torch.special.entr(p).sum(1),
        ignore_index=-1,
    )
    divergence = cross_entropy(logits, targets) - torch.special.entr(targets).sum(1)
    torch.testing.assert_close(actual, divergence)
    wrong = fenchel_young(
        logits, targets, lambda s: torch.softmax(s, 1), lambda p: 0 * p.sum(1), ignore_index=-1
    )
    assert not torch.allclose(wrong, divergence)
