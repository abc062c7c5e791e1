"""The losses of a wide linear layer, streamed over tiles of classes, so that [B, C] never exists.

Forward keeps a few numbers a row; backward computes every tile again.
Shapes: B rows, C classes, D hidden, P targets, W classes of one tile.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from widemax.kernels.autocast import autocast_layer
from widemax.kernels.exponentials import softplus
from widemax.kernels.pairs import Pairs
from widemax.kernels.plain import plain_gradients

# Logits held at a time: the fastest of the powers of two on a two-core processor.
TILE_ELEMENTS = 2**22
MIN_TILE_WIDTH = 512


def tiled_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Pairs,
    target_weights: Tensor,
    *,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The twin of :func:`~widemax.kernels.plain.plain_cross_entropy`; extra memory is B numbers a tile class.

    log Z is kept as a running maximum and sum (Milakov and Gimelshein 2018, "Online normalizer calculation
    for softmax").
    """
    loss_B: Tensor = _TiledLoss.apply(  # type: ignore[no-untyped-call]  # torch has no type for apply
        *autocast_layer(hidden, weight), bias, *targets, target_weights, temperature, label_smoothing, True
    )
    return loss_B


def tiled_binary_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Pairs,
    target_weights: Tensor,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """The twin of :func:`~widemax.kernels.plain.plain_binary_cross_entropy`."""
    loss_B: Tensor = _TiledLoss.apply(  # type: ignore[no-untyped-call]  # torch has no type for apply
        *autocast_layer(hidden, weight), bias, *targets, target_weights, temperature, 0.0, False
    )
    return loss_B


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_BD: Tensor,
        weight_CD: Tensor,
        bias_C: Tensor | None,
        rows_P: Tensor,
        ids_P: Tensor,
        target_weights_P: Tensor,
        temperature: float,
        smoothing: float,
        softmax: bool,
    ) -> Tensor:
        tiles = _Tiles(hidden_BD, weight_CD, bias_C, Pairs(rows_P, ids_P), temperature)
        weights_P = target_weights_P.to(tiles.dtype)
        mass_B = torch.zeros(len(hidden_BD), dtype=tiles.dtype, device=hidden_BD.device)
        mass_B.index_add_(0, rows_P, weights_P)
        max_B = torch.full_like(mass_B, -torch.inf if softmax else 0.0)
        # Thousands of tiles are added up here, hence float64: these are only B numbers.
        sum_B = torch.zeros_like(mass_B, dtype=torch.float64)
        logit_sum_B = torch.zeros_like(sum_B)
        target_logits_P = torch.zeros_like(weights_P)
        for start, places, logits_BW in tiles:
            target_logits_P[places] = logits_BW[rows_P[places], ids_P[places] - start]
            if smoothing:
                logit_sum_B += logits_BW.sum(1)
            if softmax:
                larger_B = torch.maximum(max_B, logits_BW.amax(1))
                sum_B *= (max_B - larger_B).exp()
                sum_B += logits_BW.sub_(larger_B[:, None]).exp_().sum(1)
                max_B = larger_B
            else:
                sum_B += softplus(logits_BW, out=logits_BW).sum(1)
        # Relative to the row's maximum, because log Z − s would cancel for large logits. Without a softmax
        # that maximum is 0 and the same line gives −Σ t s.
        terms_P = (1 - smoothing) * weights_P * (max_B[rows_P] - target_logits_P)
        loss_B = (mass_B * sum_B.log() if softmax else sum_B).to(tiles.dtype).index_add(0, rows_P, terms_P)
        if smoothing:
            loss_B += smoothing * mass_B * (max_B - (logit_sum_B / len(weight_CD)).to(tiles.dtype))
        ctx.save_for_backward(
            hidden_BD, weight_CD, bias_C, rows_P, ids_P, weights_P, max_B, sum_B.to(tiles.dtype), mass_B
        )
        ctx.options = temperature, smoothing, softmax
        return loss_B

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor | None, ...]:
        hidden_BD, weight_CD, bias_C, rows_P, ids_P, weights_P, max_B, sum_B, mass_B = ctx.saved_tensors
        temperature, smoothing, softmax = ctx.options
        if torch.is_grad_enabled():
            inputs = hidden_BD, weight_CD, bias_C, rows_P, ids_P, weights_P
            return *plain_gradients(inputs, ctx.options, ctx.needs_input_grad[:3], grad_B), *[None] * 6
        tiles = _Tiles(hidden_BD, weight_CD, bias_C, Pairs(rows_P, ids_P), temperature)
        grad_P = -(1 - smoothing) * weights_P * grad_B[rows_P]
        slope_B = (grad_B * mass_B / sum_B if softmax else grad_B)[:, None]
        spread_B = (grad_B * mass_B * (smoothing / len(weight_CD)))[:, None]

        def logit_gradient(start: int, places: Tensor, logits_BW: Tensor) -> Tensor:
            grad_BW = logits_BW.sub_(max_B[:, None]).exp_() if softmax else logits_BW.sigmoid_()
            grad_BW *= slope_B
            if smoothing:
                grad_BW -= spread_B
            return grad_BW.index_put_(
                (rows_P[places], ids_P[places] - start), grad_P[places], accumulate=True
            )

        return *tiles.backward(ctx.needs_input_grad, logit_gradient), *[None] * 6


class _Tiles:
    """Iterates (first class, places of its targets, logits); turns logit gradients into input gradients."""

    def __init__(
        self, hidden_BD: Tensor, weight_CD: Tensor, bias_C: Tensor | None, targets: Pairs, temperature: float
    ) -> None:
        self.dtype = torch.promote_types(hidden_BD.dtype, torch.float32)
        self.temperature = temperature
        self.hidden_BD = hidden_BD / temperature
        self.weight_CD = weight_CD
        self.bias_C = None if bias_C is None else bias_C / temperature
        self.width = max(TILE_ELEMENTS // max(len(hidden_BD), 1), MIN_TILE_WIDTH)
        self.places = targets.places_by_tile(self.width, -(-len(weight_CD) // self.width))

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        for start, places in zip(range(0, len(self.weight_CD), self.width), self.places, strict=True):
            logits_BW = (self.hidden_BD @ self.weight_CD[start : start + self.width].T).to(self.dtype)
            if self.bias_C is not None:
                logits_BW += self.bias_C[start : start + self.width]
            yield start, places, logits_BW

    def backward(
        self, needed: tuple[bool, ...], logit_gradient: Callable[[int, Tensor, Tensor], Tensor]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of hidden, weight and bias, each None where it is not needed."""
        hidden_grad_BD = torch.zeros_like(self.hidden_BD, dtype=self.dtype) if needed[0] else None
        weight_grad_CD = torch.empty_like(self.weight_CD) if needed[1] else None
        bias_grad_C = torch.empty_like(self.bias_C) if needed[2] and self.bias_C is not None else None
        for start, places, logits_BW in self:
            grad_BW = logit_gradient(start, places, logits_BW)
            stop = start + grad_BW.shape[1]
            if bias_grad_C is not None:
                bias_grad_C[start:stop] = grad_BW.sum(0) / self.temperature
            grad_BW = grad_BW.to(self.weight_CD.dtype)
            if hidden_grad_BD is not None:
                hidden_grad_BD += grad_BW @ self.weight_CD[start:stop]
            if weight_grad_CD is not None:
                weight_grad_CD[start:stop] = grad_BW.T @ self.hidden_BD
        if hidden_grad_BD is not None:
            hidden_grad_BD = (hidden_grad_BD / self.temperature).to(self.hidden_BD.dtype)
        return hidden_grad_BD, weight_grad_CD, bias_grad_C
