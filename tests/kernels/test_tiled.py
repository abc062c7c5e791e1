"""The tiled losses equal their plain twins, in value and gradient."""

import pytest
import torch
from wide_layer import B, C, D, layer, targets

from widemax.kernels import (
    Pairs,
    plain_binary_cross_entropy,
    plain_cross_entropy,
    tiled,
    tiled_binary_cross_entropy,
    tiled_cross_entropy,
)


@pytest.fixture(params=[1, 5, 1000], ids="width={}".format)
def tile_width(request, monkeypatch):
    monkeypatch.setattr(tiled, "MIN_TILE_WIDTH", request.param)
    monkeypatch.setattr(tiled, "TILE_ELEMENTS", 1)
    return request.param


CASES = [
    (plain_cross_entropy, tiled_cross_entropy, {}),
    (plain_cross_entropy, tiled_cross_entropy, {"temperature": 0.3, "label_smoothing": 0.1}),
    (plain_binary_cross_entropy, tiled_binary_cross_entropy, {}),
    (plain_binary_cross_entropy, tiled_binary_cross_entropy, {"temperature": 2.0}),
]


def value_and_gradients(loss, tensors, options):
    sample_weight_B = torch.linspace(0.5, 2, B, dtype=torch.float64)
    pairs, weights = targets()
    loss_B = loss(*tensors, pairs, weights, **options)
    inputs = [tensor for tensor in tensors if tensor is not None]
    return loss_B, *torch.autograd.grad((loss_B * sample_weight_B).sum(), inputs)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("plain", "fast", "options"), CASES)
def test_equals_the_plain_twin(tile_width, plain, fast, options, with_bias):
    hidden, weight, bias = layer()
    tensors = [hidden, weight, bias if with_bias else None]
    expected = value_and_gradients(plain, tensors, options)
    for one, other in zip(value_and_gradients(fast, tensors, options), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("plain", "fast", "options"), CASES)
def test_gradcheck(monkeypatch, plain, fast, options):
    monkeypatch.setattr(tiled, "MIN_TILE_WIDTH", 10)
    monkeypatch.setattr(tiled, "TILE_ELEMENTS", 1)
    pairs, weights = targets()

    def loss(*tensors):
        return fast(*tensors, pairs, weights, **options)

    assert torch.autograd.gradcheck(loss, layer())
    assert torch.autograd.gradgradcheck(loss, layer())


@pytest.mark.parametrize(("plain", "fast", "options"), CASES)
def test_extreme_logits_stay_accurate(tile_width, plain, fast, options):
    exact = value_and_gradients(plain, layer(scale=1e4), options)
    tensors = layer(scale=1e4)
    narrow = [tensor.detach().float().requires_grad_() for tensor in tensors]
    for one, other in zip(value_and_gradients(fast, narrow, options), exact, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-2 * other.abs().max().item())


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_inputs_receive_nothing(tile_width, frozen):
    tensors = layer()
    tensors[frozen].requires_grad_(False)
    tiled_cross_entropy(*tensors, *targets()).sum().backward()
    assert [tensor.grad is None for tensor in tensors] == [index == frozen for index in range(3)]


def test_a_second_backward_gives_the_same(tile_width):
    hidden, weight, bias = layer()
    loss = tiled_cross_entropy(hidden, weight, bias, *targets()).sum()
    first = torch.autograd.grad(loss, weight, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, weight)[0])


@pytest.mark.parametrize("fast", [tiled_cross_entropy, tiled_binary_cross_entropy])
def test_bfloat16_is_as_accurate_as_the_plain_form(fast):
    plain = {tiled_cross_entropy: plain_cross_entropy}.get(fast, plain_binary_cross_entropy)
    tensors = [tensor.detach().bfloat16().requires_grad_() for tensor in layer()]
    exact = value_and_gradients(plain, [tensor.detach().double().requires_grad_() for tensor in tensors], {})
    by_plain = value_and_gradients(plain, tensors, {})
    for one, other, truth in zip(value_and_gradients(fast, tensors, {}), by_plain, exact, strict=True):
        error, allowed = ((x.double() - truth).abs().max() for x in (one, other))
        assert error <= 2 * allowed + 1e-2 * truth.abs().max()


def test_empty_batch():
    nothing = Pairs(torch.arange(0), torch.arange(0))
    hidden = torch.zeros(0, D, requires_grad=True)
    weight = torch.zeros(C, D, requires_grad=True)
    loss_B = tiled_cross_entropy(hidden, weight, None, nothing, torch.zeros(0))
    loss_B.sum().backward()
    assert loss_B.shape == (0,)
    assert weight.grad.abs().sum() == 0
