"""The verbs on CoNLL-U files: train, evaluate, predict, check, resume."""

import gzip
import io
import json

import pytest

from widemax import Config, train

ROWS = [
    ("the", "DET", 2, "det"),
    ("dog", "NOUN", 3, "nsubj"),
    ("barks", "VERB", 0, "root"),
]
TEXT = "".join(
    "".join(
        [f"# sent_id = s{number}\n"]
        + [f"{at}\t{w}\t_\t{t}\t_\t_\t{h}\t{r}\t_\t_\n" for at, (w, t, h, r) in enumerate(ROWS, 1)]
        + ["\n"]
    )
    for number in range(30)
)
TINY = [
    f"--set={key}"
    for key in (
        *("parser.form_dim=8", "parser.hidden=8", "parser.action_dim=16", "parser.layers=1"),
        *("train.epochs=6", "parser.batch_words=9", "train.learning_rate=0.02"),
    )
]


@pytest.fixture(scope="module")
def treebank(tmp_path_factory):
    path = tmp_path_factory.mktemp("trees") / "train.conllu"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def parser_run(treebank, tmp_path_factory):
    run = tmp_path_factory.mktemp("trees") / "run"
    small = {"form_dim": 8, "hidden": 8, "action_dim": 16, "layers": 1, "batch_words": 9}
    fit = {"epochs": 6, "learning_rate": 0.02}
    outcome = train(Config(data={"train": treebank}, parser=small, train=fit, output={"dir": run}))
    assert outcome.metrics["las"] == 1
    return run


@pytest.fixture
def stdin(monkeypatch):
    """What stands on stdin."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_a_parser_is_trained_by_the_ending_of_its_files(widemax, parser_run, treebank, tmp_path):
    told = widemax("train", treebank, "--out", tmp_path / "again", "--input", "UPOS", *TINY)
    assert "held out: LAS   100.00%" in told.out
    assert f"next: widemax predict {tmp_path / 'again'} DATA" in told.out
    assert widemax("resume", tmp_path / "again").code == 0
    config = parser_run / "config.toml"
    assert 'system = "arc_hybrid"' in config.read_text()
    told = widemax("train", config, "--out", tmp_path / "third", "--set", "train.epochs=1")
    assert told.code == 0, told.err


def test_scores_are_told_in_whole_and_by_length_and_relation(widemax, parser_run, treebank):
    told = json.loads(widemax("evaluate", parser_run, treebank, "--json").out)
    assert (told["sentences"], told["words"], told["las"], told["mlas"]) == (30, 90, 1, 1)
    assert told["by_relation"]["det"] == {"words": 30, "f1": 1}
    lines = widemax("evaluate", parser_run, treebank).out
    assert "LAS  100.00%" in lines
    assert "1–10 words" in lines


def test_all_but_the_tree_is_written_as_it_was_read(widemax, parser_run, tmp_path, stdin):
    text = (
        "# newdoc\n# text = the dog\n1-2\tthe dog\t_\t_\t_\t_\t_\t_\t_\tA=1\n"
        "1\tthe\tx\t_\tY\t_\t9\tq\t0:w\t_\n"
        "2\tdog\tx\t_\tY\tZ=1\t_\t_\t_\tB=2\n2.1\te\t_\t_\t_\t_\t_\t_\t2:x\t_\n\n"
    )
    wanted = text.replace("\t9\tq\t0:w\t", "\tH\tR\t_\t")
    wanted = wanted.replace("\tZ=1\t_\t_\t_\t", "\tZ=1\tH\tR\t_\t")
    path = tmp_path / "new.conllu.gz"
    path.write_bytes(gzip.compress(text.encode()))
    told = widemax("predict", parser_run, path)
    assert told.code == 0, told.err
    found = [line.split("\t") for line in told.out.splitlines()]
    for line, other in zip(found, wanted.splitlines(), strict=True):
        if "H" in (cells := other.split("\t")):
            cells[6:8] = line[6:8]
            assert cells[6] in "012"
        assert line == cells
    stdin(text)
    assert widemax("predict", parser_run, "-", "--beam", "4").out.count("\troot\t") == 1
    rows = json.loads(widemax("predict", parser_run, path, "--json").out)["rows"]
    assert rows[0]["words"] == ["the", "dog"]
    assert sorted(rows[0]["heads"])[0] == 0


def test_what_has_no_meaning_for_trees_is_refused(widemax, parser_run, treebank, fruit_run, fruit_csv):
    for arguments, says in [
        (("train", treebank, "--target", "HEAD"), "data.target says nothing to a parser"),
        (("train", treebank, fruit_csv), "is no CoNLL-U file, as others are"),
        (("train", treebank, "--set", "parser.sistem=x"), "did you mean 'system'?"),
        (("plan", treebank), "data.task is 'parsing', which reads texts"),
        (("init", treebank, "-o", treebank.parent / "x.toml"), "data.task is 'parsing', which reads texts"),
        (("check", treebank, "--kind", "FORM=text"), "data.kinds says nothing to a parser"),
        (("evaluate", parser_run, treebank, "--report", "x.html"), "--report is for a classifier"),
        (("predict", parser_run, fruit_csv), "must be a CoNLL-U file"),
        (("predict", fruit_run, fruit_csv, "--beam", "2"), "--beam is for a parser or a translator, and"),
    ]:
        told = widemax(*arguments)
        assert told.code == 2, (arguments, told.err)
        assert says in told.err


def test_check_names_sentences_and_lines(widemax, treebank, tmp_path):
    assert (
        "30 sentences, 90 words, the longest of 3; 3 relations, 0 sentences" in widemax("check", treebank).out
    )
    bad = tmp_path / "bad.conllu"
    bad.write_text(
        TEXT.replace("\t2\tdet", "\t0\tdet", 1)
        .replace("s1\n1\t", "s1\n7\t")
        .replace("\t3\tnsubj", "\t8\tnsubj", 3)
    )
    told = widemax("check", bad, "--json")
    assert told.code == 3
    problems = json.loads(told.out)["problems"]
    assert any(
        "line 3 (sentence 's0'): HEAD of word 2 must be a number from 0 to 3; got '8'" in p for p in problems
    )
    assert any("line 7 (sentence 's1'): the next ID must be 1; got 7" in p for p in problems)


def test_a_broken_sentence_stops_with_its_line_after_those_before_it(widemax, parser_run, stdin):
    stdin(TEXT + "1\tx\n\n")
    told = widemax("predict", parser_run, "-")
    assert told.code == 3
    assert f"stdin, line {TEXT.count(chr(10)) + 1} (the sentence of line" in told.err
    assert "must have 10 columns" in told.err
    assert told.out.count("\troot\t") == 30


def test_a_run_is_verified(widemax, parser_run):
    assert "is whole: 5 files" in widemax("verify", parser_run).out


def test_a_time_limit_ends_training(widemax, treebank, tmp_path):
    endless = ("--set=train.epochs=100000", "--set=train.patience=100000")
    told = widemax("train", treebank, "--out", tmp_path / "run", "--time-limit", "2s", *TINY, *endless)
    assert told.code == 0
    assert "the time limit ended training" in told.err
