"""The data report against facts planted in small files."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from widemax.data import check, infer_schema
from widemax.errors import DataError


@pytest.fixture
def files(tmp_path):
    train, valid = tmp_path / "train.csv", tmp_path / "valid.csv"
    lines = [f"note number {n % 25},{n},same,{n / 3 if n % 5 else ''},{'abc'[n % 3]}" for n in range(30)]
    train.write_text(
        "text,id,flag,x,label\n"
        + "\n".join([*lines, "a b c,30,same,nan,a", "a b c,31,same,1,once"])
        + "\ncut\n",
        encoding="utf-8",
    )
    valid.write_text(
        "text,id,flag,x,label\n"
        + lines[3]
        + "\nnew words here,3,same,1,b\na b c,2,same,2,never\nx y z,2,same,2,\n",
        encoding="utf-8",
    )
    return train, valid


def test_every_fact_is_found(files):
    train, valid = files
    report = check([train], schema=infer_schema([train]), valid=[valid])
    assert report.rows == 32
    assert [(c.name, c.kind, c.missing) for c in report.columns] == [
        ("text", "text", 0),
        ("flag", "category", 0),
        ("x", "number", 7),
    ]
    assert (report.target, report.num_classes, report.classes_seen_once) == ("label", 4, 1)
    assert report.rows_per_class == (1, 10.0, 11)
    assert report.num_bad_rows == 1
    assert [row.split(":", 1)[1].split(":")[0] for row in report.bad_rows] == ["34"]
    assert report.valid.rows == 3
    assert (report.valid.unseen_labels, report.valid.unseen_examples) == (1, ("never",))
    assert report.valid.overlap_rows == 1
    assert report.valid.num_bad_rows == 1
    assert json.loads(json.dumps(report.to_dict()))["valid"]["overlap_rows"] == 1
    text = "\n".join(report.lines())
    for part in (
        "32 rows, 4 classes in column 'label'",
        "input 'x': number, missing in 7 rows",
        "1 bad row",
        "train.csv:34: the row has 1 columns",
        "validation: 1 label never seen in training, such as never",
        "warning: column 'flag' has the same value in every row",
        "warning: 1 validation row with the inputs of a training row",
    ):
        assert part in text


def test_columns_like_identifiers(tmp_path):
    path = tmp_path / "a.csv"
    lines = [f"{n},user{n},words of row {n},{n % 2}" for n in range(25)]
    path.write_text("row,user,text,y\n" + "\n".join(lines), encoding="utf-8")
    report = check([path], schema=infer_schema([path]))
    assert {column.name for column in report.columns if column.id_like} == {"row"}
    assert any("column 'user' is left out" in warning for warning in report.warnings)
    assert len(report.warnings) == 2


def test_lists_vectors_and_overlap(tmp_path):
    train, valid = tmp_path / "train.parquet", tmp_path / "valid.parquet"
    columns = {
        "ids": pa.array([[1, 2], [2, 1], []], pa.list_(pa.int64())),
        "words": pa.array([["a"], ["a", "b"], ["ab"]]),
        "v": pa.array([[0.5, 1.5]] * 3, pa.list_(pa.float32(), 2)),
        "s": pa.array([[{"index": 1, "value": 2.0}], [], []]),
        "y": pa.array([["p", "q", "p"], ["p"], []]),
    }
    table = pa.table(columns)
    pq.write_table(table, train)
    pq.write_table(table[1:], valid)
    schema = infer_schema([train], target="y")
    report = check([train], schema=schema, valid=[valid])
    assert report.several
    assert report.labels_per_row == (0, 1.0, 2)
    assert report.rows_per_class == (1, 1.5, 2)
    assert report.valid.overlap_rows == 2
    assert "1 row with an empty list of labels." in report.warnings
    swapped = table.set_column(0, "ids", pa.array([[2, 1], [1, 2], [0]], pa.list_(pa.int64())))
    pq.write_table(swapped, valid)
    assert check([train], schema=schema, valid=[valid]).valid.overlap_rows == 0


def test_one_class_only_and_no_good_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,label\n1,a\n2,a\n", encoding="utf-8")
    schema = infer_schema([path])
    assert "all rows have the same label; there is nothing to learn." in check([path], schema=schema).warnings
    path.write_text("x,label\n1,\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"no usable rows; the first bad one is .*a\.csv:2: the label is missing"
    ):
        check([path], schema=schema)
