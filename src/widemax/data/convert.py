"""Raw columns of any file to the one Arrow type of their kind, with a reason for each value that cannot be.

=========  ==============================================  =======================================
kind       canonical type                                  missing values
=========  ==============================================  =======================================
text       large_string                                    an empty text
number     float64 (of dates and times: seconds)           allowed; infinity is bad
date       float64, seconds since 1970 in UTC              allowed
category   large_string                                    allowed
ids        large_list<int64> or large_list<large_string>   an empty history; left out of one
vector     fixed_size_list<float32>                        bad
image      fixed_shape_tensor<uint8>[H, W, C]              bad
sparse     large_list<struct<index: int64, value: float32>>  bad
=========  ==============================================  =======================================

NaN is a missing value, and so are some texts (``Column.missing``) in all kinds but text.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data.images import Shape, image_array, nested_shape, tensor_shape
from widemax.errors import DataError

SPARSE_ITEM = pa.struct([("index", pa.int64()), ("value", pa.float32())])
_ONE_OR_SEVERAL = "one or several"  # what the items of lists are called beside which single values stood
_BLANKS = r"[\s,]+"
WHOLE_NUMBER = "^(0|-?[1-9][0-9]*)$"
"""A whole number as it is written: 007 is another id than 7, and 0x7 is none."""
Reasons = dict[int, str]  # row → what is wrong with it
Converted = tuple[Any, Reasons]


def plain(values: Any) -> Any:
    """The array without dictionaries, runs, chunks, extension types or views, on which Arrow has little."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if pa.types.is_dictionary(kind):
        return plain(values.dictionary).take(values.indices)
    if pa.types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(values))
    if pa.types.is_string_view(kind):
        return values.cast(pa.large_string())
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        lengths_B = pc.fill_null(pc.list_value_length(values), 0).to_numpy().astype(np.int64)
        offsets = pa.array(np.append(0, np.cumsum(lengths_B)))
        return pa.LargeListArray.from_arrays(offsets, values.flatten(), mask=values.is_null())
    return values


def array_of(values: Sequence[Any]) -> Any:
    """One Arrow array of Python values; beside lists, a single value is a list of one.

    Other values of types that do not mix become their JSON text.

    Raises:
        DataError: a value that Arrow does not know.

    Example:
        >>> array_of([7, "x", None]).to_pylist()
        ['7', 'x', None]
    """
    try:
        return pa.array(values, from_pandas=True)  # NaN and the like of pandas are null
    except (pa.ArrowException, TypeError, OverflowError):
        if any(isinstance(value, np.ndarray) for value in values):  # Arrow takes them of one axis only
            return array_of([value.tolist() if isinstance(value, np.ndarray) else value for value in values])
        if any(isinstance(value, list) for value in values):
            missing = [value is None for value in values]
            rows = [value if isinstance(value, list) else [value][value is None :] for value in values]
            flat = [item for row in rows for item in row]
            if not any(isinstance(item, list | dict) for item in flat):
                offsets, items = np.cumsum([0, *map(len, rows)]), array_of(flat)
                kind = pa.large_list(pa.field(_ONE_OR_SEVERAL, items.type))
                return pa.LargeListArray.from_arrays(offsets, items, type=kind, mask=pa.array(missing))
        return pa.array(list(map(_json_text, values)), pa.large_string())


def _json_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if str(value) in ("None", "nan", "NaT", "<NA>"):
        return None
    if isinstance(value, date | np.datetime64):
        return str(value)
    try:
        return json.dumps(value.item() if isinstance(value, np.generic) else value)
    except (TypeError, ValueError):
        raise DataError(
            f"values must be texts, numbers, dates, booleans, arrays or lists; got {type(value).__name__}."
        ) from None


