"""``widemax train | predict | evaluate | verify | check | plan`` with texts."""

import io
import json
from pathlib import Path

import pytest
from tests.command import exit_code
from tests.language.conftest import made_text

SMALL = ["encoder.dim=8", "encoder.length=8", "train.epochs=1", "train.batch_size=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    (folder / "book.txt").write_text(made_text(60))
    (folder / "rows.csv").write_text("text,label\n" + "tea,a\nink,b\n" * 20)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    arguments = ["train", folder / "book.txt", "--task", "language", "--unit", "character"]
    assert exit_code(*arguments, "--out", folder / "run", *settings) == 0
    arguments = ["train", folder / "rows.csv", "--target", "label", "--set", "train.epochs=1"]
    assert exit_code(*arguments, "--out", folder / "rows") == 0
    return folder


def test_texts_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered(given: bytes, *options: object) -> str:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert exit_code("predict", folder / "run", "-", "--tokens", 12, *options) == 0
        return capsys.readouterr().out

    rows = [json.loads(line) for line in answered(b"ba \nko ", "--format", "jsonl").splitlines()]
    assert [(row["row"], row["text"], len(row["continuation"])) for row in rows] == [
        (0, "ba ", 12),
        (1, "ko ", 12),
    ]
    whole = "".join(f"{row['text']}{row['continuation']}\n" for row in rows)
    assert answered(b"ba \nko ") == whole
    assert answered(b"ba \nko ", "--seed", 3) != whole
    greedy = answered(b"ba ", "--temperature", 0)
    assert greedy == answered(b"ba ", "--temperature", 0, "--seed", 3) == answered(b"ba ", "--top-k", 1)
    assert exit_code("predict", folder / "run", folder / "book.txt", "--tokens", 5, "--top-p", 0.9) == 0
    out = capsys.readouterr().out
    assert out.startswith((folder / "book.txt").read_text())
    assert len(out) == len((folder / "book.txt").read_text()) + 5 + 1


def test_a_text_is_evaluated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("evaluate", folder / "run", folder / "book.txt")
    assert exit_code(*asked, "--per-token", folder / "tokens.jsonl") == 0
    out = capsys.readouterr().out
    assert out.startswith("60 rows, ")
    assert "perplexity" in out
    assert "bits a character" in out
    assert len((folder / "tokens.jsonl").read_text().splitlines()) == len((folder / "book.txt").read_text())
    assert exit_code(*asked, "--json") == 0
    assert {"perplexity", "nll", "tokens", "rows"} <= json.loads(capsys.readouterr().out).keys()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("predict", "run", "book.txt", "--beam", 3), 2, "--beam is for a parser or a translator, and"),
        (("predict", "run", "book.txt", "--format", "csv"), 2, "a text goes on as text"),
        (("predict", "run", "book.txt", "--top-p", 3), 2, "top_p"),
        (("predict", "rows", "rows.csv", "--top-k", 3), 2, "--top-k is for a language model, and"),
        (("evaluate", "rows", "rows.csv", "--per-token", "x"), 2, "--per-token is for a language model, and"),
        (
            ("evaluate", "run", "book.txt", "--target-lines", "x"),
            2,
            "--target-lines is for a translator, and",
        ),
        (("check", "run/config.toml"), 2, "data.task is 'language'"),
        (("train", "book.txt", "--unit", "word", "--target", "x"), 2, "--unit is of language models"),
        (("train", "book.txt", "--task", "langage"), 2, "did you mean 'language'"),
        (("train", "book.txt", "--task", "language", "--set", "head.kind=tree"), 2, "head.kind must be"),
    ],
)
def test_what_is_wrong_is_told(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(folder)
    extra = ("--out", "other") if arguments[0] == "train" else ()
    assert exit_code(*arguments, *extra) == code
    assert said in capsys.readouterr().err
    assert not (folder / "other").exists()
