"""The largest values of each row, equal values by position, and how many values stand before a label's.

Shapes: B rows, N values, K kept, P labels, T tiles of V classes, G blocks of W classes, n blocks looked into.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from widemax.kernels import budget
from widemax.kernels.pairs import Pairs


def num_true(is_true: Tensor) -> Tensor:
    """int64 [B] how many of each row are true; torch takes four times as long to sum booleans on CPU.

    Example:
        >>> num_true(torch.tensor([[True, False, True]]))
        tensor([2])
    """
    return is_true.view(torch.int8).sum(1, dtype=torch.int32).long()


def topk_by_id(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row in descending order, equal values by ascending position.

    ``torch.topk`` promises no order among equal values; here only the rows with equal values at the k-th
    place pay for one.

    Returns:
        [B, K] values and their int64 positions.

    Example:
        >>> topk_by_id(torch.tensor([[1.0, 2.0, 2.0, 2.0]]), 2)[1]
        tensor([[1, 2]])
    """
    if k == 0:
        return values[:, :0], values.new_empty((len(values), 0), dtype=torch.int64)
    is_traced = torch.compiler.is_compiling() or values.is_meta
    if is_traced or (values.is_cpu and values.numel() <= budget.FEW_ELEMENTS):
        # What follows looks at the values, which are not there where it is traced.
        sorted_BN, order_BN = values.sort(dim=1, descending=True, stable=True)
        return sorted_BN[:, :k], order_BN[:, :k]
    if k == values.shape[1]:
        positions_BK = torch.arange(k, device=values.device).expand(len(values), k)
    else:
        values_BK, positions_BK = values.topk(k, sorted=False)
        # NaN, the largest of all to torch, compares with nothing.
        num_nan_B = values_BK.isnan().sum(1)
        smallest_B1 = values_BK.nan_to_num(torch.inf, torch.inf, -torch.inf).amin(1, keepdim=True)
        tied = (num_true(values >= smallest_B1) + num_nan_B > k).nonzero().squeeze(1)
        chunk = max(1, budget.CHUNK_ELEMENTS // values.shape[1])
        for rows in torch.split(tied, chunk) if len(tied) else ():
            values_bN = values[rows].nan_to_num(torch.inf, torch.inf, -torch.inf)
            positions_BK[rows] = _first_positions(values_bN, smallest_B1[rows], k)
        positions_BK = positions_BK.sort(1).values
    values_BK, order_BK = values.gather(1, positions_BK).sort(dim=1, descending=True, stable=True)
    return values_BK, positions_BK.gather(1, order_BK)


def _first_positions(values_BN: Tensor, smallest_B1: Tensor, k: int) -> Tensor:
    above_BN = values_BN > smallest_B1
    equal_BN = values_BN == smallest_B1
    room_B1 = k - above_BN.sum(1, keepdim=True)
    kept_BN = above_BN | (equal_BN & (equal_BN.cumsum(1) <= room_B1))
    return kept_BN.nonzero()[:, 1].view(-1, k)


class Window(NamedTuple):
    """Logits of consecutive classes in blocks, of which the largest logits tell which are worth a look.

    Attributes:
        logits_TBV: [T, B, V] logits, tile after tile.
        maxima_BG: [B, G] the largest logit of each block, over all tiles; a tile has G / T blocks.
        first_id: the id of the first class.
    """

    logits_TBV: Tensor
    maxima_BG: Tensor
    first_id: int

    @property
    def block(self) -> int:
        """Classes of a block."""
        num_tiles, _, width = self.logits_TBV.shape
        return num_tiles * width // self.maxima_BG.shape[1]

    def take(self, rows: Tensor, blocks: Tensor) -> Tensor:
        """[n, W] the logits of these blocks, one for each of n rows."""
        num_tiles, num_rows, _ = self.logits_TBV.shape
        blocks_per_tile = self.maxima_BG.shape[1] // num_tiles
        tiles = blocks.div(blocks_per_tile, rounding_mode="floor")
        places = (tiles * num_rows + rows) * blocks_per_tile + blocks % blocks_per_tile
        return self.logits_TBV.view(-1, self.block).index_select(0, places)

    def best_blocks(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """[n, N] the logits of blocks that hold the k best of these rows [n], and their class ids, rising."""
        num_blocks = self.maxima_BG.shape[1]
        if len(self.logits_TBV) == 1 and num_blocks <= k:
            ids_N = torch.arange(self.first_id, self.first_id + self.logits_TBV.shape[2], device=rows.device)
            return self.logits_TBV[0, rows], ids_N.expand(len(rows), -1)
        # They lie in the k blocks with the largest maxima.
        num_blocks = min(k, num_blocks)
        blocks_nK = topk_by_id(self.maxima_BG.index_select(0, rows), num_blocks)[1].sort(1).values
        logits_NW = self.take(rows.repeat_interleave(num_blocks), blocks_nK.flatten())
        columns_W = torch.arange(self.block, device=rows.device)
        ids_nKW = self.first_id + blocks_nK[..., None] * self.block + columns_W
        return logits_NW.view_as(ids_nKW).flatten(1), ids_nKW.flatten(1)


def count_larger(window: Window, labels: Pairs, label_logits: Tensor) -> Tensor:
    """How many classes of a window rank before each label: #{larger logits} + #{equal logits of smaller id}.

    Only blocks whose maximum reaches the label's logit hold such classes: few, where the label ranks high.

    Returns:
        int64 [P] counts; 0 for an unknown label.

    Example:
        >>> window = Window(torch.tensor([[[3.0, 1.0, 2.0, 2.0]]]), torch.tensor([[3.0, 2.0]]), first_id=0)
        >>> labels = Pairs(torch.tensor([0, 0]), torch.tensor([3, 1]))
        >>> count_larger(window, labels, torch.tensor([2.0, 1.0]))
        tensor([2, 3])
    """
    counts_P = torch.zeros_like(labels.ids_P)
    if not len(counts_P):
        return counts_P
    # index_select is several times faster than indexing with a tensor.
    reached = (window.maxima_BG.index_select(0, labels.rows_P) >= label_logits[:, None]).nonzero()
    for pairs in torch.split(reached, budget.COUNTED_BLOCKS) if len(reached) else ():
        places_n, blocks_n = pairs.unbind(1)
        logits_nW = window.take(labels.rows_P.index_select(0, places_n), blocks_n)
        label_logits_n = label_logits.index_select(0, places_n)
        # Of equal logits the smaller id ranks first: blocks before the label's own count ≥, all others >.
        column_n = labels.ids_P.index_select(0, places_n) - window.first_id - blocks_n * window.block
        below_n = label_logits_n.nextafter(label_logits_n.new_full((), -torch.inf))
        thresholds_n = torch.where(column_n >= window.block, below_n, label_logits_n)
        # Zeros and ones as floats, since summing booleans is twenty times slower on CPU.
        larger_nW = torch.gt(logits_nW, thresholds_n[:, None], out=torch.empty_like(logits_nW))
        counts_P.index_add_(0, places_n, larger_nW.sum(1).long())
        own = ((column_n >= 0) & (column_n < window.block)).nonzero().squeeze(1)
        is_smaller_id = torch.arange(window.block, device=own.device) < column_n[own, None]
        is_equal = logits_nW[own] == label_logits_n[own, None]
        counts_P.index_add_(0, places_n[own], (is_equal & is_smaller_id).sum(1))
    return counts_P


class BestSoFar:
    """The k largest logits of each row and their class ids, over windows in the order of their ids.

    Args:
        k: how many, at most all classes of all windows.

    Attributes:
        logits_BK: the largest logits, descending; fewer than k while fewer have been seen.
        ids_BK: their class ids; equal logits by ascending id.

    Example:
        >>> best = BestSoFar(torch.empty(1, 0), k=2)
        >>> for first_id, logits in enumerate(torch.tensor([[1.0], [3.0], [1.0]])):
        ...     best.merge(Window(logits.view(1, 1, 1), logits.view(1, 1), first_id))
        >>> best.logits_BK, best.ids_BK
        (tensor([[3., 1.]]), tensor([[1, 0]]))
    """

    def __init__(self, nothing_B0: Tensor, *, k: int) -> None:
        self.k = k
        self.logits_BK = nothing_B0
        self.ids_BK = torch.empty_like(nothing_B0, dtype=torch.int64)

    def merge(self, window: Window) -> None:
        """Let the classes of the next window compete."""
        if self.k == 0:
            return
        is_full = self.logits_BK.shape[1] == self.k
        rows = torch.arange(len(self.logits_BK), device=self.logits_BK.device)
        if is_full:
            # An equal logit of a later class does not displace that of an earlier one.
            rows = (window.maxima_BG.amax(1) > self.logits_BK[:, -1]).nonzero().squeeze(1)
            if len(rows) == 0:
                return
        logits_bN, ids_bN = window.best_blocks(rows, self.k)
        logits_bN = torch.cat([self.logits_BK[rows], logits_bN], 1)
        ids_bN = torch.cat([self.ids_BK[rows], ids_bN], 1)
        logits_bK, places_bK = topk_by_id(logits_bN, min(self.k, logits_bN.shape[1]))
        ids_bK = ids_bN.gather(1, places_bK)
        if is_full:
            self.logits_BK[rows], self.ids_BK[rows] = logits_bK, ids_bK
        else:
            self.logits_BK, self.ids_BK = logits_bK, ids_bK
