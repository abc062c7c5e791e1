"""The rows of a body."""

from collections.abc import Mapping
from typing import Any

from widemax.data import Schema, records_of
from widemax.errors import DataError

NESTED = frozenset({"ids", "image", "sparse", "vector"})
"""Kinds of columns whose values are lists."""


def rows_of(schema: Schema, inputs: Any) -> list[Mapping[str, Any]]:
    """One mapping a row, as :func:`widemax.data.records_of` takes them.

    A file may hold lists in a column of text, which are read as their JSON; in a request one is a mistake.

    Raises:
        ArgumentError: inputs are no rows.
        DataError: a list or an object in the place of a single value.

    Example:
        >>> from widemax.data import Column
        >>> rows_of(Schema((Column("text", "text"),), target=None), {"text": "tea"})
        [{'text': 'tea'}]
    """
    rows = records_of(schema, inputs)
    single = [column.name for column in schema.inputs if column.kind not in NESTED]
    for number, row in enumerate(rows):
        for name in single:
            if isinstance(row.get(name), list | dict):
                raise DataError(f"row {number}: column {name!r} must hold one value, no list or object.")
    return rows
