"""What requests may name, and who may ask for what."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from widemax.errors import UnknownNameError, UsageError
from widemax.serving import create_app
from widemax.serving.studio import Runs
from widemax.serving.studio.jobs import Training


def asked(folder: Path, path: str, *, by: str, **body: Any) -> httpx.Response:
    """An answer of the application to a client of some address."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(None, runs=Runs(folder)), client=(by, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/v1/studio") as client:
            return await (client.post(path, json=body) if body else client.get(path))

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "path", ["runs/first", "data", "runs/first/mistakes?data=train", "jobs", "compare?a=a&b=b&data=x"]
)
def test_rows_and_work_are_for_the_own_machine(tmp_path: Path, path: str) -> None:
    stranger = asked(tmp_path, path, by="192.0.2.7")
    assert stranger.status_code == 403
    assert "from the server's own machine" in stranger.json()["error"]
    assert asked(tmp_path, path, by="127.0.0.1").status_code != 403


def test_strangers_may_play(tmp_path: Path) -> None:
    assert asked(tmp_path, "playground/scores", by="192.0.2.7", logits=[1.0, 2.0]).status_code == 200
    training = {"name": "x", "data": "clinc150:train"}
    assert asked(tmp_path, "trainings", by="192.0.2.7", **training).status_code == 403


def test_runs_are_folders_with_a_config(tmp_path: Path) -> None:
    for name in ("b", "a", "other"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "config.toml").touch()
    runs = Runs(tmp_path)
    assert list(runs.paths()) == ["a", "b"]
    with pytest.raises(UnknownNameError, match="no run is called 'other'"):
        runs.path("other")
    with pytest.raises(UsageError, match="a has not been saved yet"):
        runs.served("a")


def test_fixed_runs_are_not_added_to() -> None:
    with pytest.raises(UsageError, match="serves fixed runs"):
        Training(name="x", data="clinc150:train").arguments(Runs())
