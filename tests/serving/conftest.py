"""A server in a process of its own, which all tests that leave it as it is share."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from widemax.config import Config
from widemax.training.loop import train

TOKEN = "0123456789abcdef"


class Server:
    """``widemax serve ARGUMENTS`` on a free port, and a client of it."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "widemax", "serve", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.told = []
        while line := self.process.stderr.readline():
            self.told.append(line)
            if line.startswith("serving "):
                break
        else:
            self.process.stderr.close()
            raise AssertionError(f"exit code {self.process.wait()}: {''.join(self.told)}")
        self.url = line.split(" at ")[1].split()[0]
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.client.get(path, params=parameters)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.client.post(path, **({"json": body} if body is not None else {}), **options)

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.client.close()
            assert self.process.stderr is not None
            self.process.stderr.close()


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
        if server.process.poll() is None:
            os.kill(server.process.pid, signal.SIGKILL)
        server.stop()
