"""Small data that several processes learn in seconds, and a config for them."""

import json
import random
from pathlib import Path

from widemax import Model

NUM_CLASSES = 30
CONFIG = """
[data]
train = "rows.jsonl"
target = "label"
[encoder]
kind = "text"
dim = 8
dropout = {dropout}
[head]
kind = "{head}"
[train]
epochs = {epochs}
batch_size = 64
separators = false
checkpoint_every_s = {every}
[distributed]
shard_classes = {split}
timeout_s = {timeout_s}
max_restarts = {restarts}
"""


def write_rows(path: Path, num_rows: int = 600) -> None:
    words = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            name = f"class{number % NUM_CLASSES}"
            noise = " ".join(words.choice(["we", "saw", "near", "the", "old"]) for _ in range(3))
            file.write(json.dumps({"text": f"{noise} {name}", "label": name}) + "\n")


def configure(
    folder: Path,
    *,
    head: str = "exact",
    split: str = "true",
    every: float = 1e9,
    epochs: int = 2,
    timeout_s: float = 30,
    restarts: int = 3,
    dropout: float = 0.0,
) -> Path:
    path = folder / "c.toml"
    path.write_text(
        CONFIG.format(
            head=head,
            split=split,
            every=every,
            epochs=epochs,
            timeout_s=timeout_s,
            restarts=restarts,
            dropout=dropout,
        ),
        encoding="utf-8",
    )
    return path


def probabilities(run: Path) -> list[float]:
    """Of the three best classes of a row of each class."""
    rows = [{"text": f"saw class{number}"} for number in range(NUM_CLASSES)]
    return [p.probability for row in Model.load(run).predict(rows, k=3) for p in row]


def weights(run: Path) -> dict[str, bytes]:
    """The bytes of all weights of a finished run."""
    return {path.name: path.read_bytes() for path in (run / "weights").iterdir()}
