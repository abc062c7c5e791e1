"""Runs as the page sees them: listed, followed while they train, compared."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from widemax import Model
from widemax.data import Dataset


def told(studio: Any, name: str, *, after: str | None = None) -> list[tuple[str, str, Any]]:
    """Event, id and data of all Server-Sent Events of a run until its end."""
    headers = {} if after is None else {"Last-Event-ID": after}
    found = []
    with studio.client.stream("GET", f"runs/{name}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for block in "".join(answer.iter_text()).split("\n\n"):
            fields = dict(re.findall(r"^(\w+): (.*)$", block, flags=re.MULTILINE))
            if "data" in fields:
                found.append(
                    (fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
                )
    return found


def test_runs_are_listed_with_what_they_are(studio: Any) -> None:
    listed = {run["name"]: run for run in studio.get("runs")["runs"]}
    assert {"first", "second"} <= listed.keys()
    first = listed["first"]
    assert (first["state"], first["num_classes"], first["encoder"]) == ("finished", 3, "text")
    assert first["metrics"][0]["metric"] == "accuracy"
    assert 'target = "drink"' in studio.get("runs/first")["toml"]


def test_events_are_the_records_of_training(studio: Any, folder: Path) -> None:
    records = [
        json.loads(line) for line in (folder / "first" / "metrics.jsonl").read_text("utf-8").splitlines()
    ]
    *events, (last, _, state) = told(studio, "first")
    assert [data for _, _, data in events] == records
    assert [number for _, number, _ in events] == [str(1 + at) for at in range(len(records))]
    assert (last, state) == ("end", {"state": "finished"})


def test_who_was_away_gets_what_came_meanwhile(studio: Any) -> None:
    everything = told(studio, "first")
    assert told(studio, "first", after="2") == everything[2:]
    assert told(studio, "first", after="no number") == everything
    # Another run has taken the place of a longer one.
    assert [event for event, *_ in told(studio, "first", after="999")] == [
        "again",
        *(e for e, *_ in everything),
    ]


def test_a_record_that_is_being_written_waits(studio: Any, folder: Path) -> None:
    half = folder / "half"
    shutil.copytree(folder / "first", half)
    try:
        with (half / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"step": 9')
        assert len(told(studio, "half")) == len(told(studio, "first"))
    finally:
        shutil.rmtree(half)


def test_predictions_are_those_of_the_model(studio: Any, folder: Path) -> None:
    texts = ["leaf cup 1", "bean black 2"]
    rows = studio.post("runs/first/predict", inputs=[{"text": text} for text in texts], k=2)["rows"]
    model = Model.load(folder / "first")
    for row, expected in zip(rows, model.predict(texts, k=2), strict=True):
        assert [each["label"] for each in row] == [one.label for one in expected]
        assert [each["probability"] for each in row] == pytest.approx([one.probability for one in expected])
        assert [model.vocabulary.decode([each["class_id"]]) for each in row] == [
            [one.label] for one in expected
        ]


def test_what_moved_an_answer_adds_up(studio: Any) -> None:
    inputs = [{"text": "leaf cup"}]
    found = studio.post("runs/first/explain", inputs=inputs)
    assert found["label"] == studio.post("runs/first/predict", inputs=inputs, k=1)["rows"][0][0]["label"]
    moved = sum(part["contribution"] for part in found["parts"])
    assert found["baseline"] + moved + found["other"] == pytest.approx(found["logit"], abs=1e-4)


def test_two_runs_are_compared_row_by_row(studio: Any, folder: Path) -> None:
    found = studio.get("compare", a="first", b="second", data="drinks.csv")
    models = [Model.load(folder / name) for name in ("first", "second")]
    dataset = Dataset([folder / "drinks.csv"], models[0].schema)
    texts, labels = [], []
    for batch in dataset.batches(1000):
        texts += batch.columns["text"].to_pylist()
        labels += batch.labels.to_pylist()
    right = [
        [answer[0].label == label for answer, label in zip(model.predict(texts, k=1), labels, strict=True)]
        for model in models
    ]
    only_b = sum(b and not a for a, b in zip(*right, strict=True))
    only_a = sum(a and not b for a, b in zip(*right, strict=True))
    assert (found["rows"], found["only_a"], found["only_b"]) == (240, only_a, only_b)
    assert found["right"] == pytest.approx([sum(each) / 240 for each in right])
    assert found["difference"] == pytest.approx((only_b - only_a) / 240)
    assert found["interval"][0] <= found["difference"] <= found["interval"][1]
    assert [row["key"] for row in found["config"]] == ["train.seed"]


def test_a_run_is_no_better_than_itself(studio: Any) -> None:
    found = studio.get("compare", a="first", b="first", data="drinks.csv")
    assert (found["p"], found["difference"], found["config"]) == (1.0, 0.0, [])


@pytest.mark.parametrize("name", ["../first", "%2e%2e", "firs", "first\0", "/etc"])
def test_only_listed_runs_are_reached(studio: Any, name: str) -> None:
    answer = studio.client.get(f"runs/{name.replace(chr(0), '%00')}")
    assert answer.status_code == 404
    if name == "firs":
        assert "did you mean 'first'" in answer.json()["error"]
