"""The look of the pictures, and the charts that recipes share: the one file that draws with matplotlib.

Colors are those of Okabe and Ito, told apart with any color vision; lines differ in dashes and points in
markers as well.

Shapes: N points, H by W pixels, R by C cells.
"""

import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from widemax.errors import UsageError

Axes: TypeAlias = Any
Figure: TypeAlias = Any
Draw = TypeVar("Draw", bound=Callable[..., Any])

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
INK, SOFT, GRID = "#1d2129", "#5c6470", "#e4e2dd"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "text.color": INK,
    "lines.linewidth": 2.2,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "white",
    "savefig.dpi": 150,
}


def check_installed() -> None:
    """Says how to get matplotlib where it is absent.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("matplotlib") is None:
        raise UsageError(
            "the pictures of recipes need matplotlib, which is not installed; run pip install "
            "'widemax[recipes]'."
        )


def styled(draw: Draw) -> Draw:
    """The same function, drawing in our style."""

    @functools.wraps(draw)
    def call(*args: Any, **kwargs: Any) -> Any:
        with importlib.import_module("matplotlib").rc_context(STYLE):
            return draw(*args, **kwargs)

    return cast(Draw, call)


@styled
def panels(
    *titles: str, columns: int | None = None, width: float = 5.0, height: float = 3.8
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each title.

    Args:
        titles: one a panel; "" for none.
        columns: panels side by side; all of them by default.
        width: of a panel, in inches.
        height: of a panel, in inches.
    """
    columns = columns or len(titles)
    rows = math.ceil(len(titles) / columns)
    figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=(width * columns, height * rows), layout="constrained"
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, title in zip(axes, titles, strict=False):
        panel.set_title(title)
    for panel in axes[len(titles) :]:
        panel.set_axis_off()
    return figure, axes[: len(titles)]


@styled
def save(figure: Figure, path: Path) -> None:
    """Writes a PNG; the same figure gives the same bytes."""
    figure.savefig(path, format="png", metadata={"Software": None})


@styled
def lines(
    axes: Axes,
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
    markers: bool = False,
    legend: bool = True,
) -> None:
    """Curves, named in a legend; values that are not finite leave a gap.

    Args:
        axes: the panel.
        series: name to (x, y) of each curve.
        x: label of the horizontal axis, with its unit.
        y: label of the vertical axis, with its unit.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical axis is logarithmic.
        markers: whether points are marked.
        legend: whether to draw the legend.
    """
    for place, (name, (x_N, y_N)) in enumerate(series.items()):
        y_N = np.asarray(y_N, dtype=float)
        axes.plot(
            np.asarray(x_N, dtype=float),
            np.where(np.isfinite(y_N), y_N, np.nan),
            label=name,
            color=COLORS[place % len(COLORS)],
            linestyle=DASHES[place % len(DASHES)],
            marker=MARKERS[place % len(MARKERS)] if markers else None,
            # Smaller on larger, so that curves which lie on each other both show.
            markersize=max(9 - 3 * place, 4),
        )
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    _label(axes, x, y)
    if legend:
        _legend(axes)


@styled
def mark(axes: Axes, x: float, note: str, *, height: float) -> None:
    """A thin vertical line with a note to its right.

    Args:
        axes: the panel.
        x: where.
        note: what happens there.
        height: of the note, from 0 at the bottom of the panel to 1 at its top.
    """
    axes.axvline(x, color=SOFT, linewidth=1)
    place = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
    axes.annotate(note, (x, height), xycoords=axes.get_xaxis_transform(), color=INK, fontsize=10, **place)


@styled
def shade(axes: Axes, x: ArrayLike, where: ArrayLike, *, name: str) -> None:
    """A gray ground where a curve has no value; drawn before the curves, it is named with them."""
    axes.fill_between(
        np.asarray(x, dtype=float),
        0,
        1,
        where=np.asarray(where),
        transform=axes.get_xaxis_transform(),
        color=GRID,
        linewidth=0,
        label=name,
    )


