"""Which columns go in, which one comes out, and of what kind each is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from widemax.data.convert import (
    convert,
    is_list,
    is_string,
    plain,
    ragged,
    split_cells,
    with_nulls,
    with_points,
)
from widemax.data.event_columns import EventColumns
from widemax.data.formats import Reading, Source, format_of
from widemax.data.images import Shape, nested_shape, tensor_shape
from widemax.data.kinds import WHOLE_INT64, guess_kind, has_decimal_commas, holds_json_lists, is_identifier
from widemax.data.relevance import says_nothing
from widemax.data.target import common_type
from widemax.errors import DataError, UsageError, did_you_mean
from widemax.options import checked, from_json

KINDS = ("text", "number", "date", "category", "ids", "vector", "image", "sparse")
TABLE_KINDS = ("number", "date", "category")
TAKES_MARKS = (*TABLE_KINDS, "ids")
USUAL_TARGETS = ("label", "target", "class", "y", "intent", "category")
MISSING = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "NaT", "None", "null", "?", "-", "--")
"""The texts that stand for a missing value, in any case, where ``data.missing`` names no others."""
_SAMPLE_ROWS = 10_000
_ENOUGH_TO_TELL = 50  # fewer rows prove nothing of whether a column says anything about the labels


@dataclass(frozen=True)
class Column:
    """An input column.

    Args:
        name: as in the files.
        kind: one of ``KINDS``.
        width: how many numbers a vector holds.
        item: "int64" or "string", the type of the ids.
        shape: height, width and channels of an image.
        decimal: "," where the numbers of a text file have a decimal comma.
        missing: the texts that stand for a missing value, in any case.
    """

    name: str
    kind: str
    width: Annotated[int, Field(ge=0, le=1 << 28)] | None = None
    item: Literal["int64", "string"] | None = None
    shape: Shape | None = None
    decimal: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def form(self) -> dict[str, Any]:
        """What its values are converted to, as arguments of ``convert``."""
        return {name: value for name, value in vars(self).items() if name != "name"}

    def nothing(self) -> Any:
        """An Arrow array of one row that holds nothing, in the canonical type of the kind."""
        return convert(pa.nulls(1), **self.form)[0]


@dataclass(frozen=True)
class Schema:
    """The columns of a data set.

    Args:
        inputs: the columns that go in.
        target: the column that comes out; None to predict.
        several: whether the target is a list of labels.
        target_type: the name of the Arrow type of a label.
        left_out: a sentence about each column that is no input because nothing can be learned from it.
        label_separator: what separates the labels in a text of several.
    """

    inputs: tuple[Column, ...]
    target: str | None
    several: bool = False
    target_type: str = "large_string"
    left_out: tuple[str, ...] = ()
    label_separator: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The schema in types that JSON has."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return from_json(cls, fields)


@checked
def infer_schema(
    sources: Sequence[Source],
    *,
    inputs: Sequence[str] = (),
    target: str | None = None,
    kinds: Mapping[str, str] | None = None,
    format: Reading | str | None = None,  # noqa: A002 - the name of the config key
) -> Schema:
    """The schema of some files: kinds from the first 10,000 rows, the type of the target from every row.

    Args:
        sources: the training files or frames.
        inputs: names of the input columns; when empty all but the target, columns without any value, those
            that look like identifiers and, beside text and the like, those that say nothing about the target.
        target: name of the target column; a usual name such as "label" is found when None.
        kinds: column → kind, to overrule what would be guessed.
        format: name of a format, to overrule the files' endings; or all that they do not say themselves.

    Raises:
        UsageError: a name or kind that does not exist, no target can be found, or its labels are no texts to
            be cut at a separator.
        DataError: the files have no rows.
    """
    kinds = dict(kinds or {})
    if not sources:
        raise UsageError(
            "there are no training data: name them in data.train, or give train() a frame as data."
        )
    path = sources[0]
    known = dict.fromkeys(format_of(path, format).columns(path))
    target = _usual_target(path, known) if target is None else target
    names = list(dict.fromkeys(inputs)) or [name for name in known if name != target]
    for name in [target, *names, *kinds]:
        if name not in known:
            raise UsageError(f"{path} has no column {name!r}; {did_you_mean(name, list(known))}")
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise UsageError(
                f"kind {kind!r} of column {name!r} does not exist; {did_you_mean(kind, list(KINDS))}"
            )
    if target in names:
        raise UsageError(
            f"column {target!r} is the target and cannot be an input; leave it out of the inputs."
        )
    if not names:
        raise UsageError(f"{path} has no column but the target {target!r}; at least one input is needed.")
    untyped = format_of(path, format).untyped
    sample, types = _sample(path, [*names, target], format)
    reading = format if isinstance(format, Reading) else Reading(format)
    missing = MISSING if reading.missing is None else reading.missing
    separator = reading.label_separator
    columns = tuple(
        _column(name, sample[name], types[name], kinds.get(name), untyped, missing) for name in names
    )
    columns = tuple(
        replace(column, missing=missing) if column.kind in TAKES_MARKS else column for column in columns
    )
    left_out: dict[str, str] = {}
    if not inputs:
        guessed = [column for column in columns if column.name not in kinds]
        empty = [name for name in (column.name for column in guessed) if not len(sample[name].drop_null())]
        left_out = dict.fromkeys(
            _without_value(sources, empty, missing, format), "it has no value in any row"
        )
        left_out |= {
            column.name: "it has another value in nearly every row, like an identifier"
            for column in guessed
            if is_identifier(column.name, column.kind, with_nulls(sample[column.name], column.missing))
        }
        if {column.kind for column in columns if column.name not in left_out} - set(TABLE_KINDS):
            left_out |= {
                column.name: f"it says nothing about {target!r} in the first {len(sample[target]):,} rows"
                for column in guessed
                if column.name not in left_out
                and column.kind in TABLE_KINDS
                and _is_useless(column, sample[column.name], sample[target])
            }
        left_out = left_out if len(left_out) < len(columns) else {}
    split = (
        kinds.get(target) == "ids"
        or separator is not None
        or (untyped and target not in kinds and holds_json_lists(sample[target]))
    )
    target_type, several = common_type(_labels(sources, target, split, reading))
    return Schema(
        tuple(column for column in columns if column.name not in left_out),
        target,
        several,
        target_type,
        tuple(
            f"column {name!r} is left out: {reason} (name the inputs to keep it)"
            for name, reason in left_out.items()
        ),
        separator,
    )


def _without_value(
    sources: Sequence[Source], names: list[str], missing: Sequence[str], reading: Reading | str | None
) -> list[str]:
    """Which of these columns have no value in any row of all files."""
    for source in sources:
        form = format_of(source, reading)
        known = set(form.columns(source))
        here = [name for name in names if name in known]
        for chunk in form.chunks(source, here) if here else ():
            names = [
                name
                for name in names
                if name not in known or not len(with_nulls(plain(chunk.columns[name]), missing).drop_null())
            ]
    return names


def _is_useless(column: Column, values: Any, labels: Any) -> bool:
    """Whether a column beside others of text and the like says nothing about the labels."""
    if is_list(labels.type) or len(values) != len(labels) or len(values) < _ENOUGH_TO_TELL:
        return False
    values = with_points(with_nulls(values, column.missing), column.decimal)
    return says_nothing(values, column.kind, labels)


def _usual_target(path: Source, known: Iterable[str]) -> str:
    by_lower_case = {name.lower(): name for name in reversed(list(known))}
    for usual in USUAL_TARGETS:
        if usual in by_lower_case:
            return by_lower_case[usual]
    events = EventColumns.recognized(list(known))
    hint = f", or, as these look like events, who and what: {events.options}" if events else " (--target)"
    raise UsageError(
        f"none of the columns {list(known)} of {path} has a usual name for labels; name the target{hint}."
    )


def _sample(
    path: Source, names: Sequence[str], reading: Reading | str | None
) -> tuple[dict[str, Any], dict[str, pa.DataType]]:
    """The first rows of each column, blocks of different types as text; and the type the file gives it."""
    parts: dict[str, list[Any]] = {name: [] for name in names}
    types: dict[str, pa.DataType] = {}
    num_rows = 0
    form = format_of(path, reading)
    first = ""
    for chunk in form.chunks(path, names):
        if chunk.bad and not first:
            first = f"; {form.place(path, chunk.bad[0][0])}: {chunk.bad[0][1]}"
        for name in names:
            parts[name].append(plain(chunk.columns[name]))
            types.setdefault(name, chunk.columns[name].type)
        num_rows += len(chunk.positions_B)
        if num_rows >= _SAMPLE_ROWS:
            break
    if not num_rows:
        raise DataError(
            f"{path} has no readable rows{first}. At least one is needed to learn what the columns hold."
        )
    return {name: _join(arrays)[:_SAMPLE_ROWS] for name, arrays in parts.items()}, types


def _join(arrays: list[Any]) -> Any:
    """One array; where blocks are of types that do not mix, those of the type that most rows have."""
    try:
        tables = [pa.table({"column": array}) for array in arrays]
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        types = [array.type for array in arrays for _ in range(len(array))]
        usual = max(set(types), key=types.count)
        table = pa.table({"column": pa.chunked_array([array for array in arrays if array.type == usual])})
    return plain(table["column"])


def _column(
    name: str, values: Any, raw: pa.DataType, kind: str | None, untyped: bool, missing: Sequence[str]
) -> Column:
    shape = tensor_shape(raw)
    values = with_nulls(values, missing)
    decimal = "," if untyped and kind in (None, "number") and has_decimal_commas(values) else None
    values = with_points(values, decimal)
    kind = kind or ("image" if shape else guess_kind(name, values, untyped=untyped))
    if kind == "image":
        shape = shape or (nested_shape(values) if is_list(values.type) else None)
        if shape is None:
            raise DataError(
                f"column {name!r} of kind 'image' must hold each image as a list of rows of pixels, or as a "
                f"tensor of bytes [height, width, channels], got {values.type}; or give it the kind 'vector'."
            )
        return Column(name, kind, shape=shape)
    cells = is_string(values.type)
    if kind in ("ids", "vector") and cells:
        values = split_cells(values)
    if kind in ("ids", "vector") and not is_list(values.type):
        raise DataError(f"column {name!r} of kind {kind!r} must hold lists, got {values.type}.")
    if kind == "vector":
        lengths, counts = np.unique(ragged(values.drop_null())[0], return_counts=True)
        return Column(name, kind, width=int(lengths[counts.argmax()]) if len(lengths) else 0)
    if kind == "ids":
        items = with_nulls(ragged(values)[1], missing)
        spelled = cells and pc.all(pc.match_substring_regex(items, WHOLE_INT64)).as_py()
        return Column(name, kind, item="int64" if spelled or pa.types.is_integer(items.type) else "string")
    return Column(name, kind, decimal=decimal)


def _labels(
    sources: Iterable[Source], target: str, split: bool, reading: Reading
) -> Iterator[tuple[Any, bool]]:
    for source in sources:
        form = format_of(source, reading)
        if target not in form.columns(source):
            raise DataError(
                f"{source} has no column {target!r}; {did_you_mean(target, form.columns(source))}"
            )
        for chunk in form.chunks(source, [target]):
            labels = plain(chunk.columns[target])
            if split and is_string(labels.type):
                labels = split_cells(labels, reading.label_separator)
            elif reading.label_separator is not None and len(labels.drop_null()):
                raise UsageError(
                    f"label_separator cuts labels that are texts, and those of {source} are {labels.type}; "
                    "leave it out."
                )
            yield labels, form.untyped or split
