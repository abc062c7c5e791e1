"""Training a parser: saved whole, resumed to the bit, refused where data are wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file

from widemax import Config, train
from widemax.errors import BadRowError
from widemax.parsing import Parser
from widemax.parsing.slots import CHEN_MANNING
from widemax.storage import read_manifest

SMALL = {
    "parser": {"form_dim": 8, "hidden": 8, "action_dim": 16, "layers": 1, "batch_words": 60},
    "train": {"epochs": 3, "checkpoint_every_s": 0.001},
}


def config_of(treebanks, run, **sections):
    data = {"train": treebanks[0], "valid": treebanks[1]}
    return Config(data=data, output={"dir": run}, **{**SMALL, **sections})


def test_a_saved_parser_answers_as_the_trained_one(learned):
    run, parser = learned
    words = [["the", "big", "cat", "hears", "a", "fish", "."], ["dog"]]
    assert Parser.load(run).parse(words) == parser.parse(words)
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert history[-1]["valid_las"] > 0.9
    report = (run / "report.html").read_text()
    assert report.count("as in the treebank") >= 3
    assert ">nsubj</text>" in report


def test_a_transformer_learns_at_a_rate_of_its_own(treebanks, tmp_path):
    options = {**SMALL["parser"], "hidden": 24, "dropout": 0.1, "encoder": "transformer"}
    parser = Parser.train(
        treebanks[0], valid=treebanks[1], out=tmp_path / "run", parser=options, train={"epochs": 8}
    )
    assert parser.config.train.learning_rate < 8e-3
    assert read_manifest(tmp_path / "run")["metrics"]["las"] > 0.9


def test_the_teaching_parser_and_tags_learn_too(treebanks, tmp_path):
    fit = {"epochs": 6, "learning_rate": 1e-2}
    chen_manning = {
        "system": "arc_standard",
        "slots": CHEN_MANNING,
        "layers": 0,
        "form_dim": 16,
        "action_dim": 32,
        "dropout": 0.1,
        "batch_words": 60,
    }
    parser = Parser.train(
        treebanks[0],
        valid=treebanks[1],
        out=tmp_path / "run",
        parser=chen_manning,
        train=fit,
        data={"input": "UPOS"},
    )
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["metrics"]["las"] > 0.9
    assert parser.columns == ("UPOS",)
    assert Parser.load(tmp_path / "run").columns == ("UPOS",)


def test_a_wrong_tree_is_named_before_training(treebanks, tmp_path):
    bad = tmp_path / "bad.conllu"
    bad.write_text(treebanks[0].read_text().replace("\t0\troot", "\t1\troot", 1))
    with pytest.raises(BadRowError, match=r"bad\.conllu, line \d+ \(sentence '0-0'\)"):
        train(config_of((bad, treebanks[1]), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_no_held_out_sentences_are_a_tenth_of_the_others(treebanks, tmp_path):
    outcome = train(
        Config(
            data={"train": treebanks[0]}, output={"dir": tmp_path / "run"}, **SMALL | {"train": {"epochs": 1}}
        )
    )
    assert set(outcome.metrics) == {"uas", "las", "clas", "mlas"}
    weights = load_file(tmp_path / "run" / "weights" / "encoder.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_relations_of_arcs_that_are_seldom_lifted_are_not_marked(treebanks, tmp_path):
    # "A hearing is scheduled on it today" has one crossing arc, nmod↑nsubj.
    rows = [("A", 2, "det"), ("hearing", 4, "nsubj"), ("is", 4, "aux"), ("scheduled", 0, "root")]
    rows += [("on", 6, "case"), ("it", 2, "nmod"), ("today", 4, "obl")]
    crossing = (
        "".join(f"{at}\t{w}\t_\t_\t_\t_\t{h}\t{r}\t_\t_\n" for at, (w, h, r) in enumerate(rows, 1)) + "\n"
    )
    for count, name in ((4, "nmod"), (5, "nmod↑nsubj")):
        mine = tmp_path / f"{count}.conllu"
        mine.write_text(treebanks[0].read_text() + count * crossing)
        fit = {**SMALL["train"], "epochs": 1}
        parser = train(config_of((mine, treebanks[1]), tmp_path / f"run{count}", train=fit)).model
        found = [relation for relation in parser.vocabulary.relations if relation.startswith("nmod")]
        assert found == [name]