def is_string(kind: pa.DataType) -> bool:
    """Whether an Arrow type is text; views are none, since ``plain`` gives large strings for them."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list, of any layout."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def ragged(values: Any) -> tuple[np.ndarray, Any]:
    """Lengths [B] (0 for a null) and the concatenated items [P] of a list array."""
    lengths_B = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    return lengths_B.astype(np.int64), plain(pc.list_flatten(values))


def lists(lengths_B: np.ndarray, items: Any, *, large: bool = True) -> Any:
    """The inverse of :func:`ragged`."""
    array, offset = (pa.LargeListArray, pa.int64()) if large else (pa.ListArray, pa.int32())
    return array.from_arrays(pa.array(np.append(0, np.cumsum(lengths_B)), offset), items)


def split_cells(texts: Any, separator: str | None = None) -> Any:
    """Cells such as ``[1, 2]`` as lists of strings, others cut at a separator; a broken JSON list is null.

    Example:
        >>> split_cells(pa.array(["red; dark blue", "1 2", '["x"]']), ";").to_pylist()
        [['red', 'dark blue'], ['1 2'], ['x']]
        >>> split_cells(pa.array(["1 2", "1,2"])).to_pylist()  # at blanks and commas where none is given
        [['1', '2'], ['1', '2']]
    """
    cut = _BLANKS if separator is None else re.escape(separator)
    rows = [None if text is None else _split(text, cut) for text in texts.to_pylist()]
    return pa.array(rows, pa.large_list(pa.large_string()))


def _split(text: str, cut: str = _BLANKS) -> list[str | None] | None:
    if not text.lstrip().startswith("["):
        return [item for part in re.split(cut, text) if (item := part.strip())]
    try:
        items = json.loads(text)
    except ValueError:
        return None
    return [item if item is None or isinstance(item, str) else json.dumps(item) for item in items]


def parse_number(text: str) -> float | None:
    """A number, or ``true``/``false``; or None.

    Example:
        >>> parse_number("2.5"), parse_number("True"), parse_number("abc")
        (2.5, 1.0, None)
    """
    text = text.strip()
    word = {"true": 1.0, "false": 0.0}.get(text.lower())
    if word is not None or "_" in text:
        return word
    try:
        return float(text)
    except ValueError:
        return None


def parse_moment(text: str) -> float | None:
    """Seconds since 1970 of an ISO date or time, UTC where no zone is given; or None.

    Example:
        >>> parse_moment("1970-01-03"), parse_moment("1970-01-03 01:00+01:00"), parse_moment("abc")
        (172800.0, 172800.0, None)
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def numbers(values: Any) -> Any:
    """Numbers, booleans and strings as float64, dates and times in seconds; what is none becomes null."""
    if is_string(values.type):
        try:
            return pc.utf8_trim_whitespace(values).cast(pa.float64())
        except pa.ArrowInvalid:
            return parsed(
                values, lambda text: x if (x := parse_number(text)) is not None else parse_moment(text)
            )
    return seconds(values)


def moments(values: Any) -> Any:
    """Dates and times, and strings of them, as float64 seconds since 1970; what is none becomes null."""
    return parsed(values, parse_moment) if is_string(values.type) else seconds(values)


def seconds(values: Any) -> Any:
    """Dates, times and durations as float64 seconds; numbers as they are."""
    kind = values.type
    if pa.types.is_date(kind):
        values, kind = values.cast(pa.timestamp("s")), pa.timestamp("s")
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind):
        whole = values.cast(pa.int32()) if pa.types.is_time32(kind) else values
        floats = whole.cast(pa.int64()).cast(pa.float64(), safe=False)
        return pc.divide(floats, {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit])
    return values.cast(pa.float64(), safe=False)


def parsed(texts: Any, parse: Callable[[str], float | None]) -> Any:
    """What ``parse`` makes of each text, as float64."""
    return pa.array([None if text is None else parse(text) for text in texts.to_pylist()], pa.float64())


def with_nulls(values: Any, missing: Sequence[str]) -> Any:
    """The values with null in place of NaN, and of texts that stand for a missing value."""
    if pa.types.is_floating(values.type):
        return pc.if_else(pc.is_nan(values), None, values)
    if not missing or not is_string(values.type):
        return values
    marks = _marks(tuple(missing), values.type)
    return pc.if_else(pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(values)), marks), None, values)


@cache
def _marks(missing: tuple[str, ...], kind: pa.DataType) -> Any:
    return pa.array([mark.strip().lower() for mark in missing], kind)


