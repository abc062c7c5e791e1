"""The mean loss of a wide linear layer together with its gradients, in three products instead of four.

A tiled loss computes its logits once for the loss and once more for the gradients. Where the weight of every
row in the total is known beforehand, the gradients can be had at once: exp(logits) of some rows are kept
until their sum is known, and then multiplied. Compiled kernels keep logits instead, or compute them twice.
Shapes: B rows, b rows of one chunk, r rows of one block, C classes, D hidden, P targets, W classes of one
tile, p targets among them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from widemax import native
from widemax.kernels import budget
from widemax.kernels.exponentials import exp_minus, softplus_into
from widemax.kernels.memory import in_huge_pages
from widemax.kernels.pairs import Pairs
from widemax.kernels.plain import Inputs, Options, plain_gradients, plain_loss
from widemax.numerics import softplus
from widemax.numerics.autocast import without_autocast

# Of exponentials in one tile: products with them must not overflow.
_LARGEST_SUM = math.exp(40)


@dataclass
class SkippedTiles:
    """Tiles of classes left out of the gradient: how much may be, and how much was at the last step.

    The loss stays exact. With P the probabilities of a row, its gradient for the logits is P minus the
    target, without the probabilities of the tiles left out: off by their sum, at most ``allowed_mass``, in
    the sum of absolute values. Rows of a batch share tiles, so it pays only where all rows of a chunk are
    sure.

    Attributes:
        allowed_mass: the most probability that a row may lose.
        fraction: of the tiles of all chunks, left out.
        dropped_mass: the most probability that a row has lost.
    """

    allowed_mass: float
    fraction: float = 0.0
    dropped_mass: float = 0.0


@dataclass(frozen=True)
class Elsewhere:
    """What a sweep over some classes must know of those that other processes sweep over at the same time.

    Attributes:
        num_classes: C, of all processes.
        largest: the most classes that one of them holds, by which all take as many rows at a time.
        mass_B: target mass of each row, among all classes.
        combine: the largest logits [b] of own classes and their sums of exponentials [b] to those of all.
    """

    num_classes: int
    largest: int
    mass_B: Tensor
    combine: Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def fused_loss(
    inputs: Inputs, row_weights: Tensor, options: Options, skipped: SkippedTiles | None = None
) -> Tensor:
    """Σ_b w_b ℓ_b with the losses ℓ of :func:`~widemax.kernels.plain.plain_loss`.

    Sums over classes and rows are taken in float32 at least, and so is the result.
    """
    loss: Tensor = _FusedLoss.apply(options, skipped, row_weights, *inputs)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return loss


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, options: Options, skipped: SkippedTiles | None, *tensors: Any) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.options = *options, 0.0 if skipped is None else skipped.allowed_mass
        is_compiling = torch.compiler.is_compiling()
        with without_autocast(tensors[0]):
            sweep = sweep_op if is_compiling else _sweep
            loss, share, *ctx.gradients = sweep(tensors, ctx.options, ctx.needs_input_grad[2:])
        if skipped is not None and not is_compiling:
            skipped.fraction, skipped.dropped_mass = share.tolist()
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[2:]
        is_compiling = torch.compiler.is_compiling()
        with without_autocast(grad):
            if torch.is_grad_enabled():
                row_weights_B, *inputs = ctx.saved_tensors
                options = Options(*ctx.options[:4])
                loss_B = plain_loss(Inputs(*inputs), options)
                return (
                    *(None, None, grad * loss_B if needed[0] else None),
                    *plain_gradients(Inputs(*inputs), options, needed[1:], grad * row_weights_B),
                )
            if ctx.gradients is None:
                _, _, *ctx.gradients = _sweep(ctx.saved_tensors, ctx.options, needed)
        # Handed over, not kept: autograd may add to them in place.
        gradients, ctx.gradients = iter(ctx.gradients), None
        is_scaled = is_compiling or grad != 1
        found = []
        for tensor, is_needed in zip(ctx.saved_tensors, needed, strict=True):
            # Scaled before it is rounded to 16 bits.
            gradient = next(gradients) if is_needed else None
            if gradient is not None:
                gradient = (gradient.mul_(grad) if is_scaled else gradient).to(tensor.dtype)
            found.append(gradient)
        return None, None, *found


class _Tile(NamedTuple):
    """Some rows and classes: exp(s − shift) for a softmax, σ(s) otherwise, 0 at targets; shape [b, W]."""

    classes: slice
    values_bW: Tensor
    shift_b: Tensor
    sum_b: Tensor


def _sweep(
    tensors: Sequence[Tensor | None], options: Sequence[float], needed: Sequence[bool]
) -> list[Tensor]:
    """The loss; [2] the share of tiles skipped, and their mass; and the gradients that are needed."""
    sweep = Sweep(tensors, options, needed)
    total = sweep.run()
    shares = sweep.num_skipped / max(sweep.num_tiles, 1), sweep.dropped_mass
    share = torch.tensor(shares, dtype=total.dtype, device="cpu")
    return [total, share, *sweep.gradients()]


# One step of a graph for torch.compile, which cannot follow loops over what it finds in tensors.
sweep_op = torch.library.custom_op("widemax::fused_loss", _sweep, mutates_args=())


@sweep_op.register_fake
def _(tensors: Any, options: Any, needed: Any) -> list[Tensor]:
    asked = (x for x, is_needed in zip(tensors, needed, strict=True) if is_needed)
    dtype = torch.promote_types(tensors[1].dtype, torch.float32)
    loss, share = tensors[1].new_empty((), dtype=dtype), torch.empty(2, dtype=dtype, device="cpu")
    return [loss, share, *(torch.empty_like(x, dtype=dtype) for x in asked)]


class Sweep:
    """One pass over a batch that adds up loss and gradients.

    Args:
        tensors: the weight of each row in the total, then what ``widemax.kernels.plain.Inputs`` holds.
        options: those of ``widemax.kernels.plain.Options``, and the mass that may be skipped.
        needed: for each tensor whether its gradient is wanted.
        elsewhere: where the classes are some of more: the loss is then the part of these classes.
    """

    def __init__(
        self,
        tensors: Sequence[Any],
        options: Sequence[float],
        needed: Sequence[bool],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.elsewhere = elsewhere
        row_weights_B, hidden_BD, self.weight_CD, bias_C, rows_P, ids_P, target_weights_P, shifts_P = tensors
        self.is_softmax, self.temperature, self.smoothing, self.z_loss, self.allowed_mass = options
        self.num_tiles = self.num_skipped = 0
        self.dropped_mass = 0.0
        self.low_dtype = hidden_BD.dtype
        self.dtype = torch.promote_types(hidden_BD.dtype, torch.float32)
        self.hidden_BD = hidden_BD / self.temperature
        self.bias_C = None if bias_C is None else bias_C.to(self.dtype) / self.temperature
        self.targets = Pairs(rows_P, ids_P)
        self.target_weights_P = target_weights_P.to(self.dtype)
        self.shifts_P = None if shifts_P is None else shifts_P.to(self.dtype)
        self.row_weights_B = row_weights_B.to(self.dtype)
        (num_rows, dim), num_classes = hidden_BD.shape, len(self.weight_CD)
        held = num_classes if elsewhere is None else elsewhere.largest
        self.chunk_rows = max(1, budget.rows_at_once(num_rows, dim, held))
        # Whole blocks of the compiled kernels, also without them: processes take as many rows at a time.
        if native.BLOCK < self.chunk_rows < num_rows:
            self.chunk_rows -= self.chunk_rows % native.BLOCK
        layer = self.hidden_BD, self.weight_CD, self.bias_C
        self.is_compiled = not self.allowed_mass and native.loss_pays(*layer)
        self.holds = not self.is_compiled or dim >= budget.HELD_DIM
        if not self.holds and elsewhere is None:
            self.chunk_rows = min(num_rows, budget.MOST_LOSS_ROWS)
        self.width = min(max(budget.TILE_ELEMENTS // self.chunk_rows, budget.MIN_TILE_WIDTH), held)
        held_rows = (
            -(-self.chunk_rows // native.BLOCK) * native.BLOCK if self.is_compiled else self.chunk_rows
        )
        self.kept = in_huge_pages(hidden_BD.new_empty(held_rows * num_classes if self.holds else 0))
        self.block_rows = self.chunk_rows
        if hidden_BD.is_cpu:
            self.block_rows = min(self.chunk_rows, max(1, budget.BLOCK_ELEMENTS // max(self.width, 1)))
        # One room for all blocks: memory taken and given back each time, between small tensors, would
        # fall to pieces.
        block = self.block_rows * self.width
        self.wide = hidden_BD.new_empty(0 if self.dtype == self.low_dtype else block, dtype=self.dtype)
        self.softplus = hidden_BD.new_empty(0 if self.is_softmax else block, dtype=self.dtype)
        self.loss_B = torch.zeros_like(self.row_weights_B)
        needs_rows, needs_hidden, needs_weight, needs_bias, _, _, _, needs_shifts = needed
        self.row_grad_B = self.loss_B if needs_rows else None
        self.hidden_grad_BD = torch.zeros_like(hidden_BD, dtype=self.dtype) if needs_hidden else None
        self.weight_grad_CD = None
        if needs_weight:
            self.weight_grad_CD = in_huge_pages(torch.empty_like(self.weight_CD, dtype=self.dtype))
        self.bias_grad_C = torch.zeros_like(self.bias_C) if self.bias_C is not None and needs_bias else None
        self.shifts_grad_P = (
            torch.zeros_like(self.shifts_P) if self.shifts_P is not None and needs_shifts else None
        )
        self.num_classes = num_classes if elsewhere is None else elsewhere.num_classes
        if self.smoothing:
            # In float64, as is what is subtracted from the largest logit: both may be large.
            self.mean_weight_D = self.weight_CD.sum(0, dtype=torch.float64) / self.num_classes

    def run(self) -> Tensor:
        """The loss of all rows."""
        num_rows = len(self.hidden_BD)
        if self.weight_grad_CD is not None and num_rows == 0:
            self.weight_grad_CD.zero_()
        for start in range(0, num_rows, self.chunk_rows):
            self._chunk(start, min(start + self.chunk_rows, num_rows))
        total: Tensor = (self.loss_B * self.row_weights_B).sum(dtype=torch.float64)
        return total.to(self.dtype)

    def gradients(self) -> list[Tensor]:
        """Those that are needed, in the order of the arguments and in float32 at least."""
        for gradient in (self.hidden_grad_BD, self.bias_grad_C):
            if gradient is not None:
                gradient.div_(self.temperature)
        found = (
            self.row_grad_B,
            self.hidden_grad_BD,
            self.weight_grad_CD,
            self.bias_grad_C,
            self.shifts_grad_P,
        )
        return [gradient for gradient in found if gradient is not None]

    def _chunk(self, start: int, stop: int) -> None:
        """Find the losses of some rows and add their gradients."""
        hidden_bD, row_weights_b = self.hidden_BD[start:stop], self.row_weights_B[start:stop]
        where, (rows_P, ids_P) = self.targets.of_rows(start, stop)
        weights_P = (1 - self.smoothing) * self.target_weights_P[where]
        mass_b = torch.zeros_like(row_weights_b).index_add_(0, rows_P, self.target_weights_P[where])
        shifts_P = None if self.shifts_P is None else self.shifts_P[where]
        sums = self._compiled_sums if self.is_compiled else self._sums
        tiles, target_logits_P, max_b, sum_b = sums(hidden_bD, Pairs(rows_P, ids_P), shifts_P)
        all_mass_b = mass_b if self.elsewhere is None else self.elsewhere.mass_B[start:stop].to(self.dtype)
        if self.is_softmax:
            # Targets were left out of the sum, as their part of the gradient is taken apart.
            sum_b.index_add_(0, rows_P, (target_logits_P - max_b[rows_P]).exp().double())
            if self.elsewhere is not None:
                max_b, sum_b = self.elsewhere.combine(max_b, sum_b)
            loss_b = mass_b * sum_b.log().to(self.dtype)
            softmax_b = all_mass_b
            if self.z_loss:
                log_partition_b = (max_b + sum_b.log()).to(self.dtype)
                loss_b += self.z_loss * log_partition_b.square()
                softmax_b = all_mass_b + 2 * self.z_loss * log_partition_b
            slope_b = row_weights_b * softmax_b / sum_b.to(self.dtype)
            target_slope_P = slope_b[rows_P] * (target_logits_P - max_b[rows_P]).exp()
        else:
            slope_b = row_weights_b
            loss_b = sum_b.to(self.dtype)
            target_slope_P = slope_b[rows_P] * target_logits_P.sigmoid()
        # Relative to the row's maximum, because log Z − s would cancel for large logits; it is 0 without a
        # softmax.
        loss_b = loss_b.index_add(0, rows_P, weights_P * (max_b[rows_P] - target_logits_P))
        if isinstance(tiles, native.LossTiles):
            tiles.add_gradients(
                slope_b,
                max_b,
                hidden_grad_BD=None if self.hidden_grad_BD is None else self.hidden_grad_BD[start:stop],
                weight_grad_CD=self.weight_grad_CD,
                bias_grad_C=self.bias_grad_C,
                adds=start > 0,
            )
        else:
            if self.allowed_mass:
                tiles = self._heavy(tiles, max_b, sum_b.to(self.dtype))
                if start == 0 and self.weight_grad_CD is not None:
                    self.weight_grad_CD.zero_()
            self._add_gradients(start, tiles, hidden_bD, slope_b, max_b)
        target_slope_P -= row_weights_b[rows_P] * weights_P
        self._add_targets(start, hidden_bD, rows_P, ids_P, target_slope_P)
        if self.shifts_grad_P is not None:
            self.shifts_grad_P[where] = target_slope_P
        if self.smoothing:
            mean_b = hidden_bD.double() @ self.mean_weight_D
            if self.bias_C is not None:
                mean_b += self.bias_C.double().sum() / self.num_classes
            if shifts_P is not None:
                mean_b.index_add_(0, rows_P, shifts_P.double() / self.num_classes)
            largest_b = max_b.double() * (len(self.weight_CD) / self.num_classes)
            loss_b += self.smoothing * all_mass_b * (largest_b - mean_b).to(self.dtype)
            spread_b = self.smoothing * all_mass_b * row_weights_b
            self._add_smoothing(start, hidden_bD, spread_b)
            if self.shifts_grad_P is not None:
                self.shifts_grad_P[where] -= spread_b[rows_P] / self.num_classes
        self.loss_B[start:stop] = loss_b

    def _sums(
        self, hidden_bD: Tensor, targets: Pairs, shifts_P: Tensor | None
    ) -> tuple[list[_Tile], Tensor, Tensor, Tensor]:
        """The tiles, the targets' logits, and of each row the largest logit and the sum without targets."""
        target_logits_P = torch.empty_like(targets.ids_P, dtype=self.dtype)
        # Thousands of tiles are added up here, hence float64: these are only b numbers.
        sum_b = hidden_bD.new_zeros(len(hidden_bD), dtype=torch.float64)
        tiles = list(self._tiles(hidden_bD, targets, shifts_P, target_logits_P, sum_b))
        least = torch.finfo(self.dtype).min if self.is_softmax else 0.0
        max_b = tiles[-1].shift_b if tiles else torch.full_like(sum_b, least, dtype=self.dtype)
        return tiles, target_logits_P, max_b, sum_b

    def _compiled_sums(
        self, hidden_bD: Tensor, targets: Pairs, shifts_P: Tensor | None
    ) -> tuple[native.LossTiles, Tensor, Tensor, Tensor]:
        """The same by the compiled kernels."""
        rows_P, ids_P = targets
        kept = self.kept if self.holds else None
        tiles = native.LossTiles(
            *(hidden_bD, self.weight_CD, self.bias_C, targets, kept), is_softmax=bool(self.is_softmax)
        )
        target_logits_P = (hidden_bD[rows_P].to(self.dtype) * self.weight_CD[ids_P]).sum(1)
        for shift_P in (None if self.bias_C is None else self.bias_C[ids_P], shifts_P):
            if shift_P is not None:
                target_logits_P += shift_P
        largest_b, sum_b = tiles.log_sums()
        if not self.is_softmax:
            sum_b.index_add_(0, rows_P, softplus(target_logits_P).double())
            return tiles, target_logits_P, largest_b, sum_b
        max_b = largest_b.scatter_reduce(0, rows_P, target_logits_P, "amax")
        return tiles, target_logits_P, max_b, sum_b * (largest_b - max_b).double().exp()

    def _tiles(
        self,
        hidden_bD: Tensor,
        targets: Pairs,
        shifts_P: Tensor | None,
        target_logits_P: Tensor,
        sum_b: Tensor,
    ) -> Iterator[_Tile]:
        num_rows, num_classes = len(hidden_bD), len(self.weight_CD)
        least = torch.finfo(self.dtype).min if self.is_softmax else 0.0
        shift_b = torch.full_like(sum_b, least, dtype=self.dtype)
        starts = range(0, num_classes, self.width)
        for start, places in zip(starts, targets.places_by_tile(self.width, len(starts)), strict=True):
            stop = min(start + self.width, num_classes)
            kept_bW = self.kept[num_rows * start : num_rows * stop].view(num_rows, stop - start)
            torch.mm(hidden_bD, self.weight_CD[start:stop].T, out=kept_bW)
            rows, columns = targets.rows_P[places], targets.ids_P[places] - start
            target_logits_p = kept_bW[rows, columns].to(self.dtype)
            if self.bias_C is not None:
                target_logits_p += self.bias_C[targets.ids_P[places]]
            if shifts_P is not None:
                target_logits_p += shifts_P[places]
            target_logits_P[places] = target_logits_p
            kept_bW[rows, columns] = -torch.inf
            if self.is_softmax:
                larger_b = shift_b.scatter_reduce(0, rows, target_logits_p, "amax")
            else:
                larger_b = shift_b
                sum_b.index_add_(0, rows, softplus(target_logits_p).double())
            # What is subtracted need not be the largest logit, to look for which takes a pass: what the tiles
            # before leave does, unless some logit is far above it.
            knows_shift = self.is_softmax and start > 0 and kept_bW.is_cpu
            tile_sum_b = self._exponentials(kept_bW, start, larger_b, looks=not knows_shift)
            if knows_shift and not (tile_sum_b < _LARGEST_SUM).all():
                torch.mm(hidden_bD, self.weight_CD[start:stop].T, out=kept_bW)
                kept_bW[rows, columns] = -torch.inf
                tile_sum_b = self._exponentials(kept_bW, start, larger_b, looks=True)
            kept_bW[rows, columns] = 0
            sum_b *= (shift_b - larger_b).exp()
            sum_b += tile_sum_b
            shift_b = larger_b
            yield _Tile(slice(start, stop), kept_bW, shift_b, tile_sum_b)

    def _exponentials(self, kept_bW: Tensor, start: int, larger_b: Tensor, *, looks: bool) -> Tensor:
        """Turn products into what a tile holds, and return [b] sums over its classes.

        A few rows at a time, which stay in a core's own cache from one pass to the next.

        Args:
            larger_b: what is subtracted.
            looks: whether it is brought up to the largest logit first.
        """
        num_rows, width = kept_bW.shape
        if native.takes_logits(kept_bW):
            bias_W = None if self.bias_C is None else self.bias_C[start : start + width]
            if not self.is_softmax:
                return native.softplus_(kept_bW, bias_W)
            return native.exponentials_(kept_bW, bias_W, larger_b, looks=looks)
        sum_b = torch.empty_like(larger_b)
        for first in range(0, num_rows, self.block_rows):
            block = slice(first, first + self.block_rows)
            kept_rW, largest_r = kept_bW[block], larger_b[block]
            logits_rW = kept_rW
            if self.dtype != self.low_dtype:
                logits_rW = self.wide[: kept_rW.numel()].view_as(kept_rW).copy_(kept_rW)
            if self.bias_C is not None:
                logits_rW += self.bias_C[start : start + width]
            if self.is_softmax:
                if looks:
                    torch.maximum(largest_r, logits_rW.amax(1), out=largest_r)
                exp_minus(logits_rW, largest_r, out=logits_rW)
                torch.sum(logits_rW, 1, out=sum_b[block])
            else:
                softplus_rW = self.softplus[: kept_rW.numel()].view_as(kept_rW)
                torch.sum(softplus_into(logits_rW, softplus_rW), 1, out=sum_b[block])
                logits_rW.sigmoid_()
            if logits_rW is not kept_rW:
                kept_rW.copy_(logits_rW)
        return sum_b

    def _heavy(self, tiles: list[_Tile], max_b: Tensor, sum_b: Tensor) -> list[_Tile]:
        """The tiles that no row can do without; the lightest go first."""
        mass_Tb = torch.stack([tile.sum_b * (tile.shift_b - max_b).exp() for tile in tiles]) / sum_b
        order_T = mass_Tb.amax(1).argsort()
        lost_T = mass_Tb[order_T].cumsum(0).amax(1)
        num_skipped = int((lost_T <= self.allowed_mass).sum())
        if num_skipped:
            self.dropped_mass = max(self.dropped_mass, float(lost_T[num_skipped - 1]))
        self.num_tiles += len(tiles)
        self.num_skipped += num_skipped
        kept = set(order_T[num_skipped:].tolist())
        return [tile for place, tile in enumerate(tiles) if place in kept]

    def _add_gradients(
        self, start: int, tiles: list[_Tile], hidden_bD: Tensor, slope_b: Tensor, max_b: Tensor
    ) -> None:
        """Factors of a row go to the small operand: [b, D] numbers, not [b, W]."""
        rows = slice(start, start + len(hidden_bD))
        for classes, values_bW, shift_b, _ in tiles:
            factor_b = slope_b * (shift_b - max_b).exp()
            if self.hidden_grad_BD is not None:
                product_bD = values_bW @ self.weight_CD[classes]
                self.hidden_grad_BD[rows].addcmul_(product_bD.to(self.dtype), factor_b[:, None])
            if self.weight_grad_CD is not None:
                grad_WD = self.weight_grad_CD[classes]
                scaled_bD = (hidden_bD * factor_b[:, None]).to(self.low_dtype)
                if self.dtype != self.low_dtype:
                    product_WD = values_bW.T @ scaled_bD
                    grad_WD.copy_(product_WD) if start == 0 else grad_WD.add_(product_WD)
                elif start == 0:
                    torch.mm(values_bW.T, scaled_bD, out=grad_WD)
                else:
                    grad_WD.addmm_(values_bW.T, scaled_bD)
            if self.bias_grad_C is not None:
                self.bias_grad_C[classes] += values_bW.to(self.dtype).T @ factor_b

    def _add_targets(
        self, start: int, hidden_bD: Tensor, rows_P: Tensor, ids_P: Tensor, slope_P: Tensor
    ) -> None:
        if self.hidden_grad_BD is not None:
            weights_PD = self.weight_CD[ids_P].to(self.dtype)
            self.hidden_grad_BD.index_add_(0, start + rows_P, slope_P[:, None] * weights_PD)
        if self.weight_grad_CD is not None:
            self.weight_grad_CD.index_add_(0, ids_P, slope_P[:, None] * hidden_bD[rows_P])
        if self.bias_grad_C is not None:
            self.bias_grad_C.index_add_(0, ids_P, slope_P)

    def _add_smoothing(self, start: int, hidden_bD: Tensor, spread_b: Tensor) -> None:
        if self.hidden_grad_BD is not None:
            rows = slice(start, start + len(hidden_bD))
            self.hidden_grad_BD[rows] -= spread_b[:, None] * self.mean_weight_D.to(self.dtype)
        if self.weight_grad_CD is not None:
            self.weight_grad_CD -= (spread_b @ hidden_bD.to(self.dtype)) / self.num_classes
        if self.bias_grad_C is not None:
            self.bias_grad_C -= spread_b.sum() / self.num_classes
