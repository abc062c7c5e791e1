"""Every question about all classes, answered exactly in one pass over tiles of classes.

Shapes: B rows, b rows of one chunk, C classes, D hidden, K kept, P labels, W classes of one tile,
N tiles held, G blocks of classes.
"""

import math
import threading
from typing import NamedTuple

import torch
from torch import Tensor

from widemax.kernels.pairs import Pairs
from widemax.kernels.ranking import count_larger, topk_by_id
from widemax.numerics import logsumexp

# Logits held at a time. Within it a chunk of rows keeps its logits; beyond it they are computed twice.
HELD_ELEMENTS = 2**26
# Logits of one tile: a tile should stay in a processor's cache between the passes over it.
TILE_ELEMENTS = 2**21
# More rows of a chunk make the products no faster.
CHUNK_ROWS = 512
# A buffer of at most so many logits outlives the call: 64 MiB.
KEPT_ELEMENTS = 2**24
# Classes whose maximum is taken together; the top k lie in the k blocks with the largest maxima.
BLOCK = 64

_kept = threading.local()


class Found(NamedTuple):
    """The exact answers about a batch.

    Attributes:
        topk_logits_BK: the largest logits, descending.
        topk_ids_BK: their class ids; equal logits by ascending id.
        log_partition_B: log Σ_j exp(s_bj) over all classes, in nats.
        log_square_sum_B: log Σ_j exp(2 s_bj) over all classes, in nats.
        label_logits_P: the logit of each label; NaN for a label of −1.
        label_ranks_P: 1 + #{larger logits} + #{equal logits of smaller id}; 0 for a label of −1.
    """

    topk_logits_BK: Tensor
    topk_ids_BK: Tensor
    log_partition_B: Tensor
    log_square_sum_B: Tensor
    label_logits_P: Tensor
    label_ranks_P: Tensor


