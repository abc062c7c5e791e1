"""Rows of a wide weight whose gradient touches nothing else. Shapes: U distinct rows, N rows of one group."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _rows_gradient(ctx: Any, grad_U: Tensor, ids_U: Tensor) -> Tensor:
    shape: torch.Size = ctx.shape
    if not ctx.sparse:
        return grad_U.new_zeros(shape).index_copy_(0, ids_U, grad_U)
    # autograd moves a sparse gradient that nobody else holds into .grad and forgets that it is coalesced; one
    # that is held here is cloned, which remembers it.
    ctx.weight_grad = weight_grad = torch.sparse_coo_tensor(
        ids_U[None], grad_U, shape, is_coalesced=True, check_invariants=False
    )
    return weight_grad


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids_U: Tensor, sparse: bool) -> Tensor:
        ctx.save_for_backward(ids_U)
        ctx.shape, ctx.sparse = weight.shape, sparse
        return weight.index_select(0, ids_U)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _rows_gradient(ctx, grad, *ctx.saved_tensors), None, None


def gather_rows(weight: Tensor, ids: Tensor, *, sparse: bool = True) -> Tensor:
    """Rows of a weight, with a coalesced sparse gradient over these rows.

    A step costs the rows gathered, never the height of the weight, provided that the optimizer updates
    sparse gradients row by row.

    Args:
        weight: [C, ...] parameter.
        ids: [U] int64 row numbers, distinct and ascending.
        sparse: whether the gradient is sparse; a dense one is as large as the weight.

    Returns:
        [U, ...] the rows; backward gives ``weight.grad`` the layout ``torch.sparse_coo`` where it is sparse.

    Example:
        >>> weight = torch.ones(1000, 2, requires_grad=True)
        >>> gather_rows(weight, torch.tensor([3, 7])).sum().backward()
        >>> weight.grad.indices()
        tensor([[3, 7]])
    """
    rows: Tensor = _GatherRows.apply(weight, ids, sparse)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return rows


class _GatherGroups(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids_U: Tensor, sparse: bool, *places: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(ids_U, *places)
        ctx.shape, ctx.sparse = weight.shape, sparse
        return tuple(weight.index_select(0, ids_U.index_select(0, place_N)) for place_N in places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ids_U, *places = ctx.saved_tensors
        grad_U = grads[0].new_zeros(len(ids_U), *ctx.shape[1:])
        for group, (place_N, grad_N) in enumerate(zip(places, grads, strict=True)):
            # Copying is several times faster than adding, and the same where nothing else was added before.
            is_distinct = group == 0 and place_N.is_cpu and bool((place_N[1:] > place_N[:-1]).all())
            add = grad_U.index_copy_ if is_distinct else grad_U.index_add_
            add(0, place_N, grad_N)
        return _rows_gradient(ctx, grad_U, ids_U), None, None, *[None] * len(places)


def gather_groups(weight: Tensor, ids: Tensor, *places: Tensor, sparse: bool = True) -> tuple[Tensor, ...]:
    """Groups of rows of a weight, which may share rows, with one coalesced sparse gradient over all of them.

    Args:
        weight: [C, ...] parameter.
        ids: [U] int64 row numbers, distinct and ascending: those of all groups.
        places: [N] int64 for each group: where its rows stand in ``ids``.
        sparse: whether the gradient is sparse, as in :func:`gather_rows`.

    Returns:
        [N, ...] the rows of each group.

    Example:
        >>> weight = torch.ones(1000, 2, requires_grad=True)
        >>> rows = torch.tensor([3, 7])
        >>> some, others = gather_groups(weight, rows, torch.tensor([0, 1]), torch.tensor([1, 1]))
        >>> (some.sum() + others.sum()).backward()
        >>> weight.grad.values()[:, 0]
        tensor([1., 3.])
    """
    groups: tuple[Tensor, ...] = _GatherGroups.apply(weight, ids, sparse, *places)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return groups
