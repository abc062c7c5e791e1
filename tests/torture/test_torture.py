"""The campaign finds what is wrong, and in two minutes nothing."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

if not hasattr(os, "fork"):
    pytest.skip("attempts are forked", allow_module_level=True)

from tests.torture.child import Ended, each

REPOSITORY = Path(__file__).parents[2]


def test_a_try_that_dies_is_found_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "attempt"
    folder.mkdir()
    found = each(
        folder,
        [
            lambda: None,
            lambda: os.kill(os.getpid(), signal.SIGKILL),
            lambda: "other answers",
            lambda: str(1 // 0),
        ],
    )
    assert found[:3] == [None, "died by SIGKILL", "other answers"]
    assert str(found[3]).startswith("ZeroDivisionError")


@pytest.mark.parametrize(
    ("ended", "wrong"),
    [
        (Ended(0, "", ""), None),
        (Ended(3, "", "error: no rows"), None),
        (Ended(3, "", ""), "without a sentence"),
        (Ended(1, "", "error: something"), "exit code 1"),
        (Ended(4, "", "Traceback (most recent call last):\nOSError: disk"), "a traceback: OSError: disk"),
        (Ended(-signal.SIGSEGV, "", ""), "died by SIGSEGV"),
        (Ended(-signal.SIGALRM, "", ""), "still running"),
    ],
)
def test_an_end_is_judged(ended: Ended, wrong: str | None) -> None:
    found = ended.wrong()
    assert found is None if wrong is None else wrong in str(found)


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is needed")
@pytest.mark.slow
def test_two_minutes_find_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.torture", "--minutes", "2", "--jobs", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
