"""Small data that can be learned in a second, and a config for it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from widemax.config import Config
from widemax.training.loop import train
from widemax.training.runs import Outcome

ANIMALS = ("cat", "dog", "owl", "fox", "bee", "ant", "hen", "cow")


def write_rows(path: Path) -> Path:
    """600 sentences, each naming the animal that is its label among other words."""
    words = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(600):
            animal = ANIMALS[number % len(ANIMALS)]
            noise = " ".join(
                words.choice(["we", "saw", "near", "the", "old", "green", "house"]) for _ in range(5)
            )
            file.write(json.dumps({"text": f"{noise} {animal} {noise}", "animal": animal}) + "\n")
    return path


def config_of(rows: Path, out: Path, **sections: dict[str, Any]) -> Config:
    """A config for such rows with sections changed."""
    values: dict[str, Any] = {
        "data": {"train": str(rows), "input": "text", "target": "animal"},
        "encoder": {"kind": "text", "dim": 16},
        "train": {"epochs": 3, "batch_size": 32},
        "output": {"dir": str(out)},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return Config.from_dict(values)


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl")


@pytest.fixture
def make_config(tmp_path: Path, rows_file: Path) -> Callable[..., Config]:
    """A config for ``rows_file`` with sections changed."""

    def make(out: str = "run", **sections: dict[str, Any]) -> Config:
        return config_of(rows_file, tmp_path / out, **sections)

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcome[Any]]:
    """What such a config gives, trained once for all tests, which leave it as it is."""
    folder, outcomes = tmp_path_factory.mktemp("trained"), {}
    rows = write_rows(folder / "rows.jsonl")

    def outcome_of(**sections: dict[str, Any]) -> Outcome[Any]:
        key = json.dumps(sections, sort_keys=True)
        if key not in outcomes:
            outcomes[key] = train(config_of(rows, folder / str(len(outcomes)), **sections))
        return outcomes[key]

    return outcome_of
