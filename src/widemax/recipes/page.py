"""report.html of a recipe: one file without scripts that loads nothing, its pictures inside."""

from collections.abc import Mapping
from html import escape
from typing import Any

from widemax.evaluation.report.style import STYLE
from widemax.evaluation.report.tables import table
from widemax.recipes.base import Picture, Recipe, Results

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
PICTURE_STYLE = """
.pictures { display: grid; grid-template-columns: minmax(0, 1fr); gap: 20px; margin-top: 40px; }
.pictures svg { width: auto; max-width: 100%; margin: 0 auto; }
.findings { max-width: 75ch; padding-left: 20px; }
.findings li { margin-bottom: 8px; }
header p { max-width: 80ch; }
"""


def page(recipe: Recipe, results: Results, facts: Mapping[str, Any]) -> str:
    """The page; the same results give the same bytes."""
    body = (
        f"<header><h1>{escape(recipe.title)}</h1><p>{escape(recipe.description)}</p>"
        f"<p>{escape(_circumstances(facts))}</p></header>"
    )
    body += table(
        "Known and obtained",
        "What is known, where it is written, and what this run gave.",
        ("quantity", "known", "obtained", "reached", "source"),
        [
            (line.what, line.known.text, line.obtained, "yes" if line.reached else "no", line.known.source)
            for line in results.lines
        ],
    )
    body += f'<div class="pictures">{"".join(map(_picture, results.pictures))}</div>'
    if results.findings:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in results.findings)
        body += f'<section><h2>Findings</h2><ul class="findings">{items}</ul></section>'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(recipe.title)}</title><style>{STYLE}{PICTURE_STYLE}</style></head>"
        f"<body><main>{body}<footer>Made by widemax recipe run {escape(recipe.name)}.</footer>"
        "</main></body></html>\n"
    )


def _circumstances(facts: Mapping[str, Any]) -> str:
    reached = sum(line["reached"] for line in facts["lines"])
    parts = [
        f"{reached} of {len(facts['lines'])} known results reached",
        f"seed {facts['seed']}",
        f"{facts['seconds']:.1f} s, threads: {facts['threads']}",
    ]
    return " · ".join((["quick run: less data or fewer steps"] if facts["quick"] else []) + parts)


def _picture(picture: Picture) -> str:
    return (
        f"<figure><h2>{escape(picture.title)}</h2><figcaption>{escape(picture.caption)}</figcaption>"
        f"{picture.drawing.inline(picture.alt)}</figure>"
    )
