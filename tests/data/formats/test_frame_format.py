"""A frame in memory is read as a Parquet file of it would be, whichever library made it."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from widemax.data import Column, Dataset, Frame, Schema, check, infer_schema, resolve
from widemax.errors import ArgumentError, BadRowError, DataError, UsageError

COLUMNS = {
    "text": ["a red thing", "a blue thing", "red and blue"] * 4,
    "price": [1.5, None, 3.0] * 4,
    "history": [[1, 2], [], [3]] * 4,
    "label": ["red", "blue", "red"] * 4,
}


class Capsules:
    """A frame of no known library: nothing but Arrow's stream."""

    def __init__(self, columns):
        self.table = pa.table(columns)

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def polars_frame(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def chunked(columns):
    table = pa.table(columns)
    return pa.concat_tables([table.slice(0, 5), table.slice(5, 1), table.slice(6)])


MAKERS = [pd.DataFrame, polars_frame, pa.table, pa.record_batch, chunked, Capsules]


@pytest.mark.parametrize("make", MAKERS)
def test_a_frame_is_read_as_its_file(make, tmp_path):
    pq.write_table(pa.table(COLUMNS), tmp_path / "a.parquet")
    (frame,) = resolve(make(COLUMNS))
    schema = infer_schema([tmp_path / "a.parquet"])
    assert infer_schema([frame]) == schema
    (expected,) = Dataset([tmp_path / "a.parquet"], schema).batches()
    (batch,) = Dataset([frame], schema).batches()
    assert batch.columns == expected.columns
    assert batch.labels == expected.labels
    assert batch.rows_B.tolist() == list(range(12))


@pytest.mark.parametrize("make", MAKERS)
def test_frames_and_files_mix(make, tmp_path):
    pq.write_table(pa.table(COLUMNS), tmp_path / "a.parquet")
    sources = resolve([make(COLUMNS), tmp_path / "a.parquet", str(tmp_path / "*.parquet")])
    dataset = Dataset(sources, infer_schema(sources))
    assert sum(map(len, dataset.batches(5))) == 36
    assert resolve(sources) == sources


@pytest.mark.parametrize("categories", [pa.string(), pa.string_view()])
def test_categories_and_views_are_texts(categories):
    texts = pa.array(COLUMNS["label"], categories)
    table = pa.table({"x": texts, "label": texts.cast(pa.string()).dictionary_encode()})
    (frame,) = resolve(table)
    (batch,) = Dataset([frame], infer_schema([frame])).batches()
    assert batch.columns["x"].to_pylist() == batch.labels.to_pylist() == COLUMNS["label"]


def test_an_index_of_pandas_is_no_column():
    frame = pd.DataFrame(COLUMNS)
    for indexed in (frame[frame["price"].isna()], frame.set_index(pd.Index(range(5, 17), name="number"))):
        (source,) = resolve(indexed)
        assert source.columns(source) == list(COLUMNS)


def test_the_fingerprint_follows_the_values_and_not_the_chunks():
    schema = Schema((Column("text", "text"),), "label")

    def fingerprint(*frames):
        return Dataset(resolve(list(frames)), schema).fingerprint()

    whole = fingerprint(pa.table(COLUMNS))
    assert fingerprint(chunked(COLUMNS)) == whole
    assert fingerprint(Capsules(COLUMNS)) == whole
    assert fingerprint(pd.DataFrame(COLUMNS)) == fingerprint(pd.DataFrame(COLUMNS))
    others = [
        COLUMNS | {"label": ["red", "blue", "blue"] * 4},
        COLUMNS | {"price": [1.5, None, None] * 4},
        {"other" if name == "price" else name: values for name, values in COLUMNS.items()},
    ]
    assert len({whole, *(fingerprint(pa.table(other)) for other in others)}) == 4
    encoded = [pa.table({"text": pa.array(texts).dictionary_encode()}) for texts in (["a", "b"], ["a", "c"])]
    assert fingerprint(encoded[0]) != fingerprint(encoded[1])


def test_a_bad_row_is_named_as_python_counts():
    (frame,) = resolve(pa.table({"x": [1.0, float("inf"), 2.0], "label": ["x", "y", "x"]}))
    dataset = Dataset([frame], infer_schema([frame]))
    with pytest.raises(BadRowError, match=re.escape("<memory>:row 1: column 'x' must be finite")):
        list(dataset.batches())
    report = check([frame], schema=dataset.schema)
    assert (report.rows, report.num_bad_rows) == (2, 1)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (3, ArgumentError, "data must be a path, a glob, the name of a data set, a frame"),
        ({"a": [1]}, ArgumentError, "got {'a': [1]}. Make a frame of your rows"),
        (["clinc150", None], ArgumentError, "got None."),
        (np.zeros((2, 2)), ArgumentError, "got a ndarray of shape (2, 2)"),
        (pd.Series(["a"]), DataError, "a Series is one column; make it a frame, as to_frame(name) does"),
        (pa.chunked_array([["a"]]), DataError, "this ChunkedArray cannot be read as named columns"),
        (pd.DataFrame({"a": ["x", 1]}), DataError, "Conversion failed for column a"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), DataError, "Duplicate column names"),
        (pa.table([[1], [2]], names=["a", "a"]), DataError, r"the frame names ['a'] more than once"),
        ("<memory>", UsageError, "give them again, as in resume(run, data=frame, valid=frame)"),
    ],
)
def test_what_is_no_frame_is_refused_in_a_sentence(data, error, message):
    with pytest.raises(error, match=re.escape(message)):
        resolve(data)


def test_a_column_that_is_not_there_is_named():
    frame = Frame.of(pa.table({"txt": ["a"], "label": ["x"]}))
    with pytest.raises(DataError, match="<memory> has no column 'text'; did you mean 'txt'"):
        list(Dataset([frame], Schema((Column("text", "text"),), "label")).batches())
