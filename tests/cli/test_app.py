"""What holds for every verb: version, pipes, and failures without a traceback."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from widemax.cli import app, doctor


def test_version(widemax) -> None:
    assert widemax("--version") == (0, f"widemax {doctor.installed_version('widemax')}\n", "")


def test_waiting_threads_hardly_spin_unless_told_to(widemax, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    widemax("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    widemax("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["GOMP_SPINCOUNT"] == "1000"


def test_a_reader_that_has_seen_enough_is_no_failure(fruit_run: Path, fruit_csv: Path) -> None:
    command = [sys.executable, "-m", "widemax", "predict", str(fruit_run), str(fruit_csv)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out(widemax, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(doctor, "examine", fail)
    assert widemax("doctor") == (4, "", f"error: {app.OUT_OF_MEMORY}\n")


def test_a_signal_that_arrow_takes_while_it_reads_is_an_interruption(
    widemax, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise pa.lib.ArrowCancelled("Operation cancelled. Detail: received signal 15")

    monkeypatch.setattr(doctor, "examine", fail)
    assert widemax("doctor") == (130, "", "error: interrupted.\n")


def test_another_error_of_torch_is_not_hidden(widemax, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(doctor, "examine", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        widemax("doctor")


@pytest.mark.parametrize("verb", ["evaluate", "predict", "resume", "verify"])
def test_a_run_that_is_not_there(widemax, tmp_path: Path, verb: str) -> None:
    data = ("rows.csv",) if verb in ("evaluate", "predict") else ()
    result = widemax(verb, tmp_path / "absent", *data)
    assert (result.code, result.out) == (2, "")
    assert "does not exist" in result.err


def test_facts_of_doctor_are_for_people_or_machines(widemax) -> None:
    facts = json.loads(widemax("doctor", "--json").out)
    lines = dict(line.split(None, 1) for line in widemax("doctor").out.splitlines())
    assert lines["memory"] == f"{facts['memory_bytes'] / 1e9:.1f} GB"
    assert lines["python"] == facts["python"]


def test_data_list_says_what_is_at_hand(widemax, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path))
    monkeypatch.delenv("WIDEMAX_DATA", raising=False)
    at_hand = {
        entry["name"]: entry["at_hand"] for entry in json.loads(widemax("data", "list", "--json").out)["sets"]
    }
    assert at_hand["clinc150"]
    assert not at_hand["gowalla"]
    words = {line.split()[0]: line.split()[1] for line in widemax("data", "list").out.splitlines()}
    assert (words["clinc150"], words["gowalla"]) == ("at", "absent")
    (tmp_path / "gowalla").mkdir()
    for file in ("train.txt.gz", "test.txt.gz"):
        (tmp_path / "gowalla" / file).touch()
    monkeypatch.setenv("WIDEMAX_DATA", str(tmp_path))
    sets = json.loads(widemax("data", "list", "--json").out)["sets"]
    assert next(entry for entry in sets if entry["name"] == "gowalla")["at_hand"]


def test_download_says_the_licence_and_what_to_do_without_a_network(
    widemax, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from widemax.data import sets

    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path))
    monkeypatch.delenv("WIDEMAX_DATA", raising=False)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/letters"
        monkeypatch.setattr(sets["letter_recognition"], "downloads", {"letter-recognition.data": address})
        result = widemax("data", "get", "letter_recognition", "--download", "--json")
    assert (result.code, result.out) == (4, "")
    licence, error = result.err.index("Licence: CC BY 4.0"), result.err.index("error: cannot fetch http://")
    assert licence < result.err.index("fetching http://") < error
    assert re.search(
        r"Connection refused\. Call this again .*\ncurl -fL --create-dirs -o \S+ http://", result.err
    )
