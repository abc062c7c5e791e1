from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.evaluation.report.charts import MAX_POINTS, curves, series_of
from widemax.evaluation.report.svg import Plot, compact, text, tick_label, ticks


@given(offset=st.floats(-100, 100), width=st.floats(1e-6, 1e12))
def test_ticks_enclose_the_range_evenly_and_are_few(offset: float, width: float) -> None:
    low, high = offset * width, (offset + 1) * width
    found = ticks(low, high)
    step = found[1] - found[0]
    assert 2 <= len(found) <= 6
    assert found[0] <= low + 1e-6 * step
    assert found[-1] >= high - 1e-6 * step
    assert all(b - a == pytest.approx(step, rel=1e-6) for a, b in pairwise(found))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e-9, 1e15])
def test_ticks_of_a_single_value_have_width(value: float) -> None:
    found = ticks(value, value)
    assert found[0] <= value <= found[-1]
    assert found[0] < found[-1]


def test_tick_labels_have_just_the_decimals_they_need() -> None:
    for low, high, expected in [
        (0, 0.93, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 5, ["0", "1", "2", "3", "4", "5"]),
        (0.31, 0.34, ["0.31", "0.32", "0.33", "0.34"]),
        (0, 9000, ["0", "2k", "4k", "6k", "8k", "10k"]),
    ]:
        found = ticks(low, high)
        assert [tick_label(value, found) for value in found] == expected


def test_compact_counts_round_to_the_next_unit() -> None:
    assert [compact(n) for n in (0, 999, 1000, 9_960, 12_345, 999_999, 2_500_000_000)] == [
        "0", "999", "1k", "10k", "12k", "1M", "2.5G",
    ]  # fmt: skip


def test_scales_map_the_corners() -> None:
    plot = Plot(10, 20, 0, 1)
    assert (plot.x(10), plot.x(20)) == (plot.left, plot.right)
    assert (plot.y(0), plot.y(1)) == (plot.bottom, plot.top)


def test_text_is_escaped() -> None:
    assert "&lt;b&gt;" in text(0, 0, "<b>")


def test_long_series_are_thinned_without_moving_their_mean() -> None:
    history = [{"step": step, "train_loss": float(step % 7)} for step in range(6000)]
    series = series_of(history, "train_loss", "loss")
    assert len(series.points) == MAX_POINTS
    assert sum(value for _, value in series.points) / MAX_POINTS == pytest.approx(3.0, abs=0.01)


def test_missing_and_infinite_values_are_left_out() -> None:
    history = [
        {"step": 1, "train_loss": float("inf")},
        {"step": 2, "train_loss": None},
        {"step": 3},
        {"step": 4, "train_loss": 2.0},
    ]
    assert series_of(history, "train_loss", "loss").points == ((4.0, 2.0),)


def test_a_curve_of_one_point_is_drawn() -> None:
    page = curves(
        "Loss", "", [series_of([{"step": 0, "train_loss": 0.0}], "train_loss", "loss")], unit="nats"
    )
    parser = HTMLParser()
    parser.feed(page)
    assert "loss 0 at step 0" in page
    assert curves("Loss", "", [], unit="nats") == ""
