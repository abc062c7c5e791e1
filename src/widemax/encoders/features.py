"""What encoders look at: arrays of numbers, one row an example, dense or ragged.

Letters: B rows, P entries of all rows together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from widemax.errors import ShapeError

Int = npt.NDArray[np.int64]
# So few spans and items are gathered before Arrow has begun.
FEW_ITEMS = 1 << 11


@dataclass(frozen=True)
class Ragged:
    """Rows of (id, value) pairs, of different lengths: row b is ``ids_P[offsets_B1[b] : offsets_B1[b + 1]]``.

    Args:
        offsets_B1: int64, from 0 to P, never falling.
        ids_P: int32 or int64.
        values_P: float32.

    Example:
        >>> Ragged(np.array([0, 2, 2]), np.array([7, 9]), np.ones(2, np.float32)).lengths.tolist()
        [2, 0]
    """

    offsets_B1: Int
    ids_P: npt.NDArray[np.integer[Any]]
    values_P: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets_B1) - 1

    @property
    def lengths(self) -> Int:
        """How many pairs each row has."""
        return np.diff(self.offsets_B1)

    @property
    def rows(self) -> Int:
        """The row of each pair."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def where(self, keep_P: npt.NDArray[np.bool_]) -> "Ragged":
        """The pairs for which ``keep_P`` is true; rows may become empty."""
        before = np.concatenate(([0], np.cumsum(keep_P)))
        return Ragged(before[self.offsets_B1], self.ids_P.compress(keep_P), self.values_P.compress(keep_P))

    def take(self, rows: Int) -> "Ragged":
        """The given rows in the given order."""
        starts_B = self.offsets_B1[rows]
        offsets_B1, positions_P = gather_positions(starts_B, self.offsets_B1[rows + 1] - starts_B)
        return Ragged(offsets_B1, self.ids_P.take(positions_P), self.values_P.take(positions_P))

    def slice(self, start: int, stop: int) -> "Ragged":
        """Consecutive rows, without a copy of their pairs."""
        offsets_B1 = self.offsets_B1[start : stop + 1]
        first, last = offsets_B1[[0, -1]]
        return Ragged(offsets_B1 - first, self.ids_P[first:last], self.values_P[first:last])

    @staticmethod
    def concatenate(parts: "Sequence[Ragged]") -> "Ragged":
        """The rows of all parts, one part after the other."""
        lengths_B = np.concatenate([part.lengths for part in parts])
        return Ragged(
            np.concatenate(([0], np.cumsum(lengths_B))),
            np.concatenate([part.ids_P for part in parts]),
            np.concatenate([part.values_P for part in parts]),
        )

    def normalized(self) -> "Ragged":
        """Each row divided by its Euclidean length; rows of zeros stay zero."""
        lengths_B = np.sqrt(np.bincount(self.rows, np.square(self.values_P, dtype=np.float64), len(self)))
        lengths_B[lengths_B == 0] = 1
        values_P = np.empty_like(self.values_P)
        np.divide(self.values_P, np.repeat(lengths_B, self.lengths), out=values_P, casting="same_kind")
        return Ragged(self.offsets_B1, self.ids_P, values_P)


Array = npt.NDArray[Any]
Features = dict[str, Array | Ragged]


class RaggedTensor(NamedTuple):
    """A `Ragged` as tensors: int64 offsets_B1, int64 ids_P, floating values_P."""

    offsets: Tensor
    ids: Tensor
    values: Tensor

    def where(self, keep_P: Tensor) -> "RaggedTensor":
        """The pairs for which ``keep_P`` is true; rows may become empty."""
        kept = keep_P.nonzero().squeeze(1)  # a third of the time that indexing by booleans takes
        offsets_B1 = torch.searchsorted(kept, self.offsets.contiguous())
        return RaggedTensor(offsets_B1, self.ids.index_select(0, kept), self.values.index_select(0, kept))

    def to(self, device: torch.device) -> "RaggedTensor":
        """The same on another device."""
        return RaggedTensor(*(part.to(device) for part in self))


Tensors = Mapping[str, Tensor | RaggedTensor]


T = TypeVar("T")


