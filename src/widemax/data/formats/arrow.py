"""Arrow IPC, both the file (also called Feather 2) and the stream.

Not memory-mapped: a file that is cut off while it is mapped ends the process.
"""

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
        with readable(path, "Arrow IPC"), _open(path, columns) as (_, batches):
            first = 1
            for batch in batches:
                yield from slices(sound_columns(batch, columns), len(batch), first)
                first += len(batch)


@contextmanager
def _open(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The schema of a file, and its batches of these columns."""
    with pa.OSFile(str(path)) as source:
        is_file = source.read(len(_FILE_MAGIC)) == _FILE_MAGIC
        open_one = pa.ipc.open_file if is_file else pa.ipc.open_stream
        source.seek(0)
        schema = open_one(source).schema
        source.seek(0)
        options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
        reader = open_one(source, options=options)
        yield schema, map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
