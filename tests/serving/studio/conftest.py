"""``widemax studio`` in a process of its own over a folder with two runs, which the tests share."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving.conftest import Process

from widemax.config import Config
from widemax.training.loop import train


class Studio(Process):
    """``widemax studio FOLDER`` and a client of it."""

    def __init__(self, folder: Path, *options: object, port: int = 0) -> None:
        options = ("--port", port, *options)
        super().__init__("studio", folder, *options, says="Studio is at ", under="/v1/studio")

    def get(self, path: str, **parameters: Any) -> Any:
        return self.client.get(path, params=parameters).raise_for_status().json()

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(path, json=body).raise_for_status().json()

    def refused(self, path: str, **body: Any) -> str:
        """The sentence by which a question is refused."""
        answer = self.client.post(path, json=body) if body else self.client.get(path)
        assert 400 <= answer.status_code < 500, answer.text
        sentence: str = answer.json()["error"]
        return sentence


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``drinks.csv`` with sentences of three classes, which share words, and two runs trained on it."""
    folder = tmp_path_factory.mktemp("studio")
    draw = random.Random(0)
    words = {
        "tea": ["leaf", "cup", "green"],
        "coffee": ["bean", "cup", "black"],
        "juice": ["fruit", "glass", "green"],
    }
    lines = ["text,drink"]
    for number in range(240):
        drink = draw.choice(list(words))
        lines.append(f"{' '.join(draw.choices(words[drink], k=2))} {number % 7},{drink}")
    (folder / "drinks.csv").write_text("\n".join(lines) + "\n", "utf-8")
    for name, seed in (("first", 0), ("second", 1)):
        train(
            Config.from_dict(
                {
                    "data": {"train": str(folder / "drinks.csv"), "input": "text", "target": "drink"},
                    "head": {"kind": "exact"},
                    "train": {"epochs": 3, "seed": seed},
                    "output": {"dir": str(folder / name)},
                }
            )
        )
    return folder


@pytest.fixture(scope="session")
def studio(folder: Path) -> Iterator[Studio]:
    studio = Studio(folder)
    yield studio
    assert studio.stop() == 0
