"""A little drawing: a plot area with axes, as inline SVG text."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 480


def compact(number: float) -> str:
    """A count in at most four characters or so.

    Example:
        >>> [compact(n) for n in (7, 950, 1200, 48_000, 3_400_000)]
        ['7', '950', '1.2k', '48k', '3.4M']
    """
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        scaled = number / size
        # 999,999 is 1M, not 1000k.
        if scaled >= 0.9995:
            return f"{scaled:.{int(scaled < 9.95)}f}".removesuffix(".0") + suffix
    return f"{number:.0f}"


def percent(share: float, *, decimals: int = 0) -> str:
    """A share in percent."""
    return f"{100 * share:.{decimals}f}%"


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, that enclose [low, high].

    Example:
        >>> ticks(0.0, 0.93)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        high = low + (abs(low) or 1.0)
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    # Rounding the quotients first keeps 0.6000000001 from opening one more interval.
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(round(low / step, 9)), math.ceil(round(high / step, 9))
        if last - first + 1 <= most:
            break
    decimals = max(0, -math.floor(math.log10(step)))
    return [round(i * step, decimals) for i in range(first, last + 1)]


def tick_label(value: float, all_ticks: Sequence[float]) -> str:
    """A tick with just the decimals that its axis needs."""
    step = all_ticks[1] - all_ticks[0]
    if step >= 1000:
        return compact(value)
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


@dataclass(frozen=True)
class Plot:
    """A rectangle of the drawing, in pixels, with a linear scale on either axis."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: float = 44
    right: float = WIDTH - 18
    top: float = 28
    bottom: float = 236

    def x(self, value: float) -> float:
        """The horizontal pixel of a value."""
        return self.left + (value - self.x_low) / (self.x_high - self.x_low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """The vertical pixel of a value."""
        return self.bottom - (value - self.y_low) / (self.y_high - self.y_low) * (self.bottom - self.top)

    def y_axis(self, values: Sequence[float], *, label: str, show: Callable[[float], str]) -> str:
        """Horizontal grid lines with their values, and the axis label above them."""
        lines = [
            f'<line class="grid" x1="{self.left:.1f}" x2="{self.right:.1f}" '
            f'y1="{self.y(value):.1f}" y2="{self.y(value):.1f}"/>'
            + text(self.left - 8, self.y(value) + 4, show(value), anchor="end")
            for value in values
        ]
        return "".join(lines) + text(0, self.top - 14, label)

    def x_axis(self, values: Sequence[float], *, show: Callable[[float], str]) -> str:
        """The base line with tick marks and values."""
        marks = [
            f'<line class="axis" x1="{self.x(value):.1f}" x2="{self.x(value):.1f}" '
            f'y1="{self.bottom:.1f}" y2="{self.bottom + 4:.1f}"/>'
            + text(self.x(value), self.bottom + 18, show(value), anchor="middle")
            for value in values
        ]
        return self.base_line() + "".join(marks)

    def base_line(self) -> str:
        """The horizontal axis itself."""
        return (
            f'<line class="axis" x1="{self.left:.1f}" x2="{self.right:.1f}" '
            f'y1="{self.bottom:.1f}" y2="{self.bottom:.1f}"/>'
        )

    def x_label(self, label: str, *, below: float) -> str:
        """The name and unit of the horizontal axis, centered ``below`` pixels under it."""
        return text((self.left + self.right) / 2, self.bottom + below, label, anchor="middle")

    def bar(self, x_from: float, x_to: float, value: float, title: str) -> str:
        """A bar up to ``value``, with a tooltip, a pixel apart from its neighbors."""
        left, right, y = self.x(x_from) + 0.5, self.x(x_to) - 0.5, self.y(value)
        return (
            f'<rect class="bar" x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" '
            f'height="{self.bottom - y:.1f}"><title>{escape(title)}</title></rect>'
        )


def text(x: float, y: float, content: str, *, anchor: str = "start", css: str = "") -> str:
    """Text at a pixel."""
    css = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{escape(content)}</text>'


def drawing(content: str, *, height: int, label: str) -> str:
    """The SVG element around a drawing; it scales to the width it is given."""
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{content}</svg>'
