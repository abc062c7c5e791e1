"""What the page says of wrong rows is what the model answers about them."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from widemax import Model, evaluate
from widemax.data import Dataset
from widemax.serving.studio import rows
from widemax.serving.studio.library import Runs

DATA = "drinks.csv"


@pytest.fixture(scope="module")
def answered(folder: Path) -> list[tuple[str, str, str, float]]:
    """Text, label, prediction and confidence of each row."""
    model = Model.load(folder / "first")
    rows = []
    for batch in Dataset([folder / DATA], model.schema).batches(1000):
        texts = batch.columns["text"].to_pylist()
        for text, label, (best,) in zip(
            texts, batch.labels.to_pylist(), model.predict(texts, k=1), strict=True
        ):
            rows.append((text, label, best.label, best.probability))
    return rows


def test_metrics_are_those_of_evaluate(studio: Any, folder: Path) -> None:
    expected = evaluate(Model.load(folder / "first"), folder / DATA)
    for metric in studio.get("runs/first/evaluation", data=DATA)["metrics"]:
        assert metric["value"] == pytest.approx(expected[metric["metric"]])


def test_of_many_logits_the_first_rows_are_looked_at(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "first", tmp_path / "first")
    header, *lines = (folder / DATA).read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "many.csv").write_text(header + "".join(lines * (5000 // len(lines))), "utf-8")
    monkeypatch.setattr(rows, "MAX_LOGITS", 3)
    found = rows.evaluated(Runs(tmp_path), "first", "many.csv")
    assert (len(found), found.is_whole) == (2048, False)


def test_confusions_and_bins_count_the_rows(studio: Any, answered: Any) -> None:
    found = studio.get("runs/first/evaluation", data=DATA)
    wrong = Counter((label, other) for _, label, other, _ in answered if label != other)
    assert {(pair["label"], pair["predicted"]): pair["rows"] for pair in found["confusions"]} == wrong
    assert found["wrong"] == wrong.total() > 0
    assert sum(rows for _, rows, _, _ in found["bins"]) == len(answered)
    assert sum(right for _, _, right, _ in found["bins"]) == len(answered) - wrong.total()
    assert sum(total for *_, total in found["bins"]) == pytest.approx(sum(row[3] for row in answered))


def test_mistakes_come_surest_first_and_by_pair(studio: Any, answered: Any) -> None:
    wrong = sorted((row for row in answered if row[1] != row[2]), key=lambda row: -row[3])
    found = studio.get("runs/first/mistakes", data=DATA, limit=200)
    assert found["total"] == len(wrong)
    assert [row["confidence"] for row in found["rows"]] == pytest.approx([row[3] for row in wrong])
    assert {row["text"] for row in found["rows"]} == {row[0] for row in wrong}
    pair = studio.get("runs/first/evaluation", data=DATA)["confusions"][0]
    ids = {"label": pair["label_id"], "predicted": pair["predicted_id"]}
    rows = studio.get("runs/first/mistakes", data=DATA, **ids)["rows"]
    assert {(tuple(row["labels"]), row["predicted"]) for row in rows} == {
        ((pair["label"],), pair["predicted"])
    }


def test_bounds_are_kept_and_pages_follow_each_other(studio: Any, answered: Any) -> None:
    wrong = [row for row in answered if row[1] != row[2]]
    least = sorted(row[3] for row in wrong)[len(wrong) // 2]
    found = studio.get("runs/first/mistakes", data=DATA, least=least, limit=200)
    assert found["total"] == sum(row[3] >= least for row in wrong)
    assert studio.get("runs/first/mistakes", data=DATA, commonest=0)["total"] == 0
    pages = [studio.get("runs/first/mistakes", data=DATA, offset=at, limit=1)["rows"] for at in (0, 1)]
    assert [page[0] for page in pages] == studio.get("runs/first/mistakes", data=DATA, limit=2)["rows"]


def test_data_are_named_from_a_list(studio: Any) -> None:
    listed = studio.get("data", run="first")
    assert listed["data"][:2] == ["train", DATA]
    assert listed["suggested"] == "train"
    assert studio.get("columns", data=DATA) == {
        "columns": ["text", "drink"],
        "inputs": ["text"],
        "target": "drink",
    }
    assert "no data is called" in studio.refused("runs/first/mistakes?data=/etc/passwd")


def test_a_right_label_is_kept_with_its_row(studio: Any, folder: Path) -> None:
    row = studio.get("runs/first/mistakes", data=DATA)["rows"][0]
    studio.post("runs/first/feedback", data=DATA, row=row["row"], label="tea")
    kept = json.loads((folder / "first.jsonl").read_text("utf-8"))
    assert kept == {"text": row["text"], "drink": "tea"}
    assert "first.jsonl" in studio.get("data")["data"]
    assert "has the rows 0 to 239; got 999" in studio.refused(
        "runs/first/feedback", data=DATA, row=999, label="tea"
    )


def test_labels_that_training_never_saw_are_told(studio: Any, folder: Path) -> None:
    (folder / "strange.csv").write_text("text,drink\nbean,ink\n", "utf-8")
    (row,) = studio.get("runs/first/mistakes", data="strange.csv")["rows"]
    assert row["labels"] == [None]