@styled
def bars(
    axes: Axes,
    names: Sequence[str],
    series: Mapping[str, ArrayLike],
    *,
    y: str,
    digits: int = 2,
    x: str = "",
) -> None:
    """Groups of bars, each with its value above it.

    Args:
        axes: the panel.
        names: of the groups.
        series: name to one value a group.
        y: label of the vertical axis, with its unit.
        digits: decimals of the values.
        x: label of the horizontal axis.
    """
    width = 0.8 / len(series)
    places = np.arange(len(names))
    for place, (name, values) in enumerate(series.items()):
        drawn = axes.bar(
            places + (place - (len(series) - 1) / 2) * width,
            values,
            width * 0.94,
            label=name,
            color=COLORS[place % len(COLORS)],
        )
        axes.bar_label(drawn, fmt=f"%.{digits}f", padding=2, fontsize=9, color=INK)
    axes.set_xticks(places, names)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.12)
    _label(axes, x, y)
    if len(series) > 1:
        _legend(axes)


@styled
def scatter(
    axes: Axes,
    points: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    *,
    x: str,
    y: str,
    legend: bool = True,
) -> None:
    """Points in the color and marker of their class.

    Args:
        axes: the panel.
        points: [N, 2].
        labels: [N] class ids.
        names: of the classes.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        legend: whether to draw the legend.
    """
    points_N2, labels_N = np.asarray(points), np.asarray(labels)
    for place, name in enumerate(names):
        axes.scatter(
            *points_N2[labels_N == place].T,
            s=14,
            marker=MARKERS[place % len(MARKERS)],
            color=COLORS[place % len(COLORS)],
            edgecolors="white",
            linewidths=0.3,
            label=name,
        )
    _label(axes, x, y)
    if legend:
        _legend(axes, markerscale=1.8)


@styled
def regions(axes: Axes, classes: ArrayLike, *, extent: tuple[float, float, float, float]) -> None:
    """The class of each place of the plane as a pale ground, with the borders drawn.

    Args:
        axes: the panel.
        classes: [H, W] class ids, the first row at the bottom.
        extent: left, right, bottom and top of the plane.
    """
    classes_HW = np.asarray(classes)
    colors = importlib.import_module("matplotlib.colors")
    palette = [colors.to_rgb(COLORS[place % len(COLORS)]) for place in range(int(classes_HW.max()) + 1)]
    ground_HW3 = np.array(palette)[classes_HW]
    axes.imshow(ground_HW3, extent=extent, origin="lower", aspect="auto", alpha=0.22, interpolation="nearest")
    for place in np.unique(classes_HW)[1:]:
        mask_HW = (classes_HW == place).astype(float)
        axes.contour(mask_HW, levels=[0.5], colors=INK, linewidths=0.8, extent=extent)
    axes.grid(visible=False)


@styled
def heatmap(
    axes: Axes,
    values: ArrayLike,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    limit: float,
    unit: str,
) -> None:
    """Cells between two colors, white at 0.

    Args:
        axes: the panel.
        values: [R, C]; NaN leaves a cell blank.
        rows: names, one a row.
        columns: names, one a column.
        limit: the size of value with the deepest color.
        unit: label of the color bar.
    """
    values_RC = np.asarray(values, dtype=float)
    drawn = axes.imshow(values_RC, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.figure.colorbar(drawn, ax=axes, label=unit, shrink=0.9)


@styled
def images(
    pictures: NDArray[Any], titles: Sequence[str] = (), *, columns: int = 10, size: float = 0.9
) -> Figure:
    """A grid of small images.

    Args:
        pictures: [N, H, W] gray, or [N, H, W, 3] colors between 0 and 1.
        titles: one an image, or none.
        columns: images side by side.
        size: of an image, in inches.
    """
    titles = titles or [""] * len(pictures)
    figure, axes = panels(*titles, columns=columns, width=size, height=size + 0.25 * any(titles))
    for panel, picture, title in zip(axes, pictures, titles, strict=True):
        panel.set_title(title, fontsize=9, fontweight="normal", loc="center", pad=3)
        panel.set_title("")
        panel.imshow(picture, cmap="gray_r" if picture.ndim == 2 else None, interpolation="nearest")
        panel.set_axis_off()
    return figure


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _legend(axes: Axes, *, markerscale: float = 1.0) -> None:
    """The names of a panel's curves below the figure, where they cover nothing."""
    handles, names = axes.get_legend_handles_labels()
    # An entry takes about a fourteenth of an inch a letter, and its sample of the curve half an inch more.
    inches = max(map(len, names)) / 14 + 0.6
    columns = max(1, min(len(names), int(axes.figure.get_figwidth() / inches)))
    axes.figure.legend(handles, names, loc="outside lower center", ncols=columns, markerscale=markerscale)
