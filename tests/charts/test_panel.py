"""What a panel draws lies where its axes say."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from widemax.charts import Panel, figure, images
from widemax.charts.drawing import text_width


def drawn(*panels, **options):
    return ElementTree.fromstring(figure(*panels, **options).inline("a chart"))


def words(root):
    return [element.text for element in root.iter("text") if element.text]


def of_class(root, css):
    return [element for element in root.iter() if css in (element.get("class") or "").split()]


def corners(path):
    """The points of a path of lines, and whether each begins a new piece."""
    return [
        (pen == "M", float(x), float(y))
        for pen, x, y in re.findall(r"([ML])([\d.-]+) ([\d.-]+)", path.get("d"))
    ]


def test_axes_and_series_are_named_once():
    panels = [Panel(heading, "time (s)", "speed (m/s)") for heading in ("left", "right")]
    for panel in panels:
        panel.lines({"a": ([0, 1], [0, 1]), "b": ([0, 1], [1, 0])})
    shown = words(drawn(*panels))
    assert [shown.count(word) for word in ("left", "time (s)", "speed (m/s)", "a", "b")] == [1, 2, 2, 1, 1]
    alone = Panel(y="speed (m/s)")
    alone.lines({"a": ([0, 1], [0, 1])})
    assert "a" not in words(drawn(alone))


@pytest.mark.parametrize("last", ["3", "0.00003", "1,000,000,000"])
def test_the_last_number_of_an_axis_ends_inside_the_chart(last):
    panel = Panel(x_ticks={0.0: "0", 1.0: last})
    panel.lines({"a": ([0, 1], [0, 1])})
    root = drawn(panel)
    [label] = [element for element in root.iter("text") if element.text == last]
    places = re.findall(r"translate\(([\d.]+) ", ElementTree.tostring(root, encoding="unicode"))
    end = max(map(float, places)) + float(label.get("x")) + text_width(last) / 2
    assert end <= float(root.get("width"))


@pytest.mark.parametrize("logs", [{}, {"log_x": True, "log_y": True}])
def test_a_curve_runs_through_its_points_and_stops_where_there_are_none(logs):
    panel = Panel(**logs, x_range=(1, 100), y_range=(1, 100))
    panel.lines({"a": ([1, 10, 20, 50, 100], [100, 10, np.inf, 50, 1])})
    first, second, third, last = corners(of_class(drawn(panel), "line")[0])
    assert [begins for begins, *_ in (first, second, third, last)] == [True, False, True, False]
    width, height = last[1], last[2]
    share = 0.5 if logs else 9 / 99
    assert first[1:] == (0, 0)
    assert second[1:] == pytest.approx((share * width, (1 - share) * height), abs=0.1)


def test_curves_of_one_panel_differ_in_color_dashes_and_markers():
    panel = Panel()
    panel.lines({name: ([0, 1], [0, 1]) for name in "abcdefghij"}, markers=True)
    root = drawn(panel)
    curves = [line for line in of_class(root, "line") if len(corners(line)) == 2]
    assert len({line.get("class") for line in curves}) == 10
    assert len({(line.get("class"), line.get("stroke-dasharray")) for line in curves}) == 10


def test_a_point_says_its_value_where_asked():
    panel = Panel()
    panel.lines({"a": ([0, 1, 2], [3, np.nan, 5])}, show=lambda x, y: f"{y:g} at {x:g}")
    assert [element.text for element in drawn(panel).iter("title")] == ["a 3 at 0", "a 5 at 2"]


def test_bars_are_as_high_as_their_values_and_stand_side_by_side():
    panel = Panel(y="share", y_range=(0, 4))
    panel.bars(["p", "q"], {"a": [1.0, 2.0], "b": [4.0, 3.0]})
    root = drawn(panel)
    bars = [bar for bar in of_class(root, "bar") if bar.find("title") is not None]
    assert [bar.find("title").text for bar in bars] == [
        "a, p: 1.00",
        "a, q: 2.00",
        "b, p: 4.00",
        "b, q: 3.00",
    ]
    heights = np.array([float(bar.get("height")) for bar in bars])
    np.testing.assert_allclose(heights / heights[2], [0.25, 0.5, 1.0, 0.75], atol=0.01)
    ends = sorted((float(bar.get("x")), float(bar.get("x")) + float(bar.get("width"))) for bar in bars)
    assert all(left[1] < right[0] for left, right in pairwise(ends))
    assert {"p", "q", "1.00", "4.00"} <= set(words(root))


@pytest.mark.parametrize("small", [False, True])
def test_a_scatter_shows_every_point_in_the_color_of_its_class(small):
    points = np.random.default_rng(0).normal(size=(90, 2))
    labels = np.arange(90) % 3
    panel = Panel()
    panel.scatter(points, labels, ["a", "b", "c"], small=small)
    root = drawn(panel)
    paths = of_class(root, "dots")
    counts = {}
    for path in paths:
        counts[path.get("class")] = counts.get(path.get("class"), 0) + path.get("d").count("M")
    # The legend shows one more of each where names are not written in.
    assert list(counts.values()) == [30 + (not small)] * 3
    assert {"a", "b", "c"} <= set(words(root))


def test_a_table_names_its_cells_and_its_unit():
    panel = Panel()
    panel.cells(
        np.array([[0.5, np.nan], [-1.0, 1.0]]), rows=["r", "s"], columns=["c", "d"], limit=1, unit="share"
    )
    root = drawn(panel)
    assert {"r", "s", "c", "d", "share", "−1"} <= set(words(root))
    assert len(list(root.iter("image"))) == 2  # the cells and the bar of colors
    written = Panel()
    written.cells(np.array([[10, 90]]), rows=["r"], columns=["c", "d"], limit=100, digits=0)
    assert {element.text: element.get("class") for element in drawn(written).iter("text")}.items() >= {
        ("10", "dark"),
        ("90", "light"),
    }


def test_a_mark_lies_where_it_should():
    panel = Panel(x_range=(0, 10), y_range=(0, 1))
    panel.lines({"a": ([0, 5, 10], [0, 1, 0])})
    panel.mark(5, "here", height=0.5)
    root = drawn(panel)
    (mark,) = [path for path in of_class(root, "axis") if path.get("d").endswith("V0")]
    _, (_, middle, _), _ = corners(of_class(root, "line")[0])
    assert float(re.match(r"M([\d.]+)", mark.get("d"))[1]) == pytest.approx(middle, abs=0.1)
    assert "here" in words(root)


def test_regions_are_one_image():
    classes = np.repeat([[0, 0, 1, 1]], 3, axis=0)
    panel = Panel()
    panel.regions(classes, extent=(0, 1, 0, 1))
    assert len(list(drawn(panel).iter("image"))) == 1


@pytest.mark.parametrize("shape", [(7, 8, 8), (7, 8, 8, 3)])
def test_images_are_a_grid(shape):
    drawing = images(np.random.default_rng(0).random(shape), list("abcdefg"), columns=4, rows=["one", "two"])
    root = ElementTree.fromstring(drawing.inline("images"))
    assert words(root) == [*"abcdefg", "one", "two"]
    places = [(float(image.get("x")), float(image.get("y"))) for image in root.iter("image")]
    assert len({x for x, _ in places}) == 4
    assert len({y for _, y in places}) == 2
    assert max(y for _, y in places) < drawing.height


def test_the_same_chart_is_the_same_text():
    def chart():
        panel = Panel("a < b", log_x=True)
        panel.lines({"<": (np.arange(1, 9), np.arange(8))}, markers=True)
        return figure(panel).file("a chart")

    assert chart() == chart()
    ElementTree.fromstring(chart())
