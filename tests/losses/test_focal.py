"""Focal losses and Poly-1 beside cross-entropy."""

import math

import pytest
import torch

from widemax.losses import binary_cross_entropy, binary_focal, cross_entropy, focal, poly

LABELS = torch.tensor([0, 6, 3, 3, 1])


@pytest.fixture
def logits():
    return 3 * torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_focal_without_focus_is_cross_entropy(logits):
    torch.testing.assert_close(focal(logits, LABELS, gamma=0.0), cross_entropy(logits, LABELS))
    assert (focal(logits, LABELS, gamma=1.0) < cross_entropy(logits, LABELS)).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_is_accurate_however_sure_the_row_is(gamma):
    lead = torch.tensor([1.0, 10.0, 16.0, 20.0, 40.0])
    logits = torch.stack([lead, torch.zeros(5)], 1).requires_grad_()
    labels = torch.zeros(5, dtype=torch.long)
    loss = focal(logits, labels, gamma=gamma)
    # 1 − p = 1/(1 + e^lead), and −log p = log1p(e^−lead).
    exact = [math.log1p(math.exp(-x)) / (1 + math.exp(x)) ** gamma for x in lead.tolist()]
    torch.testing.assert_close(loss, torch.tensor(exact), rtol=2e-5, atol=0)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    exactly = logits.detach().double().requires_grad_()
    (exact_gradient,) = torch.autograd.grad(focal(exactly, labels, gamma=gamma).sum(), exactly)
    torch.testing.assert_close(gradient, exact_gradient.float(), rtol=1e-4, atol=1e-38)
    if gamma > 0:
        probs = torch.softmax(logits, 1)[:, 0]
        subtracted = (1 - probs) ** gamma * -probs.log()
        assert not torch.allclose(subtracted, torch.tensor(exact), rtol=1e-3, atol=0)


def test_focal_class_weight_counts_rows(logits):
    weight = torch.arange(7, dtype=torch.float64)
    weighted = focal(logits, LABELS, class_weight=weight)
    torch.testing.assert_close(weighted, focal(logits, LABELS) * weight[LABELS])


def test_binary_focal_is_the_formula_of_the_paper(logits):
    generator = torch.Generator().manual_seed(1)
    targets = (torch.rand(5, 7, generator=generator) < 0.5).double()
    probs = torch.sigmoid(logits)
    of_truth = torch.where(targets == 1, probs, 1 - probs)
    alpha = torch.where(targets == 1, 0.25, 0.75)
    expected = -(alpha * (1 - of_truth) ** 2 * of_truth.log()).sum(1)
    torch.testing.assert_close(binary_focal(logits, targets, alpha=0.25), expected)
    swapped = -((1 - alpha) * (1 - of_truth) ** 2 * of_truth.log()).sum(1)
    assert not torch.allclose(swapped, expected)


def test_binary_focal_without_focus_is_binary_cross_entropy(logits):
    targets = torch.softmax(logits, 1)
    expected = binary_cross_entropy(logits, targets)
    torch.testing.assert_close(binary_focal(logits, targets, gamma=0.0), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_binary_focal_of_a_masked_class(gamma):
    logits = torch.tensor([[-torch.inf, 1.0], [-torch.inf, 1.0]], requires_grad=True)
    loss = binary_focal(logits, torch.tensor([[0.0, 1.0], [1.0, 1.0]]), gamma=gamma)
    torch.testing.assert_close(loss[0], binary_focal(torch.ones(1, 1), torch.ones(1, 1), gamma=gamma)[0])
    assert loss[1] == torch.inf
    (gradient,) = torch.autograd.grad(loss[0], logits)
    assert gradient.isfinite().all()


def test_poly_changes_the_first_coefficient_of_the_series(logits):
    wrong = 1 - torch.softmax(logits, 1).gather(1, LABELS[:, None]).squeeze(1)
    torch.testing.assert_close(poly(logits, LABELS, epsilon=0.0), cross_entropy(logits, LABELS))
    near = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    missing = 1 - torch.softmax(near, 1)[0, 0]
    series = sum(missing**k / k for k in range(2, 60))
    torch.testing.assert_close(poly(near, torch.tensor([0]), epsilon=-1.0)[0], series)
    assert not torch.allclose(series, cross_entropy(near, torch.tensor([0]))[0])
    torch.testing.assert_close(poly(logits, LABELS, epsilon=2.0), cross_entropy(logits, LABELS) + 2 * wrong)
