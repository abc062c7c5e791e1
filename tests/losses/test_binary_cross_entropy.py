"""Sigmoid cross-entropy against torch."""

import pytest
import torch
from torch.nn import functional as F

from widemax.errors import ShapeError
from widemax.losses import binary_cross_entropy


def test_agrees_with_torch():
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(4, 6, dtype=torch.float64, generator=generator)
    targets = torch.rand(4, 6, dtype=torch.float64, generator=generator)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    torch.testing.assert_close(binary_cross_entropy(logits, targets), expected)
    assert torch.autograd.gradcheck(binary_cross_entropy, (logits.requires_grad_(), targets))


def test_extreme_logits():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = binary_cross_entropy(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert loss.tolist() == [0, 2e4]
    loss.sum().backward()
    assert logits.grad.tolist() == [[0, 0], [-1, 1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positive_weight_is_that_of_torch(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(4, 6, generator=generator)
    targets, weight = torch.rand(4, 6, generator=generator), torch.rand(6, generator=generator).to(dtype)
    expected = F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=weight.float(), reduction="none"
    ).sum(1)
    actual = binary_cross_entropy(logits, targets, positive_weight=weight)
    torch.testing.assert_close(actual, expected)
    plain = binary_cross_entropy(logits, targets)
    assert not torch.allclose(actual, plain)


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 3\); got \(2,\)"):
        binary_cross_entropy(torch.zeros(2, 3), torch.zeros(2))
