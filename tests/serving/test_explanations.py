"""What moved an answer, under heads that have no table of n-grams."""

import json
from pathlib import Path
from typing import Any

import pytest

from widemax import Model
from widemax.config import Config
from widemax.serving.explanations import explain, request
from widemax.training.loop import train

TEXT = "a cup of green leaf, and paper"
DRINKS = [
    ("green leaf cup", ["tea", "hot"]),
    ("blue paper pen", ["ink"]),
    ("brown bean cup", ["coffee", "hot"]),
]


def explained(head: dict[str, Any], folder: Path) -> tuple[Model, dict[str, Any]]:
    rows = [{"text": f"{text} {number}", "label": labels} for number in range(8) for text, labels in DRINKS]
    path = folder / "drinks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = {"data": {"train": path, "target": "label"}, "head": head, "output": {"dir": folder / "run"}}
    model = train(Config.from_dict(sections)).model
    found = explain(model, request(model, inputs=[TEXT], label="tea"))
    assert found["logit"] == pytest.approx(logit_of(model, TEXT), abs=1e-5)
    return model, found


def logit_of(model: Model, text: str) -> float:
    (answers,) = model.predict([text], k=4)
    return next(answer.logit for answer in answers if answer.label == "tea")


def test_words_add_up_under_linear_separators(tmp_path: Path) -> None:
    _, found = explained({"kind": "label_tree"}, tmp_path)
    total = found["baseline"] + found["other"] + sum(part["contribution"] for part in found["parts"])
    assert total == pytest.approx(found["logit"], abs=1e-5)
    moved = {part["word"]: part["contribution"] for part in found["parts"]}
    assert moved["leaf"] > moved["cup"] > moved["paper"]


@pytest.mark.parametrize("head", [{"kind": "label_tree", "groups": 2}, {"kind": "counts"}], ids=str)
def test_words_are_left_out_where_they_do_not_add_up(head: dict[str, Any], tmp_path: Path) -> None:
    model, found = explained(head, tmp_path)
    assert found["method"] == "leave one word out"
    lost = [found["logit"] - logit_of(model, TEXT[: p["start"]] + TEXT[p["end"] :]) for p in found["parts"]]
    assert [part["contribution"] for part in found["parts"]] == pytest.approx(lost, abs=1e-5)
