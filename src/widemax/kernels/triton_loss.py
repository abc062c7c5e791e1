"""The loss of a wide linear layer and its gradients by kernels of Triton, on a GPU.

Logits of some rows are kept until their sum is known and then turned into gradients, so that loss and
gradients take three products. A tile of classes that holds less of each of its rows than the dtype can show
is left out of the two products of the gradient; how much it holds is known from the sums of the loss. Every
sum has one order.
Shapes: B rows, b rows of a chunk, C classes, D hidden, T tiles of classes, R blocks of rows.
"""

from __future__ import annotations  # kernels name types of Triton, which is an extra

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from widemax.errors import UsageError
from widemax.kernels.capped import CapOptions

try:
    import triton
    from triton import language as tl
except ModuleNotFoundError:
    triton = None

ROWS, CLASSES, DEPTH = 64, 128, 64
"""Of a tile."""
MOST_LOGITS = 2**28
"""Logits of a chunk of rows at most, 1 GB."""


def check_place(hidden: Tensor) -> None:
    """Refuse to begin where there is no Triton, or no GPU.

    Raises:
        UsageError: one of them is missing.
    """
    if triton is None:
        raise UsageError("impl 'triton' needs Triton; install it with pip install 'widemax[triton]'.")
    if not hidden.is_cuda and not is_interpreted():
        raise UsageError(
            f"impl 'triton' needs tensors on a GPU that torch calls cuda; got {hidden.device}. "
            "Take impl 'auto'."
        )


