"""Rows given in Python, one mapping a row, as columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from widemax.data.convert import array_of, convert
from widemax.data.schema import Schema
from widemax.errors import DataError


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
