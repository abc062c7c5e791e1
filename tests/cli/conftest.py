"""Running the command line in this process, and a small trained run."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from widemax.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


Widemax = Callable[..., Result]


@pytest.fixture
def widemax(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Widemax:
    """The whole of ``widemax ARGUMENTS``, as the shell sees it."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["widemax", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return Result(int(stopped.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def fruit_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 fruits: color and weight decide which."""
    rows = random.Random(0)
    path = tmp_path_factory.mktemp("fruit") / "fruit.csv"
    kinds = [("plum", "blue", 40), ("lime", "green", 60), ("melon", "green", 900)]
    with path.open("w", encoding="utf-8") as file:
        file.write("color,weight_g,fruit\n")
        for _ in range(300):
            fruit, color, weight = rows.choice(kinds)
            file.write(f"{color},{weight * rows.uniform(0.8, 1.2):.1f},{fruit}\n")
    return path


@pytest.fixture(scope="session")
def fruit_run(fruit_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on the fruits."""
    from widemax.config import Config
    from widemax.training.loop import train

    run = tmp_path_factory.mktemp("runs") / "fruit"
    train(
        Config.from_dict(
            {
                "data": {"train": str(fruit_csv), "target": "fruit"},
                "train": {"epochs": 20},
                "output": {"dir": str(run)},
            }
        )
    )
    return run
