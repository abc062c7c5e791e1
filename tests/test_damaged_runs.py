"""Whatever is damaged in a saved run, it answers as before or is refused by the name of the file."""

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.damage import DAMAGES, altered, damage, sign_again

from widemax import Config, Model, train
from widemax.errors import CorruptError
from widemax.heads import CountingHead, heads
from widemax.language import LanguageModel

NUM_ROWS, WORDS = 48, ("red", "green", "blue", "gold", "gray", "plum")
NUMBERS = (
    "weight|class_ids|powers|bias|filters|idf|middle|spread|had_missing|start|width|mean|scale|temperature|"
    "rows|labels|sharpness|projections|positions"
)
WEIGHTS = rf"({NUMBERS})\S* (all )?(0|-1|1099511627776)$"
OPTIONS = (
    r"labels reversed|missing\.\d+: x$|"
    r"(temperature|char_ngrams\S*|char_weight|word_ngrams|recency|num_heads|unit): (\S+|left out)$"
)
BYTES = r"^(a|its \w+) bit flipped|^64 (zeros|ones)|^a piece (gone|twice)|^another (number|word)|^a bad float"
ANOTHER_MODEL = re.compile(f"{WEIGHTS}|{OPTIONS}|{BYTES}")
"""What nobody can tell from a model that was trained so, once the hashes are made anew: a signature can."""


def columns() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    words = [WORDS[number] for number in draw.integers(0, len(WORDS), NUM_ROWS)]
    floats, pixels = draw.normal(size=3 * NUM_ROWS), draw.integers(0, 256, 36 * NUM_ROWS, np.uint8)
    tensor, image = (
        pa.fixed_shape_tensor(pa.uint8(), (6, 6, 1)),
        pa.FixedSizeListArray.from_arrays(pixels, 36),
    )
    return {
        "text": pa.array([f"a {word} thing in the house" for word in words]),
        "number": pa.array([None, *floats[1:NUM_ROWS]]),
        "category": pa.array([word[0] for word in words]),
        "ids": pa.array([[word, "x"] for word in words]),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(floats, pa.float32()), 3),
        "image": pa.ExtensionArray.from_storage(tensor, image),
        "sparse": pa.array([[{"index": len(word), "value": 1.5}] for word in words]),
        "label": pa.array(words),
    }


def trained(folder: Path, inputs: list[str], encoder: dict[str, Any], head: str) -> tuple[Path, pa.Table]:
    table = pa.table({name: column for name, column in columns().items() if name in (*inputs, "label")})
    config = Config(
        data={"target": "label", "input": inputs, "kinds": {name: name for name in inputs}},
        encoder={"dim": 4, **encoder},
        head={"kind": head},
        train={"epochs": 1},
        output={"dir": folder / "run"},
    )
    train(config, data=table)
    return folder / "run", table


class Runs:
    """A saved run that is damaged, tried and mended again and again.

    Args:
        run: its folder.
        answers: loads it and asks what it says, as numbers and texts.
    """

    def __init__(self, run: Path, answers: Callable[[], Any]) -> None:
        self.run, self.answers = run, answers
        self.files = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
        self.right = self.answers()

    @classmethod
    def of_rows(cls, run: Path, table: pa.Table) -> "Runs":
        """That of a classifier, which is asked about the rows of a table."""
        rows = table.drop_columns(["label"])

        def answers() -> list[Any]:
            found = Model.load(run).predict(rows, k=3)
            return [value for row in found for p in row for value in (p.label, p.probability, p.logit)]

        return cls(run, answers)

    def mend(self) -> None:
        for path, content in self.files.items():
            if path.is_dir():
                path.rmdir()
            elif os.path.lexists(path):
                path.unlink()
            path.write_bytes(content)

    def outcome(self) -> str:
        """What a damaged run does, in a word; any other error than the right one is raised."""
        try:
            answers = self.answers()
        except CorruptError as error:
            # A manifest that is damaged and signed again may name another file than those that are there.
            names = [f"{self.run}{os.sep}", *(path.name for path in self.files)]
            named = str(self.run) in str(error) and any(name in str(error) for name in names)
            return "refused" if named else f"refused without the name of a file: {error}"
        finite = np.isfinite([number for number in answers if isinstance(number, float)]).all()
        return "right" if answers == self.right else "another model" if finite else "not finite"

    def attempts(self, turn: int | None) -> Iterator[tuple[Path, str, Callable[[Path], object], bool]]:
        """Each damage of each file in turn, and whether the hashes are made to fit it.

        Args:
            turn: where it is given, a third of what every run says of itself, another one with each number.
        """
        for path in self.files:
            for name, again in product(DAMAGES, (False, True)):
                yield path, name, partial(damage, kind=name, random=Random(name)), again
            for number, (name, content) in enumerate(altered(path)):
                of_every = path.suffix in (".json", ".toml") and not name.startswith(("head.", "encoder."))
                if turn is None or not of_every or number % 3 == turn % 3:
                    yield path, name, partial(Path.write_bytes, data=content), True


