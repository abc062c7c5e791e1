"""The log-partition of a linear layer over classes that rows share, and its like for yes-or-no questions.

In cache-sized blocks of rows. Shapes: B rows, b rows of one block, S shared classes, D hidden, H hits.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from widemax import native
from widemax.kernels import budget
from widemax.kernels.exponentials import exp_minus, softplus_and_sigmoid, softplus_by_exp
from widemax.kernels.pairs import Pairs
from widemax.numerics import softplus
from widemax.numerics.arrays import widened_tensor
from widemax.numerics.autocast import autocast_dtype


def linear_logsumexp(hidden: Tensor, weight: Tensor, shift: Tensor, hits: Pairs) -> tuple[Tensor, Tensor]:
    """log Σ_j exp(h_b · w_j + shift_j) over the classes j that row b does not hit, as a sum of two numbers.

    They come apart because the logarithm of a sum drowns in the rounding of large logits.

    The exponentials are kept for the backward pass, which multiplies them twice and computes none anew,
    unless compiled kernels compute so many in less time. A gradient of the gradient goes through the plain
    formula.

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


def linear_softplus(hidden: Tensor, weight: Tensor, shift: Tensor, factor: Tensor, hits: Pairs) -> Tensor:
    """Σ_j f_j log(1 + exp(h_b · w_j + shift_j)) over the classes j that row b does not hit.

    What is kept for the backward pass, and gradients of gradients, are as in :func:`linear_logsumexp`.

    Args:
        hidden, weight, shift, hits: as there.
        factor: [S] f, a constant to autograd.

    Returns:
        [B] sums in float32 at least.

    Example:
        >>> nothing = Pairs(torch.arange(0), torch.arange(0))
        >>> linear_softplus(torch.zeros(1, 2), torch.zeros(4, 2), torch.zeros(4), torch.ones(4), nothing)
        tensor([2.7726])
    """
    layer = hidden.to(autocast_dtype(hidden)), weight.to(autocast_dtype(weight))
    sum_B: Tensor = _LinearSoftplus.apply(*layer, shift, *hits, factor)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return sum_B


