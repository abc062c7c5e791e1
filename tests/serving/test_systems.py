"""Parsers, translators and language models behind HTTP: the library's answers, else a sentence."""

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.serving.conftest import Server
from tests.serving.test_openapi import schemathesis

from widemax.errors import UsageError
from widemax.language import LanguageModel
from widemax.parsing import Parser, words_in
from widemax.serving.abstention import Coverage
from widemax.serving.batches import GoneError
from widemax.serving.models import Models
from widemax.translation import Translator


def rows(server: Server, name: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    reply = server.post(f"/v1/models/{name}/predict", body)
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["rows"]
    assert [row["row"] for row in found] == list(range(len(found)))
    return found


def test_sentences_are_answered_by_their_trees(served_systems: Server, systems: Path) -> None:
    text, words = "The dog sees a bird.", ["the", "old", "cat", "hears", "Ann", "."]
    first, second = rows(served_systems, "trees", {"inputs": [text, words]})
    parser = Parser.load(systems / "trees")
    for row, given in ((first, words_in(text)), (second, words)):
        (tree,) = parser.parse([given])
        assert (row["words"], row["heads"], row["relations"]) == (given, tree.heads, tree.relations)
    assert rows(served_systems, "trees", {"inputs": text, "beam": 4.0})[0]["heads"].count(0) == 1


def test_lines_are_answered_by_their_translations(served_systems: Server, systems: Path) -> None:
    lines = ["one dog .", "", "two\ncats ."]
    found = rows(served_systems, "lines", {"inputs": lines, "beam": 4, "k": 3})
    expected = Translator.load(systems / "lines").translate(
        ["one dog .", "", "two cats ."], beam=4, num_best=3
    )
    for row, one in zip(found, expected, strict=True):
        assert (row["translation"], row["score"]) == (one.text, pytest.approx(one.score, rel=1e-4))
        others = [(other["translation"], pytest.approx(other["score"])) for other in row["alternatives"]]
        assert [(other.text, other.score) for other in one.others] == others
    assert 1 <= len(found[0]["alternatives"]) <= 2
    assert [row["cut"] for row in found] == [False] * 3
    assert rows(served_systems, "lines", {"inputs": "dog " * 300, "beam": 1})[0]["cut"]


def test_texts_go_on_as_the_seed_says(served_systems: Server, systems: Path) -> None:
    texts = ["the c", "a"]
    found = rows(served_systems, "letters", {"inputs": texts, "tokens": 12, "seed": 7, "temperature": 1})
    model = LanguageModel.load(systems / "letters")
    assert [row["continuation"] for row in found] == [
        model.continue_(text, tokens=12, seed=7 + row) for row, text in enumerate(texts)
    ]


def test_requests_answered_together_are_answered_as_alone(served_systems: Server) -> None:
    bodies = [
        {"inputs": [f"{word} dog ."], "beam": 1 + at % 2} for at, word in enumerate(["one", "two", "red"] * 6)
    ]
    alone = [rows(served_systems, "lines", body) for body in bodies]
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(lambda body: rows(served_systems, "lines", body), bodies))
    for (one,), (other,) in zip(alone, together, strict=True):
        assert one["translation"] == other["translation"]
        assert one["score"] == pytest.approx(other["score"], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "body", "status", "says"),
    [
        ("trees", {"inputs": []}, 400, "1 to 64 rows"),
        ("trees", {"inputs": ["a"] * 65}, 400, "1 to 64 rows; got 65"),
        ("trees", {"inputs": [["a", ""]]}, 422, "row 0: words must hold a text for each word"),
        ("trees", {"inputs": [["a"] * 1001]}, 422, "1 to 1,000 texts"),
        ("trees", {"inputs": [" "]}, 422, "row 0: words must be a list"),
        ("trees", {"inputs": ["a"], "k": 2}, 400, "the body has no option 'k'"),
        ("trees", {"inputs": ["a"], "beam": 17}, 400, "'beam' of the body must be a whole number in [1, 16]"),
        ("lines", {"inputs": [3]}, 422, "row 0: it must be a text"),
        ("lines", {"inputs": ["a" * 5001]}, 422, "at most 5,000 characters"),
        ("lines", {"inputs": ["a"], "beem": 2}, 400, "did you mean 'beam'"),
        ("letters", {"inputs": ["a"], "tokens": 10**9}, 400, "'tokens' of the body"),
        ("letters", {"inputs": ["a"], "top_p": 0}, 400, "'top_p' of the body"),
        ("letters", {}, 400, "inputs"),
    ],
)
def test_what_is_no_question_is_refused_by_a_sentence(
    served_systems: Server, name: str, body: dict[str, Any], status: int, says: str
) -> None:
    reply = served_systems.post(f"/v1/models/{name}/predict", body)
    assert (reply.status_code, says in reply.json()["error"]) == (status, True), reply.text


