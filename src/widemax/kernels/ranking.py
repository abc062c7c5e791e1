"""The largest values of each row, equal values by position.

Shapes: B rows, N values, K kept, P labels, G blocks of classes, W classes of a block, n blocks looked into.
"""

import torch
from torch import Tensor

from widemax.kernels.pairs import Pairs

# Blocks gathered at a time to count the larger logits in them.
_COUNTED_BLOCKS = 2**13
# The careful path counts ties with a cumulative sum; this bounds what it holds at a time.
_TIE_ELEMENTS = 2**22


def topk_by_id(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row in descending order, equal values by ascending position.

    ``torch.topk`` promises no order among equal values; here only the rows with equal values at the k-th
    place pay for one.

    Args:
        values: [B, N] values.
        k: how many to keep, at most N.

    Returns:
        [B, K] values and their int64 positions.

    Example:
        >>> topk_by_id(torch.tensor([[1.0, 2.0, 2.0, 2.0]]), 2)[1]
        tensor([[1, 2]])
    """
    if k == 0:
        return values[:, :0], values.new_empty((len(values), 0), dtype=torch.int64)
    if k == values.shape[1]:
        positions_BK = torch.arange(k, device=values.device).expand(len(values), k)
    else:
        values_BK, positions_BK = values.topk(k, sorted=False)
        smallest_B1 = values_BK.amin(1, keepdim=True)
        tied = ((values >= smallest_B1).sum(1) > k).nonzero().squeeze(1)
        for rows in torch.split(tied, max(1, _TIE_ELEMENTS // values.shape[1])):
            positions_BK[rows] = _first_positions(values[rows], smallest_B1[rows], k)
        positions_BK = positions_BK.sort(1).values
    values_BK, order_BK = values.gather(1, positions_BK).sort(dim=1, descending=True, stable=True)
    return values_BK, positions_BK.gather(1, order_BK)


def _first_positions(values_BN: Tensor, smallest_B1: Tensor, k: int) -> Tensor:
    above_BN = values_BN > smallest_B1
    equal_BN = values_BN == smallest_B1
    room_B1 = k - above_BN.sum(1, keepdim=True)
    kept_BN = above_BN | (equal_BN & (equal_BN.cumsum(1) <= room_B1))
    return kept_BN.nonzero()[:, 1].view(-1, k)


def count_larger(
    logits: Tensor, maxima: Tensor, labels: Pairs, label_logits: Tensor, first_block: int = 0
) -> Tensor:
    """How many classes rank before each label: #{larger logits} + #{equal logits of smaller id}.

    Only blocks whose maximum reaches the label's logit hold such classes: few, where the label ranks high.

    Args:
        logits: [B, G, W] logits of consecutive classes in blocks of W.
        maxima: [B, G] the largest logit of each block.
        labels: P (row, class) pairs; class −1 stands for an unknown label.
        label_logits: [P] the logit of each label; NaN for an unknown one.
        first_block: how many blocks of classes stand before these.

    Returns:
        int64 [P] counts; 0 for an unknown label.

    Example:
        >>> logits = torch.tensor([[[3.0, 1.0], [2.0, 2.0]]])
        >>> labels = Pairs(torch.tensor([0, 0]), torch.tensor([3, 1]))
        >>> count_larger(logits, logits.amax(2), labels, torch.tensor([2.0, 1.0]))
        tensor([2, 3])
    """
    num_blocks, width = logits.shape[1:]
    logits_NW = logits.flatten(0, 1)
    counts_P = torch.zeros_like(labels.ids_P)
    below_P = label_logits.nextafter(label_logits.new_tensor(-torch.inf))
    own_block_P = labels.ids_P.div(width, rounding_mode="floor") - first_block
    reached_PG = maxima[labels.rows_P] >= label_logits[:, None]
    for piece in torch.split(reached_PG.nonzero(), _COUNTED_BLOCKS):
        places, blocks = piece.unbind(1)
        # Of equal logits the smaller id ranks first: blocks before the label's own count ≥, all others >.
        before = blocks < own_block_P[places]
        thresholds = torch.where(before, below_P[places], label_logits[places])
        logits_nW = logits_NW.index_select(0, labels.rows_P[places] * num_blocks + blocks)
        # Zeros and ones as floats, since summing booleans is twenty times slower on CPU.
        larger_n = torch.gt(logits_nW, thresholds[:, None], out=torch.empty_like(logits_nW)).sum(1)
        counts_P.index_add_(0, places, larger_n.long())
    here = ((labels.ids_P >= 0) & (own_block_P >= 0) & (own_block_P < num_blocks)).nonzero().squeeze(1)
    own_nW = logits_NW.index_select(0, labels.rows_P[here] * num_blocks + own_block_P[here])
    smaller_id_nW = torch.arange(width, device=here.device) < (labels.ids_P[here] % width)[:, None]
    counts_P[here] += ((own_nW == label_logits[here, None]) & smaller_id_nW).sum(1)
    return counts_P
