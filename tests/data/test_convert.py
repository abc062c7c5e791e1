"""Every kind: what raw columns become, and which values are refused with which reason."""

import math
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pandas
import pyarrow as pa
import pytest

from widemax.data.convert import array_of, convert
from widemax.data.schema import MISSING
from widemax.errors import DataError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([True, False, None]), [1.0, 0.0, None]),
        (pa.array([2**53 + 1, -1]), [float(2**53 + 1), -1.0]),
        (pa.array([1.5], pa.float32()), [1.5]),
        (pa.array([date(1970, 1, 3)]), [172_800.0]),
        (pa.array([date(1970, 1, 3)]).cast(pa.date64()), [172_800.0]),
        (pa.array([time(0, 1, 30)]), [90.0]),
        (pa.array([timedelta(minutes=2)]), [120.0]),
        (pa.array([1.0, math.nan]), [1.0, None]),
        (pa.array([datetime(1970, 1, 1, 0, 1)]), [60.0]),
        (pa.array([" 1.5 ", "-2e3", None]), [1.5, -2000.0, None]),
        (
            pa.array(["true", "False", "1970-01-03", "1970-01-01T00:01:00", "7"]),
            [1.0, 0.0, 172_800.0, 60.0, 7.0],
        ),
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


@pytest.mark.parametrize("kind", ["number", "date"])
def test_dates_and_times_have_one_unit_in_every_type(kind):
    day, moment = date(2024, 1, 31), datetime(2024, 1, 31)
    seconds = moment.replace(tzinfo=UTC).timestamp()
    arrays = [
        pa.array([day]),
        pa.array([day]).cast(pa.date64()),
        *(pa.array([moment]).cast(pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
        pa.array([moment.replace(tzinfo=UTC)]),
        pa.array(["2024-01-31"]),
        pa.array(["2024-01-31 00:00:00"]),
        pa.array(["2024-01-31T01:00:00+01:00"]),
        array_of([day]),
        array_of([moment]),
        array_of([np.datetime64("2024-01-31")]),
        array_of([np.datetime64("2024-01-31T00:00:00", "ns")]),
        array_of([pandas.Timestamp("2024-01-31")]),
        array_of([day, "2024-01-31", np.datetime64("2024-01-31"), moment, pandas.Timestamp("2024-01-31")]),
    ]
    for array in arrays:
        floats, reasons = convert(array, kind=kind)
        assert floats.to_pylist() == [seconds] * len(array)
        assert not reasons


def test_what_is_no_date():
    assert convert(pa.array(["2024", "soon", None]), kind="date")[1] == {
        0: "must be a date or time such as 2024-01-31, got '2024' (or give the column the kind category)",
        1: "must be a date or time such as 2024-01-31, got 'soon' (or give the column the kind category)",
    }


@pytest.mark.parametrize("mark", ["NA", " ? ", "none", "", "-", "N/A", None, math.nan, pandas.NA, pandas.NaT])
def test_missing_is_a_value_of_every_kind(mark):
    for kind, usual in (("number", "7"), ("date", "2024-01-31"), ("category", "red"), ("ids", "3 1")):
        values, reasons = convert(array_of([usual, mark]), kind=kind, item="int64", missing=MISSING)
        assert not reasons
        assert values.to_pylist()[1] == ([] if kind == "ids" else None)
    texts, reasons = convert(array_of(["tea", mark]), kind="text", missing=MISSING)
    assert texts.to_pylist() == ["tea", mark if isinstance(mark, str) else ""]  # a text says what it says
    assert not reasons
    ids, reasons = convert(
        pa.array([["a", mark if isinstance(mark, str) else None]]), kind="ids", missing=MISSING
    )
    assert ids.to_pylist() == [["a"]]
    assert not reasons


def test_the_marks_of_missing_values_are_those_given():
    values = pa.array(["7", "unknown", "NA"])
    floats, reasons = convert(values, kind="number", missing=["Unknown"])
    assert floats.to_pylist()[:2] == [7, None]
    assert list(reasons) == [2]


def test_text_and_category_are_strings():
    for kind, missing in (("text", ""), ("category", None)):
        texts, reasons = convert(pa.array(["e\u0301", None, "\u00e9"]), kind=kind)
        assert texts.type == pa.large_string()
        assert texts.to_pylist() == ["e\u0301", missing, "\u00e9"]
        assert not reasons
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
    assert convert(pa.array([[1, None]]), kind="ids", item="int64")[0].to_pylist() == [[1]]


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


def test_a_whole_number_in_text_is_written_in_one_way():
    cells = ["1 2", "[3, 4]", "01", "0x1", "5 0x5", "-7", "-0", "9007199254740993"]
    converted, reasons = convert(pa.array(cells), kind="ids", item="int64")
    assert set(reasons) == {2, 3, 4, 6}
    assert reasons[4] == "must hold whole numbers, got '0x5'"
    kept = converted.take(pa.array([0, 1, 5, 7])).to_pylist()
    assert kept == [[1, 2], [3, 4], [-7], [2**53 + 1]]


def test_vectors_without_numbers():
    arrow, reasons = convert(pa.array([[], [1.0], None]), kind="vector", width=0)
    assert (len(arrow), arrow.type) == (3, pa.list_(pa.float32(), 0))
    assert reasons == {1: "must hold 0 numbers, got 1", 2: "has no value"}
    assert len(convert(pa.array([], pa.list_(pa.float32())), kind="vector", width=0)[0]) == 0
