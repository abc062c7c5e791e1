"""The log-partition and the softplus of shared classes equal the plain formulas, in value and gradient."""

import pytest
import torch

from widemax.kernels import Pairs, budget, linear_logsumexp, linear_softplus
from widemax.numerics import softplus

B, S, D = 7, 9, 3
HITS = Pairs(torch.tensor([0, 2, 2, 2, 6]), torch.tensor([8, 0, 1, 5, 5]))
ALL_OF_ROW_4 = Pairs(torch.full((S,), 4), torch.arange(S))


@pytest.fixture(params=[1, 3 * S, 2**20], ids="block={}".format)
def block(request, monkeypatch):
    monkeypatch.setattr(budget, "BLOCK_ELEMENTS", request.param)


def layer(dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(*shape, dtype=dtype, generator=generator) for shape in ((B, D), (S, D), (S,))]
    return [(scale * tensor).requires_grad_() for tensor in tensors]


def masked_logits(hidden, weight, shift, hits):
    logits = (hidden @ weight.T).to(torch.promote_types(hidden.dtype, torch.float32)) + shift
    mask = torch.zeros_like(logits).index_put(tuple(hits), logits.new_tensor(-torch.inf))
    return logits + mask


def plain(*arguments):
    return torch.logsumexp(masked_logits(*arguments), 1)


def log_partition(*arguments):
    return sum(linear_logsumexp(*arguments))


FACTORS = torch.linspace(0.1, 3, S)


def plain_softplus(*arguments):
    logits = masked_logits(*arguments)
    return (softplus(logits) * FACTORS.to(logits.dtype)).sum(1)


def softplus_sum(hidden, weight, shift, hits):
    return linear_softplus(hidden, weight, shift, FACTORS, hits)


PAIRS = [(log_partition, plain), (softplus_sum, plain_softplus)]
each = pytest.mark.parametrize(("kernel", "formula"), PAIRS)


def with_gradients(function, tensors):
    value_B = function(*tensors, HITS)
    total = value_B @ torch.linspace(0.5, 2, B, dtype=value_B.dtype)
    return value_B.detach(), *torch.autograd.grad(total, tensors)


@each
def test_equals_the_plain_formula(kernel, formula, block):
    for one, other in zip(*(with_gradients(f, layer()) for f in (kernel, formula)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@each
def test_gradients_have_gradients(kernel, formula, block):
    def function(*tensors):
        return kernel(*tensors, HITS)

    assert torch.autograd.gradcheck(function, layer())
    assert torch.autograd.gradgradcheck(function, layer())


def test_a_row_that_hits_every_class_has_no_gradient(block):
    hidden, weight, shift = layer()
    value_B = log_partition(hidden, weight, shift, ALL_OF_ROW_4)
    assert value_B[4] == -torch.inf
    value_B.exp().sum().backward()
    assert hidden.grad[4].abs().sum() == 0
    assert weight.grad.isfinite().all()


@each
def test_extreme_logits_stay_accurate(kernel, formula, block):
    exact = with_gradients(formula, layer(scale=1e3))
    narrow = [tensor.detach().float().requires_grad_() for tensor in layer(scale=1e3)]
    for one, other in zip(with_gradients(kernel, narrow), exact, strict=True):
        torch.testing.assert_close(
            one.double(), other, rtol=1e-3, atol=1e-2 * other.abs()[other.isfinite()].max()
        )


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_accurate_as_the_plain_formula(kernel, formula, block, dtype):
    hidden, weight, shift = layer(dtype)
    tensors = [hidden, weight, shift.detach().float().requires_grad_()]
    exact = with_gradients(formula, [tensor.detach().double().requires_grad_() for tensor in tensors])
    allowed, found = (with_gradients(f, tensors) for f in (formula, kernel))
    for one, other, truth in zip(found, allowed, exact, strict=True):
        error, by_plain = ((x.double() - truth).abs().max() for x in (one, other))
        assert error <= 2 * by_plain + 1e-2 * truth.abs().max()


@each
@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_inputs_receive_nothing(kernel, formula, frozen):
    tensors = layer()
    tensors[frozen].requires_grad_(False)
    kernel(*tensors, HITS).sum().backward()
    assert [tensor.grad is None for tensor in tensors] == [index == frozen for index in range(3)]


def test_without_rows_or_classes():
    nothing = Pairs(torch.arange(0), torch.arange(0))
    assert log_partition(torch.zeros(0, D), torch.zeros(S, D), torch.zeros(S), nothing).shape == (0,)
    no_class_B = log_partition(torch.zeros(2, D), torch.zeros(0, D), torch.zeros(0), nothing)
    assert (no_class_B == -torch.inf).all()
    softplus_B = linear_softplus(
        torch.zeros(2, D), torch.zeros(0, D), torch.zeros(0), torch.zeros(0), nothing
    )
    assert (softplus_B == 0).all()


def test_far_below_the_softplus_is_the_exponential():
    hidden, weight, factor = torch.full((1, 1), -30.0), torch.ones(4, 1), torch.full((4,), 1e12)
    found = linear_softplus(hidden, weight, torch.zeros(4), factor, Pairs(torch.arange(1), torch.arange(1)))
    torch.testing.assert_close(found, 3e12 * hidden[0].exp(), rtol=1e-5, atol=0.0)
