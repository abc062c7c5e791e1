"""Parquet, Arrow and NumPy files give back the rows that were written, with their row numbers."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from widemax.data import Dataset, infer_schema
from widemax.data.formats import base, format_of, numpy_arrays, parquet
from widemax.errors import DataError


def read(path, columns):
    chunks = list(format_of(path).chunks(path, columns))
    rows = {name: [v for chunk in chunks for v in chunk.columns[name].to_pylist()] for name in columns}
    return rows, [int(row) for chunk in chunks for row in chunk.positions_B]


def write_stream(table, path):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def write_file(table, path):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


WRITERS = {
    "a.parquet": lambda table, path: pq.write_table(table, path, row_group_size=7),
    "a.arrow": write_file,
    "a.arrows": write_stream,
    "a.feather": lambda table, path: pyarrow.feather.write_feather(table, str(path)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_round_trip_in_any_number_of_chunks(tmp_path, name, monkeypatch):
    for module in (base, parquet):  # imported before, or the first look-up would keep the 3 for good
        monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    table = pa.table(
        {
            "a": list(range(20)),
            "ids": [[n] * (n % 3) for n in range(20)],
            "when.day": [f"é{n}" for n in range(20)],
        }
    )
    WRITERS[name](table, tmp_path / name)
    rows, positions = read(tmp_path / name, ["when.day", "ids", "a"])
    assert rows == {key: table[key].to_pylist() for key in rows}
    assert positions == list(range(1, 21))
    assert format_of(tmp_path / name).columns(tmp_path / name) == ["a", "ids", "when.day"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.npz", "a.npy"])
@pytest.mark.parametrize("content", [b"", b"ARROW1 and then nothing of the sort", b"PAR1"])
def test_a_file_of_another_kind_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} cannot be read as"):
        format_of(tmp_path / name).columns(tmp_path / name)


@pytest.mark.parametrize("chunk_rows", [1, 2, 100])
def test_npz_arrays_are_columns_and_matrices_vectors(tmp_path, monkeypatch, chunk_rows):
    monkeypatch.setattr(numpy_arrays, "CHUNK_ROWS", chunk_rows)
    path = tmp_path / "a.npz"
    X = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(
        path,
        X=X,
        image=np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
        y=np.array(["tea", "ink", "é"]),
        half=np.array([1, 2, 3], np.float16),
        big=np.array([1, 2, 3], ">i4"),
        day=np.array(["2024-01-01"] * 3, "datetime64[D]"),
    )
    rows, positions = read(path, ["X", "image", "y", "half", "big"])
    assert rows["X"] == X.tolist()
    assert rows["image"] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert rows["y"] == ["tea", "ink", "é"]
    assert rows["half"] == [1.0, 2.0, 3.0]
    assert rows["big"] == [1, 2, 3]
    assert positions == [1, 2, 3]


def test_npz_parts_of_a_csr_matrix_are_one_sparse_column(tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_arrays, "CHUNK_ROWS", 7)
    path = tmp_path / "a.npz"
    matrix = scipy.sparse.random(50, 9, density=0.2, format="csr", random_state=0)
    scipy.sparse.save_npz(path, matrix)
    assert format_of(path).columns(path) == ["X"]
    rows, _ = read(path, ["X"])
    dense = np.zeros((50, 9))
    for row, pairs in enumerate(rows["X"]):
        for pair in pairs:
            dense[row, pair["index"]] = pair["value"]
    np.testing.assert_array_equal(dense, matrix.toarray())
    scipy.sparse.save_npz(path, matrix.tocsc())
    with pytest.raises(DataError, match="not CSR"):
        read(path, ["X"])


def test_npz_refuses_unequal_lengths_scalars_and_pickles(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3), b=np.arange(4))
    with pytest.raises(DataError, match="must have equal lengths, got"):
        read(path, ["a", "b"])
    np.savez(path, a=np.float64(1.0))
    with pytest.raises(DataError, match="is a single number"):
        read(path, ["a"])
    np.savez(path, a=np.array([{}], object))
    with pytest.raises(DataError, match="allow_pickle"):
        read(path, ["a"])


def test_npy_matrix_and_structured_array(tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_arrays, "CHUNK_ROWS", 2)
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(np.arange(6.0).reshape(3, 2)))
    assert read(path, ["X"])[0] == {"X": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]}
    np.save(path, np.array([(1, "a", (1.5, 2.5))], [("n", "i4"), ("s", "U3"), ("v", "f4", (2,))]))
    assert format_of(path).columns(path) == ["n", "s", "v"]
    assert read(path, ["n", "s", "v"])[0] == {"n": [1], "s": ["a"], "v": [[1.5, 2.5]]}


def test_npy_of_python_2_is_read_without_a_warning(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    path.write_bytes(path.read_bytes().replace(b"(2, 3), }  ", b"(2L, 3L), }"))
    assert read(path, ["X"])[0] == {"X": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]}


WORDS = ["red", "blue", "red", "green"]
MONEY = [Decimal("1.50"), Decimal("-2")] * 2
LISTS = [[1, 2], [3], [], [4]]
LAYOUTS = {
    "string_view": (pa.array(WORDS, pa.string_view()), WORDS),
    "dictionary": (pa.array(WORDS).dictionary_encode(), WORDS),
    "dictionary of views": (
        pa.DictionaryArray.from_arrays(
            pa.array([0, 1, 0, 2]), pa.array(["red", "blue", "green"], pa.string_view())
        ),
        WORDS,
    ),
    "runs": (
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 4], pa.int32()), ["red", "blue"]),
        ["red"] * 2 + ["blue"] * 2,
    ),
    "large_list": (pa.array(LISTS, pa.large_list(pa.int32())), LISTS),
    "list_view": (pa.array(LISTS, pa.list_view(pa.int64())), LISTS),
    "large_list_view": (pa.array(LISTS, pa.large_list_view(pa.int64())), LISTS),
    "list of views": (pa.array([["a"], ["b"]] * 2, pa.list_(pa.string_view())), [["a"], ["b"]] * 2),
    "list of dictionaries": (
        pa.array([["a"], ["b"]] * 2, pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        [["a"], ["b"]] * 2,
    ),
    "decimal128": (
        pa.array(MONEY, pa.decimal128(38, 2)),
        ["1.50", "-2.00"] * 2,
    ),
    "decimal256": (
        pa.array(MONEY, pa.decimal256(60, 2)),
        ["1.50", "-2.00"] * 2,
    ),
    "whole decimals": (pa.array([Decimal(7), Decimal(-2)] * 2, pa.decimal128(18, 0)), [7, -2] * 2),
    "wide whole decimals": (pa.array([Decimal(7), Decimal(-2)] * 2, pa.decimal128(38, 0)), ["7", "-2"] * 2),
}


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_an_input_and_a_label(tmp_path, layout, ending):
    values, labels = LAYOUTS[layout]
    path = tmp_path / f"a.{ending}"
    table = pa.table({"x": values, "label": values})
    if ending == "arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    elif layout in ("runs", "dictionary of views"):
        pytest.skip("Parquet has no such layout")
    else:
        pq.write_table(table, path)
    (batch,) = Dataset([path], infer_schema([path])).batches()
    assert batch.labels.to_pylist() == labels
    inputs = [float(label) for label in labels] if "decimal" in layout else labels
    assert batch.columns["x"].to_pylist() in (
        inputs,
        [list(map(str, row)) for row in inputs if isinstance(row, list)],
    )


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_columns_of_one_name_are_refused(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array(["a"])], names=["x", "x", "label"])
    if ending == "arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    else:
        pq.write_table(table, path)
    with pytest.raises(DataError, match=r"names \['x'\] more than once; give each column its own name"):
        infer_schema([path])


def test_offsets_that_lead_out_of_a_damaged_arrow_file(tmp_path):
    path = tmp_path / "a.arrow"
    table = pa.table({"x": ["red", "blue", "green"], "label": ["a", "b", "a"]})
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)
    content = path.read_bytes()
    offsets = np.array([0, 3, 7, 12], np.int32).tobytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, np.array([0, 3, 1 << 30, 12], np.int32).tobytes()))
    with pytest.raises(DataError, match=r"a\.arrow cannot be read as Arrow IPC"):
        infer_schema([path])


def test_a_text_of_parquet_that_is_no_utf_8(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"x": ["red", "blue"], "label": ["a", "b"]}), path, compression="none", use_dictionary=False
    )
    path.write_bytes(path.read_bytes().replace(b"blue", b"bl\xffe"))
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet: .*UTF8"):
        infer_schema([path])


MANY = pa.table({"x": np.arange(140_000.0), "label": np.arange(140_000) % 3})
"""Rows of three chunks."""


def write_npy(table, path):
    fields = [(name, table[name].to_numpy().dtype) for name in table.column_names]
    rows = np.empty(len(table), fields)
    for name, _ in fields:
        rows[name] = table[name].to_numpy()
    np.save(path, rows)


@pytest.mark.parametrize(("name", "write"), [*WRITERS.items(), ("a.npy", write_npy)], ids=[*WRITERS, "a.npy"])
def test_a_file_that_is_cut_off_while_it_is_read(tmp_path, name, write):
    path = tmp_path / name
    write(MANY.slice(0, 70_000) if name.endswith("w") else MANY, path)
    chunks = format_of(path).chunks(path, ["x"])
    next(chunks)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    try:
        num_rows = sum(len(chunk.positions_B) for chunk in chunks)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017 - either may be
    else:
        assert num_rows + 65_536 <= len(MANY)


CSR = {
    "data": np.ones(3),
    "indices": np.array([0, 1, 2]),
    "indptr": np.array([0, 1, 2, 3]),
    "shape": np.array([3, 3]),
}


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("indptr", [0, 3, 1, 3]),
        ("indptr", [-1, 1, 2, 3]),
        ("indptr", [0, 1, 2, 9]),
        ("indptr", [0, 1.5, 2, 3]),
        ("indptr", [0, np.nan, 2, 3]),
        ("indptr", []),
        ("indptr", 3),
        ("indices", [0, -1, 2]),
        ("indices", [0, 5, 2]),
        ("indices", [[0, 1, 2]]),
        ("indices", np.array([2**63, 1, 2], np.uint64)),
        ("data", ["a", "b", "c"]),
        ("data", [1, 2]),
        ("data", [1j, 2, 3]),
        ("data", np.zeros(3, [("a", "f4")])),
        ("shape", [7, 3]),
        ("shape", [[3, 3]]),
    ],
)
def test_parts_that_are_no_csr_matrix(tmp_path, key, values):
    np.savez(tmp_path / "a.npz", label=np.arange(3), **(CSR | {key: np.array(values)}))
    with pytest.raises(DataError, match=r"a\.npz cannot be read as npz"):
        read(tmp_path / "a.npz", ["X", "label"])


def test_numpy_files_under_the_ending_of_the_other(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    np.savez(tmp_path / "b.npz", x=np.ones(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    for name, kind in {"a.npz": "npy", "b.npy": "npz"}.items():
        with pytest.raises(DataError, match=rf"is an {kind} file; give it the ending \.{kind}"):
            infer_schema([tmp_path / name], target="label")


@pytest.mark.parametrize(
    "shape", ["(4611686018427387904,)", "(-1,)", "(1000000000000, 2)", f"({'9' * 5000},)"]
)
@pytest.mark.parametrize("fortran_order", [True, False])
@pytest.mark.filterwarnings("ignore")  # of NumPy, which multiplies the sizes
def test_npy_headers_that_state_what_cannot_be(tmp_path, shape, fortran_order):
    text = f"{{'descr': '<f8', 'fortran_order': {fortran_order}, 'shape': {shape}, }}".encode()
    header = text.ljust((len(text) + 11 + 63) // 64 * 64 - 11) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match=r"a\.npy cannot be read as npy"):
        read(tmp_path / "a.npy", ["X"])
