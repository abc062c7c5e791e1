"""Sparsemax and entmax of α = 1.5, against the entmax package, bisection and the optimality conditions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.numerics import entmax15, softmax, sparsemax

POWERS = {sparsemax: 1.0, entmax15: 2.0}


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_bisection(x, power):
    """max(z − τ, 0)**power of one row, with τ found by halving an interval instead of sorting."""
    z = np.asarray(x) / power
    low, high = z.max() - 1, z.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (np.maximum(z - middle, 0) ** power).sum() > 1 else (low, middle)
    return np.maximum(z - low, 0) ** power


def is_optimal(probs, x, power):
    """Whether p maximizes ⟨p, x⟩ − Ω(p): x − Ω'(p) is level on the support, and not above it elsewhere."""
    slope = x - power * probs ** (1 / power)
    support = probs > 0
    level = slope[support].max()
    on_support = np.abs(slope[support] - level).max() < 1e-6
    return bool(abs(probs.sum() - 1) < 1e-9 and on_support and (slope[~support] <= level + 1e-6).all())


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=9), st.sampled_from(sorted(POWERS, key=POWERS.get)))
def test_solve_their_optimality_conditions(logits, function):
    x = np.array(logits)
    probs = function(x)
    assert is_optimal(probs, x, POWERS[function])
    np.testing.assert_allclose(probs, by_bisection(x, POWERS[function]), atol=1e-9)
    np.testing.assert_allclose(function(torch.tensor(x)).numpy(), probs, atol=1e-12)


def test_wrong_solutions_are_found():
    x = np.array([1.0, 0.5, 0.2, -3.0])
    assert not is_optimal(softmax(x), x, 1.0)
    assert not is_optimal(sparsemax(x), x, 2.0)
    assert not is_optimal(entmax15(x), x, 1.0)
    assert not is_optimal(np.array([1.0, 0, 0, 0]), x, 1.0)


@pytest.mark.parametrize("function", POWERS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_agree_with_the_entmax_package(function, axis):
    entmax = pytest.importorskip("entmax", reason="the reference package entmax is not installed")
    x = (3 * normal(7, 5, 6)).requires_grad_()
    weight = normal(7, 5, 6, seed=1)
    peer = {sparsemax: entmax.sparsemax, entmax15: entmax.entmax15}[function]
    expected, result = peer(x, dim=axis), function(x, axis=axis)
    np.testing.assert_allclose(result.detach(), expected.detach(), atol=1e-14)
    np.testing.assert_allclose(function(x.detach().numpy(), axis=axis), expected.detach(), atol=1e-14)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (result, expected)]
    np.testing.assert_allclose(*gradients, atol=1e-13)


def test_worked_values():
    # Two entries share a support while they are less than 1 (sparsemax) or 2 (entmax15) apart.
    assert sparsemax(np.array([0.0, 1.0])).tolist() == [0, 1]
    assert sparsemax(np.array([0.5, 1.0])).tolist() == [0.25, 0.75]
    assert entmax15(np.array([0.0, 2.0])).tolist() == [0, 1]
    np.testing.assert_allclose(
        entmax15(np.array([0.0, 1.0])), [0.5 - 7**0.5 / 8, 0.5 + 7**0.5 / 8], atol=1e-15
    )


def test_support_narrows_from_softmax_to_sparsemax():
    x = normal(30).numpy()
    sizes = [(function(x) > 0).sum() for function in (softmax, entmax15, sparsemax)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("function", POWERS)
@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0])
def test_float32_keeps_wide_rows_accurate(function, scale):
    x = (scale * normal(3, 20_000)).float()
    truth = function(x.double())
    assert (truth > 0).sum(1).max() > (1 if scale == 1 else 100)
    for probs in (function(x), torch.from_numpy(function(x.numpy()))):
        assert probs.dtype == torch.float32
        assert (probs.double().sum(1) - 1).abs().max() < 2e-6
        assert (probs.double() - truth).abs().max() <= 1e-6 * truth.max()


@pytest.mark.parametrize("function", POWERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_truth(function, dtype):
    x = normal(20, 200).to(dtype)
    truth = function(x.double())
    probs = function(x)
    assert probs.dtype == dtype
    assert ((probs.double() - truth).abs() <= (truth.to(dtype).double() - truth).abs() * 1.01 + 1e-6).all()
    if dtype == torch.float16:
        assert (torch.from_numpy(function(x.numpy())) - probs).abs().max() <= 1e-3


@pytest.mark.parametrize("function", POWERS)
def test_derivatives_of_both_orders_next_to_wide_gaps(function):
    rows = [[5.0, 4.9, -1e30, -torch.inf], [1.0, 1.0, 1.0, -4.0]]
    x = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x)[:, 0].sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x, allow_unused=True)
    assert gradient.isfinite().all()
    assert gradient[:, -1].tolist() == [0, 0]
    assert second is None or second.isfinite().all()
