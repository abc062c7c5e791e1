"""JSON: an array of objects, or JSON Lines under this ending; each bad row by its place."""

import gzip
import json
from pathlib import Path

import pytest

from widemax.data import Dataset, infer_schema
from widemax.data.formats.json import Json
from widemax.errors import DataError

ROWS = [{"text": f"rów {n}", "ids": [n, n + 1], "label": n % 3} for n in range(40)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_array_is_a_row_an_object(tmp_path: Path, indent: int | None, encoding: str) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(("\n " + json.dumps(ROWS, indent=indent)).encode(encoding)))
    (batch,) = Dataset([path], infer_schema([path])).batches()
    assert batch.columns["text"].to_pylist() == [row["text"] for row in ROWS]
    assert batch.columns["ids"].to_pylist() == [row["ids"] for row in ROWS]
    assert batch.labels.to_pylist() == [row["label"] for row in ROWS]


def test_json_lines_under_this_ending(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n{\n", encoding="utf-8")
    dataset = Dataset([path], infer_schema([path]), drop_bad=True)
    assert sum(map(len, dataset.batches())) == 40
    assert dataset.bad_rows == [f"{path}:41: broken JSON: {dataset.bad_rows[0].split('JSON: ')[1]}"]


def test_elements_that_are_no_rows_are_named_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"x": 1, "label": "a"}, 7, {"x": "\\ud800", "label": "b"}]', encoding="utf-8")
    dataset = Dataset([path], infer_schema([path]), drop_bad=True)
    assert [batch.rows_B.tolist() for batch in dataset.batches()] == [[0]]
    assert dataset.bad_rows == [
        f"{path}:row 2: a row must be a JSON object, got int",
        f"{path}:row 3: it holds half of a surrogate pair, which is no character",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1},', "cannot be read as JSON: Expecting value: line 1 column 11"),
        (b'[{"a": "\xff"}]', "cannot be read as JSON: byte 0xff after 8 bytes is not UTF-8"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[" + b"1" * 10_000 + b"]", "cannot be read as JSON"),
        (b"[]", "holds no JSON object"),
        (b"[{}]", "holds no JSON object with a key"),
        (b"", "holds no JSON object"),
        (b'{\n "a": 1\n}\n', "holds no JSON object"),
    ],
)
def test_what_holds_no_rows(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        Json().columns(path)
