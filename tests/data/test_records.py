"""Rows given in Python are read as a JSON Lines file of them would be."""

import json

import pytest

from widemax.data import Column, Dataset, Schema, columns_of
from widemax.errors import DataError

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
        ({"text": None}, "row 1: column 'text' has no value."),
        ({"price": "dear"}, "row 1: column 'price' must be a number, got 'dear'"),
        ({"price": float("inf")}, "row 1: column 'price' must be finite, got inf."),
        ({"seen": ["x"]}, "row 1: column 'seen' must hold whole numbers, got 'x'."),
        ({"features": {"3": 0.5}}, "row 1: column 'features' has no value."),
        ({"text": "\udcff"}, "column 'text' holds half of a surrogate pair"),
    ],
)
def test_a_bad_value_is_named_by_row_and_column(change, sentence):
    with pytest.raises(DataError) as error:
        columns_of(SCHEMA, [ROW, ROW | change])
    assert sentence in str(error.value)


def test_a_row_must_have_every_input():
    with pytest.raises(DataError, match=r"row 1 lacks the input 'price'; it has \['text'\]"):
        columns_of(SCHEMA, [ROW, {"text": "tea"}])


def test_values_of_a_type_the_kind_cannot_hold():
    with pytest.raises(DataError, match="column 'text': values of type struct<a: int64> cannot be of kind"):
        columns_of(SCHEMA, [ROW | {"text": {"a": 1}}])
