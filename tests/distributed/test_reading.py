"""Processes read a part of the files each, and train on the same rows and classes as one."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.distributed import ranks

from widemax.distributed import World


def rows(count: int, seed: int) -> list[dict[str, object]]:
    words = random.Random(seed)
    items = [f"item{number}" for number in range(9)]
    made: list[dict[str, object]] = [
        {
            "text": " ".join(words.choices(["red", "green", "blue", "tea"], k=words.randint(0, 5))),
            "number": words.random(),
            "category": words.choice(items),
            "history": words.sample(items, words.randint(0, 4)),
            "label": words.choice(items),
        }
        for _ in range(count - 1)
    ]
    return [*made, {**made[0], "label": "another"}]


def parquet(path: Path, count: int, seed: int) -> Path:
    pq.write_table(pa.Table.from_pylist(rows(count, seed)), path, row_group_size=12)
    return path


def lines(path: Path, count: int, seed: int) -> Path:
    path.write_text("\n".join([*map(json.dumps, rows(count, seed)), "no row"]))
    return path


@pytest.mark.parametrize("which", ["row groups", "files", "lines", "one piece"])
def test_rows_and_classes_are_those_of_one_process(worlds, tmp_path, which):
    paths = {
        "row groups": lambda: [parquet(tmp_path / "a.parquet", 100, 0)],
        "files": lambda: [
            *(lines(tmp_path / f"{number}.jsonl", 20 + number, number) for number in range(4)),
            parquet(tmp_path / "a.parquet", 30, 0),
        ],
        "lines": lambda: [lines(tmp_path / "a.jsonl", 70, 0)],
        "one piece": lambda: [lines(tmp_path / "a.json", 40, 0)],
    }[which]()
    expected = ranks.read_rows(World(), paths, tmp_path)
    assert expected["first"] is not None
    for size in (2, 3):
        found = worlds(size).run(ranks.read_rows, paths, tmp_path)
        for of_rank in found:
            torch.testing.assert_close(of_rank["hidden"], expected["hidden"])
            for name in expected.keys() - {"copies", "hidden", "keys", "num_read"}:
                assert of_rank[name] == expected[name], name
            assert of_rank["copies"] == [False, False]
        assert found[0]["keys"] == expected["keys"]
        assert [path.name for path in (tmp_path / f"0-of-{size}").iterdir()] == ["train"]
        num_read = [of_rank["num_read"] for of_rank in found]
        assert sum(num_read) == expected["num_read"]
        if which != "one piece":
            assert max(num_read) < 0.75 * expected["num_read"]
