"""The tables of the report."""

from collections.abc import Sequence
from html import escape

from widemax.charts import percent

MOST_CHARACTERS = 300


def table(
    heading: str,
    note: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | int | float]],
    *,
    sortable: bool = False,
) -> str:
    """A section with a table, text to the left, counts and shares to the right; nothing without rows.

    A column whose every cell is empty text is left out.
    """
    if not rows:
        return ""
    kept = [i for i in range(len(columns)) if any(row[i] != "" for row in rows)]
    sides = ["" if isinstance(value, str) else ' class="n"' for value in rows[0]]
    head = "".join(f'<th scope="col"{sides[i]}>{escape(columns[i])}</th>' for i in kept)
    body = "".join("<tr>" + "".join(_cell(row[i]) for i in kept) + "</tr>" for row in rows)
    kind = ' class="sortable"' * sortable
    return (
        f'<section><h2>{escape(heading)}</h2><p class="note">{escape(note)}</p><div class="card">'
        f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        short = value if len(value) <= MOST_CHARACTERS else value[:MOST_CHARACTERS] + "…"
        return f"<td>{escape(short)}</td>"
    shown = f"{value:,}" if isinstance(value, int) else percent(value, decimals=1)
    return f'<td class="n" data-value="{value}">{shown}</td>'
