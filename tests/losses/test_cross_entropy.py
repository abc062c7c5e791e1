"""Softmax cross-entropy against worked values and torch."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from widemax.errors import LabelError, ShapeError
from widemax.losses import cross_entropy


@pytest.fixture
def logits():
    return 3 * torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 6, 3, 3, 1])


def test_worked_gradient():
    logits = torch.tensor([[2.0, 3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    cross_entropy(logits, torch.tensor([1])).sum().backward()
    # The printed digits are cut off, not rounded.
    np.testing.assert_allclose(logits.grad[0], [0.0903, -0.7553, 0.665], atol=4e-4)
    softmax = torch.softmax(logits.detach(), 1)
    np.testing.assert_allclose(logits.grad, softmax - F.one_hot(torch.tensor([1]), 3), atol=1e-15)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_agrees_with_torch(logits, smoothing):
    labels = LABELS.clone()
    labels[2] = -100
    expected = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, labels, label_smoothing=smoothing), expected)
    assert cross_entropy(logits, labels)[2] == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("from_logits", [False, True])
def test_forms_of_target_and_prediction_agree(logits, smoothing, soft, from_logits):
    expected = cross_entropy(logits, LABELS, label_smoothing=smoothing)
    given = logits if from_logits else logits.softmax(1)
    labels = F.one_hot(LABELS, 7) if soft else LABELS
    actual = cross_entropy(given, labels, from_logits=from_logits, label_smoothing=smoothing)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_soft_targets_agree_with_torch(logits):
    targets = torch.softmax(logits.flip(0), 1)
    torch.testing.assert_close(
        cross_entropy(logits, targets), F.cross_entropy(logits, targets, reduction="none")
    )


def test_masked_classes_without_target_cost_nothing():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([[1.0, 0.0, 0.0]]))
    assert loss.item() == pytest.approx(math.log(2))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.5, 0.5, 0.0]]))
    sure = cross_entropy(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), from_logits=False)
    assert sure.item() == 0


def test_gradcheck(logits):
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, LABELS, label_smoothing=0.2), logits)


@pytest.mark.parametrize("label", [99, -1, 7])
def test_labels_out_of_range_name_row_and_value(logits, label):
    labels = LABELS.clone()
    labels[1] = label
    with pytest.raises(LabelError, match=rf"\[0, 7\); got {label} at row 1\. .*ignore_index={label}"):
        cross_entropy(logits, labels)


def test_shapes_that_fit_nothing_are_refused(logits):
    with pytest.raises(ShapeError, match=r"got torch.int64 of shape \(4,\)"):
        cross_entropy(logits, LABELS[:4])
    with pytest.raises(ShapeError, match=r"torch\.float32"):
        cross_entropy(logits, LABELS.float())


def test_empty_batch_and_single_class():
    assert cross_entropy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0,)
    assert cross_entropy(torch.tensor([[1e4]]), torch.tensor([0])).tolist() == [0]
