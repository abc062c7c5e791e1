"""Rows of all processes in one, and sums over them, with their gradients. Shapes: N own rows, B rows of all.

Every process computes the same loss, each of its part of the classes. So the gradient of what they share is
already there; that of own rows is the sum of what every part of the classes has to say of them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from widemax.distributed.world import World


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_N: Tensor, world: World, counts: Sequence[int]) -> Tensor:
        ctx.world, ctx.counts = world, counts
        return world.gather(rows_N.detach(), counts)

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None, None]:
        return ctx.world.scatter_sum(grad_B, ctx.counts), None, None


def gathered(rows: Tensor, world: World, counts: Sequence[int]) -> Tensor:
    """[B, ...] the rows of all processes; the gradient of own rows is summed over all of them.

    Args:
        rows: [N, ...] own rows.
        world: the processes.
        counts: how many rows each has.
    """
    found: Tensor = _Gathered.apply(rows, world, counts)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return found


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, world: World) -> Tensor:
        return world.sum(part.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def summed(part: Tensor, world: World) -> Tensor:
    """The sum over all processes of their parts, of which all go on to compute the same."""
    found: Tensor = _Summed.apply(part, world)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return found
