"""Training runs end to end on small data: learn, save, stop, die, and continue to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from widemax.artifact import Model
from widemax.config import Config
from widemax.errors import ConfigError, DataError, UsageError
from widemax.training.loop import resume, train

MakeConfig = Callable[..., Config]

SAMPLED = {"kind": "sampled", "num_sampled": 4}


def weights(run: Path) -> dict[str, bytes]:
    """Every tensor of a run as bytes."""
    return {
        f"{path.name}/{name}": tensor.numpy().tobytes()
        for path in sorted((run / "weights").iterdir())
        for name, tensor in load_file(path).items()
    }


@pytest.mark.parametrize("head", [{"kind": "exact"}, SAMPLED, {"kind": "auto"}])
def test_it_learns(make_config: MakeConfig, head: dict[str, object]) -> None:
    outcome = train(make_config(head=head))
    assert outcome.metrics["accuracy"] > 0.95
    loaded = Model.load(outcome.run)
    (best,) = loaded.predict([{"text": "the old fox"}], k=1)[0]
    assert best.label == "fox"
    assert (outcome.run / "report.html").is_file()


def test_the_same_seed_gives_the_same_bits(make_config: MakeConfig) -> None:
    first = train(make_config("a", head=SAMPLED))
    again = train(make_config("b", head=SAMPLED))
    other = train(make_config("c", head=SAMPLED, train={"seed": 1}))
    assert weights(first.run) == weights(again.run)
    assert weights(first.run) != weights(other.run)


def test_metrics_lines_are_a_record_an_epoch(make_config: MakeConfig) -> None:
    outcome = train(make_config())
    records = [json.loads(line) for line in (outcome.run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert records[-1]["step"] == outcome.steps
    assert records[0]["train_loss"] > records[-1]["train_loss"]
    assert {"valid_accuracy", "valid_nll", "seconds"} <= records[0].keys()


def test_a_run_is_not_overwritten_unasked(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config())
    with pytest.raises(UsageError, match="--overwrite"):
        train(make_config())
    train(make_config(), overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not a run folder"):
        train(make_config("mine"), overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


TRAIN_AND_DIE = """
import os, sys
from pathlib import Path
from widemax.config import Config
from widemax.training import checkpoint, loop

saved = loop.save_checkpoint
def save_and_tell(*arguments):
    saved(*arguments)
    print("saved", flush=True)
    sys.stdin.readline()
loop.save_checkpoint = save_and_tell
loop.train(Config.load(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("head", [{"kind": "exact"}, SAMPLED])
def test_killed_in_mid_epoch_and_resumed_to_the_same_bits(
    make_config: MakeConfig, tmp_path: Path, head: dict[str, object]
) -> None:
    """A checkpoint a step; the process is killed with SIGKILL in the middle of the second epoch."""
    whole = train(make_config("whole", head=head))
    config = make_config("killed", head=head, train={"checkpoint_every_s": 1e-9})
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-c", TRAIN_AND_DIE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        for _ in range(24):
            assert process.stdout.readline() == "saved\n"
            process.stdin.write("\n")
            process.stdin.flush()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    resumed = resume(tmp_path / "killed")
    assert resumed.steps == whole.steps
    assert weights(resumed.run) == weights(whole.run)
    assert resumed.metrics == whole.metrics


def test_interrupted_saves_and_stops(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(train={"epochs": 100_000, "patience": 100_000})
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "widemax", "train", str(path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (tmp_path / "run" / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    summary = json.loads(out)
    assert summary["interrupted"]
    Model.load(tmp_path / "run")


def test_time_limit_ends_the_run(make_config: MakeConfig) -> None:
    outcome = train(make_config(train={"epochs": 100_000, "patience": 100_000, "time_limit_s": 2.0}))
    assert not outcome.interrupted
    assert outcome.metrics["accuracy"] > 0.9


def test_patience_ends_the_run_and_the_best_weights_stay(make_config: MakeConfig) -> None:
    outcome = train(make_config(train={"epochs": 1000, "patience": 2}))
    records = [json.loads(line) for line in (outcome.run / "metrics.jsonl").read_text().splitlines()]
    assert len(records) < 100
    assert outcome.metrics["accuracy"] == max(record["valid_accuracy"] for record in records)


def test_changed_data_are_not_resumed(make_config: MakeConfig, rows_file: Path) -> None:
    outcome = train(make_config())
    with rows_file.open("a", encoding="utf-8") as file:
        file.write('{"text": "a new cat", "animal": "cat"}\n')
    with pytest.raises(DataError, match="have changed"):
        resume(outcome.run)


def test_a_diverging_run_says_so(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="diverged"):
        train(make_config(train={"learning_rate": 1e38}))


def test_validation_data_given(make_config: MakeConfig, tmp_path: Path) -> None:
    valid = tmp_path / "valid.jsonl"
    valid.write_text('{"text": "the cat", "animal": "cat"}\n{"text": "the emu", "animal": "emu"}\n')
    outcome = train(make_config(data={"valid": str(valid)}))
    assert outcome.metrics["unseen_labels"] == 1
    assert outcome.metrics["accuracy"] == 0.5


def test_scratch_is_gone_and_threads_are_kept(make_config: MakeConfig) -> None:
    outcome = train(make_config())
    assert not (outcome.run / "scratch").exists()
    state = json.loads(next((outcome.run / "checkpoints").glob("*/state.json")).read_text())
    assert state["progress"]["num_threads"] > 0
    assert np.isfinite(state["progress"]["seconds"])
    assert os.listdir(outcome.run / "checkpoints")
