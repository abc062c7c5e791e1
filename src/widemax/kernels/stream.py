"""Every question about all classes, answered exactly in one pass over tiles of classes.

Shapes: B rows, b rows of one chunk, C classes, D hidden, K kept, P labels, W classes of one tile,
T tiles held, G blocks of classes.
"""

import math
import threading
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from widemax import native
from widemax.kernels import budget
from widemax.kernels.exponentials import exp_minus
from widemax.kernels.pairs import Pairs
from widemax.kernels.ranking import BestSoFar, Window, count_larger
from widemax.kernels.tracing import not_traced
from widemax.numerics.autocast import autocast_dtype

# Classes whose maximum is taken together; the top k lie in the k blocks with the largest maxima.
BLOCK = 64
Powers: TypeAlias = Literal[0, 1, 2]


class Kept(threading.local):
    """What a thread keeps for its next call."""

    buffer: Tensor | None = None


kept = Kept()


class Added(NamedTuple):
    """What is added to the logits of some (row, class) pairs, which are distinct and ordered by class.

    Attributes:
        rows_S: int64 row of each pair.
        ids_S: int64 class id of each pair.
        values_S: what its logit gains.
    """

    rows_S: Tensor
    ids_S: Tensor
    values_S: Tensor

    def of_rows(self, start: int, stop: int) -> "Added":
        """The pairs of rows [start, stop), with rows counted from ``start``."""
        within_S = (self.rows_S >= start) & (self.rows_S < stop)
        if bool(within_S.all()) and not start:
            return self
        return Added(self.rows_S[within_S] - start, self.ids_S[within_S], self.values_S[within_S])


