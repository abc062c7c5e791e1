"""Small data that can be learned in a second, and a config for it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from widemax.config import Config

ANIMALS = ("cat", "dog", "owl", "fox", "bee", "ant", "hen", "cow")


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """600 sentences, each naming the animal that is its label among other words."""
    words = random.Random(0)
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(600):
            animal = ANIMALS[number % len(ANIMALS)]
            noise = " ".join(
                words.choice(["we", "saw", "near", "the", "old", "green", "house"]) for _ in range(5)
            )
            file.write(json.dumps({"text": f"{noise} {animal} {noise}", "animal": animal}) + "\n")
    return path


@pytest.fixture
def make_config(tmp_path: Path, rows_file: Path) -> Callable[..., Config]:
    """A config for ``rows_file`` with sections changed."""

    def make(out: str = "run", **sections: dict[str, Any]) -> Config:
        values: dict[str, Any] = {
            "data": {"train": str(rows_file), "input": "text", "target": "animal"},
            "encoder": {"kind": "text", "dim": 16},
            "train": {"epochs": 3, "batch_size": 32},
            "output": {"dir": str(tmp_path / out)},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section}
        return Config.from_dict(values)

    return make
