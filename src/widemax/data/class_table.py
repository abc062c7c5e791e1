"""What is known of the classes beside their rows: a table with a row a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data.dataset import Dataset
from widemax.data.formats import Reading, Source, format_of
from widemax.data.labels import LabelVocabulary
from widemax.data.schema import USUAL_TARGETS, Column, Schema, infer_schema
from widemax.errors import DataError, UsageError, shown


@dataclass(frozen=True)
class ClassTable:
    """Labels with what is known of each.

    Attributes:
        schema: the column of labels as target, all others as inputs; a column of texts alone is both.
        labels: Arrow array [N], each label once.
        columns: input name → Arrow array [N + 1] in the canonical type of its kind; the last row is nothing.
    """

    schema: Schema
    labels: Any
    columns: dict[str, Any]

    @classmethod
    def read(cls, sources: Sequence[Source], schema: Schema, reading: Reading | None = None) -> "ClassTable":
        """The rows of some files or frames.

        Raises:
            DataError: there are none, or a label stands there twice.
        """
        dataset = Dataset(sources, schema, format=reading)
        batches = list(dataset.batches())
        if not batches:
            raise dataset.without_rows()
        labels = pa.concat_arrays([batch.labels for batch in batches])
        counts = pc.value_counts(labels)
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            raise DataError(
                f"a table must name each label once; {shown(twice[0].as_py())} stands more than once in "
                f"column {schema.target!r}, as do {len(twice) - 1:,} others."
            )
        columns = {
            column.name: pa.concat_arrays([*(b.columns[column.name] for b in batches), column.nothing()])
            for column in schema.inputs
        }
        return cls(schema, labels, columns)

    def of(self, labels: Any) -> dict[str, Any]:
        """The columns of these labels; nothing for those that are not in the table.

        Example:
            >>> schema = Schema((Column("name", "text"),), "id")
            >>> table = ClassTable(schema, pa.array(["a", "b"]), {"name": pa.array(["ant", "bee", ""])})
            >>> table.of(pa.array(["b", "c"]))["name"].to_pylist()
            ['bee', '']
        """
        rows = LabelVocabulary(self.labels, np.zeros(len(self.labels), np.int64)).encode(labels)
        rows[rows < 0] = len(self.labels)
        return {name: column.take(pa.array(rows)) for name, column in self.columns.items()}


def infer_class_schema(
    sources: Sequence[Source], *, target: str, target_type: str, reading: Reading | None = None
) -> Schema:
    """Which columns of a table of classes mean what.

    The labels stand in the column with the name of the target or a usual one such as "label", otherwise in
    the first; all others are inputs. Labels that stand alone are texts about themselves.

    Raises:
        UsageError: labels that stand alone and are no texts.
    """
    names = list(format_of(sources[0], reading).columns(sources[0]))
    label = next((name for name in (target, *USUAL_TARGETS) if name in names), names[0])
    others = [name for name in names if name != label]
    if others:
        inferred = infer_schema(sources, inputs=others, target=label, format=reading)
        return Schema(inferred.inputs, label, target_type=target_type)
    if not target_type.endswith("string"):
        raise UsageError(
            f"a tower makes class weights of what is known of the classes, but the labels are {target_type} "
            "and nothing else is: name a table of them with their names (--classes)."
        )
    return Schema((Column(label, "text"),), label, target_type=target_type)
