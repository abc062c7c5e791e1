"""What every system keeps: its runs go on after a kill, refuse what is damaged, and say what they are."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.command import exit_code
from tests.language.conftest import made_text
from tests.parsing.conftest import treebank

import widemax
from widemax.artifact import Model
from widemax.config import Config
from widemax.errors import ConfigError, CorruptError, DataError, UsageError
from widemax.storage import read_manifest
from widemax.systems import SYSTEMS, load
from widemax.task import System
from widemax.training import runs, system

PAIRS = [("one dog .", "ein hund ."), ("two cats .", "zwei katzen ."), ("red house .", "rotes haus .")] * 16
FILES: dict[System, dict[str, str]] = {
    System.LANGUAGE: {"train": made_text(200)},
    System.PARSING: {"train": treebank(60, seed=0), "valid": treebank(20, seed=1)},
    System.TRANSLATE: {
        side: "".join(f"{pair[at]}\n" for pair in PAIRS) for at, side in enumerate(("train", "target_lines"))
    },
}
TINY = {"dim": 8, "num_layers": 1, "num_heads": 2}
SECTIONS: dict[str, dict[str, Any]] = {
    "lstm": {
        "encoder": {"dim": 8, "length": 16, "rate": 0.2, "num_layers": 2},
        "head": {"kind": "sampled", "num_sampled": 6},
        "train": {"precision": "bfloat16"},
    },
    "transformer": {
        "encoder": {"kind": "transformer", "length": 16, **TINY},
        "head": {"kind": "adaptive", "cutoffs": [4]},
    },
    "parser": {
        "parser": {"form_dim": 8, "hidden": 8, "action_dim": 16, "layers": 1, "batch_words": 60},
        "train": {"epochs": 1},
    },
    "translator": {
        "encoder": {"hidden_dim": 8, "pieces": 300, **TINY},
        "train": {"precision": "bfloat16"},
    },
}
TASKS = {"parser": System.PARSING, "translator": System.TRANSLATE}


def train_and_die(config: Path) -> None:
    """Train, and be killed after the third checkpoint."""
    saved, left = system.save_checkpoint, iter(range(2))

    def save_and_die(*arguments: Any, **options: Any) -> None:
        saved(*arguments, **options)
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    system.save_checkpoint = save_and_die
    widemax.train(Config.load(config))


def config_of(name: str, folder: Path, **train: Any) -> Config:
    """A small system of files in a folder, to be trained beside them."""
    task = TASKS.get(name, System.LANGUAGE)
    folder.mkdir(parents=True, exist_ok=True)
    for key, text in FILES[task].items():
        (folder / f"{key}.conllu").write_text(text)
    data = {key: folder / f"{key}.conllu" for key in FILES[task]}
    fit = {"epochs": 2, "batch_size": 8} | SECTIONS[name].get("train", {}) | train
    if task is System.PARSING:
        del fit["batch_size"]
    sections = {**SECTIONS[name], "train": fit}
    return Config(data={"task": task, **data}, output={"dir": folder / "run"}, **sections)


@pytest.fixture(params=list(SECTIONS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "translator":
        pytest.importorskip("sentencepiece", reason="needs the extra translation")
    return str(request.param)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What each system has trained, once."""
    outcomes: dict[str, Any] = {}

    def outcome_of(name: str) -> Any:
        if name not in outcomes:
            outcomes[name] = widemax.train(config_of(name, tmp_path_factory.mktemp("system")))
        return outcomes[name]

    return outcome_of


@pytest.fixture
def killed(name: str, processes: Any, tmp_path: Path) -> Path:
    """A run that was killed at its third checkpoint."""
    config = config_of(name, tmp_path / "killed", checkpoint_every_s=1e-9)
    (tmp_path / "config.toml").write_text(config.to_toml())
    process = processes.Process(target=train_and_die, args=(tmp_path / "config.toml",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return tmp_path / "killed" / "run"


def files_of(run: Path) -> dict[str, bytes]:
    """All that a run keeps of what was learned, by its name."""
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.glob("weights/*"))}


