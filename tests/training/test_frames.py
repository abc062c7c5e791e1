"""A run on rows in memory is the run on their file, and asks for the rows again to go on."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from widemax.artifact import Model
from widemax.config import Config
from widemax.errors import ArgumentError, ConfigError, DataError, UsageError
from widemax.training import runs
from widemax.training.loop import resume, train

MakeConfig = Callable[..., Config]


@pytest.fixture
def columns(rows_file: Path) -> dict[str, list[str]]:
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    return {name: [row[name] for row in rows] for name in ("text", "animal")}


def in_memory(make_config: MakeConfig, out: str = "frame", **sections: Any) -> Config:
    sections["data"] = {"train": (), **sections.get("data", {})}
    return make_config(out, **sections)


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "weights").iterdir()}


@pytest.mark.parametrize("make", [pd.DataFrame, pa.table])
def test_a_frame_trains_to_the_bits_of_its_file(
    make_config: MakeConfig, columns: dict[str, list[str]], make: Any
) -> None:
    whole = train(make_config("file"))
    outcome = train(in_memory(make_config), data=make(columns))
    assert weights(outcome.run) == weights(whole.run)
    assert outcome.metrics == whole.metrics
    config = Config.load(outcome.run / "config.toml")
    assert (config.data.train, config.data.input) == (("<memory>",), ("text",))
    assert resume(outcome.run).metrics == outcome.metrics  # finished: no rows are needed


def test_validation_rows_in_memory(make_config: MakeConfig, columns: dict[str, list[str]]) -> None:
    valid = pd.DataFrame({"animal": ["cat", "emu"], "text": ["the cat", "the emu"]})
    outcome = train(in_memory(make_config), data=pd.DataFrame(columns), valid=valid)
    assert (outcome.metrics["accuracy"], outcome.metrics["unseen_labels"]) == (0.5, 1)
    assert Config.load(outcome.run / "config.toml").data.valid == ("<memory>",)


def test_data_may_be_named_outside_the_config(make_config: MakeConfig, rows_file: Path) -> None:
    outcome = train(in_memory(make_config, train={"epochs": 1}), data=str(rows_file.parent / "*.jsonl"))
    assert outcome.model.config.data.train == (str(rows_file),)


def test_a_stopped_run_asks_for_its_rows_and_goes_on_to_the_same_bits(
    make_config: MakeConfig, columns: dict[str, list[str]], tmp_path: Path
) -> None:
    frame, valid = pd.DataFrame(columns), pd.DataFrame(columns)[::7]
    whole = train(in_memory(make_config, "whole"), data=frame, valid=valid)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        assert train(in_memory(make_config, "stopped"), data=frame, valid=valid).interrupted
    run = str(tmp_path / "stopped")
    for given in ({}, {"data": frame}, {"valid": valid}):
        with pytest.raises(UsageError, match="the data were in memory and were not saved; give them again"):
            resume(run, **given)
    with pytest.raises(DataError, match="have changed"):
        resume(run, data=frame[1:], valid=valid)
    assert Model.load(run).predict(["the old fox"], k=1)
    resumed = resume(run, data=frame.copy(), valid=valid)
    assert weights(resumed.run) == weights(whole.run)
    assert resumed.metrics == whole.metrics


def test_rows_are_named_once(make_config: MakeConfig, columns: dict[str, list[str]], tmp_path: Path) -> None:
    frame = pd.DataFrame(columns)
    with pytest.raises(UsageError, match=r"data\.train in the config already names .*rows\.jsonl"):
        train(make_config(), data=frame)
    with pytest.raises(UsageError, match=r"data\.valid in the config already names \['clinc150'\]"):
        train(in_memory(make_config, data={"valid": "clinc150"}), data=frame, valid=frame)
    with pytest.raises(UsageError, match=r"there are no training data: name them in data\.train"):
        train(in_memory(make_config))
    with pytest.raises(ConfigError, match="give a frame as train"):
        Config(data={"train": frame})
    with pytest.raises(ArgumentError, match="'config' of train must be a Config; got"):
        train({"data": {"train": "clinc150"}})  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="must be a Path or a string; got 3"):
        resume(3)  # type: ignore[arg-type]


def test_a_bad_row_is_counted_from_zero(make_config: MakeConfig, columns: dict[str, list[str]]) -> None:
    frame = pd.DataFrame(columns)
    frame.loc[3, "animal"] = None
    with pytest.raises(DataError, match=r"^<memory>:row 3: the label is missing in column 'animal'"):
        train(in_memory(make_config), data=frame)
    outcome = train(in_memory(make_config, "dropped", data={"drop_bad": True}), data=frame)
    assert outcome.model.num_train_rows == 599
