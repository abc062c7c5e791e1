"""The charts of the report, each a figure with a heading, a caption and a drawing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from widemax.evaluation.report.findings import Group, Reliability
from widemax.evaluation.report.svg import Plot, compact, drawing, percent, text, tick_label, ticks

COLORS = ("a", "b", "c", "d")
MAX_POINTS = 150


@dataclass(frozen=True)
class Series:
    """One curve: its name and its (step, value) points."""

    name: str
    points: tuple[tuple[float, float], ...]


def series_of(history: Sequence[Mapping[str, Any]], key: str, name: str) -> Series:
    """The finite values of one key of the training records, thinned to the means of at most 150 stretches."""
    points = [
        (float(record["step"]), float(record[key]))
        for record in history
        if record.get(key) is not None and math.isfinite(record[key])
    ]
    if len(points) > MAX_POINTS:
        stretches = np.array_split(np.array(points), MAX_POINTS)
        points = [(float(step), float(value)) for step, value in (part.mean(axis=0) for part in stretches)]
    return Series(name, tuple(points))


def figure(heading: str, caption: str, body: str) -> str:
    """A heading, one line that says how to read the drawing, and the drawing."""
    return f"<figure><h2>{escape(heading)}</h2><figcaption>{escape(caption)}</figcaption>{body}</figure>"


def curves(
    heading: str,
    caption: str,
    series: Sequence[Series],
    *,
    unit: str,
    show: Callable[[float], str] | None = None,
) -> str:
    """Values against training steps; nothing when no series has a point."""
    series = [one for one in series if one.points][: len(COLORS)]
    if not series:
        return ""
    steps = [step for one in series for step, _ in one.points]
    values = [value for one in series for _, value in one.points]
    y_ticks = ticks(min(values), max(values))
    x_ticks = ticks(min(0.0, *steps), max(steps))
    plot = Plot(x_ticks[0], max(*steps, x_ticks[1]), y_ticks[0], y_ticks[-1])
    show_y = show or (lambda value: tick_label(value, y_ticks))
    body = plot.y_axis(y_ticks, label=unit, show=show_y)
    shown_x = [value for value in x_ticks if value <= plot.x_high]
    body += plot.x_axis(shown_x, show=lambda value: tick_label(value, x_ticks))
    body += plot.x_label("training step", below=38)
    body += "".join(_curve(plot, one, color) for one, color in zip(series, COLORS, strict=False))
    keys = "".join(
        f'<span><i class="{color}"></i>{escape(one.name)}</span>'
        for one, color in zip(series, COLORS, strict=False)
    )
    legend = f'<p class="legend">{keys}</p>'
    return figure(heading, caption, legend + drawing(body, height=280, label=heading))


def _curve(plot: Plot, series: Series, color: str) -> str:
    pixels = [(plot.x(step), plot.y(value)) for step, value in series.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    radius = 2.5 if len(pixels) <= 30 else 0
    dots = "".join(
        (f'<circle class="{color}-dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>' if radius else "")
        + f'<circle class="hit {color}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
        f"<title>{escape(series.name)} {value:.4g} at step {step:,.0f}</title></circle>"
        for (x, y), (step, value) in zip(pixels, series.points, strict=True)
    )
    return f'<polyline class="curve {color}" points="{path}"/>{dots}'


def reliability_diagram(bins: Sequence[Reliability]) -> str:
    """Accuracy against confidence, with the number of rows of each bin below."""
    if not bins:
        return ""
    shares = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    plot = Plot(0, 1, 0, 1, bottom=206)
    body = plot.y_axis(shares, label="accuracy", show=percent)
    most = max(one.num_rows for one in bins)
    counts = Plot(0, 1, 0, most, top=248, bottom=292)
    body += counts.y_axis([most], label="rows", show=compact)
    for one in bins:
        title = (
            f"Confidence {percent(one.low)} to {percent(one.high)}: {one.num_rows:,} rows, "
            f"mean confidence {percent(one.confidence, decimals=1)}, "
            f"accuracy {percent(one.accuracy, decimals=1)}"
        )
        body += plot.bar(one.low, one.high, one.accuracy, title)
        body += counts.bar(one.low, one.high, one.num_rows, title)
    body += plot.base_line()
    body += (
        f'<line class="ideal" x1="{plot.x(0):.1f}" y1="{plot.y(0):.1f}" '
        f'x2="{plot.x(1):.1f}" y2="{plot.y(1):.1f}"/>'
    )
    body += counts.x_axis(shares, show=percent)
    body += counts.x_label("confidence: probability of the predicted class", below=38)
    caption = "Bars on the dashed line mean that the probabilities can be taken at their word."
    return figure("Reliability", caption, drawing(body, height=336, label="Reliability diagram"))


def share_by_frequency(
    heading: str,
    caption: str,
    groups: Sequence[Group],
    *,
    hits: Callable[[Group], int],
    of: Callable[[Group], int],
    noun: str,
) -> str:
    """A bar for each group of classes: the share of hits, with the number it is a share of below."""
    shares = [hits(group) / of(group) if of(group) else None for group in groups]
    y_ticks = ticks(0.0, max([share for share in shares if share is not None], default=0.0) or 1.0)
    plot = Plot(0, len(groups), 0, y_ticks[-1], bottom=228)
    decimals = 0 if y_ticks[1] >= 0.01 else 1
    body = plot.y_axis(y_ticks, label="share", show=lambda share: percent(share, decimals=decimals))
    for place, (group, share) in enumerate(zip(groups, shares, strict=True)):
        center = plot.x(place + 0.5)
        body += text(center, plot.bottom + 38, compact(of(group)), anchor="middle")
        if share is None:
            continue
        title = (
            f"{group.num_classes:,} classes with {group.low:,} to {group.high:,} training rows: "
            f"{hits(group):,} of {of(group):,} {noun}, {percent(share, decimals=1)}"
        )
        body += plot.bar(place + 0.1, place + 0.9, share, title)
        body += text(
            center, plot.y(share) - 5, percent(share, decimals=decimals), anchor="middle", css="value"
        )
    edges = [group.low for group in groups] + [groups[-1].high]
    body += plot.x_axis(range(len(edges)), show=lambda place: compact(edges[int(place)]))
    body += plot.x_label(f"training rows of the class; below, the number of {noun}", below=60)
    return figure(heading, caption, drawing(body, height=296, label=heading))
