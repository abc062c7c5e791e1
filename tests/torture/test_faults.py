"""Faults at every write and refusals at every place: few in quick tests, more in slow ones, all by hand."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICK = ["--verbs", "overwrite", "--faults", "ENOSPC", "kill", "--first", "130", "--every", "200"]
MORE = ["--every", "139"]


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="gcc on Linux is needed")
@pytest.mark.parametrize("options", [QUICK, pytest.param(MORE, marks=pytest.mark.slow)], ids=["few", "more"])
def test_a_write_that_fails_loses_nothing(options: list[str]) -> None:
    command = [sys.executable, "-m", "tests.torture.every_write", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong" not in done.stdout
    assert " tried" in done.stdout


REFUSED = """
import os, random, tempfile
from itertools import islice
from pathlib import Path
from tests.torture import refused
from tests.torture.child import load
from tests.torture.ground import Ground

load()
with tempfile.TemporaryDirectory() as name:
    os.environ["WIDEMAX_CACHE"] = f"{name}/cache"
    ground = Ground(Path(name, "ground"), random.Random(0))
    number = len(refused.CLOSED) + 4 * len(refused.PRINTING)
    for attempt in islice(refused.attempts(ground), number):
        print(attempt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities of Linux are dropped")
@pytest.mark.slow
def test_a_place_or_an_output_that_is_refused_is_a_sentence() -> None:
    command = [sys.executable, "-c", REFUSED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    attempts = done.stdout.splitlines()
    assert len(attempts) > 90
    assert [attempt for attempt in attempts if "wrong=None" not in attempt] == []
