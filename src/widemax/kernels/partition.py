"""The log-partition of a linear layer over classes that rows share, in cache-sized blocks of rows.

Shapes: B rows, b rows of one block, S shared classes, D hidden, H hits.
"""

from typing import Any

import torch
from torch import Tensor

from widemax.kernels import budget
from widemax.kernels.exponentials import exp_minus
from widemax.kernels.pairs import Pairs
from widemax.numerics.arrays import widened_tensor
from widemax.numerics.autocast import autocast_dtype


def linear_logsumexp(hidden: Tensor, weight: Tensor, shift: Tensor, hits: Pairs) -> tuple[Tensor, Tensor]:
    """log Σ_j exp(h_b · w_j + shift_j) over the classes j that row b does not hit, as a sum of two numbers.

    They come apart because the logarithm of a sum drowns in the rounding of large logits.

    The exponentials are kept for the backward pass, which multiplies them twice and computes none anew. A
    gradient of the gradient goes through the plain formula.

    Args:
        hidden: [B, D] hidden vectors.
        weight: [S, D] class weights.
        shift: [S] what is added to the logits of each class.
        hits: H (row, class) pairs left out, classes counted from 0 to S.

    Returns:
        [B] the largest logits, a constant to autograd; and [B] the log-partitions relative to them in nats,
        which have the gradients of log-partitions, and are −inf for a row that hits every class. Both are in
        float32 at least.

    Example:
        >>> nothing = Pairs(torch.arange(0), torch.arange(0))
        >>> linear_logsumexp(torch.zeros(1, 2), torch.zeros(4, 2), torch.ones(4), nothing)  # 1 and log 4
        (tensor([1.]), tensor([1.3863]))
    """
    layer = hidden.to(autocast_dtype(hidden)), weight.to(autocast_dtype(weight))
    result: tuple[Tensor, Tensor] = _LinearLogsumexp.apply(*layer, shift, *hits)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return result


class _LinearLogsumexp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_BD: Tensor, weight_SD: Tensor, shift_S: Tensor, rows_H: Tensor, columns_H: Tensor
    ) -> tuple[Tensor, Tensor]:
        num_rows, num_shared = len(hidden_BD), len(weight_SD)
        dtype = torch.promote_types(hidden_BD.dtype, torch.float32)
        shift_S = shift_S.to(dtype)
        kept_BS = hidden_BD @ weight_SD.T
        sum_B = torch.zeros(num_rows, dtype=dtype, device=hidden_BD.device)
        max_B = torch.full_like(sum_B, torch.finfo(dtype).min)
        hits = Pairs(rows_H, columns_H)
        # A processor's cache holds one block; an accelerator would wait to be told which hits are of which.
        size = max(1, budget.SMALL_TILE_ELEMENTS // max(num_shared, 1)) if hidden_BD.is_cpu else num_rows
        room_bS = shift_S.new_empty(min(size, num_rows) if kept_BS.dtype != dtype else 0, num_shared)
        for start in range(0, num_rows if num_shared else 0, size):
            block = slice(start, start + size)
            logits_bS = kept_bS = kept_BS[block]
            if kept_bS.dtype != dtype:
                logits_bS = room_bS[: len(kept_bS)].copy_(kept_bS)
            logits_bS += shift_S
            block_hits = hits if size >= num_rows else hits.of_rows(start, start + size)[1]
            logits_bS.index_put_(tuple(block_hits), logits_bS.new_full((), -torch.inf))
            # A finite number in place of −inf where every class is hit: −inf − −inf is NaN.
            max_b = logits_bS.amax(1).clamp_(min=torch.finfo(dtype).min)
            exp_minus(logits_bS, max_b, out=logits_bS).index_put_(tuple(block_hits), logits_bS.new_zeros(()))
            max_B[block], sum_B[block] = max_b, logits_bS.sum(1)
            if logits_bS is not kept_bS:
                kept_bS.copy_(logits_bS)
        ctx.save_for_backward(hidden_BD, weight_SD, shift_S, rows_H, columns_H, kept_BS, sum_B)
        ctx.mark_non_differentiable(max_B)
        return max_B, sum_B.log()

    @staticmethod
    def backward(ctx: Any, _: Tensor, grad_B: Tensor) -> tuple[Tensor | None, ...]:
        hidden_BD, weight_SD, shift_S, rows_H, columns_H, kept_BS, sum_B = ctx.saved_tensors
        needs_hidden, needs_weight, needs_shift, *_ = ctx.needs_input_grad
        if torch.is_grad_enabled():
            logits_BS = widened_tensor(hidden_BD @ weight_SD.T) + shift_S
            logits_BS = logits_BS.index_put((rows_H, columns_H), logits_BS.new_full((), -torch.inf))
            inputs = [x for x, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False) if needed]
            log_partition_B = torch.logsumexp(logits_BS, 1)
            found = iter(torch.autograd.grad(log_partition_B, inputs, grad_B, create_graph=True))
            return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)
        # Factors of a row go to the small operand: [B, D] numbers, not [B, S].
        factor_B = torch.where(sum_B == 0, 0, grad_B / sum_B)
        hidden_grad_BD = weight_grad_SD = shift_grad_S = None
        if needs_hidden:
            hidden_grad_BD = ((kept_BS @ weight_SD) * factor_B[:, None]).to(hidden_BD.dtype)
        if needs_shift:
            # The shift is the weight of a hidden unit that is always 1.
            scaled = torch.cat([hidden_BD * factor_B[:, None], factor_B[:, None]], 1)
            product = scaled.T.to(hidden_BD.dtype) @ kept_BS
            weight_grad_SD, shift_grad_S = product[:-1].T, product[-1].to(shift_S.dtype)
        elif needs_weight:
            weight_grad_SD = kept_BS.T @ (hidden_BD * factor_B[:, None]).to(hidden_BD.dtype)
        return hidden_grad_BD, weight_grad_SD, shift_grad_S, None, None
