"""A language of nine words, and its translation word by word in reverse order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from widemax.config import Config
from widemax.training.loop import train
from widemax.translation import Translator

pytest.importorskip("sentencepiece", reason="needs the extra translation")

WORDS = {
    "one": "eins",
    "two": "zwei",
    "three": "drei",
    "dog": "hund",
    "cat": "katze",
    "house": "haus",
    "red": "rot",
    "blue": "blau",
    "runs": "rennt",
}
MakeConfig = Callable[..., Config]


def sentences(number: int, *, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(list(WORDS), random.integers(1, 5))) + " ." for _ in range(number)]


def translated(sentence: str) -> str:
    return " ".join(WORDS[word] for word in reversed(sentence.split()[:-1])) + " ."


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("lines")
    lines = sentences(400)
    paths = folder / "train.en", folder / "train.de"
    paths[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
    paths[1].write_text("\n".join(map(translated, lines)) + "\n", encoding="utf-8")
    return paths


@pytest.fixture(scope="session")
def make_config(files: tuple[Path, Path]) -> MakeConfig:
    def make(out: Path, **train: object) -> Config:
        return Config(
            data={"train": files[0], "target_lines": files[1], "task": "translate"},
            encoder={
                "dim": 32,
                "num_layers": 1,
                "num_heads": 2,
                "hidden_dim": 32,
                "rate": 0.0,
                "pieces": 330,
            },
            train={"epochs": 2, "batch_size": 32, "learning_rate": 0.01, **train},
            output={"dir": out},
        )

    return make


@pytest.fixture(scope="session")
def run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(make_config(tmp_path_factory.mktemp("runs") / "run", epochs=20)).run


@pytest.fixture(scope="session")
def translator(run: Path) -> Translator:
    return Translator.load(run)
