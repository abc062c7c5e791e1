"""What is left of a training that is stopped."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from widemax.storage import replacing
from widemax.training.progress import PlainReporter
from widemax.training.runs import begin


def test_a_run_that_was_put_in_place_is_not_removed_again_by_a_late_signal(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with replacing(run, {}, overwrite=False) as folder:
        (folder / "config.toml").touch()

    def train(workspace: Path, scratch: Path, checkpoint: Path | None) -> Any:
        assert workspace != run
        shutil.rmtree(workspace)  # as if it had taken the place of the run
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(run, train, overwrite=True, reporter=PlainReporter(quiet=True))
    assert run.is_dir()
