"""Multi-class hinge losses against scikit-learn and torch."""

import pytest
import torch
from sklearn.metrics import hinge_loss
from torch.nn import functional as F

from widemax.losses import crammer_singer, one_vs_rest_hinge, weston_watkins

LABELS = torch.tensor([0, 6, 3, 3, 1])


@pytest.fixture
def logits():
    return torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_crammer_singer_is_that_of_scikit_learn(logits):
    expected = hinge_loss(LABELS, logits, labels=range(7))
    assert crammer_singer(logits, LABELS).mean().item() == pytest.approx(expected)
    assert weston_watkins(logits, LABELS).mean().item() != pytest.approx(expected)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_weston_watkins_is_a_multiple_of_that_of_torch(logits, squared, margin):
    expected = 7 * F.multi_margin_loss(logits, LABELS, p=1 + squared, margin=margin, reduction="none")
    torch.testing.assert_close(weston_watkins(logits, LABELS, squared=squared, margin=margin), expected)
    assert not torch.allclose(crammer_singer(logits, LABELS, squared=squared, margin=margin), expected)


def test_with_two_classes_both_are_one(logits):
    two, labels = logits[:, :2], LABELS % 2
    torch.testing.assert_close(crammer_singer(two, labels), weston_watkins(two, labels))


@pytest.mark.parametrize("squared", [False, True])
def test_one_vs_rest_is_the_binary_loss_of_scikit_learn_a_class(logits, squared):
    targets = F.one_hot(LABELS, 7)
    signs = 2 * targets - 1
    lacks = (1 - signs * logits).clamp(min=0)
    actual = one_vs_rest_hinge(logits, targets, squared=squared)
    torch.testing.assert_close(actual, (lacks**2 if squared else lacks).sum(1))
    if not squared:
        by_class = [hinge_loss(signs[:, j], logits[:, j], labels=[-1, 1]) for j in range(7)]
        assert actual.mean().item() == pytest.approx(sum(by_class))


def test_equal_best_classes_share_the_gradient():
    logits = torch.tensor([[0.0, 2.0, 2.0]], requires_grad=True)
    crammer_singer(logits, torch.tensor([0])).sum().backward()
    assert logits.grad.tolist() == [[-1, 0.5, 0.5]]
