"""Every verb, its exit codes, and its JSON."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest

from widemax import planner
from widemax.cli import demo
from widemax.training import runs


class Result(NamedTuple):
    code: int
    out: str
    err: str


Widemax = Callable[..., Result]


def test_check_reports(widemax: Widemax, fruit_csv: Path) -> None:
    result = widemax("check", fruit_csv, "--target", "fruit", "--json")
    assert result.code == 0
    report = json.loads(result.out)
    assert report["rows"] == 300
    assert report["num_classes"] == 3
    assert widemax("check", fruit_csv, "--target", "fruit").out.count("\n") > 3


def test_init_writes_a_config_that_trains(widemax: Widemax, fruit_csv: Path, tmp_path: Path) -> None:
    config = tmp_path / "fruit.toml"
    result = widemax("init", fruit_csv, "-o", config, "--target", "fruit")
    assert result.code == 0
    assert f"widemax train {config}" in result.out
    trained = widemax("train", config, "--out", tmp_path / "run", "--set", "train.epochs=2", "--json")
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["num_classes"] == 3
    assert widemax("init", fruit_csv, "-o", config).code == 2


def test_train_evaluate_predict_verify(widemax: Widemax, fruit_csv: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = widemax("train", fruit_csv, "--input", "color,weight_g", "--target", "fruit", "--out", run)
    assert trained.code == 0, trained.err
    assert "next: widemax predict" in trained.out
    assert "held-out mean_reciprocal_rank" in trained.err
    values = json.loads(widemax("evaluate", run, fruit_csv, "--json").out)
    assert values["rows"] == 300
    assert values["accuracy"] > 0.95
    contract = "rows skipped num_classes task seconds rows_per_s nll accuracy top5 top10 mean_reciprocal_rank"
    assert set(contract.split()) | {"macro_f1", "ece", "unseen_labels"} <= values.keys()
    lines = [json.loads(line) for line in widemax("predict", run, fruit_csv, "-k", 2).out.splitlines()]
    assert [line["row"] for line in lines] == list(range(300))
    assert {len(line["predictions"]) for line in lines} == {2}
    assert lines[0]["search"] == lines[0]["normalizer"] == "exact"
    assert widemax("verify", run).code == 0


def give_stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_predict_reads_stdin(widemax: Widemax, fruit_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = '{"color": "green", "weight_g": 950}\n{"color": "blue", "weight_g": 41.5}\n'
    give_stdin(monkeypatch, rows)
    lines = [json.loads(line) for line in widemax("predict", fruit_run, "-", "-k", 1).out.splitlines()]
    assert [line["predictions"][0]["label"] for line in lines] == ["melon", "plum"]
    give_stdin(monkeypatch, rows)
    tsv = widemax("predict", fruit_run, "-", "-k", 1, "--format", "tsv").out.splitlines()
    assert [line.split("\t")[:4] for line in tsv] == [
        ["row", "color", "weight_g", "label"],
        ["0", "green", "950", "melon"],
        ["1", "blue", "41.5", "plum"],
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "stdin:1"),
        ('{"color": "green"}', "lacks the input 'weight_g'"),
        ("green", "one JSON object a line"),
    ],
)
def test_predict_refuses_bad_lines(
    widemax: Widemax, fruit_run: Path, monkeypatch: pytest.MonkeyPatch, line: str, sentence: str
) -> None:
    give_stdin(monkeypatch, line + "\n")
    result = widemax("predict", fruit_run, "-")
    assert result.code == 3
    assert sentence in result.out
    assert result.err.startswith("error: 1 row could not be read")


def test_resume_of_a_finished_run_gives_the_same(widemax: Widemax, fruit_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(fruit_run, copy)
    result = widemax("resume", copy, "--json")
    assert result.code == 0, result.err
    assert (
        json.loads(result.out)["steps"]
        == json.loads((copy / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    )


def test_what_a_kill_leaves_in_a_finished_run_is_no_damage(
    widemax: Widemax, fruit_run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(fruit_run, copy)
    (copy / ".widemax" / "scratch").mkdir(parents=True)
    (copy / "checkpoints" / "step-00000000").mkdir(parents=True)
    (copy / "checkpoints" / "step-00000000" / "manifest.json").write_text('{"files": ')
    assert json.loads(widemax("verify", copy, "--json").out)["checkpoints"] == []
    assert widemax("resume", copy).code == 0
    assert {path.name for path in copy.iterdir()} == {path.name for path in fruit_run.iterdir()}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_output_that_has_no_room_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "widemax", "data", "list"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 4
    assert done.stderr == b"error: cannot write the output: No space left on device.\n"


def test_plan_doctor_and_data_list(widemax: Widemax) -> None:
    plan = json.loads(widemax("plan", "--classes", 1000, "--dim", 32, "--batch", 64, "--json").out)
    assert plan["choice"] in {"exact", "sampled"}
    assert json.loads(widemax("doctor", "--json").out)["threads"] >= 1
    assert "clinc150" in [
        entry["name"] for entry in json.loads(widemax("data", "list", "--json").out)["sets"]
    ]


USAGE, DATA, CORRUPT = 2, 3, 5


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("train", "absent.csv", "--target", "y"), DATA, "absent.csv"),
        (("train", "{csv}", "--target", "friut"), USAGE, "did you mean 'fruit'"),
        (("train", "{csv}", "--target", "fruit", "--set", "train.epoch=3"), USAGE, "did you mean 'epochs'"),
        (("train", "{csv}", "--target", "fruit", "--set", "encoder.dmi=3"), USAGE, "did you mean 'dim'"),
        (("train", "{csv}", "--target", "fruit", "--time-limit", "soon"), USAGE, "60s"),
        (("train", "{csv}", "--target", "fruit", "--out", "{csv}"), 4, "cannot write"),
        (("evaluate", "{tmp}", "{csv}"), CORRUPT, "manifest.json"),
        (("resume", "{tmp}"), USAGE, "not a run folder"),
        (("plan",), USAGE, "--classes"),
        (("plan", "rows.csv", "--batch", "64"), USAGE, "--batch is told"),
        (("plan", "--classes", "9", "--dim", "4", "--set", "train.epochs=2"), USAGE, "--set is of data"),
        (("data", "get", "clinc15"), USAGE, "did you mean 'clinc150'"),
        (("demo", "wrods"), USAGE, "did you mean 'words'"),
        (("train",), USAGE, "Missing argument"),
        (("fly",), USAGE, "No such command"),
    ],
)
def test_exit_codes_and_ways_out(
    widemax: Widemax, fruit_csv: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    filled = [argument.format(csv=fruit_csv, tmp=tmp_path) for argument in arguments]
    if "--out" not in filled and filled[0] == "train":
        filled += ["--out", str(tmp_path / "run")]
    result = widemax(*filled)
    assert (result.code, result.out) == (code, ""), result.err
    assert sentence in result.err
    assert "Traceback" not in result.err


def test_bad_rows_stop_or_are_dropped(widemax: Widemax, fruit_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    lines = fruit_csv.read_text().splitlines()
    path.write_text("\n".join([*lines[:10], "green,heavy,lime", *lines[10:], "blue,40,"]) + "\n")
    arguments = ("train", path, "--target", "fruit", "--set", "train.epochs=1", "--out", tmp_path / "run")
    refused = widemax(*arguments)
    assert refused.code == DATA
    assert "bad.csv:11" in refused.err
    assert "--drop-bad" in refused.err
    kept = widemax(*arguments, "--drop-bad", "--overwrite")
    assert kept.code == 0, kept.err
    assert "dropped 2 bad rows" in kept.err
    evaluated = json.loads(widemax("evaluate", tmp_path / "run", path, "--drop-bad", "--json").out)
    assert (evaluated["rows"], evaluated["skipped"]) == (300, 2)


@pytest.mark.parametrize("name", ["weights/encoder.safetensors", "labels.parquet", "config.toml"])
def test_tampering_is_refused(widemax: Widemax, fruit_run: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(fruit_run, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    for verb in (("verify", copy), ("predict", copy, "-")):
        result = widemax(*verb)
        assert result.code == CORRUPT
        assert name in result.err


def test_debug_shows_the_traceback(widemax: Widemax, tmp_path: Path) -> None:
    assert "Traceback" in widemax("verify", tmp_path, "--debug").err


def test_help_needs_no_torch() -> None:
    code = "import sys; sys.argv[1:] = ['--help']\ntry:\n import widemax.__main__\nexcept SystemExit: pass\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'pyarrow', 'sklearn', 'numpy')))"
    assert (
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
    )


@pytest.fixture
def tiny_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo on five sentences, twelve times each."""
    path = tmp_path / "fruit.jsonl"
    rows = [{"text": f"the {color} one", "fruit": fruit} for color, fruit in COLORS.items()] * 12
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    example = demo.Demo(
        title="colors",
        train=str(path),
        test=str(path),
        input="text",
        target="fruit",
        run=tmp_path / "demo-run",
        questions=("the blue one", "the yellow one"),
        settings={"encoder": {"kind": "text", "dim": 8}, "train": {"epochs": 5}},
    )
    monkeypatch.setitem(demo.DEMOS, "colors", example)
    return example.run


