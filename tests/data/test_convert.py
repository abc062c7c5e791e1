"""Every kind: what raw columns become, and which values are refused with which reason."""

import math
from datetime import date, datetime

import pyarrow as pa
import pytest

from widemax.data.convert import convert
from widemax.errors import DataError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([True, False, None]), [1.0, 0.0, None]),
        (pa.array([2**53 + 1, -1]), [float(2**53 + 1), -1.0]),
        (pa.array([1.5], pa.float32()), [1.5]),
        (pa.array([date(1970, 1, 3)]), [2.0]),
        (pa.array([datetime(1970, 1, 1, 0, 1)]), [60.0]),
        (pa.array([" 1.5 ", "-2e3", None]), [1.5, -2000.0, None]),
        (pa.array(["true", "False", "1970-01-03", "1970-01-01T00:01:00", "7"]), [1.0, 0.0, 2.0, 60.0, 7.0]),
        (pa.array(["7", "8"]).dictionary_encode(), [7.0, 8.0]),
        (pa.array([None, None]), [None, None]),
    ],
)
def test_numbers(values, expected):
    floats, reasons = convert(values, kind="number")
    assert floats.type == pa.float64()
    assert floats.to_pylist() == expected
    assert not reasons


def test_bad_numbers():
    reasons = convert(pa.array(["1", "abc", "inf", "nan", "1_0"]), kind="number")[1]
    assert sorted(reasons) == [1, 2, 3, 4]
    assert reasons[1] == "must be a number, got 'abc' (or give the column the kind category)"
    assert reasons[2] == "must be finite, got inf"
    assert convert(pa.array([1.0, math.nan]), kind="number")[1] == {1: "must be finite, got nan"}


def test_text_and_category_are_strings_and_only_text_must_be_there():
    for kind, missing in (("text", {1: "has no value"}), ("category", {})):
        texts, reasons = convert(pa.array(["e\u0301", None, "\u00e9"]), kind=kind)
        assert texts.type == pa.large_string()
        assert texts.to_pylist() == ["e\u0301", None, "\u00e9"]
        assert reasons == missing
    assert convert(pa.array([7, 8]), kind="category")[0].to_pylist() == ["7", "8"]


def test_ids_keep_their_order_and_a_missing_history_is_empty():
    ids, reasons = convert(pa.array([[3, 1, 3], None, []]), kind="ids", item="int64")
    assert ids.type == pa.large_list(pa.int64())
    assert ids.to_pylist() == [[3, 1, 3], [], []]
    assert not reasons
    cells = pa.array(["3 1,3", "[1, 2]", None, "[1", "x"])
    ids, reasons = convert(cells, kind="ids", item="int64")
    assert ids.to_pylist()[:3] == [[3, 1, 3], [1, 2], []]
    assert reasons == {3: "must be a list", 4: "must hold whole numbers, got 'x'"}
    assert convert(cells[:1], kind="ids", item="string")[0].to_pylist() == [["3", "1", "3"]]
    assert convert(pa.array([[1, None]]), kind="ids", item="int64")[1] == {0: "holds a missing id"}


def test_vectors_have_their_width_and_finite_numbers():
    rows = [[1.0, 2.0], [1.0], None, [1.0, math.nan], [1.0, None], [3.0, 4.0], [1e300, 0.0]]
    for values in (pa.array(rows), pa.array(rows)[0:]):
        vectors, reasons = convert(values, kind="vector", width=2)
        assert vectors.type == pa.list_(pa.float32(), 2)
        assert [vectors.to_pylist()[row] for row in (0, 5)] == [[1.0, 2.0], [3.0, 4.0]]
        assert reasons == {
            1: "must hold 2 numbers, got 1",
            2: "has no value",
            3: "must hold finite numbers",
            4: "must hold finite numbers",
            6: "must hold numbers of at most 3e38 in size",
        }
    cells, reasons = convert(pa.array(["1 2", "[3, 4.5]", "5"]), kind="vector", width=2)
    assert cells.to_pylist()[:2] == [[1.0, 2.0], [3.0, 4.5]]
    assert reasons == {2: "must hold 2 numbers, got 1"}


def test_a_slice_of_a_fixed_size_list_is_read_from_its_start():
    values = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, 3.0, 4.0]), 2)[1:]
    assert convert(values, kind="vector", width=2)[0].to_pylist() == [[3.0, 4.0]]


def test_sparse_rows():
    rows = [
        [{"index": 5, "value": 0.5}],
        [],
        [{"index": -1, "value": 1.0}],
        [{"index": 1, "value": math.inf}],
        None,
    ]
    pairs, reasons = convert(pa.array(rows), kind="sparse")
    assert pairs.type == pa.large_list(pa.struct([("index", pa.int64()), ("value", pa.float32())]))
    assert pairs.to_pylist()[:2] == rows[:2]
    assert reasons == {2: "must hold indices of 0 or more", 3: "must hold finite values", 4: "has no value"}
    texts = pa.array(['[{"index": 5, "value": 0.5}]', "oops"])
    assert convert(texts, kind="sparse")[0].to_pylist()[0] == rows[0]
    assert list(convert(texts, kind="sparse")[1]) == [1]


@pytest.mark.parametrize(
    ("values", "kind"), [(pa.array([[1]]), "text"), (pa.array([[1]]), "number"), (pa.array([1]), "ids")]
)
def test_a_type_that_cannot_be_of_the_kind(values, kind):
    with pytest.raises(DataError, match=f"cannot be of kind '{kind}'"):
        convert(values, kind=kind, item="int64")
