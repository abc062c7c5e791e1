"""``widemax train | predict | evaluate | verify`` with lines of text and their translations."""

import io
import json
from pathlib import Path

import pytest
from tests.command import exit_code

pytest.importorskip("sentencepiece", reason="needs the extra translation")
SMALL = ["encoder.dim=16", "encoder.num_layers=1", "encoder.num_heads=2", "encoder.hidden_dim=16"]
SMALL += ["encoder.pieces=300", "train.epochs=1", "train.batch_size=16"]
PAIRS = [("one dog .", "ein hund ."), ("two cats .", "zwei katzen ."), ("red house .", "rotes haus .")] * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translation")
    for side, name in enumerate(("a.en", "a.de")):
        (folder / name).write_text("".join(pair[side] + "\n" for pair in PAIRS))
    settings = [word for setting in SMALL for word in ("--set", setting)]
    arguments = ["train", folder / "a.en", "--target-lines", folder / "a.de", "--out", folder / "run"]
    assert exit_code(*arguments, *settings) == 0
    return folder


def test_lines_go_in_and_as_many_come_out(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code("predict", folder / "run", folder / "a.en", "--beam", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PAIRS)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one dog .\n\nred house .")))
    assert exit_code("predict", folder / "run", "-", "--beam", 2, "--format", "jsonl") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["row"] for row in rows] == [0, 1, 2]
    assert [row["translation"] for row in rows] == [lines[0], "", lines[2]]


def test_references_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("evaluate", folder / "run", folder / "a.en", "--target-lines", folder / "a.de")
    assert exit_code(*asked) == 0
    out = capsys.readouterr().out
    assert out.startswith("36 rows, 300 classes")
    assert "BLEU  " in out
    assert "nrefs:1" in out
    assert exit_code(*asked, "--json") == 0
    assert {"bleu", "chrf", "signature", "nll", "tokens"} <= json.loads(capsys.readouterr().out).keys()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("evaluate", "run", "a.en"), 2, "name their files with --target-lines"),
        (("predict", "run", "a.en", "--format", "csv"), 2, "translations are lines, or jsonl"),
        (
            ("plan", "a.en", "--set", "data.target_lines=a.de"),
            2,
            "data.task is 'translate', which reads texts",
        ),
        (("train", "a.en", "--target-lines", "b.de", "--out", "other"), 2, "b.de"),
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
    assert exit_code(*arguments) == code
    assert said in capsys.readouterr().err
    assert not (folder / "other").exists()


def test_lines_are_checked_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in {
        "a.en": b"one\n\nthree\n\xff\n",
        "a.de": b"eins\nzwei\n\nvier\n",
        "v.en": b"one\ntwo\n",
        "v.de": b"eins\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    lines = ["check", tmp_path / "a.en", "--target-lines", tmp_path / "a.de"]
    valid = ["--valid", tmp_path / "v.en", "--valid-target-lines", tmp_path / "v.de"]
    assert exit_code(*lines, *valid, "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["pairs"], told["empty"]) == (5, 2)
    assert told["empty_lines"] == [
        f"{tmp_path / 'a.en'}:2: empty, and left out of training.",
        f"{tmp_path / 'a.de'}:3: empty, and left out of training.",
    ]
    no_text, no_pair = told["problems"]
    assert no_text.startswith(f"{tmp_path / 'a.en'}:4: byte 0xff after 0 bytes is not UTF-8")
    assert no_pair == f"{tmp_path / 'v.en'}:2: this line and those after it stand opposite no other."
    assert exit_code(*lines, "--encoding", "latin-1") == 0
    assert "4 pairs of lines, 2 with an empty side" in capsys.readouterr().out
