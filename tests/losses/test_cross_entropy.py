"""Softmax cross-entropy against worked values and torch."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from widemax.errors import LabelError, ShapeError, UsageError
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


# Weights, the log-partition and caps.


def class_weights():
    return torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.1


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_class_weight_is_that_of_torch(logits, smoothing, soft):
    labels = torch.softmax(logits.flip(0), 1) if soft else LABELS.masked_fill(LABELS == 6, -100)
    options = {"label_smoothing": smoothing}
    expected = F.cross_entropy(logits, labels, weight=class_weights(), reduction="none", **options)
    actual = cross_entropy(logits, labels, class_weight=class_weights(), **options)
    torch.testing.assert_close(actual, expected)
    assert not torch.allclose(actual, cross_entropy(logits, labels, **options))
    weighted = lambda x: cross_entropy(x, labels, class_weight=class_weights(), **options)  # noqa: E731
    assert torch.autograd.gradcheck(weighted, logits.requires_grad_())


def test_class_weight_of_another_precision_leaves_the_result_alone(logits):
    actual = cross_entropy(logits.float(), LABELS, class_weight=class_weights())
    assert actual.dtype == torch.float32


def test_z_loss_adds_the_squared_log_partition(logits):
    expected = cross_entropy(logits, LABELS) + 0.3 * torch.logsumexp(logits, 1) ** 2
    torch.testing.assert_close(cross_entropy(logits, LABELS, z_loss=0.3), expected)
    # Cross-entropy does not see a constant in the logits; the z-loss does.
    torch.testing.assert_close(cross_entropy(logits + 5, LABELS), cross_entropy(logits, LABELS))
    assert (cross_entropy(logits + 50, LABELS, z_loss=0.3) > expected).all()


def test_softcap_bends_logits_but_not_masks(logits):
    logits[:, 5] = -torch.inf
    bent = 4 * torch.tanh(logits / 4)
    bent[:, 5] = -torch.inf
    actual = cross_entropy(logits, LABELS, softcap=4.0, z_loss=0.1)
    torch.testing.assert_close(actual, cross_entropy(bent, LABELS, z_loss=0.1))
    unmasked = 4 * torch.tanh(logits / 4)
    assert not torch.allclose(actual, cross_entropy(unmasked, LABELS, z_loss=0.1))
    logits.requires_grad_()
    cross_entropy(logits, LABELS, softcap=4.0).sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[:, 5].tolist() == [0] * 5


@pytest.mark.parametrize("options", [{"z_loss": 1e-4}, {"softcap": 30.0}])
def test_probabilities_have_no_log_partition_and_no_cap(logits, options):
    with pytest.raises(UsageError, match="need logits; got from_logits=False"):
        cross_entropy(logits.softmax(1), LABELS, from_logits=False, **options)


@pytest.mark.parametrize("soft", [False, True])
def test_smoothing_leaves_masked_classes_out(logits, soft):
    labels = torch.tensor([0, 1, 2, 3, 4])
    masked = logits.clone()
    masked[:, 5:] = -torch.inf
    targets = F.one_hot(labels, 7) if soft else labels
    fewer = F.one_hot(labels, 5) if soft else labels
    actual = cross_entropy(masked, targets, label_smoothing=0.2)
    torch.testing.assert_close(actual, cross_entropy(logits[:, :5], fewer, label_smoothing=0.2))
    assert F.cross_entropy(masked, labels, label_smoothing=0.2).item() == math.inf


def test_probabilities_of_zero_have_no_gradient():
    probs = torch.tensor([[0.25, 0.75, 0.0]], requires_grad=True)
    for labels in (torch.tensor([1]), torch.tensor([[0.0, 1.0, 0.0]])):
        (gradient,) = torch.autograd.grad(cross_entropy(probs, labels, from_logits=False).sum(), probs)
        torch.testing.assert_close(gradient, torch.tensor([[0.0, -4 / 3, 0.0]]))
