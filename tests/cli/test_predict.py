"""Predictions give labels back as they were given, in order, in a format that nothing breaks."""

import csv
import io
import json
import sys
from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.forked import Command

from widemax import Config, train

WORDS = ("cat", "dog", "owl")
LABELS: dict[str, tuple[Any, ...]] = {
    "integers": (-5, 0, 70),
    "booleans": (True, False, True),
    "floats": (0.5, 1.25, -2.0),
    "strings that look like numbers": ("007", "7", "07"),
    "any script": ("猫", "狗🐶", "e\u0301"),
    "control characters": ("a\tb", "c\nd\\n", "e\rf"),
    "dates": (date(2024, 2, 28), date(2024, 2, 29), date(1969, 1, 1)),
    "times": (datetime(2024, 2, 29, 12), datetime(2024, 2, 29, 13, 30), datetime(1999, 1, 1)),
}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[Any, ...]], Path]:
    """A run that has learned which of three words stands for which label; its data lie beside it."""

    @cache
    def trained(labels: tuple[Any, ...]) -> Path:
        folder = tmp_path_factory.mktemp("predict")
        rows = [(f"we saw a {word} there", label) for word, label in zip(WORDS, labels, strict=True)] * 30
        texts, targets = zip(*rows, strict=True)
        pq.write_table(pa.table({"text": texts, "label": targets}), folder / "rows.parquet")
        data = {"train": folder / "rows.parquet", "kinds": {"text": "text"}, "valid_fraction": 0}
        return train(Config(data=data, output={"dir": folder / "run"})).run

    return trained


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_as_they_were_given(widemax, run_of, kind: str) -> None:
    labels = LABELS[kind]
    run = run_of(labels)
    rows = run.parent / "rows.parquet"
    in_json = [label.isoformat() if isinstance(label, date) else label for label in labels]
    lines = widemax("predict", run, rows, "-k", 9).out.splitlines()
    found = [[p["label"] for p in json.loads(line)["predictions"]] for line in lines]
    assert [labels[0] for labels in found[:3]] == in_json
    assert {len(labels) for labels in found} == {len(set(labels))}
    whole = json.loads(widemax("predict", run, rows, "-k", 9, "--json").out)
    assert whole == {"rows": [json.loads(line) for line in lines]}
    tsv = widemax("predict", run, rows, "-k", 1, "--format", "tsv").out
    header, *cells = [line.split("\t") for line in tsv.removesuffix("\n").split("\n")]
    assert header == ["row", "text", "label", "probability", "logit"]
    assert [len(cell) for cell in cells] == [5] * 90
    assert [cell[1] for cell in cells[:3]] == [f"we saw a {word} there" for word in WORDS]
    cells = [[cell[0], *cell[2:]] for cell in cells]
    unescaped = [cell[1].replace(r"\t", "\t").replace(r"\r", "\r") for cell in cells[:3]]
    if kind == "control characters":
        assert [cell[1] for cell in cells[:3]] == [r"a\tb", r"c\nd\\n", r"e\rf"]
    else:
        assert unescaped == [label if isinstance(label, str) else json.dumps(label) for label in in_json]


def test_labels_that_reach_a_threshold(widemax, tmp_path: Path) -> None:
    subjects = [("red cat", ["red", "cat"]), ("blue dog", ["blue", "dog"]), ("blue cat", ["blue", "cat"])]
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": text, "subjects": labels}) + "\n" for text, labels in subjects * 40]
    rows.write_text("".join(lines), encoding="utf-8")
    run = tmp_path / "run"
    assert widemax("train", rows, "--kind", "text=text", "--out", run, "--target", "subjects").code == 0
    found = widemax("predict", run, rows, "--threshold", "auto").out.splitlines()[:3]
    given = [{p["label"] for p in json.loads(line)["predictions"]} for line in found]
    assert given == [set(labels) for _, labels in subjects]
    values = json.loads(widemax("evaluate", run, rows, "--json").out)
    assert values["f1"] == 1
    assert values["threshold"] == json.loads((run / "manifest.json").read_text())["threshold"]
    assert "micro F1 above the threshold  100.00%" in widemax("evaluate", run, rows).out

    nothing = widemax("predict", run, rows, "--threshold", "1", "--format", "csv").out.splitlines()
    assert nothing[1] == "0,red cat,,,"
    assert widemax("predict", run, rows, "--threshold", "1", "--format", "table").out.startswith("red cat\n")
    wrong = widemax("predict", run, rows, "--threshold", "half")
    assert (wrong.code, wrong.err) == (
        2,
        "error: --threshold must be auto or a number from 0 to 1; got 'half'.\n",
    )