def is_interpreted() -> bool:
    """Whether Triton runs kernels on the CPU, slowly, as it does where TRITON_INTERPRET is 1."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def triton_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_ids: Tensor,
    row_weights: Tensor,
    options: CapOptions,
) -> tuple[Tensor, Tensor]:
    """Σ_b w_b ℓ_b, and log Z of each row without a gradient; rows of weight 0 may have any class id.

    Raises:
        UsageError: there is no Triton, or no GPU.
    """
    check_place(hidden)
    found: tuple[Tensor, Tensor] = _TritonLoss.apply(hidden, weight, bias, class_ids, row_weights, options)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return found


class _TritonLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        hidden_BD, weight_CD, bias_C, ids_B, weights_B, options = arguments
        sweep = _Sweep(hidden_BD.contiguous(), weight_CD.contiguous(), bias_C, options)
        wants = ctx.needs_input_grad[:3]
        rows_b = max(ROWS, MOST_LOGITS // len(weight_CD) // ROWS * ROWS)
        losses, log_partitions = [], []
        for start in range(0, len(hidden_BD), rows_b):
            chunk = slice(start, start + rows_b)
            loss, log_z_b = sweep.chunk(chunk, ids_B[chunk], weights_B[chunk].float(), any(wants))
            losses.append(loss)
            log_partitions.append(log_z_b)
        ctx.gradients = sweep.gradients
        log_z_B = torch.cat(log_partitions) if log_partitions else weights_B.float()
        ctx.mark_non_differentiable(log_z_B)
        return torch.stack(losses).sum() if losses else weights_B.float().sum(), log_z_B

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        found = zip(ctx.gradients, ctx.needs_input_grad, strict=False)
        scaled = (tensor * grad.to(tensor.dtype) if needed else None for tensor, needed in found)
        return *scaled, None, None, None


class _Sweep:
    """One pass over a batch that adds up loss and gradients."""

    def __init__(
        self, hidden_BD: Tensor, weight_CD: Tensor, bias_C: Tensor | None, options: CapOptions
    ) -> None:
        self.hidden_BD, self.weight_CD, self.bias_C, self.options = hidden_BD, weight_CD, bias_C, options
        self.num_classes, self.dim = weight_CD.shape
        self.num_tiles = -(-self.num_classes // CLASSES)
        self.num_depths = -(-self.dim // DEPTH)
        self.hidden_grad_BD = torch.zeros_like(hidden_BD)
        self.weight_grad_CD = torch.zeros_like(weight_CD, dtype=torch.float32)
        self.bias_grad_C = weight_CD.new_zeros(self.num_classes, dtype=torch.float32)

    @property
    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of hidden vectors, weights and biases."""
        dtype = self.bias_grad_C.dtype if self.bias_C is None else self.bias_C.dtype
        weight_grad_CD = self.weight_grad_CD.to(self.weight_CD.dtype)
        return self.hidden_grad_BD, weight_grad_CD, self.bias_grad_C.to(dtype)

    def chunk(
        self, chunk: slice, ids_b: Tensor, weights_b: Tensor, has_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        """The loss of some rows, and their log Z."""
        scale, softcap, smoothing, z_loss = self.options
        hidden_bD = self.hidden_BD[chunk]
        num_rows, num_tiles = len(hidden_bD), self.num_tiles
        blocks = -(-num_rows // ROWS)
        logits_bC = hidden_bD.new_empty(num_rows, self.num_classes, dtype=torch.float32)
        maxima_Tb, sums_Tb, totals_Tb = logits_bC.new_empty(3, num_tiles, num_rows)
        bias_C = hidden_bD if self.bias_C is None else self.bias_C
        sizes = num_rows, self.num_classes, self.dim
        # The interpreter holds bfloat16 as whole numbers, which it would multiply.
        tile: dict[str, Any] = {"ROWS": ROWS, "CLASSES": CLASSES, "DEPTH": DEPTH, "WIDE": is_interpreted()}
        logits_kernel[blocks, num_tiles](
            *(hidden_bD, self.weight_CD, bias_C, logits_bC, maxima_Tb, sums_Tb, totals_Tb, *sizes),
            *(scale, softcap),
            HAS_BIAS=self.bias_C is not None,
            HAS_CAP=softcap > 0,
            **tile,
        )
        mass_Tb = maxima_Tb + sums_Tb.log()
        log_z_b = mass_Tb.logsumexp(0)
        known_b = ids_b.clamp(0, self.num_classes - 1)
        label_b = logits_bC.gather(1, known_b[:, None]).squeeze(1)
        loss_b = log_z_b - (1 - smoothing) * label_b + z_loss * log_z_b.square()
        if smoothing:
            loss_b = loss_b - smoothing / self.num_classes * totals_Tb.sum(0)
        # Rows of weight 0 count for nothing, whatever they are.
        loss = torch.where(weights_b == 0, 0, weights_b * loss_b).sum()
        if not has_gradient:
            return loss, log_z_b
        kept_RT = self._kept(mass_Tb - log_z_b, known_b, weights_b, blocks)
        slope_b = weights_b * (1 + 2 * z_loss * log_z_b)
        grad_bC = torch.empty_like(logits_bC, dtype=self.hidden_BD.dtype)
        gradients_kernel[blocks, num_tiles](
            *(logits_bC, known_b, log_z_b, slope_b, weights_b, kept_RT, grad_bC),
            *(num_rows, self.num_classes, num_tiles, scale, softcap, smoothing),
            HAS_CAP=softcap > 0,
            ROWS=ROWS,
            CLASSES=CLASSES,
        )
        hidden_kernel[blocks, self.num_depths](
            grad_bC, self.weight_CD, kept_RT, self.hidden_grad_BD[chunk], *sizes, num_tiles, **tile
        )
        weight_kernel[num_tiles, self.num_depths](
            *(grad_bC, hidden_bD, kept_RT, self.weight_grad_CD, self.bias_grad_C, *sizes, num_tiles, blocks),
            **tile,
        )
        return loss, log_z_b

    def _kept(self, log_mass_Tb: Tensor, ids_b: Tensor, weights_b: Tensor, blocks: int) -> Tensor:
        """[R, T] which tiles have a part in the gradient, as bytes.

        All tiles left out hold together less of a row than half the distance of 1 to the next number.
        """
        num_tiles, num_rows = log_mass_Tb.shape
        if self.options.smoothing:
            return torch.ones(blocks, num_tiles, dtype=torch.int8, device=log_mass_Tb.device)
        resolution = torch.finfo(self.hidden_BD.dtype).eps / 2 / num_tiles
        is_kept_bT = (log_mass_Tb.exp() > resolution).T.contiguous()
        is_kept_bT.scatter_(1, ids_b[:, None] // CLASSES, True)
        is_kept_bT &= (weights_b != 0)[:, None]
        padded = torch.nn.functional.pad(is_kept_bT, (0, 0, 0, blocks * ROWS - num_rows))
        return padded.view(blocks, ROWS, num_tiles).any(1).to(torch.int8)


def jit(kernel: Callable[..., Any]) -> Any:
    """A kernel of Triton, where there is Triton."""
    return kernel if triton is None else triton.jit(kernel)


@jit
def logits_kernel(  # type: ignore[no-untyped-def]
    hidden,
    weight,
    bias,
    logits,
    maxima,
    sums,
    totals,
    num_rows,
    num_classes,
    dim,
    scale,
    softcap,
    HAS_BIAS: tl.constexpr,
    HAS_CAP: tl.constexpr,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A tile of logits, with the largest of each row, the sum of exponentials relative to it, and the sum."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    classes = (tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)).to(tl.int64)
    is_row, is_class = rows < num_rows, classes < num_classes
    tile = tl.zeros((ROWS, CLASSES), dtype=tl.float32)
    for start in range(0, dim, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        is_depth = depth < dim
        left = tl.load(
            hidden + rows[:, None] * dim + depth[None, :], mask=is_row[:, None] & is_depth[None, :], other=0.0
        )
        right = tl.load(
            weight + classes[None, :] * dim + depth[:, None],
            mask=is_class[None, :] & is_depth[:, None],
            other=0.0,
        )
        if WIDE:
            left, right = left.to(tl.float32), right.to(tl.float32)
        tile = tl.dot(left, right, tile, input_precision="ieee")
    if HAS_BIAS:
        tile += tl.load(bias + classes, mask=is_class, other=0.0).to(tl.float32)[None, :]
    tile *= scale
    if HAS_CAP:
        tile = softcap * (2 * tl.sigmoid(2 * tile / softcap) - 1)
    is_there = is_row[:, None] & is_class[None, :]
    tl.store(logits + rows[:, None] * num_classes + classes[None, :], tile, mask=is_there)
    total = tl.sum(tl.where(is_there, tile, 0.0), 1)
    tile = tl.where(is_class[None, :], tile, float("-inf"))
    most = tl.max(tile, 1)
    place = tl.program_id(1).to(tl.int64) * num_rows + rows
    tl.store(maxima + place, most, mask=is_row)
    tl.store(sums + place, tl.sum(tl.exp(tile - most[:, None]), 1), mask=is_row)
    tl.store(totals + place, total, mask=is_row)


@jit
def gradients_kernel(  # type: ignore[no-untyped-def]
    logits,
    labels,
    log_partition,
    slope,
    weights,
    kept,
    grad,
    num_rows,
    num_classes,
    num_tiles,
    scale,
    softcap,
    smoothing,
    HAS_CAP: tl.constexpr,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """A tile of gradients of the logits before they are scaled and capped, where it is kept."""
    if tl.load(kept + tl.program_id(0) * num_tiles + tl.program_id(1)) != 0:
        rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        classes = (tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)).to(tl.int64)
        is_row = rows < num_rows
        is_there = is_row[:, None] & (classes < num_classes)[None, :]
        place = rows[:, None] * num_classes + classes[None, :]
        tile = tl.load(logits + place, mask=is_there, other=0.0)
        log_z = tl.load(log_partition + rows, mask=is_row, other=0.0)
        label = tl.load(labels + rows, mask=is_row, other=-1)
        row_weight = tl.load(weights + rows, mask=is_row, other=0.0)
        row_slope = tl.load(slope + rows, mask=is_row, other=0.0)
        target = tl.where(classes[None, :] == label[:, None], 1 - smoothing, 0.0) + smoothing / num_classes
        found = row_slope[:, None] * tl.exp(tile - log_z[:, None]) - row_weight[:, None] * target
        found = tl.where(row_weight[:, None] == 0, 0.0, found) * scale
        if HAS_CAP:
            found *= 1 - (tile / softcap) * (tile / softcap)
        tl.store(grad + place, found.to(grad.dtype.element_ty), mask=is_there)


@jit
def hidden_kernel(  # type: ignore[no-untyped-def]
    grad,
    weight,
    kept,
    hidden_grad,
    num_rows,
    num_classes,
    dim,
    num_tiles,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A block of the gradient of hidden vectors, over the tiles that are kept."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    depth = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    is_row, is_depth = rows < num_rows, depth < dim
    block = tl.zeros((ROWS, DEPTH), dtype=tl.float32)
    for tile in range(num_tiles):
        if tl.load(kept + tl.program_id(0) * num_tiles + tile) != 0:
            classes = (tile * CLASSES + tl.arange(0, CLASSES)).to(tl.int64)
            is_class = classes < num_classes
            left = tl.load(
                grad + rows[:, None] * num_classes + classes[None, :],
                mask=is_row[:, None] & is_class[None, :],
                other=0.0,
            )
            right = tl.load(
                weight + classes[:, None] * dim + depth[None, :],
                mask=is_class[:, None] & is_depth[None, :],
                other=0.0,
            )
            if WIDE:
                left, right = left.to(tl.float32), right.to(tl.float32)
            block = tl.dot(left, right, block, input_precision="ieee")
    place = hidden_grad + rows[:, None] * dim + depth[None, :]
    tl.store(place, block.to(hidden_grad.dtype.element_ty), mask=is_row[:, None] & is_depth[None, :])


@jit
def weight_kernel(  # type: ignore[no-untyped-def]
    grad,
    hidden,
    kept,
    weight_grad,
    bias_grad,
    num_rows,
    num_classes,
    dim,
    num_tiles,
    num_blocks,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A block of the gradient of weights, and of biases, added to that of the rows before."""
    classes = (tl.program_id(0) * CLASSES + tl.arange(0, CLASSES)).to(tl.int64)
    depth = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    is_class, is_depth = classes < num_classes, depth < dim
    block = tl.zeros((CLASSES, DEPTH), dtype=tl.float32)
    of_bias = tl.zeros((CLASSES,), dtype=tl.float32)
    for number in range(num_blocks):
        if tl.load(kept + number * num_tiles + tl.program_id(0)) != 0:
            rows = (number * ROWS + tl.arange(0, ROWS)).to(tl.int64)
            is_row = rows < num_rows
            left = tl.load(
                grad + rows[None, :] * num_classes + classes[:, None],
                mask=is_row[None, :] & is_class[:, None],
                other=0.0,
            )
            right = tl.load(
                hidden + rows[:, None] * dim + depth[None, :],
                mask=is_row[:, None] & is_depth[None, :],
                other=0.0,
            )
            if WIDE:
                left, right = left.to(tl.float32), right.to(tl.float32)
            block = tl.dot(left, right, block, input_precision="ieee")
            of_bias += tl.sum(left.to(tl.float32), 1)
    place = weight_grad + classes[:, None] * dim + depth[None, :]
    is_there = is_class[:, None] & is_depth[None, :]
    tl.store(place, tl.load(place, mask=is_there, other=0.0) + block, mask=is_there)
    if tl.program_id(1) == 0:
        before = tl.load(bias_grad + classes, mask=is_class, other=0.0)
        tl.store(bias_grad + classes, before + of_bias, mask=is_class)
