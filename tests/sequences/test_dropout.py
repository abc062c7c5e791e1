"""Dropout: the part that is dropped, the mean that stays, the gradient."""

import torch

from widemax.sequences import dropout


def test_the_rate_and_the_mean_are_right() -> None:
    torch.manual_seed(0)
    values = dropout(torch.ones(1000, 501), 0.3)
    kept = values > 0
    assert abs(float(kept.float().mean()) - (1 - 77 / 256)) < 5e-3
    torch.testing.assert_close(values[kept], torch.full_like(values[kept], 256 / 179))
    columns = kept.double().mean(0)  # each byte of a word decides alike
    assert float((columns - columns.mean()).abs().max()) < 0.08


def test_the_gradient_passes_where_values_did() -> None:
    values = torch.ones(100, requires_grad=True)
    dropped = dropout(values, 0.5)
    dropped.sum().backward()
    torch.testing.assert_close(values.grad, dropped.detach())


def test_no_rate_drops_nothing() -> None:
    values = torch.randn(9)
    assert dropout(values, 0.0) is values
    assert dropout(values, 0.999).isfinite().all()
