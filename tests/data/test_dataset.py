"""Files to batches: what goes in comes out, and bad rows are named by file and line, or counted."""

import gzip
import json
import re
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from widemax.data import Column, Dataset, LabelVocabulary, Schema, infer_schema, resolve
from widemax.errors import BadRowError, DataError, UsageError

TEXT = Schema((Column("text", "text"),), "label")


def labels(dataset, **options):
    return [label for batch in dataset.batches(**options) for label in batch.labels.to_pylist()]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2", "30"], [1, -2, 30]),
        (["007", "8", "x"], ["007", "8", "x"]),
        (["true", "false"], [True, False]),
        (["2024-02-29"], [date(2024, 2, 29)]),
        (["1.5", "2.0"], [1.5, 2.0]),
        (["e\u0301", "\u00e9", " a ", "\u00df"], ["e\u0301", "\u00e9", " a ", "\u00df"]),
    ],
)
def test_labels_of_a_csv_come_back_as_given(tmp_path, cells, expected):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"some,{cell}\n" for cell in cells), encoding="utf-8")
    dataset = Dataset([path], infer_schema([path]))
    got = labels(dataset)
    assert got == expected
    assert list(map(type, got)) == list(map(type, expected))
    vocabulary = LabelVocabulary.build(dataset.batches())
    assert len(vocabulary) == len(expected)
    assert set(map(repr, vocabulary.decode(np.arange(len(expected))))) == set(map(repr, expected))


def test_labels_of_a_parquet_come_back_as_given(tmp_path):
    path = tmp_path / "a.parquet"
    for given in ([1, 2], [True, False], [date(2024, 1, 1)], ["1", "01"], [0.5], [[1, 2], [3]]):
        pq.write_table(pa.table({"x": [0.0] * len(given), "y": given}), path)
        assert labels(Dataset([path], infer_schema([path]))) == given


def test_a_file_larger_than_the_block_gives_the_same_rows(tmp_path):
    path = tmp_path / "a.csv.gz"
    rows = [f'"line {n}\nrest {"x" * 90}",{n}' for n in range(60_000)]
    path.write_bytes(gzip.compress(("text,label\n" + "\n".join(rows)).encode(), 1))
    dataset = Dataset([path], infer_schema([path]))
    assert labels(dataset) == list(range(60_000))
    path.write_bytes(gzip.compress(("text,label\n" + "\n".join([*rows, "cut"])).encode(), 1))
    with pytest.raises(BadRowError, match=r"a\.csv\.gz:120002: the row has 1 columns"):
        labels(dataset)


def test_batches_hold_at_most_max_rows_in_the_order_of_the_files(tmp_path):
    for name, numbers in (("b.csv", range(5)), ("a.jsonl", range(5, 9))):
        if name.endswith("csv"):
            content = "text,label\n" + "".join(f"t,{n}\n" for n in numbers)
        else:
            content = "".join(json.dumps({"label": n, "text": "t"}) + "\n" for n in numbers)
        (tmp_path / name).write_text(content, encoding="utf-8")
    schema = infer_schema([tmp_path / "b.csv"])
    dataset = Dataset([tmp_path / "b.csv", tmp_path / "a.jsonl"], schema)
    assert [len(batch) for batch in dataset.batches(max_rows=3)] == [3, 2, 3, 1]
    assert labels(dataset, max_rows=3) == list(range(9))
    assert labels(Dataset(resolve([str(tmp_path / "*")]), schema)) == [5, 6, 7, 8, 0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match=r"'max_rows' of .* must be a whole number of at least 1; got 0"):
        next(dataset.batches(max_rows=0))


BAD_FILES = {
    "a.csv": (
        b'text,label,x\n"two\nlines",a,1\nok,,1\nok,a\n,a,1\nok,a,nan\nok,a,inf\nok,a,abc\n\xff,a,1\nok,b,\n',
        {
            4: "the label is missing in column 'label'",
            5: "the row has 2 columns where the header has 3",
            7: "column 'x' must be a number, got 'nan' (or give the column the kind category)",
            8: "column 'x' must be finite, got inf",
            9: "column 'x' must be a number, got 'abc' (or give the column the kind category)",
            10: "byte 0xff after 0 bytes is not UTF-8",
        },
        ["a", "a", "b"],
    ),
    "a.jsonl": (
        b'{"text": "t", "label": "a", "x": 1}\n{"text": "t", "label": null, "x": 1}\n{"text": "t"\n'
        b'{"text": "t", "label": "", "x": 1}\n{"label": "a", "x": 1}\n{"text": "t", "label": "a", "x": NaN}\n'
        b'{"text": "t", "label": "b"}\n',
        {
            2: "the label is missing in column 'label'",
            3: "broken JSON: Expecting ',' delimiter at column 13",
            4: "the label is missing in column 'label'",
        },
        ["a", "a", "a", "b"],
    ),
}
MIXED = Schema((Column("text", "text"), Column("x", "number")), "label")


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_rows_are_errors_with_file_and_line_or_counted(tmp_path, name):
    content, reasons, good = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    first = min(reasons)
    message = f"{path}:{first}: {reasons[first]}. Correct it, or drop such rows: --drop-bad"
    with pytest.raises(BadRowError, match=f"^{re.escape(message)}"):
        list(Dataset([path], MIXED).batches())
    dataset = Dataset([path], MIXED, drop_bad=True)
    for _ in range(2):  # a second pass counts anew
        assert labels(dataset) == good
        assert dataset.num_bad_rows == len(reasons)
        assert dataset.bad_rows == [f"{path}:{line}: {reason}" for line, reason in reasons.items()]


