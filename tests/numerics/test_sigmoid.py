"""The sigmoid, its logarithm and softplus, for NumPy and torch alike."""

import numpy as np
import pytest
import torch
from scipy import special

from widemax.numerics import log_sigmoid, sigmoid, softplus

KINDS = {"numpy": np.array, "torch": lambda x: torch.tensor(x, dtype=torch.float64)}


@pytest.mark.parametrize("kind", KINDS)
def test_worked_values(kind):
    probs = np.asarray(sigmoid(KINDS[kind]([-0.5, 1.2, -0.1, 2.4])))
    np.testing.assert_allclose(probs, [0.37, 0.77, 0.48, 0.91], atol=0.0099)
    assert probs.sum() == pytest.approx(2.53, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_agree_with_scipy_and_never_overflow(kind):
    logits = [-1e4, -800.0, -30.0, -1.0, 0.0, 2.0, 40.0, 1e4]
    x = KINDS[kind](logits)
    np.testing.assert_allclose(np.asarray(sigmoid(x)), special.expit(logits), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(log_sigmoid(x)), special.log_expit(logits), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(softplus(x)), np.logaddexp(0, logits), rtol=1e-12)


def test_integers_are_promoted():
    assert sigmoid(np.array([0])).tolist() == [0.5]
    assert sigmoid(torch.tensor([0])).tolist() == [0.5]
    assert log_sigmoid(torch.tensor([0])).dtype == torch.float32


@pytest.mark.parametrize("function", [sigmoid, log_sigmoid, softplus])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_truth(function, dtype):
    x = torch.linspace(-12, 12, 999).to(dtype)
    truth = function(x.double())
    result = function(x)
    assert result.dtype == dtype
    rounding = (truth.to(dtype).double() - truth).abs().numpy() * 1.01 + 1e-7
    assert (np.abs(result.double().numpy() - truth.numpy()) <= rounding).all()
    if dtype == torch.float16:
        in_numpy = function(x.numpy())
        assert in_numpy.dtype == np.float16
        assert (np.abs(in_numpy.astype(float) - truth.numpy()) <= rounding).all()


@pytest.mark.parametrize("kind", KINDS)
def test_infinity_and_nan(kind):
    x = KINDS[kind]([-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(np.asarray(sigmoid(x)), [0, 1, np.nan])
    np.testing.assert_array_equal(np.asarray(log_sigmoid(x)), [-np.inf, 0, np.nan])
    np.testing.assert_array_equal(np.asarray(softplus(x)), [0, np.inf, np.nan])


@pytest.mark.parametrize("function", [sigmoid, log_sigmoid, softplus])
def test_gradients_of_both_orders(function):
    x = torch.tensor([-30.0, -1.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)
