"""Rows gathered with a sparse gradient."""

import torch

from widemax.kernels import gather_rows


def test_gradient_is_sparse_coalesced_and_equals_the_dense_one():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(9, 3, generator=generator).requires_grad_()
    ids = torch.tensor([1, 4, 8])
    factor = torch.randn(3, 3, generator=generator)
    rows = gather_rows(weight, ids)
    assert torch.equal(rows, weight[ids])
    (rows * factor).sum().backward()
    assert weight.grad.is_sparse
    assert weight.grad.is_coalesced()
    assert torch.equal(weight.grad.indices()[0], ids)
    (dense,) = torch.autograd.grad((weight[ids] * factor).sum(), weight)
    assert torch.equal(weight.grad.to_dense(), dense)


def test_gradients_add_up_over_backward_calls():
    weight = torch.zeros(5, requires_grad=True)
    gather_rows(weight, torch.tensor([0, 2])).sum().backward()
    gather_rows(weight, torch.tensor([2, 3])).sum().backward()
    assert weight.grad.to_dense().tolist() == [1, 0, 2, 1, 0]
