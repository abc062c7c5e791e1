"""A panel: two axes and what is drawn between them.

Shapes: N points, H by W pixels, R by C cells, G groups.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from widemax.charts.colors import diverging, rgb
from widemax.charts.drawing import LINE, picture, text, text_width, title
from widemax.charts.scale import Scale, log_ticks, tick_labels, ticks
from widemax.charts.style import COLORS, DASHES, MARKERS

Array = NDArray[Any]
Layer = Callable[[Scale, Scale], str]
"""What is drawn, given the scales of both axes."""

_BORDER = 5
_LEFT = 46
"""Pixels left of the axes at least, so that those of panels one below the other are aligned."""
_BAR_WIDTH = 14
_SMALL = "m-1-1h2v2h-2z"


class Panel:
    """Two axes; its methods draw one thing over the other.

    Args:
        heading: above the panel; "" for none.
        x, y: labels of the axes, with units.
        width, height: in pixels, with everything around the axes.
        log_x, log_y: whether an axis is logarithmic.
        x_range, y_range: what an axis spans; without, what is drawn.
        x_ticks, y_ticks: value to label; without, round numbers.

    Example:
        >>> panel = Panel("Speed", x="time (s)", y="speed (m/s)")
        >>> panel.lines({"fast": ([0, 1, 2], [0, 3, 6]), "slow": ([0, 1, 2], [0, 1, 2])})
        >>> "speed (m/s)" in panel.svg(0, 0)
        True
    """

    def __init__(
        self,
        heading: str = "",
        x: str = "",
        y: str = "",
        *,
        width: float = 480,
        height: float = 360,
        log_x: bool = False,
        log_y: bool = False,
        x_range: tuple[float, float] | None = None,
        y_range: tuple[float, float] | None = None,
        x_ticks: Mapping[float, str] | None = None,
        y_ticks: Mapping[float, str] | None = None,
    ) -> None:
        self.width, self.height = width, height
        self.names: dict[str, str] = {}
        """What the legend shows beside each name, drawn at the origin, 22 pixels wide."""
        self._num_series = 0
        self._heading, self._labels, self._logs = heading, (x, y), (log_x, log_y)
        self._ranges, self._ticks = [x_range, y_range], [x_ticks, y_ticks]
        self._layers: list[Layer] = []
        self._seen: tuple[list[float], list[float]] = ([], [])
        self._grids = [True, True]
        self._fits = False  # whether the vertical axis ends where the data do, not at a round number
        self._scale_of_cells: tuple[float, str] | None = None

    def lines(
        self,
        series: Mapping[str, tuple[ArrayLike, ArrayLike]],
        *,
        markers: bool = False,
        show: Callable[[float, float], str] | None = None,
    ) -> None:
        """Curves that differ in color, dashes and markers; values that are not finite leave a gap.

        Args:
            series: name to (x, y) of each curve; the legend leaves out "".
            markers: whether points are marked.
            show: what a point, (x, y), says where the mouse rests.
        """
        for name, (x, y) in series.items():
            self._line(name, np.asarray(x, np.float64), np.asarray(y, np.float64), markers, show)

    def _line(
        self, name: str, x_N: Array, y_N: Array, marked: bool, show: Callable[[float, float], str] | None
    ) -> None:
        place, css = self._num_series, self._next_color()
        dash = DASHES[place % len(DASHES)]
        dash = f' stroke-dasharray="{dash}"' if dash else ""
        marker = MARKERS[place % len(MARKERS)] if marked else ""
        stroke = f'class="line {css}"{dash}'
        if name:
            self.names[name] = f'<path {stroke} d="M0 0H22"/>' + _dots([11], [0], css, marker)
        self._see(x_N, y_N)

        def layer(scale_x: Scale, scale_y: Scale) -> str:
            left_N, top_N = scale_x(x_N), scale_y(y_N)
            body = f'<path {stroke} d="{_path(left_N, top_N)}"/>' + _dots(left_N, top_N, css, marker)
            for x, y, left, top in zip(x_N, y_N, left_N, top_N, strict=True):
                if show and not math.isnan(left + top):
                    words = title(f"{name} {show(x, y)}")
                    body += f'<circle class="hit {css}" cx="{left:.1f}" cy="{top:.1f}" r="5">{words}</circle>'
            return body

        self._layers.append(layer)

    def scatter(
        self, points: ArrayLike, labels: ArrayLike, names: Sequence[str], *, small: bool = False
    ) -> None:
        """Points in the color and marker of their class, or small ones with the name written in their middle.

        Args:
            points: [N, 2].
            labels: [N] class ids.
            names: of the classes.
            small: whether there are very many points.
        """
        points_N2, labels_N = np.asarray(points, np.float64), np.asarray(labels)
        self._fits, written = True, []
        margin_2 = 0.04 * np.ptp(points_N2, axis=0)
        self._see(*np.stack([points_N2.min(axis=0) - margin_2, points_N2.max(axis=0) + margin_2], axis=1))
        for place, name in enumerate(names):
            own_N2, css = points_N2[labels_N == place], self._next_color()
            marker = _SMALL if small else MARKERS[place % len(MARKERS)]
            self._layers.append(partial(_markers, own_N2, css, marker))
            if not small:
                self.names[name] = _dots([11], [0], css, marker)
            elif len(own_N2):
                written.append((*np.median(own_N2, axis=0), name))
        for x, y, name in written:
            self.note(x, y, name, css="ink title halo")

    def bars(self, names: Sequence[str], series: Mapping[str, ArrayLike], *, digits: int = 2) -> None:
        """Groups of bars, each with its value above it.

        Args:
            names: of the groups.
            series: name to one value a group.
            digits: decimals of the values.
        """
        width = 0.84 / len(series)
        for place, (name, values) in enumerate(series.items()):
            values_G, css = np.asarray(values, np.float64), self._next_color()
            lefts_G = np.arange(len(names)) - 0.42 + place * width
            self.names[name] = f'<rect class="bar {css}" x="4" y="-5" width="{_BAR_WIDTH}" height="10"/>'
            shown = [f"{value:.{digits}f}" for value in values_G]
            told = [f"{name}, {group}: {value}" for group, value in zip(names, shown, strict=True)]
            self.columns(lefts_G, lefts_G + width, values_G, told, css=css, above=shown)
        self._ranges[0] = (-0.5, len(names) - 0.5)
        self._ticks[0], self._grids[0] = dict(enumerate(map(str, names))), False

    def columns(
        self,
        low: ArrayLike,
        high: ArrayLike,
        values: ArrayLike,
        told: Sequence[str],
        *,
        css: str = "c0",
        above: Sequence[str] = (),
    ) -> None:
        """A bar from 0 to each value.

        Args:
            low, high: where it begins and ends, [N].
            values: [N].
            told: what each says where the mouse rests.
            css: "c" and the number of a color.
            above: words above each.
        """
        low_N, high_N, values_N = (np.asarray(part, np.float64) for part in (low, high, values))
        room = 1.07 if above else 1.0  # for the words
        self._see(np.concatenate([low_N, high_N]), np.append(room * values_N, 0.0))
        self._grids[0] = False

        def layer(scale_x: Scale, scale_y: Scale) -> str:
            body, base = "", float(scale_y(0))
            for at, words in enumerate(told):
                left, right = float(scale_x(low_N[at])) + 0.5, float(scale_x(high_N[at])) - 0.5
                top = float(scale_y(values_N[at]))
                body += (
                    f'<rect class="bar {css}" x="{left:.1f}" y="{min(top, base):.1f}" '
                    f'width="{right - left:.1f}" height="{abs(base - top):.1f}">{title(words)}</rect>'
                )
                if above:
                    body += text((left + right) / 2, top - 4, above[at], anchor="middle", css="ink")
            return body

        self._layers.append(layer)

    def mark(self, x: float, words: str, *, height: float) -> None:
        """A thin vertical line with words to its right.

        Args:
            x: where.
            words: what happens there.
            height: of the words, from 0 at the bottom of the panel to 1 at its top.
        """

        def layer(scale_x: Scale, scale_y: Scale) -> str:
            at, y = float(scale_x(x)), scale_y.start + height * (scale_y.end - scale_y.start)
            return f'<path class="axis" d="M{at:.1f} {scale_y.start}V0"/>' + text(
                at + 6, y + 4, words, css="ink halo"
            )

        self._layers.append(layer)

    def diagonal(self) -> None:
        """A dashed line where both axes have the same value."""
        self._layers.append(
            lambda sx, sy: (
                f'<path class="axis dashed" d="M{sx(sx.low)} {sy(sx.low)}L{sx(sx.high)} {sy(sx.high)}"/>'
            )
        )

    def note(self, x: float, y: float, words: str, *, css: str = "ink") -> None:
        """Words in the middle of a place."""
        self._layers.append(
            lambda sx, sy: text(float(sx(x)), float(sy(y)) + 4, words, anchor="middle", css=css)
        )

    def regions(self, classes: ArrayLike, *, extent: tuple[float, float, float, float]) -> None:
        """The class of each place of the plane as a pale ground.

        Args:
            classes: [H, W] class ids, the first row at the bottom.
            extent: left, right, bottom and top of the plane.
        """
        classes_HW = np.asarray(classes)[::-1]
        palette_C3 = np.array([rgb(color) for color in COLORS])
        self._pixels(np.dstack([palette_C3[classes_HW % len(COLORS)], np.full(classes_HW.shape, 56)]), extent)

    def cells(
        self,
        values: ArrayLike,
        *,
        rows: Sequence[str],
        columns: Sequence[str],
        limit: float,
        unit: str = "",
        digits: int | None = None,
    ) -> None:
        """A table of colors, from −limit by 0 to limit.

        Args:
            values: [R, C]; NaN leaves a cell blank.
            rows: names, one a row.
            columns: names, one a column.
            limit: the size of value with the deepest color.
            unit: label of the scale of colors; "" for none.
            digits: decimals of the values, which are written into the cells; None writes none.
        """
        values_RC = np.asarray(values, np.float64)
        colors_RC3 = diverging(np.nan_to_num(values_RC) / limit)
        self._pixels(
            np.dstack([colors_RC3, np.where(np.isnan(values_RC), 0, 255)]),
            (-0.5, len(columns) - 0.5, len(rows) - 0.5, -0.5),
        )
        self._ranges = [(-0.5, len(columns) - 0.5), (len(rows) - 0.5, -0.5)]
        self._ticks = [dict(enumerate(map(str, columns))), dict(enumerate(map(str, rows)))]
        self._grids = [False, False]
        self._scale_of_cells = (limit, unit) if unit else None
        if digits is not None:
            for (row, column), value in np.ndenumerate(values_RC):
                css = "light" if abs(value) > 0.7 * limit else "dark"
                self.note(column, row, f"{value:.{digits}f}", css=css)

    def _pixels(self, pixels: Array, extent: tuple[float, float, float, float]) -> None:
        left, right, bottom, top = extent
        self._see(np.array([left, right]), np.array([bottom, top]))

        def layer(scale_x: Scale, scale_y: Scale) -> str:
            (x, x_end), (y_end, y) = scale_x([left, right]), scale_y([bottom, top])
            return picture(pixels, x, y, x_end - x, y_end - y)

        self._layers.append(layer)

    def _next_color(self) -> str:
        self._num_series += 1
        return f"c{(self._num_series - 1) % len(COLORS)}"

    def _see(self, x_N: Array, y_N: Array) -> None:
        for values, is_log, seen in zip((x_N, y_N), self._logs, self._seen, strict=True):
            kept = values[np.isfinite(values) & ((values > 0) if is_log else True)]
            seen.extend([float(kept.min()), float(kept.max())] if len(kept) else [])

    def svg(self, left: float, top: float) -> str:
        """The panel with its upper left corner at a pixel."""
        (x_low, x_high), (y_low, y_high) = self._range(0), self._range(1)
        x_ticks, y_ticks = self._tick_labels(0, x_low, x_high), self._tick_labels(1, y_low, y_high)
        heading_lines = self._heading.count("\n") + 1 if self._heading else 0
        x_label, y_label = self._labels
        start_x = max([text_width(label) for label in y_ticks.values()], default=0) + 12
        start_x = max(start_x, _LEFT)
        start_y = heading_lines * LINE + (LINE + 6 if y_label else 8)
        width = self.width - start_x - (78 if self._scale_of_cells else 16)
        widest = max(map(text_width, x_ticks.values()), default=0)
        lines = max((label.count("\n") + 1 for label in x_ticks.values()), default=0)
        turned = lines == 1 and widest > width / len(x_ticks)
        if not turned:  # the last label may stand half beyond the axis
            width = min(width, self.width - start_x - widest / 2)
        below = 0.72 * widest + 14 if turned else LINE * lines + 6
        height = self.height - start_y - below - (LINE + 4 if x_label else 4)
        scale_x = Scale(x_low, x_high, 0, width, self._logs[0])
        scale_y = Scale(y_low, y_high, height, 0, self._logs[1])
        body = text(0, LINE - 3, self._heading, css="ink title") if self._heading else ""
        body += text(0, start_y - 9, y_label)
        frame = f'<g transform="translate({start_x:.1f} {start_y:.1f})">'
        for value, label in y_ticks.items():
            y = float(scale_y(value))
            frame += f'<path class="grid" d="M0 {y:.1f}H{width:.1f}"/>' if self._grids[1] else ""
            frame += text(-8, y + 4, label, anchor="end")
        for value, label in x_ticks.items():
            x = float(scale_x(value))
            frame += f'<path class="grid" d="M{x:.1f} 0V{height:.1f}"/>' if self._grids[0] else ""
            if turned:
                frame += text(x + 4, height + 14, label, anchor="end", turn=-45)
            else:
                frame += text(x, height + 18, label, anchor="middle")
        if any(self._grids):
            frame += f'<path class="axis" d="M0 {height:.1f}H{width:.1f}"/>'
        frame += text(width / 2, height + below + LINE - 1, x_label, anchor="middle")
        # What is outside the axes is cut off, but not the half of a marker.
        frame += (
            f'<svg x="{-_BORDER}" y="{-_BORDER}" width="{width + 2 * _BORDER:.1f}" '
            f'height="{height + 2 * _BORDER:.1f}" '
            f'viewBox="{-_BORDER} {-_BORDER} {width + 2 * _BORDER:.1f} {height + 2 * _BORDER:.1f}">'
            + "".join(layer(scale_x, scale_y) for layer in self._layers)
            + "</svg>"
        )
        if self._scale_of_cells:
            frame += color_bar(width + 16, 0, height, *self._scale_of_cells)
        return f'<g transform="translate({left:.1f} {top:.1f})">{body}{frame}</g></g>'

    def _range(self, axis: int) -> tuple[float, float]:
        fixed = self._ranges[axis]
        if fixed is not None:
            return fixed
        low, high = min(self._seen[axis], default=0.0), max(self._seen[axis], default=1.0)
        if self._logs[axis]:
            return (low, high) if axis == 0 and low < high else (low / 1.2, high * 1.2)
        if low < high and (axis == 0 or self._fits):
            return low, high
        around = ticks(low, high)
        return around[0], around[-1]

    def _tick_labels(self, axis: int, low: float, high: float) -> Mapping[float, str]:
        given = self._ticks[axis]
        if given is not None:
            return given
        if self._logs[axis]:
            return tick_labels(log_ticks(low, high), is_log=True)
        around, slack = ticks(low, high), 1e-9 * (high - low)
        inside = [value for value in around if low - slack <= value <= high + slack]
        labels = tick_labels(around)
        return {value: labels[value] for value in inside}


def color_bar(x: float, y: float, height: float, limit: float, unit: str) -> str:
    """The colors from −limit at the bottom to limit at the top, with their numbers."""
    body = picture(diverging(np.linspace(1, -1, 65))[:, None], x, y, 12, height)
    for share, words in ((0.0, f"{limit:.2g}"), (0.5, "0"), (1.0, f"−{limit:.2g}")):
        body += text(x + 17, y + 4 + share * height, words)
    return body + text(x + 56, y + height / 2, unit, anchor="middle", turn=-90)


def _path(x_N: Array, y_N: Array) -> str:
    """Lines from point to point, with a gap where one has no place."""
    path, pen = "", "M"
    for x, y in zip(x_N, y_N, strict=True):
        is_gap = math.isnan(x + y)
        path += "" if is_gap else f"{pen}{x:.1f} {y:.1f}"
        pen = "M" if is_gap else "L"
    return path


def _markers(points_N2: Array, css: str, marker: str, scale_x: Scale, scale_y: Scale) -> str:
    return _dots(scale_x(points_N2[:, 0]), scale_y(points_N2[:, 1]), css, marker)


def _dots(x: Any, y: Any, css: str, marker: str) -> str:
    if not marker:
        return ""
    path = "".join(
        f"M{at:.1f} {height:.1f}{marker}"
        for at, height in zip(x, y, strict=True)
        if not math.isnan(at + height)
    )
    return f'<path class="dots {css}" d="{path}"/>'
