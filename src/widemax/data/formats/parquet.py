"""Apache Parquet, read one batch of rows at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from widemax.data.formats import formats
from widemax.data.formats.base import CHUNK_ROWS, Chunk, Format, distinct_names, readable, sound_columns


@formats.register("parquet")
class Parquet(Format):
    """Apache Parquet (``.parquet``)."""

    suffixes = (".parquet", ".pq")

    def columns(self, path: Path) -> list[str]:
        with readable(path, "Parquet"):
            return distinct_names(path, pq.read_schema(path).names)

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        with readable(path, "Parquet"), pq.ParquetFile(path) as file:
            first = 1
            for batch in file.iter_batches(CHUNK_ROWS, columns=list(columns)):
                yield Chunk(sound_columns(batch, columns), np.arange(first, first + len(batch)))
                first += len(batch)
