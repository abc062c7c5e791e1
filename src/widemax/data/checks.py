"""What is in the data, and what may be wrong with them, before anything is trained.

Letters: B rows of a batch, N rows of all batches, C classes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data.convert import is_list
from widemax.data.dataset import Batch, Dataset
from widemax.data.formats import Reading, Source
from widemax.data.labels import LabelCounter, LabelVocabulary, distinct
from widemax.data.report import ColumnReport, DataReport, ValidReport
from widemax.data.row_keys import count_known, row_keys
from widemax.data.schema import Schema
from widemax.errors import DataError, counted
from widemax.options import checked

_EXAMPLES = 10
_SAMPLE_ROWS = 10_000
_ENOUGH_ROWS = 20  # fewer rows than this prove nothing about a column


@checked
def check(
    sources: Sequence[Source],
    *,
    schema: Schema,
    valid: Sequence[Source] = (),
    format: Reading | str | None = None,  # noqa: A002 - the name of the config key
) -> DataReport:
    """Reads the training and validation files once and reports on them; bad rows are counted, not raised.

    Args:
        sources: the training files.
        schema: as :func:`~widemax.data.infer_schema` gives it, with a target.
        valid: the files for validation or test.
        format: name of a format, to overrule the files' endings; or all that they do not say themselves.

    Raises:
        DataError: a file is damaged, or no row is good.
    """
    if schema.target is None:
        raise DataError("a report needs a target; name the column that holds the labels.")
    train = Dataset(sources, schema, format=format, drop_bad=True)
    counter = LabelCounter()
    missing = {column.name: 0 for column in schema.inputs}
    sample: list[Batch] = []
    keys: list[Any] = []
    lengths: list[np.ndarray] = []
    num_rows = 0
    for batch in train.batches():
        labels, counts_B = _flat(batch)
        counter.update(labels.drop_null())
        lengths.append(counts_B)
        for name, values in batch.columns.items():
            missing[name] += _num_missing(values)
        if num_rows < _SAMPLE_ROWS:
            sample.append(batch)
        if valid:
            keys.append(row_keys(batch.columns))
        num_rows += len(batch)
    if not num_rows:
        raise train.without_rows()
    vocabulary = counter.finish()
    labels_N = np.concatenate(lengths)
    columns = tuple(
        _column_report(
            column.name, column.kind, missing[column.name], [b.columns[column.name] for b in sample]
        )
        for column in schema.inputs
    )
    compared = (
        _compare(Dataset(valid, schema, format=format, drop_bad=True), vocabulary, keys) if valid else None
    )
    return DataReport(
        rows=num_rows,
        columns=columns,
        target=schema.target,
        several=schema.several,
        num_classes=len(vocabulary),
        rows_per_class=(
            int(vocabulary.counts.min()),
            float(np.median(vocabulary.counts)),
            int(vocabulary.counts.max()),
        ),
        classes_seen_once=int((vocabulary.counts == 1).sum()),
        labels_per_row=(int(labels_N.min()), float(labels_N.mean()), int(labels_N.max())),
        num_bad_rows=train.num_bad_rows,
        bad_rows=tuple(train.bad_rows),
        valid=compared,
        notes=tuple(train.told()),
        warnings=tuple(
            [f"{sentence}." for sentence in [*schema.left_out, *train.passed_over(), *vocabulary.warnings()]]
            + [*_warnings(columns, len(vocabulary), int((labels_N == 0).sum()), compared)]
        ),
    )


def _num_missing(values: Any) -> int:
    """How many values are missing, empty texts and histories among them."""
    if pa.types.is_floating(values.type) or isinstance(values, pa.ExtensionArray):
        return int(values.null_count)
    lengths = pc.list_value_length(values) if is_list(values.type) else pc.binary_length(values)
    return int(values.null_count + (pc.sum(pc.equal(lengths, 0)).as_py() or 0))


def _column_report(name: str, kind: str, missing: int, arrays: list[Any]) -> ColumnReport:
    values = pa.chunked_array(arrays)
    if kind in ("text", "category", "number", "date"):
        num_distinct = pc.count_distinct(values, mode="all").as_py()
    else:
        num_distinct = len(pa.chunked_array([row_keys({name: array}) for array in arrays]).unique())
    enough = len(values) >= _ENOUGH_ROWS
    single = kind == "category" or (kind == "text" and not pc.any(pc.match_substring(values, " ")).as_py())
    # A row number: numbers that rise by one.
    whole = kind == "number" and len(values) > 1 and bool((np.diff(values.to_numpy()) == 1).all())
    return ColumnReport(
        name,
        kind,
        missing,
        constant=enough and num_distinct == 1,
        id_like=enough and num_distinct == len(values) and (single or whole),
    )


def _warnings(
    columns: Sequence[ColumnReport], num_classes: int, unlabeled: int, valid: ValidReport | None
) -> Iterator[str]:
    if num_classes == 1:
        yield "all rows have the same label; there is nothing to learn."
    if unlabeled:
        yield f"{counted(unlabeled, 'row')} with an empty list of labels."
    for column in columns:
        if column.constant:
            yield f"column {column.name!r} has the same value in every row; leave it out."
        if column.id_like:
            yield f"column {column.name!r} has another value in every row, like an identifier; leave it out."
    if valid is not None and valid.overlap_rows:
        yield (
            f"{counted(valid.overlap_rows, 'validation row')} with the inputs of a training row; "
            "results will look too good."
        )
    if valid is not None and not valid.rows:
        yield "the validation files have no good row."


def _flat(batch: Batch) -> tuple[Any, np.ndarray]:
    """The labels of all rows, and how many each row has."""
    labels: Any = batch.labels
    if not is_list(labels.type):
        return labels, np.ones(len(batch), np.int64)
    flat, offsets_B1 = distinct(labels)
    return flat, np.diff(offsets_B1)


def _compare(dataset: Dataset, vocabulary: LabelVocabulary, keys: list[Any]) -> ValidReport:
    num_rows = unseen = 0
    valid_keys: list[Any] = []
    examples: dict[str, None] = {}
    for batch in dataset.batches():
        labels = _flat(batch)[0]
        unknown = labels.take(pa.array(np.flatnonzero(vocabulary.encode(labels) < 0)))
        unseen += len(unknown)
        if len(examples) < _EXAMPLES:
            examples.update(dict.fromkeys(map(str, unknown.drop_null()[:1000].to_pylist())))
        valid_keys.append(row_keys(batch.columns))
        num_rows += len(batch)
    overlap = count_known(valid_keys, pa.chunked_array(keys))
    return ValidReport(
        num_rows, dataset.num_bad_rows, tuple(dataset.bad_rows), unseen, tuple(examples)[:_EXAMPLES], overlap
    )
