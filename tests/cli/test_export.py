"""``widemax export``: a smaller run, and what it loses."""

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import Widemax

from widemax.storage import read_manifest


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_smaller_run_is_read_by_every_verb(
    widemax: Widemax, fruit_csv: Path, fruit_run: Path, tmp_path: Path, precision: str
) -> None:
    small = tmp_path / "small"
    exported = widemax("export", fruit_run, "--out", small, "--precision", precision, "--json", "--keep", 1.0)
    facts = json.loads(exported.out)
    assert facts["bytes"] < facts["bytes_before"]
    assert facts["bytes"] == sum(entry["bytes"] for entry in read_manifest(small)["files"].values())
    evaluated = json.loads(widemax("evaluate", small, fruit_csv, "--json").out)
    assert facts["after"] == evaluated["accuracy"]
    assert facts["before"] == json.loads(widemax("evaluate", fruit_run, fruit_csv, "--json").out)["accuracy"]
    assert widemax("verify", small).code == 0
    assert read_manifest(small)["precision"] == precision


def test_what_is_lost_is_said(widemax: Widemax, fruit_csv: Path, fruit_run: Path, tmp_path: Path) -> None:
    said = widemax("export", fruit_run, "--out", tmp_path / "a").out
    assert "MB in place of" in said
    assert "accuracy" in said
    assert "give --data" in said
    assert f"on {fruit_csv}" in widemax("export", fruit_run, "--out", tmp_path / "b", "--data", fruit_csv).out


def test_bad_requests_lose_nothing(
    widemax: Widemax, fruit_csv: Path, fruit_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(fruit_run, run)
    itself = widemax("export", run, "--out", run, "--overwrite")
    assert itself.code == 2
    assert "is the run itself" in itself.err
    assert widemax("verify", run).code == 0
    missing = widemax("export", run, "--out", tmp_path / "out", "--data", tmp_path / "none.csv")
    assert missing.code == 2
    assert "Give --data ROWS" in missing.err
    assert not (tmp_path / "out").exists()
    assert widemax("export", run, "--out", tmp_path / "out", "--keep", 0).code == 2
    assert widemax("export", run, "--out", tmp_path / "out", "--precision", "int4").code == 2


def test_a_folder_that_is_not_named_stands_beside_the_run(
    widemax: Widemax, fruit_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(fruit_run, run)
    assert widemax("export", run, "--format", "tsv").code == 0
    assert {path.name for path in (tmp_path / "run-tsv").iterdir()} == {"vectors.tsv", "metadata.tsv"}
    again = widemax("export", run, "--format", "tsv")
    assert again.code == 2
    assert "run-tsv" in again.err