def with_points(values: Any, decimal: str | None) -> Any:
    """Texts with a decimal point in place of ``decimal``."""
    return pc.replace_substring(values, decimal, ".") if decimal and is_string(values.type) else values


def _single(values: Any) -> Converted:
    """The items of lists of one."""
    lengths_B, items = ragged(values)
    reasons = {
        int(row): f"must be one value, got a list of {lengths_B[row]}"
        for row in np.flatnonzero((lengths_B != 1) & ~_nulls(values))
    }
    first_B = np.where(lengths_B == 1, np.cumsum(lengths_B) - 1, -1)
    return items.take(pa.array(first_B, mask=first_B < 0)), reasons


def _floats(values: Any, floats: Any, wanted: str) -> Converted:
    unread_B = _nulls(floats) & ~_nulls(values)
    reasons = {
        int(row): f"must be {wanted}, got {values[row].as_py()!r} (or give the column the kind category)"
        for row in np.flatnonzero(unread_B)
    }
    infinite_B = ~_finite(floats) & ~_nulls(floats)
    reasons |= {int(row): f"must be finite, got {floats[row].as_py()}" for row in np.flatnonzero(infinite_B)}
    return floats, reasons


def _ids(values: Any, *, item: str | None, missing: Sequence[str], **_: Any) -> Converted:
    values, reasons = _as_lists(values)
    reasons = {row: reason for row, reason in reasons.items() if reason != "has no value"}
    lengths_B, items = ragged(values)
    items = with_nulls(items, missing)
    known_P = ~_nulls(items)
    rows_P = np.repeat(np.arange(len(values)), lengths_B)[known_P]
    lengths_B, items = np.bincount(rows_P, minlength=len(values)), items.drop_null()
    target = pa.int64() if item == "int64" else pa.large_string()
    texts = item == "int64" and is_string(items.type)  # of which Arrow takes 01 and 0x1 for 1
    try:
        if texts and not pc.all(pc.match_substring_regex(items, WHOLE_NUMBER)).as_py():
            raise pa.ArrowInvalid
        items = items.cast(target)
    except pa.ArrowInvalid:
        whole = [_integer(value) for value in items.to_pylist()]
        reasons |= {
            int(row): f"must hold whole numbers, got {got!r}"
            for row, value, got in zip(rows_P, whole, items.to_pylist(), strict=True)
            if value is None and got is not None
        }
        items = pa.array(whole, target)
    return lists(lengths_B, items), reasons


def _integer(value: Any) -> int | None:
    try:
        number = int(value)
        whole = re.fullmatch(WHOLE_NUMBER, value) if isinstance(value, str) else number == value
    except (ValueError, TypeError, OverflowError):
        return None
    return number if whole and abs(number) < 2**63 else None


def _vector(values: Any, *, width: int | None, **_: Any) -> Converted:
    values, reasons = _as_lists(values)
    lengths_B, items = ragged(values)
    floats = numbers(items)
    rows_P = np.repeat(np.arange(len(values)), lengths_B)
    reasons |= {int(row): "must hold finite numbers" for row in rows_P[~_finite(floats)]}
    reasons |= {
        int(row): f"must hold {width} numbers, got {lengths_B[row]}"
        for row in np.flatnonzero(lengths_B != width)
        if int(row) not in reasons
    }
    width, fits_B = width or 0, lengths_B == width
    dense = np.zeros((len(values), width), np.float32)
    with np.errstate(over="ignore"):
        whole_P = floats.to_numpy(zero_copy_only=False)[fits_B[rows_P]].astype(np.float32)
    dense[fits_B] = whole_P.reshape(fits_B.sum(), width)
    for row in np.flatnonzero(~np.isfinite(dense).all(axis=1)):
        reasons.setdefault(int(row), "must hold numbers of at most 3e38 in size")
    if not width:  # from which Arrow cannot tell how many there are
        return pa.array([[]] * len(values), pa.list_(pa.float32(), 0)), reasons
    return pa.FixedSizeListArray.from_arrays(pa.array(dense.reshape(-1)), width), reasons


