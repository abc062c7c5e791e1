"""Softmax, its logarithm and log-sum-exp, for NumPy and torch alike."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from widemax.numerics import log_softmax, logsumexp, softmax

KINDS = {"numpy": np.array, "torch": lambda x: torch.tensor(x, dtype=torch.float64)}


@pytest.fixture(params=KINDS, ids=str)
def array(request):
    return KINDS[request.param]


@pytest.mark.parametrize(
    ("logits", "probs", "error"),
    [
        # The third number is cut off after its digits, not rounded.
        ([-0.5, 1.2, -0.1, 2.4], [0.04, 0.21, 0.05, 0.70], 0.0072),
        ([1.0, 2.0, 3.0], [0.0900, 0.2447, 0.6652], 0.5e-4),
        ([3.0, 1.0, -3.0], [0.88, 0.12, 0.00], 0.5e-2),
        ([1e7, 1e8, 2e5, 2e7], [0, 1, 0, 0], 0),
        ([-1e10, -1e9, -2e10, -1e10], [0, 1, 0, 0], 0),
    ],
)
def test_worked_values(array, logits, probs, error):
    np.testing.assert_allclose(np.asarray(softmax(array(logits))), probs, rtol=0, atol=error)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-700, 700), min_size=1, max_size=8), st.sampled_from(sorted(KINDS)))
def test_agrees_with_scipy(logits, kind):
    x = KINDS[kind](logits)
    np.testing.assert_allclose(np.asarray(softmax(x)), special.softmax(logits), atol=1e-15)
    np.testing.assert_allclose(
        np.asarray(log_softmax(x)), special.log_softmax(logits), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(np.asarray(logsumexp(x)), special.logsumexp(logits), rtol=1e-12, atol=1e-12)


def test_axis(array):
    logits = [[1.0, 2.0], [3.0, 5.0]]
    np.testing.assert_allclose(np.asarray(softmax(array(logits), axis=0)).sum(0), 1)
    np.testing.assert_allclose(
        np.asarray(logsumexp(array(logits), axis=0)), special.logsumexp(logits, axis=0)
    )
    np.testing.assert_allclose(
        np.asarray(log_softmax(array(logits), axis=0)), special.log_softmax(logits, axis=0)
    )


def test_rows_without_an_entry_are_empty(array):
    x = array([[-np.inf, -np.inf], [0.0, -np.inf]])
    assert np.asarray(softmax(x)).tolist() == [[0, 0], [1, 0]]
    assert np.asarray(log_softmax(x)).tolist() == [[-np.inf, -np.inf], [0, -np.inf]]
    assert np.asarray(logsumexp(x)).tolist() == [-np.inf, 0]


@pytest.mark.parametrize("function", [softmax, logsumexp])
def test_gradient_of_empty_rows_is_zero(function):
    x = torch.tensor([[-torch.inf, -torch.inf], [0.0, 1.0]], requires_grad=True)
    (function(x)[..., 0] if function is softmax else function(x)).sum().backward()
    assert x.grad[0].tolist() == [0, 0]
    assert x.grad[1].abs().sum() > 0


def test_gradients():
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for function in (softmax, log_softmax, logsumexp):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)


def test_integers_and_lists_are_promoted():
    assert softmax(np.array([1, 2])).dtype == np.float64
    assert softmax(torch.tensor([1, 2])).dtype == torch.float32
    assert float(logsumexp([0, 0])) == pytest.approx(np.log(2))
    assert softmax(np.float32([1, 2])).dtype == np.float32


def test_infinite_logits_have_an_infinite_log_partition(array):
    assert float(logsumexp(array([np.inf, 0.0]))) == np.inf
