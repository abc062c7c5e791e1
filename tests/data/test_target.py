"""Labels come back as they were given: the type of the target is decided over all rows."""

import json
from datetime import date, datetime

import pyarrow as pa
import pytest

from widemax.data import Dataset, infer_schema
from widemax.data.target import common_type, convert_labels
from widemax.errors import DataError


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        (["1", "-2", "0"], "int64"),
        (["007", "8"], "large_string"),
        (["+1"], "large_string"),
        (["-0"], "large_string"),
        (["9" * 30], "large_string"),
        (["1.5", "2", "-0.25", "3.0"], "double"),
        (["1.50"], "large_string"),
        (["true", "False"], "bool"),
        (["2024-02-29"], "date32[day]"),
        (["2024-02-30"], "large_string"),
        (["1", "x"], "large_string"),
        (["1", None], "int64"),
        (["1", "true"], "large_string"),
    ],
)
def test_cells_get_a_type_only_if_it_prints_like_them(cells, name):
    assert common_type([(pa.array(cells), True)]) == (name, False)
    assert common_type([(pa.array([cell], pa.string()), True) for cell in cells]) == (name, False)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ([pa.array(["1"])], ("large_string", False)),
        ([pa.array([1], pa.int8()), pa.array([2], pa.uint16())], ("int64", False)),
        ([pa.array([2**64 - 1], pa.uint64())], ("uint64", False)),
        ([pa.array([1]), pa.array([1.5])], ("double", False)),
        ([pa.array([1]), pa.array(["x"])], ("large_string", False)),
        ([pa.array([True])], ("bool", False)),
        ([pa.array([date(2024, 1, 1)])], ("date32[day]", False)),
        ([pa.array([datetime(2024, 1, 1)])], ("timestamp[us]", False)),
        ([pa.array(["x"]).dictionary_encode()], ("large_string", False)),
        ([pa.array([[1, 2], []])], ("int64", True)),
        ([pa.array([1]), pa.array([[1]])], ("int64", True)),
        ([pa.array([None]), pa.array([1])], ("int64", False)),
    ],
)
def test_typed_labels_keep_their_type(arrays, expected):
    assert common_type([(array, False) for array in arrays]) == expected


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([None]), "no value in any row"),
        (pa.array([{"a": 1}]), "labels must be strings, numbers"),
        (pa.FixedSizeListArray.from_arrays(pa.array([1, 0]), 2), "is a matrix"),
    ],
)
def test_what_cannot_be_a_label(array, message):
    with pytest.raises(DataError, match=message):
        common_type([(array, False)])


def test_labels_are_cast_and_one_that_cannot_be_was_never_seen():
    labels, reasons = convert_labels(pa.array(["3", "new", None, ""]), type_name="int64", several=False)
    assert labels.to_pylist()[:2] == [3, None]
    assert reasons == {2: "the label is missing", 3: "the label is missing"}
    labels, reasons = convert_labels(pa.array([1.0, 2.5, float("nan")]), type_name="int64", several=False)
    assert labels.to_pylist()[:2] == [1, None]
    assert reasons == {2: "the label is missing"}
    assert convert_labels(pa.array([7]), type_name="large_string", several=False)[0].to_pylist() == ["7"]


def test_several_labels():
    rows = pa.array([["a", "b"], [], None, ["a", None], [""]])
    labels, reasons = convert_labels(rows, type_name="large_string", several=True)
    assert labels.type == pa.list_(pa.large_string())
    assert labels.to_pylist()[:2] == [["a", "b"], []]
    assert reasons == {
        2: "the label is missing",
        3: "a label of the list is missing",
        4: "a label of the list is missing",
    }
    assert convert_labels(pa.array([4]), type_name="int64", several=True)[0].to_pylist() == [[4]]
    with pytest.raises(DataError, match="one label a row is expected"):
        convert_labels(rows, type_name="large_string", several=False)


@pytest.mark.parametrize(
    ("type_name", "texts", "labels"),
    [
        ("int64", ["1", "01", "0x1", " 1", "+1", "1.0", "-0", "-7"], [1, *[None] * 6, -7]),
        ("uint64", ["18446744073709551615", "0x1", "01"], [2**64 - 1, None, None]),
        ("int64", ["9007199254740993", "9223372036854775807"], [2**53 + 1, 2**63 - 1]),
        (
            "double",
            ["0.1234567890123", "1", "1.50", "1e2", "01", "0x1", "nan"],
            [0.1234567890123, 1, 1.5, 100, *[None] * 3],
        ),
        ("bool", ["true", "False", "1", "TRUE"], [True, False, None, None]),
        ("date32[day]", ["2024-02-29", "20240229", "2023-02-29"], [date(2024, 2, 29), None, None]),
    ],
)
def test_a_text_that_nobody_writes_for_a_label_was_never_seen(type_name, texts, labels):
    assert convert_labels(pa.array(texts), type_name=type_name, several=False)[0].to_pylist() == labels
    lists = convert_labels(pa.array([texts, texts[:1]]), type_name=type_name, several=True)[0]
    assert lists.to_pylist() == [labels, labels[:1]]


def test_lists_beside_single_labels_are_lists(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"x": "a b c", "label": label} for label in ([1, 2], 3, [], [2])] * 3
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    schema = infer_schema([path])
    assert (schema.several, schema.target_type) == (True, "int64")
    labels = [label for batch in Dataset([path], schema).batches() for label in batch.labels.to_pylist()]
    assert labels == [[1, 2], [3], [], [2]] * 3
