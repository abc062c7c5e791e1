"""Rows given in Python are read as a JSON Lines file of them would be."""

import json

import numpy as np
import pytest

from widemax.data import Column, Dataset, Schema, columns_of, good_rows, records_of
from widemax.errors import ArgumentError, DataError

SCHEMA = Schema(
    (
        Column("text", "text"),
        Column("price", "number"),
        Column("color", "category"),
        Column("seen", "ids", item="int64"),
        Column("features", "sparse"),
    ),
    target=None,
)
ROW = {"text": "tea", "price": 1.5, "color": "red", "seen": [1, 2], "features": [{"index": 3, "value": 0.5}]}


@pytest.mark.parametrize(
    "rows",
    [
        [ROW],
        [ROW | {"color": None, "price": None, "seen": None}],
        [ROW | {"seen": [], "features": []}],
        [ROW, ROW | {"color": 4, "price": "2", "seen": ["3", 4], "text": 7, "other": 1}],
    ],
)
def test_rows_agree_with_a_file(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (batch,) = Dataset([path], SCHEMA).batches()
    columns = columns_of(SCHEMA, rows)
    assert columns == batch.columns
    assert [values.type for values in columns.values()] == [v.type for v in batch.columns.values()]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"price": "dear"}, "row 1: column 'price' must be a number, got 'dear'"),
        ({"price": float("inf")}, "row 1: column 'price' must be finite, got inf."),
        ({"seen": ["x"]}, "row 1: column 'seen' must hold whole numbers, got 'x'."),
        ({"features": {"3": 0.5}}, "row 1: column 'features' has no value."),
        ({"text": "\udcff"}, "column 'text' holds half of a surrogate pair"),
        (
            {"text": object()},
            "column 'text' cannot be read: values must be texts, numbers, dates, booleans, arrays or lists",
        ),
        (
            {"price": 1j},
            "column 'price' cannot be read: values must be texts, numbers, dates, booleans, arrays or lists",
        ),
    ],
)
def test_a_bad_value_is_named_by_row_and_column(change, sentence):
    with pytest.raises(DataError) as error:
        columns_of(SCHEMA, [ROW, ROW | change])
    assert sentence in str(error.value)


def test_a_row_must_have_every_input():
    with pytest.raises(DataError, match=r"row 1: the row lacks the input 'price'; it has \['text'\]"):
        columns_of(SCHEMA, [ROW, {"text": "tea"}])


def test_a_value_that_mixes_with_no_other_takes_no_other_along():
    bad = [{"a": 1}, [[1]], object(), "\ud800", 7]
    rows = [{"text": value, "x": value} for value in ("tea", *bad, "ink")]
    schema = Schema((Column("text", "text"), Column("x", "category")), target=None)
    columns, reasons = good_rows(schema, rows)
    assert {3, 4} <= set(reasons)
    assert columns["text"].to_pylist()[0] == columns["x"].to_pylist()[0] == "tea"
    assert columns["text"].to_pylist()[-1] == columns["x"].to_pylist()[-1] == "ink"
    assert len(columns["text"]) == len(rows) - len(reasons)


def test_values_of_a_type_the_kind_cannot_hold():
    with pytest.raises(
        DataError, match="'text' cannot be read: values of type struct<a: int64> cannot be of kind"
    ):
        columns_of(SCHEMA, [ROW | {"text": {"a": 1}}])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_numpy_arrays_are_vectors_and_images(dtype):
    numbers = np.arange(12, dtype=dtype)
    schema = Schema((Column("v", "vector", width=12), Column("i", "image", shape=(2, 6, 1))), target=None)
    columns = columns_of(schema, [{"v": numbers, "i": numbers.reshape(2, 6)}] * 2)
    assert columns["v"].to_pylist() == [numbers.tolist()] * 2
    assert columns["i"].storage.to_pylist() == [numbers.tolist()] * 2
    with pytest.raises(DataError, match="row 0: column 'v' must hold 12 numbers, got 11"):
        columns_of(schema, [{"v": numbers[1:], "i": numbers.reshape(2, 6)}])


TEXT = Schema((Column("text", "text"),), target=None)


@pytest.mark.parametrize(
    ("rows", "records"),
    [
        (ROW, [ROW]),
        ([ROW, ROW], [ROW, ROW]),
        (["tea", {"text": "ink"}], [{"text": "tea"}, {"text": "ink"}]),
        (np.array(["tea", "ink"]), [{"text": "tea"}, {"text": "ink"}]),
        (("tea",), [{"text": "tea"}]),
        ([], []),
    ],
)
def test_rows_may_be_one_or_many_mappings_or_texts(rows, records):
    assert records_of(TEXT, rows) == records


@pytest.mark.parametrize(
    ("schema", "rows", "sentence"),
    [
        (
            TEXT,
            "tea",
            "rows must be a frame, or a list whose rows are each a mapping with the columns ['text']",
        ),
        (TEXT, 5, "got int"),
        (TEXT, None, "got NoneType"),
        (TEXT, iter(["tea"]), "got list_iterator"),
        (TEXT, ["tea", 5], "row 1 must be a mapping with the columns ['text'] or a text; got int."),
        (TEXT, np.zeros((2, 2)), "row 0 must be a mapping with the columns ['text'] or a text; got ndarray."),
        (SCHEMA, ["tea"], "'features']; got str."),
    ],
)
def test_other_rows_are_refused_in_a_sentence(schema, rows, sentence):
    with pytest.raises(ArgumentError) as error:
        records_of(schema, rows)
    assert sentence in str(error.value)


def test_missing_values_and_empty_texts():
    columns = columns_of(
        SCHEMA, [ROW | {"text": None, "price": float("nan")}, ROW | {"text": "", "price": None}]
    )
    assert columns["text"].to_pylist() == ["", ""]
    assert columns["price"].to_pylist() == [None, None]
    only_text = Schema((Column("text", "text"),), target=None)
    assert columns_of(only_text, records_of(only_text, ["", None]))["text"].to_pylist() == ["", ""]
