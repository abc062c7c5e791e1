"""Learning curves of the report."""

from html.parser import HTMLParser

import pytest

from widemax.evaluation.report.charts import MAX_POINTS, curves, points_of


def test_long_series_are_thinned_without_moving_their_mean() -> None:
    history = [{"step": step, "train_loss": float(step % 7)} for step in range(6000)]
    points = points_of(history, "train_loss")
    assert len(points) == MAX_POINTS
    assert points[:, 1].mean() == pytest.approx(3.0, abs=0.01)


def test_missing_and_infinite_values_are_left_out() -> None:
    history = [
        {"step": 1, "train_loss": float("inf")},
        {"step": 2, "train_loss": None},
        {"step": 3},
        {"step": 4, "train_loss": 2.0},
    ]
    assert points_of(history, "train_loss").tolist() == [[4.0, 2.0]]


def test_a_curve_of_one_point_is_drawn() -> None:
    page = curves(
        "Loss", "", {"loss": points_of([{"step": 0, "train_loss": 0.0}], "train_loss")}, unit="nats"
    )
    parser = HTMLParser()
    parser.feed(page)
    assert "loss 0 at step 0" in page
    assert curves("Loss", "", {}, unit="nats") == ""
