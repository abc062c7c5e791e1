"""report.html of a recipe: one file without scripts that loads nothing, its pictures inside."""

from collections.abc import Mapping
from html import escape
from typing import Any

from widemax.evaluation.report.page import html_page
from widemax.evaluation.report.tables import table
from widemax.recipes.base import Picture, Recipe, Results


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
    return html_page(recipe.title, body, footer=f"Made by widemax recipe run {facts['recipe']}.")


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
