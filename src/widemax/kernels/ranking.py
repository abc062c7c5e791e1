"""The largest values of each row, equal values by position. Shapes: B rows, N values, K kept."""

import torch
from torch import Tensor

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
