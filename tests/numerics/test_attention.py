"""Attention in plain form, against torch's own."""

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from widemax.errors import ShapeError
from widemax.numerics import attention


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def parts():
    return normal(2, 3, 5, 4), normal(2, 3, 7, 4, seed=1), normal(2, 3, 7, 6, seed=2)


MASK = normal(2, 1, 5, 7, seed=3) > -0.5


def agrees(function, parts, **options):
    peer = {"attn_mask" if name == "where" else name: value for name, value in options.items()}
    expected = scaled_dot_product_attention(*parts, **peer)
    return torch.allclose(function(*parts, **options), expected, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"is_causal": True}, {"where": MASK}], ids=str)
def test_agrees_with_torch_and_numpy_with_both(parts, options):
    assert agrees(attention, parts, **options)
    in_numpy = {
        name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in options.items()
    }
    result = attention(*(part.numpy() for part in parts), **in_numpy)
    np.testing.assert_allclose(result, attention(*parts, **options), atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda q, k, v: attention(q, k, v, scale=1.0),
        lambda q, k, v: attention(q, k, v, scale=1 / 7**0.5),
        lambda q, k, v: attention(q, k, v, is_causal=True),
        lambda q, k, v: torch.softmax(q @ k.transpose(-2, -1) / 2, -2) @ v,
    ],
    ids=["unscaled", "scaled by the keys", "causal", "normalized over queries"],
)
def test_wrong_forms_are_found(parts, wrong):
    assert not agrees(wrong, parts)


def test_masks_join():
    q, k, v = normal(5, 4), normal(5, 4, seed=1), normal(5, 4, seed=2)
    past = torch.ones(5, 5, dtype=torch.bool).tril()
    mask = (normal(5, 5, seed=4) > 0) | torch.eye(5, dtype=torch.bool)
    expected = attention(q, k, v, where=mask & past)
    torch.testing.assert_close(attention(q, k, v, where=mask, is_causal=True), expected)
    np.testing.assert_allclose(
        attention(q.numpy(), k.numpy(), v.numpy(), where=mask.numpy(), is_causal=True), expected, atol=1e-14
    )


def test_a_query_that_sees_no_key_gives_zeros_and_no_gradient(parts):
    q, k, v = (part.requires_grad_() for part in parts)
    where = torch.ones(5, 7, dtype=torch.bool)
    where[2] = False
    result = attention(q, k, v, where=where)
    assert (result[:, :, 2] == 0).all()
    result.square().sum().backward()
    for part in (q, k, v):
        assert part.grad.isfinite().all()
        assert part.grad.abs().sum() > 0
    assert (q.grad[:, :, 2] == 0).all()
    in_numpy = attention(*(part.detach().numpy() for part in (q, k, v)), where=where.numpy())
    np.testing.assert_allclose(in_numpy, result.detach(), atol=1e-12)


def test_gradients_of_both_orders():
    parts = tuple(normal(3, 2, seed=seed).requires_grad_() for seed in range(3))
    for options in ({}, {"is_causal": True, "scale": 0.7}):
        assert torch.autograd.gradcheck(lambda *parts, o=options: attention(*parts, **o), parts)
        assert torch.autograd.gradgradcheck(lambda *parts, o=options: attention(*parts, **o), parts)


def test_leading_axes_broadcast():
    q, k, v = normal(3, 1, 5, 4), normal(2, 7, 4, seed=1), normal(7, 6, seed=2)
    expected = attention(q.expand(3, 2, 5, 4), k.expand(3, 2, 7, 4), v.expand(3, 2, 7, 6))
    torch.testing.assert_close(attention(q, k, v), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_worse_than_torch(parts, dtype):
    halves = [part.to(dtype) for part in parts]
    truth = attention(*(half.double() for half in halves))
    result = attention(*halves)
    assert result.dtype == dtype
    peer = scaled_dot_product_attention(*halves)
    assert (result.double() - truth).abs().max() <= (peer.double() - truth).abs().max()


def test_axes_without_entries(parts):
    q, k, v = parts
    assert attention(q[:0], k[:0], v[:0]).shape == (0, 3, 5, 6)
    assert (attention(q, k[:, :, :0], v[:, :, :0]) == torch.zeros(2, 3, 5, 6)).all()
    assert (attention(q.numpy(), k[:, :, :0].numpy(), v[:, :, :0].numpy()) == np.zeros((2, 3, 5, 6))).all()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4,), (7, 4), (7, 6)), "must have at least two axes"),
        (((5, 4), (7, 3), (7, 6)), "query and key must have one length"),
        (((5, 0), (7, 0), (7, 6)), "at least 1, on their last axis"),
        (((5, 4), (7, 4), (8, 6)), "key and value must have one length"),
        (((2, 5, 4), (3, 7, 4), (7, 6)), "the leading axes of query, key and value must broadcast"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    for make in (np.ones, torch.ones):
        with pytest.raises(ShapeError, match=message):
            attention(*(make(shape) for shape in shapes))


def test_masks_and_kinds_that_do_not_fit(parts):
    with pytest.raises(ShapeError, match=r"where must broadcast to \(2, 3, 5, 7\)"):
        attention(*parts, where=torch.ones(7, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match="query and key and value must all be arrays or all be tensors"):
        attention(parts[0], parts[1].numpy(), parts[2])
    with pytest.raises(TypeError, match="value must be a NumPy array"):
        attention(np.ones((2, 2)), np.ones((2, 2)), "abc")
