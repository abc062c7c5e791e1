"""Rows have equal keys where their inputs are equal, in every process and however a file lays them out."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from widemax.data import check, count_known, infer_schema, row_keys

IDS = st.lists(st.sampled_from(["", "a", "ab", "b", "\x00"]), max_size=3)
ROW = st.tuples(
    st.one_of(st.none(), st.sampled_from(["", "a", "b", "ab", "\x00", "\xff"])),
    st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, None]),
    IDS,
    IDS,
)


@given(st.lists(ROW, min_size=2, max_size=8))
def test_keys_are_equal_where_rows_are(rows):
    kinds = (pa.large_string(), pa.float64(), pa.large_list(pa.large_string()), pa.list_(pa.string()))
    columns = {str(at): pa.array([row[at] for row in rows], kind) for at, kind in enumerate(kinds)}
    keys = row_keys(columns).to_pylist()
    for first, one in zip(rows, keys, strict=True):
        assert [one == other for other in keys] == [first == second for second in rows]


def test_every_kind_and_process():
    columns = {
        "vector": pa.array([[0.5, 1.5], [1.5, 0.5]], pa.list_(pa.float32(), 2)),
        "ids": pa.array([[2**53], [2**53 + 1]], pa.large_list(pa.int64())),
        "sparse": pa.array([[{"index": 1, "value": 2.0}], [{"index": 2, "value": 1.0}]]),
    }
    assert len(set(row_keys(columns).to_pylist())) == 2
    in_another_process = "f6637914309c0c5212c6d5fe887f571d"  # where hash("tea") was another number
    assert row_keys({"x": pa.array(["tea"])})[0].as_py().hex() == in_another_process


def test_counts_of_known_rows():
    known = row_keys({"x": pa.array([1.0, 2.0, 2.0])})
    assert (
        count_known([row_keys({"x": pa.array([2.0, 3.0])}), row_keys({"x": pa.array([2.0, 1.0])})], known)
        == 3
    )
    assert count_known([], known) == 0


def test_check_invents_no_overlap(tmp_path):
    for name, number in (("train", -1), ("valid", -2)):  # whose hashes are equal in Python
        lines = [f"{number},{at},{at % 2}" for at in range(30)]
        (tmp_path / f"{name}.csv").write_text("x,z,label\n" + "\n".join(lines), encoding="utf-8")
    schema = infer_schema([tmp_path / "train.csv"])
    assert (
        check([tmp_path / "train.csv"], schema=schema, valid=[tmp_path / "valid.csv"]).valid.overlap_rows == 0
    )
    same = check([tmp_path / "train.csv"], schema=schema, valid=[tmp_path / "train.csv"])
    assert same.valid.overlap_rows == 30