def check_every(runs: Runs, step: int, turn: int | None = None) -> int:
    """Try each step-th damage; how many were refused."""
    wrong, refused = [], 0
    for number, (path, name, alter, resigned) in enumerate(runs.attempts(turn)):
        if number % step:
            continue
        alter(path)
        if resigned:
            sign_again(runs.run, path.relative_to(runs.run).as_posix())
        try:
            outcome = runs.outcome()
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        runs.mend()
        refused += outcome == "refused"
        is_known = resigned and outcome == "another model" and ANOTHER_MODEL.search(name)
        if outcome not in ("right", "refused") and not is_known:
            wrong.append(f"{path.name}: {name}{', resigned' * resigned}: {outcome}")
    assert not wrong, "\n".join(wrong)
    return refused


def test_a_damaged_run_is_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    runs = Runs.of_rows(
        *trained(tmp_path, ["text", "number", "category"], {"parts": {"table": {"hidden": [4]}}}, "exact")
    )
    assert check_every(runs, step=23) > 50


@pytest.mark.slow
@pytest.mark.parametrize(("turn", "head"), list(enumerate(name for name in heads.names() if name != "exact")))
def test_every_damage_of_every_head(turn: int, head: str, tmp_path: Path) -> None:
    inputs, encoder = (
        (["text"], {"dim": "features"})
        if issubclass(heads[head], CountingHead)
        else (["number"], {"hidden": [4]})
    )
    assert check_every(Runs.of_rows(*trained(tmp_path, inputs, encoder, head)), step=1, turn=turn) > 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("turn", "kind", "encoder"),
    [
        *((0, "text", {}), (1, "ids", {}), (2, "sparse", {})),
        (0, "ids", {"kind": "sequence", "num_layers": 1}),
        *((turn, kind, {"hidden": [4]}) for turn, kind in ((None, "number"), (1, "vector"), (2, "image"))),
    ],
)
def test_every_damage_of_every_encoder(
    turn: int | None, kind: str, encoder: dict[str, Any], tmp_path: Path
) -> None:
    runs = Runs.of_rows(*trained(tmp_path, [kind], encoder, "exact"))
    assert check_every(runs, step=1, turn=turn) > 500


@pytest.mark.slow
def test_every_damage_of_a_run_on_events(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    items = [WORDS[number] for number in draw.integers(0, len(WORDS), NUM_ROWS)]
    events = pa.table({"user": draw.integers(0, 9, NUM_ROWS), "item": items, "time": range(NUM_ROWS)})
    train(
        Config(data={"user": "user", "item": "item", "time": "time"}, output={"dir": tmp_path / "run"}),
        data=events,
    )
    rows = pa.table({"history": [["red"], ["blue", "gold"], []], "label": ["gray"] * 3})
    assert check_every(Runs.of_rows(tmp_path / "run", rows), step=1) > 500


@pytest.mark.slow
def test_every_damage_of_a_run_with_a_tower(tmp_path: Path) -> None:
    table = pa.table({name: column for name, column in columns().items() if name in ("number", "label")})
    classes = pa.table(
        {"label": WORDS, "name": [f"{word} thing" for word in WORDS], "size": range(len(WORDS))}
    )
    config = Config(
        data={"target": "label"},
        encoder={"dim": 4, "hidden": [4]},
        train={"epochs": 1},
        output={"dir": tmp_path / "run"},
    )
    train(config, data=table, classes=classes)
    assert check_every(Runs.of_rows(tmp_path / "run", table), step=1) > 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "head", "encoder"),
    [
        ("word", {"kind": "adaptive", "cutoffs": [4]}, {"kind": "lstm"}),
        (
            "character",
            {"kind": "sampled", "num_sampled": 4},
            {"kind": "transformer", "num_layers": 1, "positions": "learned"},
        ),
    ],
)
def test_every_damage_of_a_language_model(
    tmp_path: Path, unit: str, head: dict[str, Any], encoder: dict[str, Any]
) -> None:
    text, run = tmp_path / "text.txt", tmp_path / "run"
    text.write_text(f"{' '.join(WORDS)}\n" * 9)
    config = Config(
        data={"train": text, "task": "language"},
        encoder={"unit": unit, "dim": 4, "length": 8, **encoder},
        head=head,
        train={"epochs": 1},
        output={"dir": run},
    )
    train(config)

    def answers() -> list[Any]:
        model = LanguageModel.load(run)
        return [model.perplexity("red plum blue\n"), model.continue_("red", tokens=4, temperature=0.0)]

    assert check_every(Runs(run, answers), step=1) > 500