class _LinearLogsumexp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_BD: Tensor, weight_SD: Tensor, shift_S: Tensor, rows_H: Tensor, columns_H: Tensor
    ) -> tuple[Tensor, Tensor]:
        tensors = hidden_BD, weight_SD, shift_S, rows_H, columns_H
        tiles = ctx.tiles = _compiled(*tensors, is_softmax=True)
        if tiles is not None:
            max_B, sum_B = tiles.log_sums()
            ctx.save_for_backward(*tensors, None, sum_B.float(), max_B)
            ctx.mark_non_differentiable(max_B)
            return max_B, sum_B.log().float()
        kept_BS = hidden_BD @ weight_SD.T
        sum_B = kept_BS.new_zeros(len(hidden_BD), dtype=_wide(hidden_BD))
        max_B = torch.full_like(sum_B, torch.finfo(sum_B.dtype).min)
        if native.takes_logits(kept_BS):
            kept_BS.index_put_((rows_H, columns_H), kept_BS.new_full((), -torch.inf))
            sum_B = native.exponentials_(kept_BS, shift_S.float().contiguous(), max_B, looks=True)
        else:
            for block, logits_bS, hits in _blocks(kept_BS, shift_S, Pairs(rows_H, columns_H)):
                # A finite number in place of −inf where every class is hit: −inf − −inf is NaN.
                max_b = logits_bS.amax(1).clamp_(min=torch.finfo(sum_B.dtype).min)
                exp_minus(logits_bS, max_b, out=logits_bS).index_put_(tuple(hits), logits_bS.new_zeros(()))
                max_B[block], sum_B[block] = max_b, logits_bS.sum(1)
        ctx.save_for_backward(*tensors, kept_BS, sum_B, max_B)
        ctx.mark_non_differentiable(max_B)
        return max_B, sum_B.log()

    @staticmethod
    def backward(ctx: Any, _: Tensor, grad_B: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, kept_BS, sum_B, max_B = ctx.saved_tensors
        if torch.is_grad_enabled():
            log_partition_B = torch.logsumexp(_plain_logits(*tensors), 1)
            return *_plain_gradients(log_partition_B, tensors, ctx.needs_input_grad, grad_B), None, None
        factor_B = torch.where(sum_B == 0, 0, grad_B / sum_B)
        if ctx.tiles is not None:
            return *_tile_gradients(ctx.tiles, tensors, ctx.needs_input_grad, factor_B, max_B), None, None
        return *_gradients(kept_BS, tensors, ctx.needs_input_grad, factor_B), None, None


class _LinearSoftplus(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_BD: Tensor,
        weight_SD: Tensor,
        shift_S: Tensor,
        rows_H: Tensor,
        columns_H: Tensor,
        factor_S: Tensor,
    ) -> Tensor:
        factor_S = factor_S.to(_wide(hidden_BD))
        tiles = ctx.tiles = _compiled(
            *(hidden_BD, weight_SD, shift_S, rows_H, columns_H, factor_S), is_softmax=False
        )
        if tiles is not None:
            zero_B, sum_B = tiles.log_sums()
            ctx.save_for_backward(hidden_BD, weight_SD, shift_S, rows_H, columns_H, factor_S, zero_B)
            return sum_B.float()
        tensors = hidden_BD, weight_SD, shift_S, Pairs(rows_H, columns_H), factor_S
        softplus_of = softplus_by_exp if hidden_BD.is_cpu else softplus_and_sigmoid
        sum_B, kept_BS = _softplus_sums(*tensors, softplus_of)
        if hidden_BD.is_cpu and not sum_B.isfinite().all():  # some e^x may be beyond the numbers
            sum_B, kept_BS = _softplus_sums(*tensors, softplus_and_sigmoid)
        if kept_BS.dtype == torch.float16:  # weights times the factors of their classes may be beyond it
            kept_BS.mul_(factor_S)
        ctx.save_for_backward(hidden_BD, weight_SD, shift_S, rows_H, columns_H, factor_S, kept_BS)
        return sum_B

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, factor_S, kept_BS = ctx.saved_tensors
        if torch.is_grad_enabled():
            sum_B = softplus(_plain_logits(*tensors)) @ factor_S
            return *_plain_gradients(sum_B, tensors, ctx.needs_input_grad, grad_B), None, None, None
        if ctx.tiles is not None:
            found = _tile_gradients(ctx.tiles, tensors, ctx.needs_input_grad, grad_B.contiguous(), kept_BS)
            return *found, None, None, None
        factors = None if kept_BS.dtype == torch.float16 else factor_S
        return *_gradients(kept_BS, tensors, ctx.needs_input_grad, grad_B, factors), None, None, None


def _softplus_sums(
    hidden_BD: Tensor,
    weight_SD: Tensor,
    shift_S: Tensor,
    hits: Pairs,
    factor_S: Tensor,
    softplus_of: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """[B] Σ_j f_j log(1 + e^s), and σ(s) of all logits, 0 at hits."""
    kept_BS = hidden_BD @ weight_SD.T
    if native.takes_logits(kept_BS):
        kept_BS.index_put_(tuple(hits), kept_BS.new_full((), -torch.inf))
        return native.softplus_(kept_BS, shift_S.float().contiguous(), factor_S.contiguous()), kept_BS
    sum_B = factor_S.new_zeros(len(hidden_BD))
    room_bS = sum_B.new_empty(0)
    for block, logits_bS, _ in _blocks(kept_BS, shift_S, hits):
        if room_bS.shape != logits_bS.shape:
            room_bS = torch.empty_like(logits_bS)
        # Not `@`, whose sums autocast would round to 16 bits.
        torch.mv(softplus_of(logits_bS, room_bS), factor_S, out=sum_B[block])
    return sum_B, kept_BS


def _compiled(
    hidden_BD: Tensor,
    weight_SD: Tensor,
    shift_S: Tensor,
    rows_H: Tensor,
    columns_H: Tensor,
    factor_S: Tensor | None = None,
    *,
    is_softmax: bool,
) -> native.LossTiles | None:
    """Tiles that are computed in either pass and never held, where that is faster."""
    layer = hidden_BD, weight_SD, shift_S.float().contiguous()
    num_rows, dim = hidden_BD.shape
    is_tall = num_rows <= budget.MOST_LOSS_ROWS and num_rows * len(weight_SD) >= budget.ANEW_ELEMENTS
    if not is_tall or dim >= budget.HELD_DIM or hidden_BD.dtype != torch.bfloat16:
        return None
    if not native.loss_pays(*layer):
        return None
    factor_C = None if factor_S is None else factor_S.contiguous()
    return native.LossTiles(*layer, (rows_H, columns_H), None, factor_C=factor_C, is_softmax=is_softmax)


def _tile_gradients(
    tiles: native.LossTiles,
    tensors: list[Tensor],
    needed: tuple[bool, ...],
    slope_B: Tensor,
    shift_B: Tensor,
) -> tuple[Tensor | None, ...]:
    """Those of hidden vectors, weights and shifts, where they are needed."""
    inputs = tensors[:3]
    grads = [
        x.new_zeros(x.shape, dtype=torch.float32) if is_needed else None
        for x, is_needed in zip(inputs, needed, strict=False)
    ]
    names = "hidden_grad_BD", "weight_grad_CD", "bias_grad_C"
    tiles.add_gradients(slope_B, shift_B, **dict(zip(names, grads, strict=True)), adds=False)
    return tuple(None if grad is None else grad.to(x.dtype) for x, grad in zip(inputs, grads, strict=True))


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _blocks(kept_BS: Tensor, shift_S: Tensor, hits: Pairs) -> Iterator[tuple[slice, Tensor, Pairs]]:
    """Rows at hand, their logits, −inf at hits, and these; what the caller makes of the logits is kept."""
    num_rows, num_shared = kept_BS.shape
    dtype = _wide(kept_BS)
    shift_S = shift_S.to(dtype)
    # A core's own cache holds one block; an accelerator would wait to be told which hits are of which.
    size = max(1, budget.BLOCK_ELEMENTS // max(num_shared, 1)) if kept_BS.is_cpu else num_rows
    room_bS = shift_S.new_empty(min(size, num_rows) if kept_BS.dtype != dtype else 0, num_shared)
    ends = [0, len(hits.rows_P)]
    if kept_BS.is_cpu:
        ends = torch.searchsorted(hits.rows_P, torch.arange(0, num_rows + size, size)).tolist()
    for start, (first, last) in zip(
        range(0, num_rows if num_shared else 0, size), pairwise(ends), strict=False
    ):
        block, own = slice(start, start + size), slice(first, last)
        logits_bS = kept_bS = kept_BS[block]
        if kept_bS.dtype != dtype:
            logits_bS = room_bS[: len(kept_bS)].copy_(kept_bS)
        logits_bS += shift_S
        block_hits = Pairs(hits.rows_P[own] - start, hits.ids_P[own])
        logits_bS.index_put_(tuple(block_hits), logits_bS.new_full((), -torch.inf))
        yield block, logits_bS, block_hits
        if logits_bS is not kept_bS:
            kept_bS.copy_(logits_bS)


def _plain_logits(
    hidden_BD: Tensor, weight_SD: Tensor, shift_S: Tensor, rows_H: Tensor, columns_H: Tensor
) -> Tensor:
    logits_BS = widened_tensor(hidden_BD @ weight_SD.T) + shift_S
    return logits_BS.index_put((rows_H, columns_H), logits_BS.new_full((), -torch.inf))


def _plain_gradients(
    sum_B: Tensor, tensors: list[Tensor], needed: tuple[bool, ...], grad_B: Tensor
) -> tuple[Tensor | None, ...]:
    inputs = [tensor for tensor, is_needed in zip(tensors, needed, strict=False) if is_needed]
    found = iter(torch.autograd.grad(sum_B, inputs, grad_B, create_graph=True))
    return tuple(next(found) if is_needed else None for is_needed in needed[:3])


def _gradients(
    kept_BS: Tensor,
    tensors: list[Tensor],
    needed: tuple[bool, ...],
    factor_B: Tensor,
    factor_S: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Those of hidden vectors, weights and shifts, where the slope of a logit is the factor of its row, and
    of its class, times what is kept.

    Factors go to the small operand or result: [B, D] or [S, D] numbers, not [B, S].
    """
    hidden_BD, weight_SD, shift_S, *_ = tensors
    needs_hidden, needs_weight, needs_shift, *_ = needed
    hidden_grad_BD = weight_grad_SD = shift_grad_S = None
    if needs_hidden:
        scaled_SD = weight_SD if factor_S is None else (weight_SD * factor_S[:, None]).to(weight_SD.dtype)
        hidden_grad_BD = ((kept_BS @ scaled_SD) * factor_B[:, None]).to(hidden_BD.dtype)
    if needs_shift:
        # The shift is the weight of a hidden unit that is always 1.
        scaled = torch.cat([hidden_BD.T * factor_B, factor_B[None]])
        product = scaled.to(hidden_BD.dtype) @ kept_BS
        if factor_S is not None:
            product = product * factor_S
        weight_grad_SD = product[:-1].T.to(weight_SD.dtype).contiguous()
        shift_grad_S = product[-1].to(shift_S.dtype)
    elif needs_weight:
        weight_grad_SD = kept_BS.T @ (hidden_BD * factor_B[:, None]).to(hidden_BD.dtype)
        if factor_S is not None:
            weight_grad_SD = (weight_grad_SD * factor_S[:, None]).to(weight_SD.dtype)
    return hidden_grad_BD, weight_grad_SD, shift_grad_S
