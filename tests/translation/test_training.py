"""Training a translator: kept, continued, refused."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.translation.conftest import MakeConfig

import widemax
from widemax.config import Config
from widemax.errors import ConfigError, DataError, UsageError
from widemax.training import runs
from widemax.training.loop import train

KILLED = """
import os, sys
from pathlib import Path
from widemax.config import Config
from widemax.training.loop import train
from widemax.translation import training

saved, left = training.save_checkpoint, 3
def save_and_die(*arguments):
    global left
    saved(*arguments)
    left -= 1
    if not left:
        os._exit(9)
training.save_checkpoint = save_and_die
train(Config.load(Path(sys.argv[1])))
"""


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "weights").iterdir()}


def test_a_run_that_is_killed_and_stopped_goes_on_to_the_same_bits(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(make_config(tmp_path / "whole"))
    assert whole.steps == 24
    config = make_config(tmp_path / "killed", checkpoint_every_s=1e-9)
    (tmp_path / "config.toml").write_text(config.to_toml())
    died = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "config.toml"], check=False)
    assert died.returncode == 9
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        stopped = widemax.resume(tmp_path / "killed")
        assert (stopped.interrupted, stopped.steps) == (True, 4)
    resumed = widemax.resume(tmp_path / "killed")
    assert resumed.steps == 24
    assert weights(resumed.run) == weights(whole.run)
    assert resumed.metrics == whole.metrics
    names = {path.name for path in resumed.run.iterdir()}
    assert names == {path.name for path in whole.run.iterdir()}
    assert {"manifest.json", "config.toml", "subwords.model", "report.html", "metrics.jsonl"} <= names


def test_lines_that_have_changed_are_not_gone_on_with(
    make_config: MakeConfig, tmp_path: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "changed.de"
    changed.write_text(files[1].read_text())
    config = make_config(tmp_path / "run")
    data = config.data.model_copy(update={"target_lines": (str(changed),)})
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        assert train(config.model_copy(update={"data": data})).interrupted
    changed.write_text(files[1].read_text().replace("hund", "dackel"))
    with pytest.raises(DataError, match="the training data have changed"):
        widemax.resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"data": {"train": "a.en"}}, "data.train and data.target_lines"),
        ({"data": {"target": "x"}}, "data.target says nothing to a translator"),
        ({"data": {"valid": ("a",)}}, "go together"),
        ({"train": {"metric": "accuracy"}}, "train.metric must be 'nll'"),
        ({"train": {"refit": True}}, "train.refit says nothing to a translator"),
    ],
)
def test_what_says_nothing_to_a_translator_is_refused(section: dict[str, object], said: str) -> None:
    own = {"train": "a.en", "target_lines": "a.de", "task": "translate"}
    if section.get("data") == {"train": "a.en"}:
        own = {"task": "translate"}
    config = Config(data={**own, **section.get("data", {})}, train=section.get("train", {}))
    with pytest.raises(ConfigError, match=said):
        widemax.train(config)


def test_rows_in_memory_are_refused() -> None:
    with pytest.raises(UsageError, match="reads files, not rows in memory"):
        widemax.train(Config(data={"task": "translate"}), data=[{"text": "a"}])
