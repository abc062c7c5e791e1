"""``widemax predict``: the top k labels of each row, in order, as JSON lines or TSV."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from widemax.cli.options import Data, Delimiter, DropBad, Encoding, Json, Run, print_json, to_json
from widemax.errors import DataError, UsageError, counted

if TYPE_CHECKING:
    from widemax.artifact import Model, Prediction
    from widemax.data import Reading

ROWS_AT_ONCE = 512
PIECE_BYTES = 1 << 16
ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})

Answers = Iterator[tuple[int, "list[Prediction] | str"]]
"""Rows by their numbers, each with its predictions or with what is wrong with it."""


def command(
    run: Run,
    data: Data,
    k: Annotated[int, typer.Option("-k", min=1, help="How many labels to give for each row.")] = 5,
    format: Annotated[  # noqa: A002 - the name users type
        Literal["jsonl", "tsv"],
        typer.Option(
            help=r"The format of the output. In TSV, a tab in a label is written \t and a newline \n."
        ),
    ] = "jsonl",
    drop_bad: DropBad = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Answer a bad row of a file by what is wrong with it, as on stdin, instead of stopping.",
        ),
    ] = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    json: Json = False,
) -> None:
    """Predict the labels of each row of DATA.

    With - rows are read from stdin: one JSON object per line, or plain text for a model of one text column.
    A bad row there is answered by {"row": …, "error": …}, and the exit code is 3 in the end.
    """
    from widemax.artifact import Model
    from widemax.data import Reading

    model = Model.load(run)
    reading = Reading.of(model.config.data, delimiter=delimiter, encoding=encoding)
    if data == ["-"]:
        answers = stdin_answers(model, k, encoding)
    else:
        answers = file_answers(model, data, k, reading, stop=not (drop_bad or keep_going))
    bad: list[int] = []
    rows = kept(answers, bad, drop_bad=drop_bad)
    if json:
        print_json({"rows": [line_of(row, answer) for row, answer in rows]})
    else:
        for row, answer in rows:
            if format == "jsonl":
                print_json(line_of(row, answer))
            elif isinstance(answer, str):
                typer.echo(f"{row}\t\t\t")
                typer.echo(answer, err=True)
            else:
                for p in answer:
                    typer.echo("\t".join([str(row), cell(p.label), str(p.probability), str(p.logit)]))
    if bad and drop_bad:
        typer.echo(f"dropped {counted(len(bad), 'bad row')}", err=True)
    elif bad:
        raise DataError(f"{counted(len(bad), 'row')} could not be read; the answers say what is wrong.")


def kept(answers: Answers, bad: list[int], *, drop_bad: bool) -> Answers:
    """The answers, without those to bad rows where these are dropped; ``bad`` collects their numbers."""
    for row, answer in answers:
        if isinstance(answer, str):
            bad.append(row)
        if not (drop_bad and isinstance(answer, str)):
            yield row, answer


def line_of(row: int, answer: "list[Prediction] | str") -> dict[str, Any]:
    """One output line of the contract."""
    if isinstance(answer, str):
        return {"row": row, "error": f"{answer}."}
    return {
        "row": row,
        "predictions": [{"label": p.label, "probability": p.probability, "logit": p.logit} for p in answer],
        "search": "exact",
        "normalizer": "exact",
    }


def cell(label: Any) -> str:
    r"""A label in one TSV cell: backslash, tab and line ends are escaped.

    Example:
        >>> print(cell("green\ttea"), cell(True), cell(7))
        green\ttea true 7
    """
    text = label if isinstance(label, str) else to_json(label).strip('"')
    return text.translate(ESCAPES)


def file_answers(model: "Model", data: list[str], k: int, reading: "Reading", *, stop: bool) -> Answers:
    """The rows of data files in order, numbered from 0; ``stop`` at the first bad one."""
    from dataclasses import replace

    from widemax.data import Dataset, resolve

    bad: deque[tuple[int, str]] = deque()
    dataset = Dataset(
        resolve(data),
        replace(model.schema, target=None),
        format=reading,
        drop_bad=not stop,
        on_bad=lambda row, reason: bad.append((row, reason)),
    )
    for batch in dataset.batches(ROWS_AT_ONCE):
        answers = model.decode(model.topk(batch.columns, k))
        for row, answer in zip(batch.rows_B.tolist(), answers, strict=True):
            while bad and bad[0][0] < row:
                yield bad.popleft()
            yield row, answer
    yield from bad


def stdin_answers(model: "Model", k: int, encoding: str | None) -> Answers:
    """Each row of stdin, answered as it arrives."""
    from widemax.data import good_rows

    first = 0
    for lines in stdin_lines(encoding):
        rows = dict(parse_rows(model, lines))
        readable = {number: row for number, row in rows.items() if not isinstance(row, str)}
        columns, reasons = good_rows(model.schema, list(readable.values()))
        wrong = {number: reasons[at] for at, number in enumerate(readable) if at in reasons}
        answers = iter(model.decode(model.topk(columns, k)) if len(reasons) < len(readable) else ())
        for row, (number, parsed) in enumerate(rows.items(), first):
            reason = parsed if isinstance(parsed, str) else wrong.get(number)
            yield row, f"stdin:{number}: {reason}" if reason else next(answers)
        first += len(rows)


def stdin_lines(encoding: str | None) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines, as many as have arrived: who writes one and waits for the answer gets it."""
    from widemax.data.formats.text import as_utf8, known_encoding

    if sys.stdin is None:
        raise UsageError("stdin is closed; give rows on it, or a file in place of -.")
    stdin = as_utf8(sys.stdin.buffer, known_encoding(encoding))
    number, rest = 1, b""
    while piece := stdin.read1(PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        for start in range(0, len(lines), ROWS_AT_ONCE):
            part = lines[start : start + ROWS_AT_ONCE]
            yield list(enumerate(part, number))
            number += len(part)
    if rest:
        yield [(number, rest)]


def parse_rows(
    model: "Model", lines: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line numbers with rows, or what is wrong: JSON objects, or bare text where the one input is text."""
    from widemax.data.formats.jsonl import parse_object
    from widemax.data.formats.text import undecodable

    columns = model.schema.inputs
    takes_text = len(columns) == 1 and columns[0].kind == "text"
    for number, line in lines:
        text = line.rstrip(b"\r")
        if text.lstrip().startswith(b"{"):
            try:
                yield number, parse_object(text)
            except ValueError as error:
                yield number, str(error)
        elif takes_text:
            yield number, undecodable(text) or {columns[0].name: text.decode()}
        elif text.strip():
            names = ", ".join(column.name for column in columns)
            yield number, f"give one JSON object a line with the columns {names}"
