"""What only the fused form has: tiles left out of the gradient, and targets kept apart."""

import pytest
import torch
from wide_layer import layer, targets

from widemax.kernels import SkippedTiles, budget, linear_cross_entropy


def test_a_confident_row_keeps_its_small_gradient_in_bfloat16():
    # p(label) = 1 − 2e-4 rounds to 1 in bfloat16: kept as p − 1, the gradient would vanish.
    hidden = torch.tensor([[1.0]], dtype=torch.bfloat16, requires_grad=True)
    weight = torch.tensor([[8.5], [0.0]], dtype=torch.bfloat16, requires_grad=True)
    linear_cross_entropy(hidden, weight, None, torch.tensor([0]), reduction="sum", impl="fused").backward()
    expected = torch.sigmoid(torch.tensor(-8.5))
    torch.testing.assert_close(weight.grad[0, 0].float(), -expected, rtol=1e-2, atol=0)


def sure_layer(num_classes=200, num_rows=30):
    """Rows that point at their labels: nearly all probability is there."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(num_classes, 16, dtype=torch.float64, generator=generator)
    weight = 5 * torch.nn.functional.normalize(weight, dim=1)
    labels = torch.randint(num_classes, (num_rows,), generator=generator)
    return weight[labels].requires_grad_(), weight.requires_grad_(), labels


@pytest.mark.parametrize("allowed", [1e-4, 1e-2, 0.3])
def test_what_is_skipped_stays_within_the_bound(monkeypatch, allowed):
    monkeypatch.setattr(budget, "HELD_ELEMENTS", 1)
    monkeypatch.setattr(budget, "MIN_TILE_WIDTH", 10)
    monkeypatch.setattr(budget, "TILE_ELEMENTS", 1)
    hidden, weight, labels = sure_layer()
    skipped = SkippedTiles(allowed)
    options = {"reduction": "sum", "impl": "fused"}
    loss = linear_cross_entropy(hidden, weight, None, labels, skipped=skipped, **options)
    exact = linear_cross_entropy(hidden, weight, None, labels, **options)
    assert loss == exact
    assert 0 < skipped.dropped_mass <= allowed
    assert 0 < skipped.fraction <= 1
    found, truth = (torch.autograd.grad(x, hidden)[0] for x in (loss, exact))
    # What is dropped is a sum of probabilities times weights of classes.
    largest = torch.linalg.vector_norm(weight, dim=1).max()
    error_B = torch.linalg.vector_norm(found - truth, dim=1)
    assert (error_B <= skipped.dropped_mass * largest).all()
    assert error_B.max() > 0


def test_an_unsure_batch_skips_nothing():
    hidden, weight, bias = layer()
    skipped = SkippedTiles(1e-6)
    linear_cross_entropy(
        hidden, weight, bias, *targets(), reduction="sum", impl="fused", skipped=skipped
    ).backward()
    assert skipped == SkippedTiles(1e-6, 0.0, 0.0)
