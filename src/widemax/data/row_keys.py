"""Keys of rows by their inputs, to find rows again without keeping them.

Letters: B rows, P items of all rows.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data.convert import is_list, is_string, plain, ragged

_NONE = b"\xff" * 8  # no text is so long
STORED_BYTES = 8
"""Of a key that is kept with a model: two of a billion rows share one with a chance of 3 %."""


def row_keys(columns: Mapping[str, Any], *, num_bytes: int = 16) -> Any:
    """A digest [B] of the inputs of each row, the same in every process: equal rows have equal keys.

    Example:
        >>> keys = row_keys({"x": pa.array([-1.0, -2.0, -1.0])})
        >>> keys[0] == keys[2], keys[0] == keys[1]
        (True, False)
    """
    rows = zip(*map(_cells, columns.values()), strict=True)
    digests = [blake2b(b"".join(cells), digest_size=num_bytes).digest() for cells in rows]
    return pa.array(digests, pa.binary(num_bytes))


def count_known(keys: Sequence[Any], known: Any) -> int:
    """How many of all these keys are known."""
    chunks = pa.chunked_array(keys, known.type)  # at once, since Arrow hashes what is known each time
    return int(pc.sum(pc.is_in(chunks, value_set=known)).as_py() or 0)


def _cells(values: Any) -> list[bytes]:
    """The values of a column as bytes, each after its length."""
    values = plain(values)
    lengths_B, items = ragged(values) if is_list(values.type) else (np.ones(len(values), np.int64), values)
    parts = items.flatten() if pa.types.is_struct(items.type) else [items]
    ends = np.append(0, np.cumsum(lengths_B))
    cells = [[b""] * len(values)]
    for part in parts:
        data, places = _joined(part)
        cells.append([data[start:stop] for start, stop in pairwise(places[ends].tolist())])
    return [len(cell).to_bytes(8, "little") + cell for cell in map(b"".join, zip(*cells, strict=True))]


def _joined(items: Any) -> tuple[bytes, np.ndarray]:
    """The bytes of items, one after the other, and where each starts and the last ends [P + 1]."""
    if is_string(items.type):
        texts = [
            _NONE if text is None else len(text).to_bytes(8, "little") + text
            for text in items.cast(pa.large_binary()).to_pylist()
        ]
        return b"".join(texts), np.append(0, np.cumsum([len(text) for text in texts], dtype=np.int64))
    if pa.types.is_floating(items.type):
        items = pc.fill_null(items, float("nan"))
        numbers = items.to_numpy(zero_copy_only=False) + 0.0  # −0 equals 0
    else:
        numbers = items.to_numpy(zero_copy_only=False)
    return numbers.tobytes(), np.arange(len(numbers) + 1) * numbers.itemsize
