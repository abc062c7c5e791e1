"""Arrow IPC, both the file (also called Feather 2) and the stream, memory-mapped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from widemax.data.formats import formats
from widemax.data.formats.base import Chunk, Format, distinct_names, readable, slices, sound_columns

_FILE_MAGIC = b"ARROW1"


@formats.register("arrow")
class Arrow(Format):
    """Arrow IPC (``.arrow``, ``.feather``, ``.arrows``)."""

    suffixes = (".arrow", ".arrows", ".feather", ".ipc")

    def columns(self, path: Path) -> list[str]:
        with readable(path, "Arrow IPC"), _open(path) as (schema, _):
            return distinct_names(path, schema.names)

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        with readable(path, "Arrow IPC"), _open(path) as (_, batches):
            first = 1
            for batch in batches:
                yield from slices(sound_columns(batch, columns), len(batch), first)
                first += len(batch)


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Iterator[Any]]]:
    with pa.memory_map(str(path)) as source:
        is_file = source.read(len(_FILE_MAGIC)) == _FILE_MAGIC
        source.seek(0)
        if is_file:
            reader = pa.ipc.open_file(source)
            yield reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            stream = pa.ipc.open_stream(source)
            yield stream.schema, iter(stream)
