"""Whatever is sent to Studio's routes is answered as their document says."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving.studio.conftest import Studio
from tests.serving.test_openapi import schemathesis

OPTIONS = (
    *("--include-path-regex", "studio", "--exclude-path-regex", "events|audit"),
    # A class may be named that the logits of the same request do not have.
    *("--exclude-checks", "positive_data_acceptance"),
)
"""All routes but a stream that does not end and an order to compute for long."""
NAMED = """[parameters]
name = "first"
a = "first"
b = "second"
data = "drinks.csv"
class_id = 0
"""


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Iterator[Studio]:
    """Studio over a copy of the folder, which may change."""
    for name in ("first", "second"):
        shutil.copytree(folder / name, tmp_path / name)
    shutil.copy(folder / "drinks.csv", tmp_path)
    (tmp_path / "schemathesis.toml").write_text(NAMED)
    studio = Studio(tmp_path)
    yield studio
    studio.stop()


def test_answers_are_those_of_the_document(own: Studio, tmp_path: Path) -> None:
    assert schemathesis(own, tmp_path, *OPTIONS, "--phases", "fuzzing", "--max-examples", "3") > 28


@pytest.mark.slow
def test_a_thousand_answers_are_those_of_the_document(own: Studio, tmp_path: Path) -> None:
    phases = "--phases", "examples,coverage,fuzzing"
    assert schemathesis(own, tmp_path, *OPTIONS, *phases, "--max-examples", "10") >= 1000
