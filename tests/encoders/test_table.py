"""Scaled numbers, missing numbers, and categories."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.encoders.features import to_tensors
from widemax.encoders.table import TableEncoder
from widemax.errors import DataError

COLUMNS = {
    "age": pa.array([20.0, 40.0, None, 60.0]),
    "year": pa.array([2000.0, 2010.0, 2020.0, 2030.0]),
    "color": pa.array(["red", "blue", None, "red"]),
    "size": pa.array([1, 2, 3, 1]),
}
KINDS = [("age", "number"), ("color", "category"), ("year", "number"), ("size", "category")]


def fitted(kinds=KINDS, columns=COLUMNS, **options):
    encoder = TableEncoder(kinds, dim=3, **{"hidden": (7,), **options})
    encoder.fit([encoder.featurize(columns)], generator=torch.Generator().manual_seed(0))
    return encoder


def hidden(encoder, columns):
    return encoder(to_tensors(encoder.encode(columns)))


def squash(x):
    return x / np.sqrt(1 + (x / 10) ** 2)


def test_numbers_are_scaled_and_missing_ones_flagged():
    numbers = fitted(bins=0).encode(COLUMNS)["numbers"]
    # Medians 40 and 2020; the middle half spans from 20 to 60, and from 2010 to 2020.
    age, year = np.array([-20, 0, 20]) / 40 * 1.349, np.array([-20, -10, 0, 10]) / 10 * 1.349
    np.testing.assert_allclose(numbers[[0, 1, 3], 0], squash(age), rtol=1e-6)
    np.testing.assert_allclose(numbers[:, 1], squash(year), rtol=1e-6)
    assert numbers[2, 0] == 0
    assert numbers[:, 2].tolist() == [0, 0, 1, 0]
    assert numbers.dtype == np.float32


def test_a_number_missing_for_the_first_time_counts_as_the_median():
    encoder = fitted(bins=0)
    late = {**COLUMNS, "year": pa.array([None, 2020.0, 2020.0, 2020.0], pa.float64())}
    numbers = encoder.encode(late)["numbers"]
    np.testing.assert_array_equal(numbers[:, 3], 0)
    np.testing.assert_allclose(numbers[:, 1], 0, atol=1e-12)


def test_numbers_stand_beside_their_place_in_quantile_bins():
    ranks = {"x": pa.array([0.0, 1.0, 2.0, None, 1e6])}
    numbers = fitted([("x", "number")], ranks, bins=3).encode(ranks)["numbers"]
    assert numbers[:, 1:-1].tolist() == [[-1] * 3, [1, -1, -1], [1, 1, -1], [0] * 3, [1] * 3]
    between = fitted([("x", "number")], ranks, bins=3).encode({"x": pa.array([0.5])})["numbers"]
    np.testing.assert_allclose(between[0, 1:-1], [0, -1, -1], atol=0.05)


@pytest.mark.parametrize(
    ("num_rows", "num_columns", "num_bins"),
    [(200, 1, 64), (3200, 1, 100), (9000, 1, 256), (3200, 8, 64), (200, 32, 16), (200, 513, 0)],
)
def test_bins_are_worth_their_rows_and_shared_by_many_columns(num_rows, num_columns, num_bins):
    columns = {f"x{place}": pa.array(np.arange(float(num_rows))) for place in range(num_columns)}
    encoder = fitted([(name, "number") for name in columns], columns)
    assert encoder.encode(columns)["numbers"].shape == (num_rows, num_columns * (2 + num_bins))


def test_unknown_categories_add_nothing():
    encoder = fitted()
    rows = encoder.encode({**COLUMNS, "color": pa.array(["green", "red", None, "blue"])})["categories"]
    assert rows[0, 0] == 0
    assert (rows[1:, 0] > 0).all()
    assert encoder.weight_FH[0].tolist() == [0.0] * 7


def test_columns_do_not_share_categories():
    kinds, same = [("a", "category"), ("b", "category")], pa.array(["x", "y"])
    encoder = fitted(kinds, {"a": same, "b": same})
    assert len(encoder.weight_FH) == 1 + 4


def test_equals_one_hot_and_a_linear_layer():
    encoder = fitted(hidden=())
    indexed = encoder.encode(COLUMNS)
    one_hot = torch.zeros(4, len(encoder.weight_FH))
    one_hot[torch.arange(4)[:, None], torch.from_numpy(indexed["categories"])] = 1
    with torch.no_grad():
        encoder.mlp.biases[0].copy_(torch.tensor([1.0, 2.0, 3.0]))
        expected = (
            one_hot @ encoder.weight_FH + torch.from_numpy(indexed["numbers"]) @ encoder.mlp.weights[0].T
        )
        torch.testing.assert_close(hidden(encoder, COLUMNS), expected + torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("kind", ["number", "category"])
def test_one_kind_alone(kind):
    kinds = [column for column in KINDS if column[1] == kind]
    encoder = fitted(kinds)
    out = hidden(encoder, COLUMNS)
    assert out.shape == (4, 3)
    assert len(out.unique(dim=0)) == len(
        {tuple(str(COLUMNS[name][row]) for name, _ in kinds) for row in range(4)}
    )
    out.sum().backward()
    assert (encoder.weight_FH.grad is None) == (kind == "number")


def test_large_numbers_keep_their_differences():
    # Nanoseconds since 1970 differ by less than float32 can tell.
    times = pa.array([1.7e18, 1.7e18 + 1e6, 1.7e18 + 2e6])
    encoder = fitted([("time", "number")], {"time": times})
    np.testing.assert_allclose(
        encoder.encode({"time": times})["numbers"][:, 0], squash(np.array([-1, 0, 1]) / 2 * 1.349), atol=1e-3
    )


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=30),
    st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=9),
)
def test_any_finite_number_is_fitted_to_and_predicted_from(seen, new):
    encoder = fitted([("x", "number")], {"x": pa.array(seen, pa.float64())})
    numbers = encoder.encode({"x": pa.array(new, pa.float64())})["numbers"]
    assert (np.abs(numbers) <= 10).all()
    assert bool(hidden(encoder, {"x": pa.array(new, pa.float64())}).isfinite().all())


@pytest.mark.parametrize("outlier", [999_999.0, -1e160, 1.7e308])
def test_outliers_leave_the_others_where_they_are(outlier):
    usual = np.random.default_rng(0).normal(size=300)
    with_outliers = np.where(np.arange(300) % 20 == 0, outlier, usual)
    plain, robust = (fitted([("x", "number")], {"x": pa.array(x)}, bins=0) for x in (usual, with_outliers))
    few = {"x": pa.array([-1.0, 0.0, 1.0])}
    np.testing.assert_allclose(robust.encode(few)["numbers"], plain.encode(few)["numbers"], atol=0.2)


def test_a_column_of_mostly_one_value_keeps_the_others_apart():
    rare = pa.array([0.0] * 95 + [1.0] * 5)
    numbers = fitted([("x", "number")], {"x": rare}).encode({"x": rare})["numbers"][:, 0]
    assert numbers[0] == 0
    assert 0.9 < numbers[-1] < 1


def test_infinite_numbers_are_refused():
    with pytest.raises(DataError, match=r"'age' has inf at row 1"):
        fitted().featurize({**COLUMNS, "age": pa.array([0.0, float("inf")])})


def test_missing_column_is_named():
    with pytest.raises(DataError, match="'size' is missing"):
        fitted().featurize({name: COLUMNS[name] for name in ("age", "color", "year")})


@pytest.mark.slow
def test_letters_are_learned(widemax_data):
    lines = np.genfromtxt(
        widemax_data / "letter_recognition" / "letter-recognition.data.gz",
        delimiter=",",
        dtype=str,
        skip_header=1,
    )
    is_label = np.array([not cell.isdigit() for cell in lines[0]])
    labels = torch.from_numpy(np.unique(lines[:, is_label], return_inverse=True)[1].ravel())
    numbers = lines[:, ~is_label].astype(np.float64)
    columns = {str(place): pa.array(column) for place, column in enumerate(numbers.T)}
    encoder = TableEncoder([(name, "number") for name in columns])
    features = encoder.featurize(columns)
    torch.manual_seed(0)
    encoder.fit([{name: entry[:16_000] for name, entry in features.items()}], generator=torch.Generator())
    inputs = to_tensors(encoder.index(features))
    head = torch.nn.Linear(encoder.dim, 26)
    rate = encoder.learning_rate
    optimizer = torch.optim.Adam([*encoder.mlp.parameters(), *head.parameters()], lr=rate)
    for epoch in range(3):
        for rows in torch.randperm(16_000).split(64):
            batch = {name: entry[rows] for name, entry in inputs.items()}
            loss = torch.nn.functional.cross_entropy(head(encoder(batch)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        optimizer.param_groups[0]["lr"] = rate / (epoch + 2)
    with torch.no_grad():
        guesses = head(encoder({name: entry[16_000:] for name, entry in inputs.items()})).argmax(dim=1)
    assert (guesses == labels[16_000:]).float().mean() >= 0.93


def test_dates_tell_the_day_and_their_place_in_the_year_the_week_and_the_day():
    when = [1_700_000_000.0 + 86_400 * n + 3_600 * (n % 24) for n in range(400)]
    encoder = fitted([("when", "date")], {"when": pa.array(when)})
    numbers = encoder.encode({"when": pa.array([*when[:8], None], pa.float64())})["numbers"]
    assert numbers.shape == (9, 14)
    assert (np.diff(numbers[:8, 0]) > 0).all()
    np.testing.assert_allclose(numbers[0, 3:5], numbers[7, 3:5], atol=0.5)  # a week later, seven hours on
    later = encoder.encode({"when": pa.array([when[0] + 7 * 86_400])})["numbers"]
    np.testing.assert_allclose(later[0, 3:7], numbers[0, 3:7], atol=1e-4)
    assert (numbers[8] == 0).all()  # no date was missing in training
