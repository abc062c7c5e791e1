"""JSON Lines: each bad line by its number, whatever the block."""

import json
from pathlib import Path

import pytest

from widemax.data.formats.jsonl import JsonLines
from widemax.errors import DataError


def read(path: Path, columns: list[str], *, block_bytes: int = 1 << 22):
    rows, lines, bad = [], [], []
    for chunk in JsonLines(block_bytes=block_bytes).chunks(path, columns):
        rows += list(zip(*(chunk.columns[name].to_pylist() for name in columns), strict=True))
        lines += chunk.positions_B.tolist()
        bad += chunk.bad
    return rows, lines, bad


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 20])
def test_values_keep_their_types_in_blocks_of_any_size(tmp_path, block_bytes):
    records = [{"text": f"row {n} é", "ids": [n, n + 1], "y": n % 3} for n in range(50)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    rows, lines, bad = read(path, ["text", "ids", "y"], block_bytes=block_bytes)
    assert rows == [(r["text"], r["ids"], r["y"]) for r in records]
    assert lines == list(range(1, 51))
    assert not bad


def test_bad_lines_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2\n[1]\n{"a": "\xff"}\n{"a": "\\ud800"}\n'
        + b"[" * 100_000
        + b'\n{"a": "\0"}\n{"b": 3}\n'
    )
    rows, lines, bad = read(path, ["a"])
    assert rows == [(1,), (None,)]
    assert lines == [1, 9]
    assert [line for line, _ in bad] == [3, 4, 5, 6, 7, 8]
    reasons = [reason for _, reason in bad]
    assert reasons[0].startswith("broken JSON: Expecting ',' delimiter")
    assert reasons[1] == "a row must be a JSON object, got list"
    assert reasons[2] == "byte 0xff after 7 bytes is not UTF-8"
    assert reasons[3] == "it holds half of a surrogate pair, which is no character"
    assert reasons[5] == "a NUL byte stands after 7 bytes"


def test_types_that_do_not_mix_become_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": "x"}\n{"a": [1.5]}\n{"a": null}\n', encoding="utf-8")
    assert read(path, ["a"])[0] == [(["1"],), (["x"],), (["1.5"],), (None,)]
    path.write_text('{"a": 1}\n{"a": "x"}\n{"a": {"b": 1}}\n{"a": null}\n', encoding="utf-8")
    assert read(path, ["a"])[0] == [("1",), ("x",), ('{"b": 1}',), (None,)]


def test_columns_are_the_keys_of_all_lines_in_order(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"b": 1}\n{"a": 2, "b": 3}\n', encoding="utf-8")
    assert JsonLines().columns(path) == ["b", "a"]


def test_a_file_without_an_object(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("")
    with pytest.raises(DataError, match="holds no JSON object"):
        JsonLines().columns(path)
