"""2^(x·log₂e) is e^x, as exactly as its docstring says."""

import pytest
import torch

from widemax.kernels.exponentials import exp_


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relative_error_grows_with_the_exponent_only(dtype):
    values = torch.linspace(-80, 80, 100_001, dtype=torch.float64)
    narrow = values.to(dtype)
    exact = narrow.double().exp()
    error = (exp_(narrow.clone()).double() / exact - 1).abs()
    allowed = (1 + narrow.double().abs()) * torch.finfo(dtype).eps
    # float64 is its own reference, which errs as much.
    assert (error <= (1 if dtype == torch.float32 else 4) * allowed).all()
    if dtype == torch.float32:
        bfloat16_error = (narrow.bfloat16().double().exp() / exact - 1).abs()
        assert not (bfloat16_error <= allowed).all(), "a wrong twin passes"


def test_limits_and_in_place():
    values = torch.tensor([0.0, -torch.inf, torch.inf, torch.nan, torch.finfo(torch.float32).min])
    found = exp_(values)
    assert found.data_ptr() == values.data_ptr()
    torch.testing.assert_close(found, torch.tensor([1, 0, torch.inf, torch.nan, 0]), equal_nan=True)
