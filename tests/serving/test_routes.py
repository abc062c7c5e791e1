"""What the routes beside predictions answer."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.conftest import Server

from widemax import Model, evaluate
from widemax.config import Config
from widemax.conformity import Conformity
from widemax.data import LabelVocabulary
from widemax.recommender import neighbors
from widemax.serving.abstention import Coverage, Sets
from widemax.serving.labels import LabelSearch
from widemax.serving.predictions import ranked
from widemax.training.loop import train


def test_labels_are_found_by_any_part_in_pages() -> None:
    labels = pa.array(["Green tea", "tea", "steam", "ink", "TEAPOT", "tea"])
    search = LabelSearch(LabelVocabulary.build([labels]))
    found = [hit["label"] for hit in search.page("tea", offset=0, limit=9)["labels"]]
    assert found == ["tea", "TEAPOT", "Green tea", "steam"]
    page = search.page("tea", offset=1, limit=2)
    assert (page["total"], [hit["label"] for hit in page["labels"]]) == (4, ["TEAPOT", "Green tea"])
    assert search.page("", offset=0, limit=1)["labels"] == [{"class_id": 0, "label": "tea", "count": 2}]
    assert search.page("ainkt", offset=0, limit=9)["total"] == 0  # of no label, but of two side by side
    assert search.page("(", offset=0, limit=9)["total"] == 0
    assert LabelSearch(LabelVocabulary.build([pa.array([107, 7])])).page("7", offset=0, limit=9)["total"] == 2


@given(
    st.lists(
        st.text("aAb é\0", max_size=6) | st.text("ab", min_size=300, max_size=900), min_size=1, unique=True
    ),
    st.text("abé\0", max_size=3),
)
def test_labels_are_found_as_one_by_one(labels: list[str], query: str) -> None:
    search = LabelSearch(LabelVocabulary(pa.array(labels), np.ones(len(labels), np.int64)))
    found = search.page(query, offset=0, limit=len(labels))
    small = [label.lower() for label in labels]
    begins = [at for at, label in enumerate(small) if label.startswith(query)]
    holds = [at for at, label in enumerate(small) if query in label[1:] and not label.startswith(query)]
    assert [hit["class_id"] for hit in found["labels"]] == begins + holds
    assert found["total"] == len(begins + holds)


def test_parameters_that_nobody_reads_are_refused(server: Server) -> None:
    for path, sentence in (
        ("/v1/labels?qury=t", "/v1/labels has no parameter 'qury'; did you mean 'query'?"),
        ("/v2?k=1", "/v2 has no parameter 'k'; it takes none. Put options into the body."),
        ("/v1/studio/runs?folder=a", "has no parameter 'folder'"),
    ):
        reply = server.client.get(path)
        assert (reply.status_code, sentence in reply.json()["error"]) == (400, True)
    reply = server.post("/v1/predict?k=1", {"inputs": ["tea"]})
    assert (reply.status_code, "has no parameter 'k'" in reply.json()["error"]) == (400, True)


def test_labels_over_http(server: Server) -> None:
    assert [hit["label"] for hit in server.get("/v1/labels", query="T").json()["labels"]] == ["tea"]
    for wrong in ({"limit": 0}, {"limit": 10**9}, {"offset": -1}, {"limit": "x"}):
        reply = server.get("/v1/labels", **wrong)
        assert reply.status_code == 422
        assert reply.json()["error"].startswith(next(iter(wrong)))


def test_neighbors_are_those_of_the_library(server: Server, runs: Path) -> None:
    found = server.get("/v1/models/fruit/neighbors/melon", k=2).json()["neighbors"]
    expected = neighbors(Model.load(runs / "fruit"), "melon", k=2)
    assert [(each["label"], each["cosine"]) for each in found] == [
        (label, pytest.approx(cosine)) for label, cosine in expected
    ]
    assert "'melom' is not among the 3" in server.get("/v1/neighbors/melom").json()["error"]


def test_explanations_of_texts_add_up(runs: Path, server: Server) -> None:
    text = "Green leaf, blue paper cup."
    reply = server.post("/v1/explain", {"inputs": [text], "label": "tea"}).json()
    whole = server.post("/v1/predict", {"inputs": [text]}).json()["rows"][0]["predictions"]
    logit = next(each["logit"] for each in whole if each["label"] == "tea")
    assert reply["logit"] == pytest.approx(logit, abs=1e-5)
    total = reply["baseline"] + reply["other"] + sum(part["contribution"] for part in reply["parts"])
    assert total == pytest.approx(logit, abs=1e-5)
    moved = {part["word"]: part["contribution"] for part in reply["parts"]}
    assert moved["leaf"] > 0 > moved["paper"]
    assert all(text[part["start"] : part["end"]] == part["word"] for part in reply["parts"])


def test_explanations_of_columns_are_what_the_answer_loses(server: Server, runs: Path) -> None:
    row = {"color": "green", "weight_g": 900.0}
    reply = server.post("/v1/models/fruit/explain", {"inputs": [row], "label": "melon"}).json()
    assert reply["method"] == "leave one column out"
    model = Model.load(runs / "fruit")

    def logit(given: dict) -> float:
        (answers,) = model.predict([given], k=3)
        return next(answer.logit for answer in answers if answer.label == "melon")

    lost = {name: logit(row) - logit(row | {name: None}) for name in row}
    assert {part["column"]: part["contribution"] for part in reply["parts"]} == pytest.approx(lost, abs=1e-4)
    assert "one row" in server.post("/v1/explain", {"inputs": ["a", "b"]}).json()["error"]
    wrong = server.post("/v1/explain", {"inputs": ["a"], "label": "beet"})
    assert (wrong.status_code, "did you mean 'beer'?" in wrong.json()["error"]) == (404, True)


def test_feedback_is_kept_as_rows_that_train_reads(server: Server, feedback: Path, tmp_path: Path) -> None:
    path = feedback / "fruit.jsonl"
    before = path.read_text().count("\n") if path.exists() else 0
    rows = [{"color": "blue", "weight_g": 39.5}, {"color": "green", "weight_g": None}] * 15
    reply = server.post("/v1/models/fruit/feedback", {"inputs": rows, "labels": ["plum", "new fruit"] * 15})
    assert reply.json() == {"model": "fruit", "kept": 30}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[before : before + 2] == [rows[0] | {"fruit": "plum"}, rows[1] | {"fruit": "new fruit"}]
    for body, sentence in (
        ({"inputs": rows[:2], "labels": ["plum"]}, "labels one for each; got 2 and 1."),
        ({"inputs": rows[:1], "labels": [None]}, "row 0: the label is missing."),
        ({"inputs": [{"color": "blue"}], "labels": ["plum"]}, "row 0: the row lacks the input 'weight_g'"),
        ({"inputs": rows[:1]}, "option 'labels' of the body is missing"),
    ):
        refused = server.post("/v1/models/fruit/feedback", body)
        assert refused.status_code in (400, 422)
        assert sentence in refused.json()["error"]
    assert path.read_text().count("\n") == before + 30
    data = {"train": str(path), "target": "fruit"}
    config = {"data": data, "train": {"epochs": 1}, "output": {"dir": str(tmp_path / "run")}}
    train(Config.from_dict(config))
    assert evaluate(Model.load(tmp_path / "run"), str(path))["rows"] == before + 30


def test_feedback_without_a_folder_is_refused(guarded: Server) -> None:
    reply = guarded.post("/v1/feedback", {"inputs": [{"color": "", "weight_g": 1}], "labels": ["plum"]})
    assert (reply.status_code, "--feedback FOLDER" in reply.json()["error"]) == (400, True)


def test_the_protocol_gives_tensors(server: Server, runs: Path) -> None:
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v2").json()["extensions"] == ["binary_tensor_data", "classification"]
    assert server.get("/v2/models/fruit").json()["inputs"][1] == {
        "name": "weight_g",
        "datatype": "FP64",
        "shape": [-1],
    }
    inputs = [
        {"name": "color", "shape": [2, 1], "datatype": "BYTES", "data": [["green"], ["blue"]]},
        {"name": "weight_g", "shape": [2], "datatype": "INT32", "data": [900, 40]},
    ]
    outputs = [{"name": "label"}, {"name": "class_id"}]
    outputs += [{"name": "probability", "parameters": {"classification": 2}}]
    body = {"id": "7", "inputs": inputs, "outputs": outputs, "parameters": {"k": 1}}
    reply = server.post("/v2/models/fruit/infer", body).json()
    label, class_id, classes = reply["outputs"]
    assert (reply["id"], reply["model_name"]) == ("7", "fruit")
    assert (label["shape"], label["data"]) == ([2, 1], ["melon", "plum"])
    names = Model.load(runs / "fruit").vocabulary.decode(np.array(class_id["data"]))
    assert names == ["melon", "plum"]
    assert classes["shape"] == [2, 2]
    value, index, name = classes["data"][0].split(":")
    assert (int(index), name, float(value) > 0.5) == (class_id["data"][0], "melon", True)


def test_the_protocol_names_a_version(server: Server) -> None:
    (version,) = server.get("/v2/models/drinks").json()["versions"]
    address = f"/v2/models/drinks/versions/{version}"
    assert server.get(address).json()["versions"] == [version]
    assert server.get(f"{address}/ready").json() == {"name": "drinks", "ready": True}
    reply = server.post(f"{address}/infer", {"inputs": [TENSOR]}).json()
    assert reply["model_version"] == version
    other = server.get("/v2/models/drinks/versions/1")
    assert (other.status_code, f"in the version {version!r} alone; got '1'" in other.text) == (404, True)


def test_tensors_of_bytes_say_the_same(server: Server) -> None:
    colors = b"".join(struct.pack("<I", len(text)) + text for text in (b"green", b"blue"))
    weights = np.array([900, 40], "<f4").tobytes()
    inputs = [
        {"name": "color", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(colors)}},
        {"name": "weight_g", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"k": 2, "binary_data_output": True}}).encode()
    reply = server.post(
        "/v2/models/fruit/infer",
        content=head + colors + weights,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    length = int(reply.headers["inference-header-content-length"])
    outputs = json.loads(reply.content[:length])["outputs"]
    assert [output["name"] for output in outputs] == ["label", "class_id", "logit", "probability"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    assert length + sum(sizes) == len(reply.content)
    assert reply.content[length : length + 9] == struct.pack("<I", 5) + b"melon"
    probabilities = np.frombuffer(reply.content[-sizes[-1] :], "<f4").reshape(2, 2)
    plain = server.post(
        "/v1/models/fruit/predict",
        {"inputs": [{"color": "green", "weight_g": 900}, {"color": "blue", "weight_g": 40}], "k": 2},
    ).json()
    expected = [[each["probability"] for each in row["predictions"]] for row in plain["rows"]]
    assert probabilities == pytest.approx(np.array(expected), abs=1e-6)


TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["tea"]}
SIZE = {"parameters": {"binary_data_size": 5}}


@pytest.mark.parametrize(
    ("body", "header", "sentence"),
    [
        ({"inputs": []}, None, "inputs: List should have at least 1 item"),
        ({"inputs": [TENSOR | {"datatype": "FP8"}]}, None, "inputs.0.datatype"),
        ({"inputs": [TENSOR | {"shape": [2]}]}, None, "must hold 2 values; got 1"),
        ({"inputs": [TENSOR | {"shape": [1 << 28, 1 << 28]}]}, None, "must hold"),
        ({"inputs": [TENSOR | {"data": [1]}]}, None, "must hold strings"),
        ({"inputs": [TENSOR | {"datatype": "INT64"}]}, None, "must hold numbers of datatype INT64"),
        ({"inputs": [TENSOR, TENSOR]}, None, "is given twice"),
        ({"inputs": [TENSOR | {"name": "tex"}]}, None, "lacks the input 'text'"),
        ({"inputs": [TENSOR | SIZE]}, None, "must have either data or binary_data_size"),
        ({"inputs": [TENSOR | SIZE | {"data": None}]}, None, "must hold 1 values; got 0"),
        ({"inputs": [TENSOR | SIZE | {"data": None, "shape": [0]}]}, None, "add up to 5; 0 came"),
        ({"inputs": [TENSOR], "parameters": {"k": 10**9}}, None, "parameters.k"),
        ({"inputs": [TENSOR]}, "-3", "must be the length of the JSON"),
        ({"inputs": [TENSOR]}, "99999999999999999999999", "must be the length of the JSON"),
        ({"inputs": [TENSOR]}, "5", "the body must be JSON"),
    ],
)
def test_wrong_tensors_are_refused(server: Server, body: object, header: str | None, sentence: str) -> None:
    headers = {} if header is None else {"Inference-Header-Content-Length": header}
    reply = server.post("/v2/models/drinks/infer", body, headers=headers)
    assert reply.status_code in (400, 422)
    assert sentence in reply.json()["error"]


def test_models_are_listed(server: Server) -> None:
    ready = {"state": "ready", "problem": None}
    assert server.get("/v1/models").json() == {
        "models": [{"name": name, **ready} for name in ("drinks", "fruit")]
    }


def test_unknown_models_are_not_found(server: Server) -> None:
    for path in ("/v2/models/fruits", "/v2/models/fruits/ready"):
        assert (server.get(path).status_code, "did you mean 'fruit'?" in server.get(path).text) == (404, True)
    assert server.get("/v1/models/fruits/model").status_code == 404


def test_sets_hold_the_label_as_often_as_was_asked(runs: Path) -> None:
    model = Model.load(runs / "drinks")
    data = runs / "mixed.csv"
    words = ["leaf", "pen", "hop", "green", "glass"]
    rows = [(f"{a} {b}", label) for a in words for b in words for label in ("tea", "ink", "beer")]
    data.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    sets = Coverage(0.9, str(data)).sets(model)
    assert Coverage(0.9).sets(model).threshold > sets.threshold  # of the held-out rows, which are not mixed
    answers = list(ranked(model, {"text": pa.array([t for t, _ in rows], pa.large_string())}, sets.k))
    sizes = sets.sizes(answers)
    held = [
        label in [each.label for each in answer[:size]]
        for (_, label), answer, size in zip(rows, answers, sizes, strict=True)
    ]
    assert 0.9 <= sum(held) / len(held) < 1
    assert len({*sizes}) > 1


def test_a_label_without_probability_needs_all_sets_whole(runs: Path) -> None:
    told = Conformity(np.array([0.9, 0.0]), np.array([1, 2]), np.ones(2), num_rows=2)
    model = replace(Model.load(runs / "drinks"), conformity=told)
    assert Coverage(0.6).sets(model) == Sets(0.6, 0.0, 1000)


def test_numbers_for_prometheus(server: Server) -> None:
    server.post("/v1/predict", {"inputs": ["tea"]})
    server.get("/v1/nowhere/at/all")
    text = server.get("/metrics").text
    assert 'widemax_requests_total{code="200",route="/v1/predict"}' in text
    assert 'widemax_model_info{model="fruit",sha256="' in text
    assert "nowhere" not in text
    assert "widemax_queue_depth 0.0" in text


def test_the_page_about_the_routes_asks_no_other_host(server: Server) -> None:
    page = server.get("/docs").text
    sources = [part.split('"')[0] for mark in ("src=", "href=") for part in page.split(f'{mark}"')[1:]]
    assert len(sources) == 3
    assert all(source.startswith("/docs/") and server.get(source).status_code == 200 for source in sources)
    assert "<script>" not in page


def test_the_document_names_the_columns(server: Server) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    body = paths["/v1/models/fruit/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    columns = body["properties"]["inputs"]["anyOf"][1]["properties"]
    assert {name: column["x-kind"] for name, column in columns.items()} == {
        "color": "category",
        "weight_g": "number",
    }
    assert server.post("/v1/models/fruit/predict", body["example"]).status_code == 200


def test_the_page_stands_beside_the_routes(server: Server) -> None:
    assert server.get("/").headers["content-type"].startswith("text/html")
    wrong = server.get("/v1/predict")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json() == {"error": "/v1/predict takes POST; got GET."}
    assert server.get("/v1/session").headers["allow"] == "POST, DELETE"
    assert server.get("/nowhere").json() == {"error": "there is no /nowhere; /docs lists what there is."}
