"""Columns of every kind together, and options that are wrong."""

import json
import random
from pathlib import Path

import pytest


@pytest.fixture
def goods(tmp_path: Path) -> Path:
    """200 goods: a word of the text tells which; price and color tell nothing."""
    rows = random.Random(0)
    path = tmp_path / "goods.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(200):
            label = rows.choice(["tea", "ink", "oil", "salt"])
            text = f"{rows.choice(['a', 'my', 'the'])} fine {label} from {rows.choice(['here', 'there'])}"
            row = {"text": text, "price": rows.random(), "color": rows.choice("rgb"), "label": label}
            file.write(json.dumps(row) + "\n")
    return path


def test_text_number_and_category_learn_together(widemax, goods: Path, tmp_path: Path) -> None:
    named = ("--kind", "text=text", "--input", "text,price,color")
    result = widemax("train", goods, *named, "--out", tmp_path / "run", "--json")
    summary = json.loads(result.out)
    assert summary["encoder"] == "mixed"
    assert summary["metrics"]["accuracy"] >= 0.9
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[0]["train_loss"] < 10  # the first steps do not throw the perceptron off


def test_columns_that_tell_nothing_are_left_out_with_a_sentence(widemax, goods: Path, tmp_path: Path) -> None:
    result = widemax("train", goods, "--kind", "text=text", "--out", tmp_path / "run")
    assert "column 'price' is left out: it says nothing about 'label' in the first 200 rows" in result.err
    assert "column 'color' is left out" in "".join(widemax("check", goods).out)
    evaluated = json.loads(widemax("evaluate", tmp_path / "run", goods, "--json").out)
    assert evaluated["accuracy"] >= 0.9


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("train.device=mps", "train.device is 'mps', but torch"),
        ("train.batch_size=0", "'batch_size' in [train] must be a whole number of at least 1"),
        ("train.learning_rate=-1", "'learning_rate' in [train] must be a number above 0.0"),
        ("train.learning_rate=nan", "'learning_rate' in [train] must be a number above 0.0"),
        ("encoder.dim=abc", "option 'dim' of encoder 'text'"),
    ],
)
def test_wrong_settings(widemax, goods: Path, tmp_path: Path, setting: str, sentence: str) -> None:
    result = widemax("train", goods, "--set", setting, "--kind", "text=text", "--out", tmp_path / "run")
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err


@pytest.mark.parametrize("text", ["data = 3\n", "train = 3\n[data]\n", "[data]\nkinds = 3\n"])
def test_a_value_where_a_table_belongs(widemax, tmp_path: Path, text: str) -> None:
    config = tmp_path / "a.toml"
    config.write_text(text, encoding="utf-8")
    result = widemax("train", config, "--target", "label", "--seed", 0, "--kind", "text=text")
    assert (result.code, result.out) == (2, "")
    assert "must be a table, got 3." in result.err


def test_init_takes_columns_as_train_does(widemax, goods: Path, tmp_path: Path) -> None:
    result = widemax("init", goods, "-o", tmp_path / "a.toml", "--input", "price,color", "--json")
    assert json.loads(result.out)["inputs"] == {"price": "number", "color": "category"}
