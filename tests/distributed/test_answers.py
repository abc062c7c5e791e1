"""Several processes answer for a share of the rows each: the metrics and predictions of one."""

import json
from pathlib import Path

import pytest
from tests.distributed import ranks
from tests.distributed.rows import configure, write_rows

from widemax import train
from widemax.distributed import World
from widemax.storage import sha256

NUM_ROWS = 301
"""In batches of 100 or 150: the last one has a row for one process alone."""


def several(path: Path) -> None:
    """Rows with no, one or two labels each."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["label"] = [row["label"], "even" if number % 2 else "odd"][: number % 3]
    path.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(scope="module", params=["one", "several"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    write_rows(folder / "rows.jsonl", NUM_ROWS)
    if request.param == "several":
        several(folder / "rows.jsonl")
    path = configure(folder, epochs=1)
    train(ranks.config_of(str(path), str(folder / "run")))
    return folder / "run"


def test_metrics_are_those_of_one_process(worlds, run):
    rows = str(run.parent / "rows.jsonl")
    expected, _ = ranks.evaluated(World(), str(run), rows)
    for size in (2, 3):
        for rank, (values, wrote) in enumerate(worlds(size).run(ranks.evaluated, str(run), rows)):
            assert wrote == (rank == 0)
            assert values["baseline"] == pytest.approx(expected["baseline"], rel=1e-9)
            for name in expected.keys() - {"seconds", "rows_per_s", "baseline"}:
                same = expected[name] if name == "task" else pytest.approx(expected[name], rel=1e-6)
                assert values[name] == same, name


def test_predictions_are_those_of_one_process(worlds, run):
    rows = run.parent / "broken.jsonl"
    rows.write_text((run.parent / "rows.jsonl").read_text() + '\nno row\n{"text": "class3"}\n')
    for options in (["-k", "3", "--keep-going"], ["--threshold", "0.01", "--rank", "psp", "--drop-bad"]):
        code, said = ranks.predicted(World(), str(run), str(rows), *options)
        expected = list(map(json.loads, said.splitlines()))
        assert len(expected) == NUM_ROWS + 1 + (code != 0)
        for size in (2, 3):
            (first, *others) = worlds(size).run(ranks.predicted, str(run), str(rows), *options)
            assert others == [(code, "")] * (size - 1)
            assert first[0] == code
            for one, other in zip(map(json.loads, first[1].splitlines()), expected, strict=True):
                assert [p["label"] for p in one.get("predictions", [])] == [
                    p["label"] for p in other.get("predictions", [])
                ]
                assert one.get("error") == other.get("error")
                for mine, theirs in zip(
                    one.get("predictions", []), other.get("predictions", []), strict=True
                ):
                    assert mine["probability"] == pytest.approx(theirs["probability"], rel=1e-5)


def test_files_are_hashed_in_parts(worlds, tmp_path):
    paths = [tmp_path / str(number) for number in range(5)]
    for path in paths[:-1]:
        path.write_bytes(path.name.encode())
    digests = {path: sha256(path) for path in paths[:-1]}  # the last one is missing
    assert ranks.hashed(World(), paths) == ({}, 0)
    for size in (2, 3):
        for rank, found in enumerate(worlds(size).run(ranks.hashed, paths)):
            assert found == (digests, len(paths[:-1][rank::size]))
