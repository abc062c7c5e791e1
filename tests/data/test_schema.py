"""Kinds and targets are guessed from the data, and can be forced."""

import json
import re
from itertools import cycle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from widemax.data import Batch, Dataset, Reading, columns_of
from widemax.data.formats import Frame
from widemax.data.schema import MISSING, Column, Schema, infer_schema
from widemax.errors import DataError, UsageError


def kinds(schema):
    return {column.name: column.kind for column in schema.inputs}


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "a.csv"
    lines = ["note,color,age,born,on,empty,ids,label"]
    lines += [
        f"a longer remark {n},{color},{n % 3},2024-01-0{n},{flag},,{n} {n},{n % 2}"
        for n, color, flag in zip(
            range(1, 10), cycle(["red", "blue"]), cycle(["true", "false"]), strict=False
        )
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_kinds_of_csv_columns(csv):
    schema = infer_schema([csv])
    assert kinds(schema) == {
        "note": "text",
        "color": "category",
        "age": "number",
        "born": "date",
        "on": "number",
        "ids": "ids",
    }
    assert (schema.target, schema.several, schema.target_type) == ("label", False, "int64")
    assert schema.left_out == (
        "column 'empty' is left out: it has no value in any row (name the inputs to keep it)",
    )


def test_kinds_can_be_forced_and_columns_chosen(csv):
    schema = infer_schema(
        [csv], inputs=["ids", "age"], target="color", kinds={"ids": "ids", "age": "category"}
    )
    assert schema.inputs == (
        Column("ids", "ids", item="int64", missing=MISSING),
        Column("age", "category", missing=MISSING),
    )
    assert schema.target == "color"
    assert infer_schema([csv], inputs=["ids"], kinds={"ids": "vector"}).inputs[0].width == 2
    several = infer_schema([csv], inputs=["age"], target="ids", kinds={"ids": "ids"})
    assert (several.several, several.target_type) == (True, "int64")


def test_labels_are_cut_where_their_separator_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('x,y\nab,red; dark blue\ncd,red\nef,"[""red"", ""a;b""]"\n', encoding="utf-8")
    reading = Reading(label_separator=";")
    schema = infer_schema([path], target="y", format=reading)
    assert (schema.several, schema.target_type) == (True, "large_string")
    for read in (schema, Schema.from_dict(schema.to_dict())):
        [batch] = Dataset([path], read, format=reading).batches(9)
        assert batch.labels.to_pylist() == [["red", "dark blue"], ["red"], ["red", "a;b"]]
    assert not infer_schema([path], target="y").several
    with pytest.raises(UsageError, match=r"label_separator cuts labels that are texts, and .* int64"):
        infer_schema([Frame(pa.table({"x": ["a"], "y": [1]}))], target="y", format=reading)


def test_labels_of_csv_that_are_json_lists_are_several(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('x,y\na b,"[""tea"", ""green tea""]"\nb c,[]\nc d,"[""tea""]"\n', encoding="utf-8")
    schema = infer_schema([path])
    assert schema.several
    [batch] = Dataset([path], schema).batches(9)
    assert batch.labels.to_pylist() == [["tea", "green tea"], [], ["tea"]]


def test_most_cells_decide_whether_a_csv_column_is_numeric(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "1,a\n" * 19 + "abc,b\n", encoding="utf-8")
    assert kinds(infer_schema([path])) == {"x": "number"}
    path.write_text("x,y\n" + "1,a\n" * 5 + "abc,b\n", encoding="utf-8")
    assert kinds(infer_schema([path])) == {"x": "category"}


def test_nested_types_map_to_kinds(tmp_path):
    columns = {
        "ids": pa.array([["a"], []]),
        "history": pa.array([[1, 2], None], pa.list_(pa.int32())),
        "vector": pa.array([[1.0, 2.0], [3.0, 4.0]]),
        "fixed": pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4], pa.uint8()), 2),
        "sparse": pa.array([[{"index": 1, "value": 0.5}], []]),
        "flag": pa.array([True, None]),
        "labels": pa.array([["x", "y"], ["x"]]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    schema = infer_schema([tmp_path / "a.parquet"], target="labels")
    assert schema.inputs == (
        Column("ids", "ids", item="string", missing=MISSING),
        Column("history", "ids", item="int64", missing=MISSING),
        Column("vector", "vector", width=2),
        Column("fixed", "vector", width=2),
        Column("sparse", "sparse"),
        Column("flag", "number", missing=MISSING),
    )
    assert schema.several
    assert schema.target_type == "large_string"
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_the_width_of_a_vector_is_that_of_most_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"v": [0.5] * (3 if n else 2), "y": n} for n in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert infer_schema([path]).inputs == (Column("v", "vector", width=3),)


