"""The exact loss over classes of which this process holds a part. Shapes: B rows, D hidden, P labels."""

from typing import Any

import torch
from torch import Tensor

from widemax.distributed.softmax import combine
from widemax.distributed.world import World
from widemax.encoders.placement import Placement
from widemax.kernels import Elsewhere, Pairs, Sweep
from widemax.numerics.autocast import autocast_dtype, without_autocast


def sharded_exact_loss(
    world: World,
    placement: Placement,
    row_weights: Tensor,
    layer: tuple[Tensor, Tensor, Tensor | None],
    targets: Pairs,
    target_weights: Tensor,
    own: Tensor,
    shifts: Tensor | None,
    *,
    options: tuple[bool, float, float],
) -> Tensor:
    """Σ_b w_b ℓ_b over all classes, with the gradients of the own ones, in three products.

    Rows of the hidden vectors are taken some at a time; for each such chunk the processes tell one another
    two numbers a row.

    Args:
        world: the processes.
        placement: which classes are the own ones.
        row_weights: [B] w.
        layer: [B, D] hidden vectors of all processes, [C', D] own weights and [C'] biases.
        targets: P labels of all rows.
        target_weights: [P] their mass.
        own: [P] which of them are of own classes.
        shifts: of these, what is added to their logits.
        options: of the loss, as ``widemax.kernels.plain.Options`` without a z-loss.
    """
    mass_B = torch.zeros_like(row_weights, dtype=torch.float64)
    elsewhere = Elsewhere(
        placement.num_classes,
        placement.largest,
        mass_B.index_add_(0, targets.rows_P, target_weights.double()),
        lambda largest_b, total_b: combine(world, largest_b, total_b),
    )
    own_targets = targets.rows_P[own], placement.rows(targets.ids_P[own]), target_weights[own]
    cast = [None if tensor is None else tensor.to(autocast_dtype(tensor)) for tensor in layer]
    with without_autocast(row_weights):
        loss: Tensor = _ExactLoss.apply(  # type: ignore[no-untyped-call]  # torch has no type for apply
            *(world, elsewhere, options, row_weights, *cast, *own_targets, shifts)
        )
    return loss


class _ExactLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, world: World, elsewhere: Elsewhere, options: tuple[bool, float, float], *tensors: Any
    ) -> Tensor:
        sweep = Sweep(tensors, (*options, 0.0, 0.0), ctx.needs_input_grad[3:], elsewhere)
        loss = world.sum(sweep.run())
        ctx.gradients, ctx.dtypes = sweep.gradients(), [None if x is None else x.dtype for x in tensors]
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Handed over, not kept: autograd may add to them in place.
        gradients, ctx.gradients = iter(ctx.gradients), None
        found = []
        for dtype, is_needed in zip(ctx.dtypes, ctx.needs_input_grad[3:], strict=True):
            gradient = next(gradients) if is_needed else None
            if gradient is not None:
                gradient = (gradient if grad == 1 else gradient.mul_(grad)).to(dtype)
            found.append(gradient)
        return None, None, None, *found
