"""``widemax train --workers``: one command, the model of one process, and what follows when one dies."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.distributed.rows import NUM_CLASSES, configure, probabilities, weights, write_rows

from widemax.errors import counted
from widemax.storage import read_manifest
from widemax.training.checkpoint import latest_checkpoint, read_progress

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl")
    return tmp_path


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "widemax", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    process = start(folder, *arguments)
    said = process.communicate()
    assert process.returncode == code, said[1]
    return said


def worker(parent: subprocess.Popen[str], rank: int, restart: int = 0) -> psutil.Process:
    """The process of a rank after so many restarts, once it is there."""
    wanted = {"RANK": str(rank), "TORCHELASTIC_RESTART_COUNT": str(restart)}
    while True:
        for child in psutil.Process(parent.pid).children():
            with suppress(psutil.Error):  # one that has just died
                if wanted.items() <= child.environ().items():
                    return child
        time.sleep(0.05)


def await_step(training: subprocess.Popen[str], run: Path, step: int) -> None:
    """Until a checkpoint of this step, or a later one, is there."""
    # Told by its name: the training may remove it at any moment.
    while not (latest := latest_checkpoint(run)) or int(latest.name.removeprefix("step-")) < step:
        assert training.poll() is None, training.communicate()[1]
        time.sleep(0.02)


def test_one_command_trains_in_two_processes(folder: Path) -> None:
    configure(folder)
    out, error = run(folder, "train", "c.toml", "--out", "two", "--workers", "2", "--json")
    assert json.loads(out)["num_classes"] == NUM_CLASSES
    assert error.count("reading rows.jsonl") == 1
    assert read_manifest(folder / "two")["complete"]
    assert not (folder / "two" / ".widemax").exists()


def test_killed_ten_times_it_goes_on_to_the_same_bits(folder: Path) -> None:
    configure(folder, epochs=5)
    run(folder, "train", "c.toml", "--out", "whole", "--workers", "2")
    configure(folder, every=1e-9, epochs=5, restarts=10)
    training = start(folder, "train", "c.toml", "--out", "killed", "--workers", "2")
    ranks, reached = random.Random(0).choices([0, 1], k=10), 3
    for restart, rank in enumerate(ranks):
        victim = worker(training, rank, restart)
        if restart:
            reached = read_progress(latest_checkpoint(folder / "killed")).step
        await_step(training, folder / "killed", reached + 1)
        victim.send_signal(signal.SIGKILL)
    error = training.communicate()[1]
    assert training.returncode == 0, error
    for restart, rank in enumerate(ranks):
        assert f"process {rank}: killed by signal 9 (SIGKILL)" in error
        assert (
            f"starting all 2 again from the last checkpoint ({counted(9 - restart, 'restart')} left)" in error
        )
    assert weights(folder / "killed") == weights(folder / "whole")


def test_a_stopped_process_is_given_up_and_replaced(folder: Path) -> None:
    configure(folder, every=1e-9, timeout_s=5)
    training = start(folder, "train", "c.toml", "--out", "run", "--workers", "2")
    await_step(training, folder / "run", 3)
    worker(training, 1).send_signal(signal.SIGSTOP)
    error = training.communicate()[1]
    assert training.returncode == 0, error
    assert "no answer from another process" in error
    assert read_manifest(folder / "run")["complete"]


def test_sigterm_saves_and_resume_finishes(folder: Path) -> None:
    configure(folder, epochs=40)
    training = start(folder, "train", "c.toml", "--out", "run", "--workers", "2")
    await_step(training, folder / "run", 5)
    training.send_signal(signal.SIGTERM)
    error = training.communicate()[1]
    assert training.returncode == 130, error
    assert not read_manifest(folder / "run")["complete"]
    run(folder, "resume", "run")
    assert read_manifest(folder / "run")["complete"]


def test_nothing_is_left_running_when_the_command_itself_is_killed(folder: Path) -> None:
    configure(folder, epochs=40)
    training = start(folder, "train", "c.toml", "--out", "run", "--workers", "2")
    await_step(training, folder / "run", 5)
    workers = psutil.Process(training.pid).children()
    training.kill()
    training.communicate()
    assert len(workers) == 2
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert not read_manifest(folder / "run")["complete"]
    run(folder, "resume", "run")
    assert read_manifest(folder / "run")["complete"]


def test_without_restarts_the_first_line_says_who_died_of_what(folder: Path) -> None:
    configure(folder, epochs=40, restarts=0)
    training = start(folder, "train", "c.toml", "--out", "run", "--workers", "2")
    await_step(training, folder / "run", 5)
    worker(training, 1).send_signal(signal.SIGKILL)
    error = training.communicate()[1]
    assert training.returncode == 1
    (line,) = [line for line in error.splitlines() if line.startswith("error:")]
    assert line == "error: process 1: killed by signal 9 (SIGKILL). Process 0 ended with it."


def test_torchrun_starts_the_same_command(folder: Path) -> None:
    configure(folder)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "widemax"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "train", "c.toml", "--out", "run"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert read_manifest(folder / "run")["complete"]
    assert len(probabilities(folder / "run")) == 3 * NUM_CLASSES


def test_two_processes_answer_as_one(folder: Path) -> None:
    configure(folder)
    run(folder, "train", "c.toml", "--out", "run")
    one, _ = run(folder, "predict", "run", "rows.jsonl", "-k", "1")
    two, _ = run(folder, "predict", "run", "rows.jsonl", "-k", "1", "--workers", "2")
    labels = [
        [json.loads(line)["predictions"][0]["label"] for line in said.splitlines()] for said in (one, two)
    ]
    assert len(labels[0]) == 600
    assert labels[0] == labels[1]
    values = [
        json.loads(run(folder, "evaluate", "run", "rows.jsonl", "--json", *more)[0])
        for more in ([], ["--workers", "2"])
    ]
    assert values[0]["nll"] == pytest.approx(values[1]["nll"], rel=1e-6)
    _, error = run(folder, "predict", "run", "-", "--workers", "2", code=2)
    assert error.startswith("error: rows of stdin come to one process alone")


def test_two_processes_verify_as_one(folder: Path) -> None:
    configure(folder)
    run(folder, "train", "c.toml", "--out", "run")
    assert run(folder, "verify", "run", "--workers", "2") == run(folder, "verify", "run")
    weights = next((folder / "run" / "weights").glob("head-*.safetensors"))
    weights.write_bytes(weights.read_bytes() + b"x")
    _, one = run(folder, "verify", "run", code=5)
    _, two = run(folder, "verify", "run", "--workers", "2", code=5)
    assert two == one.replace("error: ", "error: process 0: ").rstrip() + " Process 1 ended with it.\n"


def test_a_wrong_call_is_told_once_and_not_tried_again(folder: Path) -> None:
    configure(folder)
    (folder / "run").mkdir()
    (folder / "run" / "mine.txt").touch()
    _, error = run(folder, "train", "c.toml", "--out", "run", "--workers", "2", code=2)
    assert error.count("is not empty") == 1
    assert error.startswith("error: process 0:")
