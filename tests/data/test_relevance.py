"""Columns that say something about the labels, and those that do not."""

import numpy as np
import pyarrow as pa
import pytest

from widemax.data import infer_schema
from widemax.data.relevance import says_nothing

N = 600


def columns(seed):
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 30, N)
    days_N = rng.integers(0, 3000, N) * 7
    useful = {
        "number": (label_N + 5 * rng.normal(size=N), "number"),
        "square": (rng.choice([-1, 1], N) * (label_N + rng.random(N)), "number"),
        "missing": (np.where(label_N < 5, np.nan, rng.normal(size=N)), "number"),
        "category": (np.where(rng.random(N) < 0.7, "x", label_N.astype(str)), "category"),
        "weekday": ((days_N + label_N % 7).astype("datetime64[D]"), "date"),
    }
    useless = {
        "noise": (rng.normal(size=N), "number"),
        "letters": (rng.choice(list("abcdefgh"), N), "category"),
        "names": (rng.integers(0, 400, N).astype(str), "category"),
        "some day": ((rng.integers(0, 9000, N)).astype("datetime64[D]"), "date"),
        "constant": (np.full(N, 7.0), "number"),
    }
    return pa.array(label_N), useful, useless


@pytest.mark.parametrize("seed", range(3))
def test_what_follows_the_labels_is_told_from_noise(seed):
    labels, useful, useless = columns(seed)
    for name, (values, kind) in useful.items():
        assert not says_nothing(pa.array(values, from_pandas=True), kind, labels), name
    found = [says_nothing(pa.array(values), kind, labels) for values, kind in useless.values()]
    assert sum(found) >= len(found) - 1


def test_noise_is_rarely_taken_for_something():
    rng = np.random.default_rng(0)
    labels = pa.array(rng.integers(0, 150, N))
    found = [says_nothing(pa.array(rng.normal(size=N)), "number", labels) for _ in range(60)]
    assert sum(found) >= 54


def test_useless_columns_beside_text_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.csv"
    lines = [
        f"open the {('left', 'right')[n % 2]} door {n},{rng.normal()},{n % 2 + rng.normal()},{'ab'[n % 2]}"
        for n in range(200)
    ]
    path.write_text("text,noise,signal,label\n" + "\n".join([*lines, ""]), encoding="utf-8")
    schema = infer_schema([path])
    assert [column.name for column in schema.inputs] == ["text", "signal"]
    assert schema.left_out == (
        "column 'noise' is left out: it says nothing about 'label' in the first 200 rows "
        "(name the inputs to keep it)",
    )
    numbers_alone = infer_schema([path], inputs=["noise", "signal"])
    assert [column.name for column in numbers_alone.inputs] == ["noise", "signal"]
