"""The look of charts, light and dark: ten colors that can be told apart with any color vision.

Source: Petroff, "Accessible Color Sequences for Data Visualization", 2021, the sequence of ten, in another
    order; in the dark its two darkest colors are lighter.
"""

COLORS = (
    *("#3f90da", "#e76300", "#832db6", "#bd1f01", "#ffa90e"),
    *("#717581", "#a96b59", "#92dadd", "#b9ac70", "#94a4a2"),
)
DARK_COLORS = tuple({"#832db6": "#a74cfd", "#bd1f01": "#d50a21"}.get(color, color) for color in COLORS)
DASHES = ("", "7 4", "9 3 2 3", "2 3")
MARKERS = (
    "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0",
    "m-3-3h6v6h-6z",
    "m0-4l4 7h-8z",
    "m0-4.5l4.5 4.5l-4.5 4.5l-4.5-4.5z",
    "m0 4l4-7h-8z",
)
"""Outlines around a point, to be told apart without color."""

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'


def _rules(*, ink: str, soft: str, grid: str, card: str, colors: tuple[str, ...]) -> str:
    return (
        f"svg text {{ fill: {soft}; }} svg .ink {{ fill: {ink}; }}\n"
        f"svg .grid {{ stroke: {grid}; }} svg .axis {{ stroke: {soft}; }}\n"
        f"svg .halo {{ stroke: {card}; }} svg .bar {{ stroke: {soft}; }}\n"
        + "".join(f"svg .c{place} {{ color: {color}; }}\n" for place, color in enumerate(colors))
    )


STYLE = f"""
svg text {{ font: 12px {FONT}; font-variant-numeric: tabular-nums; }}
svg .title {{ font-size: 13px; font-weight: 650; }}
svg .line {{ fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }}
svg .dots, svg .bar {{ fill: currentColor; }} svg .bar:hover {{ opacity: 0.75; }}
svg .dashed {{ stroke-dasharray: 4 4; }}
svg .halo {{ paint-order: stroke; stroke-width: 3px; }}
svg .light {{ fill: #ffffff; }} svg .dark {{ fill: #1d2129; }}
svg .hit {{ fill: transparent; }} svg .hit:hover {{ fill: currentColor; }}
svg image {{ image-rendering: pixelated; }}
{_rules(ink="#1d2129", soft="#5c6470", grid="#e4e2dd", card="#ffffff", colors=COLORS)}
@media (prefers-color-scheme: dark) {{
{_rules(ink="#e8e6e1", soft="#9aa2ae", grid="#2e333c", card="#1b1e24", colors=DARK_COLORS)}
}}
"""
"""Of drawings within a page."""

FILE_STYLE = f"""{STYLE}
svg {{ color-scheme: light dark; background: #ffffff; }}
@media (prefers-color-scheme: dark) {{ svg {{ background: #1b1e24; }} }}
"""
"""Of a drawing that is a file of its own."""
