"""Softmax over classes that several processes hold a part of. Shapes: R processes, B rows, P labels."""

from typing import Any

import torch
from torch import Tensor

from widemax.distributed.world import World


def combine(
    world: World, largest: Tensor, *totals: Tensor, shares: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The largest logit of all classes, and sums over them relative to it, from those of each part.

    Every process adds the parts in the same order, in float64, so all find the same bits.

    Args:
        world: the processes.
        largest: [B] the largest logit of the own classes; any finite number where they are none.
        totals: [B] each; the first Σ exp(s − largest) over the own classes, the second with squares, and so
            on.
        shares: [P] what is only summed up, in the same message; comes last.
    """
    sent = [largest, *totals, *([] if shares is None else [shares])]
    parts_R = world.stack(torch.cat([part.double() for part in sent]))
    largest_RB, *totals_RB = torch.split(parts_R, [len(part) for part in sent], 1)
    sums = [] if shares is None else [totals_RB.pop().sum(0).to(shares.dtype)]
    largest_B = largest_RB.amax(0)
    factors_RB = (largest_RB - largest_B).exp()
    relative = [(total_RB * factors_RB**power).sum(0) for power, total_RB in enumerate(totals_RB, 1)]
    return largest_B.to(largest.dtype), *relative, *sums


class _Partition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, largest_B: Tensor, log_sum_B: Tensor, labels_P: Tensor, world: World
    ) -> tuple[Tensor, Tensor, Tensor]:
        own_B = log_sum_B.double().exp()
        all_largest_B, total_B, labels_P = combine(world, largest_B, own_B, shares=labels_P)
        own_B *= (largest_B.double() - all_largest_B).exp()
        ctx.save_for_backward(torch.where(total_B == 0, 0, own_B / total_B).to(log_sum_B.dtype))
        ctx.mark_non_differentiable(all_largest_B)
        return all_largest_B, total_B.log().to(log_sum_B.dtype), labels_P

    @staticmethod
    def backward(ctx: Any, _: Tensor, grad_B: Tensor, grad_P: Tensor) -> tuple[None, Tensor, Tensor, None]:
        (share_B,) = ctx.saved_tensors
        return None, torch.where(share_B == 0, 0, grad_B * share_B), grad_P, None


def partition(
    largest: Tensor, log_sum: Tensor, labels: Tensor, world: World
) -> tuple[Tensor, Tensor, Tensor]:
    """log Z of all classes and logits of labels from those of each part.

    The gradient of a part of Z is its share of it.

    Args:
        largest: [B] the largest logit of the own classes, a constant to autograd.
        log_sum: [B] their log-partition relative to it, in nats, as
            :func:`~widemax.kernels.linear_logsumexp` has it; −inf where there are none.
        labels: [P] the logits of labels among them, 0 for others.
        world: the processes.

    Example:
        >>> partition(torch.zeros(1), torch.ones(1), torch.ones(2), World())
        (tensor([0.]), tensor([1.]), tensor([1., 1.]))
    """
    found: tuple[Tensor, Tensor, Tensor] = _Partition.apply(largest, log_sum, labels, world)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return found
