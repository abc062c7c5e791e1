"""What verbs tell: options that they have, wrong words before the data are read, numbers with their nouns."""

import json
import re
from pathlib import Path

import pytest
import typer

from widemax.cli.app import app

OPTION = re.compile(r"--[a-z][a-z-]+")


def options_of(verb: str) -> set[str]:
    command = typer.main.get_command(app).commands[verb]
    return {name for parameter in command.params for name in parameter.opts}


BAD_FILES = {
    "a row without a label": b"text,label\n" + b"a b,x\nb c,y\n" * 9 + b"c d,\n",
    "another encoding": b"text,label\n" + b"a b,x\nb c,y\n" * 9 + b"stra\xdfe,x\n",
    "no usual target": b"text,kind\n" + b"a b,x\nb c,y\n" * 9,
    "no input": b"label\nx\ny\n",
    "no rows": b"text,label\n",
}


@pytest.mark.parametrize("content", BAD_FILES)
@pytest.mark.parametrize("verb", ["init", "check", "plan", "train", "evaluate", "predict", "export"])
def test_a_message_names_options_of_its_verb(
    widemax, fruit_run: Path, tmp_path: Path, verb: str, content: str
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_bytes(BAD_FILES[content])
    arguments = {
        "init": (rows, "-o", tmp_path / "a.toml"),
        "train": (rows, "--out", tmp_path / "run"),
        "evaluate": (fruit_run, rows),
        "predict": (fruit_run, rows),
        "export": (fruit_run, "--out", tmp_path / "small", "--data", rows),
    }.get(verb, (rows,))
    result = widemax(verb, *arguments)
    assert set(OPTION.findall(result.err)) <= options_of(verb)


WRONG_WORDS = {
    "head.kind=smapled": "did you mean 'sampled'",
    "head.loss=cros_entropy": "did you mean 'cross_entropy'",
    "head.sampler=unifrom": "did you mean 'uniform'",
    "head.correction=conditonal": "did you mean 'conditional'",
    "head.score=cosin": "did you mean 'cosine'",
    "head.temprature=1": "did you mean 'temperature'",
    "encoder.kind=txt": "did you mean 'text'",
    "train.optimizer=lazy_adm": "did you mean 'lazy_adam'",
    "train.metric=acuracy": "did you mean 'accuracy'",
    "data.format=cvs": "did you mean 'csv'",
    "data.task=on": "'one'",
}


@pytest.mark.parametrize("setting", WRONG_WORDS)
@pytest.mark.parametrize("verb", ["check", "plan", "train"])
def test_a_wrong_word_is_found_before_the_data_are_read(
    widemax, fruit_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, setting: str
) -> None:
    def read(*args: object, **options: object) -> None:
        pytest.fail("the data were read")

    for module in ("widemax.training.prepare", "widemax.data"):
        monkeypatch.setattr(f"{module}.infer_schema", read)
    out = ("--out", tmp_path / "run") if verb == "train" else ()
    result = widemax(verb, fruit_csv, "--target", "fruit", "--set", setting, *out)
    assert (result.code, result.out) == (2, "")
    assert WRONG_WORDS[setting] in result.err
    assert not (tmp_path / "run").exists()


def test_every_metric_is_shown_when_asked_for(widemax, fruit_run: Path, fruit_csv: Path) -> None:
    few, every = (
        widemax("evaluate", fruit_run, fruit_csv).out,
        widemax("evaluate", fruit_run, fruit_csv, "--all").out,
    )
    assert "accuracy" in few
    assert "macro F1" in few
    assert "Brier" not in few
    assert "Brier" in every
    values = json.loads(widemax("evaluate", fruit_run, fruit_csv, "--json").out)
    assert "brier" in values


def test_one_is_not_many(widemax, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "a b,x\n" * 30 + "c d,\n", encoding="utf-8")
    told = widemax("check", rows, "--drop-bad").out
    trained = widemax("train", rows, "--drop-bad", "--out", tmp_path / "run", "--set", "train.epochs=1")
    told += trained.out + trained.err
    assert "1 bad row" in told
    assert not re.search(r"\b1 [a-z ]*(rows|classes|steps|epochs|labels)\b", told)
