"""Lists laid one after another, taken by number, and counted together row by row.

Letters: N lists, B rows, P items of all lists or rows, W items of the longest row of a group.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from widemax.encoders.features import Int, Ragged, take_spans

# Items counted at a time, which stay in a processor's cache; and of these, items sorted as one matrix.
SLICE_ITEMS = 1 << 17
GROUP_ITEMS = 1 << 13
# Up to so many, one sort of everything takes less time than the calls that group rows.
FEW_ITEMS = 1 << 14
_FILLER = np.iinfo(np.uint32).max
# A row is filled up with at most so many.
MAX_FILLERS = 63


class Lists(NamedTuple):
    """List n is ``items_P[offsets_N1[n] : offsets_N1[n + 1]]``."""

    offsets_N1: Int
    items_P: npt.NDArray[Any]

    @property
    def lengths(self) -> Int:
        """How many items each list has."""
        return np.diff(self.offsets_N1)

    def take(self, numbers: Int) -> "Lists":
        """The lists with these numbers, in this order."""
        return Lists(*take_spans(self.offsets_N1, self.items_P, numbers))

    def joined(self, rows: "Lists") -> "Lists":
        """For each row the items of the lists whose numbers it holds.

        Example:
            >>> lists = Lists(np.array([0, 2, 3]), np.array([7, 8, 9]))
            >>> lists.joined(Lists(np.array([0, 2, 3]), np.array([1, 0, 1])))
            Lists(offsets_N1=array([0, 3, 4]), items_P=array([9, 7, 8, 9]))
        """
        taken = self.take(rows.items_P)
        return Lists(taken.offsets_N1[rows.offsets_N1], taken.items_P)


def count_rows(rows: Lists, lists: Lists) -> Ragged:
    """How often each id occurs in the lists of each row, ids rising.

    Args:
        rows: numbers of lists.
        lists: ids, uint32 below 2^31.

    Example:
        >>> lists = Lists(np.array([0, 2, 3]), np.array([7, 8, 7], np.uint32))
        >>> counted = count_rows(Lists(np.array([0, 2, 3]), np.array([0, 1, 1])), lists)
        >>> counted.offsets_B1, counted.ids_P, counted.values_P
        (array([0, 2, 3]), array([7, 8, 7], dtype=int32), array([2., 1., 1.], dtype=float32))
    """
    ends_B1 = np.concatenate(([0], np.cumsum(lists.lengths[rows.items_P])))[rows.offsets_N1]
    if ends_B1[-1] <= FEW_ITEMS:
        return _count_few(Lists(ends_B1, lists.take(rows.items_P).items_P))
    lengths_B = np.diff(ends_B1)
    # After the lists come those of 0, 1, 2, … fillers.
    ends = lists.offsets_N1[-1] + np.cumsum(np.arange(MAX_FILLERS + 1))
    fillers = np.full(ends[-1] - ends[0], _FILLER, np.uint32)
    filled = Lists(np.append(lists.offsets_N1, ends), np.append(lists.items_P, fillers))
    parts = [Ragged(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))]
    changes = np.flatnonzero(np.diff(ends_B1[1:] // SLICE_ITEMS)) + 1
    for start, stop in pairwise([0, *changes.tolist(), len(lengths_B)]):
        first, last = rows.offsets_N1[[start, stop]]
        part = Lists(rows.offsets_N1[start : stop + 1] - first, rows.items_P[first:last])
        parts.append(_count_slice(part, filled, lengths_B[start:stop]))
    return Ragged.concatenate(parts)


def _count_few(rows: Lists) -> Ragged:
    """`count_rows` of ids that already stand row by row."""
    starts_B1 = np.arange(len(rows.offsets_N1), dtype=np.uint64) << np.uint64(32)
    keys_P = np.repeat(starts_B1[:-1], rows.lengths) | rows.items_P
    keys_P.sort()
    is_first_P = np.ones(len(keys_P), np.bool_)
    np.not_equal(keys_P[1:], keys_P[:-1], out=is_first_P[1:])
    places = is_first_P.nonzero()[0]
    distinct = keys_P[places]
    counts = np.append(places[1:], len(keys_P))[: len(places)] - places
    ids = distinct.astype(np.uint32).view(np.int32)
    return Ragged(distinct.searchsorted(starts_B1), ids, counts.astype(np.float32))


def _count_slice(rows: Lists, lists: Lists, lengths_B: Int) -> Ragged:
    """`count_rows` of rows of ``lengths_B`` ids, with the lists of fillers after the others."""
    # Rows of about the same length are filled up to one length and sorted as a matrix: short rows are
    # sorted many times faster than one long array.
    order_B = np.argsort(-lengths_B, kind="stable")
    rows, lengths_B = rows.take(order_B), lengths_B[order_B]
    groups = list(groups_of(lengths_B))
    widths_B = np.repeat(*np.array(groups, np.int64).reshape(-1, 2).T[::-1])
    fillers_B = len(lists.offsets_N1) - 2 - MAX_FILLERS + widths_B - lengths_B
    ids_P = lists.take(np.insert(rows.items_P, rows.offsets_N1[1:], fillers_B)).items_P
    start = 0
    for num_rows, width in groups:
        stop = start + num_rows * width
        ids_P[start:stop].reshape(num_rows, width).sort(axis=1)
        start = stop

    row_starts_B1 = np.concatenate(([0], np.cumsum(widths_B)))
    is_first_P = np.empty(len(ids_P), dtype=np.bool_)
    np.not_equal(ids_P[1:], ids_P[:-1], out=is_first_P[1:])
    is_first_P[row_starts_B1[:-1]] = True
    places = np.flatnonzero(is_first_P)
    counts = np.diff(places, append=len(ids_P)).astype(np.float32)
    ends_B1 = np.searchsorted(places, row_starts_B1)
    # Row by row the distinct ids, then what may be left of fillers: every second span is wanted.
    spans = np.repeat(ends_B1, 2)[1:]
    spans[1::2] -= widths_B > lengths_B
    wanted_B = 2 * np.argsort(order_B)
    offsets_B1, distinct = take_spans(spans, ids_P.take(places), wanted_B)
    return Ragged(offsets_B1, distinct.view(np.int32), take_spans(spans, counts, wanted_B)[1])


def groups_of(lengths_B: Int) -> Iterator[tuple[int, int]]:
    """How many consecutive rows, of falling lengths, make a group, and the length they are filled up to."""
    start = 0
    while start < len(lengths_B):
        width = max(1, int(lengths_B[start]))
        most_rows = max(1, GROUP_ITEMS // width)
        near_B = lengths_B[start : start + most_rows] >= width - MAX_FILLERS
        num_rows = int(np.count_nonzero(near_B))
        yield num_rows, width
        start += num_rows
