"""A head in other programs answers as it does here."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import Widemax

from widemax import Config, Model, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    rows = [("green leaf", "tea"), ("blue pen", "a\tb"), ("pub hop", "beer"), ("leaf cup", "tea")] * 20
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    pq.write_table(table, folder / "rows.parquet")
    data = {"train": str(folder / "rows.parquet"), "target": "label", "kinds": {"text": "text"}}
    train(Config(data=data, train={"epochs": 3}, output={"dir": str(folder / "run")}))
    return folder / "run"


def test_onnxruntime_answers_as_the_head(widemax: Widemax, run: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    assert widemax("export", run, "--format", "onnx", "--out", tmp_path / "x").code == 0
    session = runtime.InferenceSession(tmp_path / "x" / "head.onnx", providers=["CPUExecutionProvider"])
    model = Model.load(run)
    hidden_BD = model.hidden({"text": pa.array(["green pen", "hop", ""], pa.large_string())})
    given = {"hidden": hidden_BD.numpy(), "k": np.array([2])}
    logits, topk_logits, topk_ids = session.run(["logits", "topk_logits", "topk_ids"], given)
    assert logits == pytest.approx(model.head.logits(hidden_BD).detach().numpy(), abs=1e-5)
    best = model.head.topk(hidden_BD, 2)
    assert topk_ids.tolist() == best.class_ids.tolist()
    assert topk_logits == pytest.approx(best.logits.numpy(), abs=1e-5)
    lines = (tmp_path / "x" / "labels.txt").read_text().splitlines()
    assert list(map(json.loads, lines)) == model.vocabulary.labels.to_pylist()


def test_vectors_of_classes_are_those_of_the_head(widemax: Widemax, run: Path, tmp_path: Path) -> None:
    model = Model.load(run)
    told = json.loads(widemax("export", run, "--format", "embeddings", "--out", tmp_path, "--json").out)
    assert told["files"] == [str(tmp_path / "embeddings.parquet")]
    table = pq.read_table(tmp_path / "embeddings.parquet")
    assert table["label"].to_pylist() == model.vocabulary.labels.to_pylist()
    assert table["count"].to_pylist() == model.vocabulary.counts.tolist()
    expected = model.head.weight.detach().numpy()
    assert (np.array(table["vector"].to_pylist(), np.float32) == expected).all()
    widemax("export", run, "--format", "tsv", "--out", tmp_path)
    assert (np.loadtxt(tmp_path / "vectors.tsv", delimiter="\t", dtype=np.float32) == expected).all()
    lines = (tmp_path / "metadata.tsv").read_text().splitlines()
    assert lines[0] == "label\tcount"
    assert sorted(lines[1:]) == ["a b\t20", "beer\t20", "tea\t40"]


def test_bad_requests_are_told(widemax: Widemax, run: Path, tmp_path: Path) -> None:
    assert widemax("export", run, "--format", "tsv", "--out", tmp_path).code == 0
    again = widemax("export", run, "--format", "tsv", "--out", tmp_path)
    assert (again.code, "is there already; give --overwrite" in again.err) == (2, True)
    assert widemax("export", run, "--format", "tsv", "--out", tmp_path, "--overwrite").code == 0
    for option in (["--keep", "0.5"], ["--precision", "int8"], ["--data", run]):
        refused = widemax("export", run, "--format", "tsv", "--out", tmp_path / "x", *option)
        assert refused.code == 2
        assert re.search(rf"{option[0]} is for --format widemax", refused.err)


def test_a_head_of_features_is_no_product(
    widemax: Widemax, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    rows = str(run.parent / "rows.parquet")
    options = "--target", "label", "--kind", "text=text", "--set", "head.kind=label_tree"
    assert widemax("train", rows, *options, "--out", tmp_path / "tree").code == 0
    # The square of all features may not fit into memory.
    monkeypatch.setattr("torch.eye", lambda size: pytest.fail(f"made a square of {size}"))
    refused = widemax("export", tmp_path / "tree", "--format", "onnx", "--out", tmp_path / "x")
    assert (refused.code, "train with head.kind exact or sampled" in refused.err) == (2, True)