@torch.no_grad()
def stream_classes(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Pairs, excluded: Pairs, *, k: int
) -> Found:
    """Top k, log-partition, label logits and label ranks over all classes, in bounded memory.

    Args:
        hidden: [B, D] hidden vectors; logits are h Wᵀ + bias.
        weight: [C, D] class weights.
        bias: [C] class biases, or None.
        labels: (row, class) pairs whose logits and ranks are wanted; class −1 stands for an unknown label.
        excluded: (row, class) pairs that take no part in top k and ranks; their logit there is −inf.
        k: how many classes to keep, at most C.

    Returns:
        The answers, in float32 at least. All numbers about a row come from the same products, so that a label
        ties with itself and with classes of equal weights.

    Example:
        >>> weight = torch.tensor([[1.0], [2.0]])
        >>> label = Pairs(torch.tensor([0]), torch.tensor([0]))
        >>> nothing = Pairs(torch.arange(0), torch.arange(0))
        >>> found = stream_classes(torch.ones(1, 1), weight, None, label, nothing, k=1)
        >>> found.topk_ids_BK, found.label_ranks_P
        (tensor([[1]]), tensor([2]))
    """
    rows_per_chunk, held_tiles, width = _plan(len(hidden), len(weight))
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    buffer_NbW = _buffer((held_tiles, rows_per_chunk, width), dtype, hidden.device)
    chunks = []
    # An empty batch still makes one (empty) chunk, which gives the answers their shapes.
    for start in range(0, max(len(hidden), 1), rows_per_chunk):
        chunk_bD = hidden[start : start + rows_per_chunk]
        logits = _TileLogits(chunk_bD, weight, bias, buffer_NbW[:, : len(chunk_bD)])
        stop = start + rows_per_chunk
        chunks.append(
            _answer_chunk(logits, labels.of_rows(start, stop)[1], excluded.of_rows(start, stop)[1], k)
        )
    return Found(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


def _buffer(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Room for logits; this thread's next call gets the same memory, as new pages cost time to touch."""
    numel = math.prod(shape)
    kept: Tensor | None = getattr(_kept, "buffer", None)
    if kept is None or kept.dtype != dtype or kept.device != device or len(kept) < numel:
        # A tensor born in inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            kept = torch.empty(numel, dtype=dtype, device=device)
        _kept.buffer = kept if numel <= KEPT_ELEMENTS else None
    return kept[:numel].view(shape)


def _plan(num_rows: int, num_classes: int) -> tuple[int, int, int]:
    """Rows of a chunk, tiles held, classes of a tile."""
    num_blocks = -(-num_classes // BLOCK)
    holdable = HELD_ELEMENTS // (num_blocks * BLOCK)
    holds = holdable >= min(num_rows, 64)
    # Without room for the logits of 64 rows, larger chunks and a second product beat narrow products.
    limit = min(holdable, CHUNK_ROWS) if holds else max(1, min(HELD_ELEMENTS // num_blocks, 256))
    num_chunks = -(-num_rows // max(limit, 1))
    rows = max(1, -(-num_rows // max(num_chunks, 1)))
    width = BLOCK * min(max(TILE_ELEMENTS // (rows * BLOCK), 8), num_blocks)
    return rows, -(-num_classes // width) if holds else 1, width


class _TileLogits:
    """The logits of a chunk of rows, tile by tile; held for a second look where the buffer has the room."""

    def __init__(
        self, hidden_bD: Tensor, weight_CD: Tensor, bias_C: Tensor | None, buffer_NbW: Tensor
    ) -> None:
        self.hidden_bD, self.weight_CD, self.bias_C, self.buffer_NbW = (
            hidden_bD,
            weight_CD,
            bias_C,
            buffer_NbW,
        )
        self.width = buffer_NbW.shape[2]
        self.num_tiles = -(-len(weight_CD) // self.width)

    def first(self, tile: int) -> Tensor:
        logits_bW = self.buffer_NbW[tile % len(self.buffer_NbW)]
        classes = slice(tile * self.width, min((tile + 1) * self.width, len(self.weight_CD)))
        weight_WD = self.weight_CD[classes]
        if len(weight_WD) < self.width:
            logits_bW[:, len(weight_WD) :] = -torch.inf
        if self.hidden_bD.dtype == logits_bW.dtype == weight_WD.dtype:
            torch.mm(self.hidden_bD, weight_WD.T, out=logits_bW[:, : len(weight_WD)])
        else:
            logits_bW[:, : len(weight_WD)] = self.hidden_bD @ weight_WD.T
        if self.bias_C is not None:
            logits_bW[:, : len(weight_WD)] += self.bias_C[classes]
        return logits_bW

    def again(self, tile: int) -> Tensor:
        return self.buffer_NbW[tile] if self.num_tiles == len(self.buffer_NbW) else self.first(tile)


def _answer_chunk(logits: _TileLogits, labels: Pairs, excluded: Pairs, k: int) -> Found:
    width, num_tiles = logits.width, logits.num_tiles
    scratch_bW = torch.empty_like(logits.buffer_NbW[0])
    blocks_per_tile = width // BLOCK
    by_block = len(scratch_bW), blocks_per_tile, BLOCK
    known = (labels.ids_P >= 0).nonzero().squeeze(1)
    known_places = Pairs(labels.rows_P[known], labels.ids_P[known]).places_by_tile(width, num_tiles)
    excluded_places = excluded.places_by_tile(width, num_tiles)

    def exclude(tile: int, logits_bW: Tensor) -> Tensor:
        places = excluded_places[tile]
        logits_bW[excluded.rows_P[places], excluded.ids_P[places] - tile * width] = -torch.inf
        return logits_bW

    label_logits_P = scratch_bW.new_full(labels.ids_P.shape, torch.nan)
    tile_log_sums: list[Tensor] = []
    tile_log_square_sums: list[Tensor] = []
    block_maxima: list[Tensor] = []
    for tile in range(num_tiles):
        logits_bW = logits.first(tile)
        places = known[known_places[tile]]
        label_logits_P[places] = logits_bW[labels.rows_P[places], labels.ids_P[places] - tile * width]
        maxima_bG = logits_bW.view(by_block).amax(2)
        max_b = maxima_bG.amax(1)
        exps_bW = torch.sub(logits_bW, max_b[:, None], out=scratch_bW).exp_()
        tile_log_sums.append(max_b.double() + exps_bW.sum(1).double().log())
        square_sum_b = torch.linalg.vecdot(exps_bW, exps_bW)
        tile_log_square_sums.append(2 * max_b.double() + square_sum_b.double().log())
        if len(excluded_places[tile]):
            maxima_bG = exclude(tile, logits_bW).view(by_block).amax(2)
        block_maxima.append(maxima_bG)

    blocks_bG = topk_by_id(torch.cat(block_maxima, 1), min(k, num_tiles * blocks_per_tile))[1].sort(1).values
    kept_bGW = scratch_bW.new_empty((*blocks_bG.shape, BLOCK))
    larger_P = torch.zeros_like(labels.ids_P)
    for tile in range(num_tiles if k or len(known) else 0):
        logits_bGW = exclude(tile, logits.again(tile)).view(by_block)
        first_block = tile * blocks_per_tile
        larger_P += count_larger(logits_bGW, block_maxima[tile], labels, label_logits_P, first_block)
        stop_block = first_block + blocks_per_tile
        rows, places = ((blocks_bG >= first_block) & (blocks_bG < stop_block)).nonzero(as_tuple=True)
        kept_bGW[rows, places] = logits_bGW[rows, blocks_bG[rows, places] - first_block]

    topk_logits_bK, positions_bK = topk_by_id(kept_bGW.flatten(1), k)
    topk_ids_bK = blocks_bG.gather(1, positions_bK // BLOCK) * BLOCK + positions_bK % BLOCK
    return Found(
        topk_logits_bK,
        topk_ids_bK,
        logsumexp(torch.stack(tile_log_sums), axis=0).to(scratch_bW.dtype),
        logsumexp(torch.stack(tile_log_square_sums), axis=0).to(scratch_bW.dtype),
        label_logits_P,
        torch.where(labels.ids_P < 0, 0, larger_P + 1),
    )
