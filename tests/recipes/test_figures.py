"""Charts have labels, legends and colors that can be told apart."""

import numpy as np
import pytest

from widemax.errors import UsageError
from widemax.recipes import figures


def test_colors_can_be_told_apart_in_gray_or_by_their_marks():
    assert len(set(figures.COLORS)) == len(figures.COLORS) == len(figures.MARKERS)
    marks = [
        (figures.COLORS[i % len(figures.COLORS)], figures.DASHES[i % len(figures.DASHES)]) for i in range(8)
    ]
    assert len(set(marks)) == 8


def test_the_style_does_not_leak():
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    figures.panels("one")
    assert dict(matplotlib.rcParams) == before


def test_panels_have_titles_and_surplus_ones_are_hidden():
    pytest.importorskip("matplotlib")
    figure, axes = figures.panels("a", "b", "c", columns=2)
    assert [panel.get_title(loc="left") for panel in axes] == ["a", "b", "c"]
    assert [panel.axison for panel in figure.axes] == [True, True, True, False]


def drawings():
    generator = np.random.default_rng(0)

    def lines(panel):
        x = np.arange(1, 9)
        figures.lines(
            panel, {"a": (x, x), "b": (x, np.where(x > 4, np.inf, x))}, x="x (s)", y="y (m)", log_x=True
        )

    def bars(panel):
        figures.bars(panel, ["p", "q"], {"a": [1.0, 2.0], "b": [2.0, 3.0]}, y="y (m)", x="x (s)")

    def scatter(panel):
        points, labels = generator.normal(size=(30, 2)), np.arange(30) % 3
        figures.regions(panel, labels.reshape(5, 6), extent=(-2, 2, -2, 2))
        figures.scatter(panel, points, labels, ["a", "b", "c"], x="x (s)", y="y (m)")

    return {"lines": lines, "bars": bars, "scatter": scatter}


@pytest.mark.parametrize("name", drawings())
def test_a_chart_is_labeled_and_the_same_each_time(name, tmp_path):
    pytest.importorskip("matplotlib")
    for path in (tmp_path / "one.png", tmp_path / "two.png"):
        figure, (panel,) = figures.panels("")
        drawings()[name](panel)
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("x (s)", "y (m)")
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()][:2] == ["a", "b"]
        figures.save(figure, path)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_value_that_is_not_finite_leaves_a_gap():
    pytest.importorskip("matplotlib")
    _, (panel,) = figures.panels("")
    figures.lines(panel, {"a": ([1, 2, 3], [1.0, np.inf, 3.0])}, x="x", y="y")
    np.testing.assert_array_equal(panel.get_lines()[0].get_ydata(), [1.0, np.nan, 3.0])


def test_a_heatmap_names_its_cells_and_its_unit(tmp_path):
    pytest.importorskip("matplotlib")
    figure, (panel,) = figures.panels("")
    figures.heatmap(panel, np.eye(2), rows=["r", "s"], columns=["c", "d"], limit=1.0, unit="share")
    assert [label.get_text() for label in panel.get_xticklabels()] == ["c", "d"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["r", "s"]
    assert figure.axes[-1].get_ylabel() == "share"
    figures.save(figure, tmp_path / "heatmap.png")


@pytest.mark.parametrize("shape", [(7, 8, 8), (7, 8, 8, 3)])
def test_images_are_a_grid(shape, tmp_path):
    pytest.importorskip("matplotlib")
    figure = figures.images(np.random.default_rng(0).random(shape), list("abcdefg"), columns=4)
    assert [panel.get_title() for panel in figure.axes] == [*"abcdefg", ""]
    figures.save(figure, tmp_path / "images.png")


def test_an_absent_matplotlib_is_told(monkeypatch):
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="need matplotlib"):
        figures.check_installed()