def entry(features: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """The named entry, known to be of the given kind."""
    found = features[name]
    assert isinstance(found, kind)
    return found


def list_offsets(lists: pa.Array) -> Int:
    """Where each list starts and ends in ``lists.flatten()``; a null list is empty.

    Example:
        >>> list_offsets(pa.array([[1, 2], None, [3]])).tolist()
        [0, 2, 2, 3]
    """
    lengths_B = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate(([0], np.cumsum(lengths_B, dtype=np.int64)))


def num_rows(features: Features) -> int:
    """The number of rows, which all entries share.

    Raises:
        ShapeError: two entries have different numbers of rows, or there is no entry.
    """
    lengths = {name: len(found) for name, found in features.items()}
    if len(set(lengths.values())) != 1:
        raise ShapeError(f"all features must have the same number of rows; got {lengths}.")
    return next(iter(lengths.values()))


def gather_positions(starts_B: Int, lengths_B: Int) -> tuple[Int, Int]:
    """Offsets and positions that lay the spans ``starts_B[b] + range(lengths_B[b])`` one after another."""
    offsets_B1 = np.concatenate(([0], np.cumsum(lengths_B)))
    positions_P = np.repeat(starts_B - offsets_B1[:-1], lengths_B)
    positions_P += np.arange(offsets_B1[-1])
    return offsets_B1, positions_P


def _take(rows_of: Array | Ragged, rows: Int) -> Array | Ragged:
    return rows_of.take(rows) if isinstance(rows_of, Ragged) else rows_of[rows]


def take(features: Features, rows: npt.ArrayLike) -> Features:
    """The given rows in the given order, repeated where they are repeated.

    Example:
        >>> take({"x": np.array([[1.0], [2.0], [3.0]])}, [2, 0])["x"].ravel().tolist()
        [3.0, 1.0]
    """
    positions = np.asarray(rows, dtype=np.int64)
    return {name: _take(found, positions) for name, found in features.items()}


def _concatenate(pieces: Sequence[Array | Ragged]) -> Array | Ragged:
    ragged = [piece for piece in pieces if isinstance(piece, Ragged)]
    if ragged:
        return Ragged.concatenate(ragged)
    return np.concatenate([piece for piece in pieces if isinstance(piece, np.ndarray)])


def concatenate(chunks: Sequence[Features]) -> Features:
    """The rows of all chunks, one chunk after the other; at least one chunk."""
    if len(chunks) == 1:
        return chunks[0]
    return {name: _concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def take_spans(offsets_N1: Int, items_P: Array, numbers: Int) -> tuple[Int, Array]:
    """Offsets and items of the spans ``items_P[offsets_N1[n] : offsets_N1[n + 1]]`` with these numbers n.

    Arrow copies a span at a time, in a third of the time that NumPy takes to gather many items.

    Example:
        >>> take_spans(np.array([0, 2, 3]), np.array([7, 8, 9]), np.array([1, 0]))
        (array([0, 1, 3]), array([9, 7, 8]))
    """
    if len(numbers) + len(items_P) <= FEW_ITEMS:
        starts_S = offsets_N1[numbers]
        offsets_S1, positions_P = gather_positions(starts_S, offsets_N1[numbers + 1] - starts_S)
        return offsets_S1, items_P[positions_P]
    buffers = [None, *map(pa.py_buffer, (offsets_N1 * items_P.itemsize, items_P))]
    spans = pa.Array.from_buffers(pa.large_binary(), len(offsets_N1) - 1, buffers)
    _, offsets, items = spans.take(pa.array(numbers)).buffers()
    offsets_S1 = np.frombuffer(offsets, np.int64, len(numbers) + 1) // items_P.itemsize
    return offsets_S1, np.frombuffer(items, items_P.dtype, offsets_S1[-1])


def interleaved(parts: Sequence[Ragged]) -> Ragged:
    """The first rows of all parts, then the second rows of all parts, and so on."""
    if len(parts) == 1:
        return parts[0]
    every = Ragged.concatenate(parts)
    order = np.arange(len(every)).reshape(len(parts), -1).T.ravel()
    offsets, ids_P = take_spans(every.offsets_B1, every.ids_P, order)
    return Ragged(offsets, ids_P, take_spans(every.offsets_B1, every.values_P, order)[1])


def beside(parts: Sequence[Ragged]) -> Ragged:
    """Row b holds the pairs of row b of every part, part after part."""
    rows = interleaved(parts)
    return Ragged(rows.offsets_B1[:: len(parts)], rows.ids_P, rows.values_P)


def _to_tensor(found: Array | Ragged, device: torch.device | str | None) -> Tensor | RaggedTensor:
    if isinstance(found, Ragged):
        arrays = (found.offsets_B1, found.ids_P.astype(np.int64, copy=False), found.values_P)
        return RaggedTensor(*(torch.from_numpy(array).to(device) for array in arrays))
    return torch.from_numpy(found).to(device)


def to_tensors(
    features: Features, device: torch.device | str | None = None
) -> dict[str, Tensor | RaggedTensor]:
    """The same numbers as tensors on ``device``, without a copy where none is needed."""
    return {name: _to_tensor(found, device) for name, found in features.items()}


def moved(features: Tensors, device: torch.device) -> dict[str, Tensor | RaggedTensor]:
    """The same tensors on ``device``, without a copy of those that are there."""
    return {name: found.to(device) for name, found in features.items()}
