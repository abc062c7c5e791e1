"""Tables of classes: where labels stand, and what is said of those that are not in the table."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from widemax.data import ClassTable, Schema, infer_class_schema, resolve
from widemax.errors import DataError, UsageError


def read(table: object, target: str = "fruit", target_type: str = "large_string") -> ClassTable:
    sources = resolve(table)
    return ClassTable.read(sources, infer_class_schema(sources, target=target, target_type=target_type))


@pytest.mark.parametrize("name", ["fruit", "label", "id"])
def test_labels_stand_under_the_target_a_usual_name_or_first(name: str) -> None:
    table = read(pa.table({name: ["l", "p"], "name": ["lime", "plum"]}))
    assert (table.schema.target, [column.name for column in table.schema.inputs]) == (name, ["name"])
    assert table.of(pa.array(["p", "x", "l"]))["name"].to_pylist() == ["plum", "", "lime"]


def test_a_named_column_of_labels_need_not_be_the_first() -> None:
    assert read(pa.table({"name": ["lime"], "label": ["l"]})).schema.target == "label"


def test_files_of_any_format_and_columns_of_any_kind(tmp_path: Path) -> None:
    columns = {"label": [3, 1], "name": ["green tea leaves", "ink"], "price": [2.5, 1.0]}
    pq.write_table(pa.table(columns), tmp_path / "classes.parquet")
    (tmp_path / "classes.csv").write_text("label,name,price\n3,green tea leaves,2.5\n1,ink,1.0\n")
    tables = [read(tmp_path / name, "y", "int64") for name in ("classes.parquet", "classes.csv")]
    for table in tables:
        assert table.labels.to_pylist() == [3, 1]
        assert {column.name: column.kind for column in table.schema.inputs}["price"] == "number"
        assert table.of(pa.array([1]))["price"].to_pylist() == [1.0]


def test_labels_alone_are_texts_about_themselves() -> None:
    table = read(pa.table({"fruit": ["lime", "plum"]}))
    assert table.of(pa.array(["plum"])) == {"fruit": pa.array(["plum"], pa.large_string())}
    with pytest.raises(UsageError, match=r"the labels are int64 .* name a table of them .*--classes"):
        read(pa.table({"fruit": [3, 1]}), target_type="int64")


def test_problems_are_told() -> None:
    with pytest.raises(DataError, match="name each label once; 'l' stands more than once in column 'label'"):
        read(pa.table({"label": ["l", "p", "l"], "name": ["lime", "plum", "lemon"]}))
    with pytest.raises(DataError, match="no readable rows"):
        read(pa.table({"label": pa.array([], pa.string()), "name": pa.array([], pa.string())}))
    schema = read(pa.table({"label": ["l"], "name": ["lime"]})).schema
    assert isinstance(schema, Schema)
    with pytest.raises(DataError, match="has no column 'name'; did you mean 'names'"):
        ClassTable.read(resolve(pa.table({"label": ["l"], "names": ["lime"]})), schema)
