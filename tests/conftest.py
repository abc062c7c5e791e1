"""What every test shares."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def widemax_data() -> Path:
    """The folder of real data sets; tests that need it are skipped without it."""
    folder = Path(os.environ.setdefault("WIDEMAX_DATA", str(REPOSITORY.parent / "shared" / "data")))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent; set WIDEMAX_DATA")
    return folder
