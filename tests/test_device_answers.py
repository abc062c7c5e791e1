"""Models answer where their tensors are: evaluate and predict there say what they say on the CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tests.pretended import place, waits

from widemax import Config, Model, evaluate, neighbors, train

NUM_ROWS = 60
COLORS = "red", "green", "blue", "black", "white"


def texts() -> dict[str, Any]:
    return {"x": [f"a {COLORS[row % 5]} thing of {row % 7}" for row in range(NUM_ROWS)]}


def mixed() -> dict[str, Any]:
    numbers = torch.randn(NUM_ROWS, generator=torch.Generator().manual_seed(0)).tolist()
    return {"n": [row % 5 + 0.1 * number for row, number in enumerate(numbers)], "c": list("abc") * 20}


def histories() -> dict[str, Any]:
    return {"seen": [[COLORS[(row + place) % 5] for place in range(row % 3)] for row in range(NUM_ROWS)]}


def one() -> list[Any]:
    return [COLORS[row % 5] for row in range(NUM_ROWS)]


def several() -> list[Any]:
    return [[COLORS[row % 5], COLORS[row % 3]][: row % 3] for row in range(NUM_ROWS)]


Column = Callable[[], Any]
CASES: dict[str, tuple[Column, Column, dict[str, Any]]] = {
    "texts": (texts, one, {}),
    "texts without separators": (texts, one, {"train": {"separators": False}}),
    "texts of several labels": (texts, several, {"head": {"kind": "sampled", "num_sampled": 2}}),
    "numbers with neighbors": (mixed, one, {"train": {"neighbors": 5}}),
    "histories": (histories, one, {"data": {"task": "next", "repeat": False}}),
    "a tower": (texts, one, {"head": {"kind": "exact", "weight": {}}}),
}


@pytest.mark.parametrize("name", CASES)
def test_metrics_and_predictions_are_those_of_the_cpu(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "MIN_GAIN", -1.0)  # they have a part however little it is worth
    columns, labels, sections = CASES[name]
    frame = pa.table({**columns(), "y": labels()})
    sections = {**sections, "data": {"target": "y", **sections.get("data", {})}}
    sections["train"] = {"epochs": 2, "batch_size": 16, **sections.get("train", {})}
    sections["output"] = {"dir": str(tmp_path / "run")}
    train(Config.from_dict(sections), data=frame)
    found = []
    for there in (False, True):
        model = Model.load(tmp_path / "run")
        if there:
            place(model.encoder)
            place(model.head)
        assert (model.neighbors is not None) == ("neighbors" in name)
        with waits() as told:
            values = evaluate(model, frame, report=tmp_path / "report.html")
            predictions = model.predict(frame.slice(0, 9), k=3)
            psp = model.predict(frame.slice(0, 9), k=3, rank="psp")
        assert bool(told) == there
        found.append((values, predictions, psp))
    (expected, *rows), (values, *rows_there) = found
    for key in expected.keys() - {"seconds", "rows_per_s", "task", "baseline"}:
        assert values[key] == pytest.approx(expected[key], rel=1e-5), key
    for ours, theirs in zip(rows_there, rows, strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            assert [p.label for p in mine] == [p.label for p in other]
            assert [p.probability for p in mine] == pytest.approx([p.probability for p in other], rel=1e-4)
