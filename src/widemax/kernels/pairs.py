"""(row, class) pairs: labels, targets and exclusions as the kernels take them. Shapes: P pairs."""

from typing import NamedTuple

import torch
from torch import Tensor

from widemax.errors import ArgumentError, LabelError
from widemax.losses.base import are_class_ids
from widemax.numerics.arrays import is_traced


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
        ends = torch.searchsorted(self.rows_P, self.rows_P.new_tensor([start, stop])).tolist()
        where = slice(*ends)
        return where, Pairs(self.rows_P[where] - start, self.ids_P[where])

    def places_by_tile(self, width: int, num_tiles: int) -> tuple[Tensor, ...]:
        """For each tile of ``width`` classes, the places of its pairs in the flat order."""
        tile_P = self.ids_P.div(width, rounding_mode="floor")
        order_P = tile_P.argsort(stable=True)
        return torch.split(order_P, tile_P.bincount(minlength=num_tiles).tolist())


def checked_ids(ids: Tensor, size: int, name: str, rows: Tensor | None = None) -> Tensor:
    """The ids in int64, once they are whole numbers in [0, size), which is looked at on CPU only.

    Args:
        ids: [N], or [B, N] where there are rows.
        size: how many there are to choose from.
        name: what they are called in messages.
        rows: [B, ...] what may have ids of its own in each row, on whose device they are wanted.

    Raises:
        ArgumentError: a mask, other numbers, or another shape.
        LabelError: an id out of range.

    Example:
        >>> checked_ids(torch.tensor([1, 3]), 3, "only")
        Traceback (most recent call last):
        widemax.errors.LabelError: only must lie in [0, 3); got 3. Drop such entries.
    """
    if not are_class_ids(ids) or not (
        ids.ndim == 1 or (ids.ndim == 2 and rows is not None and len(ids) == len(rows))
    ):
        one_a_row = "" if rows is None else f", or one for each of {len(rows)} rows"
        raise ArgumentError(
            f"{name} must be a vector of ids{one_a_row}; got {ids.dtype} of shape {tuple(ids.shape)}. "
            "Pass mask.nonzero()[:, 0] for a mask."
        )
    if not is_traced() and ids.is_cpu:
        wrong = ids[(ids < 0) | (ids >= size)]
        if len(wrong):
            raise LabelError(f"{name} must lie in [0, {size}); got {int(wrong[0])}. Drop such entries.")
    return ids.to(None if rows is None else rows.device, torch.int64)