def test_a_threshold_is_for_several_labels(widemax, fruit_run: Path, fruit_csv: Path) -> None:
    refused = widemax("predict", fruit_run, fruit_csv, "--threshold", "auto")
    assert refused.code == 2
    assert "a threshold is fitted for rows with several labels" in refused.err


def test_rows_are_numbered_as_in_the_files(widemax, fruit_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("id,weight_g,color\n7,950,green\n8,heavy,green\n9,41,blue\n", encoding="utf-8")
    refused = widemax("predict", fruit_run, path)
    assert (refused.code, refused.out) == (3, "")
    assert f"{path}:3: column 'weight_g' must be a number, got 'heavy'" in refused.err
    result = widemax("predict", fruit_run, path, "-k", 1, "--drop-bad")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [(line["row"], line["predictions"][0]["label"]) for line in lines] == [(0, "melon"), (2, "plum")]
    assert result.err == "dropped 1 bad row\n"


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_what_a_coverage_goes_by_is_asked_for(widemax, run_of) -> None:
    run = run_of(WORDS)
    for options, sentence in {
        ("predict", run, "-", "--coverage", 0.9): "(--calibration ROWS)",
        ("serve", run, "--port", 0, "--coverage", 0.9): "(--calibration ROWS)",
        ("predict", run, "-", "--calibration", "rows.csv"): "what --coverage P goes by",
        ("serve", run, "--calibration", "rows.csv"): "for --coverage P to go by",
        ("predict", run, "-", "--coverage", 0.9, "--threshold", 0.5): "leave --threshold out",
    }.items():
        refused = widemax(*options)
        assert (refused.code, sentence in refused.err) == (2, True)


def test_text_on_stdin_is_a_row_a_line(widemax, run_of, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(WORDS)
    give_stdin(monkeypatch, b'\xef\xbb\xbfthe cat\r\n\n{"text": "the dog"}\nthe owl')
    lines = [json.loads(line) for line in widemax("predict", run, "-", "-k", 1).out.splitlines()]
    assert [line["row"] for line in lines] == [0, 1, 2, 3]
    assert [lines[row]["predictions"][0]["label"] for row in (0, 2, 3)] == ["cat", "dog", "owl"]
    give_stdin(monkeypatch, b"")
    assert widemax("predict", run, "-") == (0, "", "")
    give_stdin(monkeypatch, b"the cat\n\xff\nthe owl\n")
    result = widemax("predict", run, "-", "-k", 1)
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert lines[1] == {"row": 1, "error": "stdin:2: byte 0xff after 0 bytes is not UTF-8."}
    assert [lines[row]["predictions"][0]["label"] for row in (0, 2)] == ["cat", "owl"]
    assert result.code == 3


def test_json_lines_on_stdin_may_have_blank_lines(
    widemax, fruit_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = b'{"weight_g": "950", "color": null, "other": [1]}\n'
    give_stdin(monkeypatch, b"\n" + row + b"\n\n" + row.replace(b"950", b"heavy"))
    result = widemax("predict", fruit_run, "-")
    assert result.code == 3
    assert "stdin:5: column 'weight_g' must be a number, got 'heavy'" in result.out
    give_stdin(monkeypatch, b"\n" + row * 1000 + b"\n")
    lines = widemax("predict", fruit_run, "-", "-k", 1).out.splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(1000))


GOOD = b'{"weight_g": 950, "color": "green"}'
BAD = {
    b"{": "broken JSON",
    b"[1]": "one JSON object a line with the columns color, weight_g",
    b'{"color": "green"}': "the row lacks the input 'weight_g'; it has ['color']",
    b'{"weight_g": "heavy", "color": "green"}': "column 'weight_g' must be a number, got 'heavy'",
    b'{"weight_g": {"a": 1}, "color": "green"}': "column 'weight_g' ",
    b'{"weight_g": [[1]], "color": "green"}': "column 'weight_g' ",
    b'{"weight_g": 1, "color": "\xff"}': "is not UTF-8",
    b'{"weight_g": 1, "color": "\\udcff"}': "half of a surrogate pair",
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("places", [{0}, {3}, {1, 2}, {0, 1, 2, 3}])
def test_a_bad_row_on_stdin_is_answered_in_its_place(
    widemax, fruit_run: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes, places: set[int]
) -> None:
    lines = [bad if row in places else GOOD for row in range(4)]
    give_stdin(monkeypatch, b"\n".join(lines))
    result = widemax("predict", fruit_run, "-", "-k", 1)
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert [answer["row"] for answer in answers] == [0, 1, 2, 3]
    for row, answer in enumerate(answers):
        if row in places:
            assert set(answer) == {"row", "error"}
            assert answer["error"].startswith(f"stdin:{row + 1}: ")
            assert BAD[bad] in answer["error"]
        else:
            assert answer["predictions"][0]["label"] == "melon"
    assert result.code == 3
    rows = f"{len(places)} row" + "s" * (len(places) > 1)
    assert result.err == f"error: {rows} could not be read; the answers say what is wrong.\n"


def test_a_bad_row_of_a_file_is_answered_in_its_place_too(
    widemax, fruit_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "some.csv"
    bad = {0, 3, 4, 599, 1199}  # more rows than are predicted together
    rows = ["heavy,green" if row in bad else "950,green" for row in range(1200)]
    rows[4] = "1,2,3"
    path.write_text("weight_g,color\n" + "\n".join(rows), encoding="utf-8")
    result = widemax("predict", fruit_run, path, "-k", 1, "--keep-going")
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert [answer["row"] for answer in answers] == list(range(1200))
    assert {answer["row"] for answer in answers if "error" in answer} == bad
    assert answers[3]["error"].startswith(f"{path}:5: column 'weight_g' must be a number, got 'heavy'")
    assert answers[4]["error"] == f"{path}:6: the row has 3 columns where the header has 2."
    assert result.code == 3
    whole = widemax("predict", fruit_run, path, "-k", 1, "--keep-going", "--json")
    assert (json.loads(whole.out)["rows"], whole.code) == (answers, 3)
    tsv = widemax("predict", fruit_run, path, "-k", 1, "--keep-going", "--format", "tsv")
    cells = [line.split("\t") for line in tsv.out.splitlines()[1:]]
    assert [cell[0] for cell in cells] == [str(row) for row in range(1200)]
    assert {len(cell) for cell in cells} == {6}
    assert cells[3] == ["3", *[""] * 5]
    assert tsv.err.count("must be a number") == 4
    give_stdin(monkeypatch, GOOD + b"\n{\n" + GOOD)
    dropped = widemax("predict", fruit_run, "-", "-k", 1, "--drop-bad")
    assert [json.loads(line)["row"] for line in dropped.out.splitlines()] == [0, 2]
    assert (dropped.code, dropped.err) == (0, "dropped 1 bad row\n")


def test_an_open_pipe_gets_its_answers_at_once(fruit_run: Path) -> None:
    process = Command("predict", fruit_run, "-", "-k", 1)
    for weight, fruit in ((40, "plum"), (950, "melon")):
        color = "blue" if fruit == "plum" else "green"
        process.stdin.write(json.dumps({"weight_g": weight, "color": color}) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["predictions"][0]["label"] == fruit
    process.stdin.close()
    assert process.wait(60) == 0
    process.stop()


@pytest.mark.parametrize("kind", LABELS)
def test_csv_has_a_header_and_the_inputs_as_they_were_given(widemax, run_of, kind: str) -> None:
    labels = LABELS[kind]
    run = run_of(labels)
    text = widemax("predict", run, run.parent / "rows.parquet", "-k", 2, "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(rows[0]) == ["row", "text", "label", "probability", "logit"]
    assert [row["row"] for row in rows[:4]] == ["0", "0", "1", "1"]
    assert rows[2]["text"] == "we saw a dog there"
    in_json = [label.isoformat() if isinstance(label, date) else label for label in labels]
    wanted = [label if isinstance(label, str) else json.dumps(label) for label in in_json]
    assert [row["label"] for row in rows[:6:2]] == wanted


def test_an_input_named_label_is_kept_apart(widemax, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("label,kind\n" + "a b,x\nb c,y\n" * 20, encoding="utf-8")
    run = tmp_path / "run"
    assert widemax("train", path, "--target", "kind", "--out", run, "--set", "train.epochs=1").code == 0
    header = widemax("predict", run, path, "--format", "csv").out.splitlines()[0]
    assert header == "row,label,predicted_label,probability,logit"


def test_a_terminal_shows_a_table_within_its_width(
    widemax, fruit_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    long = json.dumps({"weight_g": 950, "color": "green\x1b[31m" + "緑" * 99}).encode()
    give_stdin(monkeypatch, GOOD + b"\n" + long + b"\n{\n")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    result = widemax("predict", fruit_run, "-")
    good, *_, bad = result.out.splitlines()
    assert good.split()[:3] == ["green,", "950", "melon"]
    assert good.split()[-1] in ("96%", "97%", "98%", "99%", "100%")
    assert {len(line) for line in result.out.splitlines() if "melon" in line and "緑" not in line} == {60}
    assert "\x1b" not in result.out
    assert "broken JSON" in bad
    assert result.code == 3


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_a_spreadsheet_runs_no_cell(
    widemax, fruit_run: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    colors = ["=1+1", "+1", "-1e3", "-2+3", "@x", "\tx", "\rx", "-", "green"]
    rows = "".join(json.dumps({"color": color, "weight_g": -950}) + "\n" for color in colors).encode()

    def cells(*options: str) -> list[str]:
        give_stdin(monkeypatch, rows)
        out = widemax("predict", fruit_run, "-", "-k", 1, "--format", form, *options).out
        table = list(csv.reader(io.StringIO(out, newline=""), delimiter="," if form == "csv" else "\t"))
        assert {row[2] for row in table[1:]} == {"-950"}
        return [row[1] for row in table[1:]]

    told = cells("--no-safe")
    assert told == (colors if form == "csv" else [*colors[:5], r"\tx", r"\rx", *colors[7:]])
    harmless = ["=1+1", "-2+3", "@x", told[5], told[6], "-"]
    assert cells() == [f"'{cell}" if cell in harmless else cell for cell in told]


def test_no_control_character_reaches_a_terminal(
    widemax, fruit_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "\x1b]0;owned\x07 \x9b31m \u202e"
    path = tmp_path / f"rows{evil}.csv"
    path.write_text(f"color{evil},label\n" + f"red,a{evil}\nred,A{evil}\n" * 20, encoding="utf-8")
    results = [
        widemax("check", path),
        widemax("check", path, "--target", f"x{evil}"),
        widemax("train", path, "--out", tmp_path / "run", "--set", "train.epochs=1"),
        widemax("evaluate", tmp_path / "run", path, "--report", tmp_path / "report.html"),
        widemax("predict", tmp_path / "run", tmp_path / f"none{evil}.csv", "--debug"),
    ]
    assert [result.code for result in results] == [0, 2, 0, 0, 3]
    give_stdin(monkeypatch, json.dumps({"color": evil, "weight_g": 40}).encode() + b"\n")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    results += [widemax("predict", fruit_run, "-", "--format", "csv")]
    shown = [*(result.out + result.err for result in results), (tmp_path / "report.html").read_text("utf-8")]
    told = [r"\x1b]0;owned\x07 \x9b31m \u202e" in text for text in shown]
    assert told == [True, True, True, False, True, True, True]  # evaluate tells of numbers alone
    assert not any(set(text) & set("\x1b\x07\x9b\u202e") for text in shown)
