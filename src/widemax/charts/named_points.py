"""Points whose names stand in a column beside them."""

from collections.abc import Mapping, Sequence

from widemax.charts.drawing import LINE, Drawing, text, title
from widemax.charts.figure import figure
from widemax.charts.panel import Panel
from widemax.charts.scale import Scale, tick_labels, ticks


def named_points(
    points: Mapping[str, tuple[float, float]], *, best: str, heading: str, x: str, y: str
) -> Drawing:
    """A panel whose axes begin at 0.

    Args:
        points: name to (x, y), at least one.
        best: the name of the point in the other color.
        heading: what is shown.
        x, y: names and units of the axes.

    Example:
        >>> named_points({"a": (1.0, 2.0)}, best="a", heading="t", x="x", y="y").width
        640
    """
    right, top = (ticks(0.0, max(values)) for values in zip(*points.values(), strict=True))
    # The names stand to the right of the last tick.
    panel = Panel(
        heading,
        x,
        y,
        width=640,
        x_ticks=tick_labels(right),
        y_range=(0, top[-1]),
        x_range=(0, 1.4 * right[-1]),
    )
    names = sorted(points, key=lambda name: -points[name][1])

    def layer(scale_x: Scale, scale_y: Scale) -> str:
        leaders, dots, edge = "", "", float(scale_x(right[-1]))
        x_N, y_N = zip(*(points[name] for name in names), strict=True)
        lefts, heights = scale_x(x_N).tolist(), scale_y(y_N).tolist()
        for name, left, at, beside in zip(names, lefts, heights, _apart(heights, scale_y.start), strict=True):
            path = f"M{left:.1f} {at:.1f}L{edge + 6:.1f} {beside:.1f}h12"
            leaders += f'<path class="line thin soft" d="{path}"/>' + text(
                edge + 22, beside + 4, name, css="ink"
            )
            told = title("{}: {:.3g}, {:.3g}".format(name, *points[name]))
            css = "c1" if name == best else "c0"
            dots += f'<circle class="dots {css}" cx="{left:.1f}" cy="{at:.1f}" r="4">{told}</circle>'
        return leaders + dots

    panel.draw(layer)
    return figure(panel)


def _apart(wanted: Sequence[float], bottom: float) -> list[float]:
    """Heights from top to bottom, near those wanted, a line apart, and above the bottom."""
    rows: list[float] = []
    for y in wanted:
        rows.append(max(y, rows[-1] + LINE) if rows else y)
    for place in reversed(range(len(rows))):
        rows[place] = min(rows[place], bottom - LINE * (len(rows) - 1 - place))
    return rows
