"""What the verbs do with lines, their translations and runs that translate."""

from collections.abc import Iterator
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from widemax.cli.options import print_result, print_texts
from widemax.errors import UsageError, counted

if TYPE_CHECKING:
    from widemax.config import DataConfig

Beam = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        help="Hypotheses that are kept of each line or sentence, where the run translates or parses. "
        "Default: 5, and for a parser what its run says.",
    ),
]
TargetLines = Annotated[
    list[str] | None,
    typer.Option(help="Files of lines that translate those of DATA, line by line, for translators."),
]
ValidTargetLines = Annotated[list[str] | None, typer.Option(help="Likewise for the lines of --valid.")]
USUAL_BEAM = 5
MOST_PROBLEMS = 20


def check(data: "DataConfig", *, json: bool) -> None:
    """Print how many lines stand opposite a translation, and which do not; exit with 3 if there is one."""
    from widemax.data.formats.text import numbered_lines, undecodable

    told = {"pairs": 0, "empty": 0}
    empty: list[str] = []
    problems: list[str] = []
    for sources, targets in ((data.train, data.target_lines), (data.valid, data.valid_target_lines)):
        sides = (numbered_lines(files, encoding=data.encoding) for files in (sources, targets))
        for pair in zip_longest(*sides):
            if None in pair:
                ((place, _),) = filter(None, pair)
                problems.append(f"{place}: this line and those after it stand opposite no other.")
                break
            told["pairs"] += 1
            problems += [f"{place}: {wrong}." for place, line in pair if (wrong := undecodable(line))]
            if blank := [place for place, line in pair if not line.rstrip(b"\r\n")]:
                told["empty"] += 1
                empty.append(f"{' and '.join(blank)}: empty, and left out of training.")
    lines = [f"{counted(told['pairs'], 'pair')} of lines, {told['empty']:,} with an empty side"]
    for found in (problems, empty):
        lines += found[:MOST_PROBLEMS]
        if len(found) > MOST_PROBLEMS:
            lines.append(f"and {len(found) - MOST_PROBLEMS:,} more, which --json shows")
    print_result({**told, "empty_lines": empty, "problems": problems}, lines, json=json)
    if problems:
        raise typer.Exit(3)


def print_translations(
    run: Path,
    data: list[str],
    *,
    beam: int | None,
    form: str | None,
    encoding: str | None,
    trusted_key: Path | None,
    json: bool,
) -> None:
    """The translation of each line, a line each, or as JSON with its score."""
    from widemax.cli.predict import stdin_texts
    from widemax.translation import Translator, read_lines

    if form not in (None, "jsonl"):
        raise UsageError(f"--format {form} is of labels; translations are lines, or jsonl. Leave it out.")
    translator = Translator.load(run, trusted_key=trusted_key)
    parts = stdin_texts(encoding) if data == ["-"] else iter([read_lines(data, encoding=encoding)])
    answers = (found for part in parts for found in translator.translate(part, beam=beam or USUAL_BEAM))
    rows: Iterator[dict[str, Any]] = (
        {"row": row, "translation": found.text, "score": found.score} for row, found in enumerate(answers)
    )
    print_texts(rows, itemgetter("translation"), form, json=json)