def test_a_run_that_is_killed_and_stopped_goes_on_to_the_same_bits(
    name: str, trained: Callable[[str], Any], killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch too."""
    whole, run = trained(name), killed
    assert not (run / "manifest.json").exists()
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        stopped = widemax.resume(run)
        assert (stopped.interrupted, stopped.steps) == (True, 4)
    resumed = widemax.resume(run)
    assert resumed.steps == whole.steps > 4
    assert files_of(run) == files_of(whole.run)
    assert resumed.metrics == whole.metrics
    names = {path.name for path in run.iterdir()}
    assert names == {path.name for path in whole.run.iterdir()}
    assert {"manifest.json", "config.toml", "report.html", "metrics.jsonl"} <= names
    assert widemax.resume(run).steps == whole.steps


def test_what_has_changed_is_not_gone_on_with(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(name, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        assert widemax.train(config).interrupted
    changed = next(iter(tmp_path.glob("t*.conllu")))
    changed.write_text(changed.read_text().replace("o", "e"))
    with pytest.raises(DataError, match="the training data have changed"):
        widemax.resume(tmp_path / "run")


def test_a_precision_is_that_of_the_step_and_not_of_what_is_saved(
    name: str, trained: Callable[[str], Any], tmp_path: Path
) -> None:
    section = SECTIONS[name].get("train", {})
    other = "float32" if section.get("precision") == "bfloat16" else "bfloat16"
    config = config_of(name, tmp_path, precision=other)
    if name == "parser":
        with pytest.raises(ConfigError, match="'bfloat16', but parsers are trained on the CPU in float32;"):
            widemax.train(config)
        return
    found, usual = widemax.train(config), trained(name)
    assert files_of(found.run) != files_of(usual.run)
    assert found.metrics["nll"] == pytest.approx(usual.metrics["nll"], rel=0.02)
    parameters = [*found.model.encoder.parameters(), *usual.model.encoder.parameters()]
    assert {parameter.dtype for parameter in parameters} == {torch.float32}


def test_a_run_says_what_it_is(name: str, trained: Callable[[str], Any], tmp_path: Path) -> None:
    run, kind = trained(name).run, type(trained(name).model)
    about = SYSTEMS[kind.task]
    with pytest.raises(UsageError, match=f"holds {about.noun}, .*{about.loader}"):
        Model.load(run)
    assert type(load(run)) is kind
    (tmp_path / "manifest.json").write_text('{"task": "one"}')
    with pytest.raises((CorruptError, UsageError)):
        kind.load(tmp_path)
    with pytest.raises(UsageError, match="is not empty"):
        widemax.train(config_of(name, run.parent))
    said = read_manifest(run)
    assert (said["task"], said["complete"], said["metrics"]) == (kind.task, True, trained(name).metrics)


def test_a_damaged_file_is_named(name: str, trained: Callable[[str], Any], tmp_path: Path) -> None:
    outcome, copy = trained(name), tmp_path / "copy"
    shutil.copytree(outcome.run, copy)
    names = read_manifest(copy)["files"]
    assert {"config.toml", "report.html"} < names.keys()
    for file in names:
        content = (copy / file).read_bytes()
        place = len(content) // 2
        (copy / file).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CorruptError, match=f"{Path(file).name} is not the file that was saved"):
            type(outcome.model).load(copy)
        (copy / file).write_bytes(content)
    type(outcome.model).load(copy)


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("data", "target", "x", "data.target says nothing to"),
        ("train", "refit", True, "train.refit says nothing to"),
        ("train", "neighbors", 3, "train.neighbors says nothing to"),
        ("train", "metric", "accuracy", "train.metric of"),
        ("train", "device", "cuda", "trained on the CPU"),
        ("data", "train", (), "needs"),
    ],
)
def test_what_says_nothing_to_a_system_is_refused(
    name: str, tmp_path: Path, section: str, key: str, value: Any, said: str
) -> None:
    config = config_of(name, tmp_path)
    changed = getattr(config, section).model_copy(update={key: value})
    with pytest.raises(ConfigError, match=said):
        widemax.train(config.model_copy(update={section: changed}))
    assert not (tmp_path / "run").exists()


def test_rows_in_memory_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads files, not rows in memory"):
        widemax.train(config_of(name, tmp_path), data=[{"text": "a"}])


def test_the_verbs_of_classifiers_say_what_a_run_is(
    name: str, trained: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(name).run
    about, config = SYSTEMS[type(trained(name).model).task], run / "config.toml"
    data = run.parent / "train.conllu"
    for arguments, said in [
        (("neighbors", run, "hund"), f"holds {about.noun}"),
        (("export", run, "--out", tmp_path / "other"), f"holds {about.noun}"),
        (("predict", run, data, "-k", 3), "-k is for a classifier, and"),
        (("evaluate", run, data, "--drop-bad"), "--drop-bad is for a classifier"),
        (("predict", run, tmp_path / "absent"), "absent"),
        (("plan", config), "data.task is"),
    ]:
        assert exit_code(*arguments) == 2, arguments
        assert said in capsys.readouterr().err
    assert exit_code("verify", run) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_report_and_a_history_are_kept(name: str, trained: Callable[[str], Any]) -> None:
    outcome = trained(name)
    history = [json.loads(line) for line in (outcome.run / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["step"] == outcome.steps
    assert f"valid_{outcome.model.config.train.metric}" in history[-1]
