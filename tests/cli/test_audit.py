"""``widemax audit``: the table, the JSON, the picture, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

Widemax = Callable[..., Any]
FEW = ("--draws", 4, "--batch", 32, "--num-sampled", 2)


def test_a_run_is_audited_on_its_own_rows(widemax: Widemax, fruit_run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "audit.svg"
    chosen = ("--sampler", "uniform,frequency", "--correction", "importance")
    result = widemax("audit", fruit_run, *FEW, *chosen, "--plot", picture, "--json")
    assert result.code == 0, result.err
    audit = json.loads(result.out)
    assert (audit["num_classes"], audit["batch_size"], audit["num_sampled"]) == (3, 32, 2)
    assert {(row["sampler"], row["correction"]) for row in audit["rows"]} == {
        ("uniform", "importance"),
        ("frequency", "importance"),
    }
    words = "".join(ElementTree.parse(picture).getroot().itertext())
    assert "uniform" in words
    assert f"recommended: {audit['recommended']}" in words
    assert words.count("(recommended)") == 1


def test_people_see_a_table_and_a_recommendation(widemax: Widemax, fruit_run: Path, fruit_csv: Path) -> None:
    shown = widemax("audit", fruit_run, fruit_csv, *FEW, "--sampler", "uniform").out.splitlines()
    assert shown[0].startswith("2 draws of 3 classes for 32 rows, 4 times")
    assert sorted(line.split()[0] for line in shown[2:4]) == ["uniform", "uniform"]
    assert shown[-2].startswith("exact")
    assert shown[-1].startswith("recommended: ")


def test_rows_with_unknown_labels_are_left_out(widemax: Widemax, fruit_run: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("color,weight_g,fruit\nblue,40,plum\nred,90,cherry\ngreen,60,lime\n", encoding="utf-8")
    result = widemax("audit", fruit_run, rows, *FEW, "--sampler", "uniform", "--json")
    assert json.loads(result.out)["batch_size"] == 2
    rows.write_text("color,weight_g,fruit\nred,90,cherry\n", encoding="utf-8")
    refused = widemax("audit", fruit_run, rows, *FEW)
    assert refused.code == 3
    assert "no row has labels that the run knows" in refused.err


def test_several_labels_a_row(widemax: Widemax, tmp_path: Path) -> None:
    rows = [{"text": f"{a} and {b}", "labels": [a, b]} for a in "abcdefgh" for b in "abcdefgh" if a != b]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    trained = widemax(
        "train", data, "--target", "labels", "--set", "train.epochs=1", "--out", tmp_path / "run"
    )
    assert trained.code == 0, trained.err
    data.write_text(json.dumps({"text": "a", "labels": ["a", "no such"]}) + "\n" + json.dumps(rows[0]) + "\n")
    result = widemax("audit", tmp_path / "run", data, *FEW, "--sampler", "uniform", "--json")
    assert result.code == 0, result.err
    audit = json.loads(result.out)
    assert audit["batch_size"] == 1
    assert audit["rows"][0]["kl_nats"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sampler", "unifrom"), "did you mean 'uniform'"),
        (("--correction", "importence"), "did you mean 'importance'"),
    ],
)
def test_misspelled_names_are_refused(
    widemax: Widemax, fruit_run: Path, options: tuple[str, str], message: str
) -> None:
    refused = widemax("audit", fruit_run, *options)
    assert refused.code == 2
    assert message in refused.err


def test_a_head_without_one_row_a_class_is_refused(widemax: Widemax, fruit_csv: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ("--set", "train.epochs=1", "--set", "head.kind=tree")
    assert widemax("train", fruit_csv, "--target", "fruit", *small, "--out", run).code == 0
    refused = widemax("audit", run)
    assert refused.code == 2
    assert "Train one with --set head.kind=sampled or exact" in refused.err


def test_a_picture_of_another_kind_is_refused_at_once(
    widemax: Widemax, fruit_run: Path, tmp_path: Path
) -> None:
    refused = widemax("audit", fruit_run, "--plot", tmp_path / "audit.png")
    assert (refused.code, refused.out) == (2, "")
    assert "name a file that ends in .svg" in refused.err
    assert not (tmp_path / "audit.png").exists()
