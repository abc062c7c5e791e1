"""Rows gathered with a sparse gradient."""

import pytest
import torch

from widemax.kernels import gather_groups, gather_rows


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


def groups(weight, rows, *places):
    return gather_groups(weight, torch.tensor(rows), *map(torch.tensor, places))


@pytest.mark.parametrize("first", [[0, 1, 3], [3, 0, 1], [0, 0, 3]], ids=["ascending", "mixed", "repeated"])
def test_groups_share_one_coalesced_gradient(first):
    weight = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows, second = [1, 4, 5, 8], [3, 3, 2, 0, 3]
    factors = torch.randn(len(first) + len(second), 3)
    found = groups(weight, rows, first, second)
    expected = [weight[torch.tensor(rows)[place]] for place in (first, second)]
    assert all(map(torch.equal, found, expected))
    (torch.cat(found) * factors).sum().backward()
    assert weight.grad.is_coalesced()
    assert weight.grad.indices()[0].tolist() == rows
    (dense,) = torch.autograd.grad((torch.cat(expected) * factors).sum(), weight)
    torch.testing.assert_close(weight.grad.to_dense(), dense)


def test_a_group_that_takes_no_part_has_no_gradient():
    weight = torch.zeros(4, requires_grad=True)
    one, _ = groups(weight, [0, 2], [0, 1], [1])
    one.sum().backward()
    assert weight.grad.to_dense().tolist() == [1, 0, 1, 0]


def test_dense_gradients_equal_the_sparse_ones():
    weight = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ids, places = torch.tensor([1, 4, 8]), (torch.tensor([0, 2, 2]), torch.tensor([1, 0]))
    found = []
    for sparse in (True, False):
        weight.grad = None
        some, others = gather_groups(weight, ids, *places, sparse=sparse)
        rows = gather_rows(weight, ids, sparse=sparse)
        (some.square().sum() + others.sum() + rows.square().sum()).backward()
        assert weight.grad.is_sparse == sparse
        found.append(weight.grad.to_dense())
    assert torch.equal(*found)
    assert found[0].any(1).nonzero().flatten().tolist() == ids.tolist()
