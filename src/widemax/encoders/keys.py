"""Which keys were seen in training, and which row of a table each one has."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from widemax.encoders.features import Ragged

Int = npt.NDArray[np.int64]

# Up to this largest key a direct table (4 bytes a key) is used instead of a binary search.
_SMALL_KEY = 1 << 23


def rise(keys_F: Tensor) -> bool:
    """Whether keys are distinct and in their order, as `KeyIndex` needs them."""
    return bool((keys_F[1:] > keys_F[:-1]).all())


class KeyIndex:
    """Finds the position of keys among the known ones, which are int64, rising and distinct.

    Example:
        >>> KeyIndex(np.array([3, 8])).find(np.array([8, 5, 3])).tolist()
        [1, -1, 0]
    """

    def __init__(self, keys_F: Int) -> None:
        self._keys_F = keys_F
        self._table: npt.NDArray[np.int32] | None = None
        if len(keys_F) and keys_F[0] >= 0 and keys_F[-1] < max(_SMALL_KEY, 8 * len(keys_F)):
            self._table = np.full(keys_F[-1] + 2, -1, dtype=np.int32)
            self._table[keys_F] = np.arange(len(keys_F))

    def find(self, keys: npt.NDArray[np.integer[Any]]) -> Int:
        """The position of each key in ``keys_F``, or -1 where it is unknown."""
        keys = keys.astype(np.int64, copy=False)
        if self._table is not None:
            # Seen as unsigned, negative keys are large, and all large keys meet the -1 at the end.
            places = np.minimum(keys.view(np.uint64), np.uint64(len(self._table) - 1)).view(np.int64)
            return self._table.take(places).astype(np.int64)
        positions = np.searchsorted(self._keys_F, keys)
        positions[positions == len(self._keys_F)] = 0
        known = self._keys_F[positions] == keys if len(self._keys_F) else np.zeros(keys.shape, dtype=np.bool_)
        return np.where(known, positions, -1)

    def look_up(self, bag: Ragged) -> Ragged:
        """The pairs with known ids, each id replaced by its position."""
        positions_P = self.find(bag.ids_P)
        return Ragged(bag.offsets_B1, positions_P, bag.values_P).where(positions_P >= 0)


def distinct(keys: Int) -> Int:
    """Each key once, rising; the given ones are sorted in place.

    ``numpy.unique`` has a hash table for it, which takes a hundred times as long where many keys differ.

    Example:
        >>> distinct(np.array([5, 3, 5])).tolist()
        [3, 5]
    """
    keys.sort()
    is_new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    return np.asarray(keys[is_new], np.int64)


class KeySet:
    """The distinct keys of a stream, in memory proportional to their number.

    Example:
        >>> seen = KeySet()
        >>> seen.update(np.array([5, 3, 5]))
        >>> seen.update(np.array([4]))
        >>> seen.sorted().tolist()
        [3, 4, 5]
    """

    def __init__(self) -> None:
        self._merged: Int = np.empty(0, dtype=np.int64)
        self._pending: list[Int] = []
        self._num_pending = 0

    def update(self, keys: npt.NDArray[np.integer[Any]]) -> None:
        """Adds keys."""
        fresh = distinct(keys.astype(np.int64).ravel())
        self._pending.append(fresh)
        self._num_pending += len(fresh)
        # Merging when the pending keys outnumber the merged ones keeps the total work O(n log n).
        if self._num_pending > max(len(self._merged), 1 << 16):
            self.sorted()

    def sorted(self) -> Int:
        """All keys so far, rising."""
        self._merged = distinct(np.concatenate([self._merged, *self._pending]))
        self._pending, self._num_pending = [], 0
        return self._merged
