"""A power of 2 is the exponential, as exactly as its docstring says."""

import pytest
import torch

from widemax.kernels.exponentials import exp_minus, softplus_and_sigmoid, softplus_by_exp, softplus_into
from widemax.numerics import softplus


@pytest.mark.parametrize("shift", [0.0, 17.3, -1e5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exponential_is_right_to_the_last_bits(dtype, shift):
    shift_B = torch.tensor([shift], dtype=dtype)
    values = torch.linspace(-80, 5, 100_001, dtype=torch.float64)[None] + shift
    narrow = values.to(dtype)
    exponent = narrow.double() - shift_B.double()[:, None]
    # What is subtracted is rounded.
    allowed = (2 + exponent.abs()) * torch.finfo(dtype).eps

    def error(found):
        return (found.double() / exponent.exp() - 1).abs()

    assert (error(exp_minus(narrow, shift_B, out=torch.empty_like(narrow))) <= allowed).all()
    if dtype == torch.float32:
        too_narrow = (narrow - shift_B[:, None]).bfloat16().float().exp()
        assert not (error(too_narrow) <= allowed).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_limits_and_in_place(dtype):
    tiny = torch.finfo(dtype).tiny
    values = torch.tensor([[0, -torch.inf, torch.inf, torch.nan, torch.finfo(dtype).min, -1e3]], dtype=dtype)
    found = exp_minus(values, torch.zeros(1, dtype=dtype), out=values)
    assert found.data_ptr() == values.data_ptr()
    least = 2 * tiny
    known = torch.tensor([[1, least, torch.inf, torch.nan, least, least]], dtype=dtype)
    torch.testing.assert_close(found, known, equal_nan=True, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softplus_is_exact_everywhere(dtype):
    values = torch.linspace(-800, 800, 100_001, dtype=torch.float64).to(dtype)
    known = -torch.nn.functional.logsigmoid(-values.double())
    smallest = torch.finfo(dtype).tiny

    def is_right(found):
        # exp errs by a rounding of its argument.
        allowed = (4 + values.double().clamp(max=0).abs()) * torch.finfo(dtype).eps * known + smallest
        return bool(((found.double() - known).abs() <= allowed).all())

    assert is_right(softplus(values))
    out = torch.empty_like(values)
    assert softplus_into(values, out).data_ptr() == out.data_ptr()
    assert is_right(out)
    if dtype == torch.float64:
        assert not is_right(torch.nn.functional.softplus(values))  # the wrong twin: x itself from 20


def test_softplus_has_the_sigmoid_as_its_slope():
    values = torch.tensor([-torch.inf, -50.0, 0.0, 3.0, 50.0, 1000.0], dtype=torch.float64).requires_grad_()
    softplus(values).sum().backward()
    torch.testing.assert_close(values.grad, torch.sigmoid(values.detach()))


@pytest.mark.parametrize("both", [softplus_by_exp, softplus_and_sigmoid])
def test_softplus_and_sigmoid_at_once(both):
    values = torch.cat([torch.linspace(-80, 80, 10_001), torch.tensor([-torch.inf])])
    exact = values.double()
    softplus_N = both(values, torch.empty_like(values))
    rtol = 4 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(
        softplus_N.double(), torch.logaddexp(exact, torch.zeros(())), rtol=rtol, atol=0
    )
    torch.testing.assert_close(values.double(), exact.sigmoid(), rtol=rtol, atol=0)
    found = both(torch.tensor([1000.0]), torch.empty(1))
    assert found == (torch.inf if both is softplus_by_exp else 1000.0)
