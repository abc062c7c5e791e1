"""Metrics of a model on files equal those worked out by hand from its full table of probabilities."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from widemax.artifact import Model
from widemax.config import Config
from widemax.data import Dataset
from widemax.errors import ArgumentError, BadRowError, DataError, OptionError
from widemax.evaluation.calibration.temperature import prior
from widemax.training import evaluate as evaluate_module
from widemax.training.evaluate import calibrate, calibration_rows, evaluate
from widemax.training.feed import read_encoded
from widemax.training.loop import train

MakeConfig = Callable[..., Config]

WORDS = ("red", "green", "blue", "gold", "gray", "pink", "teal", "plum")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def trained(folder: Path, rows: list[dict[str, Any]], **data: Any) -> Model:
    path = write_rows(folder / "train.jsonl", rows)
    values = {
        "data": {"train": str(path), "target": "y", "valid_fraction": 0.0, **data},
        "encoder": {"dim": 8},
        "train": {"epochs": 1, "batch_size": 16},
        "output": {"dir": str(folder / "run")},
    }
    return train(Config.from_dict(values)).model


@pytest.fixture
def one(tmp_path: Path) -> Model:
    rows = [{"x": f"a {word} thing", "y": word} for word in WORDS for _ in range(8)]
    return trained(tmp_path, rows, kinds={"x": "text"})


def test_files_and_frames_agree(one: Model, tmp_path: Path) -> None:
    rows = [{"x": f"a {word} thing", "y": word} for word in (*WORDS, "emu")]
    path = write_rows(tmp_path / "test.jsonl", rows)
    columns = {"y": [row["y"] for row in rows], "x": [row["x"] for row in rows]}

    measured = [
        {
            name: value
            for name, value in evaluate(one, data).items()
            if name not in ("seconds", "rows_per_s", "task", "baseline")
        }
        for data in (
            [path],
            path,
            str(path),
            str(tmp_path / "t*t.jsonl"),
            pd.DataFrame(columns),
            pa.table(columns),
            [pa.table(columns)[:4], pa.table(columns)[4:]],
        )
    ]
    assert all(values == pytest.approx(measured[0], rel=1e-6) for values in measured)
    assert measured[0]["rows"] == 9
    bad = pd.DataFrame(columns | {"y": [None, *columns["y"][1:]]})
    assert evaluate(one, bad, drop_bad=True)["skipped"] == 1


def test_odd_arguments_are_one_sentence(one: Model) -> None:
    with pytest.raises(ArgumentError, match=r"'model' of evaluate must be a Model; got 'run'"):
        evaluate("run", "clinc150")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"data must be a path, .*; got 3"):
        evaluate(one, 3)  # type: ignore[call-overload]
    with pytest.raises(DataError, match="<memory> has no column 'y'"):
        evaluate(one, pd.DataFrame({"x": ["red"]}))
    with pytest.raises(OptionError, match="'sources'; give them as data"):
        evaluate(one, sources="rows.csv")


@pytest.mark.parametrize("rows_at_once", [1, 4, 512])
def test_one_label_by_hand(
    one: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(evaluate_module, "ROWS_AT_ONCE", rows_at_once)
    questions = ["red", "green green", "", "teal or pink", "emu", "blue"]
    answers = ["red", "gold", "gray", "pink", "emu", "blue"]
    path = write_rows(
        tmp_path / "test.jsonl", [{"x": x, "y": y} for x, y in zip(questions, answers, strict=True)]
    )
    got = evaluate(one, [path])

    log_losses, ranks = [], []
    for question, answer in zip(questions, answers, strict=True):
        probabilities = {p.label: p.probability for p in one.predict([{"x": question}], k=8)[0]}
        if answer in probabilities:
            log_losses.append(-np.log(probabilities[answer]))
            ranks.append(list(probabilities).index(answer) + 1)
        else:
            ranks.append(np.inf)
    assert (got["rows"], got["skipped"], got["num_classes"], got["task"]) == (6, 0, 8, "one")
    assert got["unseen_labels"] == 1
    assert got["nll"] == pytest.approx(np.mean(log_losses), rel=1e-5)
    assert got["accuracy"] == pytest.approx(np.mean(np.array(ranks) == 1))
    assert got["top5"] == pytest.approx(np.mean(np.array(ranks) <= 5))
    assert got["mean_reciprocal_rank"] == pytest.approx(np.mean(1 / np.array(ranks)))
    assert got["rows_per_s"] > 0
    json.dumps(got, allow_nan=False)


def test_several_labels_by_hand(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pairs = [generator.choice(WORDS, 2, replace=False).tolist() for _ in range(96)]
    model = trained(tmp_path, [{"x": " ".join(pair), "y": pair} for pair in pairs], kinds={"x": "text"})
    assert model.task == "several"
    tests = [("red green", ["red", "green"]), ("teal", ["plum", "emu", "teal"]), ("x", ["gold"])]
    path = write_rows(tmp_path / "test.jsonl", [{"x": x, "y": y} for x, y in tests])
    got = evaluate(model, [path])
    ranked = [[p.label for p in model.predict([{"x": x}], k=8)[0]] for x, _ in tests]
    hits = [[label in y for label in order] for order, (_, y) in zip(ranked, tests, strict=True)]
    assert got["p@1"] == pytest.approx(np.mean([row[0] for row in hits]))
    assert got["p@3"] == pytest.approx(np.mean([sum(row[:3]) / 3 for row in hits]))
    assert got["unseen_labels"] == 1
    assert "f1" not in got  # no rows were held out to fit a threshold
    model = replace(model, threshold=0.2)
    got = evaluate(model, [path])
    given = model.predict([{"x": x} for x, _ in tests], threshold="auto")
    assert got["threshold"] == 0.2
    right = sum(p.label in y for row, (_, y) in zip(given, tests, strict=True) for p in row)
    assert got["f1"] == pytest.approx(2 * right / (sum(map(len, given)) + 6))


def histories(count: int, *, words: tuple[str, ...] = WORDS) -> list[dict[str, Any]]:
    generator = np.random.default_rng(1)
    drawn = [generator.choice(words, 4, replace=False).tolist() for _ in range(count)]
    return [{"x": items[:3], "y": items[3]} for items in drawn]


def test_next_items_leave_out_the_history(tmp_path: Path) -> None:
    model = trained(tmp_path, histories(96), kinds={"x": "ids"})
    assert model.task == "next"
    tests = histories(10)
    got = evaluate(model, [write_rows(tmp_path / "test.jsonl", tests)])
    ranked = [[p.label for p in model.predict([{"x": row["x"]}], k=8)[0]] for row in tests]
    assert all(len(order) == 5 for order in ranked)
    ranks = [order.index(row["y"]) + 1 for order, row in zip(ranked, tests, strict=True)]
    assert got["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert got["hr@10"] == got["recall@20"] == 1.0


@pytest.mark.parametrize("repeat", [False, True])
def test_metrics_are_of_what_predict_gives(tmp_path: Path, repeat: bool) -> None:
    rows = histories(96)
    for row in rows[::4]:
        row["y"] = row["x"][1]
    model = trained(tmp_path, rows, kinds={"x": "ids"}, repeat=repeat)
    assert model.task == "next"
    got = evaluate(model, tmp_path / "train.jsonl")
    ranked = [[p.label for p in model.predict([{"x": row["x"]}], k=8)[0]] for row in rows]
    assert {len(order) for order in ranked} == {8 if repeat else 5}
    ranks = [
        order.index(row["y"]) + 1 if row["y"] in order else math.inf
        for order, row in zip(ranked, rows, strict=True)
    ]
    assert got["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert got["excluded_labels"] == (0 if repeat else 24)
    counts = model.vocabulary.counts
    order = model.vocabulary.decode(np.argsort(-counts, kind="stable"))
    popular = [[label for label in order if repeat or label not in row["x"]] for row in rows]
    ranks = [
        labels.index(row["y"]) + 1 if row["y"] in labels else math.inf
        for labels, row in zip(popular, rows, strict=True)
    ]
    assert got["baseline"]["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["repeat"] is repeat
    model.save(tmp_path / "copy")
    again = evaluate(Model.load(tmp_path / "copy"), tmp_path / "train.jsonl")
    assert (again["mrr"], again["excluded_labels"]) == (got["mrr"], got["excluded_labels"])


def test_a_list_with_the_label_is_an_input_like_others(tmp_path: Path) -> None:
    rows = histories(96)
    for row in rows:
        row["y"] = row["x"][1]
    model = trained(tmp_path, rows, kinds={"x": "ids"})
    assert model.task == "one"
    labels = {p.label for p in model.predict([{"x": rows[0]["x"]}], k=8)[0]}
    assert labels == {row["y"] for row in rows}


def test_a_task_of_several_takes_single_labels_too(tmp_path: Path) -> None:
    rows = [{"x": word, "y": word} for word in WORDS for _ in range(8)]
    model = trained(tmp_path, rows, kinds={"x": "text"}, task="several")
    assert model.head.normalizer == "sigmoid"
    assert evaluate(model, [tmp_path / "train.jsonl"])["p@1"] > 0.5


def test_no_rows_and_bad_rows_are_refused(one: Model, tmp_path: Path) -> None:
    empty = write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(DataError):
        evaluate(one, [empty])
    bad = write_rows(tmp_path / "bad.jsonl", [{"x": "red", "y": "red"}, {"x": "blue", "y": None}])
    with pytest.raises(BadRowError, match=r"bad\.jsonl:2"):
        evaluate(one, [bad])
    got = evaluate(one, [bad], drop_bad=True)
    assert (got["rows"], got["skipped"]) == (1, 1)


def test_the_calibration_temperature_is_the_best_one(one: Model, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    rows = [{"x": word, "y": word} for word in generator.choice(WORDS, 60)]
    rows += [{"x": word, "y": generator.choice(WORDS)} for word in generator.choice(WORDS, 40)]
    path = write_rows(tmp_path / "valid.jsonl", [*rows, {"x": "red", "y": "emu"}])
    feed = read_encoded(Dataset([path], one.schema), one.encoder, one.vocabulary, tmp_path / "scratch")
    temperature = float(calibrate(one, feed, calibration_rows(one, feed)).head.calibration_temperature)

    def penalized_nll(temperature: float) -> float:
        one.head.calibration_temperature.fill_(temperature)
        return float(evaluate(one, [path])["nll"]) + prior(1 / temperature)[0] / 100

    best = penalized_nll(temperature)
    for factor in (0.8, 0.95, 1.05, 1.25):
        assert penalized_nll(temperature * factor) > best
    # Fitting again starts from the training's own logits, so it finds the same.
    calibrate(one, feed, calibration_rows(one, feed))
    assert float(one.head.calibration_temperature) == pytest.approx(temperature, rel=1e-3)


def test_calibration_reads_no_more_logits_than_allowed(
    one: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_module, "CALIBRATION_LOGITS", 8 * 10)
    sizes: list[int] = []
    logits = type(one.head).logits
    monkeypatch.setattr(
        type(one.head),
        "logits",
        lambda head, hidden: sizes.append(len(hidden)) or logits(head, hidden),
    )
    path = tmp_path / "train.jsonl"
    feed = read_encoded(Dataset([path], one.schema), one.encoder, one.vocabulary, tmp_path / "scratch")
    calibrate(one, feed, calibration_rows(one, feed))
    assert sizes == [10]


def test_labels_that_were_never_seen_leave_the_temperature_at_one(one: Model, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "valid.jsonl", [{"x": "red", "y": "emu"}])
    feed = read_encoded(Dataset([path], one.schema), one.encoder, one.vocabulary, tmp_path / "scratch")
    calibrate(one, feed, calibration_rows(one, feed))
    assert torch.equal(one.head.calibration_temperature, torch.tensor(1.0))
    assert evaluate(one, [path])["nll"] is None


def test_rows_that_stand_in_training_are_counted(one: Model, tmp_path: Path) -> None:
    rows = [
        {"x": "a red thing", "y": "blue"},
        {"x": "a red  thing", "y": "red"},
        {"x": "a gold thing", "y": "emu"},
    ]
    path = write_rows(tmp_path / "test.jsonl", rows)
    assert evaluate(one, path)["overlap_rows"] == 2
    saved = Model.load(tmp_path / "run")
    assert evaluate(saved, path)["overlap_rows"] == 2
    saved.save(tmp_path / "copy")
    assert evaluate(Model.load(tmp_path / "copy"), [path, tmp_path / "train.jsonl"])["overlap_rows"] == 66
    assert "overlap_rows" not in evaluate(replace(one, row_keys=None), path)


def test_the_most_frequent_class_stands_beside_every_metric(one: Model, tmp_path: Path) -> None:
    rows = [{"x": "a red thing", "y": word} for word in ("red", "red", "green", "emu")]
    got = evaluate(one, write_rows(tmp_path / "test.jsonl", rows))
    assert set(got["baseline"]) | {"unseen_labels"} <= set(got)
    most = one.vocabulary.decode(np.array([0]))[0]
    assert got["baseline"]["accuracy"] == np.mean([row["y"] == most for row in rows])
    assert got["baseline"]["nll"] == pytest.approx(math.log(len(WORDS)))
