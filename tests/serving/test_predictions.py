"""Predictions over HTTP are those of the model."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.serving.conftest import Server

from widemax import Model
from widemax.data import Column, Schema
from widemax.serving.predictions import Question, together


def test_predictions_are_those_of_the_model(server: Server, runs: Path) -> None:
    rows = ["green leaf cup", "blue pen", "nothing known"]
    reply = server.post("/v1/predict", {"inputs": rows, "k": 2}).json()
    expected = Model.load(runs / "drinks").predict(rows, k=2)
    found = [[(p["label"], p["probability"]) for p in row["predictions"]] for row in reply["rows"]]
    assert [[label for label, _ in row] for row in found] == [[p.label for p in row] for row in expected]
    assert [[p for _, p in row] for row in found] == [
        [pytest.approx(p.probability, abs=1e-6) for p in row] for row in expected
    ]
    assert (reply["model"], reply["search"], reply["normalizer"]) == ("drinks", "exact", "exact")


def test_every_model_answers_by_its_name(server: Server) -> None:
    reply = server.post("/v1/models/fruit/predict", {"inputs": [{"color": "green", "weight_g": 900}], "k": 1})
    assert reply.json()["rows"][0]["predictions"][0]["label"] == "melon"


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"inputs": [{"tex": "tea"}]}, 422, "row 0: the row lacks the input 'text'; it has ['tex']."),
        ({"inputs": ["tea"], "kk": 3}, 400, "the body has no option 'kk'; did you mean 'k'?"),
        ({"inputs": ["tea"], "k": 10**9}, 400, "whole number in [1, 1000]"),
        ({"inputs": []}, 400, "inputs must hold 1 to 1,024 rows; got 0."),
        ({"inputs": ["tea"] * 1025}, 400, "got 1,025."),
        ({"inputs": ["tea"], "threshold": "auto"}, 400, "a threshold is fitted for rows with several labels"),
        ([], 400, 'the body must be a JSON object such as {"inputs": …}; got [].'),
    ],
)
def test_bad_bodies_get_the_sentences_of_the_library(
    server: Server, body: object, status: int, sentence: str
) -> None:
    reply = server.post("/v1/predict", body)
    assert reply.status_code == status
    assert sentence in reply.json()["error"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"inputs": [NaN]}', "NaN is no number of JSON that is finite"),
        ('{"inputs": [1e999]}', "1e999 is no number of JSON that is finite"),
        ('{"inputs": ["tea"', "Expecting ',' delimiter"),
        ("[" * 100_000, "nests deeper"),
        ('{"inputs": [' + "[" * 40 + "]" * 40 + "]}", "nests deeper"),
        (r'{"inputs": ["\ud800"]}', "half of a surrogate pair"),
        ('{"inputs": [' + "9" * 5000 + "]}", "Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_refused(server: Server, text: str, sentence: str) -> None:
    reply = server.post("/v1/predict", content=text.encode())
    assert reply.status_code == 400
    assert sentence in reply.json()["error"]


def test_a_question_changes_no_value_of_another() -> None:
    color = Column("color", "category")
    lists = Column("size", "vector", width=2), Column("face", "image", shape=(1, 2, 1))
    given = (1, 1.5, "blue", 2, True, None, "red", "tan")
    rows = [{"color": color, "size": [1, 2.5], "face": [[0, 255]]} for color in given]
    questions = [Question([row], 1, 0.0) for row in [*rows[:3], {"size": [0, 0]}, *rows[3:]]]
    for columns in ((color,), (color, *lists)):
        model = SimpleNamespace(schema=Schema(columns, target=None))
        found, reasons = together(model, questions)
        assert found["color"].to_pylist() == ["1", "1.5", "blue", "2", "true", None, "red", "tan"]
        assert {len(values) for values in found.values()} == {8}
        assert list(reasons) == [3]
