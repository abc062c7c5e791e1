"""``widemax evaluate`` writes a page, and ``train`` names its own."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run(fruit_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fruit_run, tmp_path / "run"))


def test_a_page_names_rows_by_file_and_line(widemax, run: Path, tmp_path: Path) -> None:
    rows = tmp_path / "new fruit.csv"
    rows.write_text(
        "color,weight_g,fruit\nblue,40,plum\n\nblue,41,melon\ngreen,900,melon\n", encoding="utf-8"
    )
    result = widemax("evaluate", run, rows)
    assert f"report: {run / 'report-new-fruit.csv.html'}" in result.out
    page = (run / "report-new-fruit.csv.html").read_text(encoding="utf-8")
    assert f"{rows}:4</td><td>color: blue, weight_g: 41</td>" in page
    assert re.search(r"widemax \d.* · \d{4}-\d\d-\d\d \d\d:\d\d UTC", page)
    assert widemax("verify", run).code == 0
    assert (run / "report.html").read_bytes() != page.encode()


def test_the_page_goes_where_it_is_told(widemax, run: Path, fruit_csv: Path, tmp_path: Path) -> None:
    before = sorted(run.iterdir())
    told = json.loads(widemax("evaluate", run, fruit_csv, "--report", tmp_path / "a.html", "--json").out)
    assert told["report"] == str(tmp_path / "a.html")
    assert (tmp_path / "a.html").is_file()
    assert sorted(run.iterdir()) == before
    refused = widemax("evaluate", run, fruit_csv, "--report", tmp_path / "absent" / "a.html")
    assert refused.code == 4
    assert "cannot write" in refused.err


def test_a_run_that_cannot_be_written_is_evaluated(
    widemax, run: Path, fruit_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(run.iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode, **how: mode != os.W_OK)
    result = widemax("evaluate", run, fruit_csv)
    assert result.code == 0
    assert "accuracy" in result.out
    assert f"no report: {run} is read-only" in result.out
    assert sorted(run.iterdir()) == before


def test_train_names_a_page_with_the_rows_held_out(widemax, fruit_csv: Path, tmp_path: Path) -> None:
    lines = fruit_csv.read_text(encoding="utf-8").splitlines()
    lines[1:] = [line if number % 5 else "blue,40,melon" for number, line in enumerate(lines[1:])]
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = tmp_path / "run"
    result = widemax("train", rows, "--target", "fruit", "--out", run, "--set", "train.epochs=40")
    assert f"report: {run / 'report.html'}" in result.out
    page = (run / "report.html").read_text(encoding="utf-8")
    places = re.findall(rf"{rows}:(\d+)</td><td>([^<]*)</td><td>([^<]*)</td>", page)
    assert places
    for line, inputs, label in places:
        color, weight, fruit = lines[int(line) - 1].split(",")
        assert (f"color: {color}, weight_g: {weight}", fruit) == (inputs, label)
    assert re.search(r"trained in \d", page)
    assert re.search(r"stopped at epoch \d+ of 40", page)
