"""``widemax predict``: the top k labels of each row, in order, as JSON lines or TSV."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from widemax.cli.options import Data, DropBad, Json, Run, print_json, to_json
from widemax.errors import BadRowError, UsageError

if TYPE_CHECKING:
    from io import BufferedReader

    from widemax.artifact import Model, Prediction

ROWS_AT_ONCE = 512
PIECE_BYTES = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})

Predicted = Iterator[tuple[int, list["Prediction"]]]


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
    json: Json = False,
) -> None:
    """Predict the labels of each row of DATA.

    With - rows are read from stdin: one JSON object per line, or plain text for a model of one text column.
    """
    if data == ["-"] and drop_bad:
        raise UsageError(
            "--drop-bad is for files; leave it out, or save stdin as rows.jsonl and predict that."
        )
    from widemax.artifact import Model

    model = Model.load(run)
    predicted = stdin_predictions(model, k) if data == ["-"] else file_predictions(model, data, k, drop_bad)
    if json:
        print_json({"rows": [line_of(row, predictions) for row, predictions in predicted]})
        return
    for row, predictions in predicted:
        if format == "jsonl":
            print_json(line_of(row, predictions))
        for p in predictions if format == "tsv" else ():
            typer.echo("\t".join([str(row), cell(p.label), str(p.probability), str(p.logit)]))


def line_of(row: int, predictions: list["Prediction"]) -> dict[str, Any]:
    """One output line of the contract."""
    return {
        "row": row,
        "predictions": [
            {"label": p.label, "probability": p.probability, "logit": p.logit} for p in predictions
        ],
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


def file_predictions(model: "Model", data: list[str], k: int, drop_bad: bool) -> Predicted:
    """Each good row of data files with its predictions; rows are numbered from 0, bad ones too."""
    from dataclasses import replace

    from widemax.data import Dataset, resolve

    schema = replace(model.schema, target=None)
    dataset = Dataset(resolve(data), schema, format=model.config.data.format, drop_bad=drop_bad)
    for batch in dataset.batches(ROWS_AT_ONCE):
        yield from zip(batch.rows_B.tolist(), model.decode(model.topk(batch.columns, k)), strict=True)
    if dataset.num_bad_rows:
        typer.echo(f"dropped {dataset.num_bad_rows} bad rows", err=True)


def stdin_predictions(model: "Model", k: int) -> Predicted:
    """Each row of stdin with its predictions, answered as it arrives."""
    from widemax.data import columns_of

    first = 0
    for lines in stdin_lines():
        rows = dict(parse_rows(model, lines))
        if not rows:
            continue
        places = [f"stdin:{number}" for number in rows]
        columns = columns_of(model.schema, list(rows.values()), places=places)
        yield from enumerate(model.decode(model.topk(columns, k)), start=first)
        first += len(rows)


def stdin_lines() -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines, as many as have arrived: who writes one and waits for the answer gets it."""
    stdin = cast("BufferedReader", sys.stdin.buffer)
    number, rest = 1, b""
    while piece := stdin.read1(PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        for start in range(0, len(lines), ROWS_AT_ONCE):
            part = lines[start : start + ROWS_AT_ONCE]
            yield list(enumerate(part, number))
            number += len(part)
    if rest:
        yield [(number, rest)]


def parse_rows(model: "Model", lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers with rows: JSON objects, or bare text where the model's one input is text."""
    from widemax.data.formats.jsonl import parse_object
    from widemax.data.formats.text import undecodable

    columns = model.schema.inputs
    takes_text = len(columns) == 1 and columns[0].kind == "text"
    for number, line in lines:
        text = line.removeprefix(BYTE_ORDER_MARK if number == 1 else b"").rstrip(b"\r")
        reason = None
        if text.lstrip().startswith(b"{"):
            try:
                yield number, parse_object(text)
            except ValueError as error:
                reason = str(error)
        elif takes_text:
            reason = undecodable(text)
            if not reason:
                yield number, {columns[0].name: text.decode()}
        elif text.strip():
            names = ", ".join(column.name for column in columns)
            reason = f"give one JSON object a line with the columns {names}"
        if reason:
            raise BadRowError(f"stdin:{number}: {reason}.")
