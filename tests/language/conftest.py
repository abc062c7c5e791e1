"""A language of nine words in which the word after next is known, and small models of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from widemax.config import Config
from widemax.language import LanguageModel
from widemax.training.loop import train

WORDS = ["ba", "bo", "da", "do", "ka", "ko", "ma", "mo", "na"]
MakeConfig = Callable[..., Config]


def made_text(number: int, *, seed: int = 0) -> str:
    """Lines of pairs: a word by chance, then the one that always follows it."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(number):
        firsts = random.integers(0, len(WORDS), random.integers(1, 5))
        lines.append(" ".join(f"{WORDS[n]} {WORDS[(n * 2 + 3) % len(WORDS)]}" for n in firsts) + "\n")
    return "".join(lines)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "book.txt"
    path.write_text(made_text(500), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_config(text: Path) -> MakeConfig:
    def make(
        out: Path,
        *,
        encoder: dict[str, object] | None = None,
        head: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        **train: object,
    ) -> Config:
        return Config(
            data={"train": text, "task": "language", **(data or {})},
            encoder={"dim": 16, "length": 16, "rate": 0.0, **(encoder or {})},
            head=head or {},
            train={"epochs": 2, "batch_size": 8, "learning_rate": 0.02, **train},
            output={"dir": out},
        )

    return make


@pytest.fixture(scope="session")
def run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(make_config(tmp_path_factory.mktemp("runs") / "run", epochs=8)).run


@pytest.fixture(scope="session")
def model(run: Path) -> LanguageModel:
    return LanguageModel.load(run)
