"""Named points on two axes, as one SVG file that stands alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from widemax.evaluation.report.svg import WIDTH, Plot, text, tick_label, ticks

HEIGHT = 340
LINE = 13
"""Pixels between the names of points, so that they can be read."""

STYLE = """
svg { color-scheme: light dark; background: #ffffff; }
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #5c6470; }
text.name { fill: #1d2129; } text.title { font-size: 14px; font-weight: 650; fill: #1d2129; }
.grid { stroke: #eeece7; } .axis { stroke: #9aa2ae; } .leader { stroke: #c9c6bf; fill: none; }
.point { fill: #2563a8; } .best { fill: #c2571a; }
@media (prefers-color-scheme: dark) {
  svg { background: #14161a; } text { fill: #9aa2ae; } text.name, text.title { fill: #e8e6e1; }
  .grid { stroke: #262a32; } .axis { stroke: #5c6470; } .leader { stroke: #3c424d; }
  .point { fill: #74aee8; } .best { fill: #ee9a62; }
}
"""


@dataclass(frozen=True)
class Point:
    """A dot with its name; ``is_best`` gives it the other color."""

    name: str
    x: float
    y: float
    is_best: bool = False


def scatter(points: Sequence[Point], *, title: str, x_label: str, y_label: str) -> str:
    """The drawing as SVG text, light or dark as the reader's screen is.

    Args:
        points: at least one.
        title: what is shown.
        x_label, y_label: names and units of the axes, which begin at 0.

    Example:
        >>> svg = scatter([Point("a", 1.0, 2.0)], title="t", x_label="x", y_label="y")
        >>> svg.startswith("<svg xmlns=")
        True
    """
    x_ticks = ticks(0.0, max(point.x for point in points))
    y_ticks = ticks(0.0, max(point.y for point in points))
    plot = Plot(
        x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1], right=WIDTH - 130, top=56, bottom=HEIGHT - 56
    )
    body = text(0, 16, title, css="title")
    body += plot.y_axis(y_ticks, label=y_label, show=lambda value: tick_label(value, y_ticks))
    body += plot.x_axis(x_ticks, show=lambda value: tick_label(value, x_ticks))
    body += plot.x_label(x_label, below=38)
    ordered = sorted(points, key=lambda point: -point.y)
    name_x = plot.right + 22
    for point, name_y in zip(ordered, _name_rows([plot.y(point.y) for point in ordered], plot), strict=True):
        x, y = plot.x(point.x), plot.y(point.y)
        body += (
            f'<polyline class="leader" points="{x:.1f},{y:.1f} {plot.right + 6:.1f},{name_y:.1f} '
            f'{name_x - 4:.1f},{name_y:.1f}"/>'
        )
        body += text(name_x, name_y + 4, point.name, css="name")
    for point in ordered:
        css = "best" if point.is_best else "point"
        body += (
            f'<circle class="{css}" cx="{plot.x(point.x):.1f}" cy="{plot.y(point.y):.1f}" r="4">'
            f"<title>{escape(point.name)}: {point.x:.3g}, {point.y:.3g}</title></circle>"
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 0 {WIDTH + 8} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>{body}</svg>\n'
    )


def _name_rows(wanted: Sequence[float], plot: Plot) -> list[float]:
    """Heights of the names, top to bottom, near those wanted, a line apart, and above the axis's end."""
    rows: list[float] = []
    for y in wanted:
        rows.append(max(y, rows[-1] + LINE) if rows else max(y, plot.top))
    overhang = rows[-1] - plot.bottom
    for place in reversed(range(len(rows))):
        if overhang <= 0:
            break
        rows[place] -= overhang
        overhang = LINE - (rows[place] - rows[place - 1]) if place else 0
    return rows
