"""The type of the target, decided over all training rows, so that labels come back as they were given."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data.convert import WHOLE_NUMBER, Reasons, is_list, is_string, lists, plain, ragged, split_cells
from widemax.errors import DataError

_INT64_DIGITS = 18  # so many fit whatever they are
# What a CSV cell must look like so that the typed label prints exactly like the cell: "007" stays a string.
_SPELLINGS = {
    "bool": "^(true|false|True|False)$",
    "int64": "^(0|-?[1-9][0-9]{0,17})$",
    "double": r"^(0|-?[1-9][0-9]{0,14}|-?(0|[1-9][0-9]{0,8})\.([0-9]{0,5}[1-9]|0))$",
    "date32[day]": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
}

_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


def common_type(arrays: Iterable[tuple[Any, bool]]) -> tuple[str, bool]:
    """The type that holds every label, and whether rows hold several.

    Integers with floats become floats; any other mixture becomes strings.

    Args:
        arrays: (labels, untyped) pairs; untyped labels are CSV cells, whose spelling tells their type.

    Returns:
        The name of an Arrow type, such as "int64", and whether any row is a list.

    Raises:
        DataError: the labels are of a type that cannot be a class, or there are none.
    """
    found: str | None = None
    several = False
    for array, untyped in arrays:
        labels = plain(array)
        if is_list(labels.type):
            if pa.types.is_fixed_size_list(labels.type):
                raise DataError(
                    "the target is a matrix of one width, but must be one label or a list of labels a row; "
                    "give the indices of the ones as a list."
                )
            several = True
            labels = ragged(labels)[1]
        chunk = _spelled_type(labels) if untyped and is_string(labels.type) else _natural_type(labels.type)
        if labels.null_count < len(labels):
            wider = "double" if {found, chunk} == {"int64", "double"} else "large_string"
            found = chunk if found in (None, chunk) else wider
    if found is None:
        raise DataError("the target has no value in any row; name a column that holds the labels.")
    return found, several


def _natural_type(kind: pa.DataType) -> str:
    if is_string(kind):
        return "large_string"
    if pa.types.is_integer(kind):
        return "uint64" if pa.types.is_uint64(kind) else "int64"
    if pa.types.is_decimal(kind):
        return "int64" if kind.scale <= 0 and kind.precision <= _INT64_DIGITS else "large_string"
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_date(kind):
        return "date32[day]"
    if pa.types.is_timestamp(kind) and kind.tz is None:
        return str(kind)
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return "bool"
    raise DataError(
        f"labels must be strings, numbers, booleans, dates or lists of them, got {kind}; convert the column."
    )


def _spelled_type(texts: Any) -> str:
    for name, pattern in _SPELLINGS.items():
        if pc.all(pc.match_substring_regex(texts, pattern)).as_py():
            with suppress(pa.ArrowInvalid):
                texts.cast(pa.type_for_alias(name))
                return name
    return "large_string"


def convert_labels(
    values: Any,
    *,
    type_name: str,
    several: bool,
    unlabeled_is_empty: bool = False,
    separator: str | None = None,
) -> tuple[Any, Reasons]:
    """Raw labels in the type learned in training, and what is wrong with which row.

    A label that cannot be of this type ("new" among integers) becomes null: it was never seen in training.

    Args:
        values: raw labels [B], or lists of labels.
        type_name: the name of an Arrow type, as ``common_type`` gives it.
        several: whether the result has a list a row.
        unlabeled_is_empty: a missing label is an empty list where ``several``.
        separator: what separates the labels of a text where ``several``, blanks and commas by default.

    Returns:
        The labels [B] (or list<label>) and row → reason.

    Raises:
        DataError: rows hold lists where one label is expected.
    """
    values = plain(values)
    if several and is_string(values.type):
        values = split_cells(values, separator)
    if is_list(values.type) and not several:
        raise DataError("the target holds lists, but one label a row is expected, as in training.")
    missing_B = _missing(values)
    reasons = {int(row): "the label is missing" for row in np.flatnonzero(missing_B)}
    if not several:
        return _cast(values, pa.type_for_alias(type_name)), reasons
    if unlabeled_is_empty:
        reasons = {}
    if is_list(values.type):
        lengths_B, flat = ragged(values)
    else:
        lengths_B, flat = (~missing_B).astype(np.int64), values.filter(pa.array(~missing_B))
    rows_P = np.repeat(np.arange(len(values)), lengths_B)
    reasons |= {int(row): "a label of the list is missing" for row in rows_P[_missing(flat)]}
    return lists(lengths_B, _cast(flat, pa.type_for_alias(type_name)), large=False), reasons


def _missing(labels: Any) -> np.ndarray:
    missing = labels.is_null(nan_is_null=True)
    if is_string(labels.type):
        missing = pc.or_(missing, pc.fill_null(pc.equal(pc.binary_length(labels), 0), False))
    if pa.types.is_floating(labels.type):
        missing = pc.or_(missing, pc.fill_null(pc.is_inf(labels), False))
    return np.asarray(missing.to_numpy(zero_copy_only=False), bool)


def _cast(labels: Any, wanted: pa.DataType) -> Any:
    """Labels of a type; null where they cannot be, also for texts that Arrow reads loosely, as 0x1 and 01."""
    pattern = {**_SPELLINGS, "int64": WHOLE_NUMBER, "uint64": WHOLE_NUMBER, "double": _NUMBER}.get(
        str(wanted)
    )
    if is_string(labels.type) and pattern:
        spelled = pc.match_substring_regex(labels, pattern)
        labels = pc.if_else(spelled, labels, pa.scalar(None, labels.type))
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return labels.cast(wanted)
    one_by_one = []
    for label in labels:
        try:
            one_by_one.append(label.cast(wanted).as_py())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            one_by_one.append(None)
    return pa.array(one_by_one, wanted)