class Found(NamedTuple):
    """The exact answers about a batch.

    Attributes:
        topk_logits_BK: the largest logits, descending.
        topk_ids_BK: their class ids; equal logits by ascending id.
        shift_B: the largest logit of all classes; NaN where sums were not asked for. Sums are relative to it,
            because the logarithm of a sum drowns in the rounding of large logits.
        log_sum_B: log Σ_j exp(s_bj − shift_b) over all classes, in nats; NaN where it was not asked for.
        log_square_sum_B: log Σ_j exp(2 (s_bj − shift_b)) over all classes; NaN where it was not asked for.
        label_logits_P: the logit of each label; NaN for a label of −1.
        label_ranks_P: 1 + #{larger logits} + #{equal logits of smaller id}; 0 for a label of −1.
    """

    topk_logits_BK: Tensor
    topk_ids_BK: Tensor
    shift_B: Tensor
    log_sum_B: Tensor
    log_square_sum_B: Tensor
    label_logits_P: Tensor
    label_ranks_P: Tensor

    def log_probs(self, logits: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Log-probabilities of logits whose first axis stands for the given rows."""
        shape = -1, *[1] * (logits.ndim - 1)
        return (logits - self.shift_B[rows].view(shape)) - self.log_sum_B[rows].view(shape)


@not_traced
@torch.no_grad()
def stream_classes(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Pairs,
    excluded: Pairs,
    *,
    k: int,
    powers: Powers = 2,
    added: Added | None = None,
    label_logits: Tensor | None = None,
) -> Found:
    """Top k, log-partition, label logits and label ranks over all classes, in bounded memory.

    Args:
        hidden: [B, D] hidden vectors; logits are h Wᵀ + bias.
        weight: [C, D] class weights.
        bias: [C] class biases, or None.
        labels: (row, class) pairs whose logits and ranks are wanted; class −1 stands for an unknown label.
        excluded: (row, class) pairs that take no part in top k and ranks; their logit there is −inf.
        k: how many classes to keep, at most C.
        powers: of the exponentials, whose sums are wanted: 1 for the log-partition, 2 for the sum of squares
            too; 0 for yes-or-no questions, which need neither.
        added: what some logits are more than h Wᵀ + bias.
        label_logits: [P] the logits of the labels, where these are no classes of these C: ids then say before
            which class they would stand, and ranks are those among these classes and the label.

    Returns:
        The answers, in float32 at least; products of 16-bit numbers, and those under autocast, are rounded to
        16 bits, as torch gives them. All numbers about a row come from the same products, so that a label
        ties with itself and with classes of equal weights.

    Example:
        >>> weight = torch.tensor([[1.0], [2.0]])
        >>> label = Pairs(torch.tensor([0]), torch.tensor([0]))
        >>> nothing = Pairs(torch.arange(0), torch.arange(0))
        >>> found = stream_classes(torch.ones(1, 1), weight, None, label, nothing, k=1)
        >>> found.topk_ids_BK, found.label_ranks_P
        (tensor([[1]]), tensor([2]))
    """
    hidden = hidden.to(autocast_dtype(hidden))
    rows_per_chunk, held_tiles, width = plan(len(hidden), len(weight), k)
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    buffer = _buffer(rows_per_chunk * held_tiles * width, dtype, hidden.device)
    chunks = []
    # An empty batch still makes one (empty) chunk, which gives the answers their shapes.
    for start in range(0, max(len(hidden), 1), rows_per_chunk):
        stop = start + rows_per_chunk
        chunk_bD = hidden[start:stop]
        shape = held_tiles, len(chunk_bD), width
        added_b = None if added is None else added.of_rows(start, stop)
        logits = _TileLogits(chunk_bD, weight, bias, added_b, buffer[: math.prod(shape)].view(shape))
        pairs = labels.of_rows(start, stop)[1], excluded.of_rows(start, stop)[1]
        known = None if label_logits is None else label_logits[labels.of_rows(start, stop)[0]]
        chunks.append(_answer_chunk(logits, *pairs, k, powers, known))
    return chunks[0] if len(chunks) == 1 else Found(*map(torch.cat, zip(*chunks, strict=True)))


def _buffer(numel: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Room for logits; this thread's next call gets the same memory, as new pages cost time to touch."""
    buffer = kept.buffer
    if buffer is None or buffer.dtype != dtype or buffer.device != device or len(buffer) < numel:
        # A tensor born in inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            buffer = torch.empty(numel, dtype=dtype, device=device)
        kept.buffer = buffer if numel <= budget.HELD_ELEMENTS else None
    return buffer


def plan(num_rows: int, num_classes: int, k: int) -> tuple[int, int, int]:
    """Rows of a chunk, tiles held, classes of a tile."""
    num_blocks = -(-num_classes // BLOCK)
    holdable = budget.MOST_ANSWER_ELEMENTS // (num_blocks * BLOCK)
    holds_all = holdable >= min(num_rows, 64)
    # The k best so far are merged with those of all classes held, which should be many more.
    least = 4 * k
    limit = max(
        1, min(holdable if holds_all else budget.MOST_ANSWER_ELEMENTS // max(least, 1), budget.MOST_ROWS)
    )
    num_chunks = -(-num_rows // limit)
    rows = max(1, -(-num_rows // max(num_chunks, 1)))
    blocks = max(budget.SMALL_TILE_ELEMENTS // (rows * BLOCK), 8)
    # Tiles of one width, so that the last is not nearly empty.
    width = BLOCK * -(-num_blocks // -(-num_blocks // blocks))
    held = num_classes if holds_all else min(max(budget.HELD_ELEMENTS // rows, least, 1), num_classes)
    return rows, -(-held // width), width


class _TileLogits:
    """The logits of a chunk of rows, tile by tile, in a buffer that the last tiles stay in."""

    def __init__(
        self,
        hidden_bD: Tensor,
        weight_CD: Tensor,
        bias_C: Tensor | None,
        added: Added | None,
        buffer_TbW: Tensor,
    ) -> None:
        self.hidden_bD, self.weight_CD, self.bias_C, self.added = hidden_bD, weight_CD, bias_C, added
        self.buffer_TbW = buffer_TbW
        self.width = buffer_TbW.shape[2]
        self.num_tiles = -(-len(weight_CD) // self.width)
        self.is_native = _takes_native(hidden_bD, weight_CD, bias_C)
        is_wide = hidden_bD.dtype == buffer_TbW.dtype
        if is_wide and hidden_bD.is_cpu and not self.is_native and len(hidden_bD) in budget.SLOW_ROWS:
            self.hidden_bD = nn.functional.pad(hidden_bD, (0, 0, 0, budget.SLOW_ROWS.stop - len(hidden_bD)))
            is_wide = False
        self.product_bW = None if is_wide else hidden_bD.new_empty(len(self.hidden_bD), self.width)

    def compute(self, tile: int) -> Tensor:
        """[b, W] logits, −inf beyond the last class; the same bits each time."""
        start = tile * self.width
        weight_wD = self.weight_CD[start : start + self.width].to(self.hidden_bD.dtype)
        tile_bW = self.buffer_TbW[tile % len(self.buffer_TbW)]
        tile_bW[:, len(weight_wD) :] = -torch.inf
        logits_bw = tile_bW[:, : len(weight_wD)]
        bias_w = None if self.bias_C is None else self.bias_C[start : start + self.width]
        if self.is_native:
            native.products_into(self.hidden_bD, weight_wD, bias_w, logits_bw)
        else:
            if self.product_bW is None:
                torch.mm(self.hidden_bD, weight_wD.T, out=logits_bw)
            else:
                product_bw = self.product_bW[:, : len(weight_wD)]
                logits_bw.copy_(torch.mm(self.hidden_bD, weight_wD.T, out=product_bw)[: len(logits_bw)])
            if bias_w is not None:
                logits_bw += bias_w
        if self.added is not None:
            ends = torch.searchsorted(
                self.added.ids_S, self.added.ids_S.new_tensor([start, start + self.width])
            )
            rows_s, ids_s, values_s = (part[slice(*ends.tolist())] for part in self.added)
            logits_bw[rows_s, ids_s - start] += values_s
        return tile_bW


def _takes_native(hidden_BD: Tensor, weight_CD: Tensor, bias_C: Tensor | None) -> bool:
    operands = (hidden_BD, weight_CD) if bias_C is None else (hidden_BD, weight_CD, bias_C)
    return 0 < len(hidden_BD) <= native.MOST_ROWS and native.takes(*operands)


def linear_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[B, C] h Wᵀ + bias; without gradients the products of :func:`stream_classes`, to stand beside its sums.

    Example:
        >>> linear_logits(torch.ones(1, 2), torch.tensor([[1.0, 2.0]]), torch.ones(1))
        tensor([[4.]])
    """
    if (
        not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and _takes_native(hidden, weight, bias)
    ):
        logits_BC = hidden.new_empty(len(hidden), len(weight))
        native.products_into(hidden, weight, bias, logits_BC)
        return logits_BC
    logits_BC = hidden @ weight.T
    return logits_BC if bias is None else logits_BC + bias


class _Sums:
    """Σ exp(s − shift) of each row over tiles, and its like with squares; the shift is its largest logit."""

    def __init__(self, like_bW: Tensor, powers: Powers) -> None:
        self.powers = powers
        self.is_native = native.takes(like_bW)
        self.powers_bW = torch.empty_like(like_bW if powers and not self.is_native else like_bW[:0])
        self.shift_b = like_bW.new_full((len(like_bW),), torch.finfo(like_bW.dtype).min)
        self.sum_b = torch.zeros_like(self.shift_b, dtype=torch.float64)
        self.square_sum_b = torch.zeros_like(self.sum_b)

    def add(self, logits_bW: Tensor) -> Tensor:
        """Add a tile; the largest logit of each of its blocks."""
        if self.is_native:
            sums = self.shift_b, self.sum_b, self.square_sum_b
            return native.block_maxima(logits_bW, *sums, powers=self.powers)
        maxima_bG = _block_maxima(logits_bW)
        if not self.powers:
            return maxima_bG
        shift_b = torch.maximum(self.shift_b, maxima_bG.amax(1))
        scale_b = (self.shift_b - shift_b).double().exp_()
        powers_bW = exp_minus(logits_bW, shift_b, out=self.powers_bW)
        self.sum_b.mul_(scale_b).add_(powers_bW.sum(1))
        if self.powers == 2:
            self.square_sum_b.mul_(scale_b.square_()).add_(powers_bW.square_().sum(1))
        self.shift_b = shift_b
        return maxima_bG

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """The shift, and the logarithms of both sums; NaN of what was not summed."""
        nothing_b = torch.full_like(self.shift_b, torch.nan)
        if not self.powers:
            return nothing_b, nothing_b, nothing_b
        square_sum_b = self.square_sum_b.log().to(self.shift_b.dtype) if self.powers == 2 else nothing_b
        return self.shift_b, self.sum_b.log().to(self.shift_b.dtype), square_sum_b


def _block_maxima(logits_bW: Tensor) -> Tensor:
    num_rows, width = logits_bW.shape
    return logits_bW.view(num_rows, width // BLOCK, BLOCK).amax(2)


def _answer_chunk(
    logits: _TileLogits,
    labels: Pairs,
    excluded: Pairs,
    k: int,
    powers: Powers,
    label_logits: Tensor | None,
) -> Found:
    held_tiles, num_rows, width = logits.buffer_TbW.shape
    known = labels.ids_P
    if len(known):
        known = (labels.ids_P >= (0 if label_logits is None else math.inf)).nonzero().squeeze(1)
    known_places = Pairs(labels.rows_P[known], labels.ids_P[known]).places_by_tile(width, logits.num_tiles)
    excluded_places = excluded.places_by_tile(width, logits.num_tiles)
    label_logits_P = logits.buffer_TbW.new_full(labels.ids_P.shape, torch.nan)
    if label_logits is not None:
        label_logits_P.copy_(label_logits)

    def note_labels(tile: int, logits_bW: Tensor) -> None:
        if not len(known):
            return
        places = known[known_places[tile]]
        label_logits_P[places] = logits_bW[labels.rows_P[places], labels.ids_P[places] - tile * width]

    holds_all = logits.num_tiles <= held_tiles
    if not holds_all:
        # Ranks are counted while logits are there, for which those of the labels must be known.
        for tile, places in enumerate(known_places):
            if len(places):
                note_labels(tile, logits.compute(tile))

    sums = _Sums(logits.buffer_TbW[0], powers)
    best = BestSoFar(label_logits_P.new_empty(num_rows, 0), k=k)
    larger_P = torch.zeros_like(labels.ids_P)
    for first in range(0, logits.num_tiles, held_tiles):
        tiles = range(first, min(first + held_tiles, logits.num_tiles))
        block_maxima = []
        for tile in tiles:
            logits_bW = logits.compute(tile)
            if holds_all:
                note_labels(tile, logits_bW)
            maxima_bG = sums.add(logits_bW)
            places = excluded_places[tile]
            if len(places):
                logits_bW[excluded.rows_P[places], excluded.ids_P[places] - tile * width] = -torch.inf
                maxima_bG = _block_maxima(logits_bW)
            block_maxima.append(maxima_bG)
        window = Window(logits.buffer_TbW[: len(tiles)], torch.cat(block_maxima, 1), first * width)
        larger_P += count_larger(window, labels, label_logits_P)
        best.merge(window)

    return Found(
        best.logits_BK,
        best.ids_BK,
        *sums.found(),
        label_logits_P,
        torch.where(labels.ids_P < 0, 0, larger_P + 1),
    )
