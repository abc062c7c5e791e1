"""Whatever the document allows or forbids is answered as it says, and never by a fault of the server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving.conftest import Process, Server

COUNTED = "feedback|infer"
"""Routes that want as many labels as rows, or values as a shape has, which no schema can say."""


def schemathesis(server: Process, folder: Path, *options: str) -> int:
    """How many requests were tried, all checks on, none of them answered wrongly."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    command += ["--checks", "all", "--no-color", "--seed", "0", "--suppress-health-check", "all", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    (generated,) = re.findall(r"([\d,]+) generated", done.stdout)
    return int(generated.replace(",", ""))


def test_answers_are_those_of_the_document(server: Server, tmp_path: Path) -> None:
    options = "--phases", "examples,fuzzing", "--max-examples", "3"
    assert schemathesis(server, tmp_path, "--exclude-path-regex", f"studio|{COUNTED}", *options) > 40


@pytest.mark.slow
def test_thousands_of_answers_are_those_of_the_document(server: Server, tmp_path: Path) -> None:
    options = "--max-examples", "60"
    tried = schemathesis(server, tmp_path, "--exclude-path-regex", f"studio|{COUNTED}", *options)
    options += "--exclude-checks", "positive_data_acceptance"
    tried += schemathesis(server, tmp_path, "--include-path-regex", COUNTED, *options)
    assert tried >= 2000
