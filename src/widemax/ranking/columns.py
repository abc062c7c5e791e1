"""Columns of items or of users as numbers.

Shapes: M rows of the table, G numbers of each, N keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.artifact.tables import read_table
from widemax.data import (
    Dataset,
    LabelVocabulary,
    Reading,
    Source,
    convert_labels,
    format_of,
    infer_schema,
    plain,
)
from widemax.errors import CorruptError, DataError, UsageError
from widemax.storage import sound

MOST_VALUES, LEAST_ROWS = 30, 5
"""Of a category so many of the most frequent values, each in so many rows, have a number of their own."""
KINDS = ("number", "date", "category")
KEY = "key"


@dataclass(frozen=True, eq=False)
class Columns:
    """Numbers about items or users: 0 is the mean, and what is said of those whom the table does not hold.

    A number or date x is told as itself and as sign(x) log(1 + |x|), both with mean 0 and deviation 1, with
    a third number where it is missing. Each frequent value of a category is 1 where it holds.

    Args:
        keys: the items or users, each once.
        names: of the numbers.
        values_MG: float32.
        told: sentences about columns that are left out.
    """

    keys: LabelVocabulary
    names: tuple[str, ...]
    values_MG: np.ndarray
    told: tuple[str, ...] = ()

    @classmethod
    def read(cls, sources: list[Source], key: str, *, format: Reading) -> Self:  # noqa: A002 - as in data
        """The columns of files or frames beside the one of the items or users.

        Raises:
            UsageError: there is no such column, or none beside it that can be used.
            DataError: a row cannot be read, or an item or user stands in two.
        """
        names = [name for name in format_of(sources[0], format).columns(sources[0]) if name != key]
        schema = infer_schema(sources, inputs=names, target=key, format=format) if names else None
        used = [column for column in schema.inputs if column.kind in KINDS] if schema else []
        if schema is None or schema.several or not used:
            raise UsageError(
                f"{sources[0]} must have one {key!r} a row, and beside it a column of numbers, dates or "
                f"categories; got the columns {[key, *names]}."
            )
        told = tuple(
            f"column {column.name!r} is left out: {column.kind} is no number and no category"
            for column in schema.inputs
            if column not in used
        )
        schema = replace(schema, inputs=tuple(used))
        batches = list(Dataset(sources, schema, format=format).batches())
        keys = plain(pa.chunked_array([batch.labels for batch in batches]))
        counts = pc.value_counts(keys)
        often = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(often):
            raise DataError(
                f"{key} {often[0]['values'].as_py()!r} stands in {often[0]['counts'].as_py()} rows of "
                f"{sources[0]}; it must stand in one."
            )
        named: list[tuple[str, np.ndarray]] = []
        for column in used:
            values = plain(pa.chunked_array([batch.columns[column.name] for batch in batches]))
            named += _numbers(column.name, column.kind, values)
        if not named:
            raise UsageError(
                f"the columns of {sources[0]} say nothing: each has one value, or another in every row."
            )
        values_MG = np.stack([values_M for _, values_M in named], axis=1).astype(np.float32)
        vocabulary = LabelVocabulary(keys, np.ones(len(keys), np.int64))
        return cls(vocabulary, tuple(name for name, _ in named), values_MG, told)

    def of(self, keys: Any) -> np.ndarray:
        """[N, G] the numbers of some items or users, an Arrow array of any type; a null is nobody."""
        typed, _ = convert_labels(keys, type_name=str(self.keys.labels.type), several=False)
        at_N = self.keys.encode(typed)
        return np.where(at_N[:, None] >= 0, self.values_MG[at_N], np.float32(0))

    def to_table(self) -> pa.Table:
        """A table of the keys and of a column for each number."""
        return pa.table([self.keys.labels, *self.values_MG.T], names=[KEY, *self.names])

    @classmethod
    def load(cls, path: Path) -> Self:
        """The inverse of :meth:`to_table`.

        Raises:
            CorruptError: the file holds something else.
        """
        with sound(path):
            table = read_table(path)
            keys, names = plain(table[KEY]), tuple(table.column_names[1:])
            if (
                table.column_names[0] != KEY
                or keys.null_count
                or pc.count_distinct(keys).as_py() != len(keys)
            ):
                raise CorruptError("its first column must hold distinct keys")
            if set(table.schema.types[1:]) != {pa.float32()}:
                raise CorruptError("its columns beside the keys must hold numbers")
            values_MG = np.stack([np.array(table[name]) for name in names], axis=1)
            if not np.isfinite(values_MG).all():
                raise CorruptError("it holds values that are not finite")
        return cls(LabelVocabulary(keys, np.ones(len(keys), np.int64)), names, values_MG)


def _numbers(name: str, kind: str, values: Any) -> Iterator[tuple[str, np.ndarray]]:
    if kind == "category":
        counts = pc.value_counts(values.drop_null())
        order = pc.array_sort_indices(counts.field("counts"), order="descending")[:MOST_VALUES]
        for value, count in ((counts[at.as_py()]["values"], counts[at.as_py()]["counts"]) for at in order):
            if LEAST_ROWS <= count.as_py() < len(values):
                same = pc.fill_null(pc.equal(values, value), False)
                yield f"{name} = {value}", same.to_numpy(zero_copy_only=False)
        return
    floats_M = values.to_numpy(zero_copy_only=False)
    known_M = np.isfinite(floats_M)
    forms = {name: floats_M, f"log {name}": np.sign(floats_M) * np.log1p(np.abs(floats_M))}
    for form, number_M in forms.items():
        deviation = float(np.std(number_M[known_M])) if known_M.any() else 0.0
        if deviation > 0:
            yield form, np.where(known_M, (number_M - np.mean(number_M[known_M])) / deviation, 0.0)
    if not known_M.all():
        yield f"no {name}", ~known_M
