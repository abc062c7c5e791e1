"""The right classes of a batch. Shapes: B rows, P labels of all rows together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from widemax.errors import ArgumentError, LabelError, ShapeError
from widemax.kernels import Pairs
from widemax.losses.base import check_labels
from widemax.numerics.arrays import is_traced
from widemax.numerics.ids import are_class_ids, checked_ids


@dataclass(frozen=True)
class SeveralLabels:
    """Any number of class ids a row: row b has ``ids_P[offsets_B1[b] : offsets_B1[b + 1]]``.

    Attributes:
        ids_P: int64 class ids, distinct within a row.
        offsets_B1: int64 [B + 1] where each row starts, and the end.

    Raises:
        ArgumentError, ShapeError: no tensors of these shapes, or offsets that do not ascend.

    Example:
        >>> SeveralLabels(torch.tensor([4, 7, 1]), torch.tensor([0, 2, 2, 3])).pairs().rows_P
        tensor([0, 0, 2])
    """

    ids_P: Tensor
    offsets_B1: Tensor

    def __post_init__(self) -> None:
        ids_P, offsets_B1 = self.ids_P, self.offsets_B1
        if not (isinstance(ids_P, Tensor) and isinstance(offsets_B1, Tensor)):
            kinds = type(ids_P).__name__, type(offsets_B1).__name__
            raise ArgumentError(f"ids_P and offsets_B1 must be tensors; got {' and '.join(kinds)}.")
        if ids_P.ndim != 1 or offsets_B1.ndim != 1 or not len(offsets_B1) or offsets_B1.dtype != torch.int64:
            raise ShapeError(
                "ids_P and offsets_B1 must be [P] and [B + 1] in int64; got shapes "
                f"{tuple(ids_P.shape)} and {tuple(offsets_B1.shape)}, offsets of {offsets_B1.dtype}."
            )
        if ids_P.device != offsets_B1.device:
            devices = ids_P.device, offsets_B1.device
            raise ArgumentError(
                f"ids_P and offsets_B1 must be on one device; got {devices[0]} and {devices[1]}."
            )
        if is_traced() or not offsets_B1.is_cpu:
            return
        first, last = int(offsets_B1[0]), int(offsets_B1[-1])
        if first != 0 or last != len(ids_P) or (offsets_B1.diff() < 0).any():
            raise ShapeError(
                f"offsets_B1 must ascend from 0 to the number of ids, {len(ids_P)}; got {first} to {last}."
            )

    def __len__(self) -> int:
        return len(self.offsets_B1) - 1

    def to(self, device: torch.device | str) -> "SeveralLabels":
        """The same labels on another device."""
        return SeveralLabels(self.ids_P.to(device), self.offsets_B1.to(device))

    def take(self, rows_N: Tensor) -> "SeveralLabels":
        """The labels of the given rows, in the given order."""
        rows_N = checked_ids(rows_N, len(self), "rows_N", self.ids_P)
        starts_N = self.offsets_B1[rows_N]
        lengths_N = self.offsets_B1[rows_N + 1] - starts_N
        offsets_N1 = nn.functional.pad(lengths_N.cumsum(0), (1, 0))
        shift_N = starts_N - offsets_N1[:-1]
        places_P = torch.arange(int(offsets_N1[-1]), device=rows_N.device) + shift_N.repeat_interleave(
            lengths_N
        )
        return SeveralLabels(self.ids_P[places_P], offsets_N1)

    @staticmethod
    def of(labels: "Tensor | SeveralLabels") -> "SeveralLabels":
        """One label a row, [B] class ids, as several; several as they are."""
        if isinstance(labels, SeveralLabels):
            return labels
        return SeveralLabels(labels, torch.arange(len(labels) + 1, device=labels.device))

    @staticmethod
    def concatenate(parts: Sequence["SeveralLabels"]) -> "SeveralLabels":
        """The rows of all parts, one part after the other."""
        lengths_B = torch.cat([part.offsets_B1.diff() for part in parts])
        offsets_B1 = nn.functional.pad(lengths_B.cumsum(0), (1, 0))
        return SeveralLabels(torch.cat([part.ids_P for part in parts]), offsets_B1)

    def pairs(self) -> Pairs:
        """The labels as flat (row, class) pairs."""
        rows_B = torch.arange(len(self), device=self.ids_P.device)
        lengths_B = self.offsets_B1.diff()
        return Pairs(rows_B.repeat_interleave(lengths_B, output_size=len(self.ids_P)), self.ids_P.long())


Labels: TypeAlias = Tensor | SeveralLabels
"""One class id a row as an int64 tensor [B], or several as :class:`SeveralLabels`."""


def label_pairs(labels: Labels, hidden: Tensor, *, name: str = "labels") -> Pairs:
    """The labels of the rows of ``hidden`` as (row, class) pairs on its device."""
    return Pairs.of(row_labels(labels, hidden, name=name))


def training_pairs(labels: Labels, hidden: Tensor, num_classes: int) -> Pairs:
    """The same, once all of them are found to be classes.

    Raises:
        LabelError: a class id outside [0, C), or twice in a row; checked on CPU only, as it would stall an
            accelerator.
        ShapeError: not one label, or list of labels, a row; or labels that are no whole numbers.
    """
    pairs = label_pairs(labels, hidden)
    if pairs.ids_P.is_cpu:
        check_labels(pairs.ids_P, num_classes, rows=pairs.rows_P)
        if isinstance(labels, SeveralLabels) and not is_traced():
            _check_distinct(pairs, num_classes)
    return pairs


def _check_distinct(pairs: Pairs, num_classes: int) -> None:
    keys_P, _ = torch.sort(pairs.rows_P * num_classes + pairs.ids_P)
    repeats = keys_P[1:][keys_P[1:] == keys_P[:-1]]
    if len(repeats):
        row, class_id = divmod(int(repeats[0]), num_classes)
        raise LabelError(
            f"labels of a row must be distinct; row {row} has class {class_id} twice. Keep one of each."
        )


def row_labels(labels: Labels, hidden: Tensor, *, name: str = "labels") -> Tensor | Pairs:
    """The same as class ids [B], where a row has one label."""
    ids = labels if isinstance(labels, Tensor) else labels.ids_P
    if not are_class_ids(ids):
        raise ShapeError(
            f"{name} must be class ids, whole numbers; got {ids.dtype}. "
            "Convert them with .long() once you are sure that each is the id of its class."
        )
    # Shapes are asked for faster than lengths, and this is on the way of every step.
    fits = labels.shape == hidden.shape[:1] if isinstance(labels, Tensor) else len(labels) == len(hidden)
    if not fits:
        got = f"shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else f"{len(labels)} rows"
        raise ShapeError(
            f"{name} must be [B] class ids or SeveralLabels for the {len(hidden)} rows of hidden; got {got}."
        )
    if isinstance(labels, SeveralLabels):
        return labels.to(hidden.device).pairs()
    return labels.to(hidden.device, torch.int64)


def target_shares(pairs: Pairs, num_rows: int) -> Tensor:
    """[P] what each label has of a target that is uniform over its row's labels, in float64.

    Example:
        >>> target_shares(Pairs(torch.tensor([0, 1, 1]), torch.tensor([4, 7, 1])), num_rows=2)
        tensor([1.0000, 0.5000, 0.5000], dtype=torch.float64)
    """
    ones_P = torch.ones_like(pairs.rows_P, dtype=torch.float64)
    return 1 / ones_P.new_zeros(num_rows).index_add_(0, pairs.rows_P, ones_P)[pairs.rows_P]


def known_pairs(pairs: Pairs) -> Pairs:
    """Those whose label training has seen, rather than −1."""
    known_P = pairs.ids_P >= 0
    return Pairs(pairs.rows_P[known_P], pairs.ids_P[known_P])


def no_pairs(device: torch.device) -> Pairs:
    """No labels at all."""
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    return Pairs(nothing, nothing)
