"""(row, class) pairs: labels, targets and exclusions as the kernels take them. Shapes: P pairs."""

from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """Flat (row, class) pairs, rows ascending.

    Attributes:
        rows_P: int64 row of each pair.
        ids_P: int64 class id of each pair.
    """

    rows_P: Tensor
    ids_P: Tensor

    @staticmethod
    def of(labels: "Tensor | Pairs") -> "Pairs":
        """One pair a row from class ids [B]; pairs as they are."""
        if isinstance(labels, Pairs):
            return labels
        return Pairs(torch.arange(len(labels), device=labels.device), labels)

    def of_rows(self, start: int, stop: int) -> tuple[slice, "Pairs"]:
        """Where the pairs of rows [start, stop) stand, and these pairs with rows counted from ``start``."""
        if not len(self.ids_P):
            return slice(0), self
        rows_2 = torch.arange(start, stop + 1, max(stop - start, 1), device=self.rows_P.device)
        where = slice(*torch.searchsorted(self.rows_P, rows_2).tolist())
        return where, Pairs(self.rows_P[where] - start, self.ids_P[where])

    def places_by_tile(self, width: int, num_tiles: int) -> tuple[Tensor, ...]:
        """For each tile of ``width`` classes, the places of its pairs in the flat order."""
        if not len(self.ids_P):
            return (self.ids_P,) * num_tiles
        tile_P = self.ids_P.div(width, rounding_mode="floor")
        order_P = tile_P.argsort(stable=True)
        return torch.split(order_P, tile_P.bincount(minlength=num_tiles).tolist())
