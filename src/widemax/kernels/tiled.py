"""The losses of a wide linear layer, streamed over tiles of classes, so that [B, C] never exists.

Forward keeps a few numbers a row; backward computes every tile again. log Z is kept as a running maximum
and sum (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax").
Shapes: B rows, C classes, D hidden, P targets, W classes of one tile.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from widemax.kernels import budget
from widemax.kernels.exponentials import exp_minus, softplus_into
from widemax.kernels.pairs import Pairs
from widemax.kernels.plain import Inputs, Options, plain_gradients
from widemax.numerics.autocast import without_autocast


def tiled_loss(inputs: Inputs, options: Options) -> Tensor:
    """[B] losses, as :func:`~widemax.kernels.plain.plain_loss` gives them."""
    loss_B: Tensor = _TiledLoss.apply(options, *inputs)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return loss_B


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, options: Options, *inputs: Any) -> Tensor:
        ctx.options = options
        forward = forward_op if torch.compiler.is_compiling() else _forward
        with without_autocast(inputs[0]):
            loss_B, *ends = forward(inputs, options)
        ctx.save_for_backward(*inputs, *ends)
        return loss_B

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, max_B, sum_B = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        backward = backward_op if torch.compiler.is_compiling() else _backward
        with without_autocast(grad_B):
            if torch.is_grad_enabled():
                return None, *plain_gradients(Inputs(*inputs), ctx.options, needed, grad_B)
            found = iter(backward(inputs, ctx.options, [max_B, sum_B, grad_B], needed))
        return None, *(next(found) if is_needed else None for is_needed in needed)


def _forward(inputs: Sequence[Tensor | None], options: Sequence[float]) -> list[Tensor]:
    """Losses; and of each row the largest logit, or 0, and the sum over classes."""
    is_softmax, temperature, smoothing, z_loss = options
    tiles = _Tiles(Inputs._make(inputs), temperature)
    rows_P, ids_P, weights_P, mass_B = tiles.rows_P, tiles.ids_P, tiles.weights_P, tiles.mass_B
    max_B = torch.full_like(mass_B, torch.finfo(tiles.dtype).min if is_softmax else 0.0)
    # Thousands of tiles are added up here, hence float64: these are only B numbers.
    sum_B = torch.zeros_like(mass_B, dtype=torch.float64)
    logit_sum_B = torch.zeros_like(sum_B)
    target_logits_P = torch.zeros_like(weights_P)
    for start, places, logits_BW in tiles:
        target_logits_P[places] = logits_BW[rows_P[places], ids_P[places] - start]
        if smoothing:
            logit_sum_B += logits_BW.sum(1, dtype=torch.float64)
        if is_softmax:
            larger_B = torch.maximum(max_B, logits_BW.amax(1))
            sum_B *= (max_B - larger_B).exp()
            sum_B += exp_minus(logits_BW, larger_B, out=logits_BW).sum(1)
            max_B = larger_B
        else:
            sum_B += softplus_into(logits_BW, logits_BW).sum(1)
    # Relative to the row's maximum, because log Z − s would cancel for large logits. Without a softmax that
    # maximum is 0 and the same line gives −Σ t s.
    terms_P = (1 - smoothing) * weights_P * (max_B[rows_P] - target_logits_P)
    loss_B = (mass_B * sum_B.log() if is_softmax else sum_B).to(tiles.dtype).index_add(0, rows_P, terms_P)
    if smoothing:
        below_B = max_B.double() - logit_sum_B / tiles.num_classes  # two large numbers, rounded afterwards
        loss_B += smoothing * mass_B * below_B.to(tiles.dtype)
    if z_loss:
        loss_B += z_loss * (max_B + sum_B.log()).to(tiles.dtype).square()
    return [loss_B, max_B, sum_B.to(tiles.dtype)]


def _backward(
    inputs: Sequence[Tensor | None],
    options: Sequence[float],
    found: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor]:
    """The gradients that are needed; ``found`` are maxima and sums of the rows, and the losses' gradient."""
    is_softmax, temperature, smoothing, z_loss = options
    max_B, sum_B, grad_B = found
    hidden_BD, weight_CD, bias_C, *_, shifts_P = Inputs._make(inputs)
    tiles = _Tiles(Inputs._make(inputs), temperature)
    softmax_B = tiles.mass_B + 2 * z_loss * (max_B + sum_B.log()) if z_loss else tiles.mass_B
    slope_B1 = (grad_B * softmax_B / sum_B if is_softmax else grad_B)[:, None]
    spread_B1 = (grad_B * tiles.mass_B * (smoothing / tiles.num_classes))[:, None]
    target_grad_P = (smoothing - 1) * tiles.weights_P * grad_B[tiles.rows_P]
    hidden_grad_BD = torch.zeros_like(hidden_BD, dtype=tiles.dtype) if needed[0] else None
    weight_grad_CD = torch.empty_like(weight_CD) if needed[1] else None
    bias_grad_C = None if bias_C is None or not needed[2] else torch.empty_like(bias_C)
    shifts_grad_P = None if shifts_P is None or not needed[6] else torch.empty_like(shifts_P)
    for start, places, logits_BW in tiles:
        tile = slice(start, start + logits_BW.shape[1])
        grad_BW = exp_minus(logits_BW, max_B, out=logits_BW) if is_softmax else logits_BW.sigmoid_()
        grad_BW *= slope_B1
        if smoothing:
            grad_BW -= spread_B1
        targets = tiles.rows_P[places], tiles.ids_P[places] - start
        grad_BW.index_put_(targets, target_grad_P[places], accumulate=True)
        if shifts_grad_P is not None:
            shifts_grad_P[places] = grad_BW[targets].to(shifts_grad_P.dtype)
        if bias_grad_C is not None:
            bias_grad_C[tile] = grad_BW.sum(0) / temperature
        grad_BW = grad_BW.to(weight_CD.dtype)
        if hidden_grad_BD is not None:
            hidden_grad_BD += grad_BW @ weight_CD[tile]
        if weight_grad_CD is not None:
            torch.mm(grad_BW.T, tiles.hidden_BD, out=weight_grad_CD[tile])
    if hidden_grad_BD is not None:
        hidden_grad_BD = (hidden_grad_BD / temperature).to(hidden_BD.dtype)
    return [grad for grad in (hidden_grad_BD, weight_grad_CD, bias_grad_C, shifts_grad_P) if grad is not None]


