"""Panels and images side by side, as one drawing. Shapes: N images of H by W pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widemax.charts.drawing import LINE, Drawing, picture, text, text_width
from widemax.charts.panel import Panel, color_bar

_SAMPLE = 28
"""Pixels of the legend before each name."""


def figure(*panels: Panel, columns: int | None = None) -> Drawing:
    """Panels of one width, and below them the names of what they show, each once.

    Args:
        panels: in reading order.
        columns: panels side by side; all of them by default.
    """
    columns = columns or len(panels)
    body, width, bottom = "", panels[0].width, 0.0
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        body += "".join(panel.svg(place * width, bottom) for place, panel in enumerate(row))
        bottom += max(panel.height for panel in row)
    names = {name: sample for panel in panels for name, sample in panel.names.items()}
    # Of a single curve the axis says the name.
    if all(len(panel.names) < 2 for panel in panels):
        names = {}
    x, y = 4.0, bottom + LINE
    for name, sample in names.items():
        step = _SAMPLE + text_width(name) + 18
        if x > 4 and x + step > columns * width:
            x, y = 4.0, y + LINE + 5
        body += f'<g transform="translate({x:.1f} {y - 4:.1f})">{sample}</g>' + text(
            x + _SAMPLE, y, name, css="ink"
        )
        x += step
    return Drawing(body, columns * width, y + 6 if names else bottom)


def images(
    pictures: NDArray[Any],
    titles: Sequence[str] = (),
    *,
    columns: int = 10,
    size: float = 90,
    rows: Sequence[str] = (),
    bar: tuple[float, str] | None = None,
) -> Drawing:
    """A grid of small images.

    Args:
        pictures: [N, H, W] ink, dark where it is large, or [N, H, W, 3] colors; bytes, or numbers in [0, 1].
        titles: one an image, or none.
        columns: images side by side.
        size: width of an image, in pixels.
        rows: names of the rows, or none.
        bar: limit and unit of a bar of diverging colors, or none.
    """
    if pictures.dtype != np.uint8:
        pictures = (255 * pictures.clip(0, 1)).round().astype(np.uint8)
    pictures = 255 - pictures if pictures.ndim == 3 else pictures
    titles = titles or [""] * len(pictures)
    lines = max(title.count("\n") + 1 if title else 0 for title in titles)
    left, gap = max(map(text_width, rows), default=0) + 4, 10.0
    above = lines * LINE + 5.0
    height = size * pictures.shape[1] / pictures.shape[2]
    body = ""
    for place, (pixels, title) in enumerate(zip(pictures, titles, strict=True)):
        x, y = left + place % columns * (size + gap), place // columns * (height + above + gap)
        if title:
            body += text(x + size / 2, y + LINE - 3, title, anchor="middle")
        body += picture(pixels, x, y + above, size, height)
    for place, name in enumerate(rows):
        body += text(left - 6, place * (height + above + gap) + above + height / 2 + 4, name, anchor="end")
    total_x = left + columns * (size + gap)
    total_y = -(-len(pictures) // columns) * (height + above + gap)
    if bar:
        body += color_bar(total_x + 6, above, total_y - above - gap, *bar)
        total_x += 74
    return Drawing(body, total_x, total_y)
