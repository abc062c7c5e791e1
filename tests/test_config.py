"""Configs: only differences are given, unknown keys are refused with the nearest known one."""

import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from widemax.config import Config, TrainConfig, assign
from widemax.encoders.text import TextEncoder
from widemax.errors import ConfigError
from widemax.evaluation.metrics import metrics
from widemax.heads import ExactHead
from widemax.heads.scores import Cosine
from widemax.losses import focal
from widemax.task import Task

LEAST = {"data": {"train": "rows.csv"}}


def test_one_path_is_a_list_of_one() -> None:
    assert Config.from_dict(LEAST).data.train == ("rows.csv",)


def test_sections_are_keywords_and_paths_are_texts() -> None:
    config = Config(data={"train": Path("rows.csv"), "valid": [Path("a"), "b"]}, output={"dir": Path("x")})
    assert config == Config.from_dict(
        {"data": {"train": "rows.csv", "valid": ["a", "b"]}, "output": {"dir": "x"}}
    )
    assert Config().data.train == ()
    with pytest.raises(ConfigError, match="unknown key 'trian' in the config; did you mean 'train'"):
        Config(trian={})


def test_a_registered_member_stands_by_its_name() -> None:
    config = Config(
        head={"kind": ExactHead, "loss": {"kind": focal, "gamma": 1.0}, "score": Cosine},
        encoder={"kind": TextEncoder},
        train={"metric": metrics["accuracy"]},
    )
    assert config == Config(
        head={"kind": "exact", "loss": {"kind": "focal", "gamma": 1.0}, "score": "cosine"},
        encoder={"kind": "text"},
        train={"metric": "accuracy"},
    )
    with pytest.raises(ConfigError, match=r"a config is text and cannot hold .*: register it"):
        Config(head={"loss": lambda logits, labels: None})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"data": {"train": "x", "traget": "y"}}, "unknown key 'traget' in [data]; did you mean 'target'?"),
        ({**LEAST, "trian": {}}, "unknown key 'trian' in the config; did you mean 'train'?"),
        ({"data": {"train": 3}}, "'train' in [data] must be a sequence (each a string); got 3."),
        (
            {**LEAST, "train": {"epochs": 0}},
            "'epochs' in [train] must be a whole number of at least 1; got 0.",
        ),
        ({**LEAST, "train": {"device": "gpu"}}, "must be 'auto' or 'cpu' or 'cuda' or 'mps'; got 'gpu'"),
        (
            {**LEAST, "train": {"precision": "float16"}},
            "'precision' in [train] must be 'float32' or 'bfloat16'",
        ),
        ({"data": {"train": "x", "test": ["y"]}}, "'test' in [data] is no longer a key: leave it out, and"),
        (
            {**LEAST, "train": {"batch_size": 0}},
            "'batch_size' in [train] must be a whole number of at least 1 or 'auto'; got 0.",
        ),
        (
            {**LEAST, "train": {"learning_rate": -1}},
            "'learning_rate' in [train] must be a number above 0.0 or 'auto'; got -1.",
        ),
        (
            {**LEAST, "train": {"learning_rate": float("nan")}},
            "must be a number above 0.0 or 'auto'; got nan.",
        ),
        ({**LEAST, "train": {"seed": 2**63}}, "'seed' in [train]"),
        ({"train": {"learning_rate": True}}, "must be a number above 0.0 or 'auto'; got True."),
        ({"train": {"epochs": "1"}}, "must be a whole number of at least 1; got '1'."),
        ({"train": {"epochs": True}}, "must be a whole number of at least 1; got True."),
        ({"train": {"epochs": 1.0}}, "must be a whole number of at least 1; got 1.0."),
        ({"train": {"lr": 0.1}}, "unknown key 'lr' in [train]; did you mean 'learning_rate'?"),
        ({"data": {"drop_bad": 1}}, "'drop_bad' in [data] must be True or False; got 1."),
        ({"data": {"task": "severl"}}, "or 'auto'; got 'severl'; did you mean 'several'?"),
        ({"data": {"kinds": {"age": 3}}}, "must be a table (each value a string); got {'age': 3}."),
        ({**LEAST, "train": 3}, "'train' in the config must be a table; got 3."),
        (
            {"data": {"train": ["a", 3]}},
            "'train' in [data] must be a sequence (each a string); got ('a', 3).",
        ),
        (
            {"data": {"train": pa.table({"a": [1]})}},
            "'train' in [data] must name files or data sets; give a frame as train(config, data=frame)",
        ),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config.from_dict(values)
    assert sentence in str(raised.value)


def test_numbers_are_taken_for_what_they_are() -> None:
    config = Config(train={"epochs": np.int64(3), "learning_rate": 1}, data={"task": "several"})
    assert (config.train.epochs, config.train.learning_rate, config.data.task) == (3, 1.0, Task.SEVERAL)


def test_a_section_alone_says_what_is_wrong_too() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'epoch' in \[train\]; did you mean 'epochs'"):
        TrainConfig(epoch=3)


def test_a_value_of_an_assignment_is_held_to_its_type() -> None:
    with pytest.raises(ConfigError, match=r"'epochs' in \[train\] must be a whole number .* got True"):
        Config.from_dict(assign({}, ["train.epochs=true"]))


def test_former_keys_of_saved_runs_are_passed_over() -> None:
    former = {"data": {"train": "rows.csv", "test": []}}
    assert Config.from_dict(former) == Config.from_dict(LEAST)


def test_the_complete_config_reads_back_the_same(tmp_path: Path) -> None:
    config = Config.from_dict({**LEAST, "head": {"kind": "sampled", "num_sampled": 64}, "train": {"seed": 3}})
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert Config.load(path) == config
    assert config.head.options == {"num_sampled": 64}


def test_assignments_are_toml_and_else_text() -> None:
    values = assign(
        LEAST, ["train.epochs=3", "head.kind=sampled", "data.kinds.age=number", "encoder.hidden=[8,4]"]
    )
    assert values == {
        "data": {"train": "rows.csv", "kinds": {"age": "number"}},
        "train": {"epochs": 3},
        "head": {"kind": "sampled"},
        "encoder": {"hidden": [8, 4]},
    }
    assert LEAST == {"data": {"train": "rows.csv"}}


@pytest.mark.parametrize(
    "assignment",
    ["epochs=3", "train.epochs", "train.=3", "data.train.x=1", "#epochs=3", "[train]\n[data]\nepochs=3"],
)
def test_a_wrong_assignment_says_how(assignment: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        assign(LEAST, [assignment])


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[data\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid TOML"):
        Config.load(path)
    with pytest.raises(ConfigError, match="cannot read"):
        Config.load(tmp_path / "absent.toml")


@pytest.mark.parametrize("deep", ["x = " + "[" * 100_000, f"x = {'9' * 5_000}", "[" + "a." * 2_000 + "b]"])
def test_toml_beyond_what_can_be_read(tmp_path: Path, deep: str) -> None:
    (tmp_path / "deep.toml").write_text(deep)
    with pytest.raises(ConfigError, match=r"deep\.toml is not valid TOML|nested too deep"):
        Config.load(tmp_path / "deep.toml")
    assert assign({}, ["a.b=" + "[" * 100_000])["a"]["b"].startswith("[[")


def test_a_config_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it is no file"):
        Config.load(tmp_path)


def test_what_is_unset_is_not_written() -> None:
    written = tomllib.loads(Config.from_dict(LEAST).to_toml())
    assert "time_limit_s" not in written["train"]
    assert written["train"]["seed"] == 0
