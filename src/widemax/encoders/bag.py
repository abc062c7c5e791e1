"""A sum of embedding rows whose gradient touches only the rows used.

Letters: B rows, D hidden, F table rows, P (row, id, value) entries, U distinct ids.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from widemax import native
from widemax.encoders.features import RaggedTensor
from widemax.encoders.placement import Placement

# Entries whose [P, D] products are held at a time for the gradient of the values.
BLOCK_ENTRIES = 1 << 14


def rows_of(offsets_B1: Tensor, num_entries: int) -> Tensor:
    """The row of each entry: [0, 0, 1, …] for offsets [0, 2, 3, …]."""
    rows_B = torch.arange(len(offsets_B1) - 1, device=offsets_B1.device)
    return rows_B.repeat_interleave(offsets_B1.diff(), output_size=num_entries)


def weighted_sums(weight_FD: Tensor, offsets_B1: Tensor, ids_P: Tensor, values_P: Tensor) -> Tensor:
    """[B, D] sums of rows of a table, without a gradient."""
    if len(ids_P) == 0:
        return weight_FD.new_zeros(len(offsets_B1) - 1, weight_FD.shape[1])
    return F.embedding_bag(
        ids_P, weight_FD, offsets_B1, mode="sum", per_sample_weights=values_P, include_last_offset=True
    )


def weight_gradient(
    grad_BD: Tensor, offsets_B1: Tensor, ids_P: Tensor, values_P: Tensor, num_ids: int
) -> Tensor:
    """The gradient of a table by that of a bag's sums: row u sums value · grad over its entries."""
    if native.takes(grad_BD) and num_ids < 1 << 31:
        ids_U, offsets_U1, rows_P, values_P = native.sorted_entries(offsets_B1, ids_P, values_P, num_ids)
    else:
        # Short numbers are sorted in half the time.
        sorted_ids_P, order_P = torch.sort(ids_P.int() if num_ids < 1 << 31 else ids_P, stable=True)
        ids_U, counts_U = torch.unique_consecutive(sorted_ids_P, return_counts=True)
        offsets_U1 = F.pad(counts_U.cumsum(0), (1, 0))
        rows_P, values_P = rows_of(offsets_B1, len(ids_P))[order_P], values_P[order_P]
    grad_UD = weighted_sums(grad_BD, offsets_U1, rows_P, values_P)
    return torch.sparse_coo_tensor(
        ids_U[None].long(), grad_UD, (num_ids, grad_BD.shape[1]), is_coalesced=True, check_invariants=False
    )


def _values_gradient(grad_BD: Tensor, weight_FD: Tensor, offsets_B1: Tensor, ids_P: Tensor) -> Tensor:
    blocks = zip(
        *(torch.split(each_P, BLOCK_ENTRIES) for each_P in (rows_of(offsets_B1, len(ids_P)), ids_P)),
        strict=True,
    )
    return torch.cat([(grad_BD[rows] * weight_FD[ids]).sum(dim=1) for rows, ids in blocks])


class _BagSum(Function):
    @staticmethod
    def forward(ctx: Any, weight_FD: Tensor, offsets_B1: Tensor, ids_P: Tensor, values_P: Tensor) -> Tensor:
        ctx.save_for_backward(weight_FD, offsets_B1, ids_P, values_P)
        return weighted_sums(weight_FD, offsets_B1, ids_P, values_P)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BD: Tensor) -> tuple[Tensor | None, None, None, Tensor | None]:
        weight_FD, offsets_B1, ids_P, values_P = ctx.saved_tensors
        need_weight, _, _, need_values = ctx.needs_input_grad
        grad_BD = grad_BD.contiguous()
        weight_grad = values_grad = None
        if need_weight:
            weight_grad = weight_gradient(grad_BD, offsets_B1, ids_P, values_P, len(weight_FD))
            # autograd moves a sparse gradient that nobody else holds into .grad and forgets that it is
            # coalesced; one that is held here is cloned, which remembers it.
            ctx.weight_grad = weight_grad
        if need_values:
            values_grad = _values_gradient(grad_BD, weight_FD, offsets_B1, ids_P)
        return weight_grad, None, None, values_grad


def bag_sum(weight: Tensor, ragged: RaggedTensor) -> Tensor:
    """Sums embedding rows weighted by values: hidden_b = Σ_{p in row b} value_p · weight[id_p].

    Neither direction forms the [P, D] matrix of all rows used.

    Args:
        weight: [F, D]; its gradient is a coalesced sparse COO tensor over the distinct ids, in rising order.
            [F, 0] stands for the rows of the identity.
        ragged: offsets [B + 1], ids [P] in [0, F) and values [P]; values may require a gradient.

    Returns:
        hidden [B, D]; rows without entries are zero. For D = 0 the values themselves, sparse [B, F].

    Example:
        >>> ragged = RaggedTensor(torch.tensor([0, 2, 2]), torch.tensor([1, 0]), torch.tensor([1.0, 2.0]))
        >>> bag_sum(torch.tensor([[1.0], [10.0]]), ragged).tolist()
        [[12.0], [0.0]]
    """
    if not weight.shape[1]:
        places = torch.stack([rows_of(ragged.offsets, len(ragged.ids)), ragged.ids])
        size = len(ragged.offsets) - 1, len(weight)
        return torch.sparse_coo_tensor(places, ragged.values, size, check_invariants=False)
    hidden: Tensor = _BagSum.apply(  # type: ignore[no-untyped-call]
        weight, ragged.offsets, ragged.ids, ragged.values.to(weight.dtype)
    )
    return hidden


class TableRows:
    """The rows of an encoder's table [F, D], all of them in this process.

    ``widemax.distributed.SplitTable`` takes its place where several processes hold some each.
    """

    def place(self, num_rows: int, dim: int) -> Placement:
        """Which of so many rows lie here."""
        return Placement(num_rows)

    def zeros(self, num_rows: int, dim: int) -> Tensor:
        """The table before anything is learned, as much of it as lies here."""
        return torch.zeros(len(self.place(num_rows, dim)), dim)

    def own(self, table: Tensor) -> Tensor:
        """What lies here of a table that was made as a whole."""
        num_rows, dim = table.shape
        placement = self.place(num_rows, dim)
        return table if placement.num_shards == 1 else table[placement.ids()]

    def bag_sum(self, weight: Tensor, ragged: RaggedTensor) -> Tensor:
        """:func:`bag_sum` of the whole table, of which ``weight`` is what lies here."""
        return bag_sum(weight, ragged)
