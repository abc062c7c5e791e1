"""Kernels multiply under autocast what torch would multiply."""

import pytest
import torch

from widemax.kernels import Pairs, linear_logsumexp, stream_classes
from widemax.numerics.autocast import autocast_dtype

B, C, D = 6, 50, 4
NOTHING = Pairs(torch.arange(0), torch.arange(0))


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_the_dtype_is_that_of_a_product(low):
    for own in (torch.float64, torch.float32, torch.bfloat16):
        vector = torch.ones(2, 2, dtype=own)
        assert autocast_dtype(vector) == own
        with torch.autocast("cpu", dtype=low):
            assert autocast_dtype(vector) == (vector @ vector).dtype
            with torch.autocast("cpu", enabled=False):
                assert autocast_dtype(vector) == own


KERNELS = {
    "partition": lambda h, w, b: sum(linear_logsumexp(h, w, b, NOTHING)).sum(),
    "stream": lambda h, w, b: stream_classes(h, w, b, NOTHING, NOTHING, k=0).log_sum_B.sum(),
}


@pytest.mark.parametrize("hidden_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_kernels_are_those_of_rounded_numbers(kernel, hidden_dtype):
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((B, D), (C, D), (C,)))
    layers = [
        [tensor.clone().requires_grad_() for tensor in (hidden.to(hidden_dtype), weight, bias)],
        [tensor.requires_grad_() for tensor in (hidden.bfloat16(), weight.bfloat16(), bias.clone())],
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = [kernel(*layers[0])]
    values.append(kernel(*layers[1]))
    assert torch.equal(*values)
    assert values[0].dtype == torch.float32
    if values[0].requires_grad:
        for value in values:
            value.backward()
        for one, other in zip(*layers, strict=True):
            assert torch.equal(one.grad, other.grad.to(one.dtype))
