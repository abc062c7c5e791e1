"""Gradients of what every process holds a copy of. Shapes: R rows of a sparse gradient."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from widemax.distributed.world import World

NONE, DENSE, SPARSE = range(3)


def sum_gradients(world: World, parameters: Iterable[nn.Parameter]) -> None:
    """Give the parameters of every process the sum of the gradients of all.

    Dense ones go together, in one tensor. Of sparse ones the rows are sent, whatever their number in each
    process; they come in the same order to all, so that all take bitwise the same step.

    Args:
        world: the processes; one alone does nothing.
        parameters: the same in each process.
    """
    if world.size == 1:
        return
    some = [parameter for parameter in parameters if parameter.requires_grad]
    if not some:
        return
    kinds = world.max(torch.tensor([_kind(parameter.grad) for parameter in some])).tolist()
    dense = [parameter for parameter, kind in zip(some, kinds, strict=True) if kind == DENSE]
    for parameter in dense:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if dense:
        gradients = [parameter.grad for parameter in dense if parameter.grad is not None]
        flat = world.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
    for parameter, kind in zip(some, kinds, strict=True):
        if kind == SPARSE:
            parameter.grad = _summed_rows(world, parameter)


def _kind(gradient: Tensor | None) -> int:
    return NONE if gradient is None else SPARSE if gradient.is_sparse else DENSE


def _summed_rows(world: World, parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        rows_R, values_R = torch.arange(0), parameter.new_zeros(0, *parameter.shape[1:])
    else:
        rows_R, values_R = parameter.grad._indices()[0], parameter.grad._values()
    counts = [count for (count,) in world.counts(len(rows_R))]
    rows_R, values_R = world.gather(rows_R, counts), world.gather(values_R, counts)
    return torch.sparse_coo_tensor(rows_R[None], values_R, parameter.shape, check_invariants=False)
