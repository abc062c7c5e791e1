"""The bag and its two gradients against dense autograd in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from widemax.encoders import bag
from widemax.encoders.bag import bag_sum, rows_of
from widemax.encoders.features import RaggedTensor


def example(
    seed: int, *, rows: int = 6, table: int = 11, dim: int = 3
) -> tuple[Tensor, RaggedTensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 5, (rows,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    total = int(offsets[-1])
    ids = torch.randint(0, table, (total,), generator=generator)
    values = torch.randn(total, generator=generator, dtype=torch.float64)
    weight = torch.randn(table, dim, generator=generator, dtype=torch.float64)
    return (
        weight,
        RaggedTensor(offsets, ids, values),
        torch.randn(rows, dim, generator=generator, dtype=torch.float64),
    )


def dense(weight: Tensor, ragged: RaggedTensor) -> Tensor:
    hidden = torch.zeros(len(ragged.offsets) - 1, weight.shape[1], dtype=weight.dtype)
    return hidden.index_add(
        0, rows_of(ragged.offsets, len(ragged.ids)), ragged.values[:, None] * weight[ragged.ids]
    )


@given(st.integers(0, 10_000))
def test_equals_dense_autograd(seed):
    weight, ragged, direction = example(seed)
    gradients = []
    for function in (bag_sum, dense):
        leaf_weight, leaf_values = weight.clone().requires_grad_(), ragged.values.clone().requires_grad_()
        hidden = function(leaf_weight, ragged._replace(values=leaf_values))
        (hidden * direction).sum().backward()
        gradients.append((hidden, leaf_weight.grad.to_dense(), leaf_values.grad))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_offsets_and_ids_may_be_short(dtype):
    weight, ragged, direction = (x if isinstance(x, RaggedTensor) else x.float() for x in example(1))
    ragged = RaggedTensor(ragged.offsets.to(dtype), ragged.ids.to(dtype), ragged.values.float())
    weight.requires_grad_()
    (bag_sum(weight, ragged) * direction).sum().backward()
    truth = weight.detach().requires_grad_()
    (dense(truth, ragged) * direction).sum().backward()
    torch.testing.assert_close(weight.grad.to_dense(), truth.grad)


def test_gradient_is_coalesced_over_the_distinct_ids():
    weight, ragged, direction = example(1)
    weight.requires_grad_()
    (bag_sum(weight, ragged) * direction).sum().backward()
    assert weight.grad.is_sparse
    assert weight.grad.is_coalesced()
    torch.testing.assert_close(weight.grad.indices()[0], ragged.ids.unique())
    again = torch.sparse_coo_tensor(
        weight.grad.indices(), weight.grad.values(), weight.shape, check_invariants=True
    )
    torch.testing.assert_close(again.to_dense(), weight.grad.to_dense())


def test_two_bags_of_one_table_add_up():
    weight, ragged, direction = example(2)
    leaf = weight.clone().requires_grad_()
    for _ in range(2):
        (bag_sum(leaf, ragged) * direction).sum().backward()
    single = weight.clone().requires_grad_()
    (bag_sum(single, ragged) * direction).sum().backward()
    torch.testing.assert_close(leaf.grad.to_dense(), 2 * single.grad.to_dense())


def test_values_gradient_in_blocks(monkeypatch):
    weight, ragged, direction = example(3, rows=20)
    results = []
    for block in (1 << 14, 7):
        monkeypatch.setattr(bag, "BLOCK_ENTRIES", block)
        values = ragged.values.clone().requires_grad_()
        (bag_sum(weight, ragged._replace(values=values)) * direction).sum().backward()
        results.append(values.grad)
    torch.testing.assert_close(*results)


def test_no_gradient_where_none_is_needed():
    weight, ragged, _ = example(4)
    assert not bag_sum(weight, ragged).requires_grad


@pytest.mark.parametrize("table", [0, 4])
def test_no_entries_at_all(table):
    weight = torch.ones(table, 3, requires_grad=True)
    empty = RaggedTensor(torch.zeros(3, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0))
    hidden = bag_sum(weight, empty)
    assert hidden.tolist() == [[0.0] * 3] * 2
    hidden.sum().backward()
    assert len(weight.grad.values()) == 0


def test_memory_of_backward_does_not_hold_all_rows_used():
    # [P, D] would be 100,000 x 64 floats; the largest allocation must stay far below it.
    rows, per_row, dim = 100, 1000, 64
    ids = torch.randint(0, 50, (rows * per_row,), generator=torch.Generator().manual_seed(0))
    ragged = RaggedTensor(torch.arange(rows + 1) * per_row, ids, torch.ones(len(ids)))
    weight = torch.randn(50, dim, requires_grad=True)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        bag_sum(weight, ragged).sum().backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < rows * per_row * dim * 4 / 4