COLORS = {"blue": "plum", "green": "lime", "yellow": "banana", "red": "cherry", "brown": "kiwi"}


def test_demo_trains_once_and_answers(widemax: Widemax, tiny_demo: Path) -> None:
    first = widemax("demo", "colors", "--json")
    assert first.code == 0, first.err
    result = json.loads(first.out)
    assert result["metrics"]["rows"] == 60
    assert [best[0]["label"] for best in result["answers"].values()] == ["plum", "banana"]
    assert first.err.splitlines()[-1].endswith(f"widemax serve {tiny_demo}")
    again = widemax("demo", "colors", "--json")
    assert json.loads(again.out)["answers"] == result["answers"]
    assert "using the run" in again.err
    assert "widemax train" not in again.err


def test_an_interrupted_demo_goes_on(
    widemax: Widemax, tiny_demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        stopped = widemax("demo", "colors")
    assert (stopped.code, stopped.out) == (130, "")
    assert "goes on from there" in stopped.err
    assert widemax("demo", "colors").code == 0
    assert widemax("verify", tiny_demo).code == 0


def test_an_interrupted_run_says_how_to_go_on(
    widemax: Widemax, fruit_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        stopped = widemax("train", fruit_csv, "--target", "fruit", "--out", run)
    assert stopped.code == 130
    assert f"next: widemax resume {run}" in stopped.out
    assert json.loads(widemax("verify", run, "--json").out)["checkpoints"]
    assert widemax("resume", run).code == 0


def test_verbs_speak_to_people_too(widemax: Widemax, fruit_csv: Path, fruit_run: Path) -> None:
    assert "accuracy" in widemax("evaluate", fruit_run, fruit_csv).out
    assert "is whole" in widemax("verify", fruit_run).out
    assert "torch" in widemax("doctor").out
    assert "clinc150" in widemax("data", "list").out
    assert "exact" in widemax("plan", "--classes", 10, "--dim", 8).out
    everything = json.loads(widemax("predict", fruit_run, fruit_csv, "-k", 1, "--json").out)
    assert len(everything["rows"]) == 300


def test_plan_counts_the_classes_of_a_config(
    widemax: Widemax, fruit_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "fruit.toml"
    assert widemax("init", fruit_csv, "-o", config, "--target", "fruit", "--json").code == 0
    asked: list[dict[str, int]] = []
    plan = planner.plan
    monkeypatch.setattr(planner, "plan", lambda **sizes: asked.append(sizes) or plan(**sizes))
    assert json.loads(widemax("plan", config, "--json").out)["choice"] == "exact"
    assert (asked[0]["num_classes"], asked[0]["num_rows"], asked[0]["batch_size"]) == (3, 300, 64)
    assert widemax("plan", config, "--dim", 17).code == 0
    assert asked[1]["dim"] == 17


def test_plan_counts_what_a_table_of_classes_takes(
    widemax: Widemax, fruit_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, table = tmp_path / "config.toml", tmp_path / "classes.csv"
    assert widemax("init", fruit_csv, "-o", config, "--target", "fruit", "--json").code == 0
    names = sorted({line.split(",")[-1] for line in fruit_csv.read_text().split()[1:]})
    table.write_text("fruit,says\n" + "".join(f"{name},a {name} of some kind\n" for name in names))
    asked: list[dict[str, int]] = []
    plan = planner.plan
    monkeypatch.setattr(planner, "plan", lambda **sizes: asked.append(sizes) or plan(**sizes))
    for options in ((), ("--set", f"data.classes={table}")):
        assert widemax("plan", config, *options, "--json").code == 0
    assert asked[1]["encoder_bytes"] - asked[0]["encoder_bytes"] >= 4 * asked[1]["dim"] * len(names)


def test_plan_says_which_head_a_config_names(widemax: Widemax) -> None:
    asked = "plan", "clinc150", "--input", "text", "--target", "intent", "--set"
    assert widemax(*asked, "head.kind=tree").out.endswith("names 'tree', which is taken in any case.\n")
    for options in ((), ("--set", "encoder.kind=text", "--set", "encoder.dim=features")):
        out = widemax(*asked, "head.kind=counts", *options).out
        assert "it counts every row once; its memory" in out.splitlines()[-1]
    assert json.loads(widemax(*asked, "head.kind=counts", "--json").out)["named"] == "counts"


def test_plan_names_the_head_of_texts_with_several_labels(widemax: Widemax, tmp_path: Path) -> None:
    """Unless another one is named."""
    texts = tmp_path / "texts.jsonl"
    rows = [{"text": f"red {n % 3} fox {n % 5}", "tags": [f"t{n % 3}", f"u{n % 5}"]} for n in range(60)]
    texts.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    asked = "plan", texts, "--input", "text", "--target", "tags", "--json"
    assert json.loads(widemax(*asked).out)["named"] == "label_tree"
    assert json.loads(widemax(*asked, "--set", "head.kind=counts").out)["named"] == "counts"


def test_data_get_prepares(widemax: Widemax) -> None:
    got = json.loads(widemax("data", "get", "clinc150", "--json").out)
    assert all((Path(got["folder"]) / name).is_file() for name in got["files"])
    assert "widemax check clinc150" in widemax("data", "get", "clinc150").out


def test_check_fails_on_bad_rows_unless_they_are_dropped(widemax: Widemax, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "a b,x\nb c,y\n" * 9 + "c d,\n")
    refused = widemax("check", path, "--json")
    assert refused.code == DATA
    assert json.loads(refused.out)["num_bad_rows"] == 1
    assert widemax("check", path, "--drop-bad").code == 0


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [(MemoryError, 4, "memory ran out"), (KeyboardInterrupt, 130, "")],
)
def test_what_python_raises_shows_no_traceback(
    widemax: Widemax, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int, sentence: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("widemax.cli.doctor.examine", fail)
    result = widemax("doctor")
    assert (result.code, result.out) == (code, "")
    assert sentence in result.err
    assert "Traceback" not in result.err


def test_delimiter_and_encoding_at_every_verb(widemax: Widemax, tmp_path: Path, monkeypatch) -> None:
    rows = tmp_path / "rows.csv"
    lines = [f"{'straße' if n % 2 else 'fußweg'} {n}^{'ä' if n % 2 else 'ö'}" for n in range(40)]
    rows.write_text("text^label\n" + "\n".join(lines) + "\n", encoding="latin-1")
    given = ("--delimiter", "^", "--encoding", "latin-1")
    refused = widemax("check", rows, "--delimiter", "^")
    assert refused.code == 3
    assert "byte 0xdf after 2 bytes is not UTF-8" in refused.err + refused.out
    assert json.loads(widemax("check", rows, *given, "--json").out)["num_classes"] == 2
    config = tmp_path / "rows.toml"
    assert widemax("init", rows, "-o", config, *given).code == 0
    run = tmp_path / "run"
    trained = widemax("train", config, "--out", run, "--set", "train.epochs=2")
    assert trained.code == 0, trained.err
    assert json.loads(widemax("evaluate", run, rows, "--json").out)["unseen_labels"] == 0
    utf8 = tmp_path / "utf8.csv"
    utf8.write_text(rows.read_text(encoding="latin-1").replace("^", ";"), encoding="utf-8")
    again = ("--delimiter", ";", "--encoding", "utf-8")
    assert json.loads(widemax("evaluate", run, utf8, *again, "--json").out)["unseen_labels"] == 0
    assert widemax("predict", run, utf8, *again, "-k", 1).out == widemax("predict", run, rows, "-k", 1).out
    labels = {
        json.loads(line)["predictions"][0]["label"] for line in widemax("predict", run, rows).out.splitlines()
    }
    assert labels <= {"ä", "ö"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("straße\nfußweg".encode("utf-16"))))
    assert len(widemax("predict", run, "-").out.splitlines()) == 2
    assert widemax("check", rows, "--encoding", "latin-x").code == 2