def test_what_is_of_classes_is_refused_by_a_sentence(served_systems: Server) -> None:
    asked = [
        served_systems.get("/v1/labels"),
        served_systems.get("/v1/neighbors/det"),
        served_systems.post("/v1/explain", {"inputs": ["a"]}),
        served_systems.post("/v1/feedback", {"inputs": ["a"], "labels": ["b"]}),
        served_systems.get("/v2/models/trees"),
        served_systems.post("/v2/models/trees/infer", {"inputs": []}),
    ]
    for reply in asked:
        assert reply.status_code == 400
        assert "trees is a parser, which answers /v1/predict and /v1/model" in reply.json()["error"]
    assert served_systems.get("/v2/models/lines/ready").json() == {"name": "lines", "ready": True}


class AfterSteps(threading.Event):
    """Set from so many looks at it on."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(
    ("name", "body", "steps"),
    [
        ("letters", {"inputs": ["the", "cat"], "tokens": 9}, 18),
        ("lines", {"inputs": ["one dog ."]}, 2),
        ("trees", {"inputs": ["a", "b"]}, 2),
    ],
)
def test_nothing_more_is_computed_once_nobody_waits(
    systems: Path, name: str, body: dict[str, Any], steps: int
) -> None:
    served = Models([systems / name])[name]
    asked = replace(served.read(body), over=AfterSteps(steps - 1))
    with pytest.raises(GoneError):
        served.predict([asked])
    assert asked.over.left == -1


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/studio/runs/letters/predict"])
def test_a_client_that_goes_frees_the_server(serve: Callable[..., Server], systems: Path, path: str) -> None:
    server = serve(systems / "letters", "--timeout", "2")  # what is asked takes many times as long
    body = json.dumps({"inputs": ["the cat"] * 64, "tokens": 1000}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(head + body)
        while "widemax_batch_size_count 1.0" not in server.get("/metrics").text:
            time.sleep(0.01)
    assert server.post("/v1/predict", {"inputs": ["the"], "tokens": 1}).status_code == 200


@pytest.mark.parametrize(
    ("options", "named"), [({"mapped": True}, "--mmap"), ({"coverage": Coverage(0.9, "rows")}, "--coverage")]
)
def test_what_is_for_classifiers_is_refused(systems: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(
        UsageError, match=f"{named} is for classifiers, and .*trees is a parser; leave it out"
    ):
        Models([systems / "trees"], **options)


def test_a_model_says_what_it_is(served_systems: Server, systems: Path) -> None:
    told = served_systems.get("/v1/model").json()
    assert (told["model"], told["task"], told["problem"]) == ("trees", "parsing", None)
    assert told["metrics"].keys() == {"uas", "las", "clas", "mlas"}
    assert served_systems.get("/v1/models/lines/model").json()["task"] == "translate"
    assert served_systems.post("/v1/models/lines/reload").json()["model"] == "lines"


def test_the_document_names_what_each_system_takes(served_systems: Server, tmp_path: Path) -> None:
    paths = served_systems.get("/openapi.json").json()["paths"]
    assert "/v1/explain" not in paths
    assert not [path for path in paths if path.startswith("/v2/models")]
    for name in ("trees", "lines", "letters"):
        body = paths[f"/v1/models/{name}/predict"]["post"]["requestBody"]["content"]["application/json"]
        assert len(rows(served_systems, name, body["schema"]["example"])) == 1
    options = "--phases", "examples,fuzzing", "--max-examples", "3"
    assert schemathesis(served_systems, tmp_path, "--exclude-path-regex", "studio", *options) > 20


@pytest.mark.parametrize("tagging", [0.0, 0.3])
def test_a_parser_of_tags_takes_them_or_gives_them_itself(
    tmp_path: Path, systems: Path, tagging: float
) -> None:
    data = {"input": "UPOS"}
    small = {"form_dim": 8, "hidden": 8, "action_dim": 8, "layers": 1, "tagging": tagging}
    run = tmp_path / "tagged"
    Parser.train(systems / "trees.conllu", out=run, data=data, parser=small, train={"epochs": 1})
    served = Models([run])["tagged"]
    example = served.body["example"]
    assert set(example["inputs"][0]) == {"words", "UPOS"}
    ((row,),) = served.predict([served.read(example)])
    assert len(row["heads"]) == 6
    text = {"inputs": ["a text"]}
    if tagging:
        ((row,),) = served.predict([served.read(text)])
        assert row["words"] == ["a", "text"]
    else:
        with pytest.raises(ValueError, match="an object of words, UPOS"):
            served.read(text)
    with pytest.raises(ValueError, match="UPOS must hold a text for each word"):
        served.read({"inputs": {"words": ["a", "b"], "UPOS": ["DET"]}})
