"""Entropy and Kullback–Leibler divergence, of probabilities and of logits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from widemax.errors import ShapeError
from widemax.numerics import entropy, kl_divergence, log_softmax, softmax

KINDS = {"numpy": np.array, "torch": lambda x: torch.tensor(x, dtype=torch.float64)}


@pytest.fixture(params=KINDS, ids=str)
def array(request):
    return KINDS[request.param]


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_worked_values(array):
    p = array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [1 / 3] * 3])
    np.testing.assert_allclose(np.asarray(entropy(p)), [np.log(2), 0, np.log(3)], atol=1e-15)
    q = array([[0.25, 0.25, 0.5], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(np.asarray(kl_divergence(p, q)), [np.log(2), np.log(2), np.inf], atol=1e-15)
    empty = array([[0.0, 0.0]])
    assert np.asarray(entropy(empty)).tolist() == [0]
    assert np.asarray(kl_divergence(empty, array([[0.0, 1.0]]))).tolist() == [0]


@given(
    st.lists(st.tuples(st.floats(-300, 300), st.floats(-300, 300)), min_size=1, max_size=6),
    st.sampled_from(sorted(KINDS)),
)
def test_agree_with_scipy(pairs, kind):
    x, y = np.array(pairs).T
    p, q = special.softmax(x), special.softmax(y)
    array = KINDS[kind]
    for result in (entropy(array(p)), entropy(array(x), from_logits=True)):
        np.testing.assert_allclose(float(result), stats.entropy(p), rtol=1e-9, atol=1e-13)
    for result in (kl_divergence(array(p), array(q)), kl_divergence(array(x), array(y), from_logits=True)):
        assert float(result) >= -1e-12
        np.testing.assert_allclose(float(result), special.rel_entr(p, q).sum(), rtol=1e-9, atol=1e-12)


def test_axis(array):
    x = array(normal(3, 4, 5).tolist())
    for axis in range(-3, 3):
        p = softmax(x, axis=axis)
        expected = stats.entropy(np.asarray(p), axis=axis)
        np.testing.assert_allclose(np.asarray(entropy(p, axis=axis)), expected, rtol=1e-12)
        np.testing.assert_allclose(np.asarray(entropy(x, from_logits=True, axis=axis)), expected, rtol=1e-12)
        q = softmax(x * 2, axis=axis)
        np.testing.assert_allclose(
            np.asarray(kl_divergence(p, q, axis=axis)),
            special.rel_entr(np.asarray(p), np.asarray(q)).sum(axis),
            rtol=1e-12,
        )


def test_divergence_is_not_symmetric_and_zero_for_equals(array):
    p, q = array([0.9, 0.1]), array([0.5, 0.5])
    assert float(kl_divergence(p, p)) == 0
    assert float(kl_divergence(p, q)) != pytest.approx(float(kl_divergence(q, p)))


def test_logits_without_a_chance(array):
    x = array([[0.0, 0.0, -np.inf], [0.0, -np.inf, -np.inf], [-np.inf] * 3, [0.0, -1e300, -800.0]])
    np.testing.assert_allclose(np.asarray(entropy(x, from_logits=True)), [np.log(2), 0, 0, 0], atol=1e-15)
    uniform = array([[0.0, 0.0, 0.0]] * 4)
    expected = [np.log(1.5), np.log(3), 0, np.log(3)]
    np.testing.assert_allclose(np.asarray(kl_divergence(x, uniform, from_logits=True)), expected, atol=1e-15)
    assert (np.asarray(kl_divergence(uniform, x, from_logits=True))[:3] == np.inf).all()


def test_logits_reach_where_probabilities_are_zero(array):
    p, q = array([0.0, 0.0]), array([0.0, -2000.0])
    assert float(kl_divergence(p, q, from_logits=True)) == pytest.approx(1000 - np.log(2))
    assert float(kl_divergence(softmax(p), softmax(q))) == np.inf


@pytest.mark.parametrize("from_logits", [False, True])
def test_gradients_of_both_orders(from_logits):
    x, y = normal(3, 4), normal(3, 4, seed=1)
    if not from_logits:
        x, y = softmax(x), softmax(y)
    x.requires_grad_(), y.requires_grad_()

    def divergence(x, y):
        return kl_divergence(x, y, from_logits=from_logits)

    def uncertainty(x):
        return entropy(x, from_logits=from_logits)

    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(uncertainty, x)
        assert check(divergence, (x, y))
    whole = torch.func.grad(lambda x: uncertainty(x).sum())(x.detach())
    np.testing.assert_allclose(whole, torch.autograd.grad(uncertainty(x).sum(), x)[0], atol=1e-14)


def test_gradients_are_finite_where_p_is_zero():
    p = torch.tensor([0.5, 0.5, 0.0], requires_grad=True)
    q = torch.tensor([0.25, 0.75, 0.0], requires_grad=True)
    entropy(p).backward()
    np.testing.assert_allclose(p.grad, [np.log(2) - 1, np.log(2) - 1, 0], rtol=1e-6)
    p.grad = None
    kl_divergence(p, q).backward()
    np.testing.assert_allclose(p.grad, [np.log(2) + 1, np.log(2 / 3) + 1, 0], rtol=1e-6)
    np.testing.assert_allclose(q.grad, [-2, -2 / 3, 0], rtol=1e-6)
    naive = torch.tensor([0.5, 0.5, 0.0], requires_grad=True)
    torch.special.entr(naive).sum().backward()
    assert not naive.grad.isfinite().all()


@pytest.mark.parametrize("logits", [[0.0, -torch.inf, 1.0], [-torch.inf] * 3, [0.0, -1e30, -200.0]])
def test_gradients_are_finite_where_a_logit_has_no_chance(logits):
    x = torch.tensor(logits, requires_grad=True)
    y = torch.tensor([0.0, -torch.inf if logits[1] == -torch.inf else 1.0, 2.0], requires_grad=True)
    (entropy(x, from_logits=True) + kl_divergence(x, y, from_logits=True)).backward()
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()
    assert x.grad[1] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_worse_than_torch(dtype):
    x = normal(20, 500).to(dtype)
    truth = entropy(x.double(), from_logits=True)
    result = entropy(x, from_logits=True)
    assert result.dtype == dtype
    log_probs = torch.log_softmax(x, -1)
    plain = -(log_probs.exp() * log_probs).sum(-1)
    assert (result.double() - truth).abs().max() <= (plain.double() - truth).abs().max()
    wide = kl_divergence(log_softmax(x).float(), x, from_logits=True)
    assert wide.dtype == torch.float32
    if dtype == torch.float16:
        assert entropy(x.numpy(), from_logits=True).dtype == np.float16


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"p and q must have one shape; got \(2, 3\) and \(3,\)"):
        kl_divergence(np.ones((2, 3)), np.ones(3))
    with pytest.raises(TypeError, match="p and q must all be arrays or all be tensors"):
        kl_divergence(np.ones(3), torch.ones(3))
    with pytest.raises(TypeError, match="q must be a NumPy array or torch tensor of real numbers"):
        kl_divergence(np.ones(3), "abc")
    assert entropy(np.ones((2, 0))).tolist() == [0, 0]
    assert entropy(torch.ones((0, 2)), from_logits=True).shape == (0,)
