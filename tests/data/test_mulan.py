"""Mulan's ARFF files: numbers, sparse lines, labels by name."""

import gzip

import pyarrow.parquet as pq
import pytest

from widemax.data import get, sets

XML = '<labels xmlns="http://mulan.sourceforge.net/labels"><label name="b"/><label name="a"/></labels>'
ATTRIBUTES = ("x numeric", "y numeric", "a {0,1}", "b {0,1}")
HEADER = "\n".join(["@relation r", "", *(f"@attribute {one}" for one in ATTRIBUTES), "@data", ""])


@pytest.mark.parametrize(
    "lines",
    ["0.5,-2,1,0\n3,0,1,1\n0,0,0,0\n", "{0 0.5,1 -2,2 1}\n{0 3,2 1,3 1}\n% nothing\n{}\n"],
    ids=["dense", "sparse"],
)
def test_either_form_of_line(tmp_path, lines):
    data_set = sets["mulan_yeast"]()
    for split in data_set.splits:
        (tmp_path / f"yeast-{split}.arff.gz").write_bytes(gzip.compress((HEADER + lines).encode()))
    (tmp_path / "yeast.xml.gz").write_bytes(gzip.compress(XML.encode()))
    data_set.prepare(tmp_path, tmp_path)
    table = pq.read_table(data_set.path(tmp_path, "test"))
    assert table["features"].to_pylist() == [[0.5, -2.0], [3.0, 0.0], [0.0, 0.0]]
    assert table["labels"].to_pylist() == [["a"], ["b", "a"], []]


COUNTS = {
    "emotions": (391, 202, 72, 6),
    "scene": (1211, 1196, 294, 6),
    "yeast": (1500, 917, 103, 14),
    "delicious": (12920, 3185, 500, 983),
}


@pytest.mark.parametrize(
    "name", ["emotions", pytest.param("delicious", marks=pytest.mark.slow), "scene", "yeast"]
)
def test_counts_are_those_of_the_authors(widemax_data, tmp_path, name):
    num_train, num_test, num_features, num_labels = COUNTS[name]
    folder = get(f"mulan_{name}", tmp_path / name)
    names = set()
    for split, num_rows in (("train", num_train), ("test", num_test)):
        table = pq.read_table(folder / f"mulan_{name}-{split}.parquet")
        assert len(table) == num_rows
        assert table.schema.field("features").type.list_size == num_features
        names |= {label for labels in table["labels"].to_pylist() for label in labels}
    assert len(names) == num_labels