def _image_of(values: Any, shape: Shape) -> Converted:
    num_pixels, kind = math.prod(shape), values.type
    is_bytes = is_list(kind) and pa.types.is_uint8(kind.value_type)
    if is_bytes and pa.types.is_fixed_size_list(kind) and kind.list_size == num_pixels:
        pixels = values.flatten()
        if not values.null_count + pixels.null_count:  # as files of images give them: nothing to convert
            return image_array(pixels.to_numpy().reshape(-1, *shape)), {}
    layouts = [(num_pixels,), shape, *([shape[:2]] if shape[2] == 1 else [])]
    reasons = {int(row): "has no value" for row in np.flatnonzero(_nulls(values))}
    if is_string(kind):
        values = pa.array(
            [_pixels(text, layouts) for text in values.to_pylist()], pa.large_list(pa.float64())
        )
    values = _typed(values)
    wrong_B = np.zeros(len(values), bool)
    rows_P, items = np.arange(len(values)), values
    for size in next((layout for layout in layouts if len(layout) == _depth(values.type)), shape):
        lengths, items = ragged(items)
        wrong_B[rows_P[lengths != size]] = True
        rows_P = np.repeat(rows_P, lengths)
    size_text = " × ".join(map(str, shape))
    for row in np.flatnonzero(wrong_B):
        reasons.setdefault(int(row), f"must be an image of {size_text} numbers, flat or nested")
    floats_P = numbers(items).to_numpy(zero_copy_only=False)
    whole_P = (floats_P >= 0) & (floats_P <= 255) & (floats_P == np.floor(floats_P))
    for row in np.unique(rows_P[~whole_P]):
        reasons.setdefault(int(row), "must hold whole numbers from 0 to 255")
    pixels_BHWC = np.zeros((len(values), *shape), np.uint8)
    kept_P = np.where(whole_P, floats_P, 0)[~wrong_B[rows_P]]
    pixels_BHWC[~wrong_B] = kept_P.astype(np.uint8).reshape(-1, *shape)
    return image_array(pixels_BHWC), reasons


def _image(values: Any, *, shape: Shape, stated: Shape | None, **_: Any) -> Converted:
    """Images; ``stated`` is the shape that their type states. Gray ones are in color where the shape is."""
    if stated is None:
        nested = nested_shape(values) if is_list(values.type) else None
        stated = nested if nested and nested[:2] == shape[:2] else shape
    if stated[:2] != shape[:2]:
        wanted, got = (" × ".join(map(str, sizes)) for sizes in (shape, stated))
        reason = f"must be an image of {wanted} numbers, got one of {got}"
        return image_array(np.zeros((len(values), *shape), np.uint8)), dict.fromkeys(
            range(len(values)), reason
        )
    if stated[2] != 1 or shape[2] == 1:
        return _image_of(values, shape)
    images, reasons = _image_of(values, stated)
    gray_BHW1 = images.storage.flatten().to_numpy().reshape(-1, *stated)
    return image_array(np.repeat(gray_BHW1, shape[2], axis=3)), reasons


def _pixels(text: str | None, layouts: Sequence[tuple[int, ...]]) -> list[float] | None:
    """The numbers of an image that stands in one cell, as JSON or one after another."""
    try:
        cells = json.loads(text or "") if (text or "").lstrip().startswith("[") else _split(text or "")
        pixels = np.array(cells, np.float64)
    except (ValueError, TypeError):
        return None
    return pixels.ravel().tolist() if pixels.shape in layouts else None


def _depth(kind: pa.DataType) -> int:
    """How deep lists are nested."""
    return 1 + _depth(kind.value_type) if is_list(kind) else 0


