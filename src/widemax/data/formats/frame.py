"""Rows in memory: a frame of pandas or polars, a pyarrow table, anything with Arrow's PyCapsule stream.

https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import pyarrow as pa

from widemax.data.convert import plain
from widemax.data.formats.base import Chunk, Format, distinct_names, slices
from widemax.errors import DataError

MEMORY = "<memory>"
"""What a frame is called in messages and in the config of a run."""


class ArrowStream(Protocol):
    """What pandas from 2.2, polars and pyarrow give their frames."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows as a capsule."""


@dataclass(frozen=True, eq=False)
class Frame(Format):
    """A source that is its own format: its columns need no path. Rows are counted from 0, as in Python."""

    name: ClassVar[str] = MEMORY
    table: Any

    @classmethod
    def of(cls, data: ArrowStream) -> Self:
        """The columns of a frame, without copying where Arrow need not; an index of pandas is no column.

        Raises:
            DataError: columns of mixed types, of one name, or none at all, as in a series.

        Example:
            >>> str(Frame.of(pa.table({"text": ["Green tea"]})))
            '<memory>'
        """
        if hasattr(data, "to_frame"):
            raise DataError(
                f"a {type(data).__name__} is one column; make it a frame, as to_frame(name) does."
            )
        try:
            table = pa.table(data)
        except (pa.ArrowException, TypeError, ValueError) as error:
            reason = "; ".join(str(part) for part in error.args or [type(error).__name__]).splitlines()[0]
            raise DataError(
                f"this {type(data).__name__} cannot be read as named columns of one type each: {reason}. "
                "Convert its columns."
            ) from error
        index = (table.schema.pandas_metadata or {}).get("index_columns", ())
        table = table.drop_columns([name for name in index if name in table.column_names])
        distinct_names("the frame", table.column_names)
        return cls(table)

    def __str__(self) -> str:
        return self.name

    def columns(self, path: Any) -> list[str]:
        return list(self.table.column_names)

    def chunks(self, path: Any, columns: Sequence[str]) -> Iterator[Chunk]:
        return slices({name: self.table[name] for name in columns}, len(self.table), first=0)

    def fingerprint(self, path: Any) -> Iterator[bytes]:
        for chunk in self.chunks(path, self.table.column_names):
            batch = pa.record_batch({name: plain(values) for name, values in chunk.columns.items()})
            yield from (str(batch.schema).encode(), batch.serialize())
