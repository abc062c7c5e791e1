"""Softmax over classes that several processes hold a part of. Shapes: R processes, T totals, B rows."""

from typing import Any

import torch
from torch import Tensor

from widemax.distributed.world import World


def combine(world: World, largest: Tensor, *totals: Tensor) -> tuple[Tensor, ...]:
    """The largest logit of all classes, and sums over them relative to it, from those of each part.

    Every process adds the parts in the same order, in float64, so all find the same bits.

    Args:
        world: the processes.
        largest: [B] the largest logit of the own classes; any finite number where they are none.
        totals: [B] each; the first Σ exp(s − largest) over the own classes, the second with squares, and so
            on.
    """
    parts_RTB = world.stack(torch.stack([largest.double(), *(total.double() for total in totals)]))
    largest_B = parts_RTB[:, 0].amax(0)
    factors_RB = (parts_RTB[:, 0] - largest_B).exp()
    sums = ((parts_RTB[:, power] * factors_RB**power).sum(0) for power in range(1, 1 + len(totals)))
    return largest_B.to(largest.dtype), *sums


class _Partition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, largest_B: Tensor, log_sum_B: Tensor, world: World) -> tuple[Tensor, Tensor]:
        own_B = log_sum_B.double().exp()
        all_largest_B, total_B = combine(world, largest_B, own_B)
        own_B *= (largest_B.double() - all_largest_B).exp()
        ctx.save_for_backward(torch.where(total_B == 0, 0, own_B / total_B).to(log_sum_B.dtype))
        ctx.mark_non_differentiable(all_largest_B)
        return all_largest_B, total_B.log().to(log_sum_B.dtype)

    @staticmethod
    def backward(ctx: Any, _: Tensor, grad_B: Tensor) -> tuple[None, Tensor, None]:
        (share_B,) = ctx.saved_tensors
        return None, torch.where(share_B == 0, 0, grad_B * share_B), None


def partition(largest: Tensor, log_sum: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """log Z of all classes from that of each part, both as :func:`~widemax.kernels.linear_logsumexp` has it.

    The gradient of a part is its share of Z.

    Args:
        largest: [B] the largest logit of the own classes, a constant to autograd.
        log_sum: [B] their log-partition relative to it, in nats; −inf where there are none.
        world: the processes.

    Example:
        >>> partition(torch.zeros(1), torch.ones(1), World())
        (tensor([0.]), tensor([1.]))
    """
    found: tuple[Tensor, Tensor] = _Partition.apply(largest, log_sum, world)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return found