def _sparse(values: Any, **_: Any) -> Converted:
    if is_string(values.type):  # a block of JSON lines whose rows do not fit one Arrow type
        values = pa.array([_sparse_row(text) for text in values.to_pylist()], pa.large_list(SPARSE_ITEM))
    values = _typed(values)
    reasons = {int(row): "has no value" for row in np.flatnonzero(_nulls(values))}
    lengths_B, items = ragged(values)
    if pa.types.is_null(items.type):
        items = items.cast(SPARSE_ITEM)
    index = pc.struct_field(items, "index").cast(pa.int64())
    value = numbers(pc.struct_field(items, "value")).cast(pa.float32(), safe=False)
    rows_P = np.repeat(np.arange(len(values)), lengths_B)
    wrong_P = ~pc.fill_null(pc.greater_equal(index, 0), False).to_numpy(zero_copy_only=False)
    reasons |= {int(row): "must hold indices of 0 or more" for row in rows_P[wrong_P]}
    reasons |= {int(row): "must hold finite values" for row in rows_P[~_finite(value)]}
    structs = pa.StructArray.from_arrays([index, value], fields=list(SPARSE_ITEM))
    return lists(lengths_B, structs), reasons


def _sparse_row(text: str | None) -> Any:
    try:
        row = json.loads(text or "null")
        return [{"index": int(pair["index"]), "value": float(pair["value"])} for pair in row]
    except (ValueError, TypeError, KeyError):
        return None


def _as_lists(values: Any) -> Converted:
    missing_B = _nulls(values)
    if is_string(values.type):
        values = split_cells(values)
    values = _typed(values)
    reasons = {int(row): "must be a list" for row in np.flatnonzero(_nulls(values))}
    return values, reasons | {int(row): "has no value" for row in np.flatnonzero(missing_B)}


def _typed(values: Any) -> Any:
    """A block without any value has no type: lists that are all null."""
    return values.cast(pa.large_list(pa.null())) if pa.types.is_null(values.type) else values


def _nulls(values: Any) -> np.ndarray:
    return np.asarray(values.is_null().to_numpy(zero_copy_only=False), bool)


def _finite(floats: Any) -> np.ndarray:
    return np.asarray(np.isfinite(pc.fill_null(floats, math.nan).to_numpy(zero_copy_only=False)))


CONVERTERS: Mapping[str, Callable[..., Converted]] = {
    "text": lambda values, **_: (values.cast(pa.large_string()).fill_null(""), {}),
    "number": lambda values, **_: _floats(values, with_nulls(numbers(values), ()), "a number"),
    "date": lambda values, **_: _floats(values, moments(values), "a date or time such as 2024-01-31"),
    "category": lambda values, **_: (values.cast(pa.large_string()), {}),
    "ids": _ids,
    "vector": _vector,
    "image": _image,
    "sparse": _sparse,
}


def convert(
    values: Any,
    *,
    kind: str,
    width: int | None = None,
    item: str | None = None,
    shape: Shape | None = None,
    decimal: str | None = None,
    missing: Sequence[str] = (),
) -> Converted:
    """A raw column in the canonical type of its kind, and what is wrong with which row.

    Args:
        values: an Arrow array [B] of any type.
        kind: "text", "number", "date", "category", "ids", "vector", "image" or "sparse".
        width: how many numbers a vector holds.
        item: "int64" or "string", the type of the ids.
        shape: height, width and channels of an image.
        decimal: what stands for the decimal point in texts of numbers.
        missing: texts that stand for a missing value, in any case, in all kinds but text.

    Returns:
        The converted array [B], whose bad rows hold anything, and row → reason.

    Raises:
        DataError: the type of the whole column cannot be of this kind.

    Example:
        >>> convert(pa.array([1.0, None, math.inf]), kind="number")[1]
        {2: 'must be finite, got inf'}
    """
    stated = tensor_shape(values.type)
    values = with_points(plain(values), decimal)
    reasons: Reasons = {}
    mixed = is_list(values.type) and values.type.value_field.name == _ONE_OR_SEVERAL
    single = kind in ("text", "number", "date", "category")
    if mixed and single:
        values, reasons = _single(values)
    if single or kind == "ids":
        values = with_nulls(values, () if kind == "text" else missing)
    try:
        converted, wrong = CONVERTERS[kind](
            values, width=width, item=item, shape=shape, stated=stated, missing=missing
        )
        return converted, wrong | reasons
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowKeyError) as error:
        raise DataError(
            f"values of type {values.type} cannot be of kind {kind!r}; "
            "give another kind or leave the column out."
        ) from error
