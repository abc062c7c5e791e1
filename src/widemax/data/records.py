"""Rows given in Python, one mapping a row, as columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from widemax.data.convert import Converted, Reasons, array_of, convert
from widemax.data.schema import Column, Schema
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
    records = [{names[0]: row} if takes_text and isinstance(row, str | None) else row for row in rows]
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise ArgumentError(f"row {number} must be {wanted}; got {type(record).__name__}.")
    return records


@checked
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
    columns, reasons = good_rows(schema, rows)
    for number, reason in sorted(reasons.items()):
        raise DataError(f"row {number}: {reason}.")
    return columns


def good_rows(schema: Schema, rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], Reasons]:
    """The input columns of the rows that can be read, as :func:`columns_of` gives them, and row → reason.

    Example:
        >>> from widemax.data import Column
        >>> columns, reasons = good_rows(Schema((Column("x", "number"),), target=None), [{"x": 1}, {"y": 2}])
        >>> len(columns["x"]), reasons
        (1, {1: "the row lacks the input 'x'; it has ['y']"})
    """
    reasons: Reasons = {}
    for column in schema.inputs:
        for number, row in enumerate(rows):
            if column.name not in row:
                reasons.setdefault(number, f"the row lacks the input {column.name!r}; it has {list(row)}")
    whole = [number for number in range(len(rows)) if number not in reasons]
    columns = {}
    for column in schema.inputs:
        columns[column.name], wrong = _converted(column, [rows[number][column.name] for number in whole])
        for at, reason in wrong.items():
            reasons.setdefault(whole[at], f"column {column.name!r} {reason}")
    if not reasons:
        return columns, reasons
    good = pa.array([at for at, number in enumerate(whole) if number not in reasons], pa.int64())
    return {name: values.take(good) for name, values in columns.items()}, reasons


def _converted(column: Column, values: Sequence[Any]) -> Converted:
    """The values of a column; one that no column can hold beside its neighbors takes none of them along."""
    try:
        if column.kind == "text" and column.decimal is None and all(type(value) is str for value in values):
            return pa.array(values, pa.large_string()), {}  # as the following gives them too
        return convert(array_of(values), **column.form)
    except (DataError, UnicodeEncodeError) as error:
        if len(values) > 1:
            parts = [_converted(column, [value]) for value in values]
            return pa.concat_arrays([part for part, _ in parts]), {
                number: wrong[0] for number, (_, wrong) in enumerate(parts) if wrong
            }
        reason = f"cannot be read: {str(error).rstrip('.')}"
        if isinstance(error, UnicodeEncodeError):
            reason = "holds half of a surrogate pair, which is no character"
        return convert(pa.nulls(1), **column.form)[0], {0: reason}
