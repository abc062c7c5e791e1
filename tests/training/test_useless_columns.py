"""Columns that say nothing cost nothing, beside text too, and numbers of any size are answered."""

from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest

from widemax import Config, evaluate, train
from widemax.data import resolve


def with_useless_columns(frame: pandas.DataFrame, *, seed: int) -> pandas.DataFrame:
    rng, num_rows = np.random.default_rng(seed), len(frame)
    days = pandas.to_datetime("2020-01-01") + pandas.to_timedelta(rng.integers(0, 1500, num_rows), unit="D")
    return frame.assign(
        ticket_id=rng.permutation(10 * num_rows)[:num_rows],
        created_at=days,
        color=rng.choice(["red", "green", "blue"], num_rows),
        size=rng.normal(size=num_rows),
        nothing=pandas.Series([None] * num_rows, dtype="float64"),
    )


def accuracy(folder: Path, train_rows: pandas.DataFrame, test_rows: pandas.DataFrame, target: str) -> float:
    config = Config(data={"target": target}, output={"dir": str(folder)})
    model = train(config, data=train_rows).model
    return float(evaluate(model, test_rows)["accuracy"])


@pytest.mark.parametrize("seed", [0, 1])
def test_sixty_rows_are_learned_beside_useless_columns(tmp_path: Path, seed: int) -> None:
    words = ["open", "close", "wait"]
    frame = pandas.DataFrame({"text": [f"{words[n % 3]} the thing {n // 3}" for n in range(60)]})
    frame["label"] = [words[n % 3] for n in range(60)]
    useless = with_useless_columns(frame, seed=seed)
    assert accuracy(tmp_path / "run", useless, useless, "label") >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "target"),
    [
        ("clinc150", "text", "intent"),
        ("newsgroups20", "text", "group"),
        ("open_english_wordnet", "definition", "pos"),
    ],
)
def test_useless_columns_cost_less_than_a_point(
    tmp_path: Path, widemax_data: Path, name: str, text: str, target: str
) -> None:
    frame = pq.read_table(resolve([name])[0], columns=[text, target]).to_pandas()
    frame = frame.sample(5000, random_state=0).reset_index(drop=True)
    few, new = frame[:3000].reset_index(drop=True), frame[3000:].reset_index(drop=True)
    alone = accuracy(tmp_path / "alone", few, new, target)
    beside = accuracy(
        tmp_path / "beside", with_useless_columns(few, seed=0), with_useless_columns(new, seed=1), target
    )
    assert beside >= alone - 0.01


def test_numbers_of_any_size_are_answered(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.arange(300) % 3
    frame = pandas.DataFrame({"x": label + 0.1 * rng.normal(size=300), "label": label.astype(str)})
    outlier = frame.copy()
    outlier.loc[5, "x"] = 999_999.0
    config = Config(data={"target": "label"}, output={"dir": str(tmp_path / "run")})
    model = train(config, data=outlier).model
    assert evaluate(model, frame)["accuracy"] > 0.95
    for x in (1e12, -1e38, 1e160, 1.7e308, float("nan"), None):
        (answers,) = model.predict([{"x": x}], k=3)
        assert len(answers) == 3
        assert sum(answer.probability for answer in answers) == pytest.approx(1, abs=1e-5)
