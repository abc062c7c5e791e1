"""Which of several processes is named as the one that failed, and whether all are started again."""

import subprocess
import sys
from pathlib import Path

import pytest

START = """
import sys
from widemax.cli.workers import run_workers
sys.executable = sys.argv[1]
run_workers([], workers=3, max_restarts=1)
"""


@pytest.mark.parametrize(
    ("death", "code", "sentence"),
    [
        ("kill -9 $$", 0, "process 0: killed by signal 9 (SIGKILL). Process 1, 2 ended with it."),
        ("exit 6", 4, "error: process 1: cannot write raw-1. Process 0, 2 ended with it."),
    ],
)
def test_a_death_is_the_cause_of_what_others_say(
    tmp_path: Path, death: str, code: int, sentence: str
) -> None:
    """One dies, another misses its files, a third its answer; started again, all end well."""
    worker = tmp_path / "worker"
    worker.write_text(
        f"""#!/bin/sh
[ "$TORCHELASTIC_RESTART_COUNT" = 1 ] && exit 0
case $RANK in
0) {death} ;;
1) printf 'cannot write raw-1.' > "$WIDEMAX_FAILURE"; exit 4 ;;
*) exit 6 ;;
esac
"""
    )
    worker.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", START, str(worker)], capture_output=True, text=True, check=False
    )
    assert sentence in done.stderr
    assert ("starting all 3 again" in done.stderr) == (code == 0)
