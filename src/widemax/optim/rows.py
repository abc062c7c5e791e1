"""Tensors seen as rows.

Shape letters: C rows of a parameter (classes), R rows touched by a step.
"""

import torch
from torch import Tensor

from widemax.errors import ShapeError


def touched_rows(grad: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a sparse gradient, ascending and each once, and their gradients, duplicates summed.

    Example:
        >>> grad = torch.sparse_coo_tensor([[3, 1, 3]], [1.0, 2.0, 4.0], (5,), check_invariants=True)
        >>> touched_rows(grad)
        (tensor([1, 3]), tensor([2., 5.]))
    """
    if grad.sparse_dim() != 1:
        raise ShapeError(
            f"a sparse gradient must have 1 sparse dimension, the rows; got {grad.sparse_dim()}. "
            "Build it with indices of shape [1, R] and values of shape [R, ...]."
        )
    if grad.is_coalesced():
        return grad.indices()[0], grad.values()
    # unique + index_add_ takes a third of the time of Tensor.coalesce() on a CPU.
    rows_R, position = torch.unique(grad._indices()[0], return_inverse=True)
    values = grad._values()
    return rows_R, values.new_zeros(len(rows_R), *values.shape[1:]).index_add_(0, position, values)


def per_row(factor_R: Tensor, like: Tensor) -> Tensor:
    """A number a row, shaped and typed to multiply a tensor of rows."""
    return factor_R.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


def as_rows(tensor: Tensor) -> Tensor:
    """A scalar seen as one row; anything else as it is."""
    return tensor.unsqueeze(0) if tensor.dim() == 0 else tensor


def widened(tensor: Tensor) -> Tensor:
    """bfloat16 in float32, which a step computes in; anything else as it is."""
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
