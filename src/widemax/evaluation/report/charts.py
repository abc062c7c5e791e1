"""The charts of the report, each a figure with a heading, a caption and a drawing."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from widemax.charts import Drawing, Panel, compact, percent, ticks
from widemax.charts import figure as drawn
from widemax.evaluation.report.findings import Group, Reliability
from widemax.evaluation.rows import FloatArray

MAX_POINTS = 150
LONGEST_NAME = 18
WRITTEN = 10
"""Of so many classes the confusion matrix has room for numbers."""
AUDIT_HEADING = "Bias of the gradient against the cost of a step"
LEAST_BIAS = 1e-4


def points_of(history: Sequence[Mapping[str, Any]], key: str) -> FloatArray:
    """[N, 2] steps and finite values of one key of the records, thinned to the means of 150 stretches."""
    points = [
        (record["step"], record[key])
        for record in history
        if record.get(key) is not None and math.isfinite(record[key])
    ]
    points_N2 = np.array(points, np.float64).reshape(-1, 2)
    if len(points_N2) <= MAX_POINTS:
        return points_N2
    return np.stack([stretch.mean(axis=0) for stretch in np.array_split(points_N2, MAX_POINTS)])


def figure(heading: str, caption: str, *panels: Panel) -> str:
    """A heading, one line that says how to read the drawing, and the panels one below the other."""
    body = drawn(*panels, columns=1).inline(f"{heading}. {caption}")
    return f"<figure><h2>{escape(heading)}</h2><figcaption>{escape(caption)}</figcaption>{body}</figure>"


def curves(
    heading: str,
    caption: str,
    series: Mapping[str, FloatArray],
    *,
    unit: str,
    show: Callable[[float], str] | None = None,
    apart: bool = False,
) -> str:
    """Values against training steps, [N, 2] by the name of the curve; nothing when none has a point.

    Curves ``apart`` have an axis each, so that none is flattened by another one's size.
    """
    series = {name: points_N2 for name, points_N2 in series.items() if len(points_N2)}
    if not series:
        return ""
    if apart:
        panels = [_curves({"": points_N2}, f"{name} ({unit})", show) for name, points_N2 in series.items()]
        return figure(heading, caption, *panels)
    return figure(heading, caption, _curves(series, unit, show))


def _curves(series: Mapping[str, FloatArray], unit: str, show: Callable[[float], str] | None) -> Panel:
    every_N2 = np.concatenate(list(series.values()))
    (first, low), (last, high) = every_N2.min(axis=0), every_N2.max(axis=0)
    panel = Panel(
        x="training step",
        y=unit,
        height=280,
        x_range=(min(0.0, first), last or 1.0),
        y_ticks={value: show(value) for value in ticks(low, high)} if show else None,
    )
    panel.lines(
        {name: (points_N2[:, 0], points_N2[:, 1]) for name, points_N2 in series.items()},
        markers=max(map(len, series.values())) <= 30,
        show=lambda step, value: f"{value:.4g} at step {step:,.0f}",
    )
    return panel


def confusion_matrix(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """The share of each label's rows by prediction; nothing without classes."""
    if not names:
        return ""
    counts_CC = np.array(matrix, np.float64)
    with np.errstate(invalid="ignore"):
        shares_CC = counts_CC / counts_CC.sum(axis=1, keepdims=True)
    short = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]
    size = 200 + max(240.0, 14.0 * len(names))
    panel = Panel(x="predicted", y="label", width=size, height=size)
    panel.cells(shares_CC, rows=short, columns=short, limit=1.0, digits=2 if len(names) <= WRITTEN else None)
    caption = "Each line is a label: the darker a cell, the more of its rows were predicted as that column."
    return figure("Confusion matrix", caption, panel)


def reliability_diagram(bins: Sequence[Reliability]) -> str:
    """Accuracy against confidence, with the number of rows of each bin below."""
    if not bins:
        return ""
    shares = {share: percent(share) for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)}
    most = max(one.num_rows for one in bins)
    accuracy = Panel(y="accuracy", height=230, x_range=(0, 1), y_range=(0, 1), x_ticks={}, y_ticks=shares)
    rows = Panel(
        x="confidence: probability of the predicted class",
        y="rows",
        height=116,
        x_range=(0, 1),
        y_range=(0, most),
        x_ticks=shares,
        y_ticks={most: compact(most)},
    )
    told = [
        f"Confidence {percent(one.low)} to {percent(one.high)}: {one.num_rows:,} rows, "
        f"mean confidence {percent(one.confidence, decimals=1)}, "
        f"accuracy {percent(one.accuracy, decimals=1)}"
        for one in bins
    ]
    edges = [one.low for one in bins], [one.high for one in bins]
    accuracy.columns(*edges, [one.accuracy for one in bins], told)
    accuracy.diagonal()
    rows.columns(*edges, [one.num_rows for one in bins], told)
    caption = "Bars on the dashed line mean that the probabilities can be taken at their word."
    return figure("Reliability", caption, accuracy, rows)


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
    shares = [hits(group) / of(group) if of(group) else math.nan for group in groups]
    y_ticks = ticks(0.0, max([share for share in shares if share >= 0], default=0.0) or 1.0)
    decimals = 0 if y_ticks[1] >= 0.01 else 1
    edges = [group.low for group in groups] + [groups[-1].high]
    panel = Panel(
        x=f"training rows of the class; below, the number of {noun}",
        y="share",
        height=280,
        x_range=(0, len(groups)),
        y_range=(0, 1.07 * y_ticks[-1]),  # with room for the words above the bars
        x_ticks={place: compact(edge) for place, edge in enumerate(edges)}
        | {place + 0.5: f"\n{compact(of(group))}" for place, group in enumerate(groups)},
        y_ticks={share: percent(share, decimals=decimals) for share in y_ticks},
    )
    places = np.array([place for place, group in enumerate(groups) if of(group)])
    panel.columns(
        places + 0.1,
        places + 0.9,
        [shares[place] for place in places],
        [
            f"{group.num_classes:,} classes with {group.low:,} to {group.high:,} training rows: "
            f"{hits(group):,} of {of(group):,} {noun}, {percent(hits(group) / of(group), decimals=1)}"
            for group in groups
            if of(group)
        ],
        above=[percent(shares[place], decimals=decimals) for place in places],
    )
    return figure(heading, caption, panel)


def audit_chart(audit: Mapping[str, Any], heading: str = "") -> Drawing:
    """Bias against cost of samplers as ``widemax audit --json`` gives them, the recommended one named."""
    best = {row["sampler"]: row for row in reversed(audit["rows"])}
    axes = "time of a step, the exact loss = 1", "bias, exact gradient = 1"
    panel = Panel(heading, *axes, width=640, log_x=True, log_y=True)
    points = {}
    for name, row in best.items():
        # What sampling noise hides, and a bias of 0, have a place at the lower edge of a logarithmic axis.
        share, bias = row["step_s"] / audit["exact_step_s"], max(row["bias"], LEAST_BIAS)
        chosen = f"{name}, {row['correction']}" == audit["recommended"]
        points[name + " (recommended)" * chosen] = [share], [bias]
        if chosen:
            panel.note(share, 1.1 * bias, name, css="ink title halo")
    panel.lines(points, markers=True)
    name = "exact loss" + " (recommended)" * (audit["recommended"] == "exact")
    panel.lines({name: ([1.0], [LEAST_BIAS])}, markers=True)
    return drawn(panel)
