"""Documents get the labels that are probable enough, by F1 or by a coverage."""

import io
import json
import random
import re
import sys
from pathlib import Path

import pytest

from widemax import Config, train

SUBJECTS = ("cats", "dogs", "tea", "ink")


def write_rows(path: Path, *, seed: int, num_rows: int) -> Path:
    rows = random.Random(seed)
    lines = []
    for _ in range(num_rows):
        subjects = rows.sample(SUBJECTS, rows.choice([1, 2]))
        named = subjects if rows.random() < 0.8 else rows.sample(SUBJECTS, 1)  # some titles mislead
        text = f"{' and '.join(named)} in {rows.random()}"
        lines.append(json.dumps({"title": text, "subjects": subjects}) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suggest")
    rows = write_rows(folder / "rows.jsonl", seed=0, num_rows=200)
    data = {"train": str(rows), "input": "title", "target": "subjects"}
    return train(Config(data=data, output={"dir": str(folder / "run")})).run


def suggested(line: str) -> set[str]:
    return {p["label"] for p in json.loads(line)["predictions"]}


def test_a_text_is_one_document(widemax, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "a.txt"
    document.write_text("Of cats\n\nand their tea.\n", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"\xff")
    (line,) = widemax("suggest", run, document).out.splitlines()
    assert json.loads(line)["document"] == str(document)
    assert suggested(line) == {"cats", "tea"}
    assert suggested(widemax("suggest", run, document, "--limit", 1).out) < {"cats", "tea"}
    assert suggested(widemax("suggest", run, document, "--threshold", "0").out) == set(SUBJECTS)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"dogs\nand ink\n")))
    assert suggested(widemax("suggest", run).out) == {"dogs", "ink"}
    answers = widemax("suggest", run, tmp_path / "b.txt", document)
    assert (answers.code, len(answers.out.splitlines())) == (3, 2)
    assert "b.txt: byte 0xff after 0 bytes is not UTF-8" in answers.out.splitlines()[0]


def test_rows_are_documents_too(widemax, run: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "later.jsonl", seed=1, num_rows=150)
    assert (
        widemax("suggest", run, rows).out.splitlines()
        == widemax("predict", run, rows, "--threshold", "auto").out.splitlines()
    )


def test_sets_cover_the_right_labels(widemax, run: Path, tmp_path: Path) -> None:
    known = run.parent / "rows.jsonl"
    calibration = write_rows(tmp_path / "later.jsonl", seed=1, num_rows=150)
    rows = write_rows(tmp_path / "new.jsonl", seed=2, num_rows=150)
    sizes = []
    for coverage in (0.6, 0.95):
        given = widemax(
            *("suggest", run, rows, "--coverage", coverage, "--calibration", calibration),
            *("--calibration", known),
        )
        assert "150 rows; 200 rows of training left out" in given.err
        right = [set(json.loads(line)["subjects"]) for line in rows.read_text().splitlines()]
        labels = list(map(suggested, given.out.splitlines()))
        shares = [len(row & found) / len(row) for row, found in zip(right, labels, strict=True)]
        assert sum(shares) / len(shares) > coverage - 0.1
        sizes.append(sum(map(len, labels)))
    assert sizes[0] < sizes[1]


def test_rows_that_were_held_out_cover_without_others(widemax, run: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "new.jsonl", seed=2, num_rows=20)
    given = [widemax(verb, run, rows, "--coverage", 0.7) for verb in ("suggest", "predict")]
    assert given[0] == given[1]
    assert re.fullmatch(r"threshold 0\.\d+, by \d+ held-out rows\n", given[0].err)
    assert set().union(*map(suggested, given[0].out.splitlines())) == set(SUBJECTS)


def test_what_goes_wrong_is_said(widemax, run: Path, fruit_run: Path, tmp_path: Path) -> None:
    later = write_rows(tmp_path / "later.jsonl", seed=1, num_rows=9)
    (tmp_path / "a.txt").write_text("tea")
    known = run.parent / "rows.jsonl"
    for options, sentence in {
        (run, "none.txt"): "none.txt is no file; name a text file, or data.",
        (run, later, "--calibration", later): "is what --coverage P goes by",
        (run, later, "--coverage", 0.9, "--calibration", known): "all rows stand in training too",
        (run, later, "--coverage", 0.95, "--calibration", later): "ask for 0.9 at most",
        (run, later, "--coverage", 1, "--calibration", later): "must be a number in (0, 1); got 1.0",
        (run, later, "--coverage", 0.9, "--calibration", later, "--threshold", 1): "leave --threshold out",
        (fruit_run, tmp_path / "a.txt", "--threshold", 0): "not one text; give data that have them",
        (fruit_run, later): "a threshold is fitted for rows with several labels",
    }.items():
        refused = widemax("suggest", *options)
        assert refused.code in (2, 3)
        assert sentence in refused.err
