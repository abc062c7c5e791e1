"""What ``predict`` and ``evaluate`` do with a run that translates."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from widemax.cli.options import print_json
from widemax.errors import DataError, UsageError, visible

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
    typer.Option(help="Files of the references of DATA, line by line, where the run translates."),
]
USUAL_BEAM = 5


def translates(run: Path, only: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether a run translates.

    Args:
        run: its folder.
        only: options that have a meaning if it does, each true where it was given.
        others: options that have one if it does not.

    Raises:
        UsageError: an option was given that says nothing to such a run.
    """
    from widemax.storage import current, read_manifest
    from widemax.task import System

    answer = bool(read_manifest(current(run)).get("task") == System.TRANSLATE)
    for name, given in (others if answer else only).items():
        if given:
            raise UsageError(
                f"{name} is for runs that {'classify' if answer else 'translate'}, which {run} does not; "
                "leave it out."
            )
    return answer


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
    from widemax.translation import Translator, read_lines

    if form not in (None, "jsonl"):
        raise UsageError(f"--format {form} is of labels; translations are lines, or jsonl. Leave it out.")
    translator = Translator.load(run, trusted_key=trusted_key)
    parts = _stdin(encoding) if data == ["-"] else iter([read_lines(data, encoding=encoding)])
    answers = (found for part in parts for found in translator.translate(part, beam=beam or USUAL_BEAM))
    lines: Iterator[dict[str, Any]] = (
        {"row": row, "translation": found.text, "score": found.score} for row, found in enumerate(answers)
    )
    if json:
        print_json({"rows": list(lines)})
        return
    on_terminal = sys.stdout.isatty()
    for line in lines:
        if form == "jsonl":
            print_json(line)
        else:
            text = line["translation"]
            typer.echo(visible(text) if on_terminal else text)


def _stdin(encoding: str | None) -> Iterator[list[str]]:
    """Lines as they arrive."""
    from widemax.cli.predict import stdin_lines

    for part in stdin_lines(encoding):
        try:
            yield [line.decode().rstrip("\r") for _, line in part]
        except UnicodeDecodeError:
            first, last = part[0][0], part[-1][0]
            raise DataError(
                f"stdin: one of the lines {first} to {last} is no text; name the encoding (--encoding)."
            ) from None
