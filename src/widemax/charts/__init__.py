"""Charts as SVG without scripts, light or dark, for pages and files."""

from widemax.charts.arcs import arcs
from widemax.charts.colors import diverging
from widemax.charts.drawing import Drawing
from widemax.charts.figure import figure, images
from widemax.charts.panel import Panel
from widemax.charts.scale import compact, percent, ticks
from widemax.charts.style import STYLE

__all__ = [
    "STYLE",
    "Drawing",
    "Panel",
    "arcs",
    "compact",
    "diverging",
    "figure",
    "images",
    "percent",
    "ticks",
]
