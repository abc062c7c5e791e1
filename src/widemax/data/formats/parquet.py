"""Apache Parquet, read one batch of rows at a time."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from widemax.data.formats import formats
from widemax.data.formats.base import CHUNK_ROWS, Chunk, Format, distinct_names, readable, sound_columns


class RowGroup(NamedTuple):
    """One of those that a file holds, and the number of its first row, from 1."""

    path: Path
    number: int
    first: int


@formats.register("parquet")
class Parquet(Format):
    """Apache Parquet (``.parquet``)."""

    suffixes = (".parquet", ".pq")

    def columns(self, path: Path) -> list[str]:
        with readable(path, "Parquet"):
            return distinct_names(path, pq.read_schema(path).names)

    def pieces(self, path: Path, num_parts: int) -> list[tuple[RowGroup, int]]:
        with readable(path, "Parquet"):
            metadata = pq.read_metadata(path)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        firsts = accumulate((group.num_rows for group in groups), initial=1)
        return [
            (RowGroup(path, number, first), group.total_byte_size)
            for number, (group, first) in enumerate(zip(groups, firsts, strict=False))
        ]

    def chunks(self, path: Path | RowGroup, columns: Sequence[str]) -> Iterator[Chunk]:
        path, *of_group = path if isinstance(path, RowGroup) else (path,)
        groups, first = ([of_group[0]], of_group[1]) if of_group else (None, 1)
        with readable(path, "Parquet"), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(CHUNK_ROWS, row_groups=groups, columns=list(columns)):
                yield Chunk(sound_columns(batch, columns), np.arange(first, first + len(batch)))
                first += len(batch)
