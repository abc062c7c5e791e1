"""Training a parser: saved whole, resumed to the bit, refused where data are wrong."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import nullcontext

import pytest
import tomli_w
import torch
from safetensors.torch import load_file
from tests.damage import sign_again

from widemax import Config, resume, train
from widemax.artifact import Model
from widemax.errors import BadRowError, CorruptError, DataError, UsageError
from widemax.parsing import Parser
from widemax.parsing.slots import CHEN_MANNING
from widemax.training import runs

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


def test_a_killed_training_goes_on_to_the_same_bits(treebanks, tmp_path):
    wanted = train(config_of(treebanks, tmp_path / "whole"))
    code = "import sys, json; from widemax import train, Config\ntrain(Config(**json.loads(sys.argv[1])))"
    config = config_of(treebanks, tmp_path / "killed").model_dump(mode="json", exclude_none=True)
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(config)], env={**os.environ})
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while len(list(checkpoints.glob("step-*/manifest.json"))) == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    found = resume(tmp_path / "killed")
    name = "weights/parser.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert found.metrics == wanted.metrics
    assert found.steps == wanted.steps
    assert resume(tmp_path / "killed").steps == wanted.steps


def test_changed_data_are_not_resumed(treebanks, tmp_path, monkeypatch):
    mine = tmp_path / "train.conllu"
    mine.write_bytes(treebanks[0].read_bytes())
    run = tmp_path / "run"
    train(config_of((mine, treebanks[1]), run, train={**SMALL["train"], "epochs": 1}))
    (run / "manifest.json").unlink()
    mine.write_text(mine.read_text().replace("\tdog\t", "\tcow\t"))
    with pytest.raises((DataError, UsageError)):
        resume(run)


def test_the_teaching_parser_and_tags_learn_too(treebanks, tmp_path):
    fit = {"epochs": 6, "learning_rate": 1e-2}
    chen_manning = {
        "system": "arc_standard",
        "slots": CHEN_MANNING,
        "layers": 0,
        "form_dim": 16,
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


def test_runs_are_not_mixed_up(learned, treebanks, tmp_path):
    run, _ = learned
    with pytest.raises(UsageError, match=r"holds a parser, .*Parser\.load"):
        Model.load(run)
    with pytest.raises(UsageError, match="is not empty"):
        train(config_of(treebanks, run))


def test_damage_is_found(learned, tmp_path):
    run, _ = learned
    for name in ("vocabulary.json", "config.toml", "weights/parser.safetensors"):
        copy = tmp_path / name.replace("/", "-")
        subprocess.run(["cp", "-r", str(run), str(copy)], check=True)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(CorruptError, match="is not the file that was saved"):
            Parser.load(copy)


def test_no_held_out_sentences_are_a_tenth_of_the_others(treebanks, tmp_path):
    outcome = train(
        Config(
            data={"train": treebanks[0]}, output={"dir": tmp_path / "run"}, **SMALL | {"train": {"epochs": 1}}
        )
    )
    assert set(outcome.metrics) == {"uas", "las", "clas", "mlas"}
    weights = load_file(tmp_path / "run" / "weights" / "parser.safetensors")
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


def test_a_parser_that_was_saved_by_its_former_config_loads_and_goes_on(treebanks, tmp_path, monkeypatch):
    """Its batches were told by [train], the task by the files alone, and weights had another name."""
    whole = train(config_of(treebanks, tmp_path / "whole"))
    left = iter(range(8))
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: next(left, None) is None))
        assert train(config_of(treebanks, tmp_path / "run")).interrupted
    config = tmp_path / "run" / "config.toml"
    values = tomllib.loads(config.read_text())
    former = {
        "data": {key: values["data"][key] for key in ("train", "valid", "input", "valid_fraction")},
        "parser": {key: value for key, value in values["parser"].items() if key != "batch_words"},
        "train": {"epochs": 3, "learning_rate": 0.008, "patience": 10, "checkpoint_every_s": 0.001},
        "output": {"dir": "."},
    }
    former["train"] |= {"batch_words": 60, "seed": 0}
    config.write_text(tomli_w.dumps(former))
    sign_again(tmp_path / "run", "config.toml")
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("step-00000009")
    (checkpoint / "encoder.safetensors").rename(checkpoint / "parser.safetensors")
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    del manifest["files"]["encoder.safetensors"]
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    sign_again(checkpoint, "parser.safetensors")
    assert Parser.load(tmp_path / "run").settings.batch_words == 60
    found = resume(tmp_path / "run")
    name = "weights/parser.safetensors"
    assert (found.run / name).read_bytes() == (whole.run / name).read_bytes()
