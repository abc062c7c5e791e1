"""A power of 2 is the exponential, as exactly as its docstring says."""

import pytest
import torch

from widemax.kernels.exponentials import exp_minus_


@pytest.mark.parametrize("shift", [0.0, 17.3, -1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relative_error_grows_with_the_logarithm_only(dtype, shift):
    shift_B = torch.tensor([shift], dtype=dtype)
    values = torch.linspace(-80, 5, 100_001, dtype=torch.float64)[None] + shift
    narrow = values.to(dtype)
    exponent = narrow.double() - shift_B.double()[:, None]
    # A shift is rounded once more after its multiplication.
    allowed = (2 + exponent.abs() + 2 * abs(shift)) * torch.finfo(dtype).eps

    def error(found):
        return (found.double() / exponent.exp() - 1).abs()

    assert (error(exp_minus_(narrow.clone(), shift_B)) <= allowed).all()
    if dtype == torch.float32:
        too_narrow = (narrow - shift_B[:, None]).bfloat16().float().exp()
        assert not (error(too_narrow) <= allowed).all()


def test_limits_and_in_place():
    values = torch.tensor([[0.0, -torch.inf, torch.inf, torch.nan, torch.finfo(torch.float32).min]])
    found = exp_minus_(values, torch.zeros(1))
    assert found.data_ptr() == values.data_ptr()
    torch.testing.assert_close(found, torch.tensor([[1, 0, torch.inf, torch.nan, 0]]), equal_nan=True)