def test_every_batch_knows_where_its_rows_stand(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nt,a\nt,\nt,b,c\nt,d\n", encoding="utf-8")
    (tmp_path / "b.csv").write_bytes(b"text,label\n\xff,a\n\nt,e\n")
    sources = [tmp_path / "a.csv", tmp_path / "b.csv"]
    batches = list(Dataset(sources, TEXT, drop_bad=True).batches(max_rows=1))
    assert [(batch.labels.to_pylist(), batch.rows_B.tolist()) for batch in batches] == [
        (["a"], [0]),
        (["d"], [3]),
        (["e"], [5]),
    ]


def test_bad_rows_of_binary_formats_are_named_by_row(tmp_path):
    vectors = pa.array([[1.0, 2.0], [1.0, float("nan")], [1.0], [3.0, 4.0]])
    table = pa.table({"v": vectors, "label": ["a", "a", "a", None]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    schema = infer_schema([path])
    with pytest.raises(BadRowError, match=r"a\.parquet:row 2: column 'v' must hold finite numbers\. Correct"):
        list(Dataset([path], schema).batches())
    dataset = Dataset([path], schema, drop_bad=True)
    assert labels(dataset) == ["a"]
    assert [row.split(":", 1)[1] for row in dataset.bad_rows] == [
        "row 2: column 'v' must hold finite numbers",
        "row 3: column 'v' must hold 2 numbers, got 1",
        "row 4: the label is missing in column 'label'",
    ]


def test_npz_and_svmlight_bad_rows(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([[1.0, 2.0], [np.nan, 1.0]]), y=[0, 1])
    with pytest.raises(BadRowError, match=r"a\.npz:row 2: column 'X' must hold finite numbers"):
        labels(Dataset([tmp_path / "a.npz"], infer_schema([tmp_path / "a.npz"])))
    (tmp_path / "a.svm").write_text("1 1:2\n2 1:nan\n1:1\n2 x\n", encoding="utf-8")
    dataset = Dataset([tmp_path / "a.svm"], infer_schema([tmp_path / "a.svm"]), drop_bad=True)
    assert labels(dataset) == [1]
    assert [row.split(":", 1)[1] for row in dataset.bad_rows] == [
        "2: column 'features' must hold finite values",
        "3: the label is missing in column 'label'",
        "4: 'x' is not a pair index:value",
    ]


def test_only_the_first_twenty_bad_rows_are_kept(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "t,\n" * 30 + "t,a\n", encoding="utf-8")
    dataset = Dataset([path, path], TEXT, drop_bad=True)
    assert labels(dataset) == ["a", "a"]
    assert dataset.num_bad_rows == 60
    assert len(dataset.bad_rows) == 20
    assert dataset.bad_rows[-1].startswith(f"{path}:21: ")


def test_without_a_target_to_predict(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\none two\n", encoding="utf-8")
    (batch,) = Dataset([path], Schema(TEXT.inputs, None)).batches()
    assert batch.labels is None
    assert batch.columns["text"].to_pylist() == ["one two"]
    with pytest.raises(DataError, match="has no column 'label'; choose one of"):
        list(Dataset([path], TEXT).batches())


def test_a_label_of_another_type_than_in_training_is_unseen_not_lost(tmp_path):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("text,label\na b,1\nc d,2\n", encoding="utf-8")
    test.write_text("text,label\na b,2\nc d,new\n", encoding="utf-8")
    schema = infer_schema([train])
    vocabulary = LabelVocabulary.build(Dataset([train], schema).batches())
    (batch,) = Dataset([test], schema).batches()
    assert vocabulary.encode(batch.labels).tolist() == [1, -1]


def test_the_fingerprint_follows_contents_and_order_not_names(tmp_path):
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for path, content in zip(paths, ("x", "y", "x"), strict=True):
        path.write_text(content, encoding="utf-8")
    a, b, c = paths
    assert Dataset([a, b], TEXT).fingerprint() == Dataset([c, b], TEXT).fingerprint()
    prints = {Dataset(s, TEXT).fingerprint() for s in ([a], [b], [a, b], [b, a], [])}
    assert len(prints) == 5
