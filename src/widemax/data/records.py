"""Rows given in Python, one mapping a row, as columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from widemax.data.convert import convert
from widemax.data.schema import Schema
from widemax.errors import DataError


def columns_of(schema: Schema, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The input columns of some rows in the canonical Arrow type of their kinds.

    Args:
        schema: which columns are inputs; other keys of a row are ignored.
        rows: column name → value.

    Raises:
        DataError: a row lacks an input, or has a value its kind cannot hold.

    Example:
        >>> from widemax.data import Column
        >>> schema = Schema((Column("text", "text"),), target=None)
        >>> columns_of(schema, [{"text": "Green tea"}])["text"].to_pylist()
        ['Green tea']
    """
    columns = {}
    for column in schema.inputs:
        for number, row in enumerate(rows):
            if column.name not in row:
                raise DataError(f"row {number} lacks the input {column.name!r}; it has {sorted(row)}.")
        try:
            values = pa.array([row[column.name] for row in rows])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(
                f"the values of {column.name!r} cannot be read as {column.kind}: {error}."
            ) from None
        columns[column.name], reasons = convert(
            values, kind=column.kind, width=column.width, item=column.item
        )
        for number, reason in sorted(reasons.items()):
            raise DataError(f"row {number}: {reason} in {column.name!r}.")
    return columns
