"""svmlight against scikit-learn's reader, and every bad token by its line."""

import gzip

import numpy as np
import pytest
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from widemax.data import Dataset, infer_schema
from widemax.data.formats.svmlight import SvmLight
from widemax.errors import BadRowError


def read(path, *, block_bytes=1 << 22):
    labels, pairs, lines, bad = [], [], [], []
    for chunk in SvmLight(block_bytes=block_bytes).chunks(path, ["features", "label"]):
        labels += chunk.columns["label"].to_pylist()
        pairs += [[(p["index"], p["value"]) for p in row] for row in chunk.columns["features"].to_pylist()]
        lines += chunk.positions_B.tolist()
        bad += chunk.bad
    return labels, pairs, lines, bad


@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 20])
def test_agrees_with_scikit_learn_in_blocks_of_any_size(tmp_path, block_bytes):
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 6)) * (random.random((40, 6)) < 0.5)
    path = tmp_path / "a.svm"
    dump_svmlight_file(X, random.integers(0, 5, 40), str(path), zero_based=True, comment="made by hand")
    expected_X, expected_y = load_svmlight_file(str(path), n_features=6, zero_based=True)
    labels, pairs, lines, bad = read(path, block_bytes=block_bytes)
    dense = np.zeros_like(X)
    for row, row_pairs in enumerate(pairs):
        for index, value in row_pairs:
            dense[row, index] = value
    np.testing.assert_array_equal(dense, expected_X.toarray())
    assert labels == expected_y.astype(int).tolist()
    assert all(isinstance(label, int) for label in labels)
    assert lines == list(range(lines[0], lines[0] + 40))  # the comment lines come first
    assert not bad


@pytest.mark.parametrize("num_parts", [1, 2, 5])
def test_parts_are_the_whole(tmp_path, num_parts):
    path = tmp_path / "rows.svm"
    path.write_text("90 9 4\n" + "".join(f"{number % 4} {number % 9}:1.5\n" for number in range(90)))
    form = SvmLight(block_bytes=100)

    def rows(place):
        return [
            row
            for chunk in form.chunks(place, ["label", "features"])
            for row in zip(
                chunk.positions_B.tolist(),
                *(column.to_pylist() for column in chunk.columns.values()),
                strict=True,
            )
        ]

    pieces = form.pieces(path, num_parts)
    assert len(pieces) == num_parts
    assert [row for piece, _ in pieces for row in rows(piece)] == rows(path)
    assert len(rows(path)) == 90


def test_several_labels_comments_empty_rows_and_a_missing_label(tmp_path):
    path = tmp_path / "a.svm.gz"
    path.write_bytes(gzip.compress(b"3 10 9\n1,5,9 2:0.5 # note\r\n\n4\n 3:1\n"))
    labels, pairs, lines, bad = read(path)
    assert labels == [[1, 5, 9], [4], None]
    assert pairs == [[(2, 0.5)], [], [(3, 1.0)]]
    assert lines == [2, 4, 5]
    assert not bad


def test_bad_tokens_are_named(tmp_path):
    path = tmp_path / "a.svm"
    path.write_bytes(b"1 1:2\nx 1:2\n1 1:y\n1 1:2 3\n1 a:2\n1 1:2:3\n1 \xff:1\n1.5 7:1e-3\n")
    labels, pairs, lines, bad = read(path)
    assert labels == [1.0, 1.5]
    assert pairs == [[(1, 2.0)], [(7, 0.001)]]
    assert lines == [1, 8]
    assert bad == [
        (2, "'x' is not a number"),
        (3, "'y' is not a number"),
        (4, "'3' is not a pair index:value"),
        (5, "'a:2' is not a pair index:value"),
        (6, "'1:2:3' is not a pair index:value"),
        (7, "'\ufffd:1' is not a pair index:value"),
    ]


def test_qid_is_passed_over_and_indices_stay_exact(tmp_path):
    path = tmp_path / "a.svm"
    path.write_bytes(b"3 qid:1 9007199254740993:2 # a\n-7 qid:1\nqid:2 1:1\n1 1:2 qid:3\n")
    labels, pairs, _, bad = read(path)
    assert labels == [3, -7, None]
    assert pairs == [[(2**53 + 1, 2.0)], [], [(1, 1.0)]]
    assert bad == [(4, "'qid:3' is not a pair index:value")]


@pytest.mark.parametrize("digits", [20, 90, 10_000])
def test_numbers_beyond_64_bits_are_named(tmp_path, digits):
    path = tmp_path / "a.svm"
    huge = b"1" + b"0" * digits
    last = b"%d" % (2**63 - 1)
    path.write_bytes(
        b"%s 1:2\n1 %s:2\n1,%s 1:1\n1_0 1:1\n1 1:1_0\n%s %s:1\n" % (huge, huge, huge, last, last)
    )
    labels, pairs, _, bad = read(path)
    assert labels == [2**63 - 1]
    assert pairs == [[(2**63 - 1, 1.0)]]
    assert [at for at, _ in bad] == [1, 2, 3, 4, 5]
    assert [reason.split()[0] for _, reason in bad[:3]] == ["label", "index", "label"]
    assert all("must be smaller than 2^63 in size" in reason for _, reason in bad[:3])
    assert bad[3:] == [(4, "'1_0' is not a number"), (5, "'1_0' is not a number")]


def test_a_row_without_labels_has_none_of_several(tmp_path):
    path = tmp_path / "a.svm"
    path.write_bytes(b"1,2 1:1\n2 2:1\n 3:1\n" * 3)
    schema = infer_schema([path])
    labels = [label for batch in Dataset([path], schema).batches() for label in batch.labels.to_pylist()]
    assert labels == [[1, 2], [2], []] * 3
    single = tmp_path / "b.svm"
    single.write_bytes(b"1 1:1\n 2:1\n")
    with pytest.raises(BadRowError, match=r"b\.svm:2: the label is missing"):
        list(Dataset([single], infer_schema([single])).batches())
    later = [label for batch in Dataset([single], schema).batches() for label in batch.labels.to_pylist()]
    assert later == [[1], []]