class _Tiles:
    """Iterates (first class, places of its targets, logits), logits in memory that belongs to the caller."""

    def __init__(self, inputs: Inputs, temperature: float) -> None:
        hidden_BD, self.weight_CD, bias_C, self.rows_P, self.ids_P, weights_P, self.shifts_P = inputs
        self.dtype = torch.promote_types(hidden_BD.dtype, torch.float32)
        self.num_classes = len(self.weight_CD)
        self.hidden_BD = hidden_BD / temperature
        self.bias_C = None if bias_C is None else bias_C / temperature
        self.weights_P = weights_P.to(self.dtype)
        mass_B = torch.zeros(len(hidden_BD), dtype=self.dtype, device=hidden_BD.device)
        self.mass_B = mass_B.index_add_(0, self.rows_P, self.weights_P)

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        width = max(budget.TILE_ELEMENTS // max(len(self.hidden_BD), 1), budget.MIN_TILE_WIDTH)
        starts = range(0, self.num_classes, width)
        targets = Pairs(self.rows_P, self.ids_P)
        for start, places in zip(starts, targets.places_by_tile(width, len(starts)), strict=True):
            logits_BW = (self.hidden_BD @ self.weight_CD[start : start + width].T).to(self.dtype)
            if self.bias_C is not None:
                logits_BW += self.bias_C[start : start + width]
            if self.shifts_P is not None:
                targets_T = targets.rows_P[places], targets.ids_P[places] - start
                logits_BW.index_put_(targets_T, self.shifts_P[places].to(self.dtype), accumulate=True)
            yield start, places, logits_BW


# One step of a graph each for torch.compile, which cannot follow loops over what it finds in tensors.
forward_op = torch.library.custom_op("widemax::tiled_forward", _forward, mutates_args=())
backward_op = torch.library.custom_op("widemax::tiled_backward", _backward, mutates_args=())


@forward_op.register_fake
def _(inputs: Any, options: Any) -> list[Tensor]:
    hidden_BD = inputs[0]
    dtype = torch.promote_types(hidden_BD.dtype, torch.float32)
    return [hidden_BD.new_empty(len(hidden_BD), dtype=dtype) for _ in range(3)]


@backward_op.register_fake
def _(inputs: Any, options: Any, found: Any, needed: Any) -> list[Tensor]:
    return [torch.empty_like(x) for x, is_needed in zip(inputs, needed, strict=True) if is_needed]
