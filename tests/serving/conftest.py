"""A server in a process of its own, which all tests that leave it as it is share."""

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.forked import Command
from tests.parsing.conftest import treebank

from widemax.config import Config
from widemax.training.loop import train

TOKEN = "0123456789abcdef"


class Process:
    """A verb that listens on a port, in a process of its own, and a client of it.

    Args:
        arguments: of `widemax`.
        says: how the line begins that tells its address.
        under: what the client's addresses begin with.
    """

    def __init__(self, *arguments: object, says: str, under: str = "") -> None:
        self.process = Command(*arguments)
        self.told = []
        while line := self.process.stderr.readline():
            self.told.append(line)
            if line.startswith(says):
                break
        else:
            self.process.wait(60)  # it ends by itself, and would else end by the signal
            raise AssertionError(f"exit code {self.process.stop()}: {''.join(self.told)}")
        self.url = line.split(" at ")[1].split()[0]
        self.client = httpx.Client(base_url=self.url + under, timeout=60, trust_env=False)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self.client.close()
        return self.process.stop(how)


class Server(Process):
    """``widemax serve ARGUMENTS`` on a free port."""

    def __init__(self, *arguments: object) -> None:
        super().__init__("serve", "--port", "0", *arguments, says="serving ")

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.client.get(path, params=parameters)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.client.post(path, **({"json": body} if body is not None else {}), **options)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs: ``drinks`` of texts, and ``fruit`` of a number and a category."""
    folder = tmp_path_factory.mktemp("served")
    draw = random.Random(0)
    words = {
        "tea": ["leaf", "green", "cup"],
        "ink": ["pen", "blue", "paper"],
        "beer": ["pub", "hop", "glass"],
    }
    lines = ["text,label"]
    for _ in range(240):
        label = draw.choice(list(words))
        lines.append(f"{' '.join(draw.choices(words[label], k=3))},{label}")
    (folder / "drinks.csv").write_text("\n".join(lines) + "\n")
    kinds = [("plum", "blue", 40), ("lime", "green", 60), ("melon", "green", 900)]
    lines = ["color,weight_g,fruit"]
    for _ in range(240):
        fruit, color, weight = draw.choice(kinds)
        lines.append(f"{color},{weight * draw.uniform(0.8, 1.2):.1f},{fruit}")
    (folder / "fruit.csv").write_text("\n".join(lines) + "\n")
    for name, target in (("drinks", "label"), ("fruit", "fruit")):
        train(
            Config.from_dict(
                {
                    "data": {"train": str(folder / f"{name}.csv"), "target": target},
                    "train": {"epochs": 8},
                    "output": {"dir": str(folder / name)},
                }
            )
        )
    return folder


@pytest.fixture(scope="session")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a parser ``trees``, a translator ``lines`` and a language model ``letters``."""
    pytest.importorskip("sentencepiece", reason="needs the extra translation")
    folder = tmp_path_factory.mktemp("systems")
    (folder / "trees.conllu").write_text(treebank(120, 0))
    (folder / "lines.en").write_text("one dog .\ntwo cats .\nred house .\n" * 12)
    (folder / "lines.de").write_text("ein hund .\nzwei katzen .\nrotes haus .\n" * 12)
    (folder / "letters.txt").write_text("the cat sat on the mat\n" * 40)
    small = {"dim": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "pieces": 300}
    sections: dict[str, dict[str, Any]] = {
        "trees": {
            "data": {"train": str(folder / "trees.conllu")},
            "parser": {"form_dim": 16, "hidden": 24, "action_dim": 32, "layers": 1, "batch_words": 60},
            "train": {"epochs": 6, "learning_rate": 1e-2},
        },
        "lines": {
            "data": {"train": str(folder / "lines.en"), "target_lines": str(folder / "lines.de")},
            "encoder": small,
            "train": {"epochs": 1, "batch_size": 16},
        },
        "letters": {
            "data": {"train": str(folder / "letters.txt"), "task": "language"},
            "encoder": {"unit": "character", "dim": 16, "length": 16},
            "train": {"epochs": 2, "batch_size": 4},
        },
    }
    for name, given in sections.items():
        train(Config.from_dict({**given, "output": {"dir": str(folder / name)}}))
    return folder


@pytest.fixture(scope="session")
def served_systems(systems: Path) -> Iterator[Server]:
    """All of them served, the parser first."""
    server = Server(*(systems / name for name in ("trees", "lines", "letters")))
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def feedback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the shared server keeps labels."""
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="session")
def server(runs: Path, feedback: Path) -> Iterator[Server]:
    """Both runs served, for tests that leave the server as it is."""
    server = Server(runs / "drinks", runs / "fruit", "--feedback", feedback)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def guarded(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with another name, a token and little patience."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(f"{TOKEN}\n")
    options = "--allow-host", "Models.example.org", "--token-file", token, "--timeout", "0.5"
    server = Server(runs / "fruit", *options)
    yield server
    server.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers that are killed after the test."""
    started: list[Server] = []

    def start(*arguments: object) -> Server:
        started.append(Server(*arguments))
        return started[-1]

    yield start
    for server in started:
        server.stop(signal.SIGKILL)
