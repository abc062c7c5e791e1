"""Rows given in Python, one mapping a row, as columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from widemax.data.convert import array_of, convert
from widemax.data.schema import Schema
from widemax.errors import ArgumentError, DataError
from widemax.options import checked


@checked
def records_of(schema: Schema, rows: Any) -> list[Mapping[str, Any]]:
    """One mapping a row: of several mappings, of one, or of texts for a schema whose one input is text.

    Raises:
        ArgumentError: rows are something else.

    Example:
        >>> from widemax.data import Column
        >>> records_of(Schema((Column("text", "text"),), target=None), ["Green tea"])
        [{'text': 'Green tea'}]
    """
    names = [column.name for column in schema.inputs]
    takes_text = [column.kind for column in schema.inputs] == ["text"]
    if isinstance(rows, Mapping):
        return [rows]
    wanted = f"a mapping with the columns {names}" + " or a text" * takes_text
    if isinstance(rows, str) or not isinstance(rows, Sequence | np.ndarray):
        raise ArgumentError(
            f"rows must be a frame, or a list whose rows are each {wanted}; got {type(rows).__name__}."
        )
    records = [{names[0]: row} if takes_text and isinstance(row, str) else row for row in rows]
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise ArgumentError(f"row {number} must be {wanted}; got {type(record).__name__}.")
    return records


@checked
def columns_of(
    schema: Schema, rows: Sequence[Mapping[str, Any]], *, places: Sequence[str] | None = None
) -> dict[str, Any]:
    """The input columns of some rows in the canonical Arrow type of their kinds.

    Args:
        schema: which columns are inputs; other keys of a row are ignored.
        rows: column name → value.
        places: what messages call each row; "row 0", "row 1" and so on by default.

    Raises:
        DataError: a row lacks an input, or has a value its kind cannot hold.

    Example:
        >>> from widemax.data import Column
        >>> schema = Schema((Column("text", "text"),), target=None)
        >>> columns_of(schema, [{"text": "Green tea"}])["text"].to_pylist()
        ['Green tea']
    """
    places = [f"row {number}" for number in range(len(rows))] if places is None else places
    columns = {}
    for column in schema.inputs:
        for place, row in zip(places, rows, strict=True):
            if column.name not in row:
                raise DataError(f"{place} lacks the input {column.name!r}; it has {sorted(row)}.")
        try:
            values = array_of([row[column.name] for row in rows])
            columns[column.name], reasons = convert(
                values, kind=column.kind, width=column.width, item=column.item, shape=column.shape
            )
        except UnicodeEncodeError:
            raise DataError(
                f"column {column.name!r} holds half of a surrogate pair, which is no character."
            ) from None
        except DataError as error:
            raise DataError(f"column {column.name!r}: {error}") from error
        for number, reason in sorted(reasons.items()):
            raise DataError(f"{places[number]}: column {column.name!r} {reason}.")
    return columns
