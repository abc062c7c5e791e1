"""Rows of a wide weight whose gradient touches nothing else. Shapes: U distinct rows."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids_U: Tensor) -> Tensor:
        ctx.save_for_backward(ids_U)
        ctx.shape = weight.shape
        return weight.index_select(0, ids_U)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (ids_U,) = ctx.saved_tensors
        # autograd moves a sparse gradient that nobody else holds into .grad and forgets that it is coalesced;
        # one that is held here is cloned, which remembers it.
        ctx.weight_grad = torch.sparse_coo_tensor(
            ids_U[None], grad, ctx.shape, is_coalesced=True, check_invariants=False
        )
        return ctx.weight_grad, None


def gather_rows(weight: Tensor, ids: Tensor) -> Tensor:
    """Rows of a weight, with a coalesced sparse gradient over these rows.

    A step costs the rows gathered, never the height of the weight, provided that the optimizer updates
    sparse gradients row by row.

    Args:
        weight: [C, ...] parameter.
        ids: [U] int64 row numbers, distinct and ascending.

    Returns:
        [U, ...] the rows; backward gives ``weight.grad`` the layout ``torch.sparse_coo``.

    Example:
        >>> weight = torch.ones(1000, 2, requires_grad=True)
        >>> gather_rows(weight, torch.tensor([3, 7])).sum().backward()
        >>> weight.grad.indices()
        tensor([[3, 7]])
    """
    rows: Tensor = _GatherRows.apply(weight, ids)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return rows