def test_the_target_is_typed_over_every_row_of_every_file(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("x,label\n" + "1,2\n" * 12_000, encoding="utf-8")
    second.write_text("x,label\n1,x\n", encoding="utf-8")
    assert infer_schema([first]).target_type == "int64"
    assert infer_schema([first, second]).target_type == "large_string"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "lable"}, "has no column 'lable'; did you mean 'label'?"),
        ({"inputs": ["nota"]}, "has no column 'nota'; did you mean 'note'?"),
        ({"kinds": {"agee": "number"}}, "has no column 'agee'; did you mean 'age'?"),
        (
            {"kinds": {"age": "numbers"}},
            "kind 'numbers' of column 'age' does not exist; did you mean 'number'?",
        ),
        ({"inputs": ["label"]}, "column 'label' is the target and cannot be an input"),
    ],
)
def test_names_that_do_not_exist(csv, options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        infer_schema([csv], **options)


def test_no_usual_target_lists_the_columns(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, X=np.zeros((3, 2)), Y=np.arange(3))
    assert infer_schema([path]).target == "Y"  # upper or lower case
    np.savez(path, X=np.zeros((3, 2)), group=np.arange(3))
    with pytest.raises(UsageError, match=re.escape("none of the columns ['X', 'group']")):
        infer_schema([path])


def test_only_a_target_or_no_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("label\n1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no column but the target"):
        infer_schema([path])
    path.write_text("x,label\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no readable rows"):
        infer_schema([path])
    path = tmp_path / "a.xyz"
    path.write_text("x,label\n1,2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="ending of no known format"):
        infer_schema([path])
    assert infer_schema([path], format="csv").target == "label"


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_a_decimal_comma_is_understood(tmp_path, delimiter):
    path = tmp_path / "a.csv"
    cells = ["3,5", "-0,25", ",5", "1,25e2", "7", "", "8.5"] * 3
    quoted = [f'"{cell}"' if cell else "" for cell in cells]
    lines = [f"{cell}{delimiter}{'ab'[at % 2]}" for at, cell in enumerate(quoted)]
    path.write_text(f"x{delimiter}label\n" + "\n".join(lines), encoding="utf-8")
    schema = infer_schema([path])
    assert schema.inputs[0] == Column("x", "number", decimal=",", missing=MISSING)
    batch = Batch.concatenate(list(Dataset([path], Schema.from_dict(schema.to_dict())).batches()))
    assert batch.columns["x"].to_pylist() == [3.5, -0.25, 0.5, 125.0, 7.0, None, 8.5] * 3
    assert columns_of(schema, [{"x": "2,5"}, {"x": 2.5}])["x"].to_pylist() == [2.5, 2.5]


@pytest.mark.parametrize("cells", [["1,234", "12,345"], ["red, one", "3,5"], ["1,2,3", "3,5"]])
def test_commas_that_are_no_decimal_ones(tmp_path, cells):
    path = tmp_path / "a.csv"
    path.write_text("x;label\n" + "\n".join(f"{cell};a" for cell in cells * 10), encoding="utf-8")
    assert infer_schema([path]).inputs[0].kind != "number"


@pytest.mark.parametrize("mark", ["NA", "?", "None", "null", "-", ""])
def test_marks_of_missing_values_leave_a_column_its_kind(tmp_path, mark):
    path = tmp_path / "a.csv"
    lines = [
        f"{mark if n % 3 else n},{mark if n % 4 else f'2024-01-{n % 28 + 1:02}'},{'ab'[n % 2]}"
        for n in range(60)
    ]
    path.write_text("age,when,label\n" + "\n".join([*lines, ""]), encoding="utf-8")
    schema = infer_schema([path])
    assert kinds(schema) == {"age": "number", "when": "date"}
    (batch,) = Dataset([path], Schema.from_dict(json.loads(json.dumps(schema.to_dict())))).batches()
    assert (batch.columns["age"].null_count, batch.columns["when"].null_count) == (40, 45)


def test_the_marks_of_missing_values_can_be_set(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("age,label\n" + "7,a\nunknown,b\n" * 10, encoding="utf-8")
    assert kinds(infer_schema([path])) == {"age": "category"}
    assert kinds(infer_schema([path], format=Reading(missing=("unknown",)))) == {"age": "number"}


def test_dates_in_strings_of_any_file_are_dates(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"when": f"2024-01-{n + 1:02}", "at": f"2024-01-{n + 1:02}T10:00:00", "y": n % 2} for n in range(9)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert kinds(infer_schema([path])) == {"when": "date", "at": "date"}


def test_a_column_is_empty_only_if_it_is_so_in_every_row_of_every_file(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("x,late,later,never,label\n" + "1,,NA,,a\n" * 11_000 + "2,7,,-,b\n", encoding="utf-8")
    second.write_text("x,late,later,never,label\n1,,5,null,a\n", encoding="utf-8")
    schema = infer_schema([first, second])
    assert kinds(schema) == {"x": "number", "late": "number", "later": "number"}
    assert "column 'never' is left out: it has no value" in schema.left_out[0]
    assert kinds(infer_schema([first], inputs=["x", "never"])) == {"x": "number", "never": "number"}
    first.write_text("never,label\n" + ",a\n" * 9, encoding="utf-8")
    assert kinds(infer_schema([first])) == {"never": "number"}  # there must be an input


def test_identifiers_are_left_out_unless_they_are_named(tmp_path):
    path = tmp_path / "a.csv"
    rng = np.random.default_rng(0)
    numbers = rng.permutation(10**6)[:200]
    lines = [
        f"{n},TCK-{numbers[n]},{numbers[n]},{200 - n},{rng.normal()},{n % 90},word{'abcdef'[n % 6]},{n % 2}"
        for n in range(200)
    ]
    path.write_text(
        "row,ticket,userId,rank,size,age,name,label\n" + "\n".join([*lines, ""]), encoding="utf-8"
    )
    schema = infer_schema([path])
    assert list(kinds(schema)) == ["size", "age", "name"]
    assert [sentence.split("'")[1] for sentence in schema.left_out] == ["row", "ticket", "userId", "rank"]
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    assert list(kinds(infer_schema([path], inputs=["userId", "size"]))) == ["userId", "size"]
    assert "row" in kinds(infer_schema([path], kinds={"row": "number"}))


@pytest.mark.parametrize("values", [range(50), [n * 37 for n in range(300)], [n / 3 for n in range(300)]])
def test_numbers_of_their_own_that_are_no_identifiers(tmp_path, values):
    path = tmp_path / "a.csv"
    path.write_text("size,label\n" + "".join(f"{x},{'ab'[n % 2]}\n" for n, x in enumerate(values)))
    assert not infer_schema([path]).left_out
