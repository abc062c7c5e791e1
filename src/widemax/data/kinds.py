"""What the values of a column look like: the kinds that are guessed where none is named."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data.convert import (
    is_list,
    is_string,
    numbers,
    parse_moment,
    parse_number,
    parsed,
    ragged,
    split_cells,
)
from widemax.errors import DataError

_ENOUGH_ROWS, _MANY_ROWS = 20, 100  # fewer rows prove nothing about words, or about numbers
_OWN_VALUE = 0.99  # at least this many distinct values a row: each row has its own
_ID_NAME = r"(^|[^a-zA-Z])(id|ID|Id|uuid|guid)$|[a-z](Id|ID)$"
WHOLE_INT64 = "^(0|-?[1-9][0-9]{0,17})$"
_TEXT_WORDS = 2.0  # more words than this on average: text, not names
_MOSTLY = 0.5  # more distinct values a row than this: text, not categories
_DECIMAL_COMMA = r"^\s*[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?\s*$"
_THOUSANDS = r"^\s*[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+\s*$"
_JSON_LIST = r"(?s)^\s*\[.*\]\s*$"
_A_NUMBER = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
_NUMBERS = rf"^\s*{_A_NUMBER}([\s,]+{_A_NUMBER})*\s*$"
_LIKE_AN_IMAGE = 64  # whole numbers in each cell: pixels and the like, no ids
_NUMERIC = 0.9  # this share of the cells of a CSV column are numbers: the others are mistakes


def is_identifier(name: str, kind: str, values: Any) -> bool:
    """Whether nearly every row has a value of its own: a word with a digit, or a number that counts rows."""
    values = values.drop_null()
    if len(values) < _ENOUGH_ROWS or not (is_string(values.type) or kind == "number"):
        return False
    if pc.count_distinct(values).as_py() < _OWN_VALUE * len(values):
        return False
    if kind == "number":
        floats = numbers(values).drop_null().to_numpy()
        counts_rows = len(floats) >= _MANY_ROWS and np.ptp(floats) < 2 * len(floats)
        return bool((floats % 1 == 0).all() and (counts_rows or re.search(_ID_NAME, name)))
    return bool(
        kind in ("text", "category")
        and pc.mean(pc.match_substring_regex(values, r"^\S*[0-9]\S*$")).as_py() >= _NUMERIC
    )


def has_decimal_commas(texts: Any) -> bool:
    """Whether commas stand in numbers, as in ``3,5``; those of ``1,234`` alone may part thousands."""
    commas = texts.filter(pc.match_substring(texts, ","))
    if not len(commas):
        return False
    decimal = pc.sum(pc.match_substring_regex(commas, _DECIMAL_COMMA)).as_py() / len(commas)
    return bool(decimal >= _NUMERIC and not pc.all(pc.match_substring_regex(commas, _THOUSANDS)).as_py())


def guess_kind(name: str, values: Any, *, untyped: bool) -> str:
    """The kind of a column by its type, and of strings by what they look like.

    Example:
        >>> guess_kind("color", pa.array(["red", "red", "blue", "red"]), untyped=False)
        'category'
    """
    kind = values.type
    if is_string(kind):
        return _guess_string_kind(values.drop_null(), untyped)
    if is_list(kind) and is_list(kind.value_type):
        return "image"
    if pa.types.is_fixed_size_list(kind):
        return "vector"
    if is_list(kind):
        if pa.types.is_struct(kind.value_type):
            return "sparse"
        return "vector" if pa.types.is_floating(kind.value_type) else "ids"
    if pa.types.is_struct(kind) or pa.types.is_map(kind) or pa.types.is_binary(kind):
        raise DataError(
            f"column {name!r} is of type {kind}, which cannot be an input; leave it out of the inputs."
        )
    return "date" if pa.types.is_date(kind) or pa.types.is_timestamp(kind) else "number"


def _guess_string_kind(texts: Any, untyped: bool) -> str:
    if not len(texts):
        return "number" if untyped else "text"
    for kind, parse in (("number", parse_number), ("date", parse_moment)):
        if (untyped or kind == "date") and parsed(texts, parse).null_count <= (1 - _NUMERIC) * len(texts):
            return kind
    if untyped and (of_lists := _guess_list_kind(texts)):
        return of_lists
    words = pc.mean(pc.count_substring_regex(texts, r"\S+")).as_py()
    distinct = pc.count_distinct(texts).as_py() / len(texts)
    return "text" if words > _TEXT_WORDS or distinct > _MOSTLY else "category"


def _guess_list_kind(texts: Any) -> str | None:
    """The kind of cells that hold JSON lists, or numbers with blanks or commas between them; None for others.

    Lists of one length are a vector where they hold fractions or, like images, many numbers.
    """
    if not (is_json := holds_json_lists(texts)):
        if pc.mean(pc.match_substring_regex(texts, _NUMBERS)).as_py() < _NUMERIC:
            return None
        if pc.all(pc.match_substring_regex(texts, f"{_THOUSANDS}|{WHOLE_INT64}")).as_py():
            return None  # 1,234 is one number
    lengths, items = ragged(split_cells(texts).drop_null())
    if not len(items) or pc.any(pc.match_substring_regex(items, r"^[\[{]")).as_py():
        return None  # a matrix, such as an image, or records
    if not is_json and lengths.mean() == 1:
        return None
    floats = numbers(items)
    whole = pc.all(pc.match_substring_regex(items, WHOLE_INT64)).as_py()
    if not floats.null_count and np.ptp(lengths) == 0 and (not whole or lengths[0] >= _LIKE_AN_IMAGE):
        return "vector"
    return "ids" if is_json or whole else None


def holds_json_lists(texts: Any) -> bool:
    """Whether the cells of a column are JSON lists."""
    if not is_string(texts.type) or not len(texts := texts.drop_null()):
        return False
    return bool(
        pc.mean(pc.match_substring_regex(texts, _JSON_LIST)).as_py() >= _NUMERIC
        and split_cells(texts).null_count <= (1 - _NUMERIC) * len(texts)
    )
